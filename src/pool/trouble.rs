//! What goes wrong when servers are opened: what is remembered of it, and who is told.

use std::sync::{Arc, MutexGuard, PoisonError};
use std::task::Waker;

use tokio::time::Instant;

use super::pool::{Pool, PoolCore};
use super::waiter::{Failure, Waiter};
use crate::runtime::backoff::{Backoff, random};
use crate::server::opening::Opening;

/// What went wrong since a server was last opened.
#[derive(Debug, Default)]
pub(super) struct Trouble {
    last: Option<Failure>,
    /// Checkouts at that moment.
    checkouts: u64,
    refusal: Option<Refusal>,
}

/// Why connecting is pointless for a while.
#[derive(Debug)]
struct Refusal {
    failure: Failure,
    until: Instant,
    backoff: Backoff,
}

impl Pool {
    /// A server was opened.
    pub(super) fn end_trouble(&self) {
        *self.trouble() = Trouble::default();
    }

    /// A connection attempt failed for good: everybody who waits is told.
    pub(super) fn on_refused(&self, failure: &Failure, now: Instant) {
        self.note_trouble(failure);
        {
            let mut trouble = self.trouble();
            let mut backoff = trouble.refusal.take().map_or_else(Backoff::new, |old| old.backoff);
            let until = now + backoff.next(random());
            trouble.refusal = Some(Refusal { failure: failure.clone(), until, backoff });
        }
        self.fail_waiters(failure);
    }

    pub(super) fn note_trouble(&self, failure: &Failure) {
        let mut trouble = self.trouble();
        trouble.last = Some(failure.clone());
        trouble.checkouts = self.traffic.checkouts();
    }

    /// The last failure of a connection attempt, with none having succeeded and no server having been
    /// lent since.
    pub fn last_trouble(&self) -> Option<Failure> {
        let trouble = self.trouble();
        let is_over = self.traffic.checkouts() > trouble.checkouts;
        trouble.last.clone().filter(|_| !is_over)
    }

    /// True if clients have their servers from it, whatever became of the last one that was to be
    /// opened.
    pub fn is_at_work(&self) -> bool {
        let counts = self.core().counts();
        counts.idle > 0 || (counts.lent > 0 && self.last_trouble().is_none())
    }

    /// Why a server cannot be had, as long as it is pointless to ask again.
    pub(super) fn refusal(&self, now: Instant) -> Option<Failure> {
        let trouble = self.trouble();
        trouble.refusal.as_ref().filter(|r| now < r.until).map(|r| r.failure.clone())
    }

    fn trouble(&self) -> MutexGuard<'_, Trouble> {
        self.trouble.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Tells everybody who waits that there will be no server.
    pub(super) fn fail_waiters(&self, failure: &Failure) {
        let mut core = self.core();
        let waiters = core.take_waiters();
        tell(waiters, failure, core);
    }

    /// Tells those who wait for a server with parameters of their own that there will be none.
    pub(super) fn fail_waiters_of(&self, opening: &Arc<Opening>, failure: &Failure) {
        let mut core = self.core();
        let waiters = core.take_waiters_of(opening);
        tell(waiters, failure, core);
    }
}

/// Tells `waiters`, which have left the queue, that there will be no server.
pub(super) fn tell(waiters: Vec<Arc<Waiter>>, failure: &Failure, core: MutexGuard<'_, PoolCore>) {
    let told = waiters.into_iter().map(|waiter| waiter.put(Err(failure.clone())));
    let wakers: Vec<_> = told.collect();
    drop(core);
    wakers.into_iter().flatten().for_each(Waker::wake);
}
