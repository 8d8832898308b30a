//! Clients that are asked at a rate, whatever comes back: who waits for a free one waits, and that counts
//! (no coordinated omission).

use std::collections::VecDeque;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::sync::Notify;
use tokio::time::Instant;

use crate::closed::{histogram, prepared_connection, print, record, request};
use crate::{Load, Target};

const WARM_UP: Duration = Duration::from_secs(1);

/// The requests that are due and not begun, the oldest first.
#[derive(Default)]
struct Board {
    due: Mutex<VecDeque<Instant>>,
    rung: Notify,
    is_over: AtomicBool,
}

impl Board {
    fn add(&self, due: Instant) {
        self.due.lock().unwrap_or_else(PoisonError::into_inner).push_back(due);
        self.rung.notify_one();
    }

    /// The next request; `None`: no more come.
    async fn next(&self) -> Option<Instant> {
        loop {
            let due = self.due.lock().unwrap_or_else(PoisonError::into_inner).pop_front();
            if due.is_some() {
                return due;
            }
            if self.is_over.load(Relaxed) {
                self.rung.notify_one();
                return None;
            }
            self.rung.notified().await;
        }
    }

    /// No more come.
    fn end(&self) {
        self.is_over.store(true, Relaxed);
        // Whoever hears of it passes it on.
        self.rung.notify_one();
    }
}

/// Runs the load, and prints its figures.
pub(crate) async fn run(target: &Target, load: &Load, rate: f64) -> anyhow::Result<()> {
    let board = Arc::new(Board::default());
    let mut connections = Vec::new();
    for _ in 0..load.clients {
        connections.push(prepared_connection(target, load).await?);
    }
    let begin = Instant::now() + WARM_UP;
    let mut clients = tokio::task::JoinSet::new();
    for mut connection in connections {
        let (board, request) = (Arc::clone(&board), request(load));
        clients.spawn_local(async move {
            let mut latencies = histogram();
            while let Some(due) = board.next().await {
                connection.ask(&request, 1).await?;
                if due >= begin {
                    record(&mut latencies, due.elapsed());
                }
            }
            connection.close().await?;
            anyhow::Ok(latencies)
        });
    }
    let (caller, end) = (Arc::clone(&board), begin + load.seconds());
    std::thread::spawn(move || call_at(rate, end, &caller));
    let mut all = histogram();
    while let Some(ended) = clients.join_next().await {
        all.add(ended??)?;
    }
    print(&all, load.seconds());
    Ok(())
}

/// Makes requests due at exponentially distributed distances. In a thread of its own, for a thread sleeps to
/// some 50 µs where tokio's timer does to a millisecond.
fn call_at(rate: f64, end: Instant, board: &Board) {
    let mut random = Random(0x2545_f491_4f6c_dd1d);
    let mut next = Instant::now();
    while next < end {
        loop {
            let left = next.saturating_duration_since(Instant::now());
            if left.is_zero() {
                break;
            }
            std::thread::park_timeout(left);
        }
        board.add(next);
        next += Duration::from_secs_f64(-random.unit().ln() / rate);
    }
    board.end();
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
