//! The first use of a statement whose Parse we have answered, because a server had it already.
//!
//! Tables may have been altered since the server has it, by who does not go through here: it refuses to go on
//! with it, where it would have prepared it anew for a client of its own. As long as nothing of that exchange
//! has been done, it is sent once more, behind a Parse. Who was told of columns earlier hears of it instead, as
//! from a server of its own (`shapes.rs`).

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

/// The uses under way of statements that none has worked of, and what a client has sent from there on.
#[derive(Debug, Default)]
pub(super) struct FirstUse {
    /// Most often one.
    uses: Vec<Use>,
    /// All that was taken of the exchange so far, as long as a use may be repeated.
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
    given: Arc<Given>,
    /// Where it stands in what was sent; `None`: it is not sent once more.
    at: Option<usize>,
}

impl Desk<'_> {
    /// The message at the batch's place, the next request, uses what is called `name`.
    pub(super) fn note_first_use(&mut self, batch: &Batch<'_>, name: &Name) {
        let Name::Of(given) = name else { return };
        let exchange = &self.server.exchange;
        if exchange.segment() == Segment::Failed || !given.is_untried() {
            return;
        }
        let first = self.first_use.get_or_insert_default();
        if !first.is_kept() {
            first.sent.clear();
            first.from = batch.at;
        }
        // What was bound in front of it may have been run, and its answers told.
        let at = (!self.in_flight.has_bound).then(|| first.sent.len() + batch.at - first.from);
        first.uses.push(Use { serial: exchange.next_serial(), given: Arc::clone(given), at });
    }
}

impl Session {
    /// Keeps what was taken from the client, if it may have to be sent once more.
    pub(super) fn keep_sent(&mut self, taken: &[u8]) {
        let Link::Linked(linked) = &mut self.link else { return };
        let Some(first) = linked.first_use.as_mut().filter(|first| first.is_kept()) else { return };
        let more = taken.get(std::mem::take(&mut first.from)..).unwrap_or_default();
        first.sent.extend_from_slice(more);
        if first.sent.len() > KEPT_MOST {
            first.sent = Vec::new();
            for one in &mut first.uses {
                one.at = None;
            }
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
        if tag == b't' && is_whole && first.find(serial).is_some() {
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
        if first.put_parameters(batch)
            && let Some(failed) = first.find(serial)
        {
            failed.given.note_tried();
        }
        let behind = server.exchange.head_serial();
        first.uses.retain(|one| one.serial >= behind);
        linked.settle_first_use();
    }

    /// The server did not go on with the statement that the request `serial` uses, or has lost it. True if
    /// all that the client has sent since is sent once more: the client hears nothing of the failure.
    pub(super) fn repeat(&mut self, serial: u64) -> bool {
        let is_cut = self.client_rest > 0;
        let Link::Linked(linked) = &mut self.link else { return false };
        if is_cut || linked.is_leaving || linked.in_flight.changes_meaning {
            return false;
        }
        let Some(first) = &mut linked.first_use else { return false };
        let Some(failed) = first.find(serial) else { return false };
        let (Some(at), given) = (failed.at, Arc::clone(&failed.given)) else { return false };
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
        // It is not repeated for ever, whatever becomes of it.
        given.note_tried();
        let mut again = first.sent.split_off(at);
        linked.first_use = None;
        // What is kept for another server would be kept twice.
        linked.again = None;
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
        let Some(first) = &mut self.first_use else { return };
        for one in first.uses.extract_if(.., |one| one.serial <= serial) {
            one.given.note_tried();
        }
        self.settle_first_use();
    }

    /// Nothing is kept that nobody may ask for.
    fn settle_first_use(&mut self) {
        self.first_use.take_if(|first| first.uses.is_empty() && first.parameters.is_none());
    }
}

impl FirstUse {
    fn find(&self, serial: u64) -> Option<&Use> {
        self.uses.iter().find(|one| one.serial == serial)
    }

    fn is_kept(&self) -> bool {
        self.uses.iter().any(|one| one.at.is_some())
    }

    /// Tells what is kept back; true if there was something.
    fn put_parameters(&mut self, batch: &mut Batch<'_>) -> bool {
        let Some(parameters) = self.parameters.take() else { return false };
        batch.gather();
        frame::put(batch.out, b't', |out| out.extend_from_slice(&parameters));
        true
    }
}
