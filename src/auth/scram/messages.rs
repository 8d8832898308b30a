//! The two messages of a SCRAM client, parsed.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use thiserror::Error;

use super::Key;

/// Why a SCRAM exchange came to nothing.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum ScramError {
    #[error("a SCRAM message of {len} bytes, more than {MESSAGE_LEN_MAX}")]
    TooLong { len: usize },
    #[error("a SCRAM message that is not UTF-8 without NUL")]
    NotText,
    #[error("a SCRAM message without {missing} where it belongs")]
    Malformed { missing: &'static str },
    #[error("the client wants channel binding, which was not offered")]
    BindingNotOffered,
    #[error("the client wants to act as another user (authzid)")]
    AuthorizationIdentity,
    #[error("the client needs a SCRAM extension (m=)")]
    MandatoryExtension,
    #[error("the channel binding differs from the one that the exchange began with")]
    BindingMismatch,
    #[error("the nonce is not the one of this exchange")]
    NonceMismatch,
    #[error("the proof does not fit the password")]
    WrongProof,
}

/// What the client said about channel binding (RFC 5802, `gs2-cbind-flag`).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Binding {
    /// `n`: it knows of none.
    Unsupported,
    /// `y`: it could, but believes that we cannot. True as long as -PLUS is not offered.
    NotOffered,
}

impl Binding {
    /// The base64 of the gs2 header, which the final message has to repeat.
    pub(super) const fn echo(self) -> &'static str {
        match self {
            Self::Unsupported => "biws",
            Self::NotOffered => "eSws",
        }
    }
}

/// `client-first-message`.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct ClientFirst<'a> {
    pub(super) binding: Binding,
    /// Everything after the gs2 header: part of what both sides sign.
    pub(super) bare: &'a str,
    pub(super) nonce: &'a str,
}

impl<'a> ClientFirst<'a> {
    pub(super) fn parse(message: &'a [u8]) -> Result<Self, ScramError> {
        let message = text(message)?;
        let (binding, rest) = if let Some(rest) = message.strip_prefix("n,") {
            (Binding::Unsupported, rest)
        } else if let Some(rest) = message.strip_prefix("y,") {
            (Binding::NotOffered, rest)
        } else if message.starts_with("p=") {
            return Err(ScramError::BindingNotOffered);
        } else {
            return Err(ScramError::Malformed { missing: "a gs2 header" });
        };
        let bare = match rest.strip_prefix(',') {
            Some(bare) => bare,
            None if rest.starts_with("a=") => return Err(ScramError::AuthorizationIdentity),
            None => return Err(ScramError::Malformed { missing: "a gs2 header" }),
        };
        if bare.starts_with("m=") {
            return Err(ScramError::MandatoryExtension);
        }
        let mut fields = bare.split(',');
        // The name is empty or a copy: PostgreSQL takes the one of the startup message.
        attribute(fields.next(), "n=")?;
        let nonce = attribute(fields.next(), "r=")?;
        if nonce.is_empty() || !nonce.bytes().all(|byte| byte.is_ascii_graphic()) {
            return Err(ScramError::Malformed { missing: "a printable nonce" });
        }
        check_extensions(fields)?;
        Ok(Self { binding, bare, nonce })
    }
}

/// `client-final-message`.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct ClientFinal<'a> {
    /// Base64 of the gs2 header and of the channel's data.
    pub(super) binding: &'a str,
    pub(super) nonce: &'a str,
    /// Everything before the proof: part of what both sides sign.
    pub(super) without_proof: &'a str,
    pub(super) proof: Key,
}

impl<'a> ClientFinal<'a> {
    pub(super) fn parse(message: &'a [u8]) -> Result<Self, ScramError> {
        const NO_PROOF: ScramError = ScramError::Malformed { missing: "a proof" };
        let message = text(message)?;
        let (without_proof, proof) = message.rsplit_once(",p=").ok_or(NO_PROOF)?;
        let proof = STANDARD.decode(proof).ok().and_then(|proof| proof.try_into().ok());
        let mut fields = without_proof.split(',');
        let binding = attribute(fields.next(), "c=")?;
        let nonce = attribute(fields.next(), "r=")?;
        check_extensions(fields)?;
        Ok(Self { binding, nonce, without_proof, proof: proof.ok_or(NO_PROOF)? })
    }
}

fn text(message: &[u8]) -> Result<&str, ScramError> {
    if message.len() > MESSAGE_LEN_MAX {
        return Err(ScramError::TooLong { len: message.len() });
    }
    let text = std::str::from_utf8(message).map_err(|_not_utf8| ScramError::NotText)?;
    if text.contains('\0') { Err(ScramError::NotText) } else { Ok(text) }
}

fn attribute<'a>(field: Option<&'a str>, name: &'static str) -> Result<&'a str, ScramError> {
    field.and_then(|field| field.strip_prefix(name)).ok_or(ScramError::Malformed { missing: name })
}

/// Optional extensions may be ignored (RFC 5802, section 5.1), but they have to look like some.
fn check_extensions<'a>(mut fields: impl Iterator<Item = &'a str>) -> Result<(), ScramError> {
    let is_attribute =
        |field: &str| matches!(field.as_bytes(), [name, b'=', ..] if name.is_ascii_alphabetic());
    if fields.all(is_attribute) {
        Ok(())
    } else {
        Err(ScramError::Malformed { missing: "an attribute" })
    }
}

/// `PG_MAX_SASL_MESSAGE_LENGTH` of `PostgreSQL` (auth-sasl.c).
const MESSAGE_LEN_MAX: usize = 1024;

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn gs2_headers_are_told_apart() {
        // P13
        let first = |text: &'static str| ClientFirst::parse(text.as_bytes());
        assert_eq!(first("n,,n=,r=abc").unwrap().binding, Binding::Unsupported);
        assert_eq!(first("y,,n=bob,r=abc,x=1").unwrap().binding, Binding::NotOffered);
        assert_eq!(first("y,,n=bob,r=abc,x=1").unwrap().bare, "n=bob,r=abc,x=1");
        assert_eq!(first("p=tls-unique,,n=,r=abc"), Err(ScramError::BindingNotOffered));
        assert_eq!(first("n,a=root,n=,r=abc"), Err(ScramError::AuthorizationIdentity));
        assert_eq!(first("n,,m=x,n=,r=abc"), Err(ScramError::MandatoryExtension));
    }

    #[test]
    fn malformed_messages_are_refused() {
        for bad in ["", "n", "n,", "n,,", "z,,n=,r=a", "n,,r=a", "n,,n=", "n,,n=,r="] {
            assert!(ClientFirst::parse(bad.as_bytes()).is_err(), "{bad}");
        }
        for bad in ["n,,n=,r=a b", "n,,n=,r=ü", "n,,n=,r=a,", "n,,n=,r=a,1=x", "n,,n=\0,r=a"] {
            assert!(ClientFirst::parse(bad.as_bytes()).is_err(), "{bad}");
        }
        let proof = STANDARD.encode([7; 32]);
        let whole = format!("c=biws,r=abc,p={proof}");
        assert_eq!(ClientFinal::parse(whole.as_bytes()).unwrap().without_proof, "c=biws,r=abc");
        for bad in [
            format!("c=biws,r=abc,p={proof},x=1"),
            format!("r=abc,c=biws,p={proof}"),
            format!("c=biws,p={proof}"),
            "c=biws,r=abc,p=AAAA".to_owned(),
            "c=biws,r=abc".to_owned(),
        ] {
            assert!(ClientFinal::parse(bad.as_bytes()).is_err(), "{bad}");
        }
    }

    #[test]
    fn length_is_bounded() {
        // P1, P9
        let long = format!("n,,n=,r={}", "a".repeat(MESSAGE_LEN_MAX));
        assert!(matches!(ClientFirst::parse(long.as_bytes()), Err(ScramError::TooLong { .. })));
    }

    proptest! {
        #[test]
        fn arbitrary_bytes_never_panic(message: Vec<u8>, text in "[ny],,[nrpcma=,+/ ]{0,40}") {
            for input in [message.as_slice(), text.as_bytes()] {
                let _first = ClientFirst::parse(input);
                let _final = ClientFinal::parse(input);
            }
        }
    }
}
