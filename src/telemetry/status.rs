//! `/status`: the state of every pool as JSON, in the words of the libraries that it stands in for.

use std::time::{Duration, SystemTime};

use serde::Serialize;

use super::advice::Advice;
use super::counters::CloseReason;
use super::snapshot::{HostSnapshot, Observe, PoolSnapshot};

/// The whole answer. Durations carry their unit in the name of their key.
#[derive(Debug, Serialize)]
pub struct Status {
    version: &'static str,
    uptime_seconds: f64,
    draining: bool,
    clients: Clients,
    hosts: Vec<HostStatus>,
    pools: Vec<PoolStatus>,
}

/// A host as a domain sees it.
#[derive(Debug, Serialize)]
struct HostStatus {
    domain: String,
    host: String,
    role: &'static str,
    state: &'static str,
    state_seconds: f64,
    /// Of a replica; null where it is not known.
    lag_bytes: Option<u64>,
    lag_ms: Option<f64>,
    lags: bool,
    timeline: Option<u32>,
    /// As text: JSON's numbers are too short for it.
    system_identifier: Option<String>,
    servers: usize,
    trouble: Option<String>,
}

#[derive(Debug, Serialize)]
struct Clients {
    connected: usize,
    login: usize,
    active: usize,
    idle: usize,
    waiting: usize,
}

#[derive(Debug, Serialize)]
struct PoolStatus {
    domain: String,
    database: String,
    mode: &'static str,
    user: String,
    host: String,
    pool_mode: &'static str,
    /// `SQLAlchemy`: the size configured, servers idle, lent, open beyond size, and not usable any
    /// more.
    size: usize,
    checked_in: usize,
    checked_out: usize,
    overflow: usize,
    invalid: usize,
    /// asyncpg: servers at least and at most, open and idle, open and not idle.
    min: usize,
    max: usize,
    free: usize,
    used: usize,
    active_connections: usize,
    idle_connections: usize,
    /// Servers opened since the pool was made.
    connections_created: u64,
    clients_active: usize,
    clients_idle: usize,
    clients_waiting: usize,
    oldest_wait_ms: f64,
    /// Most that may be lent at once: less than `max` where `adaptive` has found that more do not do more.
    limit: usize,
    adaptive: bool,
    /// As `SHOW ADVICE` has it.
    advised_size: Option<usize>,
    advice: String,
    pool_utilization_percent: f64,
    /// Of all queries since the pool was made; 0 without any.
    mean_response_time_ms: f64,
    totals: Totals,
}

#[derive(Debug, Serialize)]
struct Totals {
    queries: u64,
    transactions: u64,
    checkouts: u64,
    bytes_received: u64,
    bytes_sent: u64,
    query_seconds: f64,
    transaction_seconds: f64,
    wait_seconds: f64,
    logins: u64,
    connects_ok: u64,
    connects_failed: u64,
    retries: u64,
    closes: u64,
    closes_lost: u64,
}

impl Status {
    /// The state at `now`. Walks pools, never clients.
    pub fn new(observe: &dyn Observe, now: SystemTime) -> Self {
        let process = observe.process();
        let pools = observe.pools();
        let sum = |read: fn(&PoolSnapshot) -> usize| pools.iter().map(read).sum();
        Self {
            version: env!("CARGO_PKG_VERSION"),
            uptime_seconds: now.duration_since(process.started).unwrap_or_default().as_secs_f64(),
            draining: process.draining,
            clients: Clients {
                connected: process.clients_connected,
                login: process.clients_login,
                active: sum(|pool| pool.clients_active),
                idle: sum(|pool| pool.clients_idle),
                waiting: sum(|pool| pool.clients_waiting),
            },
            hosts: observe.hosts().iter().map(|host| HostStatus::new(host, now)).collect(),
            pools: pools.iter().map(PoolStatus::new).collect(),
        }
    }
}

impl HostStatus {
    fn new(host: &HostSnapshot, now: SystemTime) -> Self {
        Self {
            domain: host.domain.to_string(),
            host: host.host.to_string(),
            role: host.role,
            state: host.condition,
            state_seconds: now.duration_since(host.since).unwrap_or_default().as_secs_f64(),
            lag_bytes: host.lag.map(|(bytes, _)| bytes),
            lag_ms: host.lag.map(|(_, time)| milliseconds(time)),
            lags: host.lags,
            timeline: host.timeline,
            system_identifier: host.system.map(|system| system.to_string()),
            servers: host.servers,
            trouble: host.trouble.as_ref().map(ToString::to_string),
        }
    }
}

impl PoolStatus {
    fn new(pool: &PoolSnapshot) -> Self {
        let idle = pool.servers.idle;
        let Advice { servers: advised_size, text: advice } = Advice::of(pool);
        Self {
            domain: pool.domain.to_string(),
            database: pool.database.to_string(),
            mode: pool.mode,
            user: pool.user.to_string(),
            host: pool.host.to_string(),
            pool_mode: pool.pool_mode.as_str(),
            size: pool.size,
            checked_in: idle,
            checked_out: pool.checked_out(),
            overflow: pool.overflow(),
            invalid: pool.servers.closing,
            min: pool.min,
            max: pool.most(),
            free: idle,
            used: pool.servers.total().saturating_sub(idle),
            active_connections: pool.checked_out(),
            idle_connections: idle,
            connections_created: pool.stats.connects_ok.value(),
            clients_active: pool.clients_active,
            clients_idle: pool.clients_idle,
            clients_waiting: pool.clients_waiting,
            oldest_wait_ms: milliseconds(pool.oldest_wait),
            limit: pool.limit,
            adaptive: pool.adaptive,
            advised_size,
            advice,
            pool_utilization_percent: 100.0 * ratio(pool.checked_out() as u64, pool.limit as u64),
            mean_response_time_ms: ratio(
                pool.traffic.query_duration.sum_micros(),
                pool.traffic.queries.value(),
            ) / 1e3,
            totals: Totals::new(pool),
        }
    }
}

impl Totals {
    fn new(pool: &PoolSnapshot) -> Self {
        let stats = &pool.stats;
        let seconds = |micros: u64| ratio(micros, 1_000_000);
        Self {
            queries: pool.traffic.queries.value(),
            transactions: pool.traffic.transactions.value(),
            checkouts: pool.traffic.checkouts.value(),
            bytes_received: pool.traffic.bytes_received.value(),
            bytes_sent: pool.traffic.bytes_sent.value(),
            query_seconds: seconds(pool.traffic.query_duration.sum_micros()),
            transaction_seconds: seconds(pool.traffic.transaction_duration.sum_micros()),
            wait_seconds: seconds(pool.traffic.checkout_wait.sum_micros()),
            logins: stats.logins.value(),
            connects_ok: stats.connects_ok.value(),
            connects_failed: stats.connects_failed.value(),
            retries: stats.retries.value(),
            closes: stats.closes.values().sum(),
            closes_lost: stats.closes.values().nth(CloseReason::Lost as usize).unwrap_or(0),
        }
    }
}

/// With three places.
fn milliseconds(duration: Duration) -> f64 {
    ratio(u64::try_from(duration.as_micros()).unwrap_or(u64::MAX), 1_000)
}

/// `part` for each of `whole`; 0 for nothing.
#[expect(clippy::cast_precision_loss, reason = "for people to read; exact up to 2^53")]
fn ratio(part: u64, whole: u64) -> f64 {
    if whole == 0 { 0.0 } else { part as f64 / whole as f64 }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;
    use crate::telemetry::fake::{Fake, noon};

    #[test]
    fn a_pool_is_told_in_the_words_of_every_library() {
        let status = Status::new(&Fake::new(), noon() + Duration::from_secs(90));

        let json = serde_json::to_value(status).unwrap();

        assert_eq!(json["version"], env!("CARGO_PKG_VERSION"));
        assert_eq!(json["uptime_seconds"], 90.0);
        let clients = json!({"connected": 7, "login": 4, "active": 2, "idle": 1, "waiting": 3});
        assert_eq!(json["clients"], clients);
        let pool = &json["pools"][0];
        let sqlalchemy = ["size", "checked_in", "checked_out", "overflow", "invalid"];
        assert_eq!(sqlalchemy.map(|key| pool[key].as_u64().unwrap()), [20, 1, 2, 0, 1]);
        let asyncpg = ["min", "max", "free", "used"];
        assert_eq!(asyncpg.map(|key| pool[key].as_u64().unwrap()), [2, 30, 1, 3]);
        let seed = ["active_connections", "idle_connections", "connections_created"];
        assert_eq!(seed.map(|key| pool[key].as_u64().unwrap()), [2, 1, 6]);
        assert_eq!(pool["mean_response_time_ms"], 5000.1);
        assert_eq!(pool["oldest_wait_ms"], 1500.25);
        assert_eq!((&pool["limit"], &pool["adaptive"]), (&json!(30), &json!(false)));
        assert_eq!(pool["advice"], "nothing came of late");
        assert_eq!(pool["advised_size"], Value::Null);
        assert_eq!(pool["totals"]["query_seconds"], 100.002);
    }

    #[test]
    fn a_host_is_told_with_its_role_and_how_far_it_is_behind() {
        let status = Status::new(&Fake::new(), noon() + Duration::from_secs(90));

        let json = serde_json::to_value(status).unwrap();

        let replica = &json["hosts"][1];
        assert_eq!((&replica["role"], &replica["state"]), (&json!("replica"), &json!("suspect")));
        assert_eq!((&replica["lag_ms"], &replica["lag_bytes"]), (&json!(1500.0), &json!(4096)));
        assert_eq!(replica["state_seconds"], 90.0);
        assert_eq!(replica["system_identifier"], "7000000000000000000");
        assert_eq!(json["hosts"][0]["lag_ms"], Value::Null);
    }

    #[test]
    fn a_pool_that_has_done_nothing_has_no_nan() {
        let mut fake = Fake::new();
        fake.pools[0].traffic = std::sync::Arc::default();

        let json = serde_json::to_value(Status::new(&fake, noon())).unwrap();

        assert_eq!(json["pools"][0]["mean_response_time_ms"], 0.0);
    }

    #[test]
    fn no_secret_is_shown() {
        let status = Status::new(&Fake::new(), noon());

        let text = serde_json::to_string(&status).unwrap();

        assert!(!text.contains("hunter2"));
        assert!(serde_json::from_str::<Value>(&text).unwrap().is_object());
    }
}
