//! What a domain's pools have done and do, as numbers.

use crate::telemetry::counters::{BOUNDS_MICROS, Count, Histogram};
use crate::telemetry::snapshot::{PoolSnapshot, ProcessSnapshot};

/// A domain at one moment.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Tally {
    /// Servers lent, idle, and all of them.
    pub(super) active: usize,
    pub(super) idle: usize,
    pub(super) servers: usize,
    /// Clients, and how many of them wait for a server.
    pub(super) clients: usize,
    pub(super) waiting: usize,
    /// Since the start.
    pub(super) logins: u64,
    pub(super) connects: u64,
    pub(super) transactions: u64,
    pub(super) queries: u64,
    pub(super) query_micros: u64,
    /// By the buckets of [`Histogram`].
    pub(super) query_duration: Vec<u64>,
    pub(super) checkout_wait: Vec<u64>,
}

impl Tally {
    /// The pools of `domain`, together.
    pub(super) fn of(domain: &str, pools: &[PoolSnapshot]) -> Self {
        let mut sum = Self::default();
        for pool in pools.iter().filter(|pool| &*pool.domain == domain) {
            sum.active += pool.servers.active;
            sum.idle += pool.servers.idle;
            sum.servers += pool.servers.total();
            sum.clients += pool.clients_active + pool.clients_idle + pool.clients_waiting;
            sum.waiting += pool.clients_waiting;
            sum.logins += pool.stats.logins.value();
            sum.connects += pool.stats.connects_ok.value();
            sum.transactions += pool.traffic.transactions.value();
            sum.queries += pool.traffic.queries.value();
            sum.query_micros += pool.traffic.query_duration.sum_micros();
            add(&mut sum.query_duration, &pool.traffic.query_duration);
            add(&mut sum.checkout_wait, &pool.traffic.checkout_wait);
        }
        sum
    }

    /// Mean time in milliseconds of the queries since `earlier`; `None` without any.
    pub(super) fn mean_response(&self, earlier: &Self) -> Option<f64> {
        let queries = self.queries.saturating_sub(earlier.queries);
        let micros = self.query_micros.saturating_sub(earlier.query_micros);
        (queries > 0).then(|| number(micros) / number(queries) / 1e3)
    }

    /// Transactions a second since `earlier`, which was `seconds` ago.
    pub(super) fn rate(&self, earlier: &Self, seconds: f64) -> f64 {
        number(self.transactions.saturating_sub(earlier.transactions)) / seconds.max(1e-3)
    }
}

/// Errors that clients were told, by whose fault and SQLSTATE class; `none` without any.
pub(super) fn errors(process: &ProcessSnapshot) -> String {
    let told: Vec<_> = process
        .stats
        .errors
        .values()
        .filter(|(_, _, count)| *count > 0)
        .map(|(class, fault, count)| format!("{count} of class {class} ({})", fault.label()))
        .collect();
    if told.is_empty() { "none".to_owned() } else { told.join(", ") }
}

/// The time in milliseconds that `share` (0 to 1) of the observations did not exceed, assuming that
/// they are spread evenly within a bucket; `None` without any. What is beyond the last bound counts
/// as that bound.
pub(super) fn quantile(buckets: &[u64], share: f64) -> Option<f64> {
    let all: u64 = buckets.iter().sum();
    if all == 0 {
        return None;
    }
    let wanted = number(all) * share;
    let (mut seen, mut lower) = (0, 0);
    for (bound, count) in BOUNDS_MICROS.into_iter().zip(buckets) {
        let before = number(seen);
        seen += count;
        if *count > 0 && number(seen) >= wanted {
            let part = ((wanted - before) / number(*count)).clamp(0.0, 1.0);
            return Some((number(bound - lower).mul_add(part, number(lower))) / 1e3);
        }
        lower = bound;
    }
    Some(number(lower) / 1e3)
}

fn add(sum: &mut Vec<u64>, histogram: &Histogram<impl Count>) {
    let (buckets, _) = histogram.values();
    sum.resize(buckets.len(), 0);
    sum.iter_mut().zip(buckets).for_each(|(sum, count)| *sum += count);
}

#[expect(clippy::cast_precision_loss, reason = "counts of a demo are far below 2^53")]
const fn number(count: u64) -> f64 {
    count as f64
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::error::Fault;
    use crate::telemetry::counters::Counter;
    use crate::telemetry::fake::{self, Fake};
    use crate::telemetry::snapshot::Observe as _;

    #[test]
    fn pools_of_one_domain_are_added_up_and_no_others() {
        let pools = [
            fake::pool("a", "db", "alice"),
            fake::pool("a", "db", "bob"),
            fake::pool("b", "db", "x"),
        ];
        let one = Tally::of("b", &pools);

        let two = Tally::of("a", &pools);

        assert!(one.queries > 0 && one.servers > 0, "the fake pool does something");
        assert_eq!((two.queries, two.servers), (2 * one.queries, 2 * one.servers));
        assert_eq!(
            two.query_duration.iter().sum::<u64>(),
            2 * one.query_duration.iter().sum::<u64>()
        );
        assert_eq!(Tally::of("c", &pools), Tally::default());
    }

    #[test]
    fn rates_and_means_are_of_what_was_done_since() {
        let earlier =
            Tally { transactions: 100, queries: 200, query_micros: 1_000_000, ..Tally::default() };
        let now =
            Tally { transactions: 150, queries: 300, query_micros: 1_250_000, ..Tally::default() };

        assert!((now.rate(&earlier, 2.0) - 25.0).abs() < 1e-9);
        assert!((now.mean_response(&earlier).unwrap() - 2.5).abs() < 1e-9);
        assert_eq!(now.mean_response(&now), None);
    }

    #[test]
    fn a_quantile_lies_within_its_bucket() {
        let histogram = Histogram::<Counter>::default();
        for _ in 0..98 {
            histogram.observe(Duration::from_micros(200));
        }
        histogram.observe(Duration::from_millis(8));
        histogram.observe(Duration::from_millis(8));
        let (buckets, _) = histogram.values();

        let (median, late) = (quantile(&buckets, 0.5).unwrap(), quantile(&buckets, 0.99).unwrap());

        assert!((0.1..=0.25).contains(&median), "{median}");
        assert!((5.0..=10.0).contains(&late), "{late}");
        assert_eq!(quantile(&[0; 20], 0.5), None);
        assert_eq!(quantile(&[], 0.5), None);
    }

    #[test]
    fn beyond_the_last_bound_a_quantile_is_that_bound() {
        let histogram = Histogram::<Counter>::default();
        histogram.observe(Duration::from_secs(3600));

        assert_eq!(quantile(&histogram.values().0, 0.5), Some(60_000.0));
    }

    #[test]
    fn errors_are_told_by_class_and_fault() {
        let mut fake = Fake::new();
        fake.process.stats = std::sync::Arc::default();
        assert_eq!(errors(&fake.process()), "none");

        fake.process.stats.errors.increment("53", Fault::Proxy);

        assert_eq!(errors(&fake.process()), "1 of class 53 (proxy)");
    }
}
