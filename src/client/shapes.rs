//! Statements that no longer take or give what their clients were told: how that is found out, and what
//! becomes of them.
//!
//! A client that reads columns as it was told them earlier must not get others. `PostgreSQL` says
//! "cached plan must not change result type" where it has the statement; where it is prepared anew
//! (on another server, or behind its Close there) nobody would, so it is described and compared.

use std::sync::Arc;

use super::batch::Batch;
use super::link::Link;
use super::names::distrust;
use super::provide::scope_of;
use super::serve::Session;
use crate::error::ClientMessage;
use crate::server::shape::{Describes, Parameters, Shape, Why};
use crate::server::store::Statement;
use crate::server::undo::{Given, Undo};
use crate::wire::sqlstate;

/// As PostgreSQL words it, and where it raises it: drivers look for it there.
pub(super) const OUTDATED_ROUTINE: &str = "RevalidateCachedQuery";
const OUTDATED: &str = "cached plan must not change result type";

/// What a client is told whose statement is not what it was.
pub(super) fn outdated() -> ClientMessage {
    ClientMessage::new(sqlstate::FEATURE_NOT_SUPPORTED, OUTDATED).routine(OUTDATED_ROUTINE)
}

impl Session {
    /// A part of the answer to a Describe. False if the link is over.
    pub(super) fn on_description(
        &mut self,
        batch: &mut Batch<'_>,
        tag: u8,
        body: &[u8],
        is_whole: bool,
    ) -> bool {
        let Link::Linked(linked) = &mut self.link else { return true };
        let Some(server) = linked.checkout.server() else { return true };
        if tag == b't' {
            if server.exchange.awaits_description() {
                server.statements.parameters = Parameters::of(body);
            }
            return true;
        }
        match server.exchange.take_described() {
            Some(Undo::Describes(described)) if is_whole => {
                let row = (tag == b'T').then_some(body);
                let shape = Shape::of(server.statements.parameters, row);
                self.on_described(batch, &described, shape)
            }
            _ => true,
        }
    }

    /// What a server has made of a statement is known. False if the link is over.
    fn on_described(&mut self, batch: &mut Batch<'_>, described: &Describes, shape: Shape) -> bool {
        let Link::Linked(linked) = &mut self.link else { return true };
        let Some(server) = linked.checkout.server() else { return true };
        let Describes { statement, why, epoch, .. } = described;
        if statement.traits().fetches() {
            return true;
        }
        let is_same = statement.shape().is_none_or(|known| known == shape);
        match why {
            Why::ProvidedAside if is_same => {}
            Why::Asked => {
                statement.learn(shape);
                statement.confirm(*epoch);
            }
            Why::Parsed | Why::Provided if is_same => {
                statement.learn(shape);
                statement.confirm(*epoch);
            }
            Why::Parsed => {
                self.outdate(statement, *epoch);
                self.renew_parsed(described, shape);
            }
            Why::Provided | Why::ProvidedAside => {
                distrust(server, described);
                // What stands behind it has not been held back.
                let is_late = server.exchange.depth() > 0;
                if *why == Why::Provided {
                    self.outdate(statement, *epoch);
                } else {
                    linked.differs = Some(Arc::clone(statement));
                }
                if is_late {
                    self.cut_off(batch, described);
                    return false;
                }
            }
        }
        true
    }

    /// Nobody gets the statement any more, and who has it is told at its next use. `epoch`: how often
    /// tables had been altered before a server was asked.
    fn outdate(&self, statement: &Statement, epoch: u64) {
        if statement.is_shared() && statement.epoch() == epoch {
            // It was not seen: other statements may have changed likewise.
            self.context.store.alter(&self.pool.database);
        }
        statement.outdate();
    }

    /// What others have parsed before is not what the client has parsed just now. It is told nothing.
    fn renew_parsed(&mut self, described: &Describes, shape: Shape) {
        let Describes { statement, name, .. } = described;
        let fresh = self.renewed(statement);
        if fresh.shape().is_none() {
            fresh.learn(shape);
        }
        if fresh.shape() == Some(shape) && self.is_known_as(name, statement) {
            self.prepared.replace_unheard(name, fresh);
        }
    }

    /// The client has been told that what it calls `name` is not what it was, and goes on with what it
    /// is now.
    pub(super) fn renew(&mut self, name: &[u8], old: &Arc<Statement>) {
        if self.is_known_as(name, old) {
            let fresh = self.renewed(old);
            self.prepared.replace(name, fresh);
        }
    }

    fn renewed(&self, old: &Statement) -> Arc<Statement> {
        self.context.store.renew(old, scope_of(&self.pool), &self.settings)
    }

    fn is_known_as(&self, name: &[u8], statement: &Arc<Statement>) -> bool {
        self.prepared.statement(name).is_some_and(|known| Arc::ptr_eq(known, statement))
    }

    /// A server has refused to go on with what it had prepared, and the client hears it.
    pub(super) fn on_outdated(&mut self, given: &Given) {
        let Link::Linked(linked) = &self.link else { return };
        if linked.in_flight.changes_meaning {
            // With the transaction it may be what it was.
            return;
        }
        let statement = &given.statement;
        if statement.is_of(&self.settings) {
            let epoch = self.context.store.epoch(&self.pool.database);
            self.outdate(statement, epoch);
        }
        self.renew(&given.name, statement);
    }
}
