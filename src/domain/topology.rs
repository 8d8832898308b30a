//! Which of a domain's hosts is the primary, and which replicas serve. Pure.
//!
//! Invariants:
//! - At most one host is the primary: of several that take writes the one on the highest timeline; and none
//!   whose timeline is behind one that this domain has had a primary on: what it would take is lost.
//! - A host of another cluster never serves, whatever it says that it is.

use std::time::Duration;

use tokio::time::Instant;

use super::health::{Condition, Facts};
use super::lag::Lag;
use crate::pool::core::{Site, Standing};

/// A host of a domain, as the decision needs it.
#[derive(Debug, Clone, Copy)]
pub struct Candidate {
    pub condition: Condition,
    /// What it is, as far as that is known.
    pub facts: Option<Facts>,
    /// What it was when it last let somebody in, if it does not any more: those whom it has may go on.
    pub closed_as: Option<Facts>,
    /// The cluster that it was last seen to be of.
    pub system: Option<u64>,
    /// How far it is behind; `None`: nothing is known.
    pub lag: Option<Lag>,
    /// When it was asked for that, or before.
    pub asked: Option<Instant>,
}

/// What a host is to its domain.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Role {
    /// Nothing is known of it, or it is not there.
    Unknown,
    Primary,
    Replica {
        /// It is there, but too far behind to be read from.
        lags: bool,
    },
    /// It takes writes, and another host is the primary.
    Fenced {
        timeline: u32,
    },
    /// It is of another cluster.
    Stranger {
        system: u64,
    },
}

impl Role {
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Unknown => "unknown",
            Self::Primary => "primary",
            Self::Replica { .. } => "replica",
            Self::Fenced { .. } => "fenced",
            Self::Stranger { .. } => "stranger",
        }
    }
}

/// What a domain knows of its hosts over time.
#[derive(Debug, Clone, Default)]
pub struct Memory {
    /// The cluster that it is about.
    system: Option<u64>,
    /// The highest timeline that it has had a primary on.
    timeline: u32,
    primary: Option<Site>,
    /// Replicas that were too far behind.
    lagging: Vec<Site>,
}

/// What a domain's hosts are at a moment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Topology {
    /// In the order of the sites.
    pub roles: Vec<Role>,
    pub primary: Option<Site>,
}

impl Memory {
    /// What `hosts`, in the order of the sites, are. `max_lag`: how far a replica may be behind.
    pub fn decide(&mut self, hosts: &[Candidate], max_lag: Duration) -> Topology {
        self.learn_system(hosts);
        let primary = self.choose_primary(hosts);
        if let Some((site, facts)) = primary {
            self.timeline = self.timeline.max(facts.timeline);
            self.primary = Some(site);
        }
        let primary = primary.map(|(site, _)| site);
        let role =
            |(index, host): (usize, &Candidate)| self.role(Site(index), host, primary, max_lag);
        let roles: Vec<_> = hosts.iter().enumerate().map(role).collect();
        let lags = |role: &Role| matches!(role, Role::Replica { lags: true });
        let lagging = roles.iter().enumerate().filter(|(_, role)| lags(role));
        self.lagging = lagging.map(|(index, _)| Site(index)).collect();
        Topology { roles, primary }
    }

    /// The cluster is the one that most hosts are of when all have been looked at, or as many as settle it; of as many
    /// the one that has a primary. Another one later on only if no host is left of it and all others agree: it was
    /// restored from elsewhere.
    fn learn_system(&mut self, hosts: &[Candidate]) {
        let seen = || hosts.iter().filter_map(|host| host.facts);
        let is_left =
            self.system.is_some_and(|system| hosts.iter().any(|host| host.system == Some(system)));
        if is_left {
            return;
        }
        let votes = |system: u64| {
            let of_it = || seen().filter(|facts| facts.system == system);
            (of_it().count(), of_it().any(|facts| !facts.in_recovery))
        };
        // Of equals the one that is named first.
        let systems: Vec<_> = seen().map(|facts| facts.system).collect();
        let best = systems.into_iter().rev().max_by_key(|system| votes(*system));
        let Some(best) = best else { return };
        let silent = hosts.iter().filter(|host| host.condition == Condition::Unknown).count();
        let (for_it, all) = (votes(best).0, seen().count() + silent);
        if silent > 0 && for_it * 2 <= all {
            return;
        }
        if self.system.is_none() {
            self.system = Some(best);
        } else if seen().all(|facts| facts.system == best) {
            // Timelines of another cluster are others.
            *self = Self { system: Some(best), ..Self::default() };
        }
    }

    fn choose_primary(&self, hosts: &[Candidate]) -> Option<(Site, Facts)> {
        let takes_writes = |(index, host): (usize, &Candidate)| {
            let facts = host.facts?;
            let is_there = matches!(host.condition, Condition::Up | Condition::Suspect);
            let is_ours = Some(facts.system) == self.system;
            let is_current = facts.timeline >= self.timeline;
            (is_there && is_ours && is_current && !facts.in_recovery)
                .then_some((Site(index), facts))
        };
        let candidates = hosts.iter().enumerate().filter_map(takes_writes);
        // Of equals the one that it has been.
        candidates.max_by_key(|(site, facts)| (facts.timeline, self.primary == Some(*site)))
    }

    fn role(&self, site: Site, host: &Candidate, primary: Option<Site>, max_lag: Duration) -> Role {
        // Which cluster the domain is about is not known yet.
        let Some(ours) = self.system else { return Role::Unknown };
        if let Some(its) = host.system.filter(|its| *its != ours) {
            return Role::Stranger { system: its };
        }
        // One that is stopping, and waits for its clients to go: what they write is lost if another has taken its place.
        if let Some(facts) = host.closed_as.filter(|facts| !facts.in_recovery)
            && primary.is_some_and(|primary| primary != site)
            && facts.timeline < self.timeline
        {
            return Role::Fenced { timeline: facts.timeline };
        }
        let Some(facts) = host.facts else { return Role::Unknown };
        if matches!(host.condition, Condition::Down | Condition::Unknown) {
            return Role::Unknown;
        }
        if primary == Some(site) {
            return Role::Primary;
        }
        if facts.in_recovery {
            // One that has fallen behind catches up with some to spare before it serves again.
            let most = if self.lagging.contains(&site) { max_lag / 2 } else { max_lag };
            Role::Replica { lags: host.lag.is_some_and(|lag| lag.time > most) }
        } else {
            Role::Fenced { timeline: facts.timeline }
        }
    }
}

/// Whom a pool is served by.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Whom {
    Primary,
    Replicas {
        /// By the primary, if there is no replica.
        falls_back: bool,
    },
}

/// What hosts are to a pool: each by its role, its condition and its weight.
pub fn standings(hosts: &[(Role, Condition, u32)], whom: Whom) -> Vec<Standing> {
    let is_fit = |host: &&(Role, Condition, u32)| {
        matches!(host, (Role::Replica { lags: false }, Condition::Up | Condition::Suspect, _))
    };
    let has_replica = hosts.iter().any(|host| is_fit(&host));
    let is_any_up =
        hosts.iter().filter(is_fit).any(|(_, condition, _)| *condition == Condition::Up);
    let standing = |(role, condition, weight): &(Role, Condition, u32)| {
        let serves = Standing::Serves { weight: *weight };
        match (role, whom) {
            (Role::Unknown, _) if *condition == Condition::Down => Standing::Lost,
            (Role::Fenced { .. } | Role::Stranger { .. }, _) => Standing::Lost,
            (Role::Primary, Whom::Replicas { falls_back }) if has_replica || !falls_back => {
                Standing::Out
            }
            // What answers slowly is spared while others do not.
            (Role::Replica { lags: false }, Whom::Replicas { .. })
                if *condition == Condition::Suspect && is_any_up =>
            {
                Standing::Shunned
            }
            (Role::Primary, _) | (Role::Replica { lags: false }, Whom::Replicas { .. }) => serves,
            (Role::Unknown | Role::Replica { .. }, _) => Standing::Out,
        }
    };
    hosts.iter().map(standing).collect()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::lag::Lsn;
    use super::*;

    const MAX_LAG: Duration = Duration::from_secs(10);

    fn up(in_recovery: bool, timeline: u32) -> Candidate {
        let facts = Facts { in_recovery, system: 7, timeline, position: Lsn(1), inserted: Lsn(0) };
        Candidate {
            condition: Condition::Up,
            facts: Some(facts),
            closed_as: None,
            system: Some(7),
            lag: None,
            asked: None,
        }
    }

    /// One that lets nobody in any more, and goes on with those whom it has.
    fn stopping(host: Candidate) -> Candidate {
        Candidate { condition: Condition::Suspect, facts: None, closed_as: host.facts, ..host }
    }

    fn down(host: Candidate) -> Candidate {
        Candidate { condition: Condition::Down, facts: None, ..host }
    }

    fn of_another(mut host: Candidate) -> Candidate {
        host.facts.as_mut().unwrap().system = 8;
        Candidate { system: Some(8), ..host }
    }

    /// Whoever is looked at first: a host that was made anew must not make strangers of all others.
    #[test]
    fn the_cluster_is_the_one_of_most_hosts_when_all_have_been_looked_at() {
        let stranger = of_another(up(false, 1));
        let mut memory = Memory::default();
        let first = memory.decide(&[stranger, UNSEEN, UNSEEN], MAX_LAG);
        assert_eq!((first.primary, first.roles), (None, vec![Role::Unknown; 3]));
        let replica_of_another = memory.decide(&[of_another(up(true, 1)), UNSEEN], MAX_LAG);
        assert_eq!(replica_of_another.roles, [Role::Unknown; 2], "it serves no reads");
        let all = memory.decide(&[stranger, up(false, 1), up(true, 1)], MAX_LAG);
        assert_eq!(all.roles, [Role::Stranger { system: 8 }, Role::Primary, replica()]);
    }

    /// One that says nothing keeps nobody waiting whose number settles it.
    #[test]
    fn as_many_as_settle_which_the_cluster_is_are_enough() {
        let mut memory = Memory::default();
        assert_eq!(memory.decide(&[up(false, 1), UNSEEN, UNSEEN], MAX_LAG).primary, None);
        let two = memory.decide(&[up(false, 1), up(true, 1), UNSEEN], MAX_LAG);
        assert_eq!(two.roles, [Role::Primary, replica(), Role::Unknown]);
        let mut memory = Memory::default();
        assert_eq!(memory.decide(&[up(false, 1), UNSEEN], MAX_LAG).primary, None, "one of two");
        let gone = Candidate { condition: Condition::Down, ..UNSEEN };
        assert_eq!(memory.decide(&[up(false, 1), gone], MAX_LAG).primary, Some(Site(0)));
    }

    const UNSEEN: Candidate = Candidate {
        condition: Condition::Unknown,
        facts: None,
        closed_as: None,
        system: None,
        lag: None,
        asked: None,
    };

    const fn replica() -> Role {
        Role::Replica { lags: false }
    }

    #[test]
    fn a_replica_that_was_promoted_takes_the_place_of_the_primary() {
        let mut memory = Memory::default();
        let before = memory.decide(&[up(false, 1), up(true, 1)], MAX_LAG);
        assert_eq!(before.roles, [Role::Primary, replica()]);

        let lost = memory.decide(&[down(up(false, 1)), up(true, 1)], MAX_LAG);
        assert_eq!((lost.primary, lost.roles), (None, vec![Role::Unknown, replica()]));

        let after = memory.decide(&[down(up(false, 1)), up(false, 2)], MAX_LAG);
        assert_eq!(after.primary, Some(Site(1)));
    }

    #[test]
    fn of_two_primaries_the_higher_timeline_wins_and_goes_on_to() {
        let mut memory = Memory::default();
        memory.decide(&[up(false, 1), up(true, 1)], MAX_LAG);
        let both = memory.decide(&[up(false, 1), up(false, 2)], MAX_LAG);
        assert_eq!(both.roles, [Role::Fenced { timeline: 1 }, Role::Primary]);

        // What the old one would take is lost, whether the new one is there or not.
        let old = memory.decide(&[up(false, 1), down(up(false, 2))], MAX_LAG);
        assert_eq!(old.primary, None);
        assert_eq!(old.roles, [Role::Fenced { timeline: 1 }, Role::Unknown]);
    }

    /// `pg_ctl stop -m smart` lets sessions end in their own time: they would commit beside the new primary.
    #[test]
    fn a_primary_that_is_stopping_is_fenced_when_another_has_taken_its_place() {
        let mut memory = Memory::default();
        memory.decide(&[up(false, 1), up(true, 1)], MAX_LAG);
        let waits = memory.decide(&[stopping(up(false, 1)), up(true, 1)], MAX_LAG);
        assert_eq!((waits.primary, waits.roles[0]), (None, Role::Unknown));
        let replaced = memory.decide(&[stopping(up(false, 1)), up(false, 2)], MAX_LAG);
        assert_eq!(replaced.roles, [Role::Fenced { timeline: 1 }, Role::Primary]);
        let replica = memory.decide(&[stopping(up(true, 1)), up(false, 2)], MAX_LAG);
        assert_eq!(replica.roles[0], Role::Unknown);
    }

    #[test]
    fn of_two_on_one_timeline_the_one_goes_on_that_was_it() {
        let mut memory = Memory::default();
        memory.decide(&[up(true, 1), up(false, 1)], MAX_LAG);
        let both = memory.decide(&[up(false, 1), up(false, 1)], MAX_LAG);
        assert_eq!(both.primary, Some(Site(1)));
    }

    #[test]
    fn a_host_of_another_cluster_is_refused() {
        let stranger = of_another(up(false, 9));
        let mut memory = Memory::default();
        let seen = memory.decide(&[up(false, 1), stranger], MAX_LAG);
        assert_eq!(seen.roles, [Role::Primary, Role::Stranger { system: 8 }]);
        let alone = memory.decide(&[down(up(false, 1)), stranger], MAX_LAG);
        assert_eq!(alone.primary, None);
    }

    #[test]
    fn a_cluster_that_was_restored_from_elsewhere_is_taken_for_the_new_one() {
        let mut memory = Memory::default();
        memory.decide(&[up(false, 5), up(true, 5)], MAX_LAG);
        let restored = [of_another(up(false, 1)), of_another(up(true, 1))];
        assert_eq!(memory.decide(&restored, MAX_LAG).roles, [Role::Primary, replica()]);
    }

    #[test]
    fn a_replica_that_lags_is_one_that_lags() {
        let mut late = up(true, 1);
        late.lag = Some(Lag { bytes: 1, time: MAX_LAG + Duration::from_millis(1) });
        let seen = Memory::default().decide(&[up(false, 1), late], MAX_LAG);
        assert_eq!(seen.roles[1], Role::Replica { lags: true });
    }

    /// Else it would come and go at each look, and its servers with it.
    #[test]
    fn a_replica_that_lags_serves_again_when_it_has_caught_up_with_some_to_spare() {
        let mut memory = Memory::default();
        let mut role_at = |lag: Duration| {
            let late = Candidate { lag: Some(Lag { bytes: 1, time: lag }), ..up(true, 1) };
            memory.decide(&[up(false, 1), late], MAX_LAG).roles[1]
        };
        let lags = Role::Replica { lags: true };
        assert_eq!(role_at(MAX_LAG), replica());
        assert_eq!(role_at(MAX_LAG * 2), lags);
        assert_eq!(role_at(MAX_LAG * 3 / 4), lags);
        assert_eq!(role_at(MAX_LAG / 2), replica());
        assert_eq!(role_at(MAX_LAG * 3 / 4), replica());
    }

    const UP: Condition = Condition::Up;
    const SERVES: Standing = Standing::Serves { weight: 1 };

    #[test]
    fn the_primary_serves_those_who_write_and_replicas_those_who_read() {
        let hosts = [(Role::Primary, UP, 1), (replica(), UP, 3), (Role::Unknown, UP, 1)];
        let three = Standing::Serves { weight: 3 };
        assert_eq!(standings(&hosts, Whom::Primary), [SERVES, Standing::Out, Standing::Out]);
        let replicas = Whom::Replicas { falls_back: true };
        assert_eq!(standings(&hosts, replicas), [Standing::Out, three, Standing::Out]);
    }

    /// P82: whether the primary serves those who read is the domain's to say.
    #[test]
    fn without_a_replica_the_primary_serves_those_who_read_if_it_is_to() {
        let lags = Role::Replica { lags: true };
        let hosts = [(Role::Primary, UP, 1), (lags, UP, 1), (Role::Unknown, Condition::Down, 1)];
        let falls_back = Whom::Replicas { falls_back: true };
        assert_eq!(standings(&hosts, falls_back), [SERVES, Standing::Out, Standing::Lost]);
        let none = Whom::Replicas { falls_back: false };
        assert_eq!(standings(&hosts, none), [Standing::Out, Standing::Out, Standing::Lost]);
    }

    #[test]
    fn a_replica_that_is_suspect_is_spared_while_another_is_not() {
        let replicas = Whom::Replicas { falls_back: true };
        let suspect = (replica(), Condition::Suspect, 1);
        let both = standings(&[suspect, (replica(), UP, 1)], replicas);
        assert_eq!(both, [Standing::Shunned, SERVES]);
        assert_eq!(
            standings(&[(Role::Primary, UP, 1), suspect], replicas),
            [Standing::Out, SERVES]
        );
    }

    #[test]
    fn what_takes_writes_that_are_lost_serves_nobody() {
        let fenced = [(Role::Fenced { timeline: 1 }, UP, 1), (Role::Stranger { system: 8 }, UP, 1)];
        for whom in [Whom::Primary, Whom::Replicas { falls_back: true }] {
            assert_eq!(standings(&fenced, whom), [Standing::Lost; 2]);
        }
    }

    fn candidates() -> impl Strategy<Value = Vec<Candidate>> {
        let condition = prop_oneof![
            Just(Condition::Unknown),
            Just(Condition::Up),
            Just(Condition::Suspect),
            Just(Condition::Down)
        ];
        let host = (condition, any::<bool>(), 1..3_u64, 1..4_u32).prop_map(
            |(condition, in_recovery, system, timeline)| {
                let facts =
                    Facts { in_recovery, system, timeline, position: Lsn(1), inserted: Lsn(0) };
                Candidate {
                    condition,
                    closed_as: None,
                    facts: Some(facts),
                    system: Some(system),
                    lag: None,
                    asked: None,
                }
            },
        );
        prop::collection::vec(host, 3)
    }

    proptest! {
        #[test]
        fn there_is_never_more_than_one_primary_and_never_an_outdated_one(
            looks in prop::collection::vec(candidates(), 1..20),
        ) {
            let mut memory = Memory::default();
            let mut highest = (None, 0);
            for hosts in looks {
                let topology = memory.decide(&hosts, MAX_LAG);
                if highest.0 != memory.system {
                    // It was restored from elsewhere.
                    highest = (memory.system, 0);
                }
                let primaries = topology.roles.iter().filter(|role| **role == Role::Primary).count();
                prop_assert_eq!(primaries, usize::from(topology.primary.is_some()));
                if let Some(site) = topology.primary {
                    let facts = hosts[site.0].facts.unwrap();
                    prop_assert!(!facts.in_recovery);
                    prop_assert_eq!(highest.0, Some(facts.system));
                    prop_assert!(facts.timeline >= highest.1, "an outdated primary");
                    highest.1 = facts.timeline;
                }
            }
        }
    }
}
