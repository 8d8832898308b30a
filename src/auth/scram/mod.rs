//! SCRAM-SHA-256 (RFC 5802, RFC 7677), the server's side of it.

mod messages;
mod server;
mod verifier;

use hmac::{Hmac, Mac as _};
use sha2::{Digest as _, Sha256};

pub use messages::ScramError;
pub use server::{AwaitFinal, ScramServer};
pub use verifier::ScramVerifier;

/// The mechanism's name in the SASL messages.
pub(crate) const SCRAM_SHA_256: &str = "SCRAM-SHA-256";

/// A SHA-256 digest or a key made of one.
type Key = [u8; 32];

/// HMAC-SHA-256 over `parts` in a row.
fn hmac_sha256(key: &Key, parts: &[&[u8]]) -> Key {
    // HMAC fills a short key up to the hash's block with zeros: doing so here leaves no error case.
    let mut block = [0_u8; 64];
    block.iter_mut().zip(key).for_each(|(to, from)| *to = *from);
    let mut mac = <Hmac<Sha256> as hmac::digest::KeyInit>::new(&block.into());
    for part in parts {
        mac.update(part);
    }
    mac.finalize().into_bytes().into()
}

fn sha256(bytes: &[u8]) -> Key {
    Sha256::digest(bytes).into()
}
