//! The md5 challenge: what is stored, what is asked and what is answered.

use std::fmt;

use md5::{Digest as _, Md5};
use subtle::ConstantTimeEq as _;

/// A password as `PostgreSQL` stores it under md5: `md5(password + user)`. Enough to log in to a
/// server that asks for md5, so it hides itself from `Debug`.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Md5Secret([u8; HEX_LEN]);

impl Md5Secret {
    /// Reads `md5` and 32 lower-case hexadecimal digits, the form that `PostgreSQL` recognises
    /// (`get_password_type` in crypt.c). `None`: it is something else.
    pub fn parse(text: &str) -> Option<Self> {
        let digits: [u8; HEX_LEN] = text.strip_prefix(PREFIX)?.as_bytes().try_into().ok()?;
        let is_hex = digits.iter().all(|digit| matches!(digit, b'0'..=b'9' | b'a'..=b'f'));
        is_hex.then_some(Self(digits))
    }

    /// What would be stored for this password.
    pub fn derive(user: &str, password: &[u8]) -> Self {
        Self(hex_digest(&[password, user.as_bytes()]))
    }

    /// The answer to a challenge with this salt.
    pub fn answer(&self, salt: [u8; 4]) -> String {
        prefixed(hex_digest(&[&self.0, &salt]))
    }

    /// True if `answer`, as a client sent it, is the answer to a challenge with this salt.
    pub fn accepts(&self, salt: [u8; 4], answer: &[u8]) -> bool {
        self.answer(salt).as_bytes().ct_eq(answer).into()
    }

    /// True if both were derived from the same password. Takes the same time for all others.
    pub fn same_as(&self, other: &Self) -> bool {
        self.0.ct_eq(&other.0).into()
    }
}

impl fmt::Debug for Md5Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Md5Secret(***)")
    }
}

/// The md5 secret of a password, with its prefix, as a users file holds it.
pub fn md5_password(user: &str, password: &str) -> String {
    prefixed(Md5Secret::derive(user, password.as_bytes()).0)
}

fn prefixed(digits: [u8; HEX_LEN]) -> String {
    PREFIX.chars().chain(digits.into_iter().map(char::from)).collect()
}

fn hex_digest(parts: &[&[u8]]) -> [u8; HEX_LEN] {
    let mut md5 = Md5::new();
    for part in parts {
        md5.update(part);
    }
    let mut digits = [b'0'; HEX_LEN];
    for (pair, byte) in digits.chunks_exact_mut(2).zip(md5.finalize()) {
        pair.copy_from_slice(&[hex_digit(byte >> 4), hex_digit(byte & 0x0f)]);
    }
    digits
}

const fn hex_digit(nibble: u8) -> u8 {
    match nibble {
        0..=9 => b'0' + nibble,
        _ => b'a' + nibble - 10,
    }
}

const PREFIX: &str = "md5";
const HEX_LEN: usize = 32;

#[cfg(test)]
mod tests {
    use postgres_protocol::authentication::md5_hash;

    use super::*;

    #[test]
    fn answer_is_the_one_of_the_reference_client() {
        let salt = [0x2a, 0x3d, 0x8f, 0xe0];
        let secret = Md5Secret::derive("md5_user", b"password");

        assert_eq!(secret.answer(salt), "md562af4dd09bbb41884907a838a3233294");
        assert_eq!(secret.answer(salt), md5_hash(b"md5_user", b"password", salt));
        assert!(secret.accepts(salt, md5_hash(b"md5_user", b"password", salt).as_bytes()));
        assert!(!secret.accepts(salt, md5_hash(b"md5_user", b"Password", salt).as_bytes()));
        assert!(!secret.accepts([0; 4], md5_hash(b"md5_user", b"password", salt).as_bytes()));
        assert!(!secret.accepts(salt, b""));
    }

    #[test]
    fn stored_form_is_the_one_of_the_reference_client() {
        let stored = md5_password("bob", "s3cret");

        assert_eq!(stored, postgres_protocol::password::md5(b"s3cret", "bob"));
        assert_eq!(Md5Secret::parse(&stored), Some(Md5Secret::derive("bob", b"s3cret")));
        assert!(!format!("{:?}", Md5Secret::parse(&stored)).contains(&stored[3..]));
    }

    #[test]
    fn only_postgres_own_form_is_taken_for_a_hash() {
        for text in [
            "md5",
            "md5zz",
            "MD5aef4dd09bbb41884907a838a32332949",
            "md5AEF4dd09bbb41884907a838a32332949",
            "md5aef4dd09bbb41884907a838a323329490",
            "md5aef4dd09bbb41884907a838a3233294é",
        ] {
            assert_eq!(Md5Secret::parse(text), None, "{text}");
        }
    }
}
