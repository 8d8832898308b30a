//! A text that nobody has read in its segment: its Parse was answered by us.
//!
//! PostgreSQL takes a snapshot to read one, and refuses behind that what has to come before any query of the
//! transaction (BEGIN and SET TRANSACTION with modes, 25001). In front of what may be such a statement the
//! server gets the text after all. (In a block that has seen nothing else, a Parse is not answered by us.)

use std::sync::Arc;

use super::batch::Batch;
use super::link::Link;
use super::prepared::Desk;
use super::serve::Session;
use crate::server::exchange::{Request, Verdict};
use crate::server::store::Statement;
use crate::server::undo::Undo;
use crate::sql::Traits;

impl Desk<'_> {
    /// A Parse of `statement` is answered by us.
    pub(super) fn note_unread(&mut self, statement: &Arc<Statement>) {
        if !self.in_flight.has_bound && !statement.traits().is_control() {
            self.unread.get_or_insert_with(|| Arc::clone(statement));
        }
    }

    /// A text with these traits is run next; `None`: nothing is known of it.
    pub(super) fn read_unread(&mut self, batch: &mut Batch<'_>, traits: Option<Traits>) {
        let Some(statement) = self.unread.take() else { return };
        // Anything else takes a snapshot of its own.
        let needs_none = |traits: Traits| traits.is_control() || traits.several_statements();
        if !traits.is_none_or(needs_none) {
            return;
        }
        batch.gather();
        if let Some(old) = self.server.statements.take(&statement) {
            self.close_on_server(batch, old);
        }
        self.make_room(batch);
        let undo = |serial| Undo::Reparse { statement: Arc::clone(&statement), serial };
        self.put_parse(batch, &statement, Request::Parse(Verdict::Swallow), undo);
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
}
