//! Counters and histograms that the data path adds to. Relaxed atomics, no locks, no allocation.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Duration;

use crate::error::Fault;

/// What one pool has done since it was made, but for its [`Traffic`](super::traffic::Traffic).
#[derive(Debug, Default)]
pub struct PoolStats {
    pub logins: Counter,
    pub connects_ok: Counter,
    pub connects_failed: Counter,
    /// Attempts to open a server that followed a failed one.
    pub retries: Counter,
    /// Exchanges that were sent once more behind a new Parse.
    pub repeats: Counter,
    /// Exchanges sent to another server.
    pub lost_retries: Counter,
    /// Servers that were found closed before anything was sent to them: another was taken.
    pub closed_retries: Counter,
    pub closes: PerReason<{ CloseReason::COUNT }>,
    pub server_connect: Histogram,
}

/// What belongs to no pool.
#[derive(Debug, Default)]
pub struct ProcessStats {
    pub accepted: Counter,
    pub login_failures: Counter,
    pub cancels: Counter,
    pub login_duration: Histogram,
    pub errors: ErrorStats,
}

/// What a number has that only grows, whoever adds to it.
pub trait Count: Default {
    fn plus(&self, n: u64);

    fn read(&self) -> u64;
}

/// A number that any thread adds to.
#[derive(Debug, Default)]
pub struct Counter(AtomicU64);

impl Counter {
    pub fn add(&self, n: u64) {
        self.0.fetch_add(n, Relaxed);
    }

    pub fn increment(&self) {
        self.add(1);
    }

    pub fn value(&self) -> u64 {
        self.0.load(Relaxed)
    }
}

impl Count for Counter {
    fn plus(&self, n: u64) {
        self.add(n);
    }

    fn read(&self) -> u64 {
        self.value()
    }
}

/// One counter for each value of a small enum.
#[derive(Debug)]
pub struct PerReason<const N: usize, C = Counter>([C; N]);

impl<const N: usize, C: Count> Default for PerReason<N, C> {
    fn default() -> Self {
        Self(std::array::from_fn(|_| C::default()))
    }
}

impl<const N: usize, C: Count> PerReason<N, C> {
    pub fn increment(&self, index: usize) {
        if let Some(counter) = self.0.get(index) {
            counter.plus(1);
        }
    }

    pub fn values(&self) -> impl Iterator<Item = u64> + '_ {
        self.0.iter().map(C::read)
    }

    /// Adds what `other` has.
    pub(super) fn add_all(&self, other: &Self) {
        self.0.iter().zip(other.values()).for_each(|(sum, n)| sum.plus(n));
    }
}

/// Why a server was closed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[repr(usize)]
pub enum CloseReason {
    /// The server ended the connection, or it broke.
    Lost,
    /// Older than `recycle`.
    Recycle,
    /// Idle longer than `idle_timeout`.
    IdleTimeout,
    /// Beyond `size`, and idle longer than `overflow_linger`.
    Overflow,
    /// `pre_ping` had no answer.
    PrePing,
    /// The client left with work under way.
    ClientLeft,
    /// State could not be discarded.
    ResetFailed,
    /// A cap was reached and another pool's waiter was older.
    TakenOver,
    /// A client waited for a server with startup parameters of its own, or for one without.
    Displaced,
    /// Its host serves the pool no more: it is down, lags behind, or is not the primary.
    HostOut,
    /// Another host of the pool had too few.
    EvenedOut,
    /// `query_timeout`, `transaction_timeout`, `idle_in_transaction_timeout`, `flush_timeout`.
    Timeout,
    /// ALTER or DROP of its role or database, or ALTER SYSTEM.
    Altered,
    /// A transaction block in statement mode, and the like.
    Refused,
    /// The server broke the protocol.
    Protocol,
    /// pgweir is stopping, or its pool is gone.
    Shutdown,
    /// An internal invariant was broken.
    Bug,
}

impl CloseReason {
    pub const ALL: [Self; 17] = [
        Self::Lost,
        Self::Recycle,
        Self::IdleTimeout,
        Self::Overflow,
        Self::PrePing,
        Self::ClientLeft,
        Self::ResetFailed,
        Self::TakenOver,
        Self::Displaced,
        Self::HostOut,
        Self::EvenedOut,
        Self::Timeout,
        Self::Altered,
        Self::Refused,
        Self::Protocol,
        Self::Shutdown,
        Self::Bug,
    ];
    pub const COUNT: usize = Self::ALL.len();

    /// The value of the metric label `reason`.
    pub const fn label(self) -> &'static str {
        match self {
            Self::Lost => "lost",
            Self::Recycle => "recycle",
            Self::IdleTimeout => "idle_timeout",
            Self::Overflow => "overflow",
            Self::PrePing => "pre_ping",
            Self::ClientLeft => "client_left",
            Self::ResetFailed => "reset_failed",
            Self::TakenOver => "taken_over",
            Self::Displaced => "displaced",
            Self::HostOut => "host_out",
            Self::EvenedOut => "evened_out",
            Self::Timeout => "timeout",
            Self::Altered => "altered",
            Self::Refused => "refused",
            Self::Protocol => "protocol",
            Self::Shutdown => "shutdown",
            Self::Bug => "bug",
        }
    }
}

/// What a prepared statement met on the server it was wanted on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[repr(usize)]
pub enum StatementOutcome {
    /// Already there.
    Hit,
    /// Had to be prepared.
    Miss,
    /// Closed to make room.
    Evicted,
    /// Already there when a client parsed it as its unnamed statement.
    Reused,
}

impl StatementOutcome {
    pub const ALL: [Self; 4] = [Self::Hit, Self::Miss, Self::Evicted, Self::Reused];
    pub const COUNT: usize = Self::ALL.len();

    /// The value of the metric label `outcome`.
    pub const fn label(self) -> &'static str {
        match self {
            Self::Hit => "hit",
            Self::Miss => "miss",
            Self::Evicted => "evicted",
            Self::Reused => "reused",
        }
    }
}

/// Errors by SQLSTATE class and fault. A class that is not in [`ErrorStats::CLASSES`] counts as `other`.
#[derive(Debug)]
pub struct ErrorStats([[Counter; 3]; Self::CLASSES.len()]);

impl ErrorStats {
    pub const CLASSES: [&'static str; 17] = [
        "08", "0A", "22", "23", "25", "26", "28", "34", "3D", "40", "42", "53", "54", "55", "57",
        "XX", "other",
    ];
    pub const FAULTS: [Fault; 3] = [Fault::Client, Fault::Server, Fault::Proxy];

    pub fn increment(&self, class: &str, fault: Fault) {
        let row = Self::CLASSES.iter().position(|c| *c == class).unwrap_or(Self::CLASSES.len() - 1);
        let column = Self::FAULTS.iter().position(|f| *f == fault).unwrap_or(0);
        if let Some(counter) = self.0.get(row).and_then(|faults| faults.get(column)) {
            counter.increment();
        }
    }

    /// `(class, fault, count)` of every class and fault, zeros included: a counter that appears with
    /// its first error has no increase to alert on.
    pub fn values(&self) -> impl Iterator<Item = (&'static str, Fault, u64)> + '_ {
        self.0.iter().zip(Self::CLASSES).flat_map(|(row, class)| {
            row.iter().zip(Self::FAULTS).map(move |(c, fault)| (class, fault, c.value()))
        })
    }
}

impl Default for ErrorStats {
    fn default() -> Self {
        Self(std::array::from_fn(|_| std::array::from_fn(|_| Counter::default())))
    }
}

/// A histogram of durations with the fixed bounds of [`BOUNDS_MICROS`].
#[derive(Debug, Default)]
pub struct Histogram<C = Counter> {
    /// One for each bound, and the last for what is longer than all of them. Not cumulative.
    buckets: [C; BOUNDS_MICROS.len() + 1],
    sum_micros: C,
}

/// Upper bounds of a [`Histogram`] in microseconds, 50 µs to 60 s.
pub const BOUNDS_MICROS: [u64; 19] = [
    50, 100, 250, 500, 1_000, 2_500, 5_000, 10_000, 25_000, 50_000, 100_000, 250_000, 500_000,
    1_000_000, 2_500_000, 5_000_000, 10_000_000, 30_000_000, 60_000_000,
];

/// A duration, and where it belongs in a [`Histogram`].
#[derive(Debug, Clone, Copy)]
pub struct Observed {
    micros: u64,
    bucket: usize,
}

impl Observed {
    pub fn of(duration: Duration) -> Self {
        let micros = u64::try_from(duration.as_micros()).unwrap_or(u64::MAX);
        let bucket = BOUNDS_MICROS.partition_point(|bound| *bound < micros);
        Self { micros, bucket }
    }
}

impl<C: Count> Histogram<C> {
    pub fn observe(&self, duration: Duration) {
        self.add(Observed::of(duration));
    }

    /// The same for a duration that more than one observes.
    pub fn add(&self, observed: Observed) {
        if let Some(bucket) = self.buckets.get(observed.bucket) {
            bucket.plus(1);
        }
        self.sum_micros.plus(observed.micros);
    }

    /// The sum of what was observed, in microseconds.
    pub fn sum_micros(&self) -> u64 {
        self.sum_micros.read()
    }

    /// Counts of each bucket (not cumulative), the last unbounded, and the sum in microseconds.
    pub fn values(&self) -> (Vec<u64>, u64) {
        (self.buckets.iter().map(C::read).collect(), self.sum_micros.read())
    }

    /// Adds what `other` has.
    pub(super) fn add_all(&self, other: &Self) {
        self.buckets.iter().zip(&other.buckets).for_each(|(sum, bucket)| sum.plus(bucket.read()));
        self.sum_micros.plus(other.sum_micros());
    }
}
