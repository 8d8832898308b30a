//! What the console, `/status` and `/metrics` are made from: plain values, copied at one moment.

use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use super::counters::{PoolStats, ProcessStats};
use super::traffic::Traffic;
use crate::config::{Config, PoolMode};

/// Gives snapshots of the running proxy. A scrape walks pools; only `clients` and `servers`, which
/// the console asks for, walk connections.
pub trait Observe: Send + Sync {
    fn config(&self) -> Arc<Config>;
    fn process(&self) -> ProcessSnapshot;
    fn domains(&self) -> Vec<DomainSnapshot>;
    fn hosts(&self) -> Vec<HostSnapshot>;
    fn pools(&self) -> Vec<PoolSnapshot>;
    fn clients(&self) -> Vec<ClientSnapshot>;
    fn servers(&self) -> Vec<ServerSnapshot>;
}

/// The process as a whole.
#[derive(Debug, Clone)]
pub struct ProcessSnapshot {
    pub started: SystemTime,
    pub stats: Arc<ProcessStats>,
    pub clients_login: usize,
    pub clients_connected: usize,
    /// A drain has begun.
    pub draining: bool,
}

/// A domain: what `SHOW DATABASES` and `/readyz` want to know.
#[derive(Debug, Clone)]
pub struct DomainSnapshot {
    pub config: Arc<crate::config::Domain>,
    pub clients: usize,
    pub servers: usize,
    /// `Err`: the last thing that went wrong, with nothing having worked since.
    pub usable: Result<(), String>,
    /// How often another host has become the primary.
    pub failovers: u64,
}

/// A host as a domain sees it.
#[derive(Debug, Clone)]
pub struct HostSnapshot {
    pub domain: Arc<str>,
    pub host: Arc<str>,
    /// `up`, `suspect`, `down`, or `unknown` before the first look.
    pub condition: &'static str,
    /// `primary`, `replica`, `fenced` (it takes writes and is not the primary), `stranger` (of another cluster)
    /// or `unknown`.
    pub role: &'static str,
    /// Since when it has been in its condition.
    pub since: SystemTime,
    /// How far a replica is behind: bytes of write-ahead log, and the age of the oldest that it lacks.
    pub lag: Option<(u64, Duration)>,
    /// Too far behind to serve.
    pub lags: bool,
    pub timeline: Option<u32>,
    pub system: Option<u64>,
    /// Servers there, over all pools of the domain.
    pub servers: usize,
    pub trouble: Option<Arc<str>>,
}

/// A pool: one domain, mode and server user.
#[derive(Debug, Clone)]
pub struct PoolSnapshot {
    pub domain: Arc<str>,
    /// The database on the server.
    pub database: Arc<str>,
    /// The server user.
    pub user: Arc<str>,
    pub mode: &'static str,
    pub pool_mode: PoolMode,
    /// All of its hosts, with commas between them.
    pub host: Arc<str>,
    /// Clients linked to a server, connected without one, and queued for one.
    pub clients_active: usize,
    pub clients_idle: usize,
    pub clients_waiting: usize,
    pub servers: ServerCounts,
    pub size: usize,
    pub min: usize,
    pub max_overflow: usize,
    /// How many may be in use at the moment, and whether that follows what they get done.
    pub limit: usize,
    pub adaptive: bool,
    /// Other limits were tried, and none was better.
    pub is_settled: bool,
    pub load: Load,
    /// Age of the oldest waiter.
    pub oldest_wait: Duration,
    /// Cancel requests being sent for clients of this pool.
    pub cancels_active: usize,
    pub stats: Arc<PoolStats>,
    pub traffic: Arc<Traffic>,
}

impl PoolSnapshot {
    /// Servers beyond `size`.
    pub fn overflow(&self) -> usize {
        self.servers.total().saturating_sub(self.size)
    }

    /// Most servers that it may open.
    pub fn most(&self) -> usize {
        self.size.saturating_add(self.max_overflow)
    }

    /// Servers lent, or held back after a cancel request for the client that had them.
    pub fn checked_out(&self) -> usize {
        self.servers.active + self.servers.being_canceled
    }

    /// What the console calls its database: the domain, and under the catch-all the database that
    /// clients named.
    pub fn shown_database(&self) -> &Arc<str> {
        if &*self.domain == "*" { &self.database } else { &self.domain }
    }
}

/// What was asked of a pool in the last quarter of an hour. All zero: nothing.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Load {
    /// The time looked at.
    pub period: Duration,
    pub transactions: u64,
    /// For how long a transaction had its server, on average.
    pub hold: Duration,
    /// Servers in use on average, in the busiest half-minute.
    pub busiest: f64,
    /// Clients that waited on average, in that half-minute.
    pub queued: f64,
    /// Most servers in use at once, of those moments when it was looked at.
    pub most: usize,
    /// Share of the time when as many were in use as may be (0 to 1).
    pub full: f64,
    /// The same of those half-minutes alone in which clients waited.
    pub full_at_waits: f64,
    /// Clients that waited for longer than a millisecond, how long on average, and the longest.
    pub waits: u64,
    pub mean_wait: Duration,
    pub longest_wait: Duration,
    /// `None`: it was not quiet at one time and busy at another.
    pub strain: Option<Strain>,
}

/// What many servers at work do to each other.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Strain {
    /// How many times as long a transaction takes as when few are at work.
    pub slower: f64,
    /// How many would have been in use in the busiest half-minute if it took no longer.
    pub servers: f64,
}

/// Servers of a pool by the place that they are in.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct ServerCounts {
    /// Being opened.
    pub login: usize,
    pub idle: usize,
    /// Given back and being cleaned.
    pub used: usize,
    /// Being proved alive.
    pub tested: usize,
    /// Lent.
    pub active: usize,
    /// Held back until a cancel request that was meant for it has gone through.
    pub being_canceled: usize,
    pub closing: usize,
}

impl ServerCounts {
    pub const fn total(&self) -> usize {
        self.login
            + self.idle
            + self.used
            + self.tested
            + self.active
            + self.being_canceled
            + self.closing
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum ClientState {
    Login,
    Idle,
    Waiting,
    Active,
}

impl ClientState {
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Login => "login",
            Self::Idle => "idle",
            Self::Waiting => "waiting",
            Self::Active => "active",
        }
    }
}

/// An address as `SHOW CLIENTS` prints it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Peer {
    Tcp { ip: IpAddr, port: u16 },
    Unix,
}

impl Peer {
    /// An IPv4 address that is written as one of IPv6 is an IPv4 address.
    pub fn of(address: SocketAddr) -> Self {
        let ip = match address.ip() {
            IpAddr::V6(ip) => ip.to_ipv4_mapped().map_or(IpAddr::V6(ip), IpAddr::V4),
            ip @ IpAddr::V4(_) => ip,
        };
        Self::Tcp { ip, port: address.port() }
    }
}

impl fmt::Display for Peer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tcp { ip, port } => SocketAddr::new(*ip, *port).fmt(f),
            Self::Unix => f.write_str("unix"),
        }
    }
}

/// One client.
#[derive(Debug, Clone)]
pub struct ClientSnapshot {
    pub id: u64,
    /// The domain's name and the user that the client logged in as.
    pub domain: Arc<str>,
    pub user: Arc<str>,
    pub state: ClientState,
    pub peer: Peer,
    pub local: Peer,
    pub connected: SystemTime,
    /// The beginning of the newest request.
    pub requested: SystemTime,
    /// How long it has been waiting for a server, if it is.
    pub wait: Duration,
    /// The server that it is linked to.
    pub link: Option<u64>,
    /// That server's process id.
    pub remote_pid: Option<i32>,
    /// The version and cipher of its TLS, if it has any.
    pub tls: Option<Arc<str>>,
    pub application_name: Arc<str>,
    pub prepared_statements: usize,
    /// The kind of replication connection, if it is one.
    pub replication: Option<&'static str>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum ServerState {
    Login,
    Idle,
    Used,
    Tested,
    Active,
    BeingCanceled,
    Closing,
}

impl ServerState {
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Login => "login",
            Self::Idle => "idle",
            Self::Used => "used",
            Self::Tested => "tested",
            Self::Active => "active",
            Self::BeingCanceled => "being_canceled",
            Self::Closing => "closing",
        }
    }
}

/// One server.
#[derive(Debug, Clone)]
pub struct ServerSnapshot {
    pub id: u64,
    pub domain: Arc<str>,
    pub database: Arc<str>,
    pub user: Arc<str>,
    pub state: ServerState,
    pub peer: Peer,
    pub local: Peer,
    pub connected: SystemTime,
    /// When it was last lent.
    pub requested: SystemTime,
    /// The client that it is linked to.
    pub link: Option<u64>,
    pub remote_pid: i32,
    /// The version and cipher of its TLS, if it has any.
    pub tls: Option<Arc<str>>,
    pub application_name: Arc<str>,
    pub prepared_statements: usize,
    /// The kind of replication connection, if it is one.
    pub replication: Option<&'static str>,
}
