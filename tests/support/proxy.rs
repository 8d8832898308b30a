//! A proxy inside the test: configuration in, address out.

use std::sync::Arc;

use pgweir::app::{self, Running};
use pgweir::config::{self, ProcessEnvironment};
use pgweir::net::resolve::{Resolve, System};
use pgweir::runtime::drain::Drained;
use pgweir::telemetry::snapshot::{Observe, PoolSnapshot};
use toml::Table;

use super::names::Names;
use super::postgres::{DATABASE, Postgres, USER};
use super::raw_client::Client;
use super::reply::Fields;
use super::socket::Address;
use super::wait::wait_until;

/// A proxy that serves. Its end is its drop.
#[derive(Debug)]
pub struct Proxy {
    pub address: Address,
    running: Option<Running>,
}

impl Proxy {
    /// A proxy with a domain `main` before `postgres`. `changes` is TOML, laid over the defaults of
    /// the tests key by key.
    #[track_caller]
    pub fn start(postgres: &Postgres, changes: &str) -> Self {
        Self::before(&postgres.host(), changes)
    }

    /// The same before any host.
    #[track_caller]
    pub fn before(host: &str, changes: &str) -> Self {
        Self::with(host, changes, &(Arc::new(System) as _))
    }

    /// The same before hosts whose names lead where `names` says.
    #[track_caller]
    pub fn by_names(names: &Names, host: &str, changes: &str) -> Self {
        Self::with(host, changes, &(Arc::new(names.clone()) as _))
    }

    #[track_caller]
    fn with(host: &str, changes: &str, resolver: &Arc<dyn Resolve>) -> Self {
        let mut config: Table = defaults(host).parse().unwrap();
        lay_over(&mut config, changes.parse().unwrap_or_else(|error| panic!("{error}")));
        let file = std::env::temp_dir().join("test.toml");
        let text = config.to_string();
        let config = config::parse(&text, &file, &ProcessEnvironment);
        let config = config.unwrap_or_else(|errors| panic!("{errors}"));
        let running = app::start_with(config, resolver).unwrap();
        let address = Address::Tcp(running.addresses[0]);
        Self { address, running: Some(running) }
    }

    /// A client that is logged in to the domain `main`.
    #[track_caller]
    pub fn client(&self) -> Client {
        self.client_with(&[])
    }

    /// A client with more startup parameters.
    #[track_caller]
    pub fn client_with(&self, parameters: &[(&str, &str)]) -> Client {
        self.try_client_with(parameters).unwrap_or_else(|error| panic!("{error:?}"))
    }

    #[track_caller]
    pub fn try_client_with(&self, parameters: &[(&str, &str)]) -> Result<Client, Fields> {
        let mut all = vec![("user", USER), ("database", "main")];
        all.retain(|(name, _)| !parameters.iter().any(|(other, _)| other == name));
        all.extend_from_slice(parameters);
        Client::try_log_in(&self.address, &all)
    }

    /// A connection on which nothing was said.
    pub fn connect(&self) -> Client {
        Client::connect(&self.address)
    }

    pub fn observe(&self) -> Arc<dyn Observe> {
        self.running.as_ref().expect("it was shut down").observe()
    }

    /// The pool of the domain `main`.
    #[track_caller]
    pub fn pool(&self) -> PoolSnapshot {
        let mut pools = self.observe().pools();
        let at = pools.iter().position(|pool| &*pool.domain == "main").expect("no pool");
        pools.swap_remove(at)
    }

    /// Waits until the pool of `main` is as `is_so` wants it.
    #[track_caller]
    pub fn wait_for_pool(&self, what: &str, is_so: impl Fn(&PoolSnapshot) -> bool) {
        wait_until(what, || {
            self.observe().pools().iter().any(|pool| &*pool.domain == "main" && is_so(pool))
        });
    }

    /// Waits until this many clients wait for a server of `main`.
    #[track_caller]
    pub fn wait_for_waiting(&self, count: usize) {
        self.wait_for_pool(&format!("{count} waiting"), |pool| pool.clients_waiting == count);
    }

    /// Begins to shut down; the end of the drain, to be waited for.
    pub fn shut_down(&mut self) -> std::thread::JoinHandle<Drained> {
        let running = self.running.take().expect("it was shut down");
        std::thread::spawn(move || block_on(running))
    }
}

fn block_on(running: Running) -> Drained {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(running.shut_down())
}

impl Drop for Proxy {
    fn drop(&mut self) {
        if let Some(running) = self.running.take() {
            block_on(running);
        }
    }
}

fn defaults(host: &str) -> String {
    format!(
        r#"
        [listen]
        addresses = ["127.0.0.1:0"]
        [http]
        address = ""
        [runtime]
        workers = 2
        shutdown_timeout = "0s"
        [auth]
        method = "trust"
        [pool]
        size = 2
        max_overflow = 0
        timeout = "10s"
        [domains.main]
        database = "{DATABASE}"
        hosts = ["{host}"]
        user = "{USER}"
        # Tests count the connections that a host sees: probes are tested for themselves.
        health = {{ interval = "1h" }}
        "#
    )
}

/// Lays `changes` over `table`, key by key.
fn lay_over(table: &mut Table, changes: Table) {
    for (key, value) in changes {
        match (table.get_mut(&key), value) {
            (Some(toml::Value::Table(old)), toml::Value::Table(new)) => lay_over(old, new),
            (_, value) => {
                table.insert(key, value);
            }
        }
    }
}
