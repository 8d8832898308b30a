//! A text that nobody has read in its transaction: its Parse was answered by us.
//!
//! PostgreSQL takes a snapshot to read one, and refuses behind that what has to come before any query of the
//! transaction (BEGIN and SET TRANSACTION with modes, 25001). In front of what may be such a statement the
//! server gets the text after all.

use std::sync::Arc;

use super::batch::Batch;
use super::link::Link;
use super::prepared::Desk;
use super::serve::Session;
use crate::server::exchange::{Request, Verdict};
use crate::server::store::Statement;
use crate::server::undo::Undo;
use crate::sql::Traits;
use crate::wire::backend::TxStatus;

/// The first such text of a transaction that nothing else was run in.
#[derive(Debug)]
pub(super) struct Unread {
    statement: Arc<Statement>,
    /// Else the transaction ends with the segment.
    in_block: bool,
}

impl Desk<'_> {
    /// A Parse of `statement` is answered by us.
    pub(super) fn note_unread(&mut self, statement: &Arc<Statement>) {
        if self.unread.is_some() || self.in_flight.has_bound || statement.traits().is_control() {
            return;
        }
        let in_block = self.server.exchange.tx() != TxStatus::Idle;
        *self.unread = Some(Box::new(Unread { statement: Arc::clone(statement), in_block }));
    }

    /// A text with these traits is run next; `None`: nothing is known of it.
    pub(super) fn read_unread(&mut self, batch: &mut Batch<'_>, traits: Option<Traits>) {
        let Some(unread) = self.unread.take() else { return };
        let needs_it = |traits: Traits| {
            traits.several_statements() || (traits.is_control() && !traits.ends_block())
        };
        if !traits.is_none_or(needs_it) {
            return;
        }
        let statement = &unread.statement;
        batch.gather();
        if let Some(old) = self.server.statements.take(statement) {
            self.close_on_server(batch, old);
        }
        self.make_room(batch);
        let undo = |serial| Undo::Reparse { statement: Arc::clone(statement), serial };
        self.put_parse(batch, statement, Request::Parse(Verdict::Swallow), undo);
    }
}

impl Session {
    /// A Query with these traits is sent next.
    pub(super) fn read_unread_before_query(
        &mut self,
        batch: &mut Batch<'_>,
        traits: Option<Traits>,
    ) {
        let has_one = matches!(&self.link, Link::Linked(linked) if linked.unread.is_some());
        if has_one && let Some(mut desk) = self.desk() {
            desk.read_unread(batch, traits);
        }
    }

    /// The segment ends.
    pub(super) fn forget_unread(&mut self) {
        if let Link::Linked(linked) = &mut self.link {
            linked.unread.take_if(|unread| !unread.in_block);
        }
    }
}
