//! `SET pgweir.mode`: when it holds, and what takes it back.
//!
//! As every setting it is of a transaction: it is `asked` for, and holds when that is done (`next`). The session goes
//! to the other pool once its server has gone back.

use super::Ours;
use crate::client::link::Link;
use crate::client::memo::recall;
use crate::client::read_only::no_writes;
use crate::client::serve::Session;
use crate::config::{Mode, PoolMode, PoolSettings};
use crate::error::ClientMessage;
use crate::sql;
use crate::wire::sqlstate;

impl Session {
    pub(super) fn check_change(&self, to: Mode, in_block: bool) -> Result<(), ClientMessage> {
        if in_block {
            return Err(ClientMessage::new(
                sqlstate::ACTIVE_TRANSACTION,
                "pgweir.mode cannot be changed inside a transaction block",
            )
            .hint("End the block first. A driver that begins blocks by itself needs autocommit for this."));
        }
        if to == self.mode {
            return Ok(());
        }
        let is_other = |rules: &PoolSettings| {
            rules.pool_mode == PoolMode::Session
                || (rules.prepared_statements > 0) != (self.rules.prepared_statements > 0)
        };
        let rules = self.rules_of(to);
        if is_other(&self.rules) || rules.is_none_or(|rules| is_other(&rules)) {
            return Err(ClientMessage::new(
                sqlstate::FEATURE_NOT_SUPPORTED,
                format!(
                    "pgweir.mode cannot be changed from {} to {}, which has another pool_mode or keeps no prepared statements",
                    self.mode.as_str(),
                    to.as_str(),
                ),
            )
            .hint(format!("Connect anew with options='-c pgweir.mode={}'.", to.as_str())));
        }
        if to == Mode::ReadOnly
            && self.settings.value("default_transaction_read_only") == Some("off")
        {
            return Err(
                no_writes().detail("The session has set default_transaction_read_only to off.")
            );
        }
        Ok(())
    }

    /// The transaction is done, and what it has set holds.
    pub(in crate::client) fn keep_mode(&mut self) {
        if let Some(ours) = &mut self.ours {
            ours.portals.clear();
            ours.next = ours.asked.take().or(ours.next);
        }
    }

    /// No server is linked any more: from now on the mode is what was set.
    #[inline]
    pub(in crate::client) fn settle_mode(&mut self) {
        if self.ours.is_some()
            && let Some(next) = self.ours.as_mut().and_then(|ours| ours.next.take())
        {
            self.go_to(next);
        }
    }

    /// Something has failed: what its transaction has set is taken back with it.
    pub(in crate::client) fn undo_mode(&mut self) {
        if let Some(ours) = &mut self.ours {
            ours.asked = None;
        }
    }

    /// What comes behind the end of a transaction goes to another pool, or may: it waits until the link is over.
    #[cold]
    pub(in crate::client) fn waits_for_boundary(&mut self, tag: u8) -> bool {
        let changes = |ours: &Ours| ours.asked.or(ours.next).is_some();
        if !self.is_away() && !self.ours.as_deref().is_some_and(changes) {
            return false;
        }
        let Link::Linked(linked) = &mut self.link else { return false };
        let Some(server) = linked.checkout.peek() else { return false };
        let is_of_copy = matches!(tag, b'd' | b'c' | b'f') || server.exchange.takes_copy_data();
        let waits = server.exchange.has_clients_boundary() && !is_of_copy;
        linked.awaits.answers |= waits;
        waits
    }
}

impl Ours {
    /// RESET ALL and DISCARD ALL go back to the mode at login, once their transaction is over.
    pub(super) fn note_reset(&mut self, text: &[u8]) {
        if recall(text).resets() && sql::Resets::of(text).covers("pgweir.mode").is_some() {
            self.asked = Some(self.at_login);
        }
    }

    /// A statement is done.
    pub(in crate::client) fn on_tag(&mut self, tag: &[u8]) {
        match tag {
            b"ROLLBACK" => self.asked = None,
            b"DEALLOCATE ALL" | b"DISCARD ALL" => self.statements.clear(),
            _ => {}
        }
    }
}
