//! A domain: its pools, made when they are first asked for.

use std::collections::HashMap;
use std::sync::atomic::Ordering::Relaxed;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::auth::ServerSecret;
use crate::config::{self, PoolSettings};
use crate::pool::Pool;
use crate::pool::host::Host;
use crate::pool::ledger::CapId;
use crate::pool::pool::Commons;
use crate::server::connect::Target;
use crate::tls::Ladder;

/// A named logical database at work.
#[derive(Debug)]
pub struct Domain {
    pub config: Arc<config::Domain>,
    pub host: Arc<Host>,
    commons: Arc<Commons>,
    /// Caps of the domain and of its host.
    caps: Vec<CapId>,
    pools: Mutex<HashMap<PoolKey, Arc<Pool>>>,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash)]
struct PoolKey {
    user: Arc<str>,
    /// Differs within a domain only under the catch-all.
    database: Arc<str>,
}

/// What a pool is made from besides its domain.
#[derive(Debug)]
pub struct PoolWanted {
    pub user: Arc<str>,
    pub database: Arc<str>,
    pub secret: ServerSecret,
    pub settings: Arc<PoolSettings>,
    pub user_cap: Option<CapId>,
}

impl Domain {
    pub fn new(
        config: Arc<config::Domain>,
        host: Arc<Host>,
        commons: Arc<Commons>,
        caps: Vec<CapId>,
    ) -> Self {
        Self { config, host, commons, caps, pools: Mutex::default() }
    }

    /// The pool of a server user, which is made if there is none yet.
    pub fn pool(&self, wanted: PoolWanted) -> Arc<Pool> {
        let key = PoolKey { user: wanted.user, database: wanted.database };
        let mut pools = self.pools();
        if let Some(pool) = pools.get(&key) {
            return Arc::clone(pool);
        }
        let target = Target {
            host: self.host.addr.clone(),
            dialect: Arc::clone(&self.host.dialect),
            tls: self.config.tls.get(&self.host.addr).cloned().unwrap_or_else(Ladder::disabled),
            database: Arc::clone(&key.database),
            user: Arc::clone(&key.user),
            secret: wanted.secret,
            options: self.server_options(&wanted.settings),
            connect_query: self.config.connect_query.clone().unwrap_or_default(),
            connect_timeout: wanted.settings.connect_timeout,
        };
        let caps = self.caps.iter().copied().chain(wanted.user_cap).collect();
        let pool = Arc::new(Pool::new(
            Arc::clone(&self.config.name),
            target,
            wanted.settings,
            Arc::clone(&self.host),
            Arc::clone(&self.commons),
            caps,
        ));
        pools.insert(key, Arc::clone(&pool));
        pool
    }

    fn server_options(&self, settings: &PoolSettings) -> Vec<(String, String)> {
        let mut options: Vec<_> =
            self.config.server_options.iter().map(|(n, v)| (n.clone(), v.clone())).collect();
        if let Some(timeout) = settings.statement_timeout {
            options.push(("statement_timeout".into(), timeout.as_millis().to_string()));
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
        let pools = self.list();
        if pools.iter().any(|pool| pool.is_at_work()) {
            return None;
        }
        if let Some(trouble) = self.host.last_trouble() {
            return Some(format!("host {}: {}", self.host.addr, trouble.error));
        }
        let error = pools.iter().find_map(|pool| pool.last_trouble())?;
        Some(format!("host {}: {error}", self.host.addr))
    }
}
