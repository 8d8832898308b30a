//! A host as those see it who open connections to it: how many at once, and how often.

use std::sync::atomic::Ordering::{Acquire, Release};
use std::sync::atomic::{AtomicU8, AtomicU64};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, SystemTime};

use tokio::sync::{Notify, Semaphore};
use tokio::time::Instant;

use crate::runtime::backoff::Pace;
use crate::server::endpoint::{Endpoint, Whereabouts};
use crate::server::opening::Opening;

/// One host, shared by all pools that have servers there; or the place for one, where a name may lead to several.
#[derive(Debug)]
pub struct Host {
    pub endpoint: Arc<Endpoint>,
    presence: AtomicU8,
    /// Grows when the place is left: what was begun before then says nothing about who comes next.
    tenure: AtomicU64,
    /// Connections being opened at once. Served in order of arrival.
    gate: Semaphore,
    /// Those among them that their clients ask to be slow, which anybody may: nobody else waits
    /// behind one.
    slow_gate: Semaphore,
    /// Cancel requests being sent at once.
    pub cancel_gate: Semaphore,
    /// Rung when something went wrong there: whoever watches it looks at once.
    pub alert: Notify,
    /// Rung when it cannot be reached, or a primary is sought: its name may lead elsewhere by now. Shared by all hosts
    /// of the name.
    lost: Arc<Notify>,
    /// When it was last doubted that it is what it was taken for.
    doubted: Mutex<Option<Instant>>,
    trouble: Mutex<Trouble>,
}

/// Whether there is a host at a place.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Presence {
    /// None: its name has no more addresses than it has other places.
    Absent,
    Present,
    /// Its name does not lead here any more; what is under way here may end.
    Leaving,
    /// The same, and what is under way here is ended: the place is needed for another host.
    Evicted,
}

/// What went wrong since something last worked.
#[derive(Debug, Default)]
struct Trouble {
    pace: Pace,
    last: Option<(String, SystemTime)>,
    since: Option<SystemTime>,
}

/// The last thing that went wrong at a host, with nothing having worked since.
#[derive(Debug, Clone)]
pub struct LastTrouble {
    pub error: String,
    pub since: SystemTime,
}

/// The shortest time between two looks that clients cause.
const DOUBT_AGAIN: Duration = Duration::from_secs(1);

/// Cancel requests to a host at once. Each is a connection that PostgreSQL ends by itself.
const CANCELS_AT_ONCE: usize = 16;

impl Host {
    /// One that is there. `connects`: how many connections may be in the making at once, behind each gate. `lost`:
    /// rung when it cannot be reached.
    pub fn new(endpoint: Arc<Endpoint>, connects: usize, lost: Arc<Notify>) -> Self {
        Self {
            endpoint,
            presence: AtomicU8::new(Presence::Present as u8),
            tenure: AtomicU64::new(0),
            gate: Semaphore::new(connects.max(1)),
            slow_gate: Semaphore::new(connects.max(1)),
            cancel_gate: Semaphore::new(CANCELS_AT_ONCE),
            alert: Notify::new(),
            lost,
            doubted: Mutex::default(),
            trouble: Mutex::default(),
        }
    }

    pub fn presence(&self) -> Presence {
        let presence = self.presence.load(Acquire);
        if presence == Presence::Present as u8 {
            Presence::Present
        } else if presence == Presence::Leaving as u8 {
            Presence::Leaving
        } else if presence == Presence::Evicted as u8 {
            Presence::Evicted
        } else {
            Presence::Absent
        }
    }

    /// True if its name does not lead here any more, and something may be left here.
    pub fn is_leaving(&self) -> bool {
        matches!(self.presence(), Presence::Leaving | Presence::Evicted)
    }

    pub fn is_absent(&self) -> bool {
        self.presence() == Presence::Absent
    }

    pub fn set_presence(&self, presence: Presence) {
        self.presence.store(presence as u8, Release);
    }

    /// Makes the place free for another host, of which nothing is known.
    pub fn vacate(&self) {
        self.set_presence(Presence::Absent);
        self.tenure.fetch_add(1, Release);
        self.endpoint.be(Whereabouts::Unknown);
        self.endpoint.dialect.forget();
        *self.trouble() = Trouble::default();
    }

    /// Which of those it is who have been here one after the other.
    pub fn tenure(&self) -> u64 {
        self.tenure.load(Acquire)
    }

    /// Where a connection for `opening` waits for its turn to be opened.
    pub fn gate(&self, opening: Option<&Opening>) -> &Semaphore {
        if opening.is_some_and(Opening::delays) { &self.slow_gate } else { &self.gate }
    }

    /// Asks to try a connection. While the host is in trouble, one attempt at a time is let through
    /// and the others are told when to ask again.
    pub fn admit(&self, now: Instant) -> Result<(), Instant> {
        self.trouble().pace.admit(now)
    }

    /// A connection was opened, or would have been if there were room for one more.
    pub fn on_success(&self) {
        *self.trouble() = Trouble::default();
    }

    /// A connection could not be opened, at `now`.
    pub fn on_failure(&self, error: String, now: Instant) {
        let mut trouble = self.trouble();
        trouble.pace.on_failure(now);
        let at = SystemTime::now();
        trouble.since.get_or_insert(at);
        trouble.last = Some((error, at));
        drop(trouble);
        self.alert.notify_one();
        self.look_up();
    }

    /// Has its name looked up: it could not be reached, or a primary is sought.
    pub fn look_up(&self) {
        self.lost.notify_one();
    }

    /// Something that a client met with, as it may whenever it likes, lets doubt that the host is what it is taken
    /// for: it is looked at, but not each time.
    pub fn doubt(&self, now: Instant) {
        let mut doubted = self.doubted.lock().unwrap_or_else(PoisonError::into_inner);
        if doubted.is_some_and(|last| now.saturating_duration_since(last) < DOUBT_AGAIN) {
            return;
        }
        *doubted = Some(now);
        drop(doubted);
        self.alert.notify_one();
    }

    pub fn last_trouble(&self) -> Option<LastTrouble> {
        let trouble = self.trouble();
        let (error, at) = trouble.last.clone()?;
        Some(LastTrouble { error, since: trouble.since.unwrap_or(at) })
    }

    fn trouble(&self) -> std::sync::MutexGuard<'_, Trouble> {
        self.trouble.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::HostAddr;

    fn host() -> Host {
        let name = HostAddr::Tcp { host: "db".into(), port: 5432 };
        Host::new(Arc::new(Endpoint::new(name)), 4, Arc::default())
    }

    #[tokio::test(start_paused = true)]
    async fn a_host_in_trouble_is_tried_once_in_each_interval() {
        let host = host();
        let start = Instant::now();
        for _ in 0..4 {
            host.on_failure("refused".into(), start);
        }
        let next = host.admit(start).unwrap_err();
        assert!(next > start);

        assert_eq!(host.admit(next), Ok(()));
        assert!(host.admit(next).is_err());
    }

    #[test]
    fn one_success_ends_the_trouble() {
        let host = host();
        host.on_failure("refused".into(), Instant::now());
        assert!(host.last_trouble().is_some());
        host.on_success();
        assert!(host.last_trouble().is_none());
        assert_eq!(host.admit(Instant::now()), Ok(()));
    }
}
