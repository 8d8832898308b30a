//! Exponential backoff with full jitter.

use std::time::Duration;

use tokio::time::Instant;

/// Waits between attempts: a random part of a bound that doubles.
#[derive(Debug, Clone, Copy)]
pub struct Backoff {
    failures: u32,
}

/// Bound of the first wait.
const FIRST: Duration = Duration::from_millis(100);
/// No bound is longer: a host that is back is found within this.
const MOST: Duration = Duration::from_secs(1);

impl Backoff {
    pub const fn new() -> Self {
        Self { failures: 0 }
    }

    /// The bound of the wait after the failures so far.
    pub fn bound(&self) -> Duration {
        FIRST.saturating_mul(1 << self.failures.min(16)).min(MOST)
    }

    /// How long to wait after one more failure. `random` is uniform over all of `u32`.
    pub fn next(&mut self, random: u32) -> Duration {
        let bound = self.bound();
        self.failures = self.failures.saturating_add(1);
        // Never less than a tenth: a wait of nothing is no backoff.
        let part = 0.1 + 0.9 * f64::from(random) / f64::from(u32::MAX);
        bound.mul_f64(part)
    }
}

impl Default for Backoff {
    fn default() -> Self {
        Self::new()
    }
}

/// How often something may be tried that did not work: once in each interval, whoever tries.
#[derive(Debug, Default)]
pub struct Pace {
    backoff: Backoff,
    /// `None`: it worked the last time.
    next_attempt: Option<Instant>,
}

impl Pace {
    /// Asks to try. After a failure one attempt at a time is let through, and the others are told when
    /// to ask again.
    pub fn admit(&mut self, now: Instant) -> Result<(), Instant> {
        let Some(next) = self.next_attempt else { return Ok(()) };
        if now < next {
            return Err(next);
        }
        self.next_attempt = Some(now + self.backoff.bound());
        Ok(())
    }

    /// An attempt came to nothing, at `now`. Returns when the next one may be made.
    pub fn on_failure(&mut self, now: Instant) -> Instant {
        let next = now + self.backoff.next(random());
        self.next_attempt = Some(next);
        next
    }
}

/// 32 random bits from the system; the middle of the range if it has none to give.
pub fn random() -> u32 {
    getrandom::u32().unwrap_or(u32::MAX / 2)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn waits_grow_and_stay_below_their_bound(randoms in prop::collection::vec(any::<u32>(), 1..40)) {
            let mut backoff = Backoff::new();
            for random in randoms {
                let bound = backoff.bound();
                let wait = backoff.next(random);
                prop_assert!(wait <= bound && wait >= bound / 11 && bound <= MOST);
                prop_assert!(backoff.bound() >= bound);
            }
        }
    }
}
