//! The times that a session may take for what it does, and what happens when they are over.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;

use super::link::{LAST_WORDS, Link, Linked};
use super::serve::{End, Session};
use crate::config::{PoolSettings, format_duration, format_millis};
use crate::error::{ClientMessage, Fault, SqlState};
use crate::pool::CheckoutError;
use crate::server::exchange::{Request, Segment, Verdict};
use crate::telemetry::counters::CloseReason;
use crate::wire::backend::TxStatus;
use crate::wire::error_response::{self, Severity};
use crate::wire::{frontend, sqlstate};

/// How long a server may take to heed a cancel before it is closed.
const CANCEL_GRACE: Duration = Duration::from_secs(5);

/// How long a server waits behind a Flush for what comes after a Parse: longer than any client that
/// means to go on takes, and no burden on others.
const PREPARED_LINGER: Duration = Duration::from_millis(20);

/// `transaction_timeout` (PostgreSQL 17 has a code for it).
const TRANSACTION_TIMEOUT: SqlState = SqlState(*b"25P04");

/// A time that is over.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Over {
    ClientIdle,
    WaitNotice,
    Wait,
    Query,
    /// The server did not heed the cancel of a `query_timeout`.
    Cancel,
    Transaction,
    IdleInTransaction,
    Flush,
    /// Nothing came from a server to which nothing can be written.
    LastWords,
    /// Statements were prepared, with no Sync behind them and nothing more since.
    Prepared,
}

impl Session {
    /// Sets the alarm to the first of the times that run now.
    pub(super) fn set_alarm(&mut self) {
        // Most polls end here: nothing runs for a client that may idle for ever, nor for one that may take as
        // long as it likes.
        let is_timed = match &self.link {
            Link::Free => self.begun.is_some(),
            Link::Linked(linked) => linked.is_timed(&self.rules),
            Link::StandIn(_) | Link::Waiting(_) | Link::Proving { .. } | Link::Doubting(_) => true,
        };
        debug_assert!(
            is_timed || self.idle_timeout.is_some() || self.deadlines().iter().all(Option::is_none),
            "a time runs that is_timed does not know"
        );
        if !is_timed && self.idle_timeout.is_none() {
            return self.alarm.set(None);
        }
        let deadline = self.deadlines().into_iter().flatten().map(|(at, _)| at).min();
        self.alarm.set(deadline);
    }

    /// The times that run now, at most four at once.
    fn deadlines(&self) -> [Option<(Instant, Over)>; 4] {
        let after = |since: Instant, limit: Option<Duration>, over: Over| {
            limit.map(|limit| (since + limit, over))
        };
        match &self.link {
            // In a block, whether a server knows of it or not.
            Link::Free if self.begun.is_some() => {
                let limit = self.rules.idle_in_transaction_timeout;
                [after(self.idle_since, limit, Over::IdleInTransaction), None, None, None]
            }
            Link::Free | Link::StandIn(_) => {
                [after(self.idle_since, self.idle_timeout, Over::ClientIdle), None, None, None]
            }
            Link::Doubting(_) => [None; 4],
            Link::Proving { since, .. } => {
                let until = self.pool.wait_until(*since, self.rules.timeout);
                [Some((until, Over::Wait)), None, None, None]
            }
            Link::Waiting(waiting) => {
                let notice = self.rules.wait_notice.filter(|_| !waiting.was_told);
                [
                    Some((self.pool.wait_until(waiting.since, self.rules.timeout), Over::Wait)),
                    after(waiting.since, notice, Over::WaitNotice),
                    None,
                    None,
                ]
            }
            Link::Linked(linked) => self.linked_deadlines(linked, after),
        }
    }

    fn linked_deadlines(
        &self,
        linked: &Linked,
        after: impl Fn(Instant, Option<Duration>, Over) -> Option<(Instant, Over)>,
    ) -> [Option<(Instant, Over)>; 4] {
        let Some(server) = linked.checkout.peek() else { return [None; 4] };
        // While the client does not take its answers, nothing is read from the server.
        if let Some(since) = linked.broken_since
            && self.outbox.is_empty()
        {
            return [Some((since + LAST_WORDS, Over::LastWords)), None, None, None];
        }
        // Who is leaving waits for nothing else.
        if let Some(since) = linked.ends_since
            && linked.is_leaving
            && linked.is_to_end()
        {
            return [Some((since + LAST_WORDS, Over::LastWords)), None, None, None];
        }
        let rules = &self.rules;
        let query = match (linked.cancel_sent, linked.request_since) {
            // The client has all its answers, and thinks.
            _ if server.exchange.is_held_open() => None,
            (Some(sent), _) => Some((sent + CANCEL_GRACE, Over::Cancel)),
            (None, Some(since)) => {
                after(since.max(linked.quiet_since), rules.query_timeout, Over::Query)
            }
            (None, None) => None,
        };
        let in_block = server.exchange.tx() != TxStatus::Idle;
        let transaction =
            rules.transaction_timeout.filter(|_| in_block || linked.request_since.is_some());
        // One that has failed is not ended for the client: what follows is to be skipped.
        let has_only_prepared =
            server.exchange.segment() == Segment::Open && !linked.in_flight.has_bound && !in_block;
        let is_held_open = server.exchange.is_held_open() && !self.is_session_mode();
        let quiet = if is_held_open && has_only_prepared {
            Some((linked.quiet_since + PREPARED_LINGER, Over::Prepared))
        } else if is_held_open {
            after(linked.quiet_since, Some(self.context.config.listen.flush_timeout), Over::Flush)
        } else if in_block && linked.is_settled() {
            let limit = rules.idle_in_transaction_timeout;
            after(linked.quiet_since, limit, Over::IdleInTransaction)
        } else {
            None
        };
        let idle = self.idle_timeout.filter(|_| !in_block && linked.is_settled());
        [
            query,
            after(linked.since, transaction, Over::Transaction),
            quiet,
            after(linked.quiet_since, idle, Over::ClientIdle),
        ]
    }

    /// Does what the times that are over call for.
    pub(super) fn on_alarm(&mut self) -> Result<(), End> {
        let now = Instant::now();
        for (at, over) in self.deadlines().into_iter().flatten() {
            if at <= now {
                self.on_over(over, now)?;
            }
        }
        Ok(())
    }

    fn on_over(&mut self, over: Over, now: Instant) -> Result<(), End> {
        match over {
            Over::ClientIdle => Err(fatal(
                sqlstate::IDLE_SESSION_TIMEOUT,
                "client_idle_timeout: the client was idle for too long",
            )),
            Over::WaitNotice => {
                self.tell_of_wait(now);
                Ok(())
            }
            Over::Wait => {
                let error = if matches!(self.link, Link::Proving { .. }) {
                    let domain = Arc::clone(&self.pool.domain);
                    CheckoutError::Silent { domain, after: self.rules.timeout }
                } else {
                    self.pool.timeout_error(self.rules.timeout)
                };
                self.on_checkout_error(&error);
                Ok(())
            }
            Over::Query => {
                self.cancel_query(now);
                Ok(())
            }
            Over::Cancel => {
                self.give_up_server(&held_too_long(sqlstate::QUERY_CANCELED, "query_timeout"))
            }
            Over::Transaction => {
                self.give_up_server(&held_too_long(TRANSACTION_TIMEOUT, "transaction_timeout"))
            }
            Over::IdleInTransaction => {
                self.close_server(CloseReason::Timeout);
                let code = sqlstate::IDLE_IN_TRANSACTION_TIMEOUT;
                let message = held_too_long(code, "idle_in_transaction_timeout");
                Err(End::fatal(Fault::Proxy, message))
            }
            // It is given up where it is read from.
            Over::LastWords => Ok(()),
            Over::Prepared => {
                self.sync_for_client();
                Ok(())
            }
            Over::Flush => {
                self.give_up_server(&held_too_long(sqlstate::IDLE_SESSION_TIMEOUT, "flush_timeout"))
            }
        }
    }

    /// Tells a client that has waited for long that it is waiting.
    fn tell_of_wait(&mut self, now: Instant) {
        let Link::Waiting(waiting) = &mut self.link else { return };
        waiting.was_told = true;
        let waited = now.saturating_duration_since(waiting.since);
        error_response::put(&mut self.outbox, Severity::Notice, &is_waiting(waited));
    }

    /// `query_timeout`: the server is asked to stop, and its error is put into words of ours.
    fn cancel_query(&mut self, now: Instant) {
        let Link::Linked(linked) = &mut self.link else { return };
        let Some(server) = linked.checkout.server() else { return };
        linked.cancel_sent = Some(now);
        self.pool.cancel(&server.record, Vec::new());
    }

    /// Ends a segment in the client's place that has only prepared something: nobody can tell, and
    /// the server is free for others. Drivers that prepare ahead (asyncpg) leave it open (P28, P89).
    fn sync_for_client(&mut self) {
        let Link::Linked(linked) = &mut self.link else { return };
        let Some(server) = linked.checkout.server() else { return };
        server.exchange.on_request(Request::Simple(Verdict::Swallow), None);
        linked.has_unread = false;
        frontend::put_sync(&mut server.outbox);
    }
}

impl Linked {
    /// False only if none of the times runs that [`Session::linked_deadlines`] knows, but for the client's.
    fn is_timed(&self, rules: &PoolSettings) -> bool {
        rules.query_timeout.is_some()
            || rules.transaction_timeout.is_some()
            || rules.idle_in_transaction_timeout.is_some()
            || self.broken_since.is_some()
            || self.ends_since.is_some()
            || self.cancel_sent.is_some()
            || self.checkout.peek().is_some_and(|server| server.exchange.is_held_open())
    }
}

/// What a client is told that has waited for a server for this long.
pub(super) fn is_waiting(waited: Duration) -> ClientMessage {
    ClientMessage::new(
        SqlState(*b"00000"),
        "No server connection available in postgres backend, client being queued",
    )
    .detail(format!("waiting for {}", format_millis(waited)))
}

/// What a client is told whose statement was cancelled for `query_timeout`.
pub(super) fn query_took_too_long(limit: Duration) -> ClientMessage {
    let text = format!("query_timeout: the statement took longer than {}", format_duration(limit));
    ClientMessage::new(sqlstate::QUERY_CANCELED, text)
}

fn held_too_long(code: SqlState, setting: &str) -> ClientMessage {
    ClientMessage::new(code, format!("{setting}: the session held its server for too long"))
        .hint(format!("Raise {setting}, or end sooner."))
}

fn fatal(code: SqlState, message: impl Into<String>) -> End {
    End::fatal(Fault::Proxy, ClientMessage::new(code, message))
}
