//! A host of the configuration: an address, or a name that is looked up again and again, and the hosts that it
//! leads to.
//!
//! The hosts of a name come and go; its places for them, one for each of its [`Slots`], are made once. The first one
//! stands for the name itself until that has led anywhere.

use std::future::pending;
use std::io;
use std::pin::pin;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::Notify;
use tokio::time::{Instant, sleep, sleep_until, timeout};
use tokio_util::sync::CancellationToken;

use super::health::Condition;
use super::slots::{ADDRESSES_MOST, Outcome, Rank, Slot, Slots};
use super::watch::{Watch, jittered};
use crate::config::HostAddr;
use crate::net::resolve::{Address, Answer, Resolve};
use crate::pool::host::{Host, Presence};
use crate::runtime::backoff::{Backoff, random};
use crate::server::endpoint::Whereabouts;

/// A host as it is configured.
#[derive(Debug)]
pub struct Name {
    pub addr: HostAddr,
    /// Its places. One alone if it is an address, or a Unix socket: there is nothing to look up.
    pub watches: Vec<Arc<Watch>>,
    /// Between two look-ups while all is well.
    interval: Duration,
    /// Rung when one of its hosts cannot be reached.
    lost: Arc<Notify>,
    slots: Mutex<Slots>,
    /// An answer had more than is used, and that was logged.
    has_overflown: AtomicBool,
    /// It does not resolve any more, and that was logged.
    is_failing: AtomicBool,
}

/// The shortest time between two look-ups of a name that leads somewhere, unless its interval is shorter.
const AGAIN_LEAST: Duration = Duration::from_secs(1);

/// A resolver that says nothing for so long is out of order.
const ANSWER_MOST: Duration = Duration::from_secs(5);

/// When a name is looked up again.
#[derive(Debug)]
struct Cadence {
    interval: Duration,
    /// Between two look-ups that are made before their time: it grows as long as they bring nothing new.
    again: Duration,
    /// The next one is made before its time, whether a host is lost or not.
    is_soon: bool,
    /// As long as the name leads nowhere.
    backoff: Backoff,
}

impl Cadence {
    fn new(interval: Duration) -> Self {
        Self { interval, again: AGAIN_LEAST.min(interval), is_soon: false, backoff: Backoff::new() }
    }

    /// How long to wait after an answer. `is_urgent`: a domain is without a primary.
    ///
    /// What was left though it was there may have been left out of some answers alone: it is looked for again.
    fn after(&mut self, outcome: &Outcome, is_urgent: bool) -> Duration {
        self.backoff = Backoff::new();
        if outcome.is_other {
            self.again = AGAIN_LEAST.min(self.interval);
        }
        let is_under_way = self.is_soon && self.again < self.interval;
        self.is_soon = outcome.is_doubtful || outcome.has_left_one_up || is_urgent || is_under_way;
        self.pause()
    }

    /// How long to wait after a question that was not answered. `is_known`: the name has led somewhere.
    fn after_failure(&mut self, is_known: bool, is_urgent: bool) -> Duration {
        self.is_soon = is_urgent;
        if is_known { self.pause() } else { self.backoff.next(random()) }
    }

    fn pause(&self) -> Duration {
        jittered(if self.is_soon { self.again } else { self.interval })
    }

    /// The next look-up begins. `is_lost`: a host that was lost has asked for it.
    fn begin(&mut self, is_lost: bool) {
        let least = AGAIN_LEAST.min(self.interval);
        let is_early = is_lost || self.is_soon;
        self.again = if is_early { (self.again * 2).min(self.interval) } else { least };
    }
}

impl Name {
    /// `watches`: its places, of which the first is taken and the others are free. `lost`: rung by their hosts.
    pub fn new(
        addr: HostAddr,
        watches: Vec<Arc<Watch>>,
        interval: Duration,
        lost: Arc<Notify>,
    ) -> Self {
        Self {
            addr,
            watches,
            interval,
            lost,
            slots: Mutex::default(),
            has_overflown: AtomicBool::new(false),
            is_failing: AtomicBool::new(false),
        }
    }

    /// True if it has to be looked up.
    pub fn is_name(addr: &HostAddr) -> bool {
        matches!(addr, HostAddr::Tcp { .. }) && addr.literal().is_none()
    }

    /// Looks the name up until `stop`, if it is one, and has its places follow. `is_in_use`: something is left of
    /// what was opened at a host. `told`: has the domains look at what has changed.
    pub async fn run(
        self: Arc<Self>,
        resolver: Arc<dyn Resolve>,
        stop: CancellationToken,
        is_in_use: impl Fn(&Host) -> bool,
        told: impl Fn(Instant),
    ) {
        let HostAddr::Tcp { host, port } = &self.addr else { return };
        if !Self::is_name(&self.addr) {
            return;
        }
        let mut cadence = Cadence::new(self.interval);
        loop {
            let asked = Instant::now();
            let answer = tokio::select! {
                answer = self.ask(&*resolver, host, *port) => answer,
                () = stop.cancelled() => return,
            };
            let pause = match answer {
                Ok(answer) => {
                    self.let_go(&is_in_use, &told);
                    let outcome = self.take_in(&answer, &told);
                    cadence.after(&outcome, self.is_urgent())
                }
                Err(error) => cadence.after_failure(self.on_failure(&error), self.is_urgent()),
            };
            self.let_go(&is_in_use, &told);
            let wait = async {
                tokio::select! {
                    () = sleep_until(Instant::now() + pause) => false,
                    () = self.lost.notified() => {
                        sleep_until(asked + cadence.again.min(pause)).await;
                        true
                    }
                }
            };
            let is_lost = tokio::select! {
                is_lost = wait => is_lost,
                () = self.keep_letting_go(&is_in_use, &told) => false,
                () = stop.cancelled() => return,
            };
            cadence.begin(is_lost);
        }
    }

    /// Asks where the name leads. One question at a time: a resolver that hangs is not asked again before it has
    /// answered.
    async fn ask(&self, resolver: &dyn Resolve, host: &str, port: u16) -> Answer {
        let mut answer = pin!(resolver.resolve(host, port));
        let answered = match timeout(ANSWER_MOST, &mut answer).await {
            Ok(answered) => answered,
            Err(_elapsed) => {
                let why = format!("no answer from the resolver within {ANSWER_MOST:?}");
                self.on_failure(&io::Error::new(io::ErrorKind::TimedOut, why));
                answer.await
            }
        };
        match answered {
            Ok(addresses) if addresses.is_empty() => Err(io::Error::other("it has no address")),
            answered => answered,
        }
    }

    /// Notes that nobody says where the name leads. What it led to so far is kept as long as it lasts: that it is
    /// not found is no news of its hosts. True if it has led anywhere.
    fn on_failure(&self, error: &io::Error) -> bool {
        if *self.slots() != Slots::default() {
            if !self.is_failing.swap(true, Relaxed) {
                tracing::warn!(name = %self.addr, %error,
                    "a host's name does not resolve: its hosts stay what they were");
            }
            return true;
        }
        if let Some(first) = self.watches.first() {
            let nowhere = Whereabouts::Nowhere(error.to_string().into());
            if first.host.endpoint.whereabouts() != nowhere {
                tracing::warn!(name = %self.addr, %error, "a host's name does not resolve");
                first.host.endpoint.be(nowhere);
            }
        }
        false
    }

    fn take_in(&self, answer: &[Address], told: &impl Fn(Instant)) -> Outcome {
        if self.is_failing.swap(false, Relaxed) {
            tracing::info!(name = %self.addr, "a host's name resolves again");
        }
        let rank = |index: usize| match self.watches.get(index) {
            Some(watch) if watch.health().condition() == Condition::Down => Rank::Down,
            Some(watch) if watch.is_primary() => Rank::Primary,
            Some(_) | None => Rank::Other,
        };
        let (after, outcome) = {
            let mut slots = self.slots();
            let mut outcome = slots.on_answer(answer, rank);
            // Nobody is cut off for one more of those who serve already.
            if outcome.put_off > 0 && (slots.count_held() == 0 || self.is_urgent()) {
                outcome.is_other |= slots.evict(outcome.put_off);
                outcome.is_doubtful = true;
            }
            (slots.clone(), outcome)
        };
        if outcome.left_out > 0 && !self.has_overflown.swap(true, Relaxed) {
            tracing::warn!(name = %self.addr, left_out = outcome.left_out, used = ADDRESSES_MOST,
                "a host's name leads to more addresses than are used");
        }
        if outcome.is_other {
            self.follow(&after, told);
        }
        outcome
    }

    /// A domain that has it is without a primary.
    fn is_urgent(&self) -> bool {
        self.watches.first().is_some_and(|watch| watch.is_urgent())
    }

    /// Has the places follow the slots.
    fn follow(&self, slots: &Slots, told: &impl Fn(Instant)) {
        let has_several = slots.count_held() > 1;
        for (watch, slot) in self.places(slots) {
            if has_several {
                watch.meet_others();
            }
            match slot {
                Slot::Free => {}
                Slot::Held { .. } => watch.host.set_presence(Presence::Present),
                Slot::Leaving { is_evicted: false, .. } => {
                    watch.host.set_presence(Presence::Leaving);
                }
                Slot::Leaving { is_evicted: true, .. } => {
                    if watch.host.presence() != Presence::Evicted {
                        tracing::warn!(name = %self.addr, host = %watch.host.endpoint,
                            "what is under way at a former host of a name is ended: its place is needed");
                    }
                    watch.host.set_presence(Presence::Evicted);
                }
            }
        }
        self.tell_apart(slots);
        // In this order: what is one of several now is not to be connected to as if it were the only one.
        told(Instant::now());
        for (watch, slot) in self.places(slots) {
            let Slot::Held { ways, .. } = slot else { continue };
            let there = Whereabouts::At(Arc::clone(ways));
            if watch.host.endpoint.whereabouts() != there {
                tracing::info!(name = %self.addr, address = %first_of(ways), "a host's name leads there");
                watch.host.endpoint.be(there);
                watch.host.alert.notify_one();
            }
        }
    }

    /// Frees places whose address the name does not lead to any more, as soon as nothing is left there.
    async fn keep_letting_go(&self, is_in_use: &impl Fn(&Host) -> bool, told: &impl Fn(Instant)) {
        while self.leaving().next().is_some() {
            sleep(AGAIN_LEAST).await;
            self.let_go(is_in_use, told);
        }
        pending::<()>().await;
    }

    fn let_go(&self, is_in_use: &impl Fn(&Host) -> bool, told: &impl Fn(Instant)) {
        let over: Vec<_> = self.leaving().filter(|(_, watch)| !is_in_use(&watch.host)).collect();
        if over.is_empty() {
            return;
        }
        let mut slots = self.slots();
        for (index, watch) in over {
            tracing::info!(name = %self.addr, host = %watch.host.endpoint, "a host of the name was left");
            slots.vacate(index);
            watch.vacate();
        }
        self.tell_apart(&slots);
        drop(slots);
        told(Instant::now());
    }

    /// Has hosts shown with their addresses where the name alone does not tell which they are.
    fn tell_apart(&self, slots: &Slots) {
        let is_ambiguous = slots.iter().filter(|slot| **slot != Slot::Free).nth(1).is_some();
        for watch in &self.watches {
            watch.host.endpoint.set_one_of_several(is_ambiguous);
        }
    }

    fn places<'a>(&'a self, slots: &'a Slots) -> impl Iterator<Item = (&'a Arc<Watch>, &'a Slot)> {
        self.watches.iter().zip(slots.iter())
    }

    fn leaving(&self) -> impl Iterator<Item = (usize, &Arc<Watch>)> {
        let is_leaving = |(_, watch): &(usize, &Arc<Watch>)| watch.host.is_leaving();
        self.watches.iter().enumerate().filter(is_leaving)
    }

    fn slots(&self) -> MutexGuard<'_, Slots> {
        self.slots.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn first_of(ways: &[Address]) -> String {
    ways.first().map(|address| address.ip().to_string()).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use std::future::Future;
    use std::pin::Pin;
    use std::sync::atomic::AtomicUsize;

    use super::super::health::Rules;
    use super::super::slots::SLOTS;
    use super::*;
    use crate::server::endpoint::Endpoint;

    /// Answers after a while, and counts the questions.
    #[derive(Debug)]
    struct Slow {
        after: Duration,
        addresses: Mutex<Vec<Address>>,
        asked: AtomicUsize,
    }

    impl Slow {
        fn new(after: Duration, addresses: &[&str]) -> Arc<Self> {
            let slow = Self { after, addresses: Mutex::default(), asked: AtomicUsize::new(0) };
            slow.set(addresses);
            Arc::new(slow)
        }

        fn set(&self, addresses: &[&str]) {
            let addresses = addresses.iter().map(|address| address.parse().unwrap());
            *self.addresses.lock().unwrap() = addresses.collect();
        }

        fn asked(&self) -> usize {
            self.asked.swap(0, Relaxed)
        }
    }

    impl Resolve for Slow {
        fn resolve<'a>(
            &'a self,
            _name: &'a str,
            _port: u16,
        ) -> Pin<Box<dyn Future<Output = Answer> + Send + 'a>> {
            self.asked.fetch_add(1, Relaxed);
            Box::pin(async move {
                sleep(self.after).await;
                Ok(self.addresses.lock().unwrap().clone())
            })
        }
    }

    fn name() -> Arc<Name> {
        let addr = HostAddr::Tcp { host: "db".into(), port: 5432 };
        let lost = Arc::<Notify>::default();
        let place = |_| {
            let endpoint = Arc::new(Endpoint::new(addr.clone()));
            let host = Arc::new(Host::new(endpoint, 1, Arc::clone(&lost)));
            let rules = Rules { interval: Duration::from_secs(5), down_after: 3 };
            Arc::new(Watch::new(host, rules, Duration::from_secs(1), false, 1))
        };
        let watches: Vec<_> = (0..SLOTS).map(place).collect();
        watches[1..].iter().for_each(|watch| watch.vacate());
        let interval = Duration::from_secs(15);
        Arc::new(Name::new(addr.clone(), watches, interval, Arc::clone(&lost)))
    }

    /// Has `resolver` asked for `name` for so long.
    async fn run(name: &Arc<Name>, resolver: &Arc<Slow>, seconds: u64) {
        let resolver = Arc::clone(resolver) as Arc<dyn Resolve>;
        let run = Arc::clone(name).run(resolver, CancellationToken::new(), |_| false, |_| {});
        let ended = timeout(Duration::from_secs(seconds), run).await;
        assert!(ended.is_err(), "it gave up");
    }

    fn whereabouts(name: &Name) -> Whereabouts {
        name.watches[0].host.endpoint.whereabouts()
    }

    #[tokio::test(start_paused = true)]
    async fn a_resolver_that_hangs_is_told_of_and_not_asked_twice_at_once() {
        let (name, resolver) = (name(), Slow::new(Duration::from_secs(60), &["10.0.0.1:5432"]));
        run(&name, &resolver, 59).await;
        let why = "no answer from the resolver within 5s";
        assert_eq!(whereabouts(&name), Whereabouts::Nowhere(why.into()));
        assert_eq!(resolver.asked(), 1);
        run(&name, &resolver, 61).await;
        assert_eq!(
            whereabouts(&name),
            Whereabouts::At(Arc::new(["10.0.0.1:5432".parse().unwrap()]))
        );
    }

    /// P42: a name that is not found is asked for again within a second.
    #[tokio::test(start_paused = true)]
    async fn a_name_without_an_address_is_looked_up_again_and_again() {
        let (name, resolver) = (name(), Slow::new(Duration::ZERO, &[]));
        run(&name, &resolver, 60).await;
        assert_eq!(whereabouts(&name), Whereabouts::Nowhere("it has no address".into()));
        assert!((60..600).contains(&resolver.asked()));
    }

    #[tokio::test(start_paused = true)]
    async fn a_name_is_looked_up_at_each_interval_and_at_once_when_its_host_is_lost() {
        let (name, resolver) = (name(), Slow::new(Duration::ZERO, &["10.0.0.1:5432"]));
        run(&name, &resolver, 60).await;
        assert!((5..=6).contains(&resolver.asked()), "more or less each 15 seconds");
        let host = Arc::clone(&name.watches[0].host);
        let lose = async {
            loop {
                host.look_up();
                sleep(Duration::from_millis(100)).await;
            }
        };
        tokio::select! {
            () = run(&name, &resolver, 60) => {}
            () = lose => {}
        }
        // After 1, 2, 4, 8 seconds, and then at each interval.
        let asked = resolver.asked();
        assert!((7..=9).contains(&asked), "{asked}");
    }

    #[tokio::test(start_paused = true)]
    async fn one_that_was_left_though_it_was_there_is_looked_for_again() {
        let (name, resolver) = (name(), Slow::new(Duration::ZERO, &["10.0.0.1:1", "10.0.0.2:1"]));
        let run = Arc::clone(&name).run(
            Arc::clone(&resolver) as Arc<dyn Resolve>,
            CancellationToken::new(),
            |_| false,
            |_| {},
        );
        let held = || name.slots().count_held();
        let scenario = async {
            let until = async |is_held: usize| {
                while held() != is_held {
                    sleep(Duration::from_millis(100)).await;
                }
                Instant::now()
            };
            until(2).await;
            resolver.set(&["10.0.0.2:1"]);
            until(1).await;
            resolver.set(&["10.0.0.1:1", "10.0.0.2:1"]);
            let there_again = Instant::now();
            let waited = until(2).await - there_again;
            assert!(waited <= AGAIN_LEAST + Duration::from_millis(100), "{waited:?}");
            sleep(Duration::from_secs(60)).await;
            resolver.asked();
            sleep(Duration::from_secs(60)).await;
            assert!((4..=6).contains(&resolver.asked()), "all is well again");
        };
        tokio::select! {
            () = run => panic!("it gave up"),
            () = scenario => {}
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_name_is_looked_up_sooner_while_a_domain_has_no_primary() {
        let (name, resolver) = (name(), Slow::new(Duration::ZERO, &["10.0.0.1:1"]));
        name.watches.iter().for_each(|watch| watch.hurry());
        run(&name, &resolver, 10).await;
        // At once, and after 1, 2 and 4 seconds.
        assert_eq!(resolver.asked(), 4);
    }

    #[tokio::test(start_paused = true)]
    async fn a_name_is_looked_up_when_a_domain_loses_its_primary_though_the_host_is_there() {
        let (name, resolver) = (name(), Slow::new(Duration::ZERO, &["10.0.0.1:1"]));
        let scenario = async {
            sleep(Duration::from_secs(60)).await;
            resolver.asked();
            name.watches[0].hurry();
            sleep(Duration::from_millis(1100)).await;
            assert_eq!(resolver.asked(), 1);
        };
        tokio::select! {
            () = run(&name, &resolver, 120) => panic!("too late"),
            () = scenario => {}
        }
    }

    /// P42: who is at work at the old address is not cut off.
    #[tokio::test(start_paused = true)]
    async fn an_address_is_watched_until_nothing_is_left_there() {
        let (name, resolver) = (name(), Slow::new(Duration::ZERO, &["10.0.0.1:5432"]));
        run(&name, &resolver, 1).await;
        resolver.set(&["10.0.0.2:5432"]);
        let is_in_use = Arc::new(AtomicBool::new(true));
        let seen = Arc::clone(&is_in_use);
        let stop = CancellationToken::new();
        let resolver = Arc::clone(&resolver) as Arc<dyn Resolve>;
        let in_use = move |_: &Host| seen.load(Relaxed);
        let mut run = pin!(Arc::clone(&name).run(resolver, stop.clone(), in_use, |_| {}));
        assert!(timeout(Duration::from_secs(60), &mut run).await.is_err());
        let presence = |index: usize| name.watches[index].host.presence();
        assert_eq!((presence(0), presence(1)), (Presence::Leaving, Presence::Present));
        assert_eq!(name.watches[0].host.endpoint.to_string(), "db:5432 (10.0.0.1)");
        is_in_use.store(false, Relaxed);
        assert!(timeout(Duration::from_secs(2), &mut run).await.is_err());
        assert_eq!((presence(0), presence(1)), (Presence::Absent, Presence::Present));
        assert_eq!(name.watches[1].host.endpoint.to_string(), "db:5432");
        assert_eq!(whereabouts(&name), Whereabouts::Unknown);
        stop.cancel();
        run.await;
    }

    /// Clients that stay for days at each address that it has had.
    #[tokio::test(start_paused = true)]
    async fn a_name_that_has_moved_very_often_still_leads_where_it_does() {
        let (name, resolver) = (name(), Slow::new(Duration::ZERO, &["10.0.0.1:1"]));
        let asked = Arc::clone(&resolver) as Arc<dyn Resolve>;
        let is_in_use = |host: &Host| host.presence() != Presence::Evicted;
        let run = Arc::clone(&name).run(asked, CancellationToken::new(), is_in_use, |_| {});
        let present = || {
            let is_there = |watch: &&Arc<Watch>| watch.host.presence() == Presence::Present;
            name.watches.iter().filter(is_there).map(|watch| watch.host.endpoint.to_string()).next()
        };
        let scenario = async {
            // Only one of several is shown with its address.
            sleep(Duration::from_secs(1)).await;
            for last in 2..=3 * SLOTS {
                resolver.set(&[&format!("10.0.0.{last}:1")]);
                let there = Some(format!("db:5432 (10.0.0.{last})"));
                let moved = Instant::now();
                while present() != there {
                    sleep(Duration::from_millis(10)).await;
                }
                // It is missed, missed again, and has a place then, or at the next look-up.
                let most = name.interval + 2 * AGAIN_LEAST + Duration::from_millis(50);
                assert!(moved.elapsed() <= most, "{last}: {:?}", moved.elapsed());
            }
        };
        tokio::select! {
            () = run => panic!("it gave up"),
            () = scenario => {}
        }
        let leaving = name.leaving().count();
        assert_eq!(leaving, SLOTS - 1, "no more than has to be is ended");
    }

    /// Answers in turns, with clients at each address: as many as may be are served, and nobody is cut off.
    #[tokio::test(start_paused = true)]
    async fn nobody_is_cut_off_for_one_more_of_those_who_serve() {
        let (name, resolver) = (name(), Slow::new(Duration::ZERO, &["10.0.0.1:1"]));
        let asked = Arc::clone(&resolver) as Arc<dyn Resolve>;
        let run = Arc::clone(&name).run(asked, CancellationToken::new(), |_| true, |_| {});
        let scenario = async {
            for round in 0..8 {
                let two = [2 * round, 2 * round + 1].map(|n| format!("10.0.{n}.1:1"));
                let kept = "10.0.200.1:1";
                resolver.set(&[kept, &two[0], &two[1]]);
                sleep(Duration::from_secs(60)).await;
                let evicted =
                    name.watches.iter().filter(|w| w.host.presence() == Presence::Evicted);
                assert_eq!(evicted.count(), 0, "{round}");
            }
            assert!(name.slots().count_held() < 3, "there is a place for all");
        };
        tokio::select! {
            () = run => panic!("it gave up"),
            () = scenario => {}
        }
    }
}
