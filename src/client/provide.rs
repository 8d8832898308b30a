//! What a client's Bind or Describe needs on a server that may never have seen its statement.

use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;

use super::batch::Batch;
use super::from_client::note_traits;
use super::link::{Replacement, Words};
use super::names::{Prepared, change_unnamed, drop_unnamed};
use super::prepared::Desk;
use super::reread::Reading;
use super::shapes::outdated;
use crate::pool::Pool;
use crate::server::exchange::{Request, Segment, Verdict};
use crate::server::fate::Effect;
use crate::server::shape::{Describes, Why};
use crate::server::statements::{Evicted, Presence};
use crate::server::store::{Scope, Statement, is_reserved};
use crate::server::undo::{Given, Undo};
use crate::server::unnamed::{Unnamed, UnnamedParse};
use crate::telemetry::counters::StatementOutcome;
use crate::wire::backend::TxStatus;
use crate::wire::frontend;
use crate::wire::sqlstate;

/// What a Bind or a Describe names.
pub(super) enum Name {
    /// The unnamed one, where it is a server's unnamed one too.
    Unnamed,
    /// One that the client has parsed, and that servers have under a name of ours.
    Of(Arc<Given>),
    /// One that SQL's PREPARE has made, or none.
    OfSql,
    /// None, though a server may have one that is called so.
    Unknown,
}

impl Name {
    /// What a client means by `name`.
    pub(super) fn of(prepared: &Prepared, name: &[u8]) -> Self {
        match prepared.used(name) {
            Some(given) => Self::Of(given),
            None if name.is_empty() => Self::Unnamed,
            None => Self::OfSql,
        }
    }

    /// The name to put in the place of the client's; `None` if that stands.
    pub(super) fn on_server(&self) -> Option<&str> {
        match self {
            Self::Unnamed | Self::OfSql => None,
            Self::Of(given) => Some(given.statement.name()),
            Self::Unknown => Some(UNKNOWN),
        }
    }

    /// The statement, if the client has parsed one.
    pub(super) fn statement<'a>(&'a self, prepared: &'a Prepared) -> Option<&'a Arc<Statement>> {
        match self {
            Self::Unnamed => prepared.unnamed.as_ref().map(|parse| &parse.statement),
            Self::Of(given) => Some(&given.statement),
            Self::OfSql | Self::Unknown => None,
        }
    }

    /// What is noted of a message that uses it.
    pub(super) fn into_undo(self) -> Option<Undo> {
        match self {
            Self::Of(given) => Some(Undo::Uses(given)),
            Self::Unnamed | Self::OfSql | Self::Unknown => None,
        }
    }
}

/// What no statement is called.
pub(super) const UNKNOWN: &str = "pgweir_unknown";

/// Where the clients of a pool parse.
pub(super) fn scope_of(pool: &Pool) -> Scope<'_> {
    Scope { database: &pool.database, domain: &pool.domain, user: &pool.user }
}

impl Desk<'_> {
    /// Makes sure that the server has the statement that the client calls `name`, which is `found`, and
    /// says which it is then. `None`: what the server has made of it has to be known first.
    pub(super) fn provide(
        &mut self,
        batch: &mut Batch<'_>,
        name: &[u8],
        mut found: Name,
    ) -> Option<Name> {
        if self.renew_untried(name, &found) {
            found = Name::of(self.prepared, name);
        }
        if self.tell_outdated(batch, name, &found) {
            // Skipped, by whatever name.
            return Some(found);
        }
        match &found {
            Name::Unnamed => self.provide_unnamed(batch).then_some(found),
            Name::Of(given) => {
                let statement = &given.statement;
                self.server.note_text(statement.text());
                if !self.ensure(batch, given) {
                    return None;
                }
                note_traits(self.in_flight, self.server, statement.traits());
                Some(found)
            }
            Name::OfSql if is_reserved(name) => {
                // Another client's statement may be called so on the server.
                self.replacements.put(Replacement {
                    serial: self.server.exchange.next_serial(),
                    when: sqlstate::INVALID_STATEMENT_NAME,
                    with: Words::Renamed { from: UNKNOWN.as_bytes().into(), to: name.into() },
                });
                Some(Name::Unknown)
            }
            Name::OfSql | Name::Unknown => Some(found),
        }
    }

    /// A client that has only just parsed a text has been told nothing that could be other by now. True if
    /// what is called `name` is another statement from now on.
    fn renew_untried(&mut self, name: &[u8], found: &Name) -> bool {
        let Name::Of(given) = found else { return false };
        let is_it = given.statement.is_outdated() && given.is_untried();
        // A Parse that fails is taken back by the statement that it was of.
        if !is_it
            || self.in_flight.changes_meaning
            || self.prepared.is_being_parsed(name, self.server)
        {
            return false;
        }
        let fresh = self.store.renew(&given.statement, scope_of(self.pool), self.settings);
        self.prepared.replace_unheard(name, fresh);
        true
    }

    /// Tells the client that its statement takes or gives something else than it was told, as a server
    /// of its own would.
    fn tell_outdated(&mut self, batch: &mut Batch<'_>, name: &[u8], found: &Name) -> bool {
        let Some(statement) = found.statement(self.prepared) else { return false };
        let differs_here = self.differs.take_if(|differs| Arc::ptr_eq(differs, statement));
        if !statement.is_outdated() && differs_here.is_none() {
            return false;
        }
        let words = if !statement.is_outdated() && self.in_flight.changes_meaning {
            // With the transaction it may be what it was.
            Words::Ours(outdated())
        } else {
            Words::Outdated { name: name.into(), statement: Arc::clone(statement) }
        };
        self.refuse(batch, words);
        true
    }

    /// The server's unnamed statement may be another session's (pitfall P48). False if what it has
    /// made of it has to be known first.
    fn provide_unnamed(&mut self, batch: &mut Batch<'_>) -> bool {
        let Some(parse) = self.prepared.unnamed.clone() else {
            if !matches!(self.server.statements.unnamed, Unnamed::None) {
                let undo = drop_unnamed(self.prepared, self.server);
                batch.gather();
                frontend::put_close_statement(batch.out, b"");
                self.server.exchange.on_request(Request::Close(Verdict::Swallow), undo);
            }
            return true;
        };
        let traits = parse.statement.traits();
        self.server.note_text(parse.statement.text());
        let is_there = self.ensure_unnamed(batch, parse);
        if is_there {
            note_traits(self.in_flight, self.server, traits);
        }
        is_there
    }

    fn ensure_unnamed(&mut self, batch: &mut Batch<'_>, parse: UnnamedParse) -> bool {
        let unnamed = &mut self.server.statements.unnamed;
        if unnamed.is(&parse) {
            if matches!(unnamed, Unnamed::Once(_)) {
                *unnamed = Unnamed::Passing;
            }
            return true;
        }
        let statement = Arc::clone(&parse.statement);
        let (why, epoch) = (self.why(), self.epoch());
        let waits = self.must_wait(&statement, why, epoch);
        let reading = Reading::of(&statement, self.server, *self.in_flight);
        self.traffic.server_parses.increment();
        let known = match why {
            Why::ProvidedAside if waits => Unnamed::Once(parse.clone()),
            Why::ProvidedAside => Unnamed::Passing,
            Why::Asked | Why::Parsed | Why::Provided => Unnamed::Known(parse.clone()),
        };
        let serial = if reading == Reading::Apart {
            // Should it fail, there must be none.
            let serial = self.put_apart(batch, &statement, b"", &[b""]);
            self.server.statements.unnamed = known;
            self.server.statements.unnamed_since = serial;
            serial
        } else {
            self.put_executed(batch, &statement);
            if reading == Reading::Within {
                self.enter_context(batch, &statement);
            }
            batch.gather();
            frontend::put_parse(batch.out, b"", statement.rest());
            let serial = self.server.exchange.next_serial();
            let undo = change_unnamed(self.prepared, self.server, Some(parse), known);
            self.server.exchange.on_request(Request::Parse(Verdict::Swallow), Some(undo));
            serial
        };
        if reading == Reading::Within {
            self.leave_context(batch);
        }
        if statement.shape().is_some() {
            let name = Box::default();
            self.put_describe(batch, "", Describes { statement, name, why, serial, epoch });
        }
        self.wait_if(batch, waits)
    }

    /// Prepares a statement on the server unless it is there. False if what the server has made of it
    /// has to be known first.
    fn ensure(&mut self, batch: &mut Batch<'_>, given: &Given) -> bool {
        let statement = &given.statement;
        let presence = self.server.statements.touch(statement);
        if presence == Presence::Ready {
            self.traffic.statements.increment(StatementOutcome::Hit as usize);
            return true;
        }
        let mut why = self.why();
        if why == Why::Provided && given.is_untried() {
            why = Why::Parsed;
        }
        let epoch = self.epoch();
        let waits = self.must_wait(statement, why, epoch);
        let reading = Reading::of(statement, self.server, *self.in_flight);
        let serial = if reading == Reading::Apart {
            self.ensure_apart(batch, statement)
        } else {
            batch.gather();
            if let Some(outdated) = self.server.statements.take(statement) {
                self.close_on_server(batch, outdated);
            }
            self.make_room(batch);
            if reading == Reading::Within {
                self.enter_context(batch, statement);
            }
            let undo = |serial| Undo::Reparse { statement: Arc::clone(statement), serial };
            self.put_parse(batch, statement, Request::Parse(Verdict::Swallow), undo)
        };
        if why == Why::ProvidedAside {
            self.server.statements.insert_passing(Arc::clone(statement), serial);
            if !waits {
                // This is its use.
                self.server.statements.touch(statement);
            }
        }
        if reading == Reading::Within {
            self.leave_context(batch);
        }
        if why != Why::ProvidedAside || statement.shape().is_some() {
            let (name, on_server) = (given.name.clone(), statement.name());
            let statement = Arc::clone(statement);
            self.put_describe(batch, on_server, Describes { statement, name, why, serial, epoch });
        }
        self.wait_if(batch, waits)
    }

    /// Has the server read a statement in a transaction of its own, as the request of which the serial
    /// number is returned.
    fn ensure_apart(&mut self, batch: &mut Batch<'_>, statement: &Arc<Statement>) -> u64 {
        let statements = &mut self.server.statements;
        let mut gone: Vec<_> = statements.take(statement).into_iter().collect();
        while let Some(old) = statements.evict(self.most.saturating_sub(1)) {
            self.traffic.statements.increment(StatementOutcome::Evicted as usize);
            gone.push(old);
        }
        let closed: Vec<_> = gone.iter().map(|gone| gone.statement().name().as_bytes()).collect();
        let serial = self.put_apart(batch, statement, statement.name().as_bytes(), &closed);
        self.note_parsed(statement, serial);
        serial
    }

    /// Why a statement is prepared for who has parsed it before: tables or settings may be others
    /// inside a transaction.
    const fn why(&self) -> Why {
        if self.in_flight.changes_meaning { Why::ProvidedAside } else { Why::Provided }
    }

    /// How often tables were altered before what is sent now.
    pub(super) fn epoch(&self) -> u64 {
        self.store.epoch(&self.pool.database)
    }

    /// True if a statement must not be run before it is seen to be what its client was told: tables
    /// have been altered since, or it could not be undone.
    fn must_wait(&self, statement: &Statement, why: Why, epoch: u64) -> bool {
        let exchange = &self.server.exchange;
        let may_be_other = why == Why::ProvidedAside || statement.epoch() != epoch;
        let may_last = exchange.tx() == TxStatus::Idle
            && matches!(Effect::of(statement.traits()), Effect::Writes | Effect::Anything);
        statement.shape().is_some()
            // Who was told nothing misreads nothing.
            && why != Why::Parsed
            // What is skipped is answered by nobody.
            && exchange.segment() != Segment::Failed
            && (may_be_other || may_last)
    }

    /// Has everything answered before the message that is being dealt with; false if so.
    fn wait_if(&mut self, batch: &mut Batch<'_>, waits: bool) -> bool {
        if waits {
            frontend::put_flush(batch.out);
            *self.awaits_answers = true;
        }
        !waits
    }

    /// Prepares a statement, as the request of which the serial number is returned.
    pub(super) fn put_parse(
        &mut self,
        batch: &mut Batch<'_>,
        statement: &Arc<Statement>,
        request: Request,
        undo: impl FnOnce(u64) -> Undo,
    ) -> u64 {
        self.put_executed(batch, statement);
        if self.server.exchange.has_boundary() {
            // A Close of it that was sent before may be skipped.
            frontend::put_close_statement(batch.out, statement.name().as_bytes());
            self.server.exchange.on_request(Request::Close(Verdict::Swallow), None);
        }
        let serial = self.server.exchange.next_serial();
        self.note_parsed(statement, serial);
        frontend::put_parse(batch.out, statement.name().as_bytes(), statement.rest());
        self.server.exchange.on_request(request, Some(undo(serial)));
        serial
    }

    fn note_parsed(&mut self, statement: &Arc<Statement>, serial: u64) {
        self.traffic.statements.increment(StatementOutcome::Miss as usize);
        self.traffic.server_parses.increment();
        self.server.statements.insert(Arc::clone(statement), serial);
        let count = self.server.statements.len();
        self.server.record.prepared_statements.store(count, Relaxed);
    }

    /// Asks behind a Parse what the server has made of it, as the last of what is put in front of the
    /// client's message: whoever waits for it waits for nothing more. `name`: what it is called there.
    pub(super) fn put_describe(&mut self, batch: &mut Batch<'_>, name: &str, describes: Describes) {
        frontend::put_describe_statement(batch.out, name.as_bytes());
        let undo = Undo::Describes(Box::new(describes));
        self.server.exchange.on_request(Request::Describe(Verdict::Swallow), Some(undo));
    }

    /// Closes the least recently used statements until one more fits.
    pub(super) fn make_room(&mut self, batch: &mut Batch<'_>) {
        while let Some(old) = self.server.statements.evict(self.most.saturating_sub(1)) {
            self.traffic.statements.increment(StatementOutcome::Evicted as usize);
            self.close_on_server(batch, old);
        }
    }

    /// Closes a statement on the server. If that is skipped, the server has it still.
    pub(super) fn close_on_server(&mut self, batch: &mut Batch<'_>, gone: Evicted) {
        batch.gather();
        frontend::put_close_statement(batch.out, gone.statement().name().as_bytes());
        let undo = Undo::Evict(Box::new(gone));
        self.server.exchange.on_request(Request::Close(Verdict::Swallow), Some(undo));
    }
}
