//! What every layer's errors share: whose fault it is, and what the client is told.

use std::fmt::Debug;

/// Whose fault an error is. Decides the log level, the metric label and whether a retry makes sense.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Fault {
    /// The client did something that it may not, or went away.
    Client,
    /// PostgreSQL, or the way to it.
    Server,
    /// pgweir itself: a limit reached, a shutdown, a bug.
    Proxy,
}

impl Fault {
    /// The value of the metric label `fault`.
    pub const fn label(self) -> &'static str {
        match self {
            Self::Client => "client",
            Self::Server => "server",
            Self::Proxy => "proxy",
        }
    }
}

/// A five-character SQLSTATE (PostgreSQL documentation, appendix A).
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct SqlState(pub [u8; 5]);

impl SqlState {
    /// The code as text; `XX000` if it holds bytes that are not ASCII.
    pub fn as_str(&self) -> &str {
        std::str::from_utf8(&self.0).unwrap_or("XX000")
    }

    /// The two-character class, the value of the metric label `sqlstate_class`.
    pub fn class(&self) -> &str {
        self.as_str().get(..2).unwrap_or("XX")
    }
}

impl Debug for SqlState {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.as_str())
    }
}

/// What a client is told about a problem: the fields of an `ErrorResponse`, without its severity.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ClientMessage {
    pub sqlstate: SqlState,
    pub message: String,
    pub detail: Option<String>,
    pub hint: Option<String>,
    /// The function that PostgreSQL would have raised it in: drivers look for a few of them.
    pub routine: Option<&'static str>,
}

impl ClientMessage {
    /// A message without DETAIL and HINT.
    pub fn new(sqlstate: SqlState, message: impl Into<String>) -> Self {
        Self { sqlstate, message: message.into(), detail: None, hint: None, routine: None }
    }

    #[must_use]
    pub fn detail(mut self, detail: impl Into<String>) -> Self {
        self.detail = Some(detail.into());
        self
    }

    #[must_use]
    pub const fn routine(mut self, routine: &'static str) -> Self {
        self.routine = Some(routine);
        self
    }

    #[must_use]
    pub fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }
}

/// An error that reaches a client. `Display` is for our log; `client_message` is for the client and
/// never holds credentials.
pub trait ClientFacing: std::error::Error {
    fn fault(&self) -> Fault;
    fn client_message(&self) -> ClientMessage;
}
