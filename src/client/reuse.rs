//! Unnamed statements that servers have under names of ours (`reuse_unnamed`).
//!
//! A client that parses the same query each time has its server read and analyse it each time. Here a query
//! that comes a second time is prepared under the name of its statement, which is the same for all who parse
//! the same (`Store::reusable`), and from then on its Parse is answered by us where a server has it. To the
//! client it is its unnamed statement: the next Parse takes its place, and a Query ends it.

use std::sync::Arc;

use super::batch::Batch;
use super::from_client::Frame;
use super::names::{Shared, share_unnamed};
use super::prepared::Desk;
use super::provide::scope_of;
use crate::server::exchange::{MadeUp, Request, Segment};
use crate::server::statements::Presence;
use crate::server::store::Statement;
use crate::server::undo::{Given, Undo};
use crate::server::unnamed::UnnamedBefore;
use crate::telemetry::counters::StatementOutcome;
use crate::wire::frame::HEAD;
use crate::wire::frontend;

impl Desk<'_> {
    /// Parses the client's unnamed statement under its own name. False if it is to be the server's unnamed
    /// one, and nothing was done.
    pub(super) fn parse_shared(
        &mut self,
        batch: &mut Batch<'_>,
        frame: Frame<'_>,
        parse: &frontend::Parse<'_>,
    ) -> bool {
        if !self.reuses || !self.may_share(batch, frame) {
            return false;
        }
        // Counted before it is looked up: what is altered meanwhile makes it count for nothing.
        let alterations = self.store.alterations();
        let Some(statement) = self.find_shared(parse.rest, alterations) else { return false };
        batch.swallow(frame.available);
        let is_there = self.server.statements.presence(&statement) == Presence::Ready;
        let given = if is_there {
            self.untried(&statement)
        } else {
            Arc::new(Given::new(b"", Arc::clone(&statement)))
        };
        let parsed = self.prepared.parse_unnamed(Arc::clone(&statement));
        self.note_shared(given, parsed.number, alterations);
        if is_there {
            self.note_unread(&statement);
            self.traffic.statements.increment(StatementOutcome::Reused as usize);
            let undo = Undo::Unnamed(share_unnamed(self.prepared, self.server, parsed));
            self.server.exchange.on_request(Request::MadeUp(MadeUp::ParseComplete), Some(undo));
            return true;
        }
        self.make_room_for(batch, &statement);
        let before = share_unnamed(self.prepared, self.server, parsed);
        // A Close may come in front of it.
        let undo = |serial| Undo::Unnamed(UnnamedBefore { parse: Some(serial), ..before });
        self.put_first_parse(batch, b"", &statement, undo);
        true
    }

    /// A text means what it means to all who share statements, and a `ParseComplete` of ours cannot turn
    /// out to be a lie.
    fn may_share(&self, batch: &Batch<'_>, frame: Frame<'_>) -> bool {
        let Self { server, in_flight, .. } = self;
        let exchange = &server.exchange;
        // What is temporary hides what others mean. (A server that was left so is cleaned before.)
        let is_as_for_all =
            !in_flight.changes_meaning && !in_flight.alters_results && !server.is_dirty;
        is_as_for_all
            && exchange.may_make_up()
            && exchange.segment() != Segment::Failed
            // A Parse is a query of its block.
            && (!in_flight.is_first_of_block(exchange.tx()) || is_bound_next(batch, frame))
    }

    /// The statement that a Parse with this `rest` is of.
    fn find_shared(&self, rest: &[u8], alterations: u64) -> Option<Arc<Statement>> {
        // The same text once more costs no allocation.
        if let Some(Shared { given, settings, alterations: then, .. }) =
            self.prepared.shared.as_deref()
            && *then == alterations
            && Arc::ptr_eq(settings, self.settings)
            && given.statement.rest() == rest
            && !given.statement.is_outdated()
        {
            return Some(Arc::clone(&given.statement));
        }
        self.store.reusable(scope_of(self.pool), rest, self.settings)
    }

    /// The statement as one of which the client has been told nothing yet.
    fn untried(&mut self, statement: &Arc<Statement>) -> Arc<Given> {
        if let Some(Shared { given, .. }) = self.prepared.shared.as_deref_mut()
            && Arc::ptr_eq(&given.statement, statement)
            && let Some(alone) = Arc::get_mut(given)
        {
            alone.forget_tries();
            return Arc::clone(given);
        }
        Arc::new(Given::untried(b"", Arc::clone(statement)))
    }

    /// The client's `number`th unnamed statement is `given`, and goes by its name. Should its Parse be
    /// skipped, the one before is prepared as the unnamed one where it is used.
    fn note_shared(&mut self, given: Arc<Given>, number: u64, alterations: u64) {
        let settings = Arc::clone(self.settings);
        let shared = Shared { given, number, settings, alterations };
        match &mut self.prepared.shared {
            Some(before) => **before = shared,
            None => self.prepared.shared = Some(Box::new(shared)),
        }
    }
}

/// The unnamed statement is bound right behind its Parse, `frame`: that is a query of its block, too.
fn is_bound_next(batch: &Batch<'_>, frame: Frame<'_>) -> bool {
    let next = batch.data.get(batch.at + frame.head.len..).unwrap_or_default();
    let body = next.get(HEAD..).filter(|_| next.first() == Some(&b'B'));
    body.and_then(frontend::bind).is_some_and(|bind| bind.statement.is_empty())
}
