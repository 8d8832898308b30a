//! The server's side of a SCRAM-SHA-256 exchange, stepped by value.

use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use subtle::ConstantTimeEq as _;

use super::messages::{Binding, ClientFinal, ClientFirst, ScramError};
use super::{Key, ScramVerifier, hmac_sha256, sha256};

/// An exchange that waits for the client's first message.
#[derive(Debug)]
pub struct ScramServer {
    verifier: Arc<ScramVerifier>,
    server_nonce: String,
}

impl ScramServer {
    /// An exchange that ends well if the client knows the password behind `verifier`. `nonce` has
    /// to be random and used once.
    pub fn start(verifier: Arc<ScramVerifier>, nonce: [u8; 18]) -> Self {
        Self { verifier, server_nonce: STANDARD.encode(nonce) }
    }

    /// An exchange that looks like any other and cannot end well: for users without a password.
    ///
    /// `key` is secret and constant for the life of the process.
    pub fn mock(user: &str, key: &[u8; 32], nonce: [u8; 18]) -> Self {
        Self::start(Arc::new(ScramVerifier::mock(user, key)), nonce)
    }

    /// Takes `client-first-message`; gives `server-first-message`.
    pub fn client_first(self, message: &[u8]) -> Result<(String, AwaitFinal), ScramError> {
        let Self { verifier, server_nonce } = self;
        let first = ClientFirst::parse(message)?;
        let nonce = format!("{}{server_nonce}", first.nonce);
        let ScramVerifier { salt, iterations, .. } = verifier.as_ref();
        let server_first = format!("r={nonce},s={salt},i={iterations}");
        let next = AwaitFinal {
            signed: format!("{},{server_first}", first.bare),
            binding: first.binding,
            verifier,
            nonce,
        };
        Ok((server_first, next))
    }
}

/// An exchange that waits for the client's final message.
#[derive(Debug)]
pub struct AwaitFinal {
    verifier: Arc<ScramVerifier>,
    binding: Binding,
    /// The client's nonce and ours.
    nonce: String,
    /// What the proof covers up to here: `client-first-message-bare "," server-first-message`.
    signed: String,
}

impl AwaitFinal {
    /// Takes `client-final-message`; gives `server-final-message` if the proof is right.
    pub fn client_final(self, message: &[u8]) -> Result<String, ScramError> {
        let last = ClientFinal::parse(message)?;
        if last.binding != self.binding.echo() {
            return Err(ScramError::BindingMismatch);
        }
        if !bool::from(last.nonce.as_bytes().ct_eq(self.nonce.as_bytes())) {
            return Err(ScramError::NonceMismatch);
        }
        let signed = [self.signed.as_bytes(), b",", last.without_proof.as_bytes()];
        let client_key = xor(last.proof, hmac_sha256(&self.verifier.stored_key, &signed));
        if !bool::from(sha256(&client_key).ct_eq(&self.verifier.stored_key)) {
            return Err(ScramError::WrongProof);
        }
        let signature = hmac_sha256(&self.verifier.server_key, &signed);
        Ok(format!("v={}", STANDARD.encode(signature)))
    }
}

fn xor(mut left: Key, right: Key) -> Key {
    left.iter_mut().zip(right).for_each(|(left, right)| *left ^= right);
    left
}

#[cfg(test)]
mod tests;
