//! A domain's view of its hosts: which is the primary, which replicas serve, and what clients get meanwhile.

use std::fmt::Write as _;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime};

use tokio::time::Instant;

use super::causal::{Mark, Replayed, Timeline, Written};
use super::health::{Condition, Facts, Health};
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
    positions_of: Option<Line>,
    lags: Vec<Option<Lag>>,
    topology: Topology,
    conditions: Vec<Condition>,
    /// Its hosts were asked to be looked at often, because there is no primary.
    is_urgent: bool,
    /// The primary before this one, if there has been any.
    last_primary: Option<Site>,
    /// Where the primary was when it was last asked.
    written: Option<Written>,
    /// How far each replica is.
    replayed: Vec<Option<Replayed>>,
    /// There has been more than one timeline.
    has_failed_over: bool,
}

/// A primary's write-ahead log: positions of others say nothing about it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Line {
    site: Site,
    system: u64,
    timeline: u32,
}

impl Line {
    const fn of(site: Site, facts: Facts) -> Self {
        Self { site, system: facts.system, timeline: facts.timeline }
    }
}

/// What a decision has changed: roles, the primary, or conditions alone.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Change {
    pub before: Topology,
    pub after: Topology,
    /// Another host has become the primary than was it before.
    pub is_failover: bool,
    /// By now all hosts have been looked at, and were not before.
    pub is_first_view: bool,
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
            conditions: vec![Condition::Unknown; count],
            is_urgent: count > 1,
            last_primary: None,
            written: None,
            replayed: vec![None; count],
            has_failed_over: false,
        };
        if held.is_urgent {
            watches.iter().for_each(|watch| watch.hurry());
        }
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
        held.follow(&candidates, after.primary, now);
        held.written = after.primary.and_then(|primary| self.written(primary));
        let is_urgent = after.primary.is_none() && !self.is_single();
        if std::mem::replace(&mut held.is_urgent, is_urgent) != is_urgent {
            let tell = if is_urgent { Watch::hurry } else { Watch::calm };
            self.watches.iter().for_each(|watch| tell(watch));
        }
        // What a host is to a pool goes by its condition as well.
        let conditions: Vec<_> = candidates.iter().map(|candidate| candidate.condition).collect();
        if after == held.topology && conditions == held.conditions {
            return None;
        }
        let is_known = |conditions: &[Condition]| !conditions.contains(&Condition::Unknown);
        let is_first_view = is_known(&conditions) && !is_known(&held.conditions);
        held.conditions = conditions;
        let before = std::mem::replace(&mut held.topology, after.clone());
        let is_failover = after.primary.is_some()
            && held.last_primary.is_some_and(|last| Some(last) != after.primary);
        held.last_primary = after.primary.or(held.last_primary);
        Some(Change { before, after, is_failover, is_first_view })
    }

    fn candidates(&self, held: &mut Held, now: Instant) -> Vec<Candidate> {
        let healths: Vec<_> = self.watches.iter().map(|watch| watch.health()).collect();
        if let Some(line) = held.positions_of
            && let Some((facts, at)) = healths.get(line.site.0).and_then(Health::facts)
            && !facts.in_recovery
            && Line::of(line.site, facts) == line
        {
            held.positions.note(facts.position, at);
        }
        let lag = |health: &Health| {
            let (facts, at) = health.facts().filter(|(facts, _)| facts.in_recovery)?;
            held.positions.lag(facts.position, at.min(now))
        };
        let candidates: Vec<_> = healths
            .iter()
            .map(|health| Candidate {
                condition: health.condition(),
                facts: health.facts().map(|(facts, _)| facts),
                system: health.system(),
                lag: lag(health),
            })
            .collect();
        held.lags = candidates.iter().map(|candidate| candidate.lag).collect();
        held.replayed = candidates.iter().map(replayed).collect();
        candidates
    }

    fn written(&self, primary: Site) -> Option<Written> {
        let health = self.watches.get(primary).health();
        let (facts, _) = health.facts()?;
        let on = Timeline { system: facts.system, timeline: facts.timeline };
        Some(Written { on, lsn: facts.position, asked: health.asked()? })
    }

    /// True if it has several hosts, and none of them is the primary.
    pub fn lacks_primary(&self) -> bool {
        !self.is_single() && self.held().topology.primary.is_none()
    }

    /// True if the next read of a session may go to a replica: there is one that serves, and those that do have what
    /// the session has `written`. If that is not known yet it is asked for.
    pub fn may_read(&self, written: &mut Option<Mark>) -> bool {
        let held = self.held();
        if self.is_single() || !held.sites().any(|site| held.serves_reads(site)) {
            return false;
        }
        let Some(mark) = written else { return true };
        *mark = mark.located(held.written, Instant::now());
        let lacks_it = |site: Site| held.serves_reads(site) && !held.has_replayed(site, *mark);
        let has_it = !held.sites().any(lacks_it);
        drop(held);
        if !has_it {
            self.watches.iter().for_each(|watch| watch.want_position());
        }
        has_it
    }

    /// True if the host has what a session has written.
    pub fn has_replayed(&self, site: Site, written: Mark) -> bool {
        self.held().has_replayed(site, written)
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
                system: health.system(),
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
    fn sites(&self) -> impl Iterator<Item = Site> {
        (0..self.topology.roles.len()).map(Site)
    }

    /// It is a replica that pools of `read_only` use before all others.
    fn serves_reads(&self, site: Site) -> bool {
        self.topology.roles.get(site.0) == Some(&Role::Replica { lags: false }) && self.is_up(site)
    }

    fn is_up(&self, site: Site) -> bool {
        self.conditions.get(site.0) == Some(&Condition::Up)
    }

    fn has_replayed(&self, site: Site, written: Mark) -> bool {
        if self.topology.primary == Some(site) {
            return true;
        }
        // What is suspect may have been started anew, and be further back than it was.
        let replayed = self.replayed.get(site.0).copied().flatten().filter(|_| self.is_up(site));
        replayed.is_some_and(|replayed| written.is_in(replayed, !self.has_failed_over))
    }

    /// Goes on with the positions of another primary, or of none for the time being: how far replicas are
    /// behind is then told by the last one's.
    fn follow(&mut self, candidates: &[Candidate], primary: Option<Site>, now: Instant) {
        let Some(site) = primary else { return };
        let Some(facts) = candidates.get(site.0).and_then(|candidate| candidate.facts) else {
            return;
        };
        let of = Some(Line::of(site, facts));
        if self.positions_of != of {
            self.has_failed_over |= self.positions_of.is_some();
            self.positions.forget();
            self.positions_of = of;
            self.positions.note(facts.position, now);
        }
    }
}

/// How far a replica is, of which that is known.
fn replayed(candidate: &Candidate) -> Option<Replayed> {
    let facts = candidate.facts.filter(|facts| facts.in_recovery)?;
    Some(Replayed { lsn: facts.position, timeline: facts.timeline })
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

    fn patience(&self, mode: Mode) -> Option<Duration> {
        if self.is_single() {
            return None;
        }
        let is_unknown = |watch: &Arc<Watch>| watch.health().condition() == Condition::Unknown;
        let is_told_at_once = mode != Mode::ReadOnly
            && self.failover.on_primary_loss == OnPrimaryLoss::Error
            // None was lost that has not been looked for yet.
            && !self.watches.iter().any(is_unknown);
        Some(if is_told_at_once { Duration::ZERO } else { self.failover.timeout })
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
