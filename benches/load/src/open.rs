//! Clients that are asked at a rate, whatever comes back: who waits for a free one waits, and that counts
//! (no coordinated omission).

use std::cell::RefCell;
use std::collections::VecDeque;
use std::rc::Rc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use anyhow::Context;
use tokio::sync::Notify;
use tokio::task::JoinSet;
use tokio::time::Instant;

use crate::clients::{Company, Requests, announce, connect, measured_time};
use crate::figures::{histogram, json, record};
use crate::{Load, Target};

/// The requests that are due and not begun, the oldest first.
#[derive(Default)]
struct Board {
    due: Mutex<VecDeque<Instant>>,
    rung: Notify,
    is_over: AtomicBool,
}

impl Board {
    fn due(&self) -> MutexGuard<'_, VecDeque<Instant>> {
        self.due.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn add(&self, due: Instant) {
        self.due().push_back(due);
        self.rung.notify_one();
    }

    /// The next request; `None`: the time is over, whatever is left.
    async fn next(&self) -> Option<Instant> {
        loop {
            if self.is_over.load(Relaxed) {
                // Whoever hears of it passes it on.
                self.rung.notify_one();
                return None;
            }
            let due = self.due().pop_front();
            if due.is_some() {
                return due;
            }
            self.rung.notified().await;
        }
    }

    fn end(&self) {
        self.is_over.store(true, Relaxed);
        self.rung.notify_one();
    }
}

/// Runs the load, and prints its figures.
pub(crate) async fn run(target: &Target, load: &Load, rate: f64) -> anyhow::Result<()> {
    sleep_precisely()?;
    let board = Arc::new(Board::default());
    let mut company = Company::join(target, load).await?;
    let connections = connect(target, load).await?;
    let (begin, end) = measured_time(load);
    let announced = tokio::task::spawn_local(announce(begin, end));
    let latencies = Rc::new(RefCell::new(histogram()));
    let mut clients = JoinSet::new();
    for (mut connection, mut requests) in connections.into_iter().zip(Requests::of(load)) {
        let (board, latencies) = (Arc::clone(&board), Rc::clone(&latencies));
        clients.spawn_local(async move {
            while let Some(due) = board.next().await {
                connection.ask(requests.next(), 1).await?;
                let answered = Instant::now();
                if (begin..end).contains(&answered) {
                    record(&mut latencies.borrow_mut(), answered - due);
                }
            }
            connection.close().await
        });
    }
    let caller = Arc::clone(&board);
    std::thread::spawn(move || call_at(rate, end, &caller));
    while let Some(ended) = clients.join_next().await {
        ended??;
    }
    announced.await?;
    company.check()?;
    // What nobody came to begin: the rate was more than is borne.
    let left_over = board.due().len() as f64;
    println!(
        "{}",
        json(
            &latencies.borrow(),
            load.seconds(),
            &[("asked_per_second", rate), ("left_over", left_over)]
        )
    );
    Ok(())
}

/// Lets threads that are started from now on wake up when they wanted to, and not up to 50 µs later as the
/// kernel has it. A caller that spun instead would take a core from those that are measured.
fn sleep_precisely() -> anyhow::Result<()> {
    std::fs::write("/proc/self/timerslack_ns", "1").context("cannot ask for a precise timer")
}

/// Makes requests due at exponentially distributed distances. In a thread of its own, for a thread sleeps to
/// some microseconds where tokio's timer does to a millisecond.
fn call_at(rate: f64, end: Instant, board: &Board) {
    let mut random = Random(0x2545_f491_4f6c_dd1d);
    let mut next = Instant::now();
    while next < end {
        wait_until(next);
        board.add(next);
        next += Duration::from_secs_f64(-random.unit().ln() / rate);
    }
    wait_until(end);
    board.end();
}

fn wait_until(at: Instant) {
    loop {
        let left = at.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return;
        }
        std::thread::park_timeout(left);
    }
}

/// Xorshift: the same load each time.
struct Random(u64);

impl Random {
    /// A number above 0 and up to 1.
    fn unit(&mut self) -> f64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        ((self.0 >> 11) as f64 + 1.0) / (1_u64 << 53) as f64
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn distances_have_the_mean_that_was_asked_for() {
        let mut random = Random(1);

        let sum: f64 = (0..100_000).map(|_| -random.unit().ln()).sum();

        assert!((0.98..1.02).contains(&(sum / 100_000.0)), "{sum}");
    }
}
