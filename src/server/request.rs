//! The messages that a server answers, and who the answers are for.

/// Whether an answer goes on to the client.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    Forward,
    /// It answers something that the client did not send.
    Swallow,
}

/// A message that a server answers, or that we answer in its place.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Request {
    /// Query or `FunctionCall`: everything up to a `ReadyForQuery` belongs to it.
    Simple(Verdict),
    Sync,
    Parse(Verdict),
    Bind,
    Describe(Verdict),
    Execute,
    Close(Verdict),
    /// A Bind or an Execute of ours, of a statement that gives no row.
    Own,
    /// `CopyDone` or `CopyFail`.
    CopyEnd,
    /// Never sent: the answer is ours, and due when everything in front of it is answered.
    MadeUp(MadeUp),
}

impl Request {
    /// The server answers it with a `ReadyForQuery`, at the end of whatever else.
    pub(super) const fn ends_with_ready(self) -> bool {
        matches!(self, Self::Simple(_) | Self::Sync)
    }
}

/// An answer of ours in the place of the server's.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum MadeUp {
    ParseComplete,
    CloseComplete,
    /// The next of [`super::Server::made_up`].
    Ours,
}

/// How a copy to the server came to its end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CopyEnd {
    /// The server took everything up to `CopyDone`.
    Done,
    /// The client's `CopyFail` ended it.
    GivenUp,
    /// Its data, or something else: it need not have got as far as the end of the data. A message
    /// that has no place in a copy ends the connection as well.
    Failed,
}

/// What the client has sent behind its last Sync or Query.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Segment {
    None,
    Open,
    /// It has failed, and the client was told so.
    Failed,
}
