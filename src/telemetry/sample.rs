//! What a metric is and how its samples reach the `prometheus` crate.

use std::collections::BTreeMap;
use std::time::Duration;

use prometheus::proto;

use super::counters::{BOUNDS_MICROS, Count, Histogram};
use super::resources::Resources;
use super::snapshot::{DomainSnapshot, HostSnapshot, PoolSnapshot, ProcessSnapshot};

/// One row of the table of metrics.
#[derive(Debug, Clone, Copy)]
pub struct Metric {
    pub name: &'static str,
    pub kind: Kind,
    /// What the number says, in one sentence.
    pub help: &'static str,
    /// The labels, in the order in which samples give their values.
    pub labels: &'static [&'static str],
    pub read: Read,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    Counter,
    Gauge,
    Histogram,
}

/// How a metric is read.
#[derive(Debug, Clone, Copy)]
pub enum Read {
    /// Once for each group of pools. The first labels are those of the group.
    Pools(fn(&Group<'_>, &mut Samples)),
    /// Once for each scrape.
    Process(fn(&Scrape, &mut Samples)),
    /// Once for each scrape, and only with `http.seed_metrics`.
    Seed(fn(&Scrape, &mut Samples)),
}

/// Everything that one scrape looks at, copied at one moment.
#[derive(Debug)]
pub struct Scrape {
    pub process: ProcessSnapshot,
    pub domains: Vec<DomainSnapshot>,
    pub hosts: Vec<HostSnapshot>,
    pub pools: Vec<PoolSnapshot>,
    /// `None` where `/proc/self` cannot be read.
    pub resources: Option<Resources>,
}

impl Scrape {
    /// Pools with the same values of the first `depth` labels of [`Group::LABELS`], together. The
    /// catch-all domain has a pool for each database that clients named: as a label that would be
    /// unbounded, and without it two samples would share all their labels, for which Prometheus
    /// refuses the whole scrape.
    pub fn groups(&self, depth: usize) -> Vec<Group<'_>> {
        let mut groups = BTreeMap::<Vec<&str>, Vec<&PoolSnapshot>>::new();
        for pool in &self.pools {
            let labels = [&*pool.domain, pool.mode, &pool.user, &pool.host];
            groups.entry(labels.into_iter().take(depth).collect()).or_default().push(pool);
        }
        groups.into_iter().map(|(labels, pools)| Group { labels, pools }).collect()
    }

    /// All pools as one.
    pub fn all(&self) -> Group<'_> {
        Group { labels: Vec::new(), pools: self.pools.iter().collect() }
    }
}

/// Pools that share their domain, mode, server user and perhaps host.
#[derive(Debug)]
pub struct Group<'a> {
    /// The values of the first [`Group::LABELS`].
    pub labels: Vec<&'a str>,
    pub pools: Vec<&'a PoolSnapshot>,
}

impl Group<'_> {
    pub const LABELS: [&'static str; 4] = ["domain", "mode", "user", "host"];

    /// A count, added up.
    pub fn count(&self, read: impl Fn(&PoolSnapshot) -> usize) -> f64 {
        number(self.pools.iter().map(|pool| read(pool) as u64).sum())
    }

    /// A counter, added up.
    pub fn total(&self, read: impl Fn(&PoolSnapshot) -> u64) -> f64 {
        number(self.pools.iter().map(|pool| read(pool)).fold(0, u64::wrapping_add))
    }

    /// A histogram, added up.
    pub fn distribution<C: Count>(&self, read: impl Fn(&PoolSnapshot) -> &Histogram<C>) -> Value {
        let mut buckets = vec![0; BOUNDS_MICROS.len() + 1];
        let mut sum_micros = 0_u64;
        for pool in &self.pools {
            let (more, micros) = read(pool).values();
            buckets.iter_mut().zip(more).for_each(|(sum, n)| *sum += n);
            sum_micros = sum_micros.wrapping_add(micros);
        }
        Value::Distribution { buckets, sum_micros }
    }
}

/// A number, or the state of a histogram.
#[derive(Debug, Clone, PartialEq)]
pub enum Value {
    Number(f64),
    /// Not cumulative; the last bucket has no bound.
    Distribution {
        buckets: Vec<u64>,
        sum_micros: u64,
    },
}

impl From<f64> for Value {
    fn from(number: f64) -> Self {
        Self::Number(number)
    }
}

impl From<&Histogram> for Value {
    fn from(histogram: &Histogram) -> Self {
        let (buckets, sum_micros) = histogram.values();
        Self::Distribution { buckets, sum_micros }
    }
}

/// Collects the samples of one metric.
#[derive(Debug)]
pub struct Samples {
    labels: &'static [&'static str],
    kind: Kind,
    /// The label values of the group at hand, in front of those that a reader gives.
    prefix: Vec<String>,
    metrics: Vec<proto::Metric>,
}

impl Samples {
    /// Adds a sample with the values of those labels that come after the group's.
    pub fn push(&mut self, values: &[&str], value: impl Into<Value>) {
        let values = self.prefix.iter().map(String::as_str).chain(values.iter().copied());
        debug_assert_eq!(values.clone().count(), self.labels.len(), "a value for each label");
        let labels = self.labels.iter().zip(values).map(|(name, value)| label(name, value));
        let mut metric = proto::Metric::from_label(labels.collect());
        match value.into() {
            Value::Number(number) if self.kind == Kind::Counter => {
                let mut counter = proto::Counter::default();
                counter.set_value(number);
                metric.set_counter(counter);
            }
            Value::Number(number) => metric.set_gauge(gauge(number)),
            Value::Distribution { buckets, sum_micros } => {
                metric.set_histogram(cumulative(&buckets, sum_micros));
            }
        }
        self.metrics.push(metric);
    }
}

impl Metric {
    /// Reads this metric from `scrape`. A family without samples means that there is nothing to say.
    pub fn family(&self, scrape: &Scrape, seed_metrics: bool) -> proto::MetricFamily {
        let mut samples = Samples {
            labels: self.labels,
            kind: self.kind,
            prefix: Vec::new(),
            metrics: Vec::new(),
        };
        match self.read {
            Read::Pools(read) => {
                let shared = self.labels.iter().zip(Group::LABELS).take_while(|(a, b)| **a == *b);
                for group in scrape.groups(shared.count()) {
                    samples.prefix = group.labels.iter().copied().map(str::to_owned).collect();
                    read(&group, &mut samples);
                }
            }
            Read::Process(read) => read(scrape, &mut samples),
            Read::Seed(read) if seed_metrics => read(scrape, &mut samples),
            Read::Seed(_) => {}
        }
        let mut family = proto::MetricFamily::default();
        family.set_name(self.name.to_owned());
        family.set_help(self.help.to_owned());
        family.set_field_type(match self.kind {
            Kind::Counter => proto::MetricType::COUNTER,
            Kind::Gauge => proto::MetricType::GAUGE,
            Kind::Histogram => proto::MetricType::HISTOGRAM,
        });
        family.set_metric(samples.metrics);
        family
    }
}

/// A count as Prometheus holds it. Exact up to 2^53.
#[expect(clippy::cast_precision_loss, reason = "every Prometheus value is an f64")]
pub const fn number(count: u64) -> f64 {
    count as f64
}

/// A duration in seconds. By way of its microseconds, so that 1.5 ms read as 0.0015.
pub fn seconds(duration: Duration) -> f64 {
    number(u64::try_from(duration.as_micros()).unwrap_or(u64::MAX)) / 1e6
}

fn label(name: &str, value: &str) -> proto::LabelPair {
    let mut pair = proto::LabelPair::default();
    pair.set_name(name.to_owned());
    pair.set_value(value.to_owned());
    pair
}

fn gauge(number: f64) -> proto::Gauge {
    let mut gauge = proto::Gauge::default();
    gauge.set_value(number);
    gauge
}

fn cumulative(buckets: &[u64], sum_micros: u64) -> proto::Histogram {
    let mut seen = 0;
    let bounded = BOUNDS_MICROS.iter().zip(buckets).map(|(bound, count)| {
        seen += count;
        let mut bucket = proto::Bucket::default();
        bucket.set_upper_bound(number(*bound) / 1e6);
        bucket.set_cumulative_count(seen);
        bucket
    });
    let mut histogram = proto::Histogram::default();
    histogram.set_bucket(bounded.collect());
    histogram.set_sample_count(buckets.iter().sum());
    histogram.set_sample_sum(number(sum_micros) / 1e6);
    histogram
}
