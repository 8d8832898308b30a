//! Which domain a client means.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use super::Domain;
use super::health::Rules;
use super::watch::Watch;
use crate::config::{Config, HealthRules, HostAddr, Mode};
use crate::pool::Pool;
use crate::pool::core::PerSite;
use crate::pool::host::Host;
use crate::pool::ledger::CapId;
use crate::pool::pool::Commons;

/// All domains of a configuration.
#[derive(Debug)]
pub struct Router {
    domains: Vec<Arc<Domain>>,
    /// By domain name, and by database name where no domain has that name.
    by_name: HashMap<Arc<str>, Arc<Domain>>,
    by_alias: HashMap<String, (Arc<Domain>, Mode)>,
    catch_all: Option<Arc<Domain>>,
    /// Each host once.
    pub watches: Vec<Arc<Watch>>,
    /// `[users.NAME] max_connections`.
    user_caps: HashMap<String, CapId>,
}

/// Where a database name leads.
#[derive(Debug, Clone)]
pub struct Route {
    pub domain: Arc<Domain>,
    /// The database's name on the server.
    pub database: Arc<str>,
    /// The mode that the name asks for.
    pub mode: Option<Mode>,
}

impl Route {
    fn to(domain: &Arc<Domain>, name: &str, mode: Option<Mode>) -> Self {
        let database = domain.config.database.clone().unwrap_or_else(|| name.into());
        Self { domain: Arc::clone(domain), database, mode }
    }
}

/// The name of the catch-all domain.
const CATCH_ALL: &str = "*";

impl Router {
    /// Makes the domains of `config`, with their caps and hosts.
    pub fn new(config: &Config, commons: &Arc<Commons>) -> Self {
        let hosts = watches(config);
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
        let watches = hosts.values().map(Arc::clone).collect();
        let mut router = Self {
            domains: Vec::new(),
            by_name: HashMap::new(),
            by_alias: HashMap::new(),
            catch_all: None,
            watches,
            user_caps,
        };
        for domain in &config.domains {
            let at = |addr: &HostAddr| {
                let host = hosts.get(addr)?;
                Some((Arc::clone(host), host_caps.get(addr).copied()))
            };
            let mut of_domain = domain.hosts.iter().filter_map(at);
            let Some(first) = of_domain.next() else { continue };
            let of_domain = PerSite::new(first, of_domain.collect());
            let own = domain.max_connections.map(|limit| commons.caps.add(limit));
            let domain = Domain::new(Arc::clone(domain), &of_domain, Arc::clone(commons), own);
            router.add(Arc::new(domain));
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
        for (alias, mode) in &domain.config.modes.aliases {
            self.by_alias.insert(alias.clone(), (Arc::clone(&domain), *mode));
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
        self.named(name).or_else(|| Some(Route::to(self.catch_all.as_ref()?, name, None)))
    }

    /// The domain that is called `name`, or whose database is; with a mode's suffix, or by an alias. A name
    /// as it stands goes before one with a suffix. Under the catch-all there are no suffixes: a database may
    /// really be called so (pitfall P96).
    pub fn named(&self, name: &str) -> Option<Route> {
        if let Some(domain) = self.by_name.get(name) {
            return Some(Route::to(domain, name, None));
        }
        if let Some((domain, mode)) = self.by_alias.get(name) {
            return Some(Route::to(domain, name, Some(*mode)));
        }
        Mode::ALL.into_iter().find_map(|mode| {
            let stem = name.strip_suffix(mode.suffix()?)?;
            Some(Route::to(self.by_name.get(stem)?, stem, Some(mode)))
        })
    }

    /// The domain with this name in the configuration.
    pub fn domain(&self, name: &str) -> Option<&Arc<Domain>> {
        self.domains.iter().find(|domain| &*domain.config.name == name)
    }

    /// The only domain, if there is no other; `name` is its database if it has none of its own.
    pub fn only(&self, name: &str) -> Option<Route> {
        match self.domains.as_slice() {
            [domain] => Some(Route::to(domain, name, None)),
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

/// Each host once, watched as the most anxious domain says, and letting in as many connections at a time as
/// the most generous one.
fn watches(config: &Config) -> HashMap<HostAddr, Arc<Watch>> {
    let mut wanted: HashMap<&HostAddr, (usize, HealthRules, bool)> = HashMap::new();
    for domain in &config.domains {
        for addr in &domain.hosts {
            let (connects, rules, has_others) =
                wanted.entry(addr).or_insert((0, domain.health, false));
            *has_others |= domain.hosts.len() > 1;
            *connects = (*connects).max(domain.pool.connects_per_host);
            rules.interval = rules.interval.min(domain.health.interval);
            rules.timeout = rules.timeout.min(domain.health.timeout);
            rules.down_after = rules.down_after.min(domain.health.down_after);
        }
    }
    let watch = |(addr, (connects, rules, has_others)): (&HostAddr, (usize, HealthRules, bool))| {
        let HealthRules { interval, timeout, down_after, .. } = rules;
        let host = Arc::new(Host::new(addr.clone(), connects));
        let rules = Rules { interval, down_after };
        let weight = config.host_rules(addr).weight;
        (addr.clone(), Arc::new(Watch::new(host, rules, timeout, has_others, weight)))
    };
    wanted.into_iter().map(watch).collect()
}
