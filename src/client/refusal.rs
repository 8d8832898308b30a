//! What a server refuses, in the words that the client is told it in.

use std::sync::Arc;

use tokio::time::Instant;

use super::batch::Batch;
use super::deadlines::query_took_too_long;
use super::link::{Link, Words};
use super::serve::{End, Session};
use super::shapes::{OUTDATED_ROUTINE, outdated};
use crate::error::{ClientMessage, Fault};
use crate::server::exchange::{CopyEnd, Verdict};
use crate::server::undo::{Given, Undo};
use crate::telemetry::counters::CloseReason;
use crate::wire::error_response::{self, ErrorFields, Severity};
use crate::wire::sqlstate;

/// The functions of PostgreSQL that refuse while somebody is connected to a database.
const WANT_TO_BE_ALONE: [&[u8]; 4] = [b"createdb", b"dropdb", b"movedb", b"RenameDatabase"];

/// What becomes of an error of the server's.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Weighed {
    /// It is applied to the exchange, and ends a copy like this if it ends one.
    Applies(CopyEnd),
    /// It is no answer to anything: nothing but whom it goes to is left of it.
    Settled(Verdict),
    /// It was dealt with, and the link is over.
    Unlinked,
}

impl Session {
    /// An error of the server's, before it is applied.
    pub(super) fn weigh_error(
        &mut self,
        batch: &mut Batch<'_>,
        body: &[u8],
        serial: u64,
        is_own: bool,
    ) -> Result<Weighed, End> {
        let Link::Linked(linked) = &mut self.link else { return Ok(Weighed::Unlinked) };
        let fields = ErrorFields::parse(body);
        if is_own {
            let message = fields.to_message();
            if !linked.forgives(&message, serial) {
                let verdict = self.on_settings_refused(batch, &message)?;
                return Ok(verdict.map_or(Weighed::Unlinked, Weighed::Settled));
            }
            return Ok(Weighed::Applies(CopyEnd::Failed));
        }
        let end = end_of_copy(&fields);
        if loses_track(&fields) {
            // A FATAL comes behind it, maybe not at once: who is leaving hears that, too.
            linked.ends_since = Some(Instant::now());
        }
        if end == CopyEnd::GivenUp && linked.has_ended_copy {
            // It was ended by us, whose words come instead.
            self.close_server(CloseReason::ClientLeft);
            return Ok(Weighed::Unlinked);
        }
        Ok(Weighed::Applies(end))
    }

    /// The server's last words, if that is what an error or a notice is: to whom they go. They answer nothing, and
    /// what we would have answered in front of them is not told any more.
    #[inline]
    pub(super) fn hear_last_words(&mut self, tag: u8, body: &[u8]) -> Option<Verdict> {
        if matches!(tag, b'E' | b'N') { self.hear(tag, body) } else { None }
    }

    fn hear(&mut self, tag: u8, body: &[u8]) -> Option<Verdict> {
        let fields = ErrorFields::parse(body);
        if !fields.is_last() {
            return None;
        }
        let is_session_mode = self.is_session_mode();
        let Link::Linked(linked) = &mut self.link else { return None };
        if tag == b'N' && is_session_mode {
            return Some(Verdict::Forward);
        }
        linked.last_words = Some(Box::new(fields.to_message()));
        // Who has a server to itself hears it as it is, and so does who broke the protocol: what
        // ends the server is then the client's doing, and ends its session too.
        let is_own = linked.checkout.peek().is_some_and(|server| server.exchange.is_at_own());
        linked.is_told = fields.sqlstate == Some(sqlstate::PROTOCOL_VIOLATION) && !is_own;
        let is_for_client = linked.is_told || is_session_mode;
        Some(if is_for_client { Verdict::Forward } else { Verdict::Swallow })
    }

    /// An error for the client: in our words, if it answers something that we made it refuse.
    pub(super) fn on_error(
        &mut self,
        batch: &mut Batch<'_>,
        body: &[u8],
        is_whole: bool,
        serial: u64,
        verdict: Verdict,
    ) -> Verdict {
        let fields = ErrorFields::parse(body);
        let used = self.failed_use();
        let is_outdated = fields.sqlstate == Some(sqlstate::FEATURE_NOT_SUPPORTED)
            && fields.routine == Some(OUTDATED_ROUTINE.as_bytes());
        // Anybody may raise an error with this code, but not from there.
        if fields.sqlstate == Some(sqlstate::OBJECT_IN_USE)
            && fields.routine.is_some_and(|routine| WANT_TO_BE_ALONE.contains(&routine))
        {
            self.on_database_in_use(fields.message.unwrap_or_default());
        }
        if fields.sqlstate == Some(sqlstate::READ_ONLY_TRANSACTION) {
            self.on_read_only();
        }
        if let Link::Linked(linked) = &mut self.link
            && linked.checkout.server().is_some_and(|server| server.exchange.has_undone())
        {
            self.undo();
        }
        let is_lost = used.is_some()
            && fields.sqlstate == Some(sqlstate::INVALID_STATEMENT_NAME)
            && fields.routine == Some(b"FetchPreparedStatement");
        // Behind that: a Close of the statement may have been skipped as well.
        match &used {
            Some(given) if is_outdated => self.on_outdated(given),
            Some(given) if is_lost => self.lost_statement(given),
            Some(_) | None => {}
        }
        let Link::Linked(linked) = &mut self.link else { return verdict };
        linked.restores.failed(serial);
        if let Some(affecting) = &linked.affecting
            && verdict == Verdict::Forward
        {
            affecting.answered();
        }
        if (is_outdated || is_lost) && self.repeat(serial) {
            return Verdict::Swallow;
        }
        self.first_use_fails(batch, serial);
        let Link::Linked(linked) = &mut self.link else { return verdict };
        let words = linked.replacements.take(serial, fields.sqlstate);
        // PostgreSQL keeps back what it says in front of the error: which of the messages of a segment
        // it answers is not known.
        let is_overdue = linked.cancel_sent.is_some() && is_cancel(&fields);
        let overdue = self.rules.query_timeout.filter(|_| is_overdue).map(query_took_too_long);
        let words = words.or_else(|| overdue.map(Words::Ours)).or_else(|| {
            let is_unnamed = used.as_ref().is_some_and(|given| given.name.is_empty());
            (is_lost && is_unnamed).then(|| Words::Ours(no_unnamed()))
        });
        if verdict == Verdict::Forward {
            self.undo_mode();
            let heard = match &words {
                Some(Words::Ours(message)) => Some(message.sqlstate),
                Some(Words::Outdated { .. }) => Some(sqlstate::FEATURE_NOT_SUPPORTED),
                Some(Words::Renamed { .. }) | None => fields.sqlstate,
            };
            let class = heard.unwrap_or(sqlstate::INTERNAL_ERROR);
            self.context.process.errors.increment(class.class(), Fault::Client);
        }
        // The server knows the statement by our name, and the client by its own. An error is long for what
        // it quotes, and names no statement then.
        let renamed = |given: Arc<Given>| Words::Renamed {
            from: given.statement.name().as_bytes().into(),
            to: given.name.clone(),
        };
        let Some(words) = words.or_else(|| used.filter(|_| is_whole).map(renamed)) else {
            return verdict;
        };
        self.reword(batch, body, words);
        Verdict::Swallow
    }

    /// Tells the client of an error, whose body is `body`, in other words.
    fn reword(&mut self, batch: &mut Batch<'_>, body: &[u8], words: Words) {
        batch.gather();
        match words {
            Words::Ours(message) => error_response::put(batch.out, Severity::Error, &message),
            Words::Outdated { name, statement } => {
                error_response::put(batch.out, Severity::Error, &outdated());
                self.renew(&name, &statement);
            }
            Words::Renamed { from, to } => {
                error_response::put_renamed(batch.out, body, &from, &to);
            }
        }
    }

    /// The statement of the Bind or Describe that just failed, if it was one.
    fn failed_use(&mut self) -> Option<Arc<Given>> {
        let Link::Linked(linked) = &mut self.link else { return None };
        match linked.checkout.server()?.exchange.failed() {
            Some(Undo::Uses(given)) => Some(Arc::clone(given)),
            _ => None,
        }
    }

    /// The server does not have a statement after all: something took it that no text shows.
    fn lost_statement(&mut self, given: &Given) {
        let Link::Linked(linked) = &mut self.link else { return };
        let Some(server) = linked.checkout.server() else { return };
        server.statements.remove(&given.statement);
    }
}

/// PostgreSQL's words where there is no unnamed statement. What stands for the client's has a name on the server.
fn no_unnamed() -> ClientMessage {
    let text = "unnamed prepared statement does not exist";
    ClientMessage::new(sqlstate::INVALID_STATEMENT_NAME, text).routine("exec_bind_message")
}

/// Something was sent into a copy that has no place there: the server ends the connection for it.
fn loses_track(fields: &ErrorFields<'_>) -> bool {
    fields.sqlstate == Some(sqlstate::PROTOCOL_VIOLATION) && fields.routine == Some(b"CopyGetData")
}

/// What an error tells of the copy that it ends, if it ends one.
fn end_of_copy(fields: &ErrorFields<'_>) -> CopyEnd {
    // A cancel has the same code, but comes from elsewhere.
    let is_copy_fail =
        fields.routine == Some(b"CopyGetData") && fields.sqlstate == Some(sqlstate::QUERY_CANCELED);
    if is_copy_fail { CopyEnd::GivenUp } else { CopyEnd::Failed }
}

/// True for the error of a statement that was cancelled.
fn is_cancel(fields: &ErrorFields<'_>) -> bool {
    // What a CopyFail ends has the same code.
    fields.sqlstate == Some(sqlstate::QUERY_CANCELED) && end_of_copy(fields) != CopyEnd::GivenUp
}
