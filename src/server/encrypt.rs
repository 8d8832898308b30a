//! TLS on the way to a server: asked for, accepted or declined, before anything else is said.

use std::io;

use rustls::pki_types::ServerName;

use super::connect::ConnectError;
use super::endpoint::Endpoint;
use crate::config::HostAddr;
use crate::net::resolve::Address;
use crate::net::stream::Stream;
use crate::net::tls::refusal;
use crate::tls::{Ladder, Step};
use crate::wire::{frontend, sqlstate};

/// One attempt to connect.
pub(super) struct Way {
    step: Step,
    is_encrypted: bool,
    /// The address that it has led to, if by TCP.
    pub(super) address: Option<Address>,
}

impl Way {
    pub(super) const fn new(step: Step) -> Self {
        Self { step, is_encrypted: false, address: None }
    }

    /// Connects to `host`, and encrypts as the step says.
    ///
    /// Cancel-safe: dropping the future closes the connection.
    pub(super) async fn open(
        &mut self,
        host: &Endpoint,
        ladder: &Ladder,
    ) -> Result<Stream, ConnectError> {
        let (stream, address) = host.connect().await?;
        self.address = address;
        match &host.name {
            HostAddr::Tcp { host, .. } => self.enter(stream, host, ladder).await,
            // libpq has no TLS there either, whatever its mode.
            HostAddr::Unix { .. } => Ok(stream),
        }
    }

    /// Encrypts a connection to the host of this name as the step says.
    ///
    /// Cancel-safe: dropping the future closes the connection.
    pub(super) async fn enter(
        &mut self,
        mut stream: Stream,
        host: &str,
        ladder: &Ladder,
    ) -> Result<Stream, ConnectError> {
        if let (Some(config), Step::IfOffered | Step::Demanded) = (ladder.config(), self.step) {
            if ask(&mut stream).await? {
                let shaken = stream.connect_tls(config, server_name(host)).await;
                shaken.map_err(|source| ConnectError::Tls { source })?;
            } else if self.step == Step::Demanded {
                return Err(ConnectError::NoTls { mode: ladder.mode().as_str() });
            }
        }
        self.is_encrypted = stream.is_encrypted();
        Ok(stream)
    }

    /// True if encryption, or its absence, is what the server has against us.
    pub(super) fn was_the_matter(&self, error: &ConnectError) -> bool {
        match error {
            ConnectError::Tls { .. } => true,
            // "no pg_hba.conf entry for host …, no encryption", and the reverse.
            ConnectError::Refused { message, .. } => {
                let could_differ = self.is_encrypted || self.step == Step::Plain;
                message.sqlstate == sqlstate::INVALID_AUTHORIZATION && could_differ
            }
            ConnectError::Io { .. }
            | ConnectError::NoAddress { .. }
            | ConnectError::Timeout { .. }
            | ConnectError::SlowStart { .. }
            | ConnectError::TooLong { .. }
            | ConnectError::Closed
            | ConnectError::Auth(_)
            | ConnectError::NoTls { .. }
            | ConnectError::Protocol { .. }
            | ConnectError::ConnectQuery { .. } => false,
        }
    }

    /// True if `error` is none of the way: the server let us in as far as encryption goes.
    pub(super) fn is_open(&self, error: &ConnectError) -> bool {
        match error {
            ConnectError::Refused { .. } => !self.was_the_matter(error),
            ConnectError::Auth(_)
            | ConnectError::ConnectQuery { .. }
            | ConnectError::SlowStart { .. }
            | ConnectError::TooLong { .. } => true,
            ConnectError::Io { .. }
            | ConnectError::NoAddress { .. }
            | ConnectError::Timeout { .. }
            | ConnectError::Closed
            | ConnectError::NoTls { .. }
            | ConnectError::Tls { .. }
            | ConnectError::Protocol { .. } => false,
        }
    }
}

/// Asks for TLS; whether the server has it.
async fn ask(stream: &mut Stream) -> Result<bool, ConnectError> {
    let mut out = Vec::with_capacity(8);
    frontend::put_ssl_request(&mut out);
    stream.write_all(&out).await?;
    // Room for more than the one byte: what comes with it was not sent by who holds the key, and
    // must not be taken for something that was (pitfalls P7, P78).
    let mut answer = [0; 16];
    let n = stream.read(&mut answer).await?;
    match answer.get(..n).unwrap_or_default() {
        [] => Err(ConnectError::Closed),
        [b'S'] => Ok(true),
        [b'N'] => Ok(false),
        [b'S' | b'N', ..] => {
            Err(ConnectError::Protocol { problem: "unencrypted data behind its answer on TLS" })
        }
        _ => Err(ConnectError::Protocol { problem: "no answer to the question for TLS" }),
    }
}

/// What the server's certificate has to be for, and, unless it is an address, what it is told.
fn server_name(host: &str) -> ServerName<'static> {
    ServerName::try_from(host.to_owned()).unwrap_or_else(|_no_name| {
        // Of no name, so that none is told; no certificate is for this one.
        ServerName::from(std::net::IpAddr::from([0, 0, 0, 0]))
    })
}

/// True if the same attempt will fail the same way: it is not the network that broke.
pub(super) fn is_of_tls_itself(error: &io::Error) -> bool {
    refusal(error).is_some()
}
