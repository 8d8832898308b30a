//! What the sessions of one worker have moved through a pool.
//!
//! Each worker adds to numbers of its own, of which no other thread writes one: an addition is a load and a
//! store, and no cache line goes from core to core with each transaction.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use super::counters::{Count, Histogram, PerReason, StatementOutcome};

/// A number that one thread adds to, and any may read.
#[derive(Debug, Default)]
pub struct LocalCounter(AtomicU64);

impl LocalCounter {
    pub fn add(&self, n: u64) {
        self.0.store(self.0.load(Relaxed).wrapping_add(n), Relaxed);
    }

    pub fn increment(&self) {
        self.add(1);
    }

    pub fn value(&self) -> u64 {
        self.0.load(Relaxed)
    }
}

impl Count for LocalCounter {
    fn plus(&self, n: u64) {
        self.add(n);
    }

    fn read(&self) -> u64 {
        self.value()
    }
}

/// What one worker has moved, or all of them together.
#[derive(Debug, Default)]
// Whole cache lines, and those that the processor fetches along with them.
#[repr(align(128))]
pub struct Traffic {
    /// Statements answered (simple queries, Executes) and transactions ended.
    pub queries: LocalCounter,
    pub transactions: LocalCounter,
    /// Servers lent.
    pub checkouts: LocalCounter,
    /// Bytes from clients to servers, and from servers to clients.
    pub bytes_received: LocalCounter,
    pub bytes_sent: LocalCounter,
    /// Parse messages from clients, Parse messages to servers, Bind messages.
    pub client_parses: LocalCounter,
    pub server_parses: LocalCounter,
    pub binds: LocalCounter,
    pub statements: PerReason<{ StatementOutcome::COUNT }, LocalCounter>,
    pub query_duration: Histogram<LocalCounter>,
    pub transaction_duration: Histogram<LocalCounter>,
    pub checkout_wait: Histogram<LocalCounter>,
}

impl Traffic {
    fn add_all(&self, other: &Self) {
        let Self {
            queries,
            transactions,
            checkouts,
            bytes_received,
            bytes_sent,
            client_parses,
            server_parses,
            binds,
            statements,
            query_duration,
            transaction_duration,
            checkout_wait,
        } = other;
        self.queries.add(queries.value());
        self.transactions.add(transactions.value());
        self.checkouts.add(checkouts.value());
        self.bytes_received.add(bytes_received.value());
        self.bytes_sent.add(bytes_sent.value());
        self.client_parses.add(client_parses.value());
        self.server_parses.add(server_parses.value());
        self.binds.add(binds.value());
        self.statements.add_all(statements);
        self.query_duration.add_all(query_duration);
        self.transaction_duration.add_all(transaction_duration);
        self.checkout_wait.add_all(checkout_wait);
    }
}

/// What the servers of a pool have been used for.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Work {
    /// Servers lent, and transactions ended.
    pub checkouts: u64,
    pub transactions: u64,
    /// How long transactions had their servers, and how long clients waited for one, in microseconds.
    pub held_micros: u64,
    pub waited_micros: u64,
}

impl Work {
    /// What was done since `earlier`.
    #[must_use]
    pub const fn since(&self, earlier: &Self) -> Self {
        Self {
            checkouts: self.checkouts.wrapping_sub(earlier.checkouts),
            transactions: self.transactions.wrapping_sub(earlier.transactions),
            held_micros: self.held_micros.wrapping_sub(earlier.held_micros),
            waited_micros: self.waited_micros.wrapping_sub(earlier.waited_micros),
        }
    }

    /// What was done in both.
    #[must_use]
    pub const fn plus(&self, other: &Self) -> Self {
        Self {
            checkouts: self.checkouts.wrapping_add(other.checkouts),
            transactions: self.transactions.wrapping_add(other.transactions),
            held_micros: self.held_micros.wrapping_add(other.held_micros),
            waited_micros: self.waited_micros.wrapping_add(other.waited_micros),
        }
    }
}

/// The traffic of a pool, by worker.
#[derive(Debug)]
pub struct Shares(Box<[Arc<Traffic>]>);

impl Shares {
    /// None yet, for `homes` workers.
    pub fn new(homes: usize) -> Self {
        Self((0..homes.max(1)).map(|_| Arc::default()).collect())
    }

    /// The numbers of the worker `home`, which alone may add to them. There is one for each: the rest of it
    /// is for no panic.
    pub fn of(&self, home: usize) -> Arc<Traffic> {
        self.0.get(home).or_else(|| self.0.first()).map_or_else(Arc::default, Arc::clone)
    }

    /// Servers lent.
    pub fn checkouts(&self) -> u64 {
        self.0.iter().map(|traffic| traffic.checkouts.value()).sum()
    }

    /// What is needed to tell how busy the pool is, in all: cheaper than `sum`.
    pub fn work(&self) -> Work {
        let work = |traffic: &Traffic| Work {
            checkouts: traffic.checkouts.value(),
            transactions: traffic.transactions.value(),
            held_micros: traffic.transaction_duration.sum_micros(),
            waited_micros: traffic.checkout_wait.sum_micros(),
        };
        self.0.iter().fold(Work::default(), |sum, traffic| sum.plus(&work(traffic)))
    }

    /// How long clients have waited for servers.
    pub fn waits(&self) -> Histogram<LocalCounter> {
        let sum = Histogram::default();
        self.0.iter().for_each(|traffic| sum.add_all(&traffic.checkout_wait));
        sum
    }

    /// All workers' together.
    pub fn sum(&self) -> Traffic {
        let sum = Traffic::default();
        self.0.iter().for_each(|traffic| sum.add_all(traffic));
        sum
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn each_worker_has_numbers_of_its_own_and_all_are_in_the_sum() {
        let shares = Shares::new(2);
        for (home, n) in [(0, 1), (1, 10)] {
            let traffic = shares.of(home);
            for number in [
                &traffic.queries,
                &traffic.transactions,
                &traffic.checkouts,
                &traffic.bytes_received,
                &traffic.bytes_sent,
                &traffic.client_parses,
                &traffic.server_parses,
                &traffic.binds,
            ] {
                number.add(n);
            }
            traffic.statements.increment(StatementOutcome::Miss as usize);
            for duration in
                [&traffic.query_duration, &traffic.transaction_duration, &traffic.checkout_wait]
            {
                duration.observe(Duration::from_micros(n));
            }
        }

        let sum = shares.sum();

        assert_eq!(shares.of(1).queries.value(), 10);
        assert_eq!(shares.checkouts(), 11);
        let work = Work { checkouts: 11, transactions: 11, held_micros: 11, waited_micros: 11 };
        assert_eq!(shares.work(), work);
        assert_eq!(shares.waits().sum_micros(), 11);
        let numbers = [
            &sum.queries,
            &sum.transactions,
            &sum.checkouts,
            &sum.bytes_received,
            &sum.bytes_sent,
            &sum.client_parses,
            &sum.server_parses,
            &sum.binds,
        ];
        assert_eq!(numbers.map(LocalCounter::value), [11; 8]);
        assert_eq!(sum.statements.values().collect::<Vec<_>>(), [0, 2, 0, 0]);
        for duration in [sum.query_duration, sum.transaction_duration, sum.checkout_wait] {
            let (buckets, micros) = duration.values();
            assert_eq!((buckets[0], micros), (2, 11));
        }
    }
}
