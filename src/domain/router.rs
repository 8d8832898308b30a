//! Which domain a client means.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use super::Domain;
use crate::config::{Config, HostAddr};
use crate::pool::Pool;
use crate::pool::host::Host;
use crate::pool::ledger::CapId;
use crate::pool::pool::Commons;

/// All domains of a configuration.
#[derive(Debug)]
pub struct Router {
    domains: Vec<Arc<Domain>>,
    /// By domain name, and by database name where no domain has that name.
    by_name: HashMap<Arc<str>, Arc<Domain>>,
    catch_all: Option<Arc<Domain>>,
    /// `[users.NAME] max_connections`.
    user_caps: HashMap<String, CapId>,
}

/// Where a database name leads.
#[derive(Debug, Clone)]
pub struct Route {
    pub domain: Arc<Domain>,
    /// The database's name on the server.
    pub database: Arc<str>,
}

impl Route {
    fn to(domain: &Arc<Domain>, name: &str) -> Self {
        let database = domain.config.database.clone().unwrap_or_else(|| name.into());
        Self { domain: Arc::clone(domain), database }
    }
}

/// The name of the catch-all domain.
const CATCH_ALL: &str = "*";

impl Router {
    /// Makes the domains of `config`, with their caps and hosts.
    pub fn new(config: &Config, commons: &Arc<Commons>) -> Self {
        let hosts = hosts(config);
        let host_caps: BTreeMap<&HostAddr, CapId> = config
            .hosts
            .iter()
            .filter_map(|(addr, rules)| Some((addr, commons.caps.add(rules.max_connections?))))
            .collect();
        let user_caps = config
            .users
            .iter()
            .filter_map(|(name, rules)| {
                Some((name.clone(), commons.caps.add(rules.max_connections?)))
            })
            .collect();
        let mut router =
            Self { domains: Vec::new(), by_name: HashMap::new(), catch_all: None, user_caps };
        for domain in &config.domains {
            let Some(host) = domain.hosts.first().and_then(|addr| hosts.get(addr)) else {
                continue;
            };
            let own = domain.max_connections.map(|limit| commons.caps.add(limit));
            let caps = own.into_iter().chain(host_caps.get(&host.addr).copied()).collect();
            router.add(Arc::new(Domain::new(
                Arc::clone(domain),
                Arc::clone(host),
                Arc::clone(commons),
                caps,
            )));
        }
        router.add_database_names();
        router
    }

    fn add(&mut self, domain: Arc<Domain>) {
        if &*domain.config.name == CATCH_ALL {
            self.catch_all = Some(Arc::clone(&domain));
        } else {
            self.by_name.insert(Arc::clone(&domain.config.name), Arc::clone(&domain));
        }
        self.domains.push(domain);
    }

    /// A domain's name goes before another's database of the same name.
    fn add_database_names(&mut self) {
        for domain in &self.domains {
            if let Some(database) = &domain.config.database {
                self.by_name.entry(Arc::clone(database)).or_insert_with(|| Arc::clone(domain));
            }
        }
    }

    /// Finds the domain that a client means by `name`.
    pub fn route(&self, name: &str) -> Option<Route> {
        let domain = self.by_name.get(name).or(self.catch_all.as_ref())?;
        Some(Route::to(domain, name))
    }

    /// The domain that is called `name`, or whose database is.
    pub fn named(&self, name: &str) -> Option<Route> {
        self.by_name.get(name).map(|domain| Route::to(domain, name))
    }

    /// The only domain, if there is no other; `name` is its database if it has none of its own.
    pub fn only(&self, name: &str) -> Option<Route> {
        match self.domains.as_slice() {
            [domain] => Some(Route::to(domain, name)),
            _ => None,
        }
    }

    /// The cap over all servers that are logged in as `user`.
    pub fn user_cap(&self, user: &str) -> Option<CapId> {
        self.user_caps.get(user).copied()
    }

    pub fn domains(&self) -> &[Arc<Domain>] {
        &self.domains
    }

    /// All pools at this moment.
    pub fn pools(&self) -> Vec<Arc<Pool>> {
        self.domains.iter().flat_map(|domain| domain.list()).collect()
    }
}

/// Each host once, letting in as many connections at a time as the most generous domain says.
fn hosts(config: &Config) -> HashMap<HostAddr, Arc<Host>> {
    let mut connects: HashMap<HostAddr, usize> = HashMap::new();
    for domain in &config.domains {
        for addr in &domain.hosts {
            let most = connects.entry(addr.clone()).or_default();
            *most = (*most).max(domain.pool.connects_per_host);
        }
    }
    connects
        .into_iter()
        .map(|(addr, connects)| (addr.clone(), Arc::new(Host::new(addr, connects))))
        .collect()
}
