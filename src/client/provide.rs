//! What a server lacks of a client's prepared statements is put on it, in front of what needs it.

use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;

use super::batch::Batch;
use super::from_client::note_traits;
use super::link::{Replacement, Words};
use super::names::{change_unnamed, drop_unnamed};
use super::prepared::Desk;
use super::reread::Reading;
use crate::server::exchange::{Request, Verdict};
use crate::server::statements::{Evicted, Presence, Statement, Undo, Unnamed, is_reserved};
use crate::telemetry::counters::StatementOutcome;
use crate::wire::{frontend, sqlstate};

/// What a statement is called on the server.
pub(super) enum Name {
    /// As the client calls it, which includes the unnamed one.
    AsItIs,
    Is(Box<str>),
}

/// What no statement is called.
const UNKNOWN: &str = "pgweir_unknown";

impl Desk<'_> {
    /// Makes sure that the server has the statement that the client calls `name`, and says what it
    /// is called there.
    pub(super) fn provide(&mut self, batch: &mut Batch<'_>, name: &[u8]) -> Name {
        if name.is_empty() {
            self.provide_unnamed(batch);
            return Name::AsItIs;
        }
        if let Some(given) = self.prepared.find(name) {
            let statement = Arc::clone(&given.statement);
            self.server.note_text(statement.text());
            self.ensure(batch, &statement);
            note_traits(self.in_flight, self.server, statement.traits());
            return Name::Is(statement.name().into());
        }
        if is_reserved(name) {
            // Another client's statement may be called so on the server.
            self.replacements.push(Replacement {
                serial: self.server.exchange.next_serial(),
                when: sqlstate::INVALID_STATEMENT_NAME,
                with: Words::Renamed { from: UNKNOWN.as_bytes().into(), to: name.into() },
            });
            return Name::Is(UNKNOWN.into());
        }
        Name::AsItIs
    }

    /// The server's unnamed statement may be another session's (pitfall P48).
    fn provide_unnamed(&mut self, batch: &mut Batch<'_>) {
        let Some(parse) = self.prepared.unnamed.clone() else {
            if matches!(self.server.statements.unnamed, Unnamed::None) {
                return;
            }
            let undo = drop_unnamed(self.prepared, self.server);
            batch.gather();
            frontend::put_close_statement(batch.out, b"");
            self.server.exchange.on_request(Request::Close(Verdict::Swallow), undo);
            return;
        };
        let statement = Arc::clone(&parse.statement);
        self.server.note_text(statement.text());
        let in_flight = *self.in_flight;
        note_traits(self.in_flight, self.server, statement.traits());
        if self.server.statements.unnamed.is(&parse) {
            return;
        }
        self.stats.server_parses.increment();
        let reading = Reading::of(&statement, self.server, in_flight);
        let known = if in_flight.changes_meaning {
            Unnamed::Passing
        } else {
            Unnamed::Known(parse.clone())
        };
        if reading == Reading::Apart {
            // Should it fail, there must be none.
            let serial = self.put_apart(batch, &statement, b"", &[b""]);
            self.server.statements.unnamed = known;
            self.server.statements.unnamed_since = serial;
            return;
        }
        self.put_executed(batch, &statement);
        if reading == Reading::Within {
            self.enter_context(batch, &statement);
        }
        batch.gather();
        frontend::put_parse(batch.out, b"", statement.rest());
        let undo = change_unnamed(self.prepared, self.server, Some(parse), known);
        self.server.exchange.on_request(Request::Parse(Verdict::Swallow), Some(undo));
        if reading == Reading::Within {
            self.leave_context(batch);
        }
    }

    /// Prepares a statement on the server unless it is there.
    fn ensure(&mut self, batch: &mut Batch<'_>, statement: &Arc<Statement>) {
        let presence = self.server.statements.touch(statement);
        if presence == Presence::Ready {
            self.stats.statements.increment(StatementOutcome::Hit as usize);
            return;
        }
        let reading = Reading::of(statement, self.server, *self.in_flight);
        if reading == Reading::Apart {
            return self.ensure_apart(batch, statement);
        }
        batch.gather();
        if let Some(outdated) = self.server.statements.take(statement) {
            self.close_on_server(batch, outdated);
        }
        self.make_room(batch);
        if reading == Reading::Within {
            self.enter_context(batch, statement);
        }
        let undo = |serial| Undo::Reparse { statement: Arc::clone(statement), serial };
        self.put_parse(batch, statement, Request::Parse(Verdict::Swallow), undo);
        if reading == Reading::Within {
            self.leave_context(batch);
        }
    }

    /// The same in a transaction of its own.
    fn ensure_apart(&mut self, batch: &mut Batch<'_>, statement: &Arc<Statement>) {
        let statements = &mut self.server.statements;
        let mut gone: Vec<_> = statements.take(statement).into_iter().collect();
        while let Some(old) = statements.evict(self.most.saturating_sub(1)) {
            self.stats.statements.increment(StatementOutcome::Evicted as usize);
            gone.push(old);
        }
        let closed: Vec<_> = gone.iter().map(|gone| gone.statement().name().as_bytes()).collect();
        let serial = self.put_apart(batch, statement, statement.name().as_bytes(), &closed);
        self.note_parsed(statement, serial, self.in_flight.changes_meaning);
    }

    pub(super) fn put_parse(
        &mut self,
        batch: &mut Batch<'_>,
        statement: &Arc<Statement>,
        request: Request,
        undo: impl FnOnce(u64) -> Undo,
    ) {
        self.put_executed(batch, statement);
        if self.server.exchange.has_boundary() {
            // A Close of it that was sent before may be skipped.
            frontend::put_close_statement(batch.out, statement.name().as_bytes());
            self.server.exchange.on_request(Request::Close(Verdict::Swallow), None);
        }
        let serial = self.server.exchange.next_serial();
        // A Parse of ours comes where the client's never was.
        let is_ours = request == Request::Parse(Verdict::Swallow);
        self.note_parsed(statement, serial, is_ours && self.in_flight.changes_meaning);
        frontend::put_parse(batch.out, statement.name().as_bytes(), statement.rest());
        self.server.exchange.on_request(request, Some(undo(serial)));
    }

    fn note_parsed(&mut self, statement: &Arc<Statement>, serial: u64, is_passing: bool) {
        self.stats.statements.increment(StatementOutcome::Miss as usize);
        self.stats.server_parses.increment();
        let statements = &mut self.server.statements;
        if is_passing {
            statements.insert_passing(Arc::clone(statement), serial);
        } else {
            statements.insert(Arc::clone(statement), serial);
        }
        self.server.record.prepared_statements.store(statements.len(), Relaxed);
    }

    /// Closes the least recently used statements until one more fits.
    pub(super) fn make_room(&mut self, batch: &mut Batch<'_>) {
        while let Some(old) = self.server.statements.evict(self.most.saturating_sub(1)) {
            self.stats.statements.increment(StatementOutcome::Evicted as usize);
            self.close_on_server(batch, old);
        }
    }

    /// Closes a statement on the server. If that is skipped, the server has it still.
    pub(super) fn close_on_server(&mut self, batch: &mut Batch<'_>, gone: Evicted) {
        batch.gather();
        frontend::put_close_statement(batch.out, gone.statement().name().as_bytes());
        let undo = Undo::Evict(gone);
        self.server.exchange.on_request(Request::Close(Verdict::Swallow), Some(undo));
    }
}
