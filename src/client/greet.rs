//! The first packets of a client, up to the one that says what it wants.

use std::io;

use thiserror::Error;

use crate::net::stream::Stream;
use crate::wire::startup::{self, LoginRequest, Startup, StartupError};

/// What a client wants.
#[derive(Debug)]
pub(super) enum Wish {
    Login(LoginRequest),
    Cancel {
        process_id: i32,
        secret: Vec<u8>,
    },
    /// It connected and said nothing: a probe (pitfall P17).
    Nothing,
}

/// Why a client cannot be greeted.
#[derive(Debug, Error)]
pub(super) enum GreetError {
    #[error(transparent)]
    Startup(#[from] StartupError),
    #[error("received unencrypted data after SSL request")]
    DataBehindRequest,
    #[error("encryption was asked for again and again")]
    TooManyRequests,
    #[error("the client closed the connection in the middle of its startup packet")]
    Truncated,
    #[error(transparent)]
    Io(#[from] io::Error),
}

/// Each kind of encryption may be asked for once.
const REQUESTS_MAX: usize = 2;

/// Reads startup packets until one says what the client wants. Encryption is declined.
///
/// Cancel-safe in that nothing but the connection is lost.
pub(super) async fn greet(stream: &mut Stream) -> Result<Wish, GreetError> {
    for _ in 0..=REQUESTS_MAX {
        let Some(packet) = read_packet(stream).await? else { return Ok(Wish::Nothing) };
        match startup::parse(&packet)? {
            Startup::Login(request) => return Ok(Wish::Login(request)),
            Startup::Cancel { process_id, secret } => {
                return Ok(Wish::Cancel { process_id, secret });
            }
            Startup::Ssl | Startup::GssEnc => stream.write_all(b"N").await?,
        }
    }
    Err(GreetError::TooManyRequests)
}

/// Reads one packet; `None` if the client leaves before its first byte.
async fn read_packet(stream: &mut Stream) -> Result<Option<Vec<u8>>, GreetError> {
    let mut packet = Vec::new();
    let mut chunk = [0; 1024];
    loop {
        let n = stream.read(&mut chunk).await?;
        if n == 0 {
            return if packet.is_empty() { Ok(None) } else { Err(GreetError::Truncated) };
        }
        packet.extend_from_slice(chunk.get(..n).unwrap_or_default());
        if let Some(len) = startup::length(&packet)?
            && packet.len() >= len
        {
            // A client waits for our answer to each of its packets. What comes behind unasked may
            // have been put there by somebody else (pitfall P7).
            return if packet.len() == len {
                Ok(Some(packet))
            } else {
                Err(GreetError::DataBehindRequest)
            };
        }
    }
}
