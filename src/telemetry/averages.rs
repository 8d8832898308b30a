//! Averages over the last whole period, as `SHOW STATS` has them.

use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::time::{Instant, MissedTickBehavior, interval_at};
use tokio_util::sync::CancellationToken;

use super::snapshot::{Observe, PoolSnapshot};

/// Length of a period: `PgBouncer`'s `stats_period`.
pub const PERIOD: Duration = Duration::from_secs(60);

/// Takes the totals of all pools once a period, until `stop`.
pub async fn run(averages: Arc<Averages>, observe: Arc<dyn Observe>, stop: CancellationToken) {
    let mut ticks = interval_at(Instant::now() + PERIOD, PERIOD);
    // After a pause of the machine one period is long; several of length zero would read as 0.
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            () = stop.cancelled() => return,
            now = ticks.tick() => averages.sample(&observe.pools(), now),
        }
    }
}

/// What the pools did in the last whole period.
#[derive(Debug)]
pub struct Averages(Mutex<Sampler>);

impl Averages {
    /// A period begins now.
    pub fn new(now: Instant) -> Self {
        Self(Mutex::new(Sampler::new(now)))
    }

    /// Ends a period at `now`.
    pub fn sample(&self, pools: &[PoolSnapshot], now: Instant) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).sample(pools, now);
    }

    /// By what the console calls their database. Nothing until the first period has ended.
    pub fn databases(&self) -> BTreeMap<Arc<str>, Totals> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).averages.clone()
    }

    /// Over all databases.
    pub fn whole(&self) -> Totals {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).whole
    }
}

/// The numbers of `SHOW STATS`, of one pool or of several. Times are in microseconds.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Totals {
    pub assignments: u64,
    pub transactions: u64,
    pub queries: u64,
    pub bytes_received: u64,
    pub bytes_sent: u64,
    pub transaction_micros: u64,
    pub query_micros: u64,
    pub wait_micros: u64,
    pub client_parses: u64,
    pub server_parses: u64,
    pub binds: u64,
    pub logins: u64,
}

impl Totals {
    pub fn new(pool: &PoolSnapshot) -> Self {
        let traffic = &pool.traffic;
        Self {
            assignments: traffic.checkouts.value(),
            transactions: traffic.transactions.value(),
            queries: traffic.queries.value(),
            bytes_received: traffic.bytes_received.value(),
            bytes_sent: traffic.bytes_sent.value(),
            transaction_micros: traffic.transaction_duration.sum_micros(),
            query_micros: traffic.query_duration.sum_micros(),
            wait_micros: traffic.checkout_wait.sum_micros(),
            client_parses: traffic.client_parses.value(),
            server_parses: traffic.server_parses.value(),
            binds: traffic.binds.value(),
            logins: pool.stats.logins.value(),
        }
    }

    /// Totals by what the console calls their database.
    pub fn databases(pools: &[PoolSnapshot]) -> BTreeMap<Arc<str>, Self> {
        let mut databases = BTreeMap::<Arc<str>, Self>::new();
        for pool in pools {
            let sum = databases.entry(Arc::clone(pool.shown_database())).or_default();
            *sum = sum.plus(&Self::new(pool));
        }
        databases
    }

    pub fn sum<'a>(all: impl IntoIterator<Item = &'a Self>) -> Self {
        all.into_iter().fold(Self::default(), |sum, one| sum.plus(one))
    }

    #[must_use]
    pub fn plus(&self, other: &Self) -> Self {
        self.zip(other, u64::wrapping_add)
    }

    /// Since `earlier`; 0 where there is less than then.
    fn since(&self, earlier: &Self) -> Self {
        self.zip(earlier, u64::saturating_sub)
    }

    /// In the columns' order.
    pub const fn values(&self) -> [u64; 12] {
        [
            self.assignments,
            self.transactions,
            self.queries,
            self.bytes_received,
            self.bytes_sent,
            self.transaction_micros,
            self.query_micros,
            self.wait_micros,
            self.client_parses,
            self.server_parses,
            self.binds,
            self.logins,
        ]
    }

    fn zip(&self, other: &Self, apply: fn(u64, u64) -> u64) -> Self {
        Self {
            assignments: apply(self.assignments, other.assignments),
            transactions: apply(self.transactions, other.transactions),
            queries: apply(self.queries, other.queries),
            bytes_received: apply(self.bytes_received, other.bytes_received),
            bytes_sent: apply(self.bytes_sent, other.bytes_sent),
            transaction_micros: apply(self.transaction_micros, other.transaction_micros),
            query_micros: apply(self.query_micros, other.query_micros),
            wait_micros: apply(self.wait_micros, other.wait_micros),
            client_parses: apply(self.client_parses, other.client_parses),
            server_parses: apply(self.server_parses, other.server_parses),
            binds: apply(self.binds, other.binds),
            logins: apply(self.logins, other.logins),
        }
    }

    /// What was done in `period`, as `PgBouncer` averages it: counts and bytes for each second,
    /// times for each transaction, query and assignment.
    fn averaged(&self, period: Duration) -> Self {
        let rate = |count: u64| {
            let micros = period.as_micros().max(1);
            u64::try_from(u128::from(count) * 1_000_000 / micros).unwrap_or(u64::MAX)
        };
        let each = |micros: u64, count: u64| micros.checked_div(count).unwrap_or(0);
        Self {
            assignments: rate(self.assignments),
            transactions: rate(self.transactions),
            queries: rate(self.queries),
            bytes_received: rate(self.bytes_received),
            bytes_sent: rate(self.bytes_sent),
            transaction_micros: each(self.transaction_micros, self.transactions),
            query_micros: each(self.query_micros, self.queries),
            wait_micros: each(self.wait_micros, self.assignments),
            client_parses: rate(self.client_parses),
            server_parses: rate(self.server_parses),
            binds: rate(self.binds),
            logins: rate(self.logins),
        }
    }
}

/// The totals at the last period's end, and the averages up to there. No clock of its own.
#[derive(Debug)]
struct Sampler {
    at: Instant,
    /// By domain, database, mode, user and host: a pool that goes away takes its totals with it,
    /// and must not make those of its database's other pools shrink.
    pools: HashMap<PoolKey, Totals>,
    averages: BTreeMap<Arc<str>, Totals>,
    /// Of all databases together: times cannot be added up from averages.
    whole: Totals,
}

type PoolKey = (Arc<str>, Arc<str>, &'static str, Arc<str>, Arc<str>);

impl Sampler {
    fn new(now: Instant) -> Self {
        Self { at: now, pools: HashMap::new(), averages: BTreeMap::new(), whole: Totals::default() }
    }

    fn sample(&mut self, pools: &[PoolSnapshot], now: Instant) {
        let mut done = BTreeMap::<Arc<str>, Totals>::new();
        let mut newer = HashMap::with_capacity(pools.len());
        for pool in pools {
            let key = (
                Arc::clone(&pool.domain),
                Arc::clone(&pool.database),
                pool.mode,
                Arc::clone(&pool.user),
                Arc::clone(&pool.host),
            );
            let totals = Totals::new(pool);
            let before = self.pools.get(&key).copied().unwrap_or_default();
            let sum = done.entry(Arc::clone(pool.shown_database())).or_default();
            *sum = sum.plus(&totals.since(&before));
            newer.insert(key, totals);
        }
        let period = now.saturating_duration_since(self.at);
        self.whole = Totals::sum(done.values()).averaged(period);
        self.averages = done.into_iter().map(|(name, d)| (name, d.averaged(period))).collect();
        self.pools = newer;
        self.at = now;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::telemetry::fake::{self, Fake};

    #[tokio::test(start_paused = true)]
    async fn counts_are_by_the_second_and_times_by_the_piece() {
        let pool = fake::pool("markets", "markets_db", "postgres");
        let averages = Averages::new(Instant::now());
        let start = Instant::now();
        averages.sample(std::slice::from_ref(&pool), start + PERIOD);

        pool.traffic.queries.add(600);
        pool.traffic.query_duration.observe(Duration::from_millis(1_200));
        pool.traffic.bytes_sent.add(61);
        averages.sample(std::slice::from_ref(&pool), start + 2 * PERIOD);

        let database = averages.databases()["markets"];
        assert_eq!(database.queries, 10);
        assert_eq!(database.query_micros, 2_000);
        assert_eq!(database.bytes_sent, 1);
        assert_eq!(database.transaction_micros, 0, "no transaction in this period");
    }

    #[tokio::test(start_paused = true)]
    async fn a_pool_that_goes_away_does_not_hide_the_others() {
        let (stays, goes) = (fake::pool("*", "db", "alice"), fake::pool("*", "db", "bob"));
        goes.traffic.queries.add(1_000_000);
        let averages = Averages::new(Instant::now());
        let start = Instant::now();
        averages.sample(&[stays.clone(), goes], start + PERIOD);

        stays.traffic.queries.add(120);
        averages.sample(std::slice::from_ref(&stays), start + 2 * PERIOD);

        assert_eq!(averages.databases()["db"].queries, 2);
    }

    #[tokio::test(start_paused = true)]
    async fn the_task_ends_a_period_every_minute_and_stops_when_told() {
        let averages = Arc::new(Averages::new(Instant::now()));
        let stop = CancellationToken::new();
        let task = run(Arc::clone(&averages), Fake::new().shared(), stop.clone());
        let mut task = std::pin::pin!(task);

        let before = tokio::time::timeout(PERIOD / 2, task.as_mut()).await;
        assert!(before.is_err() && averages.databases().is_empty());
        let after = tokio::time::timeout(PERIOD, task.as_mut()).await;
        assert!(after.is_err());
        assert_eq!(averages.databases()["markets"].bytes_sent, 5_000 / 60);

        stop.cancel();
        task.await;
    }
}
