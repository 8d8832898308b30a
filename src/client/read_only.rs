//! Sessions in the mode `read_only`: nothing of theirs is written, whichever host serves them.
//!
//! A replica refuses by nature. On a primary the servers of the pool begin with
//! `default_transaction_read_only = on`; what would take that back is refused here, and what took it back out of
//! sight is not carried to the next transaction.

use super::batch::Batch;
use super::from_client::Frame;
use super::link::Link;
use super::naming::reading;
use super::serve::Session;
use crate::config::Mode;
use crate::error::ClientMessage;
use crate::sql::asks_to_write;
use crate::wire::{frontend, sqlstate};

/// The setting that the servers of such a pool begin with.
pub(super) const SETTING: &str = "default_transaction_read_only";

impl Session {
    pub(super) fn is_read_only(&self) -> bool {
        self.mode == Mode::ReadOnly
    }

    /// Refuses a Query or Parse whose text asks to write: the server is made to fail in its place, so that a
    /// block has failed and a segment is skipped. False: there is nothing to refuse.
    ///
    /// What is longer than is read at once is not looked at: this keeps from mistakes, and not from those who mean
    /// to write, whom PostgreSQL's own rights are for.
    pub(super) fn refuses_to_write(&mut self, batch: &mut Batch<'_>, frame: Frame<'_>) -> bool {
        frame.is_whole() && self.refuse_to_write(batch, frame).is_some()
    }

    fn refuse_to_write(&mut self, batch: &mut Batch<'_>, frame: Frame<'_>) -> Option<()> {
        let text = match frame.head.tag {
            b'Q' => frontend::query_text(frame.body),
            b'P' => frontend::parse(frame.body)?.text,
            _ => return None,
        };
        let Link::Linked(linked) = &mut self.link else { return None };
        let server = linked.checkout.server()?;
        if server.exchange.takes_copy_data() || !asks_to_write(text, reading(server)) {
            return None;
        }
        self.refuse_text(batch, frame, no_writes());
        Some(())
    }
}

/// True if a server reports that transactions of this session would write from now on.
pub(super) fn takes_it_back(name: &str, value: &str) -> bool {
    name == SETTING && value == "off"
}

/// True if a client asks at startup for transactions that write.
pub(super) fn asks_for_writes(settings: &[(String, String)]) -> bool {
    settings.iter().any(|(name, value)| {
        let is_it = name.eq_ignore_ascii_case(SETTING)
            || name.eq_ignore_ascii_case("transaction_read_only");
        is_it && !matches!(value.to_ascii_lowercase().as_str(), "on" | "true" | "yes" | "1")
    })
}

pub(super) fn no_writes() -> ClientMessage {
    ClientMessage::new(
        sqlstate::READ_ONLY_TRANSACTION,
        "cannot set transaction read-write mode in a session of mode \"read_only\"",
    )
    .hint("Connect with another mode to write: the database's name without its suffix, or pgweir.mode.")
}
