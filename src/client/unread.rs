//! A text that nobody has read in its segment: its Parse was answered by us.
//!
//! PostgreSQL takes a snapshot to read one, and refuses behind that what has to come before any query of the
//! transaction (BEGIN and SET TRANSACTION with modes, 25001). In front of what may be such a statement the
//! server reads a text of ours in its place. (In a block that has seen nothing else, a Parse is not answered
//! by us: `InFlight::begins`.)

use super::batch::Batch;
use super::link::Link;
use super::prepared::Desk;
use super::serve::Session;
use crate::server::exchange::{Request, Segment, Verdict};
use crate::server::store::Statement;
use crate::sql::Traits;
use crate::wire::backend::TxStatus;
use crate::wire::frontend;

/// A statement of a server's that is prepared for the snapshot.
const READ: &[u8] = b"pgweir_read";

impl Desk<'_> {
    /// A Parse of `statement` is answered by us.
    pub(super) fn note_unread(&mut self, statement: &Statement) {
        let is_outside = self.server.exchange.tx() == TxStatus::Idle;
        *self.has_unread |= is_outside && !statement.traits().is_control();
    }

    /// A text with these traits is run next, before anything is noted of it; `None`: nothing is known.
    pub(super) fn read_unread(&mut self, batch: &mut Batch<'_>, traits: Option<Traits>) {
        if !std::mem::take(self.has_unread) || self.server.exchange.segment() != Segment::Open {
            return;
        }
        // Anything else takes a snapshot itself.
        let may_come_before_any = |traits: Traits| {
            traits.several_statements() || (traits.is_control() && !traits.ends_block())
        };
        if !traits.is_some_and(may_come_before_any) {
            return;
        }
        batch.gather();
        frontend::put_close_statement(batch.out, READ);
        self.server.exchange.on_request(Request::Close(Verdict::Swallow), None);
        frontend::put_parse(batch.out, READ, b"select 1\0\0\0");
        self.server.exchange.on_request(Request::Parse(Verdict::Swallow), None);
    }
}

impl Session {
    /// A Query with these traits is sent next.
    pub(super) fn read_unread_before_query(
        &mut self,
        batch: &mut Batch<'_>,
        traits: Option<Traits>,
    ) {
        let has_one = matches!(&self.link, Link::Linked(linked) if linked.has_unread);
        if has_one && let Some(mut desk) = self.desk() {
            desk.read_unread(batch, traits);
        }
    }
}
