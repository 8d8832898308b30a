//! What is stored to check a client's password with.

use std::sync::{Arc, OnceLock};

use postgres_protocol::authentication::sasl::{ChannelBinding, ScramSha256};
use subtle::ConstantTimeEq as _;

use super::{Md5Secret, ScramServer, ScramVerifier, ServerSecret};
use crate::config::Secret;

/// The secret of one user. No `Debug` of any form shows it.
#[derive(Debug, Clone)]
pub enum StoredSecret {
    Plain(PlainSecret),
    Md5(Md5Secret),
    Scram(Arc<ScramVerifier>),
}

impl StoredSecret {
    /// Reads a secret in any of the three forms. `None`: it begins like a SCRAM verifier and is
    /// none, which must not be taken for somebody's password.
    pub fn parse(text: &str) -> Option<Self> {
        if text.starts_with(ScramVerifier::PREFIX) {
            return ScramVerifier::parse(text).map(|verifier| Self::Scram(Arc::new(verifier)));
        }
        Some(match Md5Secret::parse(text) {
            Some(hash) => Self::Md5(hash),
            None => Self::Plain(PlainSecret::new(Secret::new(text))),
        })
    }

    /// True if this is the user's password in clear.
    ///
    /// Costs a PBKDF2 where a SCRAM verifier is stored.
    pub fn accepts_password(&self, user: &str, password: &[u8]) -> bool {
        match self {
            Self::Plain(plain) => plain.secret.expose().as_bytes().ct_eq(password).into(),
            Self::Md5(hash) => hash.same_as(&Md5Secret::derive(user, password)),
            Self::Scram(verifier) => proves(Arc::clone(verifier), password),
        }
    }

    /// What it is good for when logging in to a server as the same user.
    pub fn for_server(&self) -> ServerSecret {
        match self {
            Self::Plain(plain) if plain.is_empty() => ServerSecret::None,
            Self::Plain(plain) => ServerSecret::Plain(plain.secret.clone()),
            Self::Md5(hash) => ServerSecret::Md5(*hash),
            Self::Scram(_) => ServerSecret::VerifierOnly,
        }
    }
}

/// A password in clear, with what is worked out from it once.
#[derive(Debug, Clone)]
pub struct PlainSecret {
    secret: Secret,
    /// Shared by the clones: PBKDF2 is paid for once, not once a login.
    verifier: Arc<OnceLock<Arc<ScramVerifier>>>,
}

impl PlainSecret {
    pub fn new(secret: Secret) -> Self {
        Self { secret, verifier: Arc::new(OnceLock::new()) }
    }

    pub fn secret(&self) -> &Secret {
        &self.secret
    }

    /// `PostgreSQL` lets nobody in with an empty password; neither do we.
    pub fn is_empty(&self) -> bool {
        self.secret.expose().is_empty()
    }

    /// The verifier to run SCRAM with. The first call derives it.
    pub fn verifier(&self) -> Arc<ScramVerifier> {
        let derived = self.verifier.get_or_init(|| Arc::new(ScramVerifier::derive(&self.secret)));
        Arc::clone(derived)
    }

    /// The same secret with whatever was derived before, or `self` if the secret is another one.
    pub(super) fn or_earlier(&self, earlier: &Self) -> Self {
        if self.secret == earlier.secret { earlier.clone() } else { self.clone() }
    }
}

/// Checks a password against a verifier by playing both sides of an exchange: the library's client
/// knows how passwords are normalised and salted.
fn proves(verifier: Arc<ScramVerifier>, password: &[u8]) -> bool {
    let mut client = ScramSha256::new(password, ChannelBinding::unsupported());
    // Nobody sees these messages, so the nonce need not be random.
    let Ok((first, server)) = ScramServer::start(verifier, [0; 18]).client_first(client.message())
    else {
        return false;
    };
    client.update(first.as_bytes()).is_ok() && server.client_final(client.message()).is_ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_form_is_recognised_and_accepts_its_password_only() {
        let scram = postgres_protocol::password::scram_sha_256(b"s3cret");
        let md5 = super::super::md5_password("bob", "s3cret");
        for text in ["s3cret", md5.as_str(), scram.as_str()] {
            let secret = StoredSecret::parse(text).unwrap();
            assert!(secret.accepts_password("bob", b"s3cret"), "{text}");
            assert!(!secret.accepts_password("bob", b"s3cret "), "{text}");
            assert!(!secret.accepts_password("bob", b"\xff\xfe"), "{text}");
            assert!(!format!("{secret:?}").contains(text), "{text}");
        }
    }

    #[test]
    fn broken_verifier_is_not_a_password() {
        assert!(StoredSecret::parse("SCRAM-SHA-256$4096:broken").is_none());
    }

    #[test]
    fn verifier_of_a_plain_secret_is_derived_once() {
        let secret = PlainSecret::new(Secret::new("pencil"));

        let first = secret.clone().verifier();

        assert!(Arc::ptr_eq(&first, &secret.verifier()));
        let reloaded = PlainSecret::new(Secret::new("pencil")).or_earlier(&secret);
        assert!(Arc::ptr_eq(&first, &reloaded.verifier()));
        let changed = PlainSecret::new(Secret::new("pen")).or_earlier(&secret);
        assert!(!Arc::ptr_eq(&first, &changed.verifier()));
    }
}
