//! Watching a host: one task that looks at it again and again, and tells the domains that have it.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::Relaxed};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::time::{Instant, sleep_until, timeout_at};
use tokio_util::sync::CancellationToken;

use super::health::{Condition, Health, LOGINS_MOST, LOOK_CLOSELY, Look, Reason, Rules};
use super::probe::{Heard, Probe};
use crate::pool::host::Host;
use crate::runtime::backoff::random;
use crate::server::connect::Target;

/// A host that is watched, for all domains that have it, or the place for one.
#[derive(Debug)]
pub struct Watch {
    pub host: Arc<Host>,
    pub rules: Rules,
    /// Longest wait for the answer to one look.
    timeout: Duration,
    /// Whom to log in as, and how often that was changed.
    logins: Mutex<Logins>,
    health: Mutex<Health>,
    /// How many domains that have it are without a primary.
    urgent: AtomicUsize,
    /// How many domains that have it have it for their primary.
    led: AtomicUsize,
    /// When its position was last wanted.
    wanted: Mutex<Option<Instant>>,
    /// A domain has others besides it: nobody is served before it is known which is the primary.
    has_others: AtomicBool,
    /// Its share of what is spread over replicas.
    pub weight: u32,
}

#[derive(Debug, Default)]
struct Logins {
    known: Vec<Login>,
    /// The one that is used; others are tried when it is not let in.
    current: usize,
}

#[derive(Debug)]
struct Login {
    target: Target,
    outcome: Outcome,
}

/// What has come of a login so far. The useless ones come last.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Outcome {
    /// The host has let it in, whatever it does now.
    Worked,
    Untried,
    /// The host has never let it in.
    Refused,
}

/// The connection of a look is kept for the next one if that comes this soon.
const KEEP_UNTIL: Duration = Duration::from_millis(500);

/// How long its connection is kept after its position was wanted.
const WANTED_FOR: Duration = Duration::from_secs(10);

impl Watch {
    /// `has_others`: a domain has it and others. `weight`: its share of what is spread over replicas.
    pub fn new(
        host: Arc<Host>,
        rules: Rules,
        timeout: Duration,
        has_others: bool,
        weight: u32,
    ) -> Self {
        Self {
            host,
            rules,
            timeout,
            logins: Mutex::default(),
            health: Mutex::new(Health::new(Instant::now())),
            urgent: AtomicUsize::new(0),
            led: AtomicUsize::new(0),
            wanted: Mutex::default(),
            has_others: AtomicBool::new(has_others),
            weight,
        }
    }

    /// Offers a way to log in to the host. Without any it cannot be looked at: a domain that has no user of its
    /// own learns one from its clients, of whom any may name a user or a database that there is not.
    pub fn offer(&self, target: &Target) {
        let mut logins = self.logins();
        let is_it = |known: &Login| {
            known.target.user == target.user && known.target.database == target.database
        };
        if logins.known.iter().any(is_it) {
            return;
        }
        let current = logins.known.get(logins.current);
        let is_served = current.is_some_and(|login| login.outcome == Outcome::Worked);
        let name = ("application_name".to_owned(), super::probe::APPLICATION_NAME.to_owned());
        let target = Target {
            options: Arc::new([name]),
            connect_query: Arc::default(),
            // The look as a whole has its limit.
            connect_timeout: self.timeout.saturating_mul(2),
            ..target.clone()
        };
        let login = Login { target, outcome: Outcome::Untried };
        let at = if logins.known.len() < LOGINS_MOST as usize {
            logins.known.push(login);
            logins.known.len() - 1
        } else {
            let Some((at, useless)) = logins.most_useless() else { return };
            *useless = login;
            at
        };
        if !is_served {
            logins.current = at;
        }
        drop(logins);
        // Those before it say nothing of it.
        self.held().forget_refusals();
        self.host.alert.notify_one();
    }

    fn logins(&self) -> MutexGuard<'_, Logins> {
        self.logins.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The host's health at this moment.
    pub fn health(&self) -> Health {
        self.held().clone()
    }

    fn held(&self) -> MutexGuard<'_, Health> {
        self.health.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Somebody waits to hear how far it is in the log: it is looked at soon.
    pub fn want_position(&self) {
        *self.wanted.lock().unwrap_or_else(PoisonError::into_inner) = Some(Instant::now());
        self.host.alert.notify_one();
    }

    /// Its position was wanted of late, and will be again.
    fn is_wanted(&self) -> bool {
        let wanted = self.wanted.lock().unwrap_or_else(PoisonError::into_inner);
        wanted.is_some_and(|last| last.elapsed() < WANTED_FOR)
    }

    /// Its name has come to lead to others as well.
    pub fn meet_others(&self) {
        self.has_others.store(true, Relaxed);
    }

    /// Nothing is left here: whoever comes next is another host.
    pub fn vacate(&self) {
        let mut health = self.held();
        self.host.vacate();
        *health = Health::new(Instant::now());
        drop(health);
        // The connection of its probe is to be closed.
        self.host.alert.notify_one();
    }

    /// A domain that has it is without a primary.
    pub fn hurry(&self) {
        self.urgent.fetch_add(1, Relaxed);
        self.host.alert.notify_one();
        // The primary may be where the name has come to lead.
        self.host.look_up();
    }

    /// A domain that was without a primary has one again.
    pub fn calm(&self) {
        self.urgent.fetch_sub(1, Relaxed);
    }

    pub fn is_urgent(&self) -> bool {
        self.urgent.load(Relaxed) > 0
    }

    /// A domain that has it has come to take it for its primary.
    pub fn lead(&self) {
        self.led.fetch_add(1, Relaxed);
    }

    /// It is not that domain's primary any more.
    pub fn step_down(&self) {
        self.led.fetch_sub(1, Relaxed);
    }

    /// True if it is the primary of some domain.
    pub fn is_primary(&self) -> bool {
        self.led.load(Relaxed) > 0
    }

    /// Looks at the host until `stop`, and has `told` look at the result. `heard` counts what comes from it on
    /// other connections.
    pub async fn run(
        self: Arc<Self>,
        stop: CancellationToken,
        heard: impl Fn() -> Heard,
        told: impl Fn(&Self, Instant),
    ) {
        let mut probe = Probe::default();
        let mut is_new = true;
        loop {
            if self.host.is_absent() || is_new {
                probe.disconnect();
                tokio::select! {
                    () = self.wait_for_first_look() => is_new = false,
                    () = stop.cancelled() => return,
                }
            }
            let begun = Instant::now();
            tokio::select! {
                // Boxed: most places of a name are free, and wait for a host with little of their own.
                () = Box::pin(self.look(&mut probe, &heard, &told)) => {}
                () = stop.cancelled() => return,
            }
            let now = Instant::now();
            let (pause, is_down) = {
                let health = self.held();
                (health.pause(self.rules, self.is_urgent()), health.condition() == Condition::Down)
            };
            if pause > KEEP_UNTIL && !self.is_wanted() {
                // It would keep its database from being dropped, and take a place for nothing.
                probe.disconnect();
            }
            let next = now + jittered(pause);
            let wait = async {
                if is_down {
                    // That it cannot be connected to is known.
                    return sleep_until(next).await;
                }
                let _elapsed = timeout_at(next, self.host.alert.notified()).await;
                // Many may have met with the same thing: one look is enough.
                sleep_until(next.min(begun + LOOK_CLOSELY)).await;
            };
            tokio::select! {
                () = wait => {}
                () = stop.cancelled() => return,
            }
        }
    }

    /// Waits until there is a host, and until it is time to look at it.
    async fn wait_for_first_look(&self) {
        let mut until = None;
        loop {
            if self.host.is_absent() {
                until = None;
                self.host.alert.notified().await;
                continue;
            }
            // One that has no others beside it serves whatever it is: that can wait. It may be left meanwhile.
            let until = *until.get_or_insert_with(|| Instant::now() + self.rules.interval);
            if self.has_others.load(Relaxed) || Instant::now() >= until {
                return;
            }
            let _elapsed = timeout_at(until, self.host.alert.notified()).await;
        }
    }

    async fn look(
        &self,
        probe: &mut Probe,
        heard: &impl Fn() -> Heard,
        told: &impl Fn(&Self, Instant),
    ) {
        let Some(target) = self.target() else { return };
        let asked = Instant::now();
        let tenure = self.host.tenure();
        let look = probe.look(&target, self.timeout, heard).await;
        if matches!(look, Look::Unreachable { .. } | Look::Silent { .. }) {
            self.host.look_up();
        }
        self.judge_login(&target, &look);
        let now = Instant::now();
        let (before, after) = {
            let mut health = self.held();
            if self.host.tenure() != tenure {
                // It was another host.
                return;
            }
            let before = health.condition();
            health.on_look(&look, self.rules, now);
            if matches!(look, Look::Seen(_)) {
                health.note_asked(asked);
            }
            (before, health.clone())
        };
        if before != after.condition() {
            let trouble = after.trouble().map(|why| &**why);
            let (host, was, is) =
                (&self.host.endpoint, before.as_str(), after.condition().as_str());
            if after.condition() == Condition::Down {
                tracing::warn!(%host, was, trouble, "a host is down");
            } else {
                tracing::info!(%host, was, is, trouble, "a host's condition has changed");
            }
        }
        told(self, now);
    }

    fn target(&self) -> Option<Target> {
        let logins = self.logins();
        logins.known.get(logins.current).map(|login| login.target.clone())
    }

    /// Goes on to another login if `target` is not let in.
    fn judge_login(&self, target: &Target, look: &Look) {
        let outcome = match look {
            Look::Seen(_) => Outcome::Worked,
            Look::Alive { reason: Reason::Login, .. } => Outcome::Refused,
            Look::Alive { .. }
            | Look::Unreachable { .. }
            | Look::Silent { .. }
            | Look::Missed { .. } => return,
        };
        self.logins().judge(target, outcome);
    }
}

impl Logins {
    /// The one that another may take the place of: none that has worked, and rather one that was tried.
    fn most_useless(&mut self) -> Option<(usize, &mut Login)> {
        let others = self.known.iter_mut().enumerate();
        let useless = others.filter(|(_, login)| login.outcome != Outcome::Worked);
        useless.max_by_key(|(_, login)| login.outcome)
    }

    /// Takes note of what has come of `target`. Behind a refusal it is another's turn, first of those that were not
    /// tried yet.
    fn judge(&mut self, target: &Target, outcome: Outcome) {
        let is_it = |login: &Login| {
            login.target.user == target.user && login.target.database == target.database
        };
        // Another may have taken its place meanwhile.
        let Some(at) = self.known.iter().position(is_it) else { return };
        if let Some(login) = self.known.get_mut(at).filter(|it| it.outcome != Outcome::Worked) {
            login.outcome = outcome;
        }
        if outcome == Outcome::Refused && self.current == at {
            let count = self.known.len();
            let in_turn = (1..=count).map(|further| (at + further) % count);
            let is_untried = |at: &usize| {
                self.known.get(*at).is_some_and(|login| login.outcome == Outcome::Untried)
            };
            self.current =
                in_turn.clone().find(is_untried).or_else(|| in_turn.clone().next()).unwrap_or(at);
        }
    }
}

/// A little less than `pause`, so that hosts, and instances of pgweir, are not looked at all at once.
pub(super) fn jittered(pause: Duration) -> Duration {
    pause.mul_f64(1.0 - 0.2 * f64::from(random()) / f64::from(u32::MAX))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::auth::ServerSecret;
    use crate::config::HostAddr;
    use crate::pool::core::Site;
    use crate::server::endpoint::Endpoint;
    use crate::tls::Ladder;

    const RULES: Rules = Rules { interval: Duration::from_secs(5), down_after: 3 };

    fn watch() -> Watch {
        let name = HostAddr::Tcp { host: "db".into(), port: 5432 };
        let host = Arc::new(Host::new(Arc::new(Endpoint::new(name)), 1, Arc::default()));
        Watch::new(host, RULES, Duration::from_secs(1), false, 1)
    }

    fn login(watch: &Watch, database: &str) -> Target {
        Target {
            host: Arc::clone(&watch.host.endpoint),
            site: Site(0),
            tls: Ladder::disabled(),
            database: database.into(),
            user: "app".into(),
            secret: ServerSecret::None,
            options: Arc::default(),
            connect_query: Arc::default(),
            connect_timeout: Duration::from_secs(1),
        }
    }

    fn offer(watch: &Watch, database: &str) {
        watch.offer(&login(watch, database));
    }

    /// Whose turn it is.
    fn turn(watch: &Watch) -> String {
        watch.target().unwrap().database.to_string()
    }

    /// Has the host refuse the login whose turn it is.
    fn refuse(watch: &Watch) {
        let look = Look::Alive { why: "3D000".into(), reason: Reason::Login };
        watch.judge_login(&watch.target().unwrap(), &look);
        watch.held().on_look(&look, RULES, Instant::now());
    }

    #[test]
    fn a_new_login_is_tried_before_those_that_were_refused() {
        let watch = watch();
        for bad in 0..LOGINS_MOST {
            offer(&watch, &format!("bad{bad}"));
        }
        (0..4 * LOGINS_MOST).for_each(|_| refuse(&watch));
        assert!(watch.health().pause(RULES, true) > LOOK_CLOSELY);

        offer(&watch, "good");
        offer(&watch, "bad");

        assert_eq!(turn(&watch), "bad");
        for is_urgent in [true, false] {
            assert_eq!(watch.health().pause(RULES, is_urgent), LOOK_CLOSELY);
        }
        refuse(&watch);
        assert_eq!(turn(&watch), "good");
        for bad in 0..2 * LOGINS_MOST {
            watch.logins().judge(&login(&watch, "good"), Outcome::Worked);
            offer(&watch, &format!("worse{bad}"));
            assert_eq!(turn(&watch), "good", "it works");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_place_that_is_left_before_its_first_look_is_not_looked_at() {
        let watch = watch();
        let mut wait = std::pin::pin!(watch.wait_for_first_look());
        assert!(tokio::time::timeout(RULES.interval / 2, &mut wait).await.is_err());

        watch.vacate();
        assert!(tokio::time::timeout(RULES.interval * 2, &mut wait).await.is_err(), "nobody there");

        watch.host.set_presence(crate::pool::host::Presence::Present);
        watch.host.alert.notify_one();
        let come = Instant::now();
        wait.await;
        assert_eq!(come.elapsed(), RULES.interval);
    }

    /// What comes of a look is about the login that it was made with.
    #[test]
    fn a_login_that_comes_during_a_look_is_not_refused_with_the_one_before() {
        let watch = watch();
        offer(&watch, "bad");
        let looked_with = watch.target().unwrap();
        offer(&watch, "good");
        watch.logins().judge(&looked_with, Outcome::Refused);
        assert_eq!(turn(&watch), "good");
    }
}
