//! What a pool was asked for in the last quarter of an hour, half-minute by half-minute. Pure: the clock is
//! passed in.

use std::collections::VecDeque;
use std::time::Duration;

use tokio::time::Instant;

use super::limiter::Reading;
use crate::telemetry::counters::BOUNDS_MICROS;
use crate::telemetry::snapshot::{Load, Strain};
use crate::telemetry::traffic::Work;

/// The record of one pool.
#[derive(Debug)]
pub(super) struct LoadRecord {
    /// Whole ones, the oldest first. Without those at the front in which nothing was asked for.
    slots: VecDeque<Slot>,
    open: Slot,
    /// When it was looked at last, and what had been done by then.
    last: (Instant, Work),
    /// The counts of all waits so far, by length, as the open slot began.
    waits: Vec<u64>,
}

/// What was done in half a minute.
#[derive(Debug, Clone, Copy, Default)]
struct Slot {
    took: Duration,
    work: Work,
    /// How often it was looked at, and how often all servers were in use then that might be.
    looks: u32,
    full: u32,
    /// Servers in use, added up over the looks, and the most of them.
    in_use: usize,
    most: usize,
    /// Clients that waited noticeably, and the longest that any did.
    waits: u64,
    longest: Duration,
}

impl LoadRecord {
    /// Of a pool that is made now.
    pub(super) fn new(now: Instant) -> Self {
        Self {
            slots: VecDeque::new(),
            open: Slot::default(),
            last: (now, Work::default()),
            waits: Vec::new(),
        }
    }

    /// Takes note of a pool that may have `limit` servers in use and whose oldest waiter has waited for
    /// `oldest`. `waits`: how many waits there were, by length.
    pub(super) fn look(
        &mut self,
        now: Instant,
        (reading, limit): (&Reading, usize),
        oldest: Duration,
        waits: impl FnOnce() -> Vec<u64>,
    ) {
        let (at, work) = std::mem::replace(&mut self.last, (now, reading.work));
        let open = &mut self.open;
        open.took += now.saturating_duration_since(at);
        open.work = open.work.plus(&reading.work.since(&work));
        open.looks += 1;
        open.full += u32::from(reading.in_use >= limit);
        open.in_use += reading.in_use;
        open.most = open.most.max(reading.in_use);
        open.longest = open.longest.max(oldest);
        if open.took >= SLOT {
            self.end_slot(waits());
        }
    }

    fn end_slot(&mut self, waits: Vec<u64>) {
        let mut slot = std::mem::take(&mut self.open);
        slot.note_waits(&self.waits, &waits);
        self.waits = waits;
        self.slots.push_back(slot);
        while self.slots.len() > SLOTS || self.slots.front().is_some_and(Slot::is_empty) {
            self.slots.pop_front();
        }
    }

    /// What there was, with `waits` so far.
    pub(super) fn load(&self, waits: &[u64]) -> Load {
        let mut open = self.open;
        open.note_waits(&self.waits, waits);
        let slots: Vec<_> = self.slots.iter().copied().chain([open]).collect();
        let whole = slots.iter().fold(Slot::default(), |sum, slot| sum.plus(slot));
        if whole.is_empty() {
            return Load::default();
        }
        let waited = slots.iter().filter(|slot| slot.has_waits());
        let with_waits = waited.fold(Slot::default(), |sum, slot| sum.plus(slot));
        let busiest = telling(&slots).max_by(|a, b| a.used().total_cmp(&b.used()));
        let busiest = busiest.copied().unwrap_or(whole);
        Load {
            period: whole.took,
            transactions: whole.work.transactions,
            hold: each(whole.work.held_micros, whole.work.transactions),
            busiest: busiest.used(),
            queued: busiest.queued(),
            most: whole.most,
            full: whole.full_share(),
            full_at_waits: with_waits.full_share(),
            waits: whole.waits,
            mean_wait: each(whole.work.waited_micros, whole.waits),
            longest_wait: whole.longest,
            strain: strain(&slots, &busiest),
        }
    }
}

/// Those of `slots` that are long enough to be averaged over.
fn telling(slots: &[Slot]) -> impl Iterator<Item = &Slot> {
    slots.iter().filter(|slot| slot.took >= SLOT / 3)
}

/// How much longer transactions take in the busiest slot than in the quietest that has enough of them.
fn strain(slots: &[Slot], busiest: &Slot) -> Option<Strain> {
    let judged = telling(slots).filter(|slot| slot.work.transactions >= ENOUGH);
    let quiet = judged.min_by(|a, b| a.used().total_cmp(&b.used()))?;
    let hold = |slot: &Slot| each(slot.work.held_micros, slot.work.transactions).as_secs_f64();
    let (quick, slow) = (hold(quiet), hold(busiest));
    if busiest.work.transactions < ENOUGH || quiet.used() * 2.0 > busiest.used() || quick <= 0.0 {
        return None;
    }
    let rate = number(busiest.work.transactions) / busiest.took.as_secs_f64();
    Some(Strain { slower: slow / quick, servers: rate * quick })
}

impl Slot {
    const fn is_empty(&self) -> bool {
        self.work.checkouts == 0 && self.most == 0 && self.longest.is_zero()
    }

    /// Clients waited in it.
    const fn has_waits(&self) -> bool {
        self.waits > 0 || !self.longest.is_zero()
    }

    /// Share of the looks at which all were in use that might be.
    fn full_share(&self) -> f64 {
        f64::from(self.full) / f64::from(self.looks.max(1))
    }

    fn plus(&self, other: &Self) -> Self {
        Self {
            took: self.took + other.took,
            work: self.work.plus(&other.work),
            looks: self.looks + other.looks,
            full: self.full + other.full,
            in_use: self.in_use + other.in_use,
            most: self.most.max(other.most),
            waits: self.waits + other.waits,
            longest: self.longest.max(other.longest),
        }
    }

    /// Servers in use on average: by Little's law, transactions by the second × how long each has its server; or
    /// as they were counted, which is more where transactions have not ended, or are not all of the time.
    fn used(&self) -> f64 {
        let counted = number(self.in_use as u64) / f64::from(self.looks.max(1));
        let held = number(self.work.held_micros) / 1e6;
        counted.max(held / self.took.as_secs_f64().max(1e-3))
    }

    /// Clients that wait, on average.
    fn queued(&self) -> f64 {
        number(self.work.waited_micros) / 1e6 / self.took.as_secs_f64().max(1e-3)
    }

    /// `before` and `after`: how many waits there were, by length.
    fn note_waits(&mut self, before: &[u64], after: &[u64]) {
        let before = before.iter().copied().chain(std::iter::repeat(0));
        let bounds = BOUNDS_MICROS.iter().copied().chain([u64::MAX]);
        for ((count, earlier), bound) in after.iter().zip(before).zip(bounds) {
            let new = count.saturating_sub(earlier);
            if new > 0 && bound > NOTICED_MICROS {
                self.waits += new;
                let bound = bound.min(BOUNDS_MICROS.last().copied().unwrap_or_default());
                self.longest = self.longest.max(Duration::from_micros(bound));
            }
        }
    }
}

/// A duration for each of `count`; none without any.
fn each(micros: u64, count: u64) -> Duration {
    Duration::from_micros(micros.checked_div(count).unwrap_or_default())
}

#[expect(clippy::cast_precision_loss, reason = "for an average; exact up to 2^53")]
const fn number(n: u64) -> f64 {
    n as f64
}

const SLOT: Duration = Duration::from_secs(30);

/// With the open one that is a quarter of an hour.
const SLOTS: usize = 29;

/// So many transactions tell how long they take.
const ENOUGH: u64 = 100;

/// A wait that is no longer than this is none.
const NOTICED_MICROS: u64 = 1_000;

#[cfg(test)]
mod tests {
    use super::*;

    /// A pool, looked at twice a second.
    struct Pool {
        record: LoadRecord,
        now: Instant,
        work: Work,
        waits: Vec<u64>,
    }

    impl Pool {
        fn new() -> Self {
            let now = Instant::now();
            Self {
                record: LoadRecord::new(now),
                now,
                work: Work::default(),
                waits: vec![0; BOUNDS_MICROS.len() + 1],
            }
        }

        /// `rate` transactions by the second, each of which has a server for `hold` and waits for `wait`.
        fn run(&mut self, seconds: u64, rate: u64, hold: Duration, wait: Duration) {
            for _ in 0..seconds * 2 {
                self.now += Duration::from_millis(500);
                let micros = |each: Duration| u64::from(each.subsec_micros());
                let done = rate / 2;
                let more = Work {
                    checkouts: done,
                    transactions: done,
                    held_micros: done * micros(hold),
                    waited_micros: done * micros(wait),
                };
                self.work = self.work.plus(&more);
                let bucket = BOUNDS_MICROS.partition_point(|bound| *bound < micros(wait));
                self.waits[bucket] += done;
                let in_use = usize::try_from(rate * micros(hold) / 1_000_000).unwrap();
                let reading = Reading { work: self.work, in_use, ..Reading::default() };
                let waits = self.waits.clone();
                self.record.look(self.now, (&reading, 10), Duration::ZERO, || waits);
            }
        }

        fn load(&self) -> Load {
            self.record.load(&self.waits)
        }
    }

    const MS: Duration = Duration::from_millis(1);

    #[test]
    fn a_pool_that_nobody_asks_has_no_load() {
        let mut pool = Pool::new();
        pool.run(300, 0, MS, Duration::ZERO);
        assert_eq!(pool.load(), Load::default());
    }

    #[test]
    fn servers_in_use_are_the_rate_times_how_long_each_is_held() {
        let mut pool = Pool::new();
        pool.run(60, 100, 30 * MS, Duration::ZERO);

        let load = pool.load();

        assert!((load.busiest - 3.0).abs() < 0.1, "{load:?}");
        assert_eq!((load.transactions, load.hold, load.most), (6_000, 30 * MS, 3));
        assert_eq!((load.waits, load.longest_wait, load.full), (0, Duration::ZERO, 0.0));
        assert_eq!(load.strain, None);
    }

    #[test]
    fn the_busiest_half_minute_counts_as_long_as_it_is_remembered() {
        let mut pool = Pool::new();
        pool.run(60, 100, 10 * MS, Duration::ZERO);
        pool.run(30, 1_000, 10 * MS, 20 * MS);
        pool.run(600, 100, 10 * MS, Duration::ZERO);
        let load = pool.load();
        assert!((load.busiest - 10.0).abs() < 0.5, "{load:?}");
        assert!((load.queued - 20.0).abs() < 1.0, "{load:?}");
        assert_eq!((load.waits, load.mean_wait), (30_000, 20 * MS));
        assert_eq!(load.longest_wait, 25 * MS, "the bound of the bucket");
        assert!((load.full - 30.0 / 690.0).abs() < 0.01, "{load:?}");
        assert!((load.full_at_waits - 1.0).abs() < 0.01, "{load:?}");

        pool.run(900, 100, 10 * MS, Duration::ZERO);
        let load = pool.load();
        assert!((load.busiest - 1.0).abs() < 0.1, "{load:?}");
        assert_eq!(load.waits, 0);
        assert!((870..=900).contains(&load.period.as_secs()), "{load:?}");
    }

    #[test]
    fn transactions_that_take_longer_the_more_there_are_show_a_strain() {
        let mut pool = Pool::new();
        pool.run(60, 200, 5 * MS, Duration::ZERO);
        pool.run(60, 400, 25 * MS, 50 * MS);

        let strain = pool.load().strain.expect("a quiet and a busy time");

        assert!((strain.slower - 5.0).abs() < 0.1, "{strain:?}");
        assert!((strain.servers - 2.0).abs() < 0.1, "{strain:?}");
    }
}
