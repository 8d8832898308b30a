//! Waiting for places under shared caps, and giving them back.

use std::collections::HashMap;
use std::future::Future;
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};

use tokio::sync::oneshot;
use tokio::time::Instant;

use super::ledger::{Answer, CapId, Ledger, RequestId};

/// The caps of a process.
#[derive(Debug, Default)]
pub struct Caps {
    held: Mutex<Held>,
    /// Somebody waits: looked at without the lock on each checkin.
    is_awaited: AtomicBool,
}

#[derive(Debug, Default)]
struct Held {
    ledger: Ledger,
    waiting: HashMap<RequestId, (oneshot::Sender<Places>, Arc<[CapId]>)>,
}

/// Places under a set of caps; given back on drop.
#[derive(Debug)]
#[must_use = "dropping places gives them back"]
pub struct Places {
    caps: Arc<Caps>,
    under: Arc<[CapId]>,
}

/// A place in the queue, left on drop. A future of the places.
#[derive(Debug)]
pub struct PlacesWanted {
    caps: Arc<Caps>,
    id: RequestId,
    granted: oneshot::Receiver<Places>,
}

/// What asking for places leads to.
#[derive(Debug)]
pub enum Asked {
    Granted(Places),
    Queued(PlacesWanted),
}

impl Caps {
    /// Adds a cap of `limit` places.
    pub fn add(&self, limit: usize) -> CapId {
        self.held().ledger.add_cap(limit)
    }

    /// Asks for one place under each of `under`. `turn`: now, or later for one that yields to those who come
    /// until then.
    pub fn ask(self: &Arc<Self>, under: &Arc<[CapId]>, turn: Instant) -> Asked {
        let mut held = self.held();
        match held.ledger.request(under, turn) {
            Answer::Granted => Asked::Granted(self.places(under)),
            Answer::Queued(id) => {
                let (give, granted) = oneshot::channel();
                held.waiting.insert(id, (give, Arc::clone(under)));
                self.is_awaited.store(true, Relaxed);
                drop(held);
                Asked::Queued(PlacesWanted { caps: Arc::clone(self), id, granted })
            }
        }
    }

    /// True if a place under some cap is waited for.
    pub fn is_awaited(&self) -> bool {
        self.is_awaited.load(Relaxed)
    }

    /// Whose turn is first of those who wait: since when it is that, and the caps that it lacks a place under.
    pub fn first_awaited(&self) -> Option<(Instant, Vec<CapId>)> {
        let held = self.held();
        Some((held.ledger.first_turn()?, held.ledger.first_blocked()?))
    }

    /// Places taken, and the limit.
    pub fn usage(&self, cap: CapId) -> (usize, usize) {
        self.held().ledger.usage(cap)
    }

    fn places(self: &Arc<Self>, under: &Arc<[CapId]>) -> Places {
        Places { caps: Arc::clone(self), under: Arc::clone(under) }
    }

    /// Lets `change` free places, and hands them to those whose turn it is.
    fn free(self: &Arc<Self>, change: impl FnOnce(&mut Ledger) -> Vec<RequestId>) {
        let mut held = self.held();
        let granted = change(&mut held.ledger);
        let gifts: Vec<_> = granted.iter().filter_map(|id| held.waiting.remove(id)).collect();
        self.is_awaited.store(held.ledger.waiting() > 0, Relaxed);
        drop(held);
        for (give, under) in gifts {
            // One that nobody waits for any more is dropped here, which gives its places back.
            drop(give.send(self.places(&under)));
        }
    }

    fn held(&self) -> std::sync::MutexGuard<'_, Held> {
        self.held.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Places {
    fn drop(&mut self) {
        self.caps.free(|ledger| ledger.release(&self.under));
    }
}

impl Future for PlacesWanted {
    type Output = Option<Places>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Places>> {
        Pin::new(&mut self.granted).poll(cx).map(Result::ok)
    }
}

impl Drop for PlacesWanted {
    fn drop(&mut self) {
        // Places that were granted already are in the channel, and are dropped with it.
        self.caps.free(|ledger| ledger.withdraw(self.id).unwrap_or_default());
        self.caps.held().waiting.remove(&self.id);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_place_goes_to_the_oldest_who_still_waits() {
        let caps = Arc::new(Caps::default());
        let under: Arc<[CapId]> = [caps.add(1)].into();
        let now = Instant::now();
        let Asked::Granted(first) = caps.ask(&under, now) else { panic!() };
        let Asked::Queued(gone) = caps.ask(&under, now) else { panic!() };
        let Asked::Queued(stays) = caps.ask(&under, now) else { panic!() };
        drop(gone);

        drop(first);

        let places = stays.await.expect("granted");
        assert!(!caps.is_awaited());
        assert_eq!(caps.usage(under[0]), (1, 1));
        drop(places);
        assert_eq!(caps.usage(under[0]), (0, 1));
    }

    #[tokio::test]
    async fn places_granted_to_one_who_left_come_back() {
        let caps = Arc::new(Caps::default());
        let under: Arc<[CapId]> = [caps.add(1)].into();
        let Asked::Granted(first) = caps.ask(&under, Instant::now()) else { panic!() };
        let Asked::Queued(second) = caps.ask(&under, Instant::now()) else { panic!() };
        drop(first);
        assert_eq!(caps.usage(under[0]), (1, 1));

        drop(second);

        assert_eq!(caps.usage(under[0]), (0, 1));
    }
}
