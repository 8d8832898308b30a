//! What a host is, and whether it is there: looks at it → a condition. Pure.
//!
//! Load is never taken for an outage. A host is down if it cannot be reached, or if it has not answered
//! `down_after` times in a row while no byte came from it on any connection. A host that is full (53300) or
//! starting (57P03) is alive.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;

use super::lag::Lsn;

/// Whether a host is there.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Condition {
    /// It has not been looked at yet.
    Unknown,
    Up,
    /// Something is wrong; what it was last seen to be holds until more is known, or it has let nobody in for long.
    Suspect,
    Down,
}

impl Condition {
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Unknown => "unknown",
            Self::Up => "up",
            Self::Suspect => "suspect",
            Self::Down => "down",
        }
    }
}

/// What a host says of itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Facts {
    pub in_recovery: bool,
    /// Hosts with other identifiers are of other clusters.
    pub system: u64,
    /// 0: not known.
    pub timeline: u32,
    /// Up to where a primary has written, a replica replayed.
    pub position: Lsn,
    /// Up to where a primary has something to write: a commit that did not wait for that is in front of it.
    pub inserted: Lsn,
}

/// What a look at a host has brought.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Look {
    Seen(Facts),
    /// It lives, and did not say what it is: it is full, is starting, or does not let the probe in.
    Alive {
        why: String,
        reason: Reason,
    },
    /// It refused the connection, cannot be reached, or has no address. `heard`: something came from it on
    /// another connection since the look before.
    Unreachable {
        why: String,
        heard: bool,
    },
    /// It gave no answer in time, or hung up. `heard`: something came from it meanwhile on another connection.
    Silent {
        why: String,
        heard: bool,
    },
    /// It was not looked at: something of our own is lacking for that.
    Missed {
        why: String,
    },
}

/// Why a host that lives did not say what it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reason {
    /// It does not let in this login.
    Login,
    /// It lets nobody in: it is starting or stopping (57P03).
    Starting,
    /// It is full, or answers with something else.
    Other,
}

/// How a host is looked after.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Rules {
    /// Between two looks while all is well.
    pub interval: Duration,
    /// Silent looks in a row that make a host down. At least 1.
    pub down_after: u32,
}

/// A host's condition, and how it came to it.
#[derive(Debug, Clone)]
pub struct Health {
    condition: Condition,
    since: Instant,
    /// Looks in a row that brought no answer.
    misses: u32,
    /// Looks in a row whose login was not let in.
    refusals: u32,
    /// Looks in a row that did not come to see what it is, for that or for anything else.
    turned_away: u32,
    /// What it was last seen to be, and when.
    facts: Option<(Facts, Instant)>,
    /// When the question was sent that they answer, or before that.
    asked: Option<Instant>,
    /// Looks in a row when it was starting.
    starts: u32,
    /// It has been down since: it may have become something else.
    is_stale: bool,
    /// It has been starting, or stopping, for long since: the same, but those whom it has may be at work.
    is_closed: bool,
    /// What is wrong with it.
    trouble: Option<Arc<str>>,
}

/// Between two looks at a host with which something is wrong, or that may have become the primary.
pub const LOOK_CLOSELY: Duration = Duration::from_millis(100);
/// The longest pause between two looks at a host that is down, or lets nobody in.
const PAUSE_MOST: Duration = Duration::from_secs(1);
/// Logins that a host is looked at with, one after the other, until one is let in.
pub const LOGINS_MOST: u32 = 8;
/// Looks in a row at one that is starting, behind which it is not waited for: about a second. The crash of a single
/// process is over sooner as a rule.
const STARTS_MOST: u32 = 9;
/// Looks in a row that did not reach it. A single one may be a restart that is over by the next.
const UNREACHABLE_MOST: u32 = 2;

impl Health {
    /// One that nobody has looked at.
    pub const fn new(now: Instant) -> Self {
        Self {
            condition: Condition::Unknown,
            since: now,
            misses: 0,
            refusals: 0,
            turned_away: 0,
            starts: 0,
            facts: None,
            asked: None,
            is_stale: false,
            is_closed: false,
            trouble: None,
        }
    }

    /// Takes in what a look at `now` has brought; true if the condition is another.
    pub fn on_look(&mut self, look: &Look, rules: Rules, now: Instant) -> bool {
        let is_refused = matches!(look, Look::Alive { reason: Reason::Login, .. });
        self.refusals = if is_refused { self.refusals.saturating_add(1) } else { 0 };
        let is_turned_away = matches!(look, Look::Alive { .. });
        self.turned_away = if is_turned_away { self.turned_away.saturating_add(1) } else { 0 };
        let (condition, trouble) = match look {
            Look::Seen(facts) => {
                self.misses = 0;
                self.facts = Some((*facts, now));
                (self.is_stale, self.is_closed) = (false, false);
                (Condition::Up, None)
            }
            Look::Alive { why, .. } => {
                self.misses = 0;
                (Condition::Suspect, Some(why))
            }
            Look::Silent { why, heard: true } | Look::Unreachable { why, heard: true } => {
                self.misses = 0;
                (self.no_worse_than_suspect(), Some(why))
            }
            Look::Silent { why, heard: false } => (self.miss(rules.down_after), Some(why)),
            Look::Unreachable { why, heard: false } => (self.miss(UNREACHABLE_MOST), Some(why)),
            Look::Missed { why } => (self.condition, Some(why)),
        };
        let is_starting = matches!(look, Look::Alive { reason: Reason::Starting, .. });
        self.starts = if is_starting { self.starts.saturating_add(1) } else { 0 };
        self.is_stale |= condition == Condition::Down;
        self.is_closed |= self.starts >= STARTS_MOST;
        self.trouble = trouble.map(|why| why.as_str().into());
        let is_other = condition != self.condition;
        if is_other {
            self.since = now;
            self.condition = condition;
        }
        is_other
    }

    fn no_worse_than_suspect(&self) -> Condition {
        match self.condition {
            Condition::Down => Condition::Down,
            Condition::Unknown | Condition::Up | Condition::Suspect => Condition::Suspect,
        }
    }

    fn miss(&mut self, most: u32) -> Condition {
        self.misses = self.misses.saturating_add(1);
        // One that never answered is not waited for.
        if self.misses >= most || self.condition == Condition::Unknown {
            Condition::Down
        } else {
            self.no_worse_than_suspect()
        }
    }

    /// How long to wait before the next look. `is_urgent`: the domain has no primary. One that is down, or lets in
    /// none of the logins that are known, is tried ever more seldom; and so is one that is full or starting, unless
    /// it may be the primary that is sought.
    pub fn pause(&self, rules: Rules, is_urgent: bool) -> Duration {
        let pause = match self.condition {
            Condition::Up if !is_urgent => rules.interval,
            Condition::Down => growing(self.misses),
            Condition::Up | Condition::Unknown | Condition::Suspect => {
                let in_vain = if is_urgent { self.refusals } else { self.turned_away };
                growing(in_vain.saturating_sub(LOGINS_MOST))
            }
        };
        pause.min(rules.interval)
    }

    /// There is another login to try.
    pub const fn forget_refusals(&mut self) {
        (self.refusals, self.turned_away) = (0, 0);
    }

    pub const fn condition(&self) -> Condition {
        self.condition
    }

    /// Since when it has been in its condition.
    pub const fn since(&self) -> Instant {
        self.since
    }

    /// What it is, as far as that is known, and when it was seen to be that. What it was before it went down, or
    /// before it was starting for long, says nothing: it may come back as something else.
    pub fn facts(&self) -> Option<(Facts, Instant)> {
        self.facts.filter(|_| !self.is_stale && !self.is_closed)
    }

    /// What it was when it last let somebody in, if it does not any more and was not down meanwhile: those whom it has
    /// let in before may go on.
    pub fn closed_as(&self) -> Option<Facts> {
        self.facts.filter(|_| self.is_closed && !self.is_stale).map(|(facts, _)| facts)
    }

    /// True if it was starting, or stopping, when it was last looked at.
    pub const fn is_starting(&self) -> bool {
        self.starts > 0
    }

    /// It was last seen in answer to a question that was sent at `asked`, or later.
    pub const fn note_asked(&mut self, asked: Instant) {
        self.asked = Some(asked);
    }

    /// When it was asked what it has last said.
    pub const fn asked(&self) -> Option<Instant> {
        self.asked
    }

    /// The cluster that it was last seen to be of.
    pub fn system(&self) -> Option<u64> {
        self.facts.map(|(facts, _)| facts.system)
    }

    /// What is wrong with it.
    pub const fn trouble(&self) -> Option<&Arc<str>> {
        self.trouble.as_ref()
    }
}

/// A pause that doubles with each time that something came to nothing.
fn growing(times: u32) -> Duration {
    LOOK_CLOSELY.saturating_mul(1 << times.min(8)).min(PAUSE_MOST)
}

#[cfg(test)]
mod tests {
    use super::*;

    const RULES: Rules = Rules { interval: Duration::from_secs(5), down_after: 3 };
    const FACTS: Facts =
        Facts { in_recovery: false, system: 7, timeline: 1, position: Lsn(1), inserted: Lsn(0) };

    fn silent(heard: bool) -> Look {
        Look::Silent { why: "no answer".into(), heard }
    }

    fn unreachable() -> Look {
        Look::Unreachable { why: "refused".into(), heard: false }
    }

    /// A host that is up, and looks at it one after the other.
    fn after(looks: &[Look]) -> Health {
        let now = Instant::now();
        let mut health = Health::new(now);
        health.on_look(&Look::Seen(FACTS), RULES, now);
        for look in looks {
            health.on_look(look, RULES, now);
        }
        health
    }

    #[test]
    fn load_is_never_taken_for_an_outage() {
        let looks: Vec<_> = (0..100).map(|_| silent(true)).collect();
        assert_eq!(after(&looks).condition(), Condition::Suspect);
        let full = Look::Alive { why: "53300".into(), reason: Reason::Other };
        let looks: Vec<_> = (0..100).map(|_| full.clone()).collect();
        assert_eq!(after(&looks).condition(), Condition::Suspect);
    }

    #[test]
    fn silence_makes_a_host_suspect_and_then_down() {
        assert_eq!(after(&[silent(false)]).condition(), Condition::Suspect);
        assert_eq!(after(&[silent(false), silent(false)]).condition(), Condition::Suspect);
        let looks = [silent(false), silent(false), silent(false)];
        assert_eq!(after(&looks).condition(), Condition::Down);
        let looks = [silent(false), silent(false), Look::Seen(FACTS), silent(false)];
        assert_eq!(after(&looks).condition(), Condition::Suspect, "not in a row");
        let looks = [silent(false), silent(false), silent(true), silent(false)];
        assert_eq!(after(&looks).condition(), Condition::Suspect, "something was heard");
    }

    #[test]
    fn one_refusal_is_a_suspicion_and_two_are_an_outage() {
        assert_eq!(after(&[unreachable()]).condition(), Condition::Suspect);
        assert_eq!(after(&[unreachable(), unreachable()]).condition(), Condition::Down);
    }

    #[test]
    fn one_that_was_never_seen_is_down_at_once() {
        let now = Instant::now();
        let mut health = Health::new(now);
        assert!(health.on_look(&unreachable(), RULES, now));
        assert_eq!(health.condition(), Condition::Down);
        assert_eq!(health.trouble().map(|why| &**why), Some("refused"));
    }

    #[test]
    fn what_it_was_before_it_went_down_says_nothing() {
        let mut health = after(&[unreachable(), unreachable()]);
        assert_eq!((health.facts(), health.system()), (None, Some(FACTS.system)));
        let starting = Look::Alive { why: "57P03".into(), reason: Reason::Starting };
        health.on_look(&starting, RULES, Instant::now());
        assert_eq!((health.condition(), health.facts()), (Condition::Suspect, None));
        health.on_look(&Look::Seen(FACTS), RULES, Instant::now());
        assert!(health.facts().is_some());
    }

    /// It may be minutes before it lets anybody in, and then it may be something else.
    #[test]
    fn one_that_is_starting_is_what_it_was_for_a_second() {
        let starting = Look::Alive { why: "57P03".into(), reason: Reason::Starting };
        let looks = vec![starting; STARTS_MOST as usize];
        let health = after(&looks[1..]);
        assert_eq!((health.condition(), health.facts().is_some()), (Condition::Suspect, true));
        let mut health = after(&looks);
        assert_eq!((health.condition(), health.facts()), (Condition::Suspect, None));
        health.on_look(&Look::Seen(FACTS), RULES, Instant::now());
        assert!(health.facts().is_some());
        let full = Look::Alive { why: "53300".into(), reason: Reason::Other };
        assert!(after(&vec![full; 100]).facts().is_some(), "it serves those whom it has");
    }

    #[test]
    fn a_host_that_is_heard_of_is_not_down_and_what_we_lack_says_nothing_of_it() {
        let refused = Look::Unreachable { why: "no such name".into(), heard: true };
        let looks: Vec<_> = (0..100).map(|_| refused.clone()).collect();
        assert_eq!(after(&looks).condition(), Condition::Suspect);
        let missed = Look::Missed { why: "too many open files".into() };
        let looks: Vec<_> = (0..100).map(|_| missed.clone()).collect();
        assert_eq!(after(&looks).condition(), Condition::Up);
    }

    #[test]
    fn it_is_looked_at_more_often_while_something_is_wrong() {
        assert_eq!(after(&[]).pause(RULES, false), RULES.interval);
        assert_eq!(after(&[]).pause(RULES, true), LOOK_CLOSELY);
        assert_eq!(after(&[silent(false)]).pause(RULES, false), LOOK_CLOSELY);
        let often = Rules { interval: Duration::from_millis(50), ..RULES };
        assert_eq!(after(&[silent(false)]).pause(often, true), often.interval);
    }

    #[test]
    fn one_that_is_down_is_tried_ever_more_seldom() {
        let looks: Vec<_> = (0..100).map(|_| unreachable()).collect();
        let pauses: Vec<_> = (2..8).map(|n| after(&looks[..n]).pause(RULES, true)).collect();
        assert!(pauses.is_sorted() && pauses[0] < pauses[1], "{pauses:?}");
        assert_eq!(after(&looks).pause(RULES, true), PAUSE_MOST);
    }

    /// It is full, or starting, for hours: each look is a line in its log.
    #[test]
    fn one_that_is_full_is_tried_ever_more_seldom_unless_a_primary_is_sought() {
        let full = Look::Alive { why: "full".into(), reason: Reason::Other };
        let looks = vec![full; 20];
        assert_eq!(after(&looks[..4]).pause(RULES, false), LOOK_CLOSELY);
        assert_eq!(after(&looks).pause(RULES, false), PAUSE_MOST);
        assert_eq!(after(&looks).pause(RULES, true), LOOK_CLOSELY);
    }

    #[test]
    fn one_that_lets_nobody_in_is_tried_ever_more_seldom_behind_all_logins() {
        let refused = Look::Alive { why: "28P01".into(), reason: Reason::Login };
        let looks: Vec<_> = (0..100).map(|_| refused.clone()).collect();
        let all = usize::try_from(LOGINS_MOST).unwrap();
        for known in 0..=all {
            assert_eq!(after(&looks[..known]).pause(RULES, true), LOOK_CLOSELY);
        }
        assert!(after(&looks[..=all]).pause(RULES, true) > LOOK_CLOSELY);
        assert_eq!(after(&looks).pause(RULES, true), PAUSE_MOST);
        let full = Look::Alive { why: "53300".into(), reason: Reason::Other };
        let looks: Vec<_> = looks.into_iter().chain([full]).collect();
        assert_eq!(after(&looks).pause(RULES, true), LOOK_CLOSELY, "not in a row");
    }
}
