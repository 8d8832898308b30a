//! The limiter in front of simulated servers.

use proptest::prelude::*;

use super::*;

/// How often the pool looks.
const TICK: Duration = Duration::from_millis(500);

/// Steps of the simulation, in seconds.
const STEP: f64 = 0.005;

/// Who asks for servers.
#[derive(Debug, Clone, Copy)]
enum Clients {
    /// So many, each with its next request as soon as it has an answer.
    Closed(usize),
    /// So many that rest for a while in between, in seconds.
    Thinking(usize, f64),
    /// Requests that come at a rate by the second, whatever becomes of them.
    Open(f64),
}

/// What PostgreSQL does with so many servers in use, in transactions by the second.
type Curve = Box<dyn Fn(f64) -> f64>;

/// It grows up to `knee` servers, by 250 each, and stays there.
fn knee(knee: usize) -> Curve {
    Box::new(move |n| 250.0 * n.min(count(knee)))
}

/// The universal scalability law: what is done one after the other, and what each costs each.
fn scalability(serial: f64, crosstalk: f64) -> Curve {
    Box::new(move |n| 250.0 * n / (1.0 + serial * (n - 1.0) + crosstalk * n * (n - 1.0)))
}

/// A pool, its clients and its servers.
struct World {
    limiter: Limiter,
    clients: Clients,
    curve: Curve,
    /// By how much each window may be off, either way.
    noise: f64,
    /// Servers that idle clients hold for ever.
    held: usize,
    now: Instant,
    reading: Reading,
    /// Clients in hand.
    present: usize,
    /// Fractions that are carried over.
    held_for: f64,
    waited_for: f64,
    random: u64,
    /// The limit in force and the transactions, tick by tick.
    limits: Vec<usize>,
    work: Vec<usize>,
}

impl World {
    fn new((limit, least, most): (usize, usize, usize), clients: Clients, curve: Curve) -> Self {
        let now = Instant::now();
        Self {
            limiter: Limiter::new(limit, least, most, now),
            clients,
            curve,
            noise: 0.0,
            held: 0,
            now,
            reading: Reading::default(),
            present: 0,
            held_for: 0.0,
            waited_for: 0.0,
            random: 0x2545_F491_4F6C_DD1D,
            limits: Vec::new(),
            work: Vec::new(),
        }
    }

    fn noisy(mut self, noise: f64, seed: u64) -> Self {
        self.noise = noise;
        self.random ^= seed.wrapping_mul(0x9E37_79B9_7F4A_7C15);
        self
    }

    /// From 0 to 1.
    fn random(&mut self) -> f64 {
        self.random ^= self.random << 13;
        self.random ^= self.random >> 7;
        self.random ^= self.random << 17;
        f64::from(u32::try_from(self.random >> 32).unwrap()) / f64::from(u32::MAX)
    }

    /// How many of what happens `mean` times on average.
    fn poisson(&mut self, mean: f64) -> usize {
        let (mut times, mut product, end) = (0, self.random(), (-mean).exp());
        while product > end {
            times += 1;
            product *= self.random();
        }
        times
    }

    /// The hosts are out for so long, and nobody is served.
    fn outage(&mut self, seconds: usize) {
        let curve = std::mem::replace(&mut self.curve, Box::new(|_| 0.0));
        for _ in 0..seconds * 200 {
            self.step(1.0);
        }
        self.now += Duration::from_secs(seconds as u64);
        self.limiter.disturb(self.now);
        self.curve = curve;
    }

    fn run(&mut self, seconds: usize) {
        for _ in 0..seconds * 2 {
            let before = self.reading.work.transactions;
            let speed = 1.0 + self.noise * (2.0 * self.random() - 1.0);
            for _ in 0..100 {
                self.step(speed);
            }
            self.now += TICK;
            self.limiter.look(self.now, self.reading);
            self.limits.push(self.limiter.in_force());
            self.work.push(usize::try_from(self.reading.work.transactions - before).unwrap());
        }
    }

    fn step(&mut self, speed: f64) {
        let arriving = match self.clients {
            Clients::Closed(all) => all.saturating_sub(self.present),
            Clients::Thinking(all, pause) => {
                self.poisson(count(all.saturating_sub(self.present)) / pause * STEP)
            }
            Clients::Open(rate) => self.poisson(rate * STEP),
        };
        self.present += arriving;
        let limit = self.limiter.in_force();
        let held = self.held.min(limit);
        let working = (limit - held).min(self.present);
        let done = if working == 0 { 0.0 } else { (self.curve)(count(working)) };
        let done = self.poisson(done * speed * STEP).min(self.present);
        self.held_for += count(working) * STEP * 1e6;
        self.waited_for += count(self.present - working) * STEP * 1e6;
        self.present -= done;
        if let Clients::Closed(all) = self.clients {
            self.present = self.present.min(all);
        }
        self.reading.work.transactions += done as u64;
        self.reading.work.checkouts += done as u64;
        self.reading.work.held_micros = whole(self.held_for) as u64;
        self.reading.work.waited_micros = whole(self.waited_for) as u64;
        self.reading.in_use = held + working;
        self.reading.resting = held;
        self.reading.waiting = match self.clients {
            Clients::Closed(all) => all - working.min(all),
            Clients::Thinking(..) | Clients::Open(_) => self.present.saturating_sub(working),
        };
    }

    /// The median limit in force over the last `seconds`.
    fn ended_at(&self, seconds: usize) -> usize {
        let mut last = self.limits[self.limits.len() - 2 * seconds..].to_vec();
        last.sort_unstable();
        last[last.len() / 2]
    }

    /// Transactions by the second over the last `seconds`.
    fn rate(&self, seconds: usize) -> f64 {
        let last = &self.work[self.work.len() - 2 * seconds..];
        count(last.iter().sum::<usize>()) / count(seconds)
    }

    /// The least and the most in force over the last `seconds`.
    fn swing(&self, seconds: usize) -> (usize, usize) {
        let last = &self.limits[self.limits.len() - 2 * seconds..];
        (*last.iter().min().unwrap(), *last.iter().max().unwrap())
    }
}

/// What a fixed size would do at best, and the smallest that does 97 % of it.
fn best(curve: &Curve, most: usize) -> (f64, usize) {
    let rates: Vec<_> = (1..=most).map(|n| curve(count(n))).collect();
    let best = rates.iter().copied().fold(0.0, f64::max);
    (best, 1 + rates.iter().position(|rate| *rate >= best * 0.97).unwrap())
}

/// Ends where a sweep would: the rate within 20 % of the best, and the number within 20 % (or one) of the smallest
/// that gives it, where the curve has a knee.
#[test]
fn a_pool_under_load_ends_at_the_knee_wherever_it_begins() {
    for at in [1, 2, 3, 4, 6, 10, 16, 24] {
        for start in [1, 8, 32] {
            let mut world = World::new((start, 1, 32), Clients::Closed(64), knee(at));
            world.run(150);

            let (ended, rate) = (world.ended_at(30), world.rate(30) / (250.0 * count(at)));
            let off = ended.abs_diff(at);
            assert!(off <= (at / 5).max(1), "knee at {at}, from {start}: ended at {ended}");
            assert!(rate > 0.9, "knee at {at}, from {start}: {rate}");
        }
    }
}

#[test]
fn where_more_servers_bring_less_and_less_or_harm_it_ends_near_the_best() {
    for (serial, crosstalk) in [(0.1, 0.0), (0.05, 0.01), (0.2, 0.02), (0.02, 0.005)] {
        for start in [1, 8, 32] {
            let curve = scalability(serial, crosstalk);
            let (best, _) = best(&curve, 32);
            let mut world = World::new((start, 1, 32), Clients::Closed(64), curve);
            world.run(150);

            let rate = world.rate(30) / best;
            assert!(rate > 0.85, "{serial}, {crosstalk} from {start}: {rate}");
        }
    }
}

/// Windows are off by up to a fifth, either way. One seed in a few is unlucky; most are not.
#[test]
fn noise_does_not_keep_it_from_the_knee() {
    for at in [3, 4, 10] {
        for start in [1, 20] {
            let mut ends = Vec::new();
            for seed in 1..=9 {
                let world = World::new((start, 1, 32), Clients::Closed(64), knee(at));
                let mut world = world.noisy(0.2, seed);
                world.run(240);
                ends.push(world.ended_at(60));
                let rate = world.rate(60) / (250.0 * count(at));
                assert!(rate > 0.8, "knee at {at}, from {start}, seed {seed}: {rate}");
            }
            ends.sort_unstable();
            let median = ends[ends.len() / 2];
            assert!(median.abs_diff(at) <= (at / 5).max(1), "knee at {at}: {ends:?}");
        }
    }
}

/// Statements that wait (for the network, a lock, their own client in a block) leave the processor to others.
#[test]
fn servers_that_wait_are_worth_having_up_to_the_bound() {
    let mut world = World::new((4, 2, 30), Clients::Closed(100), knee(1000));
    world.run(20);
    assert_eq!((world.limiter.found(), world.ended_at(10)), (30, 30));
}

#[test]
fn once_found_it_stays_within_a_step() {
    let mut world = World::new((20, 1, 32), Clients::Closed(64), knee(4)).noisy(0.1, 7);
    world.run(120);
    let (mut found, mut at_rest, mut settled) = (Vec::new(), 0, 0);
    for _ in 0..240 {
        world.run(1);
        found.push(world.limiter.found());
        at_rest += usize::from(world.limiter.is_at_rest());
        settled += usize::from(world.limiter.is_settled());
    }
    assert!(found.iter().all(|found| (3..=5).contains(found)), "{found:?}");
    let (least, most) = world.swing(240);
    assert!(least >= 2 && most <= 8, "tried {least} to {most}");
    assert!(settled > 60, "it is known to have found something for {settled} of 240 s");
    assert!(at_rest > 80, "it tries all the time: at rest for {at_rest} of 240 s");
}

#[test]
fn a_pool_in_which_nobody_waits_keeps_its_limit() {
    for clients in [Clients::Closed(5), Clients::Thinking(8, 0.01), Clients::Open(300.0)] {
        let mut world = World::new((9, 1, 32), clients, knee(4)).noisy(0.2, 5);
        world.run(120);
        assert_eq!(world.swing(120), (9, 9), "{clients:?}");
    }
}

#[test]
fn a_step_of_load_is_followed_within_seconds() {
    let mut world = World::new((4, 1, 30), Clients::Thinking(20, 1.0), knee(24));
    world.run(60);
    assert_eq!(world.swing(60), (4, 4));
    assert!(!world.limiter.is_settled(), "nothing was tried");

    world.clients = Clients::Closed(100);
    world.run(10);

    assert!(world.limiter.in_force() >= 20, "{:?}", world.limits);
    // And the load goes again: what was found stays, for when it comes back.
    world.run(60);
    let found = world.limiter.found();
    world.clients = Clients::Thinking(20, 1.0);
    world.run(60);
    assert_eq!(world.swing(40), (found, found));
}

#[test]
fn requests_that_come_at_a_rate_do_not_pile_up() {
    for rate in [300.0, 500.0, 700.0, 900.0] {
        for start in [1, 2, 20] {
            let mut world = World::new((start, 1, 30), Clients::Open(rate), knee(4));
            world.run(120);
            let done = world.rate(60);
            assert!(done > rate * 0.97, "{rate} from {start}: {done}");
            assert!(
                count(world.present) < rate / 4.0,
                "{rate} from {start}: {} wait",
                world.present
            );
        }
    }
}

/// Clients that sit in a block hold all there is: the others must not wait for them.
#[test]
fn held_servers_do_not_stop_the_queue() {
    let mut world = World::new((6, 1, 30), Clients::Closed(20), knee(4));
    world.held = 6;
    world.run(5);
    assert!(world.work.last().is_some_and(|work| *work > 400), "{:?}", world.work);

    world.run(120);

    let (least, _) = world.swing(60);
    assert!(least > 6, "it went back to where nobody is served");
    assert!(world.rate(60) > 900.0, "{}", world.rate(60));
}

#[test]
fn where_all_there_may_be_are_held_the_limit_is_the_bound() {
    let mut world = World::new((2, 1, 30), Clients::Closed(50), knee(4));
    world.held = 100;
    world.run(20);
    assert_eq!(world.limiter.in_force(), 30);
}

#[test]
fn when_those_who_held_servers_have_gone_fewer_are_tried_again() {
    let mut world = World::new((6, 1, 30), Clients::Closed(20), knee(4));
    world.held = 6;
    world.run(60);
    assert!(world.limiter.found() > 8, "{:?}", world.limits);

    world.held = 0;
    world.run(150);

    assert!((3..=5).contains(&world.ended_at(30)), "{:?}", &world.limits[120..]);
}

/// A lock that everybody waits for: more servers would only wait for it as well, and be in each other's way when it
/// is released.
#[test]
fn a_stall_of_the_servers_themselves_does_not_multiply_them() {
    for before in 60..80 {
        let mut world = World::new((4, 1, 100), Clients::Closed(64), knee(4));
        world.run(before);
        world.curve = Box::new(|_| 0.0);
        world.run(20);
        let (_, most) = world.swing(20);
        assert!(most <= 8 && world.ended_at(15) <= 5, "{:?}", &world.limits[before * 2..]);

        world.curve = knee(4);
        world.run(60);
        assert!((3..=5).contains(&world.ended_at(20)), "{:?}", &world.limits[before * 2..]);
    }
}

/// What was found for short transactions is taken by long ones: as many are lent as in a pool that does not adapt.
#[test]
fn a_stall_brings_back_the_size_that_is_configured_and_no_more() {
    let mut world = World::new((8, 1, 30), Clients::Closed(20), knee(1));
    world.run(120);
    assert!(world.ended_at(30) <= 2, "{:?}", world.limits);

    world.curve = Box::new(|_| 0.0);
    world.run(10);

    assert_eq!(world.swing(5), (8, 8));
}

/// Whichever window an outage falls into.
#[test]
fn an_outage_decides_no_trial() {
    for before in 1..60 {
        let mut world = World::new((4, 1, 32), Clients::Closed(64), knee(4));
        world.run(before);
        let found = world.limiter.found();

        world.outage(8);

        assert!(world.limiter.is_at_rest());
        assert_eq!((world.limiter.found(), world.limiter.in_force()), (found, found));
        world.run(10);
        assert!((3..=6).contains(&world.limiter.found()), "{before}: {:?}", world.limits);
    }
}

#[test]
fn another_mix_of_statements_is_another_search() {
    let mut world = World::new((20, 1, 30), Clients::Closed(64), knee(4)).noisy(0.1, 3);
    world.run(200);
    let settled = world.limits.len();
    assert!(world.ended_at(20) <= 6, "{:?}", world.limits);

    world.curve = Box::new(|n| 60.0 * n.min(16.0));
    world.run(20);
    assert!(world.rate(5) > 60.0 * 16.0 * 0.8, "{:?}", &world.limits[settled..]);

    world.curve = knee(4);
    world.run(150);
    assert!(world.ended_at(20) <= 6, "{:?}", &world.limits[settled..]);
}

/// A few transactions by the second: windows are longer, and it ends in the same place.
#[test]
fn slow_transactions_take_longer_to_be_judged() {
    let slow = || -> Curve { Box::new(|n| 4.0 * n.min(6.0)) };
    let mut world = World::new((2, 1, 20), Clients::Closed(40), slow());
    world.run(900);
    let ended = world.ended_at(300);
    assert!((5..=9).contains(&ended), "{ended}: {:?}", world.limits);
    assert!(world.rate(300) > 20.0, "{}", world.rate(300));
}

proptest! {
    /// Whatever the counters say and whenever it looks, the limit is within its bounds.
    #[test]
    fn the_bounds_hold(
        bounds in (0..40_usize, 0..20_usize, 0..40_usize),
        looks in prop::collection::vec(
            (0..5_000_u64, 0..300_u64, 0..300_u64, 0..9_000_000_u64, 0..9_000_000_u64, 0..40_usize, 0..40_usize),
            0..200,
        ),
    ) {
        let (limit, least, most) = bounds;
        let mut now = Instant::now();
        let mut limiter = Limiter::new(limit, least, most, now);
        let mut reading = Reading::default();
        for (millis, checkouts, transactions, held, waited, in_use, waiting) in looks {
            now += Duration::from_millis(millis);
            reading.work.checkouts += checkouts;
            reading.work.transactions += transactions;
            reading.work.held_micros += held;
            reading.work.waited_micros += waited;
            (reading.in_use, reading.waiting) = (in_use, waiting);
            limiter.look(now, reading);
            let (lowest, highest) = (least.max(1), most.max(least).max(1));
            prop_assert!((lowest..=highest).contains(&limiter.in_force()));
            prop_assert!((lowest..=highest).contains(&limiter.found()));
        }
    }
}
