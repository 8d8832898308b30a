//! A domain: its pools, made when they are first asked for.

use std::collections::HashMap;
use std::sync::atomic::Ordering::Relaxed;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::time::Instant;

use super::lookout::{Change, Lookout};
use super::topology::Role;
use super::watch::Watch;
use crate::auth::ServerSecret;
use crate::config::{self, Mode, PoolSettings};
use crate::pool::Pool;
use crate::pool::core::{Balance, PerSite, Site};
use crate::pool::host::{Host, Presence};
use crate::pool::ledger::CapId;
use crate::pool::pool::Commons;
use crate::pool::pool_site::{Outlook as _, PoolSite};
use crate::server::connect::Target;
use crate::telemetry::counters::Counter;
use crate::tls::Ladder;

/// A named logical database at work.
#[derive(Debug)]
pub struct Domain {
    pub config: Arc<config::Domain>,
    /// In the order of the sites, each with the cap over all servers at hosts of its name.
    hosts: PerSite<(Arc<Host>, Option<CapId>)>,
    pub lookout: Arc<Lookout>,
    /// How often another host has become the primary.
    pub failovers: Counter,
    commons: Arc<Commons>,
    /// Over all of its pools.
    cap: Option<CapId>,
    pools: Mutex<HashMap<PoolKey, Arc<Pool>>>,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash)]
struct PoolKey {
    mode: Mode,
    user: Arc<str>,
    /// Differs within a domain only under the catch-all.
    database: Arc<str>,
}

/// What a pool is made from besides its domain.
#[derive(Debug)]
pub struct PoolWanted {
    pub mode: Mode,
    pub user: Arc<str>,
    pub database: Arc<str>,
    pub secret: ServerSecret,
    pub settings: Arc<PoolSettings>,
    pub user_cap: Option<CapId>,
}

impl Domain {
    pub fn new(
        config: Arc<config::Domain>,
        hosts: &PerSite<(Arc<Watch>, Option<CapId>)>,
        commons: Arc<Commons>,
        cap: Option<CapId>,
    ) -> Self {
        let watches = hosts.map(|_, (watch, _)| Arc::clone(watch));
        Self {
            lookout: Arc::new(Lookout::new(watches, &config)),
            hosts: hosts.map(|_, (watch, cap)| (Arc::clone(&watch.host), *cap)),
            failovers: Counter::default(),
            config,
            commons,
            cap,
            pools: Mutex::default(),
        }
    }

    /// Decides anew what its hosts are, at `now`, and has its pools follow.
    pub fn reconsider(&self, now: Instant) {
        // Held to the end: a pool that is made meanwhile follows one decision or the other.
        let pools = self.pools();
        let Some(change) = self.lookout.reconsider(now) else { return };
        self.tell_of(&change);
        for pool in pools.values() {
            pool.set_sites(&self.lookout.standings(pool.mode));
        }
    }

    /// Sessions whose servers are lost with their host, whether they have noticed or not.
    pub fn stranded(&self) -> Vec<u64> {
        self.list().iter().flat_map(|pool| pool.stranded()).collect()
    }

    /// Sessions whose servers are at replicas, though there is a primary again.
    pub fn misplaced(&self) -> Vec<u64> {
        self.list().iter().flat_map(|pool| pool.misplaced()).collect()
    }

    fn tell_of(&self, change: &Change) {
        let domain = &self.config.name;
        if change.is_failover {
            self.failovers.increment();
        }
        let host =
            |site: Option<Site>| site.map(|site| self.hosts.get(site).0.endpoint.to_string());
        let (was, is) = (host(change.last_primary), host(change.after.primary));
        let is_other = change.before.primary != change.after.primary;
        match is {
            Some(is) if change.is_failover => {
                tracing::warn!(%domain, was, %is, "another host is the primary");
            }
            Some(is) if is_other => tracing::info!(%domain, %is, "the primary was found"),
            None if (is_other || change.is_first_view) && self.lookout.lacks_primary() => {
                let hosts = self.lookout.describe().replace('\n', "; ");
                tracing::warn!(%domain, was, hosts, "no host is the primary");
            }
            Some(_) | None => {}
        }
        self.tell_of_roles(change);
    }

    fn tell_of_roles(&self, change: &Change) {
        let domain = &self.config.name;
        let before = change.before.roles.iter().chain(std::iter::repeat(&Role::Unknown));
        let roles = before.zip(&change.after.roles).zip(self.hosts.iter()).enumerate();
        for (at, ((before, after), (host, _))) in roles {
            if before == after {
                continue;
            }
            let (host, was, is) = (&host.endpoint, before.as_str(), after.as_str());
            match (before, after) {
                (_, Role::Fenced { timeline }) => tracing::warn!(%domain, %host, timeline,
                    "a host takes writes and is not the primary: it serves nobody until it is a replica"),
                (_, Role::Stranger { system }) => tracing::error!(%domain, %host, system,
                    "a host is of another cluster: it serves nobody"),
                (_, Role::Replica { lags: true }) => {
                    let lag = self.lookout.lag(Site(at)).unwrap_or_default().time;
                    tracing::warn!(%domain, %host, behind = %config::format_millis(lag),
                        "a replica is too far behind to serve");
                }
                (Role::Fenced { .. } | Role::Stranger { .. } | Role::Replica { lags: true }, _) => {
                    tracing::info!(%domain, %host, was, is, "a host's role has changed");
                }
                _ => tracing::debug!(%domain, %host, was, is, "a host's role has changed"),
            }
        }
    }

    /// The pool of a server user, which is made if there is none yet.
    pub fn pool(&self, wanted: PoolWanted) -> Arc<Pool> {
        let key = PoolKey { mode: wanted.mode, user: wanted.user, database: wanted.database };
        let mut pools = self.pools();
        if let Some(pool) = pools.get(&key) {
            return Arc::clone(pool);
        }
        let options: Arc<[_]> = self.server_options(wanted.mode, &wanted.settings).into();
        let connect_query: Arc<str> = self.config.connect_query.clone().unwrap_or_default().into();
        let sites = self.hosts.map(|site, (host, cap)| {
            let target = Target {
                host: Arc::clone(&host.endpoint),
                site,
                tls: self
                    .config
                    .tls
                    .get(&host.endpoint.name)
                    .cloned()
                    .unwrap_or_else(Ladder::disabled),
                database: Arc::clone(&key.database),
                user: Arc::clone(&key.user),
                secret: wanted.secret.clone(),
                options: Arc::clone(&options),
                connect_query: Arc::clone(&connect_query),
                connect_timeout: wanted.settings.connect_timeout,
            };
            let caps = [self.cap, *cap, wanted.user_cap].into_iter().flatten().collect();
            self.lookout.watches.get(site).offer(&target);
            PoolSite::new(Arc::clone(host), target, caps)
        });
        let name = Arc::clone(&self.config.name);
        let (commons, lookout) = (Arc::clone(&self.commons), Arc::clone(&self.lookout));
        let balance = match self.config.modes.balance {
            config::Balance::LeastBusy => Balance::LeastBusy,
            config::Balance::RoundRobin => Balance::RoundRobin,
        };
        let of = (name, key.mode);
        let pool = Arc::new(Pool::new(of, balance, sites, wanted.settings, commons, lookout));
        pool.set_sites(&self.lookout.standings(key.mode));
        pools.insert(key, Arc::clone(&pool));
        pool
    }

    /// What the servers of a pool are opened with. What a mode asks for comes last, which counts.
    fn server_options(&self, mode: Mode, settings: &PoolSettings) -> Vec<(String, String)> {
        let mut options: Vec<_> =
            self.config.server_options.iter().map(|(n, v)| (n.clone(), v.clone())).collect();
        if let Some(timeout) = settings.statement_timeout {
            options.push(("statement_timeout".into(), timeout.as_millis().to_string()));
        }
        match mode {
            Mode::ReadWrite | Mode::Batch => {}
            // A replica may be promoted under it.
            Mode::ReadOnly => options.push(("default_transaction_read_only".into(), "on".into())),
            Mode::Transactional => {
                let isolation = self.config.modes.isolation.iter();
                options.extend(
                    isolation.map(|is| ("default_transaction_isolation".into(), is.clone())),
                );
            }
        }
        options
    }

    fn pools(&self) -> MutexGuard<'_, HashMap<PoolKey, Arc<Pool>>> {
        self.pools.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Its pools at this moment.
    pub fn list(&self) -> Vec<Arc<Pool>> {
        self.pools().values().map(Arc::clone).collect()
    }

    /// Forgets pools of databases and users that only a client named, once nothing is left of them:
    /// any name may make one.
    pub fn forget_unused(&self) {
        if self.config.database.is_some() && self.config.user.is_some() {
            return;
        }
        self.pools().retain(|_, pool| {
            let (servers, waiting, _) = pool.counts();
            // A login that has just found the pool holds it as well.
            Arc::strong_count(pool) > 1
                || pool.clients.load(Relaxed) > 0
                || servers.total() > 0
                || waiting > 0
        });
    }

    /// Why its servers cannot be had; `None` if nothing is known to be wrong, or clients have them all
    /// the same.
    pub fn trouble(&self) -> Option<String> {
        if self.lookout.lacks_primary() {
            return Some(format!(
                "no primary is available: {}",
                self.lookout.describe().replace('\n', "; ")
            ));
        }
        let pools = self.list();
        if pools.iter().any(|pool| pool.is_at_work()) {
            return None;
        }
        let hosts = self.hosts.iter().filter(|(host, _)| host.presence() == Presence::Present);
        let troubles = hosts.map(|(host, _)| {
            host.last_trouble().map(|trouble| format!("host {}: {}", host.endpoint, trouble.error))
        });
        // One host that works is enough.
        if let Some(troubles) = troubles.collect::<Option<Vec<_>>>() {
            return Some(troubles.join("; "));
        }
        let failure = pools.iter().find_map(|pool| pool.last_trouble())?;
        Some(format!("host {}: {}", failure.host, failure.source))
    }
}
