//! SQL that names the protocol's prepared statements: DEALLOCATE, EXECUTE and PREPARE.
//!
//! A shared server knows a client's statements by names of ours, and SQL asks for them by the client's
//! own. So what such a text names is prepared under that name too, in front of it and in the same
//! write; where it is only deallocated, or in PREPARE's way, a statement without text will do. The server
//! then says what `PostgreSQL` says. What of these names is left on it is known
//! (`Statements::own_names`), and gone before another session gets it.

use std::collections::VecDeque;
use std::sync::Arc;

use super::batch::Batch;
use super::from_client::{Next, note_traits};
use super::link::{Link, Linked, Replacement, Words};
use super::names::Prepared;
use super::prepared::Desk;
use super::serve::Session;
use crate::error::ClientMessage;
use crate::server::Server;
use crate::server::exchange::{Request, Segment, Verdict};
use crate::server::statements::{Statement, is_reserved};
use crate::sql::{Deed, Mention, Reading};
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
        self.replacements.push(Replacement {
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
    /// whether the client has these statements, and whether its block is good, is known then.
    pub(super) fn name_statements(&mut self, batch: &mut Batch<'_>, text: &[u8]) -> Next {
        let Link::Linked(linked) = &mut self.link else { return Next::Go };
        let Some(server) = linked.checkout.server() else { return Next::Go };
        let mentions = Mention::all(text, reading(server));
        if mentions.is_empty() || server.exchange.segment() == Segment::Failed {
            return Next::Go;
        }
        if !server.exchange.is_answered() {
            linked.awaits_answers = true;
            batch.gather();
            frontend::put_flush(batch.out);
            return Next::Hold;
        }
        let wanted = wanted(&self.prepared, server, &mentions);
        if wanted.is_empty() {
            return Next::Go;
        }
        for executed in wanted.iter().filter_map(|one| one.statement.as_deref()) {
            note_traits(&mut linked.in_flight, server, executed.traits());
            linked.in_flight.may_copy |= executed.traits().may_copy();
        }
        batch.gather();
        let naming = linked.naming.get_or_insert_default();
        // A Sync would commit what the client has sent without one; nothing here can fail.
        if server.exchange.segment() == Segment::Open
            && wanted.iter().all(|one| one.rest().is_none())
        {
            for one in wanted {
                one.put(batch.out, server);
            }
        } else {
            let serial = server.exchange.next_serial();
            for one in wanted {
                one.put_messages(batch.out);
                server.statements.put_own_name(&one.name, serial);
            }
            frontend::put_sync(batch.out);
            server.exchange.on_request(Request::Simple(Verdict::Swallow), None);
            naming.group = Some(serial);
        }
        let serial = server.exchange.next_serial();
        let deallocated = mentions.into_iter().filter(|one| one.deed == Deed::Deallocates);
        naming.due.extend(deallocated.map(|one| (serial, one.name)));
        Next::Go
    }
}

impl Desk<'_> {
    /// Puts in front of a Parse of a statement what it executes: that decides of its columns.
    pub(super) fn put_executed(&mut self, batch: &mut Batch<'_>, statement: &Statement) {
        if statement.traits().names_statements() {
            let mut mentions = Mention::all(statement.text(), reading(self.server));
            mentions.retain(|one| one.deed == Deed::Executes);
            self.put_wanted(batch, &mentions);
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
        let mentions = Mention::all(statement.text(), reading(self.server));
        for one in mentions.iter().filter(|one| one.deed == Deed::Executes) {
            if let Some(executed) = self.prepared.find(&one.name) {
                note_traits(self.in_flight, self.server, executed.statement.traits());
            }
        }
        self.put_wanted(batch, &mentions);
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
            one.put(batch.out, self.server);
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

    fn put_messages(&self, out: &mut Vec<u8>) {
        frontend::put_close_statement(out, &self.name);
        frontend::put_parse(out, &self.name, self.rest().unwrap_or(NOTHING));
    }

    /// Puts it into a segment.
    fn put(&self, out: &mut Vec<u8>, server: &mut Server) {
        self.put_messages(out);
        server.exchange.on_request(Request::Close(Verdict::Swallow), None);
        server.statements.put_own_name(&self.name, server.exchange.next_serial());
        server.exchange.on_request(Request::Parse(Verdict::Swallow), None);
    }
}

/// What of the statements that are mentioned is the client's, each once. Those that can be prepared
/// whatever happens come first.
fn wanted(prepared: &Prepared, server: &Server, mentions: &[Mention]) -> Vec<Wanted> {
    let mut wanted: Vec<Wanted> = Vec::new();
    for mention in mentions {
        // Another client's statement may be called so on the server.
        if is_reserved(&mention.name) {
            continue;
        }
        let Some(given) = prepared.find(&mention.name) else { continue };
        let executed = (mention.deed == Deed::Executes).then(|| Arc::clone(&given.statement));
        match wanted.iter_mut().find(|one| one.name == mention.name) {
            Some(one) => one.statement = one.statement.take().or(executed),
            None => wanted.push(Wanted { name: mention.name.clone(), statement: executed }),
        }
    }
    if server.exchange.tx() == TxStatus::Failed {
        // Nothing can be prepared in a failed block, and nothing executed.
        wanted.retain(|one| one.statement.is_none());
    }
    wanted.sort_by_key(|one| one.statement.is_some());
    wanted
}

/// How the server reads a backslash, as far as it has said.
fn reading(server: &Server) -> Reading {
    match server.parameters.value("standard_conforming_strings") {
        Some("off") => Reading::Backslash,
        _ => Reading::Standard,
    }
}
