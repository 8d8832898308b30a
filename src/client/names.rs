//! A client's prepared statements, by the names that it gave them.

use std::collections::HashMap;
use std::sync::Arc;

use crate::pool::core::ServerId;
use crate::server::Server;
use crate::server::exchange::Undone;
use crate::server::statements::{Statement, Undo, Unnamed};
use crate::state::settings::Settings;

/// The statements of a client.
#[derive(Debug, Default)]
pub(super) struct Prepared {
    /// Made when the first one is prepared: most clients never do.
    named: Option<Box<Names>>,
    pub(super) unnamed: Option<Arc<Statement>>,
    /// The settings that `unnamed` was parsed under.
    pub(super) unnamed_under: Option<Arc<Settings>>,
}

type Names = HashMap<Box<[u8]>, Named, foldhash::fast::RandomState>;

#[derive(Debug)]
pub(super) struct Named {
    statement: Arc<Statement>,
    /// Where and when its Parse was sent: a DEALLOCATE ALL takes only what came before it.
    server: ServerId,
    serial: u64,
    /// The statement's generation that the client knows.
    generation: u64,
}

impl Named {
    pub(super) fn new(statement: Arc<Statement>, server: ServerId, serial: u64) -> Self {
        let generation = statement.generation();
        Self { statement, server, serial, generation }
    }
}

impl Prepared {
    /// True if the client was told of other columns than the statement has by now. It is told so
    /// once, as it would be by a server of its own, and may go on.
    pub(super) fn take_outdated(&mut self, name: &[u8]) -> bool {
        let Some(named) = self.named.as_mut().and_then(|named| named.get_mut(name)) else {
            return false;
        };
        let generation = named.statement.generation();
        std::mem::replace(&mut named.generation, generation) != generation
    }

    /// The client has just been told that `statement` is outdated.
    pub(super) fn knows(&mut self, statement: &Arc<Statement>) {
        for named in self.named.iter_mut().flat_map(|named| named.values_mut()) {
            if Arc::ptr_eq(&named.statement, statement) {
                named.generation = statement.generation();
            }
        }
    }

    pub(super) fn find(&self, name: &[u8]) -> Option<&Arc<Statement>> {
        self.named.as_ref()?.get(name).map(|named| &named.statement)
    }

    pub(super) fn len(&self) -> usize {
        self.named.as_ref().map_or(0, |named| named.len())
    }

    pub(super) fn insert(&mut self, name: Box<[u8]>, named: Named) {
        self.named.get_or_insert_default().insert(name, named);
    }

    /// Notes a statement that no server has: one of a stand-in's.
    pub(super) fn note_parse(&mut self, name: &[u8], statement: Arc<Statement>) {
        if name.is_empty() {
            self.unnamed = Some(statement);
        } else {
            self.insert(name.into(), Named::new(statement, ServerId(0), 0));
        }
    }

    pub(super) fn remove(&mut self, name: &[u8]) -> Option<Arc<Statement>> {
        self.named.as_mut()?.remove(name).map(|named| named.statement)
    }

    /// The server is lost: what was not answered was never prepared.
    pub(super) fn abandon(&mut self, server: &mut Server) {
        let undone: Vec<_> = server.exchange.abandon().collect();
        for undone in undone {
            take_back(self, server, undone);
        }
    }

    /// `server` has done a DEALLOCATE ALL or DISCARD ALL as the request with this serial number.
    pub(super) fn deallocated_all(&mut self, server: ServerId, serial: u64) {
        if let Some(named) = &mut self.named {
            named.retain(|_, named| named.server == server && named.serial > serial);
        }
    }
}

/// Takes back what was noted of a message that came to nothing.
pub(super) fn take_back(prepared: &mut Prepared, server: &mut Server, undone: Undone<Undo>) {
    let Undone { failed, undo } = undone;
    match undo {
        Undo::Parse { name, statement, sent } => {
            if prepared.find(&name).is_some_and(|found| Arc::ptr_eq(found, &statement)) {
                prepared.remove(&name);
            }
            if sent {
                server.statements.remove(&statement);
            }
        }
        Undo::Reparse { statement } => server.statements.remove(&statement),
        Undo::Unnamed { client, server: before } => {
            // A Parse that failed has dropped the old unnamed statement; a skipped one has not.
            server.statements.unnamed = if failed { Unnamed::None } else { before };
            prepared.unnamed = if failed { None } else { client };
        }
        Undo::Close { name, statement } => {
            prepared.insert(name, Named::new(statement, server.id(), 0));
        }
        Undo::Bind { .. } => {}
        Undo::Evict(evicted) => server.statements.restore(evicted),
    }
}
