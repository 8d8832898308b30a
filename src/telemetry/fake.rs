//! A proxy that is not there, for the tests of what looks at one.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use super::counters::{CloseReason, PoolStats, ProcessStats, StatementOutcome};
use super::snapshot::{
    ClientSnapshot, ClientState, DomainSnapshot, HostSnapshot, Load, Observe, Peer, PoolSnapshot,
    ProcessSnapshot, ServerCounts, ServerSnapshot, ServerState,
};
use super::traffic::Traffic;
use crate::config::{
    Admin, Auth, AuthMethod, Balance, Config, ConfigRow, Domain, Failover, HealthRules, HostAddr,
    Http, Listen, Log, LogFormat, LogLevel, LogStatements, Modes, OnPrimaryLoss, PoolMode,
    PoolSettings, Runtime, Secret,
};
use crate::error::Fault;

/// One domain `markets` with one pool, a client linked to its server and one that waits.
#[derive(Debug)]
pub struct Fake {
    pub config: Arc<Config>,
    pub process: ProcessSnapshot,
    pub domains: Vec<DomainSnapshot>,
    pub hosts: Vec<HostSnapshot>,
    pub pools: Vec<PoolSnapshot>,
    pub clients: Vec<ClientSnapshot>,
    pub servers: Vec<ServerSnapshot>,
    /// How often connections were walked.
    pub walks: AtomicUsize,
}

impl Default for Fake {
    fn default() -> Self {
        Self::new()
    }
}

impl Fake {
    pub fn new() -> Self {
        let domain = Arc::new(domain());
        let mut config = config();
        config.domains = vec![Arc::clone(&domain)];
        Self {
            config: Arc::new(config),
            process: process(),
            domains: vec![DomainSnapshot {
                config: domain,
                clients: 3,
                servers: 4,
                usable: Ok(()),
                failovers: 1,
            }],
            hosts: vec![primary(), replica()],
            pools: vec![pool("markets", "markets_db", "postgres")],
            clients: vec![linked_client(), waiting_client()],
            servers: vec![linked_server()],
            walks: AtomicUsize::new(0),
        }
    }

    pub fn shared(self) -> Arc<dyn Observe> {
        Arc::new(self)
    }

    pub fn configure(&mut self, change: impl FnOnce(&mut Config)) {
        let mut config = Config::clone(&self.config);
        change(&mut config);
        self.config = Arc::new(config);
    }
}

impl Observe for Fake {
    fn config(&self) -> Arc<Config> {
        Arc::clone(&self.config)
    }

    fn process(&self) -> ProcessSnapshot {
        self.process.clone()
    }

    fn domains(&self) -> Vec<DomainSnapshot> {
        self.domains.clone()
    }

    fn hosts(&self) -> Vec<HostSnapshot> {
        self.hosts.clone()
    }

    fn pools(&self) -> Vec<PoolSnapshot> {
        self.pools.clone()
    }

    fn clients(&self) -> Vec<ClientSnapshot> {
        self.walks.fetch_add(1, Relaxed);
        self.clients.clone()
    }

    fn servers(&self) -> Vec<ServerSnapshot> {
        self.walks.fetch_add(1, Relaxed);
        self.servers.clone()
    }
}

/// Noon of 20 November 2026.
pub fn noon() -> SystemTime {
    UNIX_EPOCH + Duration::from_secs(1_795_176_000)
}

/// The primary of `markets`.
pub fn primary() -> HostSnapshot {
    HostSnapshot {
        domain: "markets".into(),
        host: "db-primary:5432".into(),
        condition: "up",
        role: "primary",
        since: noon(),
        lag: None,
        lags: false,
        timeline: Some(3),
        system: Some(7_000_000_000_000_000_000),
        servers: 4,
        trouble: None,
    }
}

/// Its replica, which is 1.5 seconds behind and does not answer.
pub fn replica() -> HostSnapshot {
    HostSnapshot {
        host: "db-replica1:5432".into(),
        condition: "suspect",
        role: "replica",
        lag: Some((4096, Duration::from_millis(1500))),
        servers: 0,
        trouble: Some("no answer within 2s".into()),
        ..primary()
    }
}

/// A pool with 4 of at most 30 servers, 2 of them lent, and 10 transactions behind it.
pub fn pool(domain: &str, database: &str, user: &str) -> PoolSnapshot {
    let (stats, traffic) = (PoolStats::default(), Traffic::default());
    traffic.queries.add(20);
    traffic.transactions.add(10);
    traffic.checkouts.add(10);
    traffic.bytes_received.add(1_000);
    traffic.bytes_sent.add(5_000);
    traffic.client_parses.add(3);
    traffic.server_parses.add(2);
    traffic.binds.add(7);
    stats.logins.add(5);
    stats.connects_ok.add(6);
    stats.connects_failed.add(1);
    stats.retries.add(1);
    stats.repeats.add(1);
    stats.closes.increment(CloseReason::Recycle as usize);
    traffic.statements.increment(StatementOutcome::Hit as usize);
    traffic.query_duration.observe(Duration::from_millis(2));
    traffic.query_duration.observe(Duration::from_secs(100));
    traffic.transaction_duration.observe(Duration::from_millis(50));
    traffic.checkout_wait.observe(Duration::from_micros(600));
    PoolSnapshot {
        domain: domain.into(),
        database: database.into(),
        user: user.into(),
        mode: "read_write",
        pool_mode: PoolMode::Transaction,
        host: "db-primary:5432".into(),
        clients_active: 2,
        clients_idle: 1,
        clients_waiting: 3,
        servers: ServerCounts { active: 2, idle: 1, closing: 1, ..ServerCounts::default() },
        size: 20,
        min: 2,
        max_overflow: 10,
        limit: 30,
        adaptive: false,
        is_settled: false,
        load: Load::default(),
        oldest_wait: Duration::from_micros(1_500_250),
        cancels_active: 1,
        stats: Arc::new(stats),
        traffic: Arc::new(traffic),
    }
}

fn process() -> ProcessSnapshot {
    let stats = ProcessStats::default();
    stats.accepted.add(9);
    stats.errors.increment("53", Fault::Proxy);
    stats.login_duration.observe(Duration::from_millis(1));
    ProcessSnapshot {
        started: noon(),
        stats: Arc::new(stats),
        clients_login: 4,
        clients_connected: 7,
        draining: false,
    }
}

fn domain() -> Domain {
    Domain {
        name: "markets".into(),
        database: Some("markets_db".into()),
        hosts: vec![HostAddr::Tcp { host: "db-primary".into(), port: 5432 }],
        health: HealthRules {
            interval: Duration::from_secs(5),
            timeout: Duration::from_secs(2),
            down_after: 3,
            max_lag: Duration::from_secs(10),
            resolve: Duration::from_secs(15),
        },
        modes: Modes {
            read_only: Arc::new(pool_settings()),
            batch: Arc::new(pool_settings()),
            transactional: Arc::new(pool_settings()),
            falls_back: true,
            balance: Balance::LeastBusy,
            isolation: None,
            aliases: Vec::new(),
        },
        route_read_only: false,
        causal_reads: true,
        failover: Failover {
            timeout: Duration::from_secs(5),
            on_primary_loss: OnPrimaryLoss::Wait,
        },
        user: Some("postgres".into()),
        password: Some(Secret::new("hunter2")),
        pool: Arc::new(pool_settings()),
        max_connections: Some(60),
        server_options: BTreeMap::new(),
        connect_query: None,
        tls: BTreeMap::new(),
    }
}

fn pool_settings() -> PoolSettings {
    PoolSettings {
        pool_mode: PoolMode::Transaction,
        size: 20,
        min: 2,
        max_overflow: 10,
        overflow_linger: Duration::from_secs(5),
        timeout: Duration::from_secs(30),
        max_waiting: None,
        recycle: Some(Duration::from_secs(3600)),
        idle_timeout: Some(Duration::from_secs(600)),
        pre_ping: true,
        pre_ping_idle: Duration::from_secs(5),
        connect_timeout: Duration::from_secs(10),
        connect_attempts: None,
        connects_per_host: 4,
        query_timeout: None,
        transaction_timeout: None,
        idle_in_transaction_timeout: None,
        prepared_statements: 200,
        reuse_unnamed: false,
        defer_begin: true,
        wait_notice: None,
        adaptive: false,
        statement_timeout: None,
    }
}

fn config() -> Config {
    Config {
        listen: Listen {
            addresses: Vec::new(),
            max_clients: 100,
            max_unauthenticated: 10,
            login_timeout: Duration::from_secs(15),
            client_idle_timeout: None,
            keepalive: true,
            keepalive_idle: Duration::from_secs(60),
            user_timeout: None,
            max_message: 1 << 30,
            max_statements_per_client: 10_000,
            flush_timeout: Duration::from_secs(60),
            tls: None,
        },
        http: Http { address: None, seed_metrics: false },
        log: Log {
            level: LogLevel::Info,
            format: LogFormat::Text,
            statements: LogStatements::Slow,
            slow_query: Duration::from_millis(100),
        },
        runtime: Runtime { workers: 1, shutdown_timeout: Duration::from_secs(30) },
        auth: Auth { method: AuthMethod::Trust, users_file: None },
        admin: Admin { users: vec!["root".into()], stats_users: vec!["prometheus".into()] },
        domains: Vec::new(),
        hosts: BTreeMap::new(),
        users: BTreeMap::new(),
        rows: vec![ConfigRow { key: "pool.size".into(), value: "20".into(), default: "20".into() }],
        warnings: Vec::new(),
    }
}

fn linked_client() -> ClientSnapshot {
    ClientSnapshot {
        id: 1,
        domain: "markets".into(),
        user: "alice".into(),
        state: ClientState::Active,
        peer: Peer::Tcp { ip: IpAddr::V4(Ipv4Addr::LOCALHOST), port: 40_000 },
        local: Peer::Tcp { ip: IpAddr::V4(Ipv4Addr::LOCALHOST), port: 6432 },
        connected: noon(),
        requested: noon() + Duration::from_secs(1),
        wait: Duration::ZERO,
        link: Some(7),
        remote_pid: Some(4711),
        tls: None,
        application_name: "psql".into(),
        prepared_statements: 2,
        replication: None,
    }
}

fn waiting_client() -> ClientSnapshot {
    ClientSnapshot {
        id: u64::from(u32::MAX) + 3,
        state: ClientState::Waiting,
        peer: Peer::Unix,
        local: Peer::Unix,
        wait: Duration::from_micros(2_000_750),
        link: None,
        remote_pid: None,
        ..linked_client()
    }
}

fn linked_server() -> ServerSnapshot {
    ServerSnapshot {
        id: 7,
        domain: "markets".into(),
        database: "markets_db".into(),
        user: "postgres".into(),
        state: ServerState::Active,
        peer: Peer::Tcp { ip: IpAddr::V4(Ipv4Addr::LOCALHOST), port: 5432 },
        local: Peer::Tcp { ip: IpAddr::V4(Ipv4Addr::LOCALHOST), port: 50_000 },
        connected: noon(),
        requested: noon(),
        link: Some(1),
        remote_pid: 4711,
        tls: Some("TLSv1.3/TLS_AES_256_GCM_SHA384".into()),
        application_name: "psql".into(),
        prepared_statements: 5,
        replication: None,
    }
}
