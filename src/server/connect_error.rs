//! Why there is no connection to a server: whether trying again can help, what it says of the host, and what a
//! client is told.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use thiserror::Error;

use super::encrypt;
use super::opening::Opening;
use super::server::CommandError;
use crate::auth::ServerAuthError;
use crate::error::ClientMessage;
use crate::wire::{sqlstate, startup};

/// Why there is no connection.
#[derive(Debug, Error)]
pub enum ConnectError {
    #[error("{source}")]
    Io { source: io::Error },
    #[error("its name does not resolve: {why}")]
    NoAddress { why: Arc<str> },
    #[error("no connection within {after:?}")]
    Timeout { after: Duration },
    /// It is what the client asks for that takes so long (`post_auth_delay`), and says nothing about
    /// the host.
    #[error("no connection within {after:?}, of which post_auth_delay is a part")]
    SlowStart { after: Duration },
    #[error("a startup packet of {len} bytes, of which PostgreSQL takes {max}", max = startup::MAX_LEN)]
    TooLong { len: usize },
    #[error("the server closed the connection during login")]
    Closed,
    #[error("the server has no TLS, and tls.mode is \"{mode}\"")]
    NoTls { mode: &'static str },
    #[error("no TLS with the server: {source}")]
    Tls { source: io::Error },
    #[error("{} ({})", .message.message, .message.sqlstate.as_str())]
    Refused {
        message: ClientMessage,
        /// The body of the server's `ErrorResponse`.
        body: Box<[u8]>,
    },
    #[error(transparent)]
    Auth(#[from] ServerAuthError),
    #[error("the server broke the protocol during login: {problem}")]
    Protocol { problem: &'static str },
    #[error("connect_query failed: {source}")]
    ConnectQuery { source: CommandError },
}

impl From<io::Error> for ConnectError {
    fn from(source: io::Error) -> Self {
        // In TLS 1.3 a server that does not like our certificate says so when the handshake is over.
        if encrypt::is_of_tls_itself(&source) { Self::Tls { source } } else { Self::Io { source } }
    }
}

impl ConnectError {
    /// True if trying again cannot help before somebody changes something: a wrong password, a
    /// database that is not there. What a full or starting server says passes (pitfalls P20, P34).
    pub fn is_final(&self) -> bool {
        match self {
            Self::Io { .. }
            | Self::NoAddress { .. }
            | Self::Timeout { .. }
            | Self::Closed
            | Self::Protocol { .. } => false,
            Self::Auth(_)
            | Self::ConnectQuery { .. }
            | Self::NoTls { .. }
            | Self::SlowStart { .. }
            | Self::TooLong { .. } => true,
            Self::Tls { source } => encrypt::is_of_tls_itself(source),
            Self::Refused { message, .. } => {
                !matches!(message.sqlstate.class(), "08" | "53" | "57")
            }
        }
    }

    /// True if there is nobody to talk to: the host refuses connections, cannot be reached, or its name leads
    /// nowhere.
    pub fn is_unreachable(&self) -> bool {
        let source = match self {
            Self::NoAddress { .. } => return true,
            Self::Io { source } => source,
            Self::Timeout { .. }
            | Self::SlowStart { .. }
            | Self::TooLong { .. }
            | Self::Closed
            | Self::NoTls { .. }
            | Self::Tls { .. }
            | Self::Refused { .. }
            | Self::Auth(_)
            | Self::Protocol { .. }
            | Self::ConnectQuery { .. } => return false,
        };
        // Not every failure to connect has a number of the system's.
        source.raw_os_error().is_none() && source.kind() != io::ErrorKind::UnexpectedEof
            || matches!(
                source.kind(),
                io::ErrorKind::ConnectionRefused
                    | io::ErrorKind::HostUnreachable
                    | io::ErrorKind::NetworkUnreachable
                    | io::ErrorKind::NotFound
            )
    }

    /// True if nobody knows what the host is at: it hung up, or did not answer.
    pub fn is_silence(&self) -> bool {
        match self {
            Self::Timeout { .. } | Self::Closed => true,
            Self::Io { source } => matches!(
                source.kind(),
                io::ErrorKind::ConnectionReset
                    | io::ErrorKind::ConnectionAborted
                    | io::ErrorKind::BrokenPipe
                    | io::ErrorKind::TimedOut
                    | io::ErrorKind::UnexpectedEof
            ),
            Self::NoAddress { .. }
            | Self::SlowStart { .. }
            | Self::TooLong { .. }
            | Self::NoTls { .. }
            | Self::Tls { .. }
            | Self::Refused { .. }
            | Self::Auth(_)
            | Self::Protocol { .. }
            | Self::ConnectQuery { .. } => false,
        }
    }

    /// True if it is something of our own that is lacking: descriptors, ports, memory.
    pub const fn is_ours(&self) -> bool {
        matches!(self, Self::Io { .. })
    }

    /// True if it is the login that is not let in: another may be.
    pub fn is_of_login(&self) -> bool {
        match self {
            Self::Auth(_) => true,
            Self::Refused { message, .. } => matches!(message.sqlstate.class(), "28" | "3D" | "42"),
            Self::Io { .. }
            | Self::NoAddress { .. }
            | Self::Timeout { .. }
            | Self::SlowStart { .. }
            | Self::TooLong { .. }
            | Self::Closed
            | Self::NoTls { .. }
            | Self::Tls { .. }
            | Self::Protocol { .. }
            | Self::ConnectQuery { .. } => false,
        }
    }

    /// True if the host lets nobody in: it is starting or stopping.
    pub fn is_of_start(&self) -> bool {
        let is_it = |message: &ClientMessage| message.sqlstate == sqlstate::CANNOT_CONNECT_NOW;
        matches!(self, Self::Refused { message, .. } if is_it(message))
    }

    /// True if the host works and has no more room for this login: what a role or a database has reached
    /// is no matter of others.
    pub fn is_for_lack_of_room(&self) -> bool {
        matches!(self, Self::Refused { message, .. } if message.sqlstate.class() == "53")
    }

    /// True if it concerns nobody but the client whose parameters the server was to be opened with:
    /// what a server says to a user or a database that it does not let in concerns all.
    pub fn is_for(&self, opening: &Opening) -> bool {
        let is_about_login =
            |message: &ClientMessage| matches!(message.sqlstate.class(), "28" | "3D");
        match self {
            Self::Refused { message, .. } => {
                // To replication it has ways in of its own, and a client that asks again by itself.
                opening.replication.is_some() || (self.is_final() && !is_about_login(message))
            }
            Self::Auth(_) => opening.replication.is_some(),
            Self::ConnectQuery { .. } | Self::SlowStart { .. } | Self::TooLong { .. } => true,
            Self::Io { .. }
            | Self::NoAddress { .. }
            | Self::Timeout { .. }
            | Self::Closed
            | Self::NoTls { .. }
            | Self::Tls { .. }
            | Self::Protocol { .. } => false,
        }
    }

    /// True if this may be how the host says that it does not speak the version that it was asked
    /// for, given that it was the first that it said.
    pub(super) fn may_refuse_version(&self) -> bool {
        match self {
            Self::Refused { message, .. } => {
                let code = message.sqlstate;
                code == sqlstate::FEATURE_NOT_SUPPORTED || code == sqlstate::PROTOCOL_VIOLATION
            }
            Self::Closed => true,
            Self::Io { source } => source.kind() == io::ErrorKind::ConnectionReset,
            Self::NoAddress { .. }
            | Self::Timeout { .. }
            | Self::SlowStart { .. }
            | Self::TooLong { .. }
            | Self::NoTls { .. }
            | Self::Tls { .. }
            | Self::Auth(_)
            | Self::Protocol { .. }
            | Self::ConnectQuery { .. } => false,
        }
    }

    /// What a client is told that needs a host in this `role`: the server's own words if it gave any.
    pub fn client_message(&self, domain: &str, role: &str) -> ClientMessage {
        match self {
            Self::Refused { message, .. } => message.clone(),
            Self::Auth(_) => ClientMessage::new(
                sqlstate::UNABLE_TO_CONNECT,
                format!("pgweir cannot log in to the server of domain \"{domain}\""),
            )
            .detail(self.to_string())
            .hint("\"pgweir check\" says which secrets a server can be logged in to with."),
            Self::TooLong { .. } => ClientMessage::new(
                sqlstate::PROGRAM_LIMIT,
                format!("too many startup parameters for the server of domain \"{domain}\""),
            )
            .detail(self.to_string())
            .hint("What the client asks for and server_options of the domain count together."),
            Self::SlowStart { .. } => ClientMessage::new(
                sqlstate::UNABLE_TO_CONNECT,
                format!(
                    "the server of domain \"{domain}\" takes too long to begin with these startup \
                     parameters"
                ),
            )
            .detail(self.to_string())
            .hint(
                "Ask for a post_auth_delay that is shorter than pool.connect_timeout, or for none.",
            ),
            Self::Io { .. }
            | Self::NoAddress { .. }
            | Self::Timeout { .. }
            | Self::Closed
            | Self::NoTls { .. }
            | Self::Tls { .. }
            | Self::Protocol { .. }
            | Self::ConnectQuery { .. } => ClientMessage::new(
                sqlstate::UNABLE_TO_CONNECT,
                format!("no {role} of domain \"{domain}\" is available"),
            )
            .detail(self.to_string()),
        }
    }
}
