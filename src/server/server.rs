//! A server: its socket, what it owes, and what is on it.

use std::collections::VecDeque;
use std::io;
use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;

use thiserror::Error;
use tokio::time::{Instant, timeout_at};

use super::exchange::{Exchange, Request, Verdict, Violation};
use super::opening::Opening;
use super::parameters::Parameters;
use super::record::ServerRecord;
use super::statements::Statements;
use super::texts::Texts;
use super::undo::Undo;
use super::unnamed::Unnamed;
use crate::error::ClientMessage;
use crate::net::stream::Stream;
use crate::pool::core::{Home, ServerId};
use crate::state::settings::{Settings, is_fixed};
use crate::wire::backend::{self, TxStatus};
use crate::wire::error_response::ErrorFields;
use crate::wire::{frame, frontend};

/// A connection to PostgreSQL that is logged in.
#[derive(Debug)]
#[expect(clippy::struct_excessive_bools, reason = "facts that are independent of each other")]
pub struct Server {
    pub record: Arc<ServerRecord>,
    /// The worker that polls its socket.
    pub home: Home,
    pub stream: Stream,
    pub exchange: Exchange<Undo>,
    pub statements: Statements,
    /// What it reports.
    pub parameters: Parameters,
    /// What it reported when it was opened: where RESET ALL goes back to.
    pub base: Arc<Parameters>,
    /// What was put on it for the last client.
    pub applied: Arc<Settings>,
    /// A RESET took back some of `applied`, nobody knows which.
    pub applied_is_unknown: bool,
    /// What it was opened with for a client; `None`: a plain one.
    pub opening: Option<Arc<Opening>>,
    /// What it had to say when it was opened, as whole messages.
    pub notices: Vec<u8>,
    /// The front of a message that has not arrived whole.
    pub inbox: Vec<u8>,
    /// What the socket has not taken yet.
    pub outbox: Vec<u8>,
    /// What the client is told in its place, in the order of what is owed.
    pub made_up: VecDeque<Vec<u8>>,
    /// Sessions have shared it since it was opened or last discarded clean: there may be more on it
    /// than was seen.
    pub is_shared: bool,
    /// It was seen to carry state that is not its next client's business.
    pub is_dirty: bool,
    /// It carries what DISCARD ALL would leave: it can only be closed.
    pub is_worn: bool,
    /// What is under way, for the log of slow statements.
    pub texts: Texts,
    /// Its pool's generation when it was opened.
    pub generation: u64,
    /// When it is too old to be lent again.
    pub expires: Option<Instant>,
    pub last_used: Instant,
}

/// A command of ours came to nothing.
#[derive(Debug, Error)]
pub enum CommandError {
    #[error("the server closed the connection")]
    Closed,
    #[error(transparent)]
    Io(#[from] io::Error),
    #[error("no answer within {after:?}")]
    Timeout { after: Duration },
    #[error("{}", .message.message)]
    Refused { message: ClientMessage },
    #[error(transparent)]
    Violation(#[from] Violation),
    #[error("the server sent a malformed message")]
    Malformed,
    #[error("the server ended up inside a transaction block")]
    InBlock,
}

/// What a command of ours has given.
#[derive(Debug, Default)]
struct CommandAnswer {
    rows: usize,
    /// The body of the last `DataRow`.
    last: Vec<u8>,
}

/// How much of a server's answer to a command of ours is read at once.
const COMMAND_READ: usize = 4096;
/// The longest message that such an answer may hold.
const COMMAND_MESSAGE_MAX: usize = 1 << 20;

impl Server {
    pub fn id(&self) -> ServerId {
        self.record.id
    }

    /// Has the worker that calls, `home`, poll its socket: what one hears for another is a system call and
    /// a wake-up more for each answer.
    #[inline]
    pub fn come_to(&mut self, home: Home) {
        if self.home != home {
            self.move_to(home);
        }
    }

    #[cold]
    fn move_to(&mut self, home: Home) {
        match self.stream.come_here() {
            Ok(()) => self.home = home,
            // No descriptor is free, or no memory: it works from where it is.
            Err(error) => tracing::debug!(server = %self.record.host, %error, "not moved"),
        }
    }

    /// True if it has to be discarded before another session gets it.
    pub fn must_discard(&self) -> bool {
        self.is_dirty || self.statements.has_own_names()
    }

    /// Runs `sql` on behalf of nobody but ourselves, and waits for its end; the number of rows that
    /// it gave.
    ///
    /// Not cancel-safe: a server whose command was given up must be closed.
    pub async fn command(&mut self, sql: &str, after: Duration) -> Result<usize, CommandError> {
        self.run(sql, after).await.map(|answer| answer.rows)
    }

    /// The same for a query that gives one row: its values as text.
    ///
    /// Not cancel-safe: a server whose query was given up must be closed.
    pub async fn query_row(
        &mut self,
        sql: &str,
        after: Duration,
    ) -> Result<Vec<Option<String>>, CommandError> {
        let answer = self.run(sql, after).await?;
        let values = backend::row(&answer.last)
            .map(|value| value.map(|bytes| String::from_utf8_lossy(bytes).into_owned()));
        Ok(values.collect())
    }

    async fn run(&mut self, sql: &str, after: Duration) -> Result<CommandAnswer, CommandError> {
        let deadline = Instant::now() + after;
        let run = async {
            let mut out = Vec::with_capacity(sql.len() + 6);
            frontend::put_query(&mut out, sql.as_bytes());
            self.exchange.on_request(Request::Simple(Verdict::Swallow), None);
            self.statements.unnamed = Unnamed::None;
            self.stream.write_all(&out).await?;
            self.read_command_answer().await
        };
        timeout_at(deadline, run).await.map_err(|_elapsed| CommandError::Timeout { after })?
    }

    async fn read_command_answer(&mut self) -> Result<CommandAnswer, CommandError> {
        let mut buf = vec![0; COMMAND_READ];
        let mut refused = None;
        let mut answer = CommandAnswer::default();
        loop {
            while let Some(head) = frame::head(&self.inbox, COMMAND_MESSAGE_MAX)
                .map_err(|_error| CommandError::Malformed)?
            {
                if self.inbox.len() < head.len {
                    break;
                }
                let frame: Vec<u8> = self.inbox.drain(..head.len).collect();
                let body = frame.get(frame::HEAD..).unwrap_or_default();
                if head.tag == b'D' {
                    answer.rows += 1;
                    answer.last = body.to_vec();
                }
                self.on_command_answer(head.tag, body, &mut refused)?;
            }
            if self.exchange.is_settled() {
                if self.inbox.is_empty() {
                    self.inbox = Vec::new();
                }
                return match (refused, self.exchange.tx()) {
                    (Some(message), _) => Err(CommandError::Refused { message }),
                    (None, TxStatus::Idle) => Ok(answer),
                    (None, TxStatus::Block | TxStatus::Failed) => Err(CommandError::InBlock),
                };
            }
            match self.stream.read(&mut buf).await? {
                0 => {
                    return Err(refused.map_or(CommandError::Closed, |message| {
                        CommandError::Refused { message }
                    }));
                }
                n => self.inbox.extend_from_slice(buf.get(..n).unwrap_or_default()),
            }
        }
    }

    fn on_command_answer(
        &mut self,
        tag: u8,
        body: &[u8],
        refused: &mut Option<ClientMessage>,
    ) -> Result<(), CommandError> {
        match tag {
            b'S' => self.note_parameter(body),
            b'E' if refused.is_none() => *refused = Some(ErrorFields::parse(body).to_message()),
            _ => {}
        }
        let ready = body.first().copied().and_then(TxStatus::from_byte);
        self.exchange.on_answer(tag, ready)?;
        Ok(())
    }

    /// Statement text that puts `wanted` on the server; `None` if it is there already.
    pub fn change_to(&self, wanted: &Arc<Settings>) -> Option<String> {
        if self.applied_is_unknown {
            return self.applied.change_all_to(wanted);
        }
        // As a rule it is lent to the client that had it last: nothing to compare.
        if Arc::ptr_eq(&self.applied, wanted) {
            return None;
        }
        self.applied.change_to(wanted)
    }

    /// Takes what it reports for what was put on it.
    pub fn note_applied(&mut self) {
        for (name, value) in self.parameters.iter().filter(|(name, _)| !is_fixed(name)) {
            let known = self.applied.value(name).or_else(|| self.base.value(name));
            if known != Some(value) {
                Arc::make_mut(&mut self.applied).set(name, value);
            }
        }
    }

    /// All of `settings` was just put on it, and nothing else: whatever else it reports is its own,
    /// which its configuration may have changed. True if something has.
    pub fn follow_base(&mut self, settings: &Settings) -> bool {
        let is_own = |name: &str| !is_fixed(name) && settings.value(name).is_none();
        let own = self.parameters.iter().filter(|(name, _)| is_own(name));
        let base = Arc::clone(&self.base);
        let mut has_changed = false;
        for (name, value) in own.filter(|(name, value)| base.value(name) != Some(*value)) {
            Arc::make_mut(&mut self.base).note(name, value);
            has_changed = true;
        }
        has_changed
    }

    /// Keeps the front of the text that comes with the next message, for the log of slow statements.
    pub fn note_text(&mut self, text: &[u8]) {
        self.texts.note(self.exchange.next_serial(), self.exchange.last_boundary, text);
    }

    /// Notes a `ParameterStatus`.
    pub fn note_parameter(&mut self, body: &[u8]) {
        let Some((name, value)) = backend::parameter_status(body) else { return };
        if let (Ok(name), Ok(value)) = (std::str::from_utf8(name), std::str::from_utf8(value)) {
            self.parameters.note(name, value);
        }
    }

    /// Looks whether an idle server is still there, without a system call unless something has
    /// arrived. Notices and parameters are taken in; anything else makes it useless (pitfall P30):
    /// one that is notified listens for a session that it is not known to have listened for.
    pub fn is_alive(&mut self) -> bool {
        // As a rule nothing is there: a small buffer costs less to clear.
        let mut buf = [0; 64];
        loop {
            match self.stream.try_read(&mut buf) {
                Poll::Pending => return self.inbox.is_empty(),
                Poll::Ready(Err(_) | Ok(0)) => return false,
                Poll::Ready(Ok(n)) => {
                    self.inbox.extend_from_slice(buf.get(..n).unwrap_or_default());
                    if !self.take_asynchronous() {
                        return false;
                    }
                }
            }
        }
    }

    /// Takes asynchronous messages off the inbox; false if something else is there.
    fn take_asynchronous(&mut self) -> bool {
        loop {
            let head = match frame::head(&self.inbox, COMMAND_MESSAGE_MAX) {
                Ok(Some(head)) if self.inbox.len() >= head.len => head,
                Ok(_) => break,
                Err(_) => return false,
            };
            let frame: Vec<u8> = self.inbox.drain(..head.len).collect();
            let body = frame.get(frame::HEAD..).unwrap_or_default();
            match head.tag {
                b'N' if !ErrorFields::parse(body).is_last() => {}
                b'S' => self.note_parameter(body),
                _ => return false,
            }
        }
        if self.inbox.is_empty() {
            self.inbox = Vec::new();
        }
        true
    }

    /// Waits until the server has closed its end, until `deadline` at most: true if it has. What it still
    /// sends is dropped.
    pub async fn ends_by(&mut self, deadline: Instant) -> bool {
        let mut buf = vec![0; COMMAND_READ];
        let ended = async { while self.stream.read(&mut buf).await.is_ok_and(|n| n > 0) {} };
        timeout_at(deadline, ended).await.is_ok()
    }

    /// Tells the server goodbye. The socket is closed when the server is dropped.
    pub fn say_goodbye(&mut self) {
        let mut out = Vec::new();
        frontend::put_terminate(&mut out);
        self.stream.try_write_last(&out);
    }
}
