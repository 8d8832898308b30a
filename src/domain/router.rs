//! Which domain a client means.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use tokio::sync::Notify;

use super::Domain;
use super::health::Rules;
use super::name::Name;
use super::slots::SLOTS;
use super::watch::Watch;
use crate::config::{self, Config, HealthRules, HostAddr, Mode};
use crate::pool::Pool;
use crate::pool::core::PerSite;
use crate::pool::host::Host;
use crate::pool::ledger::CapId;
use crate::pool::pool::Commons;
use crate::server::endpoint::Endpoint;

/// All domains of a configuration.
#[derive(Debug)]
pub struct Router {
    domains: Vec<Arc<Domain>>,
    /// By domain name, and by database name where no domain has that name.
    by_name: HashMap<Arc<str>, Arc<Domain>>,
    by_alias: HashMap<String, (Arc<Domain>, Mode)>,
    catch_all: Option<Arc<Domain>>,
    /// Each host of the configuration once.
    pub names: Vec<Arc<Name>>,
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
        let names = names(config);
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
        let mut router = Self {
            domains: Vec::new(),
            by_name: HashMap::new(),
            by_alias: HashMap::new(),
            catch_all: None,
            names: names.values().map(Arc::clone).collect(),
            user_caps,
        };
        for domain in &config.domains {
            let Some(sites) = sites(domain, &names, &host_caps) else { continue };
            let own = domain.max_connections.map(|limit| commons.caps.add(limit));
            let domain = Domain::new(Arc::clone(domain), &sites, Arc::clone(commons), own);
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

/// Each host of the configuration once, watched as the most anxious domain says, and letting in as many connections
/// at a time as the most generous one.
fn names(config: &Config) -> BTreeMap<&HostAddr, Arc<Name>> {
    let mut wanted: BTreeMap<&HostAddr, Wanted> = BTreeMap::new();
    for domain in &config.domains {
        for addr in &domain.hosts {
            let wanted = wanted.entry(addr).or_insert(Wanted {
                connects: 0,
                rules: domain.health,
                has_others: false,
            });
            wanted.has_others |= domain.hosts.len() > 1;
            wanted.connects = wanted.connects.max(domain.pool.connects_per_host);
            let rules = &mut wanted.rules;
            rules.interval = rules.interval.min(domain.health.interval);
            rules.timeout = rules.timeout.min(domain.health.timeout);
            rules.down_after = rules.down_after.min(domain.health.down_after);
            rules.resolve = rules.resolve.min(domain.health.resolve);
        }
    }
    let name = |(addr, wanted): (_, Wanted)| (addr, Arc::new(wanted.name(config, addr)));
    wanted.into_iter().map(name).collect()
}

/// What all domains together want of a host.
struct Wanted {
    connects: usize,
    rules: HealthRules,
    has_others: bool,
}

impl Wanted {
    fn name(&self, config: &Config, addr: &HostAddr) -> Name {
        let HealthRules { interval, timeout, down_after, resolve, .. } = self.rules;
        let (rules, weight) = (Rules { interval, down_after }, config.host_rules(addr).weight);
        let lost = Arc::<Notify>::default();
        let place = |index: usize| {
            let endpoint = Arc::new(Endpoint::new(addr.clone()));
            let host = Arc::new(Host::new(endpoint, self.connects, Arc::clone(&lost)));
            if index > 0 {
                host.vacate();
            }
            Arc::new(Watch::new(host, rules, timeout, self.has_others, weight))
        };
        let places = if Name::is_name(addr) { SLOTS } else { 1 };
        Name::new(addr.clone(), (0..places).map(place).collect(), resolve, lost)
    }
}

/// The places at the hosts of `domain` as its sites, each with the cap over all servers of its name: the first place
/// of each host in the order of the configuration, then the second one of each that has one, and so on. What is used
/// is in front.
fn sites(
    domain: &config::Domain,
    names: &BTreeMap<&HostAddr, Arc<Name>>,
    caps: &BTreeMap<&HostAddr, CapId>,
) -> Option<PerSite<(Arc<Watch>, Option<CapId>)>> {
    let of_domain = || domain.hosts.iter().filter_map(|addr| Some((addr, names.get(addr)?)));
    let at = |index: usize| {
        of_domain().filter_map(move |(addr, name)| {
            Some((Arc::clone(name.watches.get(index)?), caps.get(addr).copied()))
        })
    };
    let mut all = (0..SLOTS).flat_map(at);
    Some(PerSite::new(all.next()?, all.collect()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{MapEnvironment, parse};
    use crate::pool::caps::Caps;
    use crate::pool::core::Site;

    #[test]
    fn what_is_used_is_in_front_and_a_cap_is_one_for_all_addresses_of_a_name() {
        let text = "[auth]\nmethod = \"trust\"\n[domains.a]\nhosts = [\"db\", \"10.0.0.1\", \"/run/postgresql\", \"other\"]\n\
                    [hosts.\"db\"]\nmax_connections = 5\nweight = 3";
        let config = parse(text, "f".as_ref(), &MapEnvironment::default()).unwrap();
        let (names, domain) = (names(&config), &config.domains[0]);
        let cap_of_db = Caps::default().add(5);
        let caps = BTreeMap::from([(&domain.hosts[0], cap_of_db)]);

        let sites = sites(domain, &names, &caps).unwrap();

        assert_eq!(sites.count(), 2 * SLOTS + 2);
        let name = |index: usize| sites.get(Site(index)).0.host.endpoint.name.to_string();
        let front = ["db:5432", "10.0.0.1:5432", "/run/postgresql:5432", "other:5432"];
        assert_eq!([0, 1, 2, 3].map(name), front);
        assert_eq!([4, 5, 6, 7].map(name), ["db:5432", "other:5432", "db:5432", "other:5432"]);
        for (index, (watch, cap)) in sites.iter().enumerate() {
            assert_eq!(watch.host.is_absent(), index >= 4);
            let is_db = watch.host.endpoint.name == domain.hosts[0];
            assert_eq!((*cap, watch.weight), if is_db { (Some(cap_of_db), 3) } else { (None, 1) });
        }
        assert!(Arc::ptr_eq(&sites.get(Site(4)).0, &names[&domain.hosts[0]].watches[1]));
    }
}
