//! A domain's view of its hosts: which is the primary, which replicas serve, and what clients get meanwhile.

use std::fmt::Write as _;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime};

use tokio::time::Instant;

use super::health::Condition;
use super::lag::{Lag, Positions};
use super::topology::{Candidate, Memory, Role, Topology, Whom, standings};
use super::watch::Watch;
use crate::config::{self, Failover, HealthRules, Mode, OnPrimaryLoss};
use crate::pool::core::{PerSite, Site, Standing};
use crate::pool::pool_site::Outlook;

/// What a domain knows of its hosts.
#[derive(Debug)]
pub struct Lookout {
    pub watches: PerSite<Arc<Watch>>,
    rules: HealthRules,
    failover: Failover,
    /// `read_only` is served by the primary while there is no replica.
    falls_back: bool,
    held: Mutex<Held>,
}

#[derive(Debug)]
struct Held {
    memory: Memory,
    /// Where the primary was when.
    positions: Positions,
    /// Whose those are.
    positions_of: Option<(Site, u32)>,
    lags: Vec<Option<Lag>>,
    topology: Topology,
    /// The primary before this one, if there has been any.
    last_primary: Option<Site>,
}

/// What a decision has changed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Change {
    pub before: Topology,
    pub after: Topology,
    /// Another host has become the primary than was it before.
    pub is_failover: bool,
}

/// A host as a domain sees it.
#[derive(Debug, Clone)]
pub struct HostView {
    pub site: Site,
    pub condition: Condition,
    pub role: Role,
    pub lag: Option<Lag>,
    pub timeline: Option<u32>,
    pub system: Option<u64>,
    pub since: SystemTime,
    pub trouble: Option<Arc<str>>,
}

impl Lookout {
    pub fn new(watches: PerSite<Arc<Watch>>, domain: &config::Domain) -> Self {
        let count = watches.count();
        let topology = Topology { roles: vec![Role::Unknown; count], primary: None };
        let held = Held {
            memory: Memory::default(),
            positions: Positions::default(),
            positions_of: None,
            lags: vec![None; count],
            topology,
            last_primary: None,
        };
        Self {
            watches,
            rules: domain.health,
            failover: domain.failover,
            falls_back: domain.modes.falls_back,
            held: Mutex::new(held),
        }
    }

    /// True if it has but one host, which serves whatever it is.
    const fn is_single(&self) -> bool {
        self.watches.count() == 1
    }

    /// Decides anew what its hosts are, at `now`; `None`: the same as before.
    pub fn reconsider(&self, now: Instant) -> Option<Change> {
        let mut held = self.held();
        let candidates = self.candidates(&mut held, now);
        let after = held.memory.decide(&candidates, self.rules.max_lag);
        if after.primary != held.topology.primary || held.positions_of.is_none() {
            held.follow(&candidates, after.primary, now);
        }
        let is_urgent = after.primary.is_none() && !self.is_single();
        self.watches.iter().for_each(|watch| watch.set_urgent(is_urgent));
        if after == held.topology {
            return None;
        }
        let before = std::mem::replace(&mut held.topology, after.clone());
        let is_failover = after.primary.is_some()
            && held.last_primary.is_some_and(|last| Some(last) != after.primary);
        held.last_primary = after.primary.or(held.last_primary);
        Some(Change { before, after, is_failover })
    }

    fn candidates(&self, held: &mut Held, now: Instant) -> Vec<Candidate> {
        let healths: Vec<_> = self.watches.iter().map(|watch| watch.health()).collect();
        if let Some((site, timeline)) = held.positions_of
            && let Some(health) = healths.get(site.0)
            && let Some((facts, at)) = health.facts()
            && !facts.in_recovery
            && facts.timeline == timeline
        {
            held.positions.note(facts.position, at);
        }
        let lag = |health: &super::health::Health| {
            let (facts, at) = health.facts().filter(|(facts, _)| facts.in_recovery)?;
            held.positions.lag(facts.position, at.min(now))
        };
        let candidates: Vec<_> = healths
            .iter()
            .map(|health| Candidate {
                condition: health.condition(),
                facts: health.facts().map(|(facts, _)| facts),
                lag: lag(health),
            })
            .collect();
        held.lags = candidates.iter().map(|candidate| candidate.lag).collect();
        candidates
    }

    /// True if it has several hosts, and none of them is the primary.
    pub fn lacks_primary(&self) -> bool {
        !self.is_single() && self.held().topology.primary.is_none()
    }

    /// What each host is to a pool of `mode`, in the order of the sites.
    pub fn standings(&self, mode: Mode) -> Vec<Standing> {
        if self.is_single() {
            return vec![Standing::Serves { weight: 1 }];
        }
        let held = self.held();
        let hosts: Vec<_> = held
            .topology
            .roles
            .iter()
            .zip(self.watches.iter())
            .map(|(role, watch)| (*role, watch.health().condition(), watch.weight))
            .collect();
        let reads_meanwhile = held.topology.primary.is_none()
            && self.failover.on_primary_loss == OnPrimaryLoss::ReadOnly;
        let whom = match mode {
            Mode::ReadOnly => Whom::Replicas { falls_back: self.falls_back },
            Mode::ReadWrite | Mode::Batch | Mode::Transactional if reads_meanwhile => {
                Whom::Replicas { falls_back: true }
            }
            Mode::ReadWrite | Mode::Batch | Mode::Transactional => Whom::Primary,
        };
        standings(&hosts, whom)
    }

    /// Its hosts at this moment, in the order of the sites.
    pub fn hosts(&self) -> Vec<HostView> {
        let held = self.held();
        let view = |(index, watch): (usize, &Arc<Watch>)| {
            let health = watch.health();
            let facts = health.facts().map(|(facts, _)| facts);
            HostView {
                site: Site(index),
                condition: health.condition(),
                role: held.topology.roles.get(index).copied().unwrap_or(Role::Unknown),
                lag: held.lags.get(index).copied().flatten(),
                timeline: facts.map(|facts| facts.timeline).filter(|timeline| *timeline > 0),
                system: facts.map(|facts| facts.system),
                since: SystemTime::now() - health.since().elapsed(),
                trouble: health.trouble().map(Arc::clone),
            }
        };
        self.watches.iter().enumerate().map(view).collect()
    }

    fn held(&self) -> MutexGuard<'_, Held> {
        self.held.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Held {
    /// Goes on with the positions of another primary, or of none for the time being: how far replicas are
    /// behind is then told by the last one's.
    fn follow(&mut self, candidates: &[Candidate], primary: Option<Site>, now: Instant) {
        let Some(site) = primary else { return };
        let Some(facts) = candidates.get(site.0).and_then(|candidate| candidate.facts) else {
            return;
        };
        let of = Some((site, facts.timeline));
        if self.positions_of != of {
            self.positions.forget();
            self.positions_of = of;
            self.positions.note(facts.position, now);
        }
    }
}

impl Outlook for Lookout {
    fn describe(&self) -> String {
        let mut text = String::new();
        for (view, watch) in self.hosts().iter().zip(self.watches.iter()) {
            let since = view.since.elapsed().unwrap_or_default();
            let separator = if text.is_empty() { "" } else { "\n" };
            // Writing to a String cannot fail.
            let _written = write!(text, "{separator}{}: {}", watch.host.addr, told(view));
            let _written = write!(text, ", for {}", config::format_millis(since));
            if let Some(trouble) = &view.trouble {
                let _written = write!(text, ": {trouble}");
            }
        }
        text
    }

    fn patience(&self) -> Option<Duration> {
        if self.is_single() {
            return None;
        }
        let is_unknown = |watch: &Arc<Watch>| watch.health().condition() == Condition::Unknown;
        match self.failover.on_primary_loss {
            // None was lost that has not been looked for yet.
            OnPrimaryLoss::Error if !self.watches.iter().any(is_unknown) => Some(Duration::ZERO),
            OnPrimaryLoss::Error | OnPrimaryLoss::Wait | OnPrimaryLoss::ReadOnly => {
                Some(self.failover.timeout)
            }
        }
    }
}

fn told(view: &HostView) -> String {
    let condition = view.condition.as_str();
    match view.role {
        Role::Unknown => condition.to_owned(),
        Role::Primary | Role::Replica { lags: false } => {
            format!("{} ({condition})", view.role.as_str())
        }
        Role::Replica { lags: true } => {
            let lag = view.lag.unwrap_or_default();
            format!("replica, {} behind ({condition})", config::format_millis(lag.time))
        }
        Role::Fenced { timeline } => {
            format!("fenced: it takes writes on timeline {timeline}, which is behind ({condition})")
        }
        Role::Stranger { system } => {
            format!("refused: it is of another cluster, {system} ({condition})")
        }
    }
}
