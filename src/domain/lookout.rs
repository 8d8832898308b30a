//! A domain's view of its hosts: which is the primary, which replicas serve, and what clients get meanwhile.
//!
//! A name may come to lead to more hosts, or to fewer. A domain that has had several is one of several from then on:
//! the one that is left may be a replica, or a primary that was left behind, and must not be taken for the primary
//! because nobody else is there.

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
use crate::pool::host::Presence;
use crate::pool::pool_site::Outlook;

/// What a domain knows of its hosts.
#[derive(Debug)]
pub struct Lookout {
    /// In the order of the configuration, and behind them the places for more addresses of their names.
    pub watches: PerSite<Arc<Watch>>,
    /// All sites, those of one name together.
    shown: Vec<Site>,
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
    /// In the order of the sites, as what follows: up to the last that somebody is at.
    lags: Vec<Option<Lag>>,
    topology: Topology,
    conditions: Vec<(Presence, Condition)>,
    /// It has had several hosts at once.
    has_had_several: bool,
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
    /// The primary before that, if there has been any.
    pub last_primary: Option<Site>,
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
        let has_several = present(&watches).count() > 1;
        let held = Held {
            memory: Memory::default(),
            positions: Positions::default(),
            positions_of: None,
            lags: Vec::new(),
            topology: Topology { roles: Vec::new(), primary: None },
            conditions: Vec::new(),
            has_had_several: has_several,
            is_urgent: has_several,
            last_primary: None,
            written: None,
            replayed: Vec::new(),
            has_failed_over: false,
        };
        let mut shown: Vec<_> = (0..watches.count()).map(Site).collect();
        shown.sort_by_key(|site| {
            let name = &watches.get(*site).host.endpoint.name;
            domain.hosts.iter().position(|host| host == name)
        });
        if held.is_urgent {
            watches.iter().for_each(|watch| watch.hurry());
        }
        Self {
            watches,
            shown,
            rules: domain.health,
            failover: domain.failover,
            falls_back: domain.modes.falls_back,
            held: Mutex::new(held),
        }
    }

    /// True if it has never had but one host, which serves whatever it is.
    fn is_single(&self) -> bool {
        !self.held().has_had_several
    }

    /// Up to the last that somebody is at, in the order of the sites.
    fn in_use(&self) -> impl Iterator<Item = &Arc<Watch>> {
        let count = self.watches.count();
        let absent = (0..count)
            .rev()
            .take_while(|index| self.watches.get(Site(*index)).host.is_absent())
            .count();
        self.watches.iter().take(count - absent)
    }

    /// Decides anew what its hosts are, at `now`; `None`: the same as before.
    pub fn reconsider(&self, now: Instant) -> Option<Change> {
        let mut held = self.held();
        held.has_had_several |= present(&self.watches).nth(1).is_some();
        let candidates = self.candidates(&mut held, now);
        let after = held.memory.decide(&candidates, self.rules.max_lag);
        held.follow(&candidates, after.primary, now);
        let primary = after.primary.and_then(|primary| candidates.get(primary.0));
        held.written = primary.and_then(written);
        let is_urgent = after.primary.is_none() && held.has_had_several;
        if std::mem::replace(&mut held.is_urgent, is_urgent) != is_urgent {
            let tell = if is_urgent { Watch::hurry } else { Watch::calm };
            self.watches.iter().for_each(|watch| tell(watch));
        }
        // What a host is to a pool goes by its condition as well.
        let conditions: Vec<_> = self
            .in_use()
            .map(|watch| (watch.host.presence(), watch.health().condition()))
            .collect();
        if after == held.topology && conditions == held.conditions {
            return None;
        }
        let is_unknown = |(presence, condition): &(Presence, Condition)| {
            *presence == Presence::Present && *condition == Condition::Unknown
        };
        let is_known =
            |conditions: &[_]| !conditions.is_empty() && !conditions.iter().any(is_unknown);
        let is_first_view = is_known(&conditions) && !is_known(&held.conditions);
        held.conditions = conditions;
        let before = std::mem::replace(&mut held.topology, after.clone());
        if before.primary != after.primary {
            before.primary.inspect(|site| self.watches.get(*site).step_down());
            after.primary.inspect(|site| self.watches.get(*site).lead());
        }
        let last_primary = held.last_primary;
        let is_failover =
            after.primary.is_some() && last_primary.is_some_and(|last| Some(last) != after.primary);
        held.last_primary = after.primary.or(last_primary);
        Some(Change { before, after, last_primary, is_failover, is_first_view })
    }

    fn candidates(&self, held: &mut Held, now: Instant) -> Vec<Candidate> {
        let is_present = |watch: &&Arc<Watch>| watch.host.presence() == Presence::Present;
        let healths: Vec<_> =
            self.in_use().map(|watch| Some(watch).filter(is_present).map(|w| w.health())).collect();
        let of = |site: Site| healths.get(site.0).and_then(Option::as_ref);
        if let Some(line) = held.positions_of
            && let Some((facts, at)) = of(line.site).and_then(Health::facts)
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
            .map(|health| {
                let Some(health) = health else { return NOBODY };
                Candidate {
                    condition: health.condition(),
                    facts: health.facts().map(|(facts, _)| facts),
                    closed_as: health.closed_as(),
                    system: health.system(),
                    lag: lag(health),
                    asked: health.asked(),
                }
            })
            .collect();
        held.lags = candidates.iter().map(|candidate| candidate.lag).collect();
        held.replayed = candidates.iter().map(replayed).collect();
        candidates
    }

    /// How far the replica at `site` is behind, if that is known.
    pub fn lag(&self, site: Site) -> Option<Lag> {
        self.held().lags.get(site.0).copied().flatten()
    }

    /// True if it has several hosts, and none of them is the primary.
    pub fn lacks_primary(&self) -> bool {
        let held = self.held();
        held.has_had_several && held.topology.primary.is_none()
    }

    /// True if the next read of a session may go to a replica: there is one that serves, and those that do have what
    /// the session has `written`. If that is not known yet it is asked for.
    pub fn may_read(&self, written: &mut Option<Mark>) -> bool {
        let held = self.held();
        if !held.has_had_several || !held.sites().any(|site| held.serves_reads(site)) {
            return false;
        }
        let Some(mark) = written else { return true };
        *mark = mark.located(held.written, Instant::now());
        let lacks_it = |site: Site| held.serves_reads(site) && !held.has_replayed(site, *mark);
        let has_it = !held.sites().any(lacks_it);
        drop(held);
        if !has_it {
            present(&self.watches).for_each(|watch| watch.want_position());
        }
        has_it
    }

    /// True if a server at `site` that was opened at `opened` has what a session has written. A host that was looked
    /// at before that may have been started anew since, and be further back than it was.
    pub fn has_replayed(&self, site: Site, written: Mark, opened: Instant) -> bool {
        let held = self.held();
        let is_of_now = held.replayed(site).is_some_and(|replayed| replayed.asked > opened);
        let has_it =
            held.topology.primary == Some(site) || (is_of_now && held.has_replayed(site, written));
        drop(held);
        if !has_it {
            self.watches.get(site).want_position();
        }
        has_it
    }

    /// What each host is to a pool of `mode`, in the order of the sites.
    pub fn standings(&self, mode: Mode) -> Vec<Standing> {
        let held = self.held();
        let hosts: Vec<_> = self
            .in_use()
            .enumerate()
            .map(|(index, watch)| {
                let condition = watch.health().condition();
                match watch.host.presence() {
                    Presence::Present => (held.role(Site(index)), condition, watch.weight),
                    Presence::Leaving => (Role::Unknown, condition, watch.weight),
                    // What is under way there is lost, as if it were down.
                    Presence::Evicted => (Role::Unknown, Condition::Down, watch.weight),
                    Presence::Absent => (Role::Unknown, Condition::Unknown, watch.weight),
                }
            })
            .collect();
        if !held.has_had_several {
            let is_it = |watch: &Arc<Watch>| watch.host.presence() == Presence::Present;
            let left = standings(&hosts, Whom::Primary);
            let serves = Standing::Serves { weight: 1 };
            let standing = |(watch, left)| if is_it(watch) { serves } else { left };
            return self.in_use().zip(left).map(standing).collect();
        }
        let reads_meanwhile = held.topology.primary.is_none()
            && self.failover.on_primary_loss == OnPrimaryLoss::ReadOnly
            && !self.is_being_looked_for(&held);
        let whom = match mode {
            Mode::ReadOnly => Whom::Replicas { falls_back: self.falls_back },
            Mode::ReadWrite | Mode::Batch | Mode::Transactional if reads_meanwhile => {
                Whom::Replicas { falls_back: true }
            }
            Mode::ReadWrite | Mode::Batch | Mode::Transactional => Whom::Primary,
        };
        standings(&hosts, whom)
    }

    /// Its hosts at this moment, those that are being left included, as the configuration orders them.
    pub fn hosts(&self) -> Vec<HostView> {
        let held = self.held();
        let view = |site: Site| {
            let watch = self.watches.get(site);
            let health = watch.health();
            let facts = health.facts().map(|(facts, _)| facts);
            let is_leaving = watch.host.is_leaving();
            HostView {
                site,
                condition: health.condition(),
                role: held.role(site),
                lag: held.lags.get(site.0).copied().flatten(),
                timeline: facts.map(|facts| facts.timeline).filter(|timeline| *timeline > 0),
                system: health.system(),
                since: SystemTime::now() - health.since().elapsed(),
                trouble: if is_leaving {
                    Some("its name does not lead here any more".into())
                } else {
                    health.trouble().map(Arc::clone)
                },
            }
        };
        let is_there = |site: &Site| !self.watches.get(*site).host.is_absent();
        self.shown.iter().copied().filter(is_there).map(view).collect()
    }

    /// No primary was found so far, and not all hosts were looked at yet: none was lost.
    fn is_being_looked_for(&self, held: &Held) -> bool {
        let is_unknown = |watch: &Arc<Watch>| watch.health().condition() == Condition::Unknown;
        held.last_primary.is_none() && present(&self.watches).any(is_unknown)
    }

    /// The last primary is starting anew, and is waited for like any server.
    fn is_starting(&self, held: &Held) -> bool {
        held.last_primary.is_some_and(|site| self.watches.get(site).health().is_starting())
    }

    fn held(&self) -> MutexGuard<'_, Held> {
        self.held.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The hosts that there are.
fn present(watches: &PerSite<Arc<Watch>>) -> impl Iterator<Item = &Arc<Watch>> {
    watches.iter().filter(|watch| watch.host.presence() == Presence::Present)
}

/// At a site where there is no host, or none that may still be chosen.
const NOBODY: Candidate = Candidate {
    condition: Condition::Down,
    facts: None,
    closed_as: None,
    system: None,
    lag: None,
    asked: None,
};

impl Held {
    fn sites(&self) -> impl Iterator<Item = Site> {
        (0..self.topology.roles.len()).map(Site)
    }

    /// It is a replica that pools of `read_only` use before all others.
    fn serves_reads(&self, site: Site) -> bool {
        self.topology.roles.get(site.0) == Some(&Role::Replica { lags: false }) && self.is_up(site)
    }

    fn is_up(&self, site: Site) -> bool {
        self.conditions.get(site.0) == Some(&(Presence::Present, Condition::Up))
    }

    fn has_replayed(&self, site: Site, written: Mark) -> bool {
        let replayed = self.replayed(site);
        replayed.is_some_and(|replayed| written.is_in(replayed, !self.has_failed_over))
    }

    /// What is suspect may have been started anew, and be further back than it was.
    fn replayed(&self, site: Site) -> Option<Replayed> {
        self.replayed.get(site.0).copied().flatten().filter(|_| self.is_up(site))
    }

    fn role(&self, site: Site) -> Role {
        self.topology.roles.get(site.0).copied().unwrap_or(Role::Unknown)
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
    Some(Replayed { lsn: facts.position, timeline: facts.timeline, asked: candidate.asked? })
}

/// Where a primary is.
fn written(candidate: &Candidate) -> Option<Written> {
    let facts = candidate.facts?;
    let on = Timeline { system: facts.system, timeline: facts.timeline };
    Some(Written { on, lsn: facts.inserted, asked: candidate.asked? })
}

impl Outlook for Lookout {
    fn describe(&self) -> String {
        let mut text = String::new();
        for view in &self.hosts() {
            let host = &self.watches.get(view.site).host;
            let since = view.since.elapsed().unwrap_or_default();
            let separator = if text.is_empty() { "" } else { "\n" };
            // Writing to a String cannot fail.
            let _written = write!(text, "{separator}{}: {}", host.endpoint, told(view));
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
        let held = self.held();
        if mode != Mode::ReadOnly {
            match self.failover.on_primary_loss {
                OnPrimaryLoss::Error if !self.is_being_looked_for(&held) => {
                    return Some(Duration::ZERO);
                }
                OnPrimaryLoss::Wait if self.is_starting(&held) => return None,
                OnPrimaryLoss::Error | OnPrimaryLoss::Wait | OnPrimaryLoss::ReadOnly => {}
            }
        }
        Some(self.failover.timeout)
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
            format!(
                "fenced: it takes writes on timeline {timeline}, and is not the primary ({condition})"
            )
        }
        Role::Stranger { system } => {
            format!("refused: it is of another cluster, {system} ({condition})")
        }
    }
}
