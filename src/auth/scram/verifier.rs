//! What is stored of a password for SCRAM: enough to check a client, not enough to be one.

use std::fmt;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

use super::{Key, hmac_sha256};
use crate::config::Secret;

/// `SCRAM-SHA-256$<iterations>:<salt>$<StoredKey>:<ServerKey>`, taken apart.
#[derive(Clone, PartialEq, Eq)]
pub struct ScramVerifier {
    pub(super) iterations: u32,
    /// As base64: it is only ever shown to the client.
    pub(super) salt: String,
    pub(super) stored_key: Key,
    pub(super) server_key: Key,
}

impl ScramVerifier {
    /// Reads `PostgreSQL`'s text form. `None`: it is not one.
    pub fn parse(text: &str) -> Option<Self> {
        let (head, keys) = text.strip_prefix(Self::PREFIX)?.split_once('$')?;
        let (iterations, salt) = head.split_once(':')?;
        let (stored_key, server_key) = keys.split_once(':')?;
        if STANDARD.decode(salt).ok()?.is_empty() {
            return None;
        }
        Some(Self {
            iterations: iterations.parse().ok().filter(|count| *count > 0)?,
            salt: salt.to_owned(),
            stored_key: key(stored_key)?,
            server_key: key(server_key)?,
        })
    }

    /// Makes a verifier with a random salt and `PostgreSQL`'s 4096 iterations.
    ///
    /// Costs about a millisecond, which is the point of PBKDF2: do it once per password.
    pub fn derive(password: &Secret) -> Self {
        let text = postgres_protocol::password::scram_sha_256(password.expose().as_bytes());
        #[expect(clippy::expect_used, reason = "the library writes the form that is read here")]
        Self::parse(&text).expect("a verifier that was just made")
    }

    /// The verifier shown to a user who has none: always the same for one name and one `key`, so
    /// that asking twice does not tell it from a real one.
    pub(super) fn mock(user: &str, key: &Key) -> Self {
        let part = |purpose: &[u8]| hmac_sha256(key, &[purpose, b":", user.as_bytes()]);
        let salt = part(b"salt");
        let salt = salt.first_chunk::<SALT_LEN>().map_or(salt.as_slice(), <[u8; _]>::as_slice);
        Self {
            iterations: ITERATIONS,
            salt: STANDARD.encode(salt),
            stored_key: part(b"stored key"),
            server_key: part(b"server key"),
        }
    }

    /// What tells a verifier from a password.
    pub const PREFIX: &str = "SCRAM-SHA-256$";
}

impl fmt::Debug for ScramVerifier {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("ScramVerifier(***)")
    }
}

fn key(base64: &str) -> Option<Key> {
    STANDARD.decode(base64).ok()?.try_into().ok()
}

/// `SCRAM_SHA_256_DEFAULT_ITERATIONS` and `SCRAM_DEFAULT_SALT_LEN` of `PostgreSQL`: a mock has to
/// look like what it makes by default.
const ITERATIONS: u32 = 4096;
const SALT_LEN: usize = 16;

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn derived_verifiers_differ_and_hide_themselves() {
        let password = Secret::new("pencil");

        let one = ScramVerifier::derive(&password);
        let two = ScramVerifier::derive(&password);

        assert_ne!(one, two);
        assert_eq!((one.iterations, one.salt.len()), (4096, 24));
        assert!(!format!("{one:?}").contains(&one.salt));
    }

    #[test]
    fn mocks_are_stable_per_user_and_look_real() {
        let key = [1; 32];

        let mock = ScramVerifier::mock("alice", &key);

        assert_eq!(mock, ScramVerifier::mock("alice", &key));
        assert_ne!(mock.salt, ScramVerifier::mock("bob", &key).salt);
        assert_ne!(mock.salt, ScramVerifier::mock("alice", &[2; 32]).salt);
        assert_eq!((mock.iterations, mock.salt.len()), (4096, 24));
    }

    #[test]
    fn only_whole_verifiers_are_read() {
        let keys = format!("{}:{}", STANDARD.encode([1; 32]), STANDARD.encode([2; 32]));
        assert!(ScramVerifier::parse(&format!("SCRAM-SHA-256$4096:c2FsdA==${keys}")).is_some());
        for bad in [
            format!("SCRAM-SHA-256$0:c2FsdA==${keys}"),
            format!("SCRAM-SHA-256$-1:c2FsdA==${keys}"),
            format!("SCRAM-SHA-256$99999999999:c2FsdA==${keys}"),
            format!("SCRAM-SHA-256$4096:${keys}"),
            format!("SCRAM-SHA-256$4096:c2FsdA${keys}"),
            format!("SCRAM-SHA-1$4096:c2FsdA==${keys}"),
            format!("SCRAM-SHA-256$4096:c2FsdA==${keys}="),
            "SCRAM-SHA-256$4096:c2FsdA==$AAAA:AAAA".to_owned(),
            "SCRAM-SHA-256$".to_owned(),
        ] {
            assert_eq!(ScramVerifier::parse(&bad), None, "{bad}");
        }
    }

    proptest! {
        #[test]
        fn arbitrary_text_never_panics(text in "(SCRAM-SHA-256\\$)?[0-9:$A-Za-z+/=]{0,60}") {
            let _read = ScramVerifier::parse(&text);
        }
    }
}
