//! The first use of a statement whose Parse we have answered, because a server had it already.
//!
//! Tables may have been altered since then by who does not go through here: the server refuses to go on with
//! what it has, where it would have prepared it anew for a client of its own. As long as nothing of that
//! exchange has been done, it is sent once more, behind a Parse. Who was told columns earlier hears of it
//! instead, as from a server of its own (`shapes.rs`).

use std::sync::Arc;

use super::batch::Batch;
use super::link::{Link, Linked};
use super::prepared::Desk;
use super::provide::Name;
use super::serve::Session;
use crate::server::exchange::{Segment, Verdict};
use crate::server::undo::Given;
use crate::wire::backend::TxStatus;
use crate::wire::{frame, frontend};

/// Bytes that are kept of an exchange. A longer one is not sent once more.
const KEPT_MOST: usize = 64 * 1024;

/// What a client has sent from the first use of a statement on.
#[derive(Debug, Default)]
pub(super) struct FirstUse {
    /// The uses that are not answered yet: most often one.
    uses: Vec<Use>,
    /// All that was taken of the exchange so far, as long as there are uses.
    sent: Vec<u8>,
    /// Where it goes on in the bytes that are being taken.
    from: usize,
    /// What a statement takes, of which is not known yet whether the server goes on with it.
    parameters: Option<Box<[u8]>>,
}

/// A Bind or Describe.
#[derive(Debug)]
struct Use {
    serial: u64,
    /// Where it stands in what was sent.
    at: usize,
    given: Arc<Given>,
}

impl Desk<'_> {
    /// The message at the batch's place, the next request, uses what is called `name`.
    pub(super) fn note_first_use(&mut self, batch: &Batch<'_>, name: &Name) {
        let Name::Of(given) = name else { return };
        let exchange = &self.server.exchange;
        if exchange.segment() == Segment::Failed || !given.is_first_use() {
            return;
        }
        // What was bound in front of it may have been run, and its answers told.
        if self.in_flight.has_bound {
            return;
        }
        let first = self.first_use.get_or_insert_default();
        if first.uses.is_empty() {
            first.sent.clear();
            first.from = batch.at;
        }
        let at = first.sent.len() + batch.at - first.from;
        first.uses.push(Use { serial: exchange.next_serial(), at, given: Arc::clone(given) });
    }
}

impl Session {
    /// Keeps what was taken from the client, if it may have to be sent once more.
    pub(super) fn keep_sent(&mut self, taken: &[u8]) {
        let Link::Linked(linked) = &mut self.link else { return };
        let Some(first) = &mut linked.first_use else { return };
        let more = taken.get(std::mem::take(&mut first.from)..).unwrap_or_default();
        if first.sent.len() + more.len() > KEPT_MOST {
            first.uses.clear();
            first.sent = Vec::new();
        }
        if first.uses.is_empty() {
            linked.settle_first_use();
        } else {
            first.sent.extend_from_slice(more);
        }
    }

    /// A part of the answer to the client's Describe, the request `serial`. PostgreSQL tells what a
    /// statement takes before it looks whether it can go on with it.
    pub(super) fn pass_description(
        &mut self,
        batch: &mut Batch<'_>,
        tag: u8,
        body: &[u8],
        is_whole: bool,
        serial: u64,
    ) -> Verdict {
        let Link::Linked(linked) = &mut self.link else { return Verdict::Forward };
        let Some(first) = &mut linked.first_use else { return Verdict::Forward };
        if tag == b't' && is_whole && first.place_of(serial).is_some() {
            first.parameters = Some(body.into());
            return Verdict::Swallow;
        }
        // What was told cannot be told otherwise: it is too long to be kept, or all of it.
        first.put_parameters(batch);
        linked.first_use_works(serial);
        Verdict::Forward
    }

    /// The request `serial` has failed, and the client hears of it. What the server has skipped behind it
    /// was not used.
    pub(super) fn first_use_fails(&mut self, batch: &mut Batch<'_>, serial: u64) {
        let Link::Linked(linked) = &mut self.link else { return };
        let Some(first) = &mut linked.first_use else { return };
        let Some(server) = linked.checkout.peek() else { return };
        first.put_parameters(batch);
        first.skip(serial, server.exchange.head_serial());
        linked.settle_first_use();
    }

    /// The server did not go on with the statement that the request `serial` uses. True if all that the
    /// client has sent since is sent once more: the client hears nothing of the failure.
    pub(super) fn repeat(&mut self, serial: u64) -> bool {
        let is_cut = self.client_rest > 0;
        let Link::Linked(linked) = &mut self.link else { return false };
        if is_cut || linked.is_leaving || linked.in_flight.changes_meaning {
            return false;
        }
        let Some(first) = &mut linked.first_use else { return false };
        let Some(at) = first.place_of(serial) else { return false };
        let Some(server) = linked.checkout.server() else { return false };
        // A block has failed, and with it what came before. A cancel was meant for this.
        if server.exchange.tx() != TxStatus::Idle
            || linked.cancel_sent.is_some()
            || server.record.cancels().are_under_way()
        {
            return false;
        }
        let Some(is_ended) = server.exchange.end_unheard() else { return false };
        if !is_ended {
            frontend::put_sync(&mut server.outbox);
        }
        first.skip(serial, server.exchange.next_serial());
        let mut again = first.sent.split_off(at);
        linked.first_use = None;
        linked.awaits.answers = true;
        again.append(&mut self.inbox);
        self.inbox = again;
        self.pool.stats.repeats.increment();
        true
    }
}

impl Linked {
    /// The server has answered the use with this serial number as one that works.
    pub(super) fn first_use_works(&mut self, serial: u64) {
        if let Some(first) = &mut self.first_use {
            first.uses.retain(|one| one.serial > serial);
            self.settle_first_use();
        }
    }

    /// Nothing is kept that nobody may ask for.
    fn settle_first_use(&mut self) {
        self.first_use.take_if(|first| first.uses.is_empty() && first.parameters.is_none());
    }
}

impl FirstUse {
    fn place_of(&self, serial: u64) -> Option<usize> {
        self.uses.iter().find(|one| one.serial == serial).map(|one| one.at)
    }

    fn put_parameters(&mut self, batch: &mut Batch<'_>) {
        if let Some(parameters) = self.parameters.take() {
            batch.gather();
            frame::put(batch.out, b't', |out| out.extend_from_slice(&parameters));
        }
    }

    /// The use with this serial number is over, and what stands between it and `behind` was skipped.
    fn skip(&mut self, serial: u64, behind: u64) {
        for one in self.uses.extract_if(.., |one| one.serial < behind) {
            if one.serial > serial {
                one.given.note_untried();
            }
        }
    }
}
