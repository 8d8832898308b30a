//! Lending a server and taking it back, as far as that is decided: no socket; and several who do it at once.

use std::hint::{black_box, spin_loop};
use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering::{Acquire, Release};
use std::sync::{Barrier, Mutex};
use std::thread;
use std::time::Duration;

use criterion::{BenchmarkId, Criterion};
use pgweir::pool::core::{
    Balance, Core, Decision, Given, Home, Kind, Label, Limits, Place, ServerId, Site,
};
use tokio::time::Instant;

/// Pools of servers that are all plain.
#[derive(Debug, Clone, PartialEq, Eq)]
enum NoKind {}

impl Kind for NoKind {
    fn may_idle(&self) -> bool {
        match *self {}
    }
}

type Pool = Core<ServerId, u64, NoKind>;

pub(crate) fn bench(criterion: &mut Criterion) {
    let now = Instant::now();
    let mut group = criterion.benchmark_group("checkout and checkin of an idle server");
    for size in [1, 20, 1000] {
        let mut pool = full(size, now);
        group.bench_function(BenchmarkId::new("its last, of", size), |bencher| {
            bencher.iter(|| lend_and_return(&mut pool, Some(ServerId(0)), now));
        });
        group.bench_function(BenchmarkId::new("any, of", size), |bencher| {
            bencher.iter(|| lend_and_return(&mut pool, None, now));
        });
    }
    group.finish();

    let mut group = criterion.benchmark_group("checkin to the oldest waiter, checkout behind");
    for waiting in [1, 100, 10_000] {
        let mut pool = full(1, now);
        let server = lend(&mut pool, None, now);
        for _ in 1..waiting {
            wait(&mut pool, now);
        }
        group.bench_function(BenchmarkId::from_parameter(waiting), |bencher| {
            bencher.iter(|| {
                wait(&mut pool, now);
                match pool.checkin(Place::Lent, label(server), black_box(server), now) {
                    Given::HandTo(waiter, _) => waiter,
                    Given::Idle | Given::Close(..) => panic!("nobody waited"),
                }
            });
        });
    }
    group.finish();

    let mut group = criterion.benchmark_group("checkout and checkin under the pool's lock");
    for workers in [1, 2] {
        group.bench_function(BenchmarkId::new("workers at once", workers), |bencher| {
            bencher.iter_custom(|times| all_at_once(workers, times, now));
        });
    }
    group.bench_function("two workers in turn", |bencher| {
        bencher.iter_custom(|times| in_turn(times, now));
    });
    group.finish();
}

/// Has each of several workers lend a server and return it `times` times, as fast as they can: how long the lock
/// takes for `times` of all of theirs. They do nothing beside it.
fn all_at_once(workers: usize, times: u64, now: Instant) -> Duration {
    let pool = Mutex::new(full(20, now));
    let lent = by_workers(workers, |worker| {
        let mut last = None;
        for _ in 0..times {
            last = Some(lend_locked(&pool, worker, last, now));
        }
    });
    lent / u32::try_from(workers).unwrap_or(u32::MAX)
}

/// The same by two of whom each waits for the other, so that the pool is always in the other core's cache: what
/// each of very many workers would find. Waiting for one's turn is a part of it.
fn in_turn(times: u64, now: Instant) -> Duration {
    let pool = Mutex::new(full(20, now));
    let turn = AtomicU64::new(0);
    by_workers(2, |worker| {
        let mut last = None;
        for number in (0..times).filter(|number| number % 2 == worker as u64) {
            while turn.load(Acquire) < number {
                spin_loop();
            }
            last = Some(lend_locked(&pool, worker, last, now));
            turn.store(number + 1, Release);
        }
    })
}

/// How long so many workers take, each on a thread of its own, who begin together.
fn by_workers(workers: usize, work: impl Fn(usize) + Sync) -> Duration {
    let ready = Barrier::new(workers);
    let began = thread::scope(|scope| {
        let begin = |worker| {
            let (work, ready) = (&work, &ready);
            scope.spawn(move || {
                ready.wait();
                let began = Instant::now();
                work(worker);
                began
            })
        };
        let threads: Vec<_> = (0..workers).map(begin).collect();
        threads.into_iter().map(|thread| thread.join().unwrap()).min()
    });
    began.unwrap().elapsed()
}

/// As a session does: the lock is taken twice.
fn lend_locked(
    pool: &Mutex<Pool>,
    worker: usize,
    last: Option<ServerId>,
    now: Instant,
) -> ServerId {
    let server = lend_at(&mut pool.lock().unwrap(), Home(worker), last, now);
    give_back(&mut pool.lock().unwrap(), server, now);
    server
}

/// A pool of `size` servers, all idle.
fn full(size: usize, now: Instant) -> Pool {
    let limits = Limits { size, min: size, max_overflow: 0, max_waiting: None };
    let mut pool = Pool::new(limits, 2, 1, Balance::LeastBusy);
    let mut next = 0;
    while let Some(right) = pool.right_if_wanted() {
        let server = ServerId(next);
        let Given::Idle = pool.opened(right, label(server), server, now) else {
            panic!("somebody waited")
        };
        next += 1;
    }
    pool
}

const fn label(server: ServerId) -> Label<NoKind> {
    Label { id: server, home: Home(0), site: Site(0), kind: None }
}

fn lend(pool: &mut Pool, last: Option<ServerId>, now: Instant) -> ServerId {
    lend_at(pool, Home(0), last, now)
}

fn lend_at(pool: &mut Pool, home: Home, last: Option<ServerId>, now: Instant) -> ServerId {
    match pool.checkout(home, black_box(last), None, now, || 0) {
        Decision::Lend(server) => server,
        Decision::Wait { .. } | Decision::QueueFull => panic!("no server was idle"),
    }
}

fn lend_and_return(pool: &mut Pool, last: Option<ServerId>, now: Instant) {
    let server = lend(pool, last, now);
    give_back(pool, server, now);
}

fn give_back(pool: &mut Pool, server: ServerId, now: Instant) {
    let Given::Idle = pool.checkin(Place::Lent, label(server), server, now) else {
        panic!("somebody waited")
    };
}

fn wait(pool: &mut Pool, now: Instant) {
    let Decision::Wait { connect: None, .. } = pool.checkout(Home(0), None, None, now, || 0) else {
        panic!("a server was idle, or room for one")
    };
}
