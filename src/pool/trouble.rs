//! What goes wrong when servers are opened: what is remembered of it, and who is told.

use std::sync::{Arc, MutexGuard, PoisonError};
use std::task::Waker;
use std::time::Duration;

use tokio::time::Instant;

use super::pool::{Pool, PoolCore};
use super::waiter::{Failure, Waiter};
use crate::server::opening::Opening;

/// What went wrong since a server was last opened.
#[derive(Debug, Default)]
pub(super) struct Trouble {
    last: Option<Failure>,
    /// Checkouts at that moment.
    checkouts: u64,
    refusal: Option<Refusal>,
}

/// How much of what is done may be done again: a tenth, and a few more. Retries must not make an overload
/// worse.
#[derive(Debug, Default)]
pub(super) struct RetryBudget {
    /// Since when this is counted.
    since: Option<Instant>,
    /// Servers lent until then.
    checkouts: u64,
    /// Retries since then.
    retries: u64,
}

/// For how long retries are counted together.
const BUDGET_WINDOW: Duration = Duration::from_secs(10);

/// Retries that are always allowed in that time: all that a small pool has under way when a host goes.
const RETRIES_FREE: u64 = 100;

impl RetryBudget {
    /// Asks for one more retry at `now`, with so many servers lent so far.
    fn take(&mut self, now: Instant, checkouts: u64) -> bool {
        let is_over = |since: Instant| now.saturating_duration_since(since) > BUDGET_WINDOW;
        if self.since.is_none_or(is_over) {
            *self = Self { since: Some(now), checkouts, retries: 0 };
        }
        let is_left = self.retries < RETRIES_FREE + checkouts.saturating_sub(self.checkouts) / 10;
        self.retries += u64::from(is_left);
        is_left
    }
}

/// Why connecting is pointless for a while.
#[derive(Debug)]
struct Refusal {
    failure: Failure,
    until: Instant,
}

impl Pool {
    /// A server was opened.
    pub(super) fn end_trouble(&self) {
        *self.trouble() = Trouble::default();
    }

    /// A connection attempt failed for good: everybody who waits is told, and until the next attempt
    /// everybody who asks.
    pub(super) fn on_refused(&self, failure: &Failure, until: Instant) {
        self.note_trouble(failure);
        self.trouble().refusal = Some(Refusal { failure: failure.clone(), until });
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

    /// Asks whether one more exchange may be sent again.
    pub fn may_retry(&self) -> bool {
        let mut budget = self.budget.lock().unwrap_or_else(PoisonError::into_inner);
        budget.take(Instant::now(), self.traffic.checkouts())
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn retries_are_a_tenth_of_what_is_done_and_a_few() {
        let (start, mut budget) = (Instant::now(), RetryBudget::default());
        let granted = |budget: &mut RetryBudget, at, checkouts| {
            (0..10_000).filter(|_| budget.take(at, checkouts)).count() as u64
        };
        assert_eq!(granted(&mut budget, start, 5_000), RETRIES_FREE);
        assert_eq!(granted(&mut budget, start, 6_000), 100);
        let later = start + BUDGET_WINDOW + Duration::from_millis(1);
        assert_eq!(granted(&mut budget, later, 6_000), RETRIES_FREE);
    }
}
