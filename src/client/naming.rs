//! SQL that names the protocol's prepared statements: DEALLOCATE, EXECUTE and PREPARE.
//!
//! A shared server knows a client's statements by names of ours, and SQL asks for them by the client's
//! own. So what such a text names is prepared under that name too, in front of it and in the same
//! write; where it is only deallocated, or in PREPARE's way, a statement without text will do. The server
//! then says what `PostgreSQL` says. What of these names is left on it is known
//! (`Statements::own_names`), and gone before another session gets it.

use std::collections::{HashSet, VecDeque};
use std::sync::Arc;

use super::batch::Batch;
use super::from_client::{Frame, Next, note_traits};
use super::link::{Deeds, InFlight, Link, Linked, Replacement, Words};
use super::names::{Prepared, drop_unnamed};
use super::ours::not_alone;
use super::prepared::Desk;
use super::provide::UNKNOWN;
use super::reread::{self, enter_context, leave_context, put_context};
use super::serve::Session;
use crate::error::ClientMessage;
use crate::server::Server;
use crate::server::exchange::{Request, Segment, Verdict};
use crate::server::fate::Effect;
use crate::server::store::{Statement, is_reserved};
use crate::sql::{Deed, Mention, Reading};
use crate::state::settings::Settings;
use crate::wire::backend::TxStatus;
use crate::wire::{frontend, sqlstate};

/// What a link's requests do to statements that they name.
#[derive(Debug, Default)]
pub(super) struct Naming {
    /// Portals that deallocate a statement when they are executed, and its name.
    portals: VecDeque<(Name, Name)>,
    /// Statements that requests deallocate, in the order of their command tags.
    due: VecDeque<(u64, Name)>,
    /// Serial number of our request that prepares what the request behind it needs.
    pub(super) group: Option<u64>,
    /// What a Query names is being prepared in the segment that it ends; the Query is held back.
    is_preparing: bool,
}

type Name = Box<[u8]>;

/// Portals that are remembered.
const PORTALS_MAX: usize = 1000;

/// A statement without text, as it stands in a Parse.
const NOTHING: &[u8] = b"\0\0\0";

impl Naming {
    /// The statement that the request `serial`, of which a tag says so, has deallocated.
    pub(super) fn deallocated(&mut self, serial: u64) -> Option<Name> {
        let at = self.due.iter().position(|(due, _)| *due == serial)?;
        self.due.remove(at).map(|(_, name)| name)
    }

    /// `portal` is bound anew.
    fn bind(&mut self, portal: &[u8]) {
        self.portals.retain(|(known, _)| **known != *portal);
    }

    /// An Execute with this body is sent as the request `serial`.
    fn execute(&mut self, body: &[u8], serial: u64) {
        let end = memchr::memchr(0, body).unwrap_or(body.len());
        let portal = body.get(..end).unwrap_or(body);
        if let Some((_, name)) = self.portals.iter().find(|(known, _)| **known == *portal) {
            self.due.push_back((serial, name.clone()));
        }
    }
}

/// Notes that an Execute with this body is about to be sent.
pub(super) fn note_execute(naming: &mut Option<Box<Naming>>, body: &[u8], server: &Server) {
    if let Some(naming) = naming {
        naming.execute(body, server.exchange.next_serial());
    }
}

impl Linked {
    /// True if our request with this serial number may fail with `message`.
    pub(super) fn forgives(&mut self, message: &ClientMessage, serial: u64) -> bool {
        self.restores.forgives(message, serial) || self.forgives_naming(message, serial)
    }

    /// What the client's request names could not be prepared: it fails as well, and is told why.
    fn forgives_naming(&mut self, message: &ClientMessage, serial: u64) -> bool {
        if self.naming.as_ref().and_then(|naming| naming.group) != Some(serial) {
            return false;
        }
        let is_idle =
            self.checkout.peek().is_some_and(|server| server.exchange.tx() == TxStatus::Idle);
        self.replacements.put(Replacement {
            serial: serial + 1,
            when: if is_idle {
                sqlstate::INVALID_STATEMENT_NAME
            } else {
                sqlstate::IN_FAILED_TRANSACTION
            },
            with: Words::Ours(message.clone()),
        });
        true
    }

    /// The request `serial` is over, whatever it has deallocated.
    pub(super) fn settle_naming(&mut self, serial: u64) {
        let Some(naming) = &mut self.naming else { return };
        naming.due.retain(|(due, _)| *due > serial);
        if let Some(server) = self.checkout.peek()
            && server.exchange.is_at_rest()
        {
            self.naming = None;
        }
    }
}

impl Session {
    /// Puts in front of a Query what it names. It is held back until everything before it is answered:
    /// whether the client has these statements, and whether its block is good, is known then. `Some`: it
    /// does not go on as it is.
    pub(super) fn name_statements(
        &mut self,
        batch: &mut Batch<'_>,
        frame: Frame<'_>,
    ) -> Option<Next> {
        let Link::Linked(linked) = &mut self.link else { return None };
        let server = linked.checkout.server()?;
        let is_preparing = linked.naming.as_ref().is_some_and(|naming| naming.is_preparing);
        if is_preparing && server.exchange.is_answered() {
            if let Some(naming) = &mut linked.naming {
                naming.is_preparing = false;
            }
            if server.exchange.segment() == Segment::Failed {
                // In its place: the client was told why.
                batch.swallow(frame.available);
                frontend::put_sync(batch.out);
                server.exchange.on_request(Request::Sync, None);
                self.prepared.unnamed = None;
                return Some(Next::Go);
            }
        }
        let mentions = mentions(&self.prepared, frontend::query_text(frame.body), reading(server));
        if mentions.is_empty() || server.exchange.segment() == Segment::Failed {
            return None;
        }
        if let Some(hidden) = mentions.iter().find(|one| is_hidden(one)).cloned() {
            self.refuse_query(batch, frame, hidden);
            return Some(Next::Go);
        }
        if self.prepared.len() > 0 && !server.exchange.is_answered() {
            linked.awaits.answers = true;
            batch.gather();
            frontend::put_flush(batch.out);
            return Some(Next::Hold);
        }
        let wanted = wanted(&self.prepared, server, &mentions);
        let naming = linked.naming.get_or_insert_default();
        for executed in wanted.iter().filter_map(|one| one.statement.as_ref()) {
            note_traits(&mut linked.in_flight, server, executed.traits());
            linked.in_flight.run(Deeds::of(executed.traits()), server.exchange.tx());
        }
        for one in wanted.iter().filter(|one| one.statement.is_some()) {
            // The client is told its columns.
            if let Some(given) = self.prepared.find(&one.name) {
                given.note_tried();
            }
        }
        if !wanted.is_empty() && !is_preparing {
            batch.gather();
            let in_flight = linked.in_flight;
            if put_in_front(batch.out, wanted, naming, server, in_flight) == Fate::Unknown {
                linked.awaits.answers = true;
                frontend::put_flush(batch.out);
                return Some(Next::Hold);
            }
        }
        let serial = server.exchange.next_serial();
        for one in mentions {
            match one.deed {
                Deed::Deallocates => naming.due.push_back((serial, one.name)),
                Deed::Prepares => server.statements.put_own_name(&one.name, serial),
                Deed::Executes => {}
            }
        }
        None
    }

    /// A Query that names a statement which is not its client's: what the server gets in its place names
    /// one that nobody has.
    fn refuse_query(&mut self, batch: &mut Batch<'_>, frame: Frame<'_>, hidden: Mention) {
        let Link::Linked(linked) = &mut self.link else { return };
        let Some(server) = linked.checkout.server() else { return };
        linked.replacements.put(Replacement {
            serial: server.exchange.next_serial(),
            when: sqlstate::INVALID_STATEMENT_NAME,
            with: Words::Renamed { from: UNKNOWN.as_bytes().into(), to: hidden.name },
        });
        let undo = drop_unnamed(&mut self.prepared, server);
        linked.has_unread = false;
        server.note_text(frontend::query_text(frame.body));
        batch.swallow(frame.available);
        frontend::put_query(batch.out, format!("EXECUTE {UNKNOWN}").as_bytes());
        server.exchange.on_run(Request::Simple(Verdict::Forward), Effect::Reads, undo);
    }
}

/// Whether the server skips what comes behind.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Fate {
    Runs,
    Unknown,
}

/// Puts what a Query needs in front of it.
fn put_in_front(
    out: &mut Vec<u8>,
    wanted: Vec<Wanted>,
    naming: &mut Naming,
    server: &mut Server,
    in_flight: InFlight,
) -> Fate {
    // A Sync would commit what the client has sent without one.
    if server.exchange.segment() == Segment::Open {
        naming.is_preparing = wanted.iter().any(|one| one.rest().is_some());
        for one in wanted {
            one.put(out, server, in_flight);
        }
        return if naming.is_preparing { Fate::Unknown } else { Fate::Runs };
    }
    let serial = server.exchange.next_serial();
    for one in wanted {
        one.put_in_group(out, server, in_flight);
        server.statements.put_own_name(&one.name, serial);
    }
    frontend::put_sync(out);
    server.exchange.on_request(Request::Simple(Verdict::Swallow), None);
    naming.group = Some(serial);
    Fate::Runs
}

/// True if what a text calls so may be another client's.
fn is_hidden(mention: &Mention) -> bool {
    mention.is_unread || is_reserved(&mention.name)
}

impl Desk<'_> {
    /// Refuses a Parse whose text names a statement that is not the client's, or a setting of ours among other
    /// things; true if it does.
    pub(super) fn refuse_hidden(&mut self, batch: &mut Batch<'_>, statement: &Statement) -> bool {
        let traits = statement.traits();
        if traits.names_ours() {
            self.refuse(batch, Words::Ours(not_alone()));
            return true;
        }
        if !traits.names_statements() {
            return false;
        }
        let mentions = Mention::all(statement.text(), reading(self.server));
        let Some(hidden) = mentions.into_iter().find(is_hidden) else { return false };
        let name = String::from_utf8_lossy(&hidden.name);
        let text = format!("prepared statement \"{name}\" does not exist");
        let message = ClientMessage::new(sqlstate::INVALID_STATEMENT_NAME, text);
        self.refuse(batch, Words::Ours(message.routine("FetchPreparedStatement")));
        true
    }

    /// A Parse under a name that SQL may have given a statement on the server: should it be taken, the
    /// server refuses this one in front of it.
    pub(super) fn ask_for_name(&mut self, batch: &mut Batch<'_>, name: &[u8]) {
        batch.gather();
        frontend::put_parse(batch.out, name, NOTHING);
        self.server.exchange.on_request(Request::Parse(Verdict::Swallow), None);
        frontend::put_close_statement(batch.out, name);
        self.server.exchange.on_request(Request::Close(Verdict::Swallow), None);
    }

    /// Puts in front of a Parse of a statement what it executes, or executed when it was parsed first: that
    /// decides of its columns.
    pub(super) fn put_executed(&mut self, batch: &mut Batch<'_>, statement: &Statement) {
        if !statement.traits().names_statements() {
            return;
        }
        let mut mentions = mentions(self.prepared, statement.text(), reading(self.server));
        mentions.retain(|one| one.deed == Deed::Executes);
        let Some(mention) = mentions.last() else { return };
        let now = self.prepared.find(&mention.name).map(|given| Arc::clone(&given.statement));
        let then = statement.executed(|| now.clone());
        match (then, now) {
            (None, Some(_)) => {
                batch.gather();
                frontend::put_close_statement(batch.out, &mention.name);
                self.server.exchange.on_request(Request::Close(Verdict::Swallow), None);
            }
            (Some(then), Some(now)) if !Arc::ptr_eq(then, &now) => {
                let statement = Some(Arc::clone(then));
                batch.gather();
                let wanted = Wanted { name: mention.name.clone(), statement };
                wanted.put(batch.out, self.server, *self.in_flight);
            }
            _ => self.put_wanted(batch, &mentions),
        }
    }

    /// Puts in front of a Bind what the statement names.
    pub(super) fn put_bound(
        &mut self,
        batch: &mut Batch<'_>,
        statement: Option<Arc<Statement>>,
        portal: &[u8],
    ) {
        if let Some(naming) = self.naming {
            naming.bind(portal);
        }
        let Some(statement) = statement else { return };
        let mentions = mentions(self.prepared, statement.text(), reading(self.server));
        for one in mentions.iter().filter(|one| one.deed == Deed::Executes) {
            if let Some(executed) = self.prepared.find(&one.name) {
                let traits = executed.statement.traits();
                executed.note_tried();
                note_traits(self.in_flight, self.server, traits);
                self.portals.add(portal, Deeds::of(traits));
            }
        }
        self.put_wanted(batch, &mentions);
        let serial = self.server.exchange.next_serial();
        for one in mentions.iter().filter(|one| one.deed == Deed::Prepares) {
            self.server.statements.put_own_name(&one.name, serial);
        }
        let deallocated = mentions.into_iter().find(|one| one.deed == Deed::Deallocates);
        if let Some(one) = deallocated {
            let naming = self.naming.get_or_insert_default();
            if naming.portals.len() >= PORTALS_MAX {
                naming.portals.pop_front();
            }
            naming.portals.push_back((portal.into(), one.name));
        }
    }

    fn put_wanted(&mut self, batch: &mut Batch<'_>, mentions: &[Mention]) {
        for one in wanted(self.prepared, self.server, mentions) {
            batch.gather();
            one.put(batch.out, self.server, *self.in_flight);
        }
    }
}

/// A statement that SQL has to find under its client's name.
struct Wanted {
    name: Name,
    /// It is executed; `None`: that there is one of the name is enough.
    statement: Option<Arc<Statement>>,
}

impl Wanted {
    fn rest(&self) -> Option<&[u8]> {
        self.statement.as_ref().map(|statement| statement.rest())
    }

    /// The statement, if its text means something else to the server now than when it was parsed.
    fn read_otherwise(&self, server: &Server, in_flight: InFlight) -> Option<&Statement> {
        let statement = self.statement.as_deref()?;
        (reread::Reading::of(statement, server, in_flight) != reread::Reading::AsItIs)
            .then_some(statement)
    }

    fn put_messages(&self, out: &mut Vec<u8>) {
        frontend::put_close_statement(out, &self.name);
        frontend::put_parse(out, &self.name, self.rest().unwrap_or(NOTHING));
    }

    /// Puts it among the messages of a request of ours that a Sync ends.
    fn put_in_group(&self, out: &mut Vec<u8>, server: &Server, in_flight: InFlight) {
        let context =
            self.read_otherwise(server, in_flight).and_then(|statement| statement.under());
        if let Some(under) = context {
            put_context(out, &under.enter_parse_context());
        }
        self.put_messages(out);
        if context.is_some() {
            put_context(out, &Settings::leave_parse_context());
        }
    }

    /// Puts it into a segment.
    fn put(&self, out: &mut Vec<u8>, server: &mut Server, in_flight: InFlight) {
        let read_otherwise = self.read_otherwise(server, in_flight);
        if let Some(statement) = read_otherwise {
            enter_context(out, server, statement);
        }
        self.put_messages(out);
        server.exchange.on_request(Request::Close(Verdict::Swallow), None);
        server.statements.put_own_name(&self.name, server.exchange.next_serial());
        server.exchange.on_request(Request::Parse(Verdict::Swallow), None);
        if read_otherwise.is_some() {
            leave_context(out, server);
        }
    }
}

/// What a text names. In front of a statement that it executes stands what that one names: it decides of
/// its columns.
fn mentions(prepared: &Prepared, text: &[u8], reading: Reading) -> Vec<Mention> {
    let mut all = Vec::new();
    let mut executed = HashSet::new();
    for mention in Mention::all(text, reading) {
        let mut chain = Vec::new();
        let mut next = Some(mention);
        // Each once: one may execute itself.
        while let Some(one) = next
            && (one.deed != Deed::Executes || executed.insert(one.name.clone()))
        {
            next = executed_by(prepared, &one, reading);
            chain.push(one);
        }
        all.extend(chain.into_iter().rev());
    }
    all
}

/// What a statement that is executed names. A prepared text is a single statement.
fn executed_by(prepared: &Prepared, mention: &Mention, reading: Reading) -> Option<Mention> {
    let given = prepared.find(&mention.name).filter(|_| mention.deed == Deed::Executes)?;
    let statement = given.statement.traits().names_statements().then_some(&given.statement)?;
    Mention::all(statement.text(), reading).pop()
}

/// What of the statements that are mentioned is the client's, each once. Those that can be prepared
/// whatever happens come first.
fn wanted(prepared: &Prepared, server: &Server, mentions: &[Mention]) -> Vec<Wanted> {
    let mut wanted: Vec<Wanted> = Vec::new();
    for mention in mentions {
        let Some(given) = prepared.find(&mention.name) else { continue };
        let executed = (mention.deed == Deed::Executes).then(|| Arc::clone(&given.statement));
        match wanted.iter_mut().find(|one| one.name == mention.name) {
            Some(one) => one.statement = one.statement.take().or(executed),
            None => wanted.push(Wanted { name: mention.name.clone(), statement: executed }),
        }
    }
    if server.exchange.is_in_failed_block() {
        // Nothing can be prepared in a failed block, and nothing executed.
        wanted.retain(|one| one.statement.is_none());
    }
    wanted.sort_by_key(|one| one.statement.is_some());
    wanted
}

/// How the server reads a backslash, as far as it has said.
pub(super) fn reading(server: &Server) -> Reading {
    match server.parameters.value("standard_conforming_strings") {
        Some("off") => Reading::Backslash,
        _ => Reading::Standard,
    }
}
