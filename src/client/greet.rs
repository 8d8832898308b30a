//! The first packets of a client, up to the one that says what it wants.

use std::io;

use thiserror::Error;

use crate::net::stream::Stream;
use crate::tls::Offer;
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
    #[error("encryption was asked for inside TLS")]
    RequestInsideTls,
    #[error("no TLS, which listen.tls.mode = \"{mode}\" demands")]
    NoTls { mode: &'static str },
    #[error("the client began with TLS, which is not offered here (listen.tls)")]
    TlsNotOffered,
    #[error("the client began with TLS and did not name the protocol \"postgresql\" (ALPN)")]
    NoProtocol,
    #[error("no TLS with the client: {source}")]
    Tls { source: io::Error },
    #[error("the client closed the connection in the middle of its startup packet")]
    Truncated,
    #[error(transparent)]
    Io(#[from] io::Error),
}

/// Each kind of encryption may be asked for once.
const REQUESTS_MAX: usize = 2;

/// The first byte of a TLS handshake, which no startup packet begins with: it would be too long.
const HANDSHAKE: u8 = 0x16;

/// Reads startup packets until one says what the client wants, and encrypts if it asks for that and
/// there is something on offer.
///
/// Cancel-safe in that nothing but the connection is lost.
pub(super) async fn greet(stream: &mut Stream, offer: Option<&Offer>) -> Result<Wish, GreetError> {
    // Nobody can listen to a Unix socket on its way.
    let offer = offer.filter(|_| stream.is_tcp());
    let mut packet = Vec::new();
    read_some(stream, &mut packet).await?;
    if packet.first() == Some(&HANDSHAKE) {
        begin_with_tls(stream, offer, &packet).await?;
        packet.clear();
    }
    for _ in 0..=REQUESTS_MAX {
        if !complete(stream, &mut packet).await? {
            return Ok(Wish::Nothing);
        }
        match startup::parse(&packet)? {
            Startup::Login(request) => {
                return match offer.filter(|offer| offer.is_demanded() && !stream.is_encrypted()) {
                    Some(offer) => Err(GreetError::NoTls { mode: offer.mode().as_str() }),
                    None => Ok(Wish::Login(request)),
                };
            }
            // Even in plain: libpq sent them so up to version 16, and PostgreSQL takes them.
            Startup::Cancel { process_id, secret } => {
                return Ok(Wish::Cancel { process_id, secret });
            }
            Startup::Ssl | Startup::GssEnc if stream.is_encrypted() => {
                return Err(GreetError::RequestInsideTls);
            }
            Startup::Ssl => match offer {
                Some(offer) => {
                    stream.write_all(b"S").await?;
                    let shaken = stream.accept_tls(offer.config(), &[]).await;
                    shaken.map_err(|source| GreetError::Tls { source })?;
                }
                None => stream.write_all(b"N").await?,
            },
            Startup::GssEnc => stream.write_all(b"N").await?,
        }
        packet.clear();
    }
    Err(GreetError::TooManyRequests)
}

/// A client that does not ask first has to say in its handshake that it means PostgreSQL: a handshake
/// that was meant for something else must come to nothing.
async fn begin_with_tls(
    stream: &mut Stream,
    offer: Option<&Offer>,
    begun: &[u8],
) -> Result<(), GreetError> {
    let offer = offer.ok_or(GreetError::TlsNotOffered)?;
    let shaken = stream.accept_tls(offer.config(), begun).await;
    shaken.map_err(|source| GreetError::Tls { source })?;
    if stream.is_for_postgresql() { Ok(()) } else { Err(GreetError::NoProtocol) }
}

/// Reads on until `packet` is whole; false if the client leaves before its first byte.
async fn complete(stream: &mut Stream, packet: &mut Vec<u8>) -> Result<bool, GreetError> {
    loop {
        if let Some(len) = startup::length(packet)?
            && packet.len() >= len
        {
            // A client waits for our answer to each of its packets. What comes behind unasked may
            // have been put there by somebody else (pitfall P7).
            return if packet.len() == len { Ok(true) } else { Err(GreetError::DataBehindRequest) };
        }
        if !read_some(stream, packet).await? {
            return if packet.is_empty() { Ok(false) } else { Err(GreetError::Truncated) };
        }
    }
}

/// Appends what has arrived; false at the end.
async fn read_some(stream: &mut Stream, packet: &mut Vec<u8>) -> Result<bool, GreetError> {
    let mut chunk = [0; 1024];
    let n = stream.read(&mut chunk).await?;
    packet.extend_from_slice(chunk.get(..n).unwrap_or_default());
    Ok(n > 0)
}
