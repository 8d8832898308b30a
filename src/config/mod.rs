//! The configuration as the program runs on it. Holding a [`Config`] means that it was checked.

mod address;
mod check;
mod environment;
mod error;
mod interpolate;
mod keys;
mod load;
mod raw;
mod reference;
mod rows;
mod settings;
mod suggest;
mod units;
mod value;

use std::collections::BTreeMap;
use std::fmt;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use crate::tls::{Ladder, Offer};
pub use environment::{Environment, FILE_BYTES_MAX, MapEnvironment, ProcessEnvironment};
pub use error::{ConfigErrors, ConfigProblem};
pub use load::{load, parse};
pub use reference::{default_toml, reference_markdown};

pub use units::{
    DURATION_MAX, format_duration, format_millis, format_size, parse_duration, parse_size,
};

/// Everything that one configuration file says.
#[derive(Debug, Clone)]
pub struct Config {
    pub listen: Listen,
    pub http: Http,
    pub log: Log,
    pub runtime: Runtime,
    pub auth: Auth,
    pub admin: Admin,
    /// By name; the catch-all is called `*`.
    pub domains: Vec<Arc<Domain>>,
    /// `[hosts."name:port"]`.
    pub hosts: BTreeMap<HostAddr, HostRules>,
    /// `[users.NAME]`.
    pub users: BTreeMap<String, UserRules>,
    /// The file as written after interpolation, a row a key, for `SHOW CONFIG`. No secrets.
    pub rows: Vec<ConfigRow>,
    /// What works and deserves a second look: a certificate that has ended, a key that all may read.
    pub warnings: Vec<String>,
}

/// One row of `SHOW CONFIG`: `key` is the dotted path, e.g. `pool.size`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ConfigRow {
    pub key: String,
    pub value: String,
    pub default: String,
}

/// `[listen]`: how clients reach us.
#[derive(Debug, Clone)]
pub struct Listen {
    pub addresses: Vec<ListenAddr>,
    pub max_clients: usize,
    pub max_unauthenticated: usize,
    pub login_timeout: Duration,
    /// `None`: never.
    pub client_idle_timeout: Option<Duration>,
    pub keepalive: bool,
    pub keepalive_idle: Duration,
    /// `None`: the kernel's own.
    pub user_timeout: Option<Duration>,
    /// Longest message in bytes, its length word included.
    pub max_message: usize,
    pub max_statements_per_client: usize,
    pub flush_timeout: Duration,
    /// `None`: no TLS.
    pub tls: Option<Offer>,
}

/// Where to listen.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ListenAddr {
    /// `host:port`; resolved when it is bound. Port 0 takes a free one.
    Tcp { host: String, port: u16 },
    /// A directory; the socket in it is `.s.PGSQL.<port>`. As written `dir:port`, or `dir` alone for
    /// the port of the first TCP address (6432 without one).
    Unix { directory: PathBuf, port: u16 },
}

/// `[http]`: metrics, health and status.
#[derive(Debug, Clone)]
pub struct Http {
    /// `None` if `address = ""`: no HTTP at all.
    pub address: Option<(String, u16)>,
    pub seed_metrics: bool,
}

/// `[log]`.
#[derive(Debug, Clone)]
pub struct Log {
    pub level: LogLevel,
    pub format: LogFormat,
    pub statements: LogStatements,
    pub slow_query: Duration,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LogLevel {
    Error,
    Warn,
    Info,
    Debug,
    Trace,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LogFormat {
    Text,
    Json,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LogStatements {
    None,
    Slow,
    All,
}

/// `[runtime]`.
#[derive(Debug, Clone)]
pub struct Runtime {
    /// 0: one per core.
    pub workers: usize,
    pub shutdown_timeout: Duration,
}

/// `[auth]`: how clients prove who they are.
#[derive(Debug, Clone)]
pub struct Auth {
    pub method: AuthMethod,
    /// Resolved against the folder of the configuration file.
    pub users_file: Option<PathBuf>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AuthMethod {
    Trust,
    Plain,
    Md5,
    ScramSha256,
}

/// `[admin]`: who may use the console.
#[derive(Debug, Clone)]
pub struct Admin {
    pub users: Vec<String>,
    pub stats_users: Vec<String>,
}

/// `[domains.NAME]`: a named logical database.
#[derive(Debug, Clone)]
pub struct Domain {
    /// `*` for the catch-all.
    pub name: Arc<str>,
    /// The name on the server. `None` only for the catch-all, which takes the client's.
    pub database: Option<Arc<str>>,
    /// At least one, none twice.
    pub hosts: Vec<HostAddr>,
    pub health: HealthRules,
    pub failover: Failover,
    /// Transactions that say that they only read go to replicas.
    pub route_read_only: bool,
    /// A session reads what it has written: from the primary, until replicas have it.
    pub causal_reads: bool,
    /// The one user of all its servers; without it each client's own.
    pub user: Option<Arc<str>>,
    pub password: Option<Secret>,
    /// Of the mode `read_write`. Shared by all who have no settings of their own.
    pub pool: Arc<PoolSettings>,
    pub modes: Modes,
    /// Cap over all pools of the domain.
    pub max_connections: Option<usize>,
    /// Startup options of its servers.
    pub server_options: BTreeMap<String, String>,
    /// Run on each new server before it is lent.
    pub connect_query: Option<String>,
    /// TLS towards each of `hosts`: the domain's with the host's own laid over it.
    pub tls: BTreeMap<HostAddr, Ladder>,
}

/// How a session uses its domain.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Default)]
pub enum Mode {
    /// The primary.
    #[default]
    ReadWrite,
    /// Replicas, and nothing is written.
    ReadOnly,
    /// The primary, by way of a pool of its own.
    Batch,
    /// The primary, and a server of its own.
    Transactional,
}

impl Mode {
    pub const ALL: [Self; 4] = [Self::ReadWrite, Self::ReadOnly, Self::Batch, Self::Transactional];

    pub const fn as_str(self) -> &'static str {
        match self {
            Self::ReadWrite => "read_write",
            Self::ReadOnly => "read_only",
            Self::Batch => "batch",
            Self::Transactional => "transactional",
        }
    }

    /// By its name, in whatever case.
    pub fn named(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|mode| mode.as_str().eq_ignore_ascii_case(name))
    }

    /// What is put behind a domain's name to ask for it.
    pub const fn suffix(self) -> Option<&'static str> {
        match self {
            Self::ReadWrite => None,
            Self::ReadOnly => Some("_ro"),
            Self::Batch => Some("_batch"),
            Self::Transactional => Some("_tx"),
        }
    }
}

/// What the modes other than `read_write` have of their own in a domain.
#[derive(Debug, Clone)]
pub struct Modes {
    pub read_only: Arc<PoolSettings>,
    pub batch: Arc<PoolSettings>,
    pub transactional: Arc<PoolSettings>,
    /// Without a replica `read_only` is served by the primary.
    pub falls_back: bool,
    pub balance: Balance,
    /// `default_transaction_isolation` of `transactional`; `None`: the server's own.
    pub isolation: Option<String>,
    /// Database names that ask for a mode.
    pub aliases: Vec<(String, Mode)>,
}

/// Which of several replicas is next.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Balance {
    LeastBusy,
    RoundRobin,
}

impl Domain {
    /// The settings of its pools in `mode`.
    pub const fn pool_of(&self, mode: Mode) -> &Arc<PoolSettings> {
        match mode {
            Mode::ReadWrite => &self.pool,
            Mode::ReadOnly => &self.modes.read_only,
            Mode::Batch => &self.modes.batch,
            Mode::Transactional => &self.modes.transactional,
        }
    }
}

/// `health`: how a domain's hosts are watched.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct HealthRules {
    pub interval: Duration,
    pub timeout: Duration,
    /// At least 1.
    pub down_after: u32,
    pub max_lag: Duration,
    /// Between two look-ups of a host's name.
    pub resolve: Duration,
}

/// `failover`: what happens when the primary of several hosts is lost.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Failover {
    /// Longest wait for a new one, from a client's request on.
    pub timeout: Duration,
    pub on_primary_loss: OnPrimaryLoss,
}

/// What clients get that would write, while there is no primary.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OnPrimaryLoss {
    /// They wait.
    Wait,
    /// A replica.
    ReadOnly,
    /// An error at once.
    Error,
}

/// Where a server lives.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum HostAddr {
    Tcp {
        host: String,
        port: u16,
    },
    /// The socket is `<directory>/.s.PGSQL.<port>`.
    Unix {
        directory: PathBuf,
        port: u16,
    },
}

impl HostAddr {
    /// The address, if it is one and no name that has to be looked up.
    pub fn literal(&self) -> Option<SocketAddr> {
        match self {
            Self::Tcp { host, port } => Some(SocketAddr::new(host.parse().ok()?, *port)),
            Self::Unix { .. } => None,
        }
    }
}

impl fmt::Display for HostAddr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tcp { host, port } if host.contains(':') => write!(f, "[{host}]:{port}"),
            Self::Tcp { host, port } => write!(f, "{host}:{port}"),
            Self::Unix { directory, port } => write!(f, "{}:{port}", directory.display()),
        }
    }
}

/// `[hosts."name:port"]`.
#[derive(Debug, Clone, Copy)]
pub struct HostRules {
    /// Cap over all domains, probes and cancels included.
    pub max_connections: Option<usize>,
    /// Its share of what is spread over replicas. At least 1.
    pub weight: u32,
}

impl Default for HostRules {
    fn default() -> Self {
        Self { max_connections: None, weight: 1 }
    }
}

/// `[users.NAME]`: what goes before the domain's settings for this client user.
#[derive(Debug, Clone, Default)]
pub struct UserRules {
    /// Cap over all servers that are logged in as this user.
    pub max_connections: Option<usize>,
    /// Most clients logged in as this user at once.
    pub max_clients: Option<usize>,
    /// `None`: `listen.client_idle_timeout`. `Some(None)`: never.
    pub client_idle_timeout: Option<Option<Duration>>,
    /// Of its sessions, unless they ask for another.
    pub mode: Option<Mode>,
    /// Each `Some` goes before the domain's value.
    pub pool: PoolOverrides,
}

/// The keys of `[pool]` that a user may override.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct PoolOverrides {
    pub pool_mode: Option<PoolMode>,
    pub size: Option<usize>,
    pub min: Option<usize>,
    pub max_overflow: Option<usize>,
    pub timeout: Option<Duration>,
    pub adaptive: Option<bool>,
    pub query_timeout: Option<Option<Duration>>,
    pub transaction_timeout: Option<Option<Duration>>,
    pub idle_in_transaction_timeout: Option<Option<Duration>>,
}

/// When a server goes back to its pool.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PoolMode {
    Session,
    Transaction,
    Statement,
}

impl PoolMode {
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Session => "session",
            Self::Transaction => "transaction",
            Self::Statement => "statement",
        }
    }
}

/// `[pool]` with the domain's own keys laid over it.
#[derive(Debug, Clone, PartialEq, Eq)]
#[expect(clippy::struct_excessive_bools, reason = "each is a key of the file")]
pub struct PoolSettings {
    pub pool_mode: PoolMode,
    /// At least 1.
    pub size: usize,
    pub min: usize,
    pub max_overflow: usize,
    pub overflow_linger: Duration,
    /// Longest wait for a server.
    pub timeout: Duration,
    /// `None`: no bound on the queue.
    pub max_waiting: Option<usize>,
    /// `None`: never too old.
    pub recycle: Option<Duration>,
    /// `None`: never closed for idling.
    pub idle_timeout: Option<Duration>,
    pub pre_ping: bool,
    pub pre_ping_idle: Duration,
    pub connect_timeout: Duration,
    /// `None`: as many as fit into `timeout`.
    pub connect_attempts: Option<u32>,
    /// Servers being opened at once.
    pub connects_per_host: usize,
    pub query_timeout: Option<Duration>,
    pub transaction_timeout: Option<Duration>,
    pub idle_in_transaction_timeout: Option<Duration>,
    /// Per server; 0: prepared statements are not shared.
    pub prepared_statements: usize,
    /// Unnamed statements are prepared under names, and not parsed again.
    pub reuse_unnamed: bool,
    /// A lone BEGIN is sent with the first statement behind it.
    pub defer_begin: bool,
    /// `None`: no NOTICE.
    pub wait_notice: Option<Duration>,
    /// How many are lent at once follows what they get done; not in session mode.
    pub adaptive: bool,
    /// `None`: the server's own applies. `Some(ZERO)`: none.
    pub statement_timeout: Option<Duration>,
}

/// A password. Neither `Debug` nor `Display` shows it.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(Arc<str>);

impl Secret {
    pub fn new(secret: impl Into<Arc<str>>) -> Self {
        Self(secret.into())
    }

    /// The secret itself: for logging in and for nothing else.
    pub fn expose(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret(***)")
    }
}
