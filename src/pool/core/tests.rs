//! The pool's core by hand, and against a naive model.

use proptest::prelude::*;

use super::*;

type Plain = Core<u64, u32>;

const LIMITS: Limits = Limits { size: 2, min: 0, max_overflow: 1, max_waiting: None };

fn open(core: &mut Plain, id: u64, home: usize, now: Instant) -> Given<u64, u32> {
    let right = core.right_if_wanted().expect("nobody wants a server");
    core.opened(right, ServerId(id), Home(home), id, now)
}

fn checkout(core: &mut Plain, now: Instant) -> Decision<u64> {
    core.checkout(Home(0), None, now, || 0)
}

/// A pool with `ids` idle, each opened at the home that is paired with it.
fn with_idle(ids: &[(u64, usize)]) -> Plain {
    let now = Instant::now();
    let limits = Limits { min: ids.len(), size: ids.len(), ..LIMITS };
    let mut core = Plain::new(limits, 2);
    for (id, home) in ids {
        assert!(matches!(open(&mut core, *id, *home, now), Given::Idle));
    }
    core
}

#[test]
fn the_sessions_last_server_comes_before_the_one_used_last() {
    let mut core = with_idle(&[(1, 0), (2, 0), (3, 1)]);
    let now = Instant::now();
    assert!(matches!(core.checkout(Home(0), Some(ServerId(1)), now, || 0), Decision::Lend(1)));
    assert!(matches!(core.checkout(Home(0), Some(ServerId(1)), now, || 0), Decision::Lend(2)));
    assert!(matches!(core.checkout(Home(0), Some(ServerId(1)), now, || 0), Decision::Lend(3)));
}

#[test]
fn the_queue_is_bounded_by_max_waiting() {
    let now = Instant::now();
    let mut core = Plain::new(Limits { max_waiting: Some(1), ..LIMITS }, 1);
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
    let mut core = Plain::new(Limits { size: 1, max_overflow: 0, ..LIMITS }, 1);
    let Decision::Wait { connect: Some(right), .. } = checkout(&mut core, now) else { panic!() };
    assert!(matches!(core.opened(right, ServerId(1), Home(0), 1, now), Given::HandTo(0, 1)));
    let Decision::Wait { connect: None, .. } = checkout(&mut core, now) else { panic!() };

    core.begin_close(Place::Lent);
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
    let mut core = Plain::new(LIMITS, 1);
    let mut tickets = Vec::new();
    let mut rights = Vec::new();
    for waiter in 0..3 {
        let Decision::Wait { ticket, connect } = core.checkout(Home(0), None, now, || waiter)
        else {
            panic!()
        };
        tickets.push(ticket);
        rights.extend(connect);
    }
    assert_eq!(core.give_up(tickets[0]), Some(0));
    assert_eq!(core.give_up(tickets[0]), None);
    assert_eq!(core.give_up(tickets[1]), Some(1));

    let given = core.opened(rights.pop().unwrap(), ServerId(1), Home(0), 1, now);

    assert!(matches!(given, Given::HandTo(2, 1)));
    assert!(!core.is_opening_wanted());
    for right in rights {
        core.abandon(right);
    }
}

#[derive(Debug, Clone, Copy)]
enum Act {
    Checkout { home: usize, last: Option<u64> },
    Checkin(usize),
    Reset(usize),
    AsideBack(usize),
    Close(usize),
    Closed,
    OpenDone(usize),
    OpenFails(usize),
    GiveUp(usize),
    Expire,
    TakeOver,
}

fn acts() -> impl Strategy<Value = Act> {
    prop_oneof![
        6 => (0..3_usize, prop::option::of(0..20_u64))
            .prop_map(|(home, last)| Act::Checkout { home, last }),
        4 => any::<usize>().prop_map(Act::Checkin),
        1 => any::<usize>().prop_map(Act::Reset),
        1 => any::<usize>().prop_map(Act::AsideBack),
        1 => any::<usize>().prop_map(Act::Close),
        2 => Just(Act::Closed),
        4 => any::<usize>().prop_map(Act::OpenDone),
        1 => any::<usize>().prop_map(Act::OpenFails),
        1 => any::<usize>().prop_map(Act::GiveUp),
        1 => Just(Act::Expire),
        1 => Just(Act::TakeOver),
    ]
}

/// The same pool in plain lists.
#[derive(Debug, Default)]
struct Model {
    idle: Vec<u64>,
    lent: Vec<u64>,
    aside: Vec<u64>,
    closing: usize,
    waiting: Vec<(Ticket, u32)>,
    rights: Vec<Right>,
    homes: std::collections::HashMap<u64, usize>,
    next_server: u64,
    next_waiter: u32,
}

impl Model {
    fn total(&self) -> usize {
        self.idle.len() + self.lent.len() + self.aside.len() + self.rights.len() + self.closing
    }

    fn given(&mut self, server: u64, given: &Given<u64, u32>) {
        match given {
            Given::HandTo(waiter, given) => {
                assert_eq!(*given, server);
                assert_eq!(self.waiting.remove(0).1, *waiter, "not the oldest waiter");
                self.lent.push(server);
            }
            Given::Idle => {
                assert!(self.waiting.is_empty(), "idle while someone waits");
                self.idle.push(server);
            }
        }
    }
}

fn pick<T>(list: &mut Vec<T>, n: usize) -> Option<T> {
    (!list.is_empty()).then(|| list.remove(n % list.len()))
}

#[expect(clippy::too_many_lines, reason = "one arm for each act")]
fn step(core: &mut Plain, model: &mut Model, act: Act, now: Instant) {
    match act {
        Act::Checkout { home, last } => {
            model.next_waiter += 1;
            let waiter = model.next_waiter;
            match core.checkout(Home(home), last.map(ServerId), now, || waiter) {
                Decision::Lend(server) => {
                    let wanted = last.filter(|id| model.idle.contains(id));
                    assert!(wanted.is_none_or(|id| id == server), "not the session's last");
                    let at_home = model.idle.iter().any(|id| model.homes[id] == home);
                    let is_at_home = model.homes[&server] == home;
                    assert!(wanted.is_some() || !at_home || is_at_home, "not one at home");
                    model.idle.retain(|id| *id != server);
                    model.lent.push(server);
                }
                Decision::Wait { ticket, connect } => {
                    assert!(model.idle.is_empty());
                    model.waiting.push((ticket, waiter));
                    model.rights.extend(connect);
                }
                Decision::QueueFull => assert!(model.waiting.len() >= 5),
            }
        }
        Act::Checkin(n) => {
            if let Some(id) = pick(&mut model.lent, n) {
                let home = Home(model.homes[&id]);
                let given = core.checkin(Place::Lent, ServerId(id), home, id, now);
                model.given(id, &given);
            }
        }
        Act::Reset(n) => {
            if let Some(id) = pick(&mut model.lent, n) {
                core.put_aside();
                model.aside.push(id);
            }
        }
        Act::AsideBack(n) => {
            if let Some(id) = pick(&mut model.aside, n) {
                let home = Home(model.homes[&id]);
                let given = core.checkin(Place::Aside, ServerId(id), home, id, now);
                model.given(id, &given);
            }
        }
        Act::Close(n) => {
            if pick(&mut model.lent, n).is_some() {
                core.begin_close(Place::Lent);
                model.closing += 1;
            } else if pick(&mut model.aside, n).is_some() {
                core.begin_close(Place::Aside);
                model.closing += 1;
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
                let home = n % 3;
                model.homes.insert(id, home);
                let given = core.opened(right, ServerId(id), Home(home), id, now);
                model.given(id, &given);
            }
        }
        Act::OpenFails(n) => {
            if let Some(right) = pick(&mut model.rights, n) {
                core.abandon(right);
                model.rights.extend(core.right_if_wanted());
            }
        }
        Act::GiveUp(n) => {
            if let Some((ticket, waiter)) = pick(&mut model.waiting, n) {
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
        Act::TakeOver => {
            if let Some(id) = core.take_longest_idle() {
                assert_eq!(id, model.idle.remove(0), "not the longest idle");
                model.closing += 1;
            }
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]
    /// Whatever happens in whatever order: every server is in one place, limits hold, waiters are
    /// served in order of arrival, and nobody waits while a server is idle or a place is free.
    #[test]
    fn agrees_with_a_naive_model(
        acts in prop::collection::vec(acts(), 0..200),
        size in 1..4_usize, max_overflow in 0..3_usize, min in 0..2_usize,
    ) {
        let limits = Limits { size, min: min.min(size), max_overflow, max_waiting: Some(5) };
        let mut core = Plain::new(limits, 3);
        let mut model = Model::default();
        let mut now = Instant::now();
        for act in acts {
            now += Duration::from_millis(1);
            step(&mut core, &mut model, act, now);
            let counts = core.counts();
            prop_assert_eq!(counts.idle, model.idle.len());
            prop_assert_eq!(counts.lent, model.lent.len());
            prop_assert_eq!(counts.aside, model.aside.len());
            prop_assert_eq!(counts.closing, model.closing);
            prop_assert_eq!(counts.opening, model.rights.len());
            prop_assert_eq!(counts.waiting, model.waiting.len());
            prop_assert!(core.total() <= limits.most());
            prop_assert_eq!(core.total(), model.total());
            if !model.waiting.is_empty() {
                prop_assert!(model.idle.is_empty(), "a waiter while a server is idle");
                let opening_enough = model.rights.len() >= model.waiting.len();
                prop_assert!(opening_enough || core.total() == limits.most(),
                    "a place is free, and nobody opens a server for the waiter");
            }
        }
        for right in model.rights {
            core.abandon(right);
        }
    }
}
