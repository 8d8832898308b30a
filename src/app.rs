//! Builds every long-lived object once, starts them, and drains them.

use std::future::Future;
use std::io;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use thiserror::Error;
use tokio::sync::Semaphore;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::auth::{UsersFile, UsersFileError};
use crate::client::context::Context;
use crate::client::record::Ring;
use crate::client::registry::Registry;
use crate::client::session::{self, Accepted};
use crate::config::{Config, HostAddr, ListenAddr};
use crate::domain::watch::Watch;
use crate::domain::{Domain, Router};
use crate::net::listener::{BindError, Bound, Listener, bind};
use crate::net::resolve::{Resolve, System};
use crate::pool::host::Host;
use crate::pool::janitor;
use crate::pool::pool::Commons;
use crate::runtime::drain::{Drain, Drained};
use crate::runtime::worker::Workers;
use crate::server::record::ServerRecord;
use crate::server::store::Store;
use crate::sql::mask_literals;
use crate::telemetry::averages::Averages;
use crate::telemetry::http;
use crate::telemetry::slow::SlowLog;
use crate::telemetry::snapshot::Observe;

/// Why pgweir does not start.
#[derive(Debug, Error)]
pub enum StartError {
    #[error("cannot read users_file {path:?}: {source}")]
    UsersFile { path: PathBuf, source: io::Error },
    #[error("{}", list(.path, .errors))]
    Users { path: PathBuf, errors: Vec<UsersFileError> },
    #[error(transparent)]
    Bind(#[from] BindError),
    #[error("cannot start: {0}")]
    Io(#[from] io::Error),
    #[error("the system has no randomness to give")]
    Random,
}

fn list(path: &std::path::Path, errors: &[UsersFileError]) -> String {
    let lines: Vec<_> = errors.iter().map(|error| format!("{}:{error}", path.display())).collect();
    lines.join("\n")
}

/// A proxy that serves. Two of them fit in one process.
#[derive(Debug)]
pub struct Running {
    /// Where clients may connect: sockets that are really bound.
    pub addresses: Vec<SocketAddr>,
    pub sockets: Vec<PathBuf>,
    pub http: Option<SocketAddr>,
    context: Arc<Context>,
    drain: Drain,
    /// Cancelled last: `/readyz` answers while everything else drains.
    http_stop: CancellationToken,
    shutdown_timeout: Duration,
    workers: Workers,
}

/// Starts a proxy. Nothing serves yet if this fails.
pub fn start(config: Config) -> Result<Running, StartError> {
    let system: Arc<dyn Resolve> = Arc::new(System);
    start_with(config, &system)
}

/// Starts a proxy that has `resolver` say where the names of its hosts lead.
pub fn start_with(config: Config, resolver: &Arc<dyn Resolve>) -> Result<Running, StartError> {
    let users = read_users(&config)?;
    let mut bound = Vec::new();
    for address in &config.listen.addresses {
        bound.extend(bind(address, Some(&config.listen))?);
    }
    let http = config.http.address.as_ref().map(bind_http).transpose()?;
    let workers = Workers::start(config.runtime.workers)?;
    let drain = Drain::default();
    let context = Arc::new(build(config, users, &drain, workers.all().len())?);

    let running = Running {
        addresses: bound.iter().filter_map(tcp_address).collect(),
        sockets: bound.iter().filter_map(socket_path).collect(),
        http: http.as_ref().and_then(|(_, addr)| *addr),
        shutdown_timeout: context.config.runtime.shutdown_timeout,
        context,
        drain,
        http_stop: CancellationToken::new(),
        workers,
    };
    running.start_housekeeping(http.map(|(listener, _)| listener));
    running.start_watches(resolver);
    running.start_listeners(bound);
    Ok(running)
}

impl Running {
    /// Spawns `task` on the first worker.
    fn spawn(&self, task: impl Future<Output = ()> + Send + 'static) {
        if let Some(worker) = self.workers.all().first() {
            self.drain.spawn_on(&worker.handle, task);
        }
    }

    fn start_housekeeping(&self, http: Option<std::net::TcpListener>) {
        let context = Arc::clone(&self.context);
        self.spawn(async move {
            let domains = Arc::clone(&context);
            let pools = move || {
                for domain in domains.router.domains() {
                    domain.forget_unused();
                }
                domains.router.pools()
            };
            open_ahead(&context);
            janitor::run(Arc::clone(&context.commons), pools).await;
        });
        let observe = Arc::clone(&self.context) as Arc<dyn Observe>;
        let averages = Arc::clone(&self.context.averages);
        let stop = self.drain.soft().clone();
        self.spawn(crate::telemetry::averages::run(averages, observe, stop));
        if let Some(listener) = http {
            self.start_http(listener);
        }
    }

    /// A task for each name, and for each place that a host of its may be at, which have all domains with it look
    /// at what they find.
    fn start_watches(&self, resolver: &Arc<dyn Resolve>) {
        for name in &self.context.router.names {
            let stop = || self.drain.soft().clone();
            for watch in &name.watches {
                let (context, host) = (Arc::clone(&self.context), Arc::clone(&watch.host));
                let heard = move || {
                    let servers = servers_at(&context, &host);
                    servers.iter().map(|record| (record.id, record.reads())).collect()
                };
                let context = Arc::clone(&self.context);
                let told =
                    move |watch: &Watch, now| reconsider(&context, &watch.host.endpoint.name, now);
                self.spawn(Arc::clone(watch).run(stop(), heard, told));
            }
            let context = Arc::clone(&self.context);
            let is_in_use = move |host: &Host| !servers_at(&context, host).is_empty();
            let (context, addr) = (Arc::clone(&self.context), name.addr.clone());
            let told = move |now| reconsider(&context, &addr, now);
            self.spawn(Arc::clone(name).run(Arc::clone(resolver), stop(), is_in_use, told));
        }
    }

    /// HTTP is not part of the drain: it tells of it to the end.
    fn start_http(&self, listener: std::net::TcpListener) {
        let observe = Arc::clone(&self.context) as Arc<dyn Observe>;
        let stop = self.http_stop.clone();
        let Some(worker) = self.workers.all().first() else { return };
        let task = async move {
            let served = match tokio::net::TcpListener::from_std(listener) {
                Ok(listener) => {
                    http::serve(listener, observe, stop).await.map_err(io::Error::other)
                }
                Err(error) => Err(error),
            };
            if let Err(error) = served {
                tracing::error!(%error, "HTTP is not served");
            }
        };
        Drain::default().spawn_on(&worker.handle, task);
    }

    fn start_listeners(&self, bound: Vec<Bound>) {
        let places = Arc::new(Semaphore::new(self.context.config.listen.max_unauthenticated));
        for bound in bound {
            let acceptor = Acceptor {
                context: Arc::clone(&self.context),
                drain: self.drain.clone(),
                places: Arc::clone(&places),
                shares: self.workers.shares(),
            };
            self.spawn(acceptor.run(bound));
        }
    }

    /// What the proxy does, as the console and HTTP see it.
    pub fn observe(&self) -> Arc<dyn Observe> {
        Arc::clone(&self.context) as Arc<dyn Observe>
    }

    /// Stops accepting, lets transactions end, closes each client at its boundary, and ends what is
    /// left when `shutdown_timeout` is over.
    pub async fn shut_down(self) -> Drained {
        let registry = Arc::clone(&self.context.registry);
        let pools = self.context.router.pools();
        // Told first, so that a login that ends from here on knows by itself.
        self.drain.soft().cancel();
        registry.ring_all(Ring::Drain);
        let drained = self.drain.run(self.shutdown_timeout, || registry.ring_all(Ring::Stop)).await;
        for pool in pools {
            pool.shut_down();
        }
        self.http_stop.cancel();
        // Worker threads are joined on drop, which may not happen on one of their runtimes.
        drop(self.workers);
        drained
    }
}

/// Takes clients from one socket and hands them to the least loaded worker.
struct Acceptor {
    context: Arc<Context>,
    drain: Drain,
    /// Places for those who have not logged in.
    places: Arc<Semaphore>,
    shares: crate::runtime::worker::Shares,
}

impl Acceptor {
    async fn run(self, bound: Bound) {
        let mut listener = match Listener::new(bound) {
            Ok(listener) => listener,
            Err(error) => {
                tracing::error!(%error, "cannot accept clients");
                return;
            }
        };
        loop {
            // The place comes before the client: who finds none waits in the kernel's queue.
            let next = async {
                let place = Arc::clone(&self.places).acquire_owned().await.ok()?;
                Some((place, listener.accept().await))
            };
            let accepted = tokio::select! {
                accepted = next => accepted,
                () = self.drain.soft().cancelled() => return,
            };
            let Some((unauthenticated, raw)) = accepted else { return };
            let Some((worker, share)) = self.shares.least_loaded() else { return };
            let context = Arc::clone(&self.context);
            context.process.accepted.increment();
            let session = async move {
                let peer = raw.peer();
                let stream = match raw.into_stream() {
                    Ok(stream) => stream,
                    Err(error) => {
                        tracing::error!(%error, "a client's socket cannot be used");
                        return;
                    }
                };
                session::run(Accepted { stream, peer, share, unauthenticated }, context).await;
            };
            self.drain.spawn_session(&worker.handle, session);
        }
    }
}

/// What all pools have at `host`.
fn servers_at(context: &Context, host: &Host) -> Vec<Arc<ServerRecord>> {
    let pools = context.router.pools();
    let servers = pools.iter().flat_map(|pool| pool.records());
    servers.filter(|record| Arc::ptr_eq(&record.host, &host.endpoint)).collect()
}

/// Something is new of a host of that name: all domains that have it decide anew.
fn reconsider(context: &Context, name: &HostAddr, now: Instant) {
    let has_it = |domain: &&Arc<Domain>| domain.config.hosts.contains(name);
    let domains: Vec<_> = context.router.domains().iter().filter(has_it).collect();
    for domain in &domains {
        domain.reconsider(now);
    }
    // Each time: one may have been linked since.
    let stranded = domains.iter().flat_map(|domain| domain.stranded()).collect();
    context.registry.ring_some(&stranded, Ring::Stranded);
    let misplaced = domains.iter().flat_map(|domain| domain.misplaced()).collect();
    context.registry.ring_some(&misplaced, Ring::Misplaced);
}

fn read_users(config: &Config) -> Result<Option<UsersFile>, StartError> {
    let Some(path) = &config.auth.users_file else { return Ok(None) };
    let text = std::fs::read_to_string(path)
        .map_err(|source| StartError::UsersFile { path: path.clone(), source })?;
    UsersFile::parse(&text)
        .map(Some)
        .map_err(|errors| StartError::Users { path: path.clone(), errors })
}

fn build(
    config: Config,
    users: Option<UsersFile>,
    drain: &Drain,
    homes: usize,
) -> Result<Context, StartError> {
    let mut mock_key = [0; 32];
    getrandom::fill(&mut mock_key).map_err(|_error| StartError::Random)?;
    let commons = Arc::new(Commons::new(drain.clone(), homes));
    let router = Router::new(&config, &commons);
    Ok(Context {
        router,
        registry: Arc::new(Registry::default()),
        users,
        commons,
        store: Store::new(),
        process: Arc::default(),
        averages: Arc::new(Averages::new(Instant::now())),
        slow: SlowLog::new(&config.log, mask_literals),
        started: SystemTime::now(),
        mock_key,
        config: Arc::new(config),
    })
}

/// Makes the pools of domains that have a user, so that `min` servers are there before a client is.
fn open_ahead(context: &Context) {
    for domain in context.router.domains() {
        let config = &domain.config;
        let (Some(user), Some(database)) = (&config.user, &config.database) else { continue };
        domain.pool(crate::domain::domain::PoolWanted {
            mode: crate::config::Mode::ReadWrite,
            user: Arc::clone(user),
            database: Arc::clone(database),
            secret: context.domain_secret(config, user),
            settings: config.pool.clone(),
            user_cap: context.router.user_cap(user),
        });
    }
}

fn bind_http(
    address: &(String, u16),
) -> Result<(std::net::TcpListener, Option<SocketAddr>), StartError> {
    let (host, port) = address.clone();
    let bound = bind(&ListenAddr::Tcp { host, port }, None)?;
    for bound in bound {
        if let Bound::Tcp(listener, addr) = bound {
            return Ok((listener, Some(addr)));
        }
    }
    Err(io::Error::from(io::ErrorKind::AddrNotAvailable).into())
}

fn tcp_address(bound: &Bound) -> Option<SocketAddr> {
    match bound {
        Bound::Tcp(_, addr) => Some(*addr),
        Bound::Unix(..) => None,
    }
}

fn socket_path(bound: &Bound) -> Option<PathBuf> {
    match bound {
        Bound::Tcp(..) => None,
        Bound::Unix(_, file) => Some(file.0.clone()),
    }
}
