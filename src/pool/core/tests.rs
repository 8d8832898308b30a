//! The pool's core by hand, and against a naive model.

use proptest::prelude::*;

use super::*;

/// 2: one that is used once.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Sort(u8);

impl Kind for Sort {
    fn may_idle(&self) -> bool {
        self.0 != 2
    }
}

type Pool = Core<u64, u32, Sort>;

const LIMITS: Limits = Limits { size: 2, min: 0, max_overflow: 1, max_waiting: None };

fn open(core: &mut Pool, id: u64, home: usize, now: Instant) -> Given<u64, u32> {
    let right = core.right_if_wanted().expect("nobody wants a server");
    let label = Label {
        id: ServerId(id),
        home: Home(home),
        site: right.site(),
        kind: right.kind().copied(),
    };
    core.opened(right, label, id, now)
}

fn plain(id: u64) -> Label<Sort> {
    Label { id: ServerId(id), home: Home(0), site: Site(0), kind: None }
}

fn checkout(core: &mut Pool, now: Instant) -> Decision<u64, Sort> {
    core.checkout(Home(0), None, None, now, || 0)
}

fn checkout_of(core: &mut Pool, sort: u8, waiter: u32) -> Decision<u64, Sort> {
    core.checkout(Home(0), None, Some(&Sort(sort)), Instant::now(), || waiter)
}

/// A pool with `ids` idle, each opened at the home that is paired with it.
fn with_idle(ids: &[(u64, usize)]) -> Pool {
    let now = Instant::now();
    let limits = Limits { min: ids.len(), size: ids.len(), ..LIMITS };
    let mut core = Pool::new(limits, 2, 1, Balance::LeastBusy);
    for (id, home) in ids {
        assert!(matches!(open(&mut core, *id, *home, now), Given::Idle));
    }
    core
}

#[test]
fn the_sessions_last_server_comes_before_the_one_used_last() {
    let mut core = with_idle(&[(1, 0), (2, 0), (3, 1)]);
    let now = Instant::now();
    assert!(matches!(
        core.checkout(Home(0), Some(ServerId(1)), None, now, || 0),
        Decision::Lend(1)
    ));
    assert!(matches!(
        core.checkout(Home(0), Some(ServerId(1)), None, now, || 0),
        Decision::Lend(2)
    ));
    assert!(matches!(
        core.checkout(Home(0), Some(ServerId(1)), None, now, || 0),
        Decision::Lend(3)
    ));
}

#[test]
fn the_queue_is_bounded_by_max_waiting() {
    let now = Instant::now();
    let mut core = Pool::new(Limits { max_waiting: Some(1), ..LIMITS }, 1, 1, Balance::LeastBusy);
    let Decision::Wait { connect: Some(right), .. } = checkout(&mut core, now) else { panic!() };
    assert!(matches!(checkout(&mut core, now), Decision::QueueFull));
    core.abandon(right);
}

#[test]
fn overflow_goes_before_size_and_size_before_min() {
    let start = Instant::now();
    let mut core = with_idle(&[(1, 0), (2, 0)]);
    core.limits = Limits { size: 1, min: 1, max_overflow: 1, max_waiting: None };
    let later = start + Duration::from_secs(10);

    let linger = Duration::from_secs(5);
    assert!(matches!(core.take_expired(later, linger, None), Some((1, Expired::Overflow))));
    assert_eq!(core.take_expired(later, linger, Some(linger)), None);
    core.limits.min = 0;
    assert!(matches!(core.take_expired(later, linger, Some(linger)), Some((2, Expired::Idle))));
}

#[test]
fn a_closed_server_is_replaced_while_someone_waits() {
    let now = Instant::now();
    let mut core =
        Pool::new(Limits { size: 1, max_overflow: 0, ..LIMITS }, 1, 1, Balance::LeastBusy);
    let Decision::Wait { connect: Some(right), .. } = checkout(&mut core, now) else { panic!() };
    assert!(matches!(core.opened(right, plain(1), 1, now), Given::HandTo(0, 1)));
    let Decision::Wait { connect: None, .. } = checkout(&mut core, now) else { panic!() };

    core.begin_close(Place::Lent, Site(0));
    assert_eq!(core.right_if_wanted(), None, "it still counts");
    let right = core.closed();

    assert!(right.is_some());
    if let Some(right) = right {
        core.abandon(right);
    }
}

#[test]
fn who_gives_up_leaves_the_queue_to_the_others() {
    let now = Instant::now();
    let mut core = Pool::new(LIMITS, 1, 1, Balance::LeastBusy);
    let mut tickets = Vec::new();
    let mut rights = Vec::new();
    for waiter in 0..3 {
        let Decision::Wait { ticket, connect, .. } =
            core.checkout(Home(0), None, None, now, || waiter)
        else {
            panic!()
        };
        tickets.push(ticket);
        rights.extend(connect);
    }
    assert_eq!(core.give_up(tickets[0]), Some(0));
    assert_eq!(core.give_up(tickets[0]), None);
    assert_eq!(core.give_up(tickets[1]), Some(1));

    let given = core.opened(rights.pop().unwrap(), plain(1), 1, now);

    assert!(matches!(given, Given::HandTo(2, 1)));
    for right in rights {
        assert!(!core.is_opening_wanted(&right));
        core.abandon(right);
    }
}

#[test]
fn a_server_is_lent_to_who_wishes_for_the_same() {
    let now = Instant::now();
    let mut core = Pool::new(LIMITS, 1, 1, Balance::LeastBusy);
    let Decision::Wait { connect: Some(right), .. } = checkout_of(&mut core, 1, 7) else {
        panic!()
    };
    let label = Label { kind: Some(Sort(1)), ..plain(1) };
    assert!(matches!(core.opened(right, label.clone(), 1, now), Given::HandTo(7, 1)));
    assert!(matches!(core.checkin(Place::Lent, label, 1, now), Given::Idle));

    let Decision::Wait { connect: Some(right), displaced: None, .. } = checkout(&mut core, now)
    else {
        panic!("a plain server was wished for")
    };
    assert!(matches!(checkout_of(&mut core, 1, 8), Decision::Lend(1)));
    core.abandon(right);
}

#[test]
fn an_idle_server_that_does_not_fit_makes_room() {
    let mut core = with_idle(&[(1, 0), (2, 0)]);
    core.limits.max_overflow = 0;

    let Decision::Wait { connect: None, displaced: Some(1), .. } = checkout_of(&mut core, 1, 7)
    else {
        panic!()
    };

    let right = core.closed().expect("its place is free");
    assert_eq!(right.kind(), Some(&Sort(1)));
    core.abandon(right);
}

#[test]
fn a_server_that_comes_back_makes_room_for_the_oldest_once() {
    let now = Instant::now();
    let mut core = with_idle(&[(1, 0), (2, 0)]);
    core.limits.max_overflow = 0;
    for _ in 0..2 {
        assert!(matches!(checkout(&mut core, now), Decision::Lend(_)));
    }
    assert!(matches!(checkout_of(&mut core, 1, 7), Decision::Wait { connect: None, .. }));
    assert!(matches!(
        core.checkout(Home(0), None, None, now, || 8),
        Decision::Wait { displaced: None, .. }
    ));

    assert!(matches!(
        core.checkin(Place::Lent, plain(1), 1, now),
        Given::Close(1, Surplus::Displaced)
    ));
    // The oldest has its place coming: this one is the other's.
    assert!(matches!(core.checkin(Place::Lent, plain(2), 2, now), Given::HandTo(8, 2)));
}

/// P59: what was opened for one client goes to no other.
#[test]
fn a_server_that_is_used_once_is_closed_when_it_comes_back() {
    let now = Instant::now();
    let mut core = Pool::new(LIMITS, 1, 1, Balance::LeastBusy);
    let Decision::Wait { ticket, connect: Some(right), .. } = checkout_of(&mut core, 2, 7) else {
        panic!()
    };
    assert_eq!(core.give_up(ticket), Some(7));
    assert!(!core.is_opening_wanted(&right));

    let label = Label { kind: Some(Sort(2)), ..plain(1) };
    assert!(matches!(core.opened(right, label, 1, now), Given::Close(1, Surplus::Displaced)));
    assert_eq!((core.counts().closing, core.counts().idle), (1, 0));
}

#[test]
fn who_cannot_be_served_leaves_the_others_in_the_queue() {
    let mut core =
        Pool::new(Limits { size: 1, max_overflow: 0, ..LIMITS }, 1, 1, Balance::LeastBusy);
    let Decision::Wait { connect: Some(right), .. } = checkout_of(&mut core, 1, 7) else {
        panic!()
    };
    assert!(matches!(checkout(&mut core, Instant::now()), Decision::Wait { connect: None, .. }));

    assert_eq!(core.take_waiters_of(&Sort(1)), [7]);
    core.abandon(right);

    let right = core.right_if_wanted().expect("the other waits");
    assert_eq!(right.kind(), None);
    core.abandon(right);
}

/// A pool of `size` with a server at each of `sites`, idle, by the numbers 0, 1, 2 …
fn at_sites(size: usize, count: usize, sites: &[usize]) -> Pool {
    let now = Instant::now();
    let limits = Limits { size, min: 0, max_overflow: 0, max_waiting: None };
    let mut core = Pool::new(limits, 1, count, Balance::LeastBusy);
    for (id, site) in (0..).zip(sites) {
        let mut only = vec![Standing::Shunned; count];
        only[*site] = Standing::Serves { weight: 1 };
        core.set_sites(&only);
        let Decision::Wait { ticket, connect: Some(right), .. } =
            core.checkout(Home(1), None, Some(&Sort(9)), now, || 0)
        else {
            panic!()
        };
        core.give_up(ticket);
        assert_eq!(right.site(), Site(*site));
        let label = Label { site: right.site(), ..plain(id) };
        assert!(matches!(core.opened(right, label, id, now), Given::Idle));
    }
    core.set_sites(&vec![Standing::Serves { weight: 1 }; count]);
    core
}

#[test]
fn what_is_idle_at_a_site_that_goes_out_is_closed_and_what_is_lent_when_it_comes_back() {
    let mut core = at_sites(3, 2, &[0, 0, 1]);
    let now = Instant::now();
    core.set_sites(&[Standing::Serves { weight: 1 }, Standing::Out]);
    let Decision::Lend(lent) = checkout(&mut core, now) else { panic!() };
    assert_eq!(lent, 1);

    let gone = core.set_sites(&[Standing::Out, Standing::Serves { weight: 1 }]);

    assert_eq!(gone, [0]);
    let label = plain(lent);
    let given = core.checkin(Place::Lent, label, lent, now);
    assert!(matches!(given, Given::Close(1, Surplus::SiteOut)));
    assert_eq!(core.counts_at(Site(0)), (0, 0));
}

#[test]
fn who_waits_while_no_site_serves_has_a_server_opened_when_one_does() {
    let mut core = at_sites(3, 2, &[]);
    core.set_sites(&[Standing::Out, Standing::Out]);
    let now = Instant::now();
    assert!(matches!(checkout(&mut core, now), Decision::Wait { connect: None, .. }));
    assert_eq!(core.right_if_wanted(), None);

    core.set_sites(&[Standing::Out, Standing::Serves { weight: 1 }]);

    let mut right = core.right_if_wanted().expect("one serves");
    assert_eq!(right.site(), Site(1));
    // It goes out again before the server is there.
    core.set_sites(&[Standing::Serves { weight: 1 }, Standing::Out]);
    assert!(core.settle(&mut right, false));
    assert_eq!(right.site(), Site(0));
    core.set_sites(&[Standing::Out, Standing::Out]);
    assert!(!core.settle(&mut right, false));
    core.abandon(right);
}

#[test]
fn a_site_that_comes_back_gets_its_share_one_server_at_a_time() {
    let mut core = at_sites(4, 2, &[0, 0, 0, 0]);
    let now = Instant::now();
    let Evened::Close(0) = core.even_out() else { panic!("the longest idle one is closed") };
    let right = core.closed();
    assert_eq!(right, None, "nobody waits");
    let Evened::Open(right) = core.even_out() else { panic!("there is room now") };
    assert_eq!(right.site(), Site(1));
    assert!(core.is_opening_wanted(&right));
    let label = Label { site: Site(1), ..plain(7) };
    assert!(matches!(core.opened(right, label, 7, now), Given::Idle));

    // All are at work: the next that comes back from where there are too many goes.
    let lent: Vec<_> = (0..4).map(|_| checkout(&mut core, now)).collect();
    assert!(lent.iter().all(|lent| matches!(lent, Decision::Lend(_))));
    assert!(matches!(core.even_out(), Evened::Even));
    assert!(matches!(
        core.checkin(Place::Lent, Label { site: Site(1), ..plain(7) }, 7, now),
        Given::Idle
    ));
    assert!(matches!(
        core.checkin(Place::Lent, plain(3), 3, now),
        Given::Close(3, Surplus::Uneven)
    ));
    assert!(matches!(core.checkin(Place::Lent, plain(2), 2, now), Given::Idle));
}

#[test]
fn a_limit_is_evened_out_within() {
    let mut core = at_sites(20, 2, &[0, 0, 0, 1]);
    core.set_limit(4);
    assert!(matches!(core.even_out(), Evened::Close(_)));
    assert_eq!((core.counts().closing, core.counts().opening), (1, 0));
}

#[test]
fn a_server_that_was_to_even_things_out_is_not_opened_elsewhere() {
    let mut core = at_sites(4, 2, &[0, 0]);
    let Evened::Open(mut right) = core.even_out() else { panic!() };
    assert!(!core.settle(&mut right, true));
    core.abandon(right);
    assert_eq!(core.counts_at(Site(1)), (0, 0));
}

/// Three servers, all lent, and two who wait.
fn three_lent() -> Pool {
    let now = Instant::now();
    let mut core = with_idle(&[(1, 0), (2, 0), (3, 0)]);
    (core.limits.min, core.limits.max_overflow) = (0, 0);
    for _ in 0..3 {
        assert!(matches!(checkout(&mut core, now), Decision::Lend(_)));
    }
    for waiter in [7, 8] {
        let decision = core.checkout(Home(0), None, None, now, || waiter);
        assert!(matches!(decision, Decision::Wait { connect: None, displaced: None, .. }));
    }
    core
}

#[test]
fn what_is_lent_beyond_a_limit_that_fell_stays_idle_when_it_comes_back() {
    let now = Instant::now();
    let mut core = three_lent();

    core.set_limit(1);

    assert!(core.next_step().is_none());
    assert!(matches!(core.checkin(Place::Lent, plain(1), 1, now), Given::Idle));
    assert!(matches!(core.checkin(Place::Lent, plain(2), 2, now), Given::Idle));
    assert!(matches!(core.checkin(Place::Lent, plain(3), 3, now), Given::HandTo(7, 3)));
    // As overflow is.
    let linger = Duration::from_secs(5);
    assert!(matches!(core.take_expired(now + linger, linger, None), Some((1, Expired::Overflow))));
}

#[test]
fn a_limit_that_rises_hands_out_what_is_idle_before_it_opens_more() {
    let now = Instant::now();
    let mut core = three_lent();
    core.set_limit(1);
    for id in [1, 2] {
        assert!(matches!(core.checkin(Place::Lent, plain(id), id, now), Given::Idle));
    }
    core.limits.max_overflow = 1;
    for waiter in [9, 10] {
        assert!(matches!(
            core.checkout(Home(0), None, None, now, || waiter),
            Decision::Wait { .. }
        ));
    }

    core.set_limit(4);

    assert!(matches!(core.next_step(), Some(Step::HandTo(7, 2))));
    assert!(matches!(core.next_step(), Some(Step::HandTo(8, 1))));
    let Some(Step::Open(right)) = core.next_step() else { panic!("there is room for one more") };
    assert!(core.next_step().is_none());
    core.abandon(right);
}

#[test]
fn a_lent_server_that_is_lost_makes_room_for_one_that_the_limit_kept_idle() {
    let now = Instant::now();
    let mut core = three_lent();
    core.set_limit(2);
    assert!(matches!(core.checkin(Place::Lent, plain(1), 1, now), Given::Idle));

    core.begin_close(Place::Lent, Site(0));

    assert!(matches!(core.next_step(), Some(Step::HandTo(7, 1))));
}

/// One waits for another kind, and those behind it for what there is.
#[test]
fn who_waits_for_another_kind_is_not_passed_over_and_over_under_a_limit() {
    let now = Instant::now();
    let mut core = three_lent();
    core.take_waiters();
    core.set_limit(2);
    assert!(matches!(core.checkin(Place::Lent, plain(1), 1, now), Given::Idle));
    assert!(matches!(checkout_of(&mut core, 1, 7), Decision::Wait { displaced: None, .. }));
    for waiter in [8, 9] {
        let decision = core.checkout(Home(0), None, None, now, || waiter);
        assert!(matches!(decision, Decision::Wait { .. }));
    }

    // It makes room for the first of them, whose place is kept while those behind it get the other.
    let given = core.checkin(Place::Lent, plain(2), 2, now);
    assert!(matches!(given, Given::Close(1, Surplus::Displaced)), "{given:?}");
    assert!(core.next_step().is_none());
    let given = core.checkin(Place::Lent, plain(3), 3, now);
    assert!(matches!(given, Given::HandTo(8, 3 | 2)), "{given:?}");
    let decision = core.checkout(Home(0), None, None, now, || 10);
    assert!(matches!(decision, Decision::Wait { .. }), "it may not have the place");
    let right = core.closed().expect("there is room for it");
    assert_eq!(right.kind(), Some(&Sort(1)));
    let label = Label { kind: Some(Sort(1)), ..plain(4) };
    assert!(matches!(core.opened(right, label, 4, now), Given::HandTo(7, 4)));
}

#[derive(Debug, Clone, Copy)]
enum Act {
    Checkout { home: usize, last: Option<u64>, wish: Option<u8> },
    Checkin(usize),
    Reset(usize),
    AsideBack(usize),
    Close(usize),
    Closed,
    OpenDone(usize),
    OpenFails(usize),
    Refused(u8),
    GiveUp(usize),
    Expire,
    TakeOver,
    Limit(usize),
}

fn acts() -> impl Strategy<Value = Act> {
    prop_oneof![
        6 => (0..3_usize, prop::option::of(0..20_u64), prop::option::of(0..3_u8))
            .prop_map(|(home, last, wish)| Act::Checkout { home, last, wish }),
        4 => any::<usize>().prop_map(Act::Checkin),
        1 => any::<usize>().prop_map(Act::Reset),
        1 => any::<usize>().prop_map(Act::AsideBack),
        1 => any::<usize>().prop_map(Act::Close),
        3 => Just(Act::Closed),
        4 => any::<usize>().prop_map(Act::OpenDone),
        1 => any::<usize>().prop_map(Act::OpenFails),
        1 => (0..3_u8).prop_map(Act::Refused),
        1 => any::<usize>().prop_map(Act::GiveUp),
        1 => Just(Act::Expire),
        1 => Just(Act::TakeOver),
        1 => (1..6_usize).prop_map(Act::Limit),
    ]
}

/// The same pool in plain lists.
#[derive(Debug, Default)]
struct Model {
    idle: Vec<u64>,
    lent: Vec<u64>,
    aside: Vec<u64>,
    closing: usize,
    waiting: Vec<(Ticket, u32, Option<Sort>)>,
    rights: Vec<Right<Sort>>,
    labels: std::collections::HashMap<u64, Label<Sort>>,
    next_server: u64,
    next_waiter: u32,
}

impl Model {
    fn total(&self) -> usize {
        self.idle.len() + self.lent.len() + self.aside.len() + self.rights.len() + self.closing
    }

    fn kind(&self, id: u64) -> Option<Sort> {
        self.labels[&id].kind
    }

    /// The waiters who have nothing on its way, with `places` coming free.
    fn without(&self, mut places: usize) -> Vec<usize> {
        let mut rights: Vec<_> = self.rights.iter().map(|right| right.kind().copied()).collect();
        let mut without = Vec::new();
        for (index, (_, _, wish)) in self.waiting.iter().enumerate() {
            if let Some(at) = rights.iter().position(|kind| kind == wish) {
                rights.remove(at);
            } else if places > 0 {
                places -= 1;
            } else {
                without.push(index);
            }
        }
        without
    }

    fn in_use(&self) -> usize {
        self.lent.len() + self.aside.len()
    }

    /// The waiter whose one of the idle servers is: the oldest whom one fits, if nobody older lacks one, and if
    /// there is a place besides those for what is on the way of the older ones.
    fn served(&self, limit: usize) -> Option<usize> {
        let is_fit = |wish: &Option<Sort>| self.idle.iter().any(|id| self.kind(*id) == *wish);
        let first = self.waiting.iter().position(|(_, _, wish)| is_fit(wish))?;
        let lacks = self.without(self.closing).into_iter().find(|index| *index < first);
        (lacks.is_none() && self.in_use() + first < limit).then_some(first)
    }

    /// Moves the waiter whose turn it is, and that server.
    fn hand_to(&mut self, waiter: u32, server: u64, limit: usize) {
        assert!(self.in_use() < limit, "more are in use than may be");
        let turn = self.served(limit).expect("it is nobody's turn");
        let (_, first, wish) = self.waiting.remove(turn);
        assert_eq!(first, waiter, "not the one whose turn it is");
        assert_eq!(self.kind(server), wish);
        self.idle.retain(|id| *id != server);
        self.lent.push(server);
    }

    /// The limit keeps others idle, or would keep this one.
    fn given_within(&mut self, server: u64, given: &Given<u64, u32>, limit: usize) {
        self.idle.push(server);
        match given {
            // It goes to who wishes for such a one, or to nobody.
            Given::HandTo(waiter, _) if self.kind(server) == Some(Sort(2)) => {
                assert!(self.in_use() < limit, "more are in use than may be");
                let fits = self.waiting.iter().position(|(_, _, wish)| *wish == Some(Sort(2)));
                assert_eq!(self.waiting.remove(fits.unwrap()).1, *waiter, "not the oldest");
                self.idle.pop();
                self.lent.push(server);
            }
            Given::HandTo(waiter, given) => self.hand_to(*waiter, *given, limit),
            Given::Close(given, _) => {
                let is_used_up = self.kind(server) == Some(Sort(2)) && *given == server;
                assert!(is_used_up || self.in_use() < limit, "closed for nothing");
                self.idle.retain(|id| id != given);
                self.closing += 1;
            }
            Given::Idle => assert_ne!(self.kind(server), Some(Sort(2))),
        }
    }

    fn given(&mut self, server: u64, given: &Given<u64, u32>, limit: usize) {
        let is_full = self.in_use() >= limit;
        let places = self.in_use() + self.rights.len() + self.closing;
        let is_within = !self.idle.is_empty() || places >= limit;
        if is_full || (is_within && !self.waiting.is_empty()) {
            return self.given_within(server, given, limit);
        }
        let kind = self.kind(server);
        let fits = self.waiting.iter().position(|(_, _, wish)| *wish == kind);
        let lacks = self.without(self.closing).first().copied();
        match given {
            Given::HandTo(waiter, given) => {
                assert_eq!(*given, server);
                let fits = fits.expect("it fits nobody");
                assert!(lacks.is_none_or(|older| older >= fits), "an older one has nothing");
                assert_eq!(self.waiting.remove(fits).1, *waiter, "not the oldest whom it fits");
                self.lent.push(server);
            }
            Given::Close(given, why) => {
                assert_eq!(*why, Surplus::Displaced);
                assert_eq!(*given, server);
                let makes_room = lacks.is_some_and(|older| fits.is_none_or(|fits| older < fits));
                let is_used_up = fits.is_none() && kind == Some(Sort(2));
                assert!(makes_room || is_used_up, "closed for nobody");
                self.closing += 1;
            }
            Given::Idle => {
                assert!(fits.is_none() && lacks.is_none(), "idle while someone waits");
                assert_ne!(kind, Some(Sort(2)));
                self.idle.push(server);
            }
        }
    }
}

fn pick<T>(list: &mut Vec<T>, n: usize) -> Option<T> {
    (!list.is_empty()).then(|| list.remove(n % list.len()))
}

fn step_checkout(
    core: &mut Pool,
    model: &mut Model,
    (home, last, wish): (usize, Option<u64>, Option<Sort>),
    now: Instant,
) {
    model.next_waiter += 1;
    let waiter = model.next_waiter;
    let of_kind = |model: &Model, id: &u64| model.kind(*id) == wish;
    match core.checkout(Home(home), last.map(ServerId), wish.as_ref(), now, || waiter) {
        Decision::Lend(server) => {
            let kept = model.in_use() + model.waiting.len();
            assert!(kept < core.limit(), "more are in use than may be, with those on their way");
            assert_eq!(model.kind(server), wish, "it does not fit");
            let wanted = last.filter(|id| model.idle.contains(id) && model.kind(*id).is_none());
            let wanted = wanted.filter(|_| wish.is_none());
            assert!(wanted.is_none_or(|id| id == server), "not the session's last");
            let is_at_home = |id: &u64| model.labels[id].home == Home(home);
            let at_home = model.idle.iter().any(|id| of_kind(model, id) && is_at_home(id));
            assert!(wanted.is_some() || !at_home || is_at_home(&server), "not one at home");
            model.idle.retain(|id| *id != server);
            model.lent.push(server);
        }
        Decision::Wait { ticket, connect, displaced } => {
            let is_full = model.in_use() + model.waiting.len() >= core.limit();
            let fits = model.idle.iter().any(|id| of_kind(model, id));
            assert!(is_full || !fits, "one that fits is idle");
            model.waiting.push((ticket, waiter, wish));
            model.rights.extend(connect);
            if let Some(server) = displaced {
                assert_eq!(server, model.idle.remove(0), "not the longest idle");
                assert!(!model.without(model.closing).is_empty(), "nobody needs its place");
                model.closing += 1;
            }
        }
        Decision::QueueFull => assert!(model.waiting.len() >= 5),
    }
}

/// Does what there is to do after a change that gave back no server.
fn go_on(core: &mut Pool, model: &mut Model) {
    while let Some(step) = core.next_step() {
        match step {
            Step::HandTo(waiter, server) => model.hand_to(waiter, server, core.limit()),
            Step::Open(right) => model.rights.push(right),
            Step::Close(server) => {
                assert_eq!(server, model.idle.remove(0), "not the longest idle");
                assert!(!model.without(model.closing).is_empty(), "nobody needs its place");
                model.closing += 1;
            }
        }
    }
}

/// What is closed or given up leaves room, under a limit.
fn go_on_if_limited(core: &mut Pool, model: &mut Model) {
    if core.limit() < core.limits.most() {
        go_on(core, model);
    }
}

#[expect(clippy::too_many_lines, reason = "one arm for each act")]
fn step(core: &mut Pool, model: &mut Model, act: Act, now: Instant) {
    match act {
        Act::Checkout { home, last, wish } => {
            step_checkout(core, model, (home, last, wish.map(Sort)), now);
        }
        Act::Checkin(n) => {
            if let Some(id) = pick(&mut model.lent, n) {
                let given = core.checkin(Place::Lent, model.labels[&id].clone(), id, now);
                model.given(id, &given, core.limit());
            }
        }
        Act::Reset(n) => {
            if let Some(id) = pick(&mut model.lent, n) {
                core.put_aside(Site(0));
                model.aside.push(id);
            }
        }
        Act::AsideBack(n) => {
            if let Some(id) = pick(&mut model.aside, n) {
                let given = core.checkin(Place::Aside, model.labels[&id].clone(), id, now);
                model.given(id, &given, core.limit());
            }
        }
        Act::Close(n) => {
            if pick(&mut model.lent, n).is_some() {
                core.begin_close(Place::Lent, Site(0));
                model.closing += 1;
                go_on(core, model);
            } else if pick(&mut model.aside, n).is_some() {
                core.begin_close(Place::Aside, Site(0));
                model.closing += 1;
                go_on(core, model);
            }
        }
        Act::Closed => {
            if model.closing > 0 {
                model.closing -= 1;
                model.rights.extend(core.closed());
            }
        }
        Act::OpenDone(n) => {
            if let Some(right) = pick(&mut model.rights, n) {
                model.next_server += 1;
                let id = model.next_server;
                let kind = right.kind().copied();
                let label = Label { id: ServerId(id), home: Home(n % 3), site: right.site(), kind };
                model.labels.insert(id, label.clone());
                let given = core.opened(right, label, id, now);
                model.given(id, &given, core.limit());
            }
        }
        Act::OpenFails(n) => {
            if let Some(right) = pick(&mut model.rights, n) {
                core.abandon(right);
                model.rights.extend(core.right_if_wanted());
            }
        }
        Act::Refused(sort) => {
            let sort = Sort(sort);
            let told = core.take_waiters_of(&sort);
            let (theirs, others) =
                std::mem::take(&mut model.waiting).into_iter().partition(|w| w.2 == Some(sort));
            model.waiting = others;
            let theirs: Vec<(Ticket, u32, Option<Sort>)> = theirs;
            assert_eq!(told, theirs.iter().map(|w| w.1).collect::<Vec<_>>());
        }
        Act::GiveUp(n) => {
            if let Some((ticket, waiter, _)) = pick(&mut model.waiting, n) {
                assert_eq!(core.give_up(ticket), Some(waiter));
            }
        }
        Act::Expire => {
            let hour = Duration::from_secs(3600);
            if let Some((id, _)) = core.take_expired(now + hour, hour, Some(hour)) {
                assert_eq!(id, model.idle.remove(0), "not the longest idle");
                model.closing += 1;
            }
        }
        Act::Limit(limit) => {
            core.set_limit(limit);
            go_on(core, model);
        }
        Act::TakeOver => {
            if let Some(id) = core.take_longest_idle(|_| true) {
                assert_eq!(id, model.idle.remove(0), "not the longest idle");
                model.closing += 1;
            }
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]
    /// Whatever happens in whatever order: every server is in one place, limits hold, what comes
    /// free goes to the oldest whom it fits or makes room for an older one, and nobody is without
    /// anything on its way while a server is idle or a place is free.
    #[test]
    fn agrees_with_a_naive_model(
        acts in prop::collection::vec(acts(), 0..200),
        size in 1..4_usize, max_overflow in 0..3_usize, min in 0..2_usize, has_kinds: bool,
    ) {
        let limits = Limits { size, min: min.min(size), max_overflow, max_waiting: Some(5) };
        let mut core = Pool::new(limits, 3, 1, Balance::LeastBusy);
        let mut model = Model::default();
        let mut now = Instant::now();
        for act in acts {
            now += Duration::from_millis(1);
            let act = if let Act::Checkout { home, last, .. } = act && !has_kinds {
                Act::Checkout { home, last, wish: None }
            } else {
                act
            };
            step(&mut core, &mut model, act, now);
            go_on_if_limited(&mut core, &mut model);
            let counts = core.counts();
            prop_assert_eq!(counts.idle, model.idle.len());
            prop_assert_eq!(counts.lent, model.lent.len());
            prop_assert_eq!(counts.aside, model.aside.len());
            prop_assert_eq!(counts.closing, model.closing);
            prop_assert_eq!(counts.opening, model.rights.len());
            prop_assert_eq!(counts.waiting, model.waiting.len());
            prop_assert!(core.total() <= limits.most());
            prop_assert_eq!(core.total(), model.total());
            let idle_fits = |wish| model.idle.iter().any(|id| model.kind(*id) == wish);
            let is_unlimited = core.limit() == limits.most();
            prop_assert_eq!(model.served(core.limit()), None, "a waiter, and a server for it idle");
            let is_idle_for = |(_, _, wish): &(_, _, Option<Sort>)| idle_fits(*wish);
            prop_assert!(!is_unlimited || !model.waiting.iter().any(is_idle_for),
                "a waiter while a server that fits is idle");
            let is_all_open = core.total() == limits.most();
            let places = model.in_use() + counts.opening + counts.closing;
            if places < core.limit() && is_all_open && !model.without(model.closing).is_empty() {
                prop_assert!(model.idle.is_empty(), "an idle server could make room");
            }
            let is_limited = core.limit() < limits.most();
            let is_full = model.in_use() + counts.opening >= core.limit();
            // One that makes room is waited for, whether all that may be are open or not.
            let is_coming = is_limited && model.closing > 0;
            prop_assert!(model.without(0).is_empty() || is_all_open || is_full || is_coming,
                "a place is free, and nobody opens a server for the waiter");
            for right in &model.rights {
                let kind = right.kind();
                let of_kind = model.rights.iter().filter(|other| other.kind() == kind).count();
                let waiting = model.waiting.iter().filter(|w| w.2.as_ref() == kind).count();
                let for_min = kind.is_none() && core.total() - counts.closing <= limits.min;
                prop_assert_eq!(core.is_opening_wanted(right), of_kind <= waiting || for_min);
            }
        }
        for right in model.rights {
            core.abandon(right);
        }
    }
}
