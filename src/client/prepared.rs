//! Prepared statements of a session whose servers change: the client's names, and what goes to the
//! server in their place.

use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;

use super::batch::Batch;
use super::first_use::FirstUse;
use super::from_client::{Frame, Next};
use super::held::About;
use super::link::{Deeds, InFlight, Link, Portals, Replacement, Replacements, Words};
use super::names::{Named, Prepared, change_unnamed, drop_unnamed, key, take_back};
use super::naming::Naming;
use super::provide::{Name, scope_of};
use super::resets::Restores;
use super::serve::{End, Session};
use crate::pool::Pool;
use crate::server::Server;
use crate::server::exchange::{MadeUp, Request, Verdict};
use crate::server::shape::{Describes, Why};
use crate::server::statements::Presence;
use crate::server::store::{Statement, Store};
use crate::server::undo::{Given, Undo};
use crate::server::unnamed::{Unnamed, UnnamedParse};
use crate::state::settings::Settings;
use crate::telemetry::counters::StatementOutcome;
use crate::telemetry::traffic::Traffic;
use crate::wire::frontend::{self, Target};
use crate::wire::sqlstate;

/// What a statement frame is dealt with by: the parts of a linked session, borrowed apart.
pub(super) struct Desk<'a> {
    pub(super) prepared: &'a mut Prepared,
    pub(super) server: &'a mut Server,
    pub(super) in_flight: &'a mut InFlight,
    pub(super) portals: &'a mut Portals,
    pub(super) naming: &'a mut Option<Box<Naming>>,
    pub(super) replacements: &'a mut Replacements,
    restores: &'a mut Restores,
    pub(super) awaits_answers: &'a mut bool,
    pub(super) differs: &'a mut Option<Arc<Statement>>,
    pub(super) first_use: &'a mut Option<Box<FirstUse>>,
    pub(super) has_unread: &'a mut bool,
    pub(super) settings: &'a Arc<Settings>,
    pub(super) store: &'a Store,
    pub(super) pool: &'a Pool,
    pub(super) traffic: &'a Traffic,
    /// Statements that a server may have.
    pub(super) most: usize,
    /// Unnamed statements may have names there.
    pub(super) reuses: bool,
}

impl Session {
    /// A Parse, Bind, Describe or Close.
    pub(super) fn on_statement_frame(
        &mut self,
        batch: &mut Batch<'_>,
        frame: Frame<'_>,
    ) -> Result<Next, End> {
        let Some(about) = About::read(frame, &self.prepared) else {
            return self.pass_malformed(batch, frame);
        };
        if self.must_await_answers(Some(&about)) {
            batch.gather();
            frontend::put_flush(batch.out);
            return Ok(Next::Hold);
        }
        let next = match about {
            About::Parse(parse) => self.on_parse(batch, frame, &parse),
            About::Bind(bind, used) => self.on_bind(batch, frame, bind, used),
            About::DescribeStatement(name, used) => self.on_describe(batch, frame, name, used),
            About::DescribePortal => self.on_describe_portal(batch, frame),
            About::Close(named) => self.on_close(batch, frame, named),
        };
        if let Link::Linked(linked) = &mut self.link
            && linked.checkout.server().is_some_and(|server| server.exchange.has_undone())
        {
            self.undo();
        }
        self.alter();
        let count = self.prepared.len();
        self.record().prepared_statements.store(count, Relaxed);
        Ok(next)
    }

    pub(super) fn desk(&mut self) -> Option<Desk<'_>> {
        let Link::Linked(linked) = &mut self.link else { return None };
        Some(Desk {
            prepared: &mut self.prepared,
            server: linked.checkout.server()?,
            in_flight: &mut linked.in_flight,
            portals: &mut linked.portals,
            naming: &mut linked.naming,
            replacements: &mut linked.replacements,
            restores: &mut linked.restores,
            awaits_answers: &mut linked.awaits.answers,
            differs: &mut linked.differs,
            first_use: &mut linked.first_use,
            has_unread: &mut linked.has_unread,
            settings: &self.settings,
            store: &self.context.store,
            pool: &self.pool,
            traffic: &self.traffic,
            most: self.rules.prepared_statements,
            reuses: self.rules.reuse_unnamed,
        })
    }

    fn on_parse(
        &mut self,
        batch: &mut Batch<'_>,
        frame: Frame<'_>,
        parse: &frontend::Parse<'_>,
    ) -> Next {
        let max = self.context.config.listen.max_statements_per_client;
        let Some(mut desk) = self.desk() else { return Next::Go };
        desk.traffic.client_parses.increment();
        desk.server.note_text(parse.text);
        if parse.name.is_empty() {
            if desk.parse_shared(batch, frame, parse) {
                return Next::Go;
            }
            if desk.parse_unnamed(batch, parse) {
                batch.pass(frame.available);
            } else {
                batch.swallow(frame.available);
            }
            return Next::Go;
        }
        batch.swallow(frame.available);
        if desk.prepared.find(parse.name).is_some() {
            desk.parse_again(batch, parse);
            return Next::Go;
        }
        if let Err(message) = desk.prepared.check_room(max) {
            desk.refuse(batch, Words::Ours(message));
            return Next::Go;
        }
        let statement = if desk.in_flight.changes_meaning {
            desk.store.private(parse.rest, None)
        } else {
            desk.store.statement(scope_of(desk.pool), parse.rest, desk.settings)
        };
        if desk.refuse_hidden(batch, &statement) {
            return Next::Go;
        }
        if desk.server.statements.has_own_name(key(parse.name)) {
            desk.ask_for_name(batch, parse.name);
        }
        desk.parse_named(batch, parse.name, &statement);
        Next::Go
    }

    fn on_bind(
        &mut self,
        batch: &mut Batch<'_>,
        frame: Frame<'_>,
        bind: frontend::Bind<'_>,
        used: Name,
    ) -> Next {
        let Some(mut desk) = self.desk() else { return Next::Go };
        if *desk.has_unread {
            let traits = used.statement(desk.prepared).map(|statement| statement.traits());
            desk.read_unread(batch, traits);
        }
        let Some(name) = desk.provide(batch, bind.statement, used) else { return Next::Hold };
        desk.note_first_use(batch, &name);
        desk.traffic.binds.increment();
        let statement = name.statement(desk.prepared);
        let deeds = statement.map_or(Deeds::PREPARED_BY_SQL, |bound| Deeds::of(bound.traits()));
        desk.portals.bind(bind.portal, deeds);
        let affects = desk.note_bound(batch, &name, bind.portal);
        let rest = frame.head.len - frame.available;
        match name.on_server() {
            None => batch.pass(frame.available),
            Some(name) => {
                let tail = frame.head.len - crate::wire::frame::HEAD - bind.names_len;
                batch.gather();
                frontend::put_bind_names(batch.out, bind.portal, name.as_bytes(), tail);
                let body = frame.body.get(bind.names_len..).unwrap_or_default();
                batch.out.extend_from_slice(body);
                batch.swallow(frame.available);
            }
        }
        desk.server.exchange.on_request(Request::Bind, name.into_undo());
        self.client_rest = rest;
        if let Some(statement) = affects {
            self.note_affected_by(statement.text());
        }
        Next::Go
    }

    fn on_describe(
        &mut self,
        batch: &mut Batch<'_>,
        frame: Frame<'_>,
        name: &[u8],
        used: Name,
    ) -> Next {
        let Some(mut desk) = self.desk() else { return Next::Go };
        let Some(name) = desk.provide(batch, name, used) else { return Next::Hold };
        desk.note_first_use(batch, &name);
        match name.on_server() {
            None => batch.pass(frame.available),
            Some(name) => {
                batch.swallow(frame.available);
                frontend::put_describe_statement(batch.out, name.as_bytes());
            }
        }
        let undo = desk.undo_of_describe(name);
        desk.server.exchange.on_request(Request::Describe(Verdict::Forward), undo);
        Next::Go
    }

    fn on_describe_portal(&mut self, batch: &mut Batch<'_>, frame: Frame<'_>) -> Next {
        let Link::Linked(linked) = &mut self.link else { return Next::Go };
        let Some(server) = linked.checkout.server() else { return Next::Go };
        server.exchange.on_request(Request::Describe(Verdict::Forward), None);
        batch.pass(frame.available);
        Next::Go
    }

    fn on_close(
        &mut self,
        batch: &mut Batch<'_>,
        frame: Frame<'_>,
        named: frontend::Named<'_>,
    ) -> Next {
        let Some(desk) = self.desk() else { return Next::Go };
        match named.target {
            Target::Statement if !named.name.is_empty() => {
                // Others may use it: on the server it stays until it is the least recently used.
                let undo = desk.prepared.remove(named.name).map(Undo::Close);
                if desk.server.statements.has_own_name(key(named.name)) {
                    desk.server.exchange.on_request(Request::Close(Verdict::Forward), undo);
                    batch.pass(frame.available);
                } else {
                    let made_up = Request::MadeUp(MadeUp::CloseComplete);
                    desk.server.exchange.on_request(made_up, undo);
                    batch.swallow(frame.available);
                }
            }
            target @ (Target::Statement | Target::Portal) => {
                let undo = match target {
                    Target::Statement => drop_unnamed(desk.prepared, desk.server),
                    Target::Portal => None,
                };
                desk.server.exchange.on_request(Request::Close(Verdict::Forward), undo);
                batch.pass(frame.available);
            }
        }
        Next::Go
    }

    /// Takes back what was noted of messages that came to nothing.
    pub(super) fn undo(&mut self) {
        let Link::Linked(linked) = &mut self.link else { return };
        let Some(server) = linked.checkout.server() else { return };
        let undone: Vec<_> = server.exchange.take_undone().collect();
        for undone in undone {
            take_back(&mut self.prepared, server, undone);
        }
    }
}

/// A statement of a server's that stands for one whose name a client has given already.
const TAKEN: &[u8] = b"pgweir_taken";

/// A statement that is never prepared.
const REFUSED: &[u8] = b"pgweir_refused";

impl Desk<'_> {
    /// False if the server is not to get it.
    fn parse_unnamed(&mut self, batch: &mut Batch<'_>, parse: &frontend::Parse<'_>) -> bool {
        let is_known = !self.in_flight.changes_meaning;
        let under = is_known.then_some(self.settings);
        let is_same = |old: &&UnnamedParse| {
            let is_under = match (old.statement.under(), under) {
                (Some(old), Some(under)) => Arc::ptr_eq(old, under),
                (None, None) => true,
                (Some(_), None) | (None, Some(_)) => false,
            };
            is_under
                && !old.statement.is_shared()
                && old.statement.rest() == parse.rest
                && !old.statement.is_outdated()
        };
        // The same text once more costs no allocation. What it names may be another by now.
        let same = self.prepared.unnamed.as_ref().filter(is_same);
        let same = same.filter(|old| !old.statement.traits().names_statements());
        let same = same.map(|old| Arc::clone(&old.statement));
        let statement =
            same.unwrap_or_else(|| self.store.private(parse.rest, under.map(Arc::clone)));
        if self.refuse_hidden(batch, &statement) {
            return false;
        }
        self.traffic.server_parses.increment();
        self.put_executed(batch, &statement);
        let parse = self.prepared.parse_unnamed(statement);
        let known = Unnamed::Known(parse.clone());
        let undo = change_unnamed(self.prepared, self.server, Some(parse), known);
        self.server.exchange.on_request(Request::Parse(Verdict::Forward), Some(undo));
        true
    }

    fn parse_named(&mut self, batch: &mut Batch<'_>, name: &[u8], statement: &Arc<Statement>) {
        let presence = self.server.statements.touch(statement);
        let may_make_up = presence == Presence::Ready
            && self.server.exchange.may_make_up()
            && !self.in_flight.deallocates
            && !self.in_flight.is_first_of_block(self.server.exchange.tx())
            && !statement.draws_notice();
        let serial = self.server.exchange.next_serial();
        let given = Arc::new(if may_make_up {
            self.note_unread(statement);
            Given::untried(name, Arc::clone(statement))
        } else {
            Given::new(name, Arc::clone(statement))
        });
        self.prepared.insert(Named::new(Arc::clone(&given), self.server.id(), serial));
        let undo = |sent| Undo::Parse { given, sent };
        if may_make_up {
            let undo = undo(None);
            self.traffic.statements.increment(StatementOutcome::Hit as usize);
            self.server.exchange.on_request(Request::MadeUp(MadeUp::ParseComplete), Some(undo));
            return;
        }
        self.make_room_for(batch, statement);
        self.put_first_parse(batch, name, statement, |serial| undo(Some(serial)));
    }

    /// Sees to it that a statement can be prepared on the server.
    pub(super) fn make_room_for(&mut self, batch: &mut Batch<'_>, statement: &Statement) {
        // Only the server knows whether it would take it now (pitfall P54): prepared anew.
        if let Some(gone) = self.server.statements.take(statement) {
            self.close_on_server(batch, gone);
        }
        self.make_room(batch);
    }

    /// Has a statement prepared for the client, which calls it `name` and hears the answer.
    pub(super) fn put_first_parse(
        &mut self,
        batch: &mut Batch<'_>,
        name: &[u8],
        statement: &Arc<Statement>,
        undo: impl FnOnce(u64) -> Undo,
    ) {
        let epoch = self.epoch();
        let serial = self.put_parse(batch, statement, Request::Parse(Verdict::Forward), undo);
        let (on_server, statement) = (statement.name(), Arc::clone(statement));
        let (name, why) = (name.into(), Why::Parsed);
        self.put_describe(batch, on_server, Describes { statement, name, why, serial, epoch });
    }

    /// A Parse under a name that is taken: the server is made to refuse it as it would have.
    fn parse_again(&mut self, batch: &mut Batch<'_>, parse: &frontend::Parse<'_>) {
        self.put_placeholder(batch, TAKEN);
        self.replacements.put(Replacement {
            serial: self.server.exchange.next_serial(),
            when: sqlstate::DUPLICATE_STATEMENT,
            with: Words::Renamed { from: TAKEN.into(), to: parse.name.into() },
        });
        frontend::put_parse(batch.out, TAKEN, parse.rest);
        self.server.exchange.on_request(Request::Parse(Verdict::Forward), None);
    }

    /// Makes the server have a statement that is called `name`, whatever it has had. One without text
    /// is prepared even in a block that has failed.
    fn put_placeholder(&mut self, batch: &mut Batch<'_>, name: &[u8]) {
        batch.gather();
        frontend::put_close_statement(batch.out, name);
        self.server.exchange.on_request(Request::Close(Verdict::Swallow), None);
        frontend::put_parse(batch.out, name, b"\0\0\0");
        self.server.exchange.on_request(Request::Parse(Verdict::Swallow), None);
    }

    /// Fails the segment in words of ours: the server is made to fail, so that it skips to the Sync
    /// and a block has failed, and its words are replaced.
    pub(super) fn refuse(&mut self, batch: &mut Batch<'_>, with: Words) {
        self.replacements.put(Replacement {
            serial: self.server.exchange.next_serial(),
            when: sqlstate::SYNTAX_ERROR,
            with,
        });
        batch.gather();
        frontend::put_parse(batch.out, REFUSED, b"refused by pgweir\0\0\0");
        self.server.exchange.on_request(Request::Parse(Verdict::Forward), None);
    }

    /// What is noted of a Describe of a statement.
    fn undo_of_describe(&self, name: Name) -> Option<Undo> {
        if !matches!(name, Name::Unnamed) {
            return name.into_undo();
        }
        let statement = Arc::clone(name.statement(self.prepared)?);
        let (name, why) = (Box::default(), Why::Asked);
        let serial = self.server.exchange.next_serial();
        let describes = Describes { statement, name, why, serial, epoch: self.epoch() };
        Some(Undo::Describes(Box::new(describes)))
    }

    /// A statement is bound: what it resets is put back behind the segment. It is returned if it
    /// concerns others.
    fn note_bound(
        &mut self,
        batch: &mut Batch<'_>,
        name: &Name,
        portal: &[u8],
    ) -> Option<Arc<Statement>> {
        let is_first = !std::mem::replace(&mut self.in_flight.has_bound, true);
        let names = |statement: &&Arc<Statement>| statement.traits().names_statements();
        let naming = name.statement(self.prepared).filter(names).map(Arc::clone);
        if naming.is_some() || self.naming.is_some() {
            self.put_bound(batch, naming, portal);
        }
        let statement = name.statement(self.prepared);
        match statement.filter(|statement| statement.traits().resets()) {
            Some(statement) => {
                let serial = self.server.exchange.next_serial();
                self.restores.note(statement.text(), serial, is_first, false);
            }
            None => self.restores.is_not_alone(statement.map(|statement| statement.text())),
        }
        statement.filter(|statement| statement.traits().affects_others()).map(Arc::clone)
    }
}
