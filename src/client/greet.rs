//! The first packets of a client, up to the one that says what it wants.

use std::io;

use thiserror::Error;

use crate::net::stream::Stream;
use crate::tls::Offer;
use crate::wire::startup::{self, LoginRequest, Startup, StartupError};

/// What a client wants.
#[derive(Debug)]
pub(super) enum Wish {
    Login {
        request: LoginRequest,
        /// What the client has sent behind it without waiting for an answer.
        rest: Vec<u8>,
    },
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
    #[error("received unencrypted data after {request} request")]
    DataBehindRequest { request: &'static str },
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
    // Each kind may be asked for once, and inside TLS none. Asked for again it is a version that there
    // is not, as PostgreSQL has it.
    let (mut may_ask_ssl, mut may_ask_gssenc) = (true, true);
    loop {
        let Some(len) = complete(stream, &mut packet).await? else { return Ok(Wish::Nothing) };
        let rest = packet.split_off(len);
        match startup::parse(&packet)? {
            Startup::Login(request) => {
                return match offer.filter(|offer| offer.is_demanded() && !stream.is_encrypted()) {
                    Some(offer) => Err(GreetError::NoTls { mode: offer.mode().as_str() }),
                    None => Ok(Wish::Login { request, rest }),
                };
            }
            // Even in plain: libpq sent them so up to version 16, and PostgreSQL takes them.
            Startup::Cancel { process_id, secret } => {
                return Ok(Wish::Cancel { process_id, secret });
            }
            Startup::Ssl if std::mem::take(&mut may_ask_ssl) => {
                nothing_behind(&rest, "SSL")?;
                match offer.filter(|_| !stream.is_encrypted()) {
                    Some(offer) => {
                        stream.write_all(b"S").await?;
                        let shaken = stream.accept_tls(offer.config(), &[]).await;
                        shaken.map_err(|source| GreetError::Tls { source })?;
                        may_ask_gssenc = false;
                    }
                    None => stream.write_all(b"N").await?,
                }
            }
            Startup::GssEnc if std::mem::take(&mut may_ask_gssenc) => {
                nothing_behind(&rest, "GSSAPI encryption")?;
                stream.write_all(b"N").await?;
            }
            Startup::Ssl => return Err(StartupError::of_version(startup::SSL).into()),
            Startup::GssEnc => return Err(StartupError::of_version(startup::GSSENC).into()),
        }
        packet.clear();
    }
}

/// A client waits for the answer to its wish for encryption. What comes behind that unasked may have
/// been put there by somebody else (pitfall P7).
const fn nothing_behind(rest: &[u8], request: &'static str) -> Result<(), GreetError> {
    if rest.is_empty() { Ok(()) } else { Err(GreetError::DataBehindRequest { request }) }
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

/// Reads on until a whole packet is there, perhaps with more behind it: its length. `None` if the
/// client leaves before its first byte.
async fn complete(stream: &mut Stream, packet: &mut Vec<u8>) -> Result<Option<usize>, GreetError> {
    loop {
        if let Some(len) = startup::length(packet)?
            && packet.len() >= len
        {
            return Ok(Some(len));
        }
        if !read_some(stream, packet).await? {
            return if packet.is_empty() { Ok(None) } else { Err(GreetError::Truncated) };
        }
    }
}

/// Appends what has arrived; false at the end.
pub(super) async fn read_some(stream: &mut Stream, packet: &mut Vec<u8>) -> io::Result<bool> {
    let mut chunk = [0; 1024];
    let n = stream.read(&mut chunk).await?;
    packet.extend_from_slice(chunk.get(..n).unwrap_or_default());
    Ok(n > 0)
}
