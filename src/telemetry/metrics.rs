//! Every metric: one table, from which `/metrics` and `docs/METRICS.md` are made.

mod readers;

use std::fmt;
use std::sync::Arc;

use prometheus::core::{Collector, Desc};
use prometheus::{Registry, TextEncoder, proto};

use self::readers::{
    clients, closes, errors, oldest_wait, per_host, prepared_statements, resource, roles, servers,
    start_time, utilization,
};
use super::resources::Resources;
use super::sample::Kind::{Counter, Gauge, Histogram};
use super::sample::Read::{Pools, Process, Seed};
use super::sample::{Metric, Scrape, number, seconds};
use super::snapshot::{Observe, PoolSnapshot};

/// The table. `/metrics` lists it by name, `docs/METRICS.md` in this order.
pub const METRICS: &[Metric] = &[
    Metric {
        name: "pgweir_clients",
        kind: Gauge,
        help: "Clients by state: active (linked to a server), idle, waiting for a server; those \
               that are still logging in (login) belong to no pool.",
        labels: &["domain", "mode", "user", "state"],
        read: Process(clients),
    },
    Metric {
        name: "pgweir_servers",
        kind: Gauge,
        help: "Servers by state: active (lent), idle, used (being cleaned), tested (being proved \
               alive), login (being opened), being_canceled (held back until a cancel request is \
               through), closing.",
        labels: &["domain", "mode", "user", "host", "state"],
        read: Pools(servers),
    },
    Metric {
        name: "pgweir_pool_size",
        kind: Gauge,
        help: "Servers that may stay open: pool.size.",
        labels: &["domain", "mode", "user"],
        read: Pools(|pools, out| out.push(&[], pools.count(|pool| pool.size))),
    },
    Metric {
        name: "pgweir_pool_overflow",
        kind: Gauge,
        help: "Servers open beyond pool.size.",
        labels: &["domain", "mode", "user"],
        read: Pools(|pools, out| out.push(&[], pools.count(PoolSnapshot::overflow))),
    },
    Metric {
        name: "pgweir_pool_limit",
        kind: Gauge,
        help: "Most servers that may be lent at once: pool.size and pool.max_overflow, or what \
               pool.adaptive has come to.",
        labels: &["domain", "mode", "user"],
        read: Pools(|pools, out| out.push(&[], pools.count(|pool| pool.limit))),
    },
    Metric {
        name: "pgweir_pool_utilization",
        kind: Gauge,
        help: "Servers that are lent, as a share of pgweir_pool_limit (0 to 1).",
        labels: &["domain", "mode", "user"],
        read: Pools(utilization),
    },
    Metric {
        name: "pgweir_clients_waiting",
        kind: Gauge,
        help: "Clients queued for a server.",
        labels: &["domain", "mode", "user"],
        read: Pools(|pools, out| out.push(&[], pools.count(|pool| pool.clients_waiting))),
    },
    Metric {
        name: "pgweir_oldest_wait_seconds",
        kind: Gauge,
        help: "How long the oldest of the waiting clients has been waiting.",
        labels: &["domain", "mode", "user"],
        read: Pools(oldest_wait),
    },
    Metric {
        name: "pgweir_queries_total",
        kind: Counter,
        help: "Statements answered: simple queries and Executes.",
        labels: &["domain", "mode", "user"],
        read: Pools(|pools, out| out.push(&[], pools.total(|pool| pool.traffic.queries.value()))),
    },
    Metric {
        name: "pgweir_transactions_total",
        kind: Counter,
        help: "Transactions ended, those of single statements included.",
        labels: &["domain", "mode", "user"],
        read: Pools(|pools, out| {
            out.push(&[], pools.total(|pool| pool.traffic.transactions.value()));
        }),
    },
    Metric {
        name: "pgweir_bytes_total",
        kind: Counter,
        help: "Bytes received from clients and sent to clients.",
        labels: &["domain", "mode", "user", "direction"],
        read: Pools(|pools, out| {
            out.push(&["received"], pools.total(|pool| pool.traffic.bytes_received.value()));
            out.push(&["sent"], pools.total(|pool| pool.traffic.bytes_sent.value()));
        }),
    },
    Metric {
        name: "pgweir_errors_total",
        kind: Counter,
        help: "Errors sent to clients, by class of SQLSTATE and by whose fault it was.",
        labels: &["sqlstate_class", "fault"],
        read: Process(errors),
    },
    Metric {
        name: "pgweir_server_connects_total",
        kind: Counter,
        help: "Servers opened (ok), and attempts that came to nothing (failed).",
        labels: &["domain", "mode", "user", "host", "result"],
        read: Pools(|pools, out| {
            out.push(&["ok"], pools.total(|pool| pool.stats.connects_ok.value()));
            out.push(&["failed"], pools.total(|pool| pool.stats.connects_failed.value()));
        }),
    },
    Metric {
        name: "pgweir_server_closes_total",
        kind: Counter,
        help: "Servers closed, by reason: lost, recycle, idle_timeout, overflow, pre_ping, client_left, \
               reset_failed, taken_over (for a cap that others waited for), displaced (for a server of another \
               kind), host_out (its host is down, lags or has another role), evened_out (another host had too \
               few), timeout, altered, refused, protocol, shutdown, bug.",
        labels: &["domain", "mode", "user", "host", "reason"],
        read: Pools(closes),
    },
    Metric {
        name: "pgweir_retries_total",
        kind: Counter,
        help: "What was tried once more: to open a server (connect), to lend one, since the first was found \
               closed before anything was sent to it (closed), an exchange for which a server had an \
               outdated plan (plan), and one of a session that only reads, whose server was lost (lost).",
        labels: &["domain", "mode", "user", "host", "reason"],
        read: Pools(|pools, out| {
            out.push(&["connect"], pools.total(|pool| pool.stats.retries.value()));
            out.push(&["closed"], pools.total(|pool| pool.stats.closed_retries.value()));
            out.push(&["plan"], pools.total(|pool| pool.stats.repeats.value()));
            out.push(&["lost"], pools.total(|pool| pool.stats.lost_retries.value()));
        }),
    },
    Metric {
        name: "pgweir_prepared_statements_total",
        kind: Counter,
        help: "Prepared statements wanted on a server: already there (hit), prepared for it \
               (miss); those closed to make room (evicted); and a Parse of an unnamed statement that was not \
               sent, for it was there (reused).",
        labels: &["domain", "mode", "user", "outcome"],
        read: Pools(prepared_statements),
    },
    Metric {
        name: "pgweir_clients_accepted_total",
        kind: Counter,
        help: "Connections accepted from clients.",
        labels: &[],
        read: Process(|scrape, out| {
            out.push(&[], number(scrape.process.stats.accepted.value()));
        }),
    },
    Metric {
        name: "pgweir_login_failures_total",
        kind: Counter,
        help: "Clients that did not get through their login.",
        labels: &[],
        read: Process(|scrape, out| {
            out.push(&[], number(scrape.process.stats.login_failures.value()));
        }),
    },
    Metric {
        name: "pgweir_cancels_total",
        kind: Counter,
        help: "Cancel requests received.",
        labels: &[],
        read: Process(|scrape, out| {
            out.push(&[], number(scrape.process.stats.cancels.value()));
        }),
    },
    Metric {
        name: "pgweir_query_duration_seconds",
        kind: Histogram,
        help: "From a statement's arrival to the end of its answer.",
        labels: &["domain", "mode", "user"],
        read: Pools(|pools, out| {
            out.push(&[], pools.distribution(|pool| &pool.traffic.query_duration));
        }),
    },
    Metric {
        name: "pgweir_transaction_duration_seconds",
        kind: Histogram,
        help: "From the beginning of a transaction to its end.",
        labels: &["domain", "mode", "user"],
        read: Pools(|pools, out| {
            out.push(&[], pools.distribution(|pool| &pool.traffic.transaction_duration));
        }),
    },
    Metric {
        name: "pgweir_checkout_wait_seconds",
        kind: Histogram,
        help: "How long clients waited for a server.",
        labels: &["domain", "mode", "user"],
        read: Pools(|pools, out| {
            out.push(&[], pools.distribution(|pool| &pool.traffic.checkout_wait));
        }),
    },
    Metric {
        name: "pgweir_server_connect_seconds",
        kind: Histogram,
        help: "How long it took to open a server, its login included.",
        labels: &["domain", "mode", "user", "host"],
        read: Pools(|pools, out| {
            out.push(&[], pools.distribution(|pool| &pool.stats.server_connect));
        }),
    },
    Metric {
        name: "pgweir_host_up",
        kind: Gauge,
        help: "1 if the host answers, 0 if it is down or has not been looked at; a suspect one counts as up. One of \
               several hosts at a name is called \"db:5432 (10.0.0.7)\".",
        labels: &["domain", "host"],
        read: Process(|scrape, out| {
            per_host(scrape, out, |host| {
                Some(number(u64::from(matches!(host.condition, "up" | "suspect"))))
            });
        }),
    },
    Metric {
        name: "pgweir_host_role",
        kind: Gauge,
        help: "1 for the role that the host has: primary, replica, fenced (it takes writes and is not the \
               primary), stranger (it is of another cluster), unknown.",
        labels: &["domain", "host", "role"],
        read: Process(roles),
    },
    Metric {
        name: "pgweir_replication_lag_seconds",
        kind: Gauge,
        help: "How far a replica is behind: the age of the oldest position of the primary that it has not \
               replayed. No sample for a host of which that is not known.",
        labels: &["domain", "host"],
        read: Process(|scrape, out| {
            per_host(scrape, out, |host| host.lag.map(|(_, time)| seconds(time)));
        }),
    },
    Metric {
        name: "pgweir_replication_lag_bytes",
        kind: Gauge,
        help: "The same in bytes of write-ahead log.",
        labels: &["domain", "host"],
        read: Process(|scrape, out| {
            per_host(scrape, out, |host| host.lag.map(|(bytes, _)| number(bytes)));
        }),
    },
    Metric {
        name: "pgweir_failovers_total",
        kind: Counter,
        help: "How often another host has become the primary of the domain.",
        labels: &["domain"],
        read: Process(|scrape, out| {
            for domain in &scrape.domains {
                out.push(&[&domain.config.name], number(domain.failovers));
            }
        }),
    },
    Metric {
        name: "pgweir_login_seconds",
        kind: Histogram,
        help: "How long clients took to log in.",
        labels: &[],
        read: Process(|scrape, out| {
            out.push(&[], &scrape.process.stats.login_duration);
        }),
    },
    Metric {
        name: "pgweir_draining",
        kind: Gauge,
        help: "1 once pgweir has begun to shut down.",
        labels: &[],
        read: Process(|scrape, out| {
            out.push(&[], number(u64::from(scrape.process.draining)));
        }),
    },
    Metric {
        name: "pgweir_build_info",
        kind: Gauge,
        help: "Always 1; the label tells the version.",
        labels: &["version"],
        read: Process(|_, out| out.push(&[env!("CARGO_PKG_VERSION")], 1.0)),
    },
    Metric {
        name: "process_start_time_seconds",
        kind: Gauge,
        help: "When the process started, in seconds since 1970.",
        labels: &[],
        read: Process(start_time),
    },
    Metric {
        name: "process_cpu_seconds_total",
        kind: Counter,
        help: "User and system time of all threads.",
        labels: &[],
        read: Process(|scrape, out| resource(scrape, out, |used| Some(used.cpu_seconds))),
    },
    Metric {
        name: "process_resident_memory_bytes",
        kind: Gauge,
        help: "Resident memory.",
        labels: &[],
        read: Process(|scrape, out| {
            resource(scrape, out, |used| Some(number(used.resident_bytes)));
        }),
    },
    Metric {
        name: "process_virtual_memory_bytes",
        kind: Gauge,
        help: "Virtual memory.",
        labels: &[],
        read: Process(|scrape, out| resource(scrape, out, |used| Some(number(used.virtual_bytes)))),
    },
    Metric {
        name: "process_open_fds",
        kind: Gauge,
        help: "Open file descriptors.",
        labels: &[],
        read: Process(|scrape, out| resource(scrape, out, |used| Some(number(used.open_fds)))),
    },
    Metric {
        name: "process_max_fds",
        kind: Gauge,
        help: "Most file descriptors that may be open; absent if unlimited.",
        labels: &[],
        read: Process(|scrape, out| resource(scrape, out, |used| used.max_fds.map(number))),
    },
    Metric {
        name: "process_threads",
        kind: Gauge,
        help: "Threads of the process.",
        labels: &[],
        read: Process(|scrape, out| resource(scrape, out, |used| Some(number(used.threads)))),
    },
    Metric {
        name: "db_pool_connections_total",
        kind: Gauge,
        help: "Servers open, over all pools. Only with http.seed_metrics.",
        labels: &[],
        read: Seed(|scrape, out| out.push(&[], scrape.all().count(|pool| pool.servers.total()))),
    },
    Metric {
        name: "db_pool_connections_active",
        kind: Gauge,
        help: "Servers lent, over all pools. Only with http.seed_metrics.",
        labels: &[],
        read: Seed(|scrape, out| out.push(&[], scrape.all().count(PoolSnapshot::checked_out))),
    },
    Metric {
        name: "db_query_duration_seconds",
        kind: Histogram,
        help: "pgweir_query_duration_seconds over all pools. Only with http.seed_metrics.",
        labels: &[],
        read: Seed(|scrape, out| {
            out.push(&[], scrape.all().distribution(|pool| &pool.traffic.query_duration));
        }),
    },
];

/// Writes `/metrics`.
pub struct Metrics {
    registry: Registry,
}

impl Metrics {
    /// Metrics of what `observe` sees.
    ///
    /// # Errors
    /// If the table is not acceptable to the `prometheus` crate, which a test rules out.
    pub fn new(observe: Arc<dyn Observe>) -> Result<Self, prometheus::Error> {
        let describe = |metric: &Metric| {
            let labels = metric.labels.iter().map(|label| (*label).to_owned()).collect();
            Desc::new(metric.name.into(), metric.help.into(), labels, std::iter::empty().collect())
        };
        let descs = METRICS.iter().map(describe).collect::<Result<_, _>>()?;
        let registry = Registry::new();
        registry.register(Box::new(Table { observe, descs }))?;
        Ok(Self { registry })
    }

    /// The state of this moment in Prometheus' text format, version 0.0.4.
    ///
    /// # Errors
    /// If a sample does not fit its metric, which a test rules out.
    pub fn text(&self) -> Result<String, prometheus::Error> {
        TextEncoder::new().encode_to_string(&self.registry.gather())
    }
}

impl fmt::Debug for Metrics {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Metrics").finish_non_exhaustive()
    }
}

/// `docs/METRICS.md`, from the table.
pub fn document() -> String {
    let mut text = String::from(DOCUMENT_HEAD);
    for metric in METRICS {
        let kind = match metric.kind {
            Counter => "counter",
            Gauge => "gauge",
            Histogram => "histogram",
        };
        let labels = metric.labels.iter().map(|label| format!("`{label}`")).collect::<Vec<_>>();
        let Metric { name, help, .. } = metric;
        let row = [&format!("`{name}`"), kind, &labels.join(", "), help].join(" | ");
        text.extend(["| ", &row, " |\n"]);
    }
    text
}

/// The whole table as one collector, so that all of a scrape is from one moment.
struct Table {
    observe: Arc<dyn Observe>,
    descs: Vec<Desc>,
}

impl Collector for Table {
    fn desc(&self) -> Vec<&Desc> {
        self.descs.iter().collect()
    }

    fn collect(&self) -> Vec<proto::MetricFamily> {
        let scrape = Scrape {
            process: self.observe.process(),
            domains: self.observe.domains(),
            hosts: self.observe.hosts(),
            pools: self.observe.pools(),
            resources: Resources::read(),
        };
        let seed_metrics = self.observe.config().http.seed_metrics;
        METRICS.iter().map(|metric| metric.family(&scrape, seed_metrics)).collect()
    }
}

const DOCUMENT_HEAD: &str = "\
# Metrics

`GET /metrics` on `http.address` answers in Prometheus' text format. This page is made from the table
in `src/telemetry/metrics.rs`; `PGWEIR_BLESS=1 cargo test metrics_document` writes it anew.

Metrics with `domain`, `mode` and `user` have one line for each pool: `user` is the user that its
servers are logged in as. Pools of the catch-all domain `*` are added up over the databases that
clients named. Durations are in seconds; the buckets of every histogram reach from 50 µs to 60 s.

| name | kind | labels | what it says |
|---|---|---|---|
";

#[cfg(test)]
mod tests;
