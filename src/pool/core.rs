//! Who gets which server: counts, idle lists, one queue → decisions. Pure: no await, no clock, no I/O.
//!
//! Invariants:
//! - A server is in exactly one place: being opened, idle, lent, aside (reset, tested, awaiting a
//!   cancel), or closing until PostgreSQL has let go of it. Their number never exceeds
//!   `size + max_overflow`.
//! - Nobody waits while a server is idle, and the oldest waiter is served first.
//! - Servers are opened one [`Right`] each, and there are never more rights than are wanted by
//!   waiters and by `min`.

use std::collections::VecDeque;
use std::time::Duration;

use hashlink::LinkedHashMap;
use tokio::time::Instant;

/// A server's number, unique in the process.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ServerId(pub u64);

/// The number of a worker: where a server's socket is polled.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Home(pub usize);

/// A place in the queue.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Ticket(u64);

/// The right to open one server. Its place is counted already.
#[derive(Debug, PartialEq, Eq)]
#[must_use = "a right that is neither used nor given back blocks a place for ever"]
pub struct Right(());

/// How many servers a pool may have.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    pub size: usize,
    pub min: usize,
    pub max_overflow: usize,
    /// `None`: no bound on the queue.
    pub max_waiting: Option<usize>,
}

impl Limits {
    /// The most servers at once.
    pub const fn most(&self) -> usize {
        self.size + self.max_overflow
    }
}

/// What a checkout leads to.
#[derive(Debug)]
pub enum Decision<S> {
    Lend(S),
    /// In the queue; `connect`: someone has to open a server as well.
    Wait {
        ticket: Ticket,
        connect: Option<Right>,
    },
    /// `max_waiting` are waiting already.
    QueueFull,
}

/// What becomes of a server that was given back or has been opened.
#[derive(Debug)]
pub enum Given<S, W> {
    /// It is the oldest waiter's.
    HandTo(W, S),
    Idle,
}

/// Where a server is that the pool does not hold itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Place {
    Lent,
    /// Being reset, tested, or held back for a cancel.
    Aside,
}

#[derive(Debug)]
struct Idle<S> {
    server: S,
    since: Instant,
}

/// The state of one pool.
#[derive(Debug)]
pub struct Core<S, W> {
    limits: Limits,
    /// Idle servers by home; in each the longest idle first.
    idle: Vec<LinkedHashMap<ServerId, Idle<S>, foldhash::fast::RandomState>>,
    idle_count: usize,
    opening: usize,
    lent: usize,
    aside: usize,
    closing: usize,
    queue: Queue<W>,
    closed: bool,
}

impl<S, W> Core<S, W> {
    /// A pool without servers, for `homes` workers.
    pub fn new(limits: Limits, homes: usize) -> Self {
        Self {
            limits,
            idle: (0..homes.max(1)).map(|_| LinkedHashMap::default()).collect(),
            idle_count: 0,
            opening: 0,
            lent: 0,
            aside: 0,
            closing: 0,
            queue: Queue::default(),
            closed: false,
        }
    }

    /// Lends a server: the one named by `last`, else the one used last among those at `home`, else
    /// the one used last anywhere else. Without one, `waiter` joins the queue.
    pub fn checkout(
        &mut self,
        home: Home,
        last: Option<ServerId>,
        now: Instant,
        waiter: impl FnOnce() -> W,
    ) -> Decision<S> {
        if let Some(server) = self.take_idle(home, last) {
            self.lent += 1;
            return Decision::Lend(server);
        }
        if self.limits.max_waiting.is_some_and(|most| self.queue.len() >= most) {
            return Decision::QueueFull;
        }
        let ticket = self.queue.push(waiter(), now);
        Decision::Wait { ticket, connect: self.right_if_wanted() }
    }

    fn take_idle(&mut self, home: Home, last: Option<ServerId>) -> Option<S> {
        if self.idle_count == 0 {
            return None;
        }
        let last = last.and_then(|id| self.idle.iter_mut().find_map(|idle| idle.remove(&id)));
        let found = last.or_else(|| {
            let at_home = self.idle.get_mut(home.0)?;
            at_home.pop_back().map(|(_, server)| server)
        });
        let found = found.or_else(|| {
            let newest = self.idle.iter_mut().filter(|idle| !idle.is_empty());
            let newest = newest.max_by_key(|idle| idle.back().map(|(_, s)| s.since));
            newest.and_then(|idle| idle.pop_back().map(|(_, s)| s))
        })?;
        self.idle_count -= 1;
        Some(found.server)
    }

    /// Takes a server back from `place`.
    pub fn checkin(
        &mut self,
        place: Place,
        id: ServerId,
        home: Home,
        server: S,
        now: Instant,
    ) -> Given<S, W> {
        self.leave(place);
        self.give(id, home, server, now)
    }

    /// Takes in a server that a right has opened.
    pub fn opened(
        &mut self,
        right: Right,
        id: ServerId,
        home: Home,
        server: S,
        now: Instant,
    ) -> Given<S, W> {
        self.spend(right);
        self.give(id, home, server, now)
    }

    fn give(&mut self, id: ServerId, home: Home, server: S, now: Instant) -> Given<S, W> {
        if let Some(waiter) = self.queue.pop() {
            self.lent += 1;
            return Given::HandTo(waiter, server);
        }
        let index = home.0.min(self.idle.len() - 1);
        if let Some(idle) = self.idle.get_mut(index) {
            idle.insert(id, Idle { server, since: now });
            self.idle_count += 1;
        }
        Given::Idle
    }

    /// A lent server is put aside to be reset, tested or held back, and comes back by `checkin`.
    pub fn put_aside(&mut self) {
        self.leave(Place::Lent);
        self.aside += 1;
    }

    /// A server in `place` is being closed. It counts until it is `closed`.
    pub fn begin_close(&mut self, place: Place) {
        self.leave(place);
        self.closing += 1;
    }

    /// A server that was being closed is gone; a right if one should be opened in its place.
    pub fn closed(&mut self) -> Option<Right> {
        debug_assert!(self.closing > 0, "a server was closed that was not closing");
        self.closing = self.closing.saturating_sub(1);
        self.right_if_wanted()
    }

    fn leave(&mut self, place: Place) {
        let count = match place {
            Place::Lent => &mut self.lent,
            Place::Aside => &mut self.aside,
        };
        debug_assert!(*count > 0, "a server left {place:?}, where none was");
        *count = count.saturating_sub(1);
    }

    /// Gives up opening a server.
    pub fn abandon(&mut self, right: Right) {
        self.spend(right);
    }

    #[expect(clippy::needless_pass_by_value, reason = "a right can be used once")]
    fn spend(&mut self, right: Right) {
        let Right(()) = right;
        self.opening -= 1;
    }

    /// True if a server that is being opened would still find someone.
    pub fn is_opening_wanted(&self) -> bool {
        !self.closed && (self.opening <= self.queue.len() || self.kept() <= self.limits.min)
    }

    /// A right to open one more server, if a waiter or `min` wants one and a place is free.
    pub fn right_if_wanted(&mut self) -> Option<Right> {
        let wanted = self.opening < self.queue.len() || self.kept() < self.limits.min;
        if self.closed || !wanted || self.total() >= self.limits.most() {
            return None;
        }
        self.opening += 1;
        Some(Right(()))
    }

    /// Takes a waiter out of the queue. `None` if it has been served already.
    pub fn give_up(&mut self, ticket: Ticket) -> Option<W> {
        self.queue.remove(ticket)
    }

    /// Takes all waiters out of the queue, the oldest first.
    pub fn take_waiters(&mut self) -> Vec<W> {
        std::iter::from_fn(|| self.queue.pop()).collect()
    }

    /// Takes out, to be closed, one idle server that has been idle for longer than it may: `linger` if the pool is
    /// beyond its size, `idle_timeout` (`None`: for ever) if it is beyond `min`.
    pub fn take_expired(
        &mut self,
        now: Instant,
        linger: Duration,
        idle_timeout: Option<Duration>,
    ) -> Option<(S, Expired)> {
        let since = self.longest_idle()?;
        let idle_for = now.saturating_duration_since(since);
        let why = if self.kept() > self.limits.size && idle_for >= linger {
            Expired::Overflow
        } else if self.kept() > self.limits.min && idle_timeout.is_some_and(|most| idle_for >= most)
        {
            Expired::Idle
        } else {
            return None;
        };
        self.pop_longest_idle().map(|server| (server, why))
    }

    /// Takes out, to be closed, the longest-idle server if the pool has more than `min`.
    pub fn take_longest_idle(&mut self) -> Option<S> {
        if self.kept() <= self.limits.min {
            return None;
        }
        self.pop_longest_idle()
    }

    /// Since when the longest-idle server that may be taken has been idle.
    pub fn spare_since(&self) -> Option<Instant> {
        if self.kept() > self.limits.min { self.longest_idle() } else { None }
    }

    /// Takes out, to be closed, idle servers that `is_dead` says are of no more use.
    pub fn take_idle_where(&mut self, mut is_dead: impl FnMut(&mut S) -> bool) -> Vec<S> {
        let mut dead = Vec::new();
        for idle in &mut self.idle {
            let mut ids = Vec::new();
            for (id, entry) in idle.iter_mut() {
                if is_dead(&mut entry.server) {
                    ids.push(*id);
                }
            }
            dead.extend(ids.iter().filter_map(|id| idle.remove(id)).map(|entry| entry.server));
        }
        self.idle_count -= dead.len();
        self.closing += dead.len();
        dead
    }

    /// Lends nothing more and opens nothing more; hands out the idle servers and the waiters.
    pub fn close(&mut self) -> (Vec<S>, Vec<W>) {
        self.closed = true;
        (self.take_idle_where(|_| true), self.take_waiters())
    }

    fn longest_idle(&self) -> Option<Instant> {
        self.idle.iter().filter_map(|idle| idle.front().map(|(_, s)| s.since)).min()
    }

    fn pop_longest_idle(&mut self) -> Option<S> {
        let oldest = self.idle.iter_mut().filter(|idle| !idle.is_empty());
        let oldest = oldest.min_by_key(|idle| idle.front().map(|(_, s)| s.since))?;
        let (_, entry) = oldest.pop_front()?;
        self.idle_count -= 1;
        self.closing += 1;
        Some(entry.server)
    }

    pub const fn is_closed(&self) -> bool {
        self.closed
    }

    /// Servers in any place.
    pub const fn total(&self) -> usize {
        self.kept() + self.closing
    }

    /// Servers that are not being closed.
    const fn kept(&self) -> usize {
        self.opening + self.idle_count + self.lent + self.aside
    }

    pub const fn counts(&self) -> Counts {
        Counts {
            opening: self.opening,
            idle: self.idle_count,
            lent: self.lent,
            aside: self.aside,
            closing: self.closing,
            waiting: self.queue.len(),
        }
    }

    /// When the oldest waiter arrived.
    pub fn waiting_since(&self) -> Option<Instant> {
        self.queue.oldest()
    }
}

/// Why an idle server was taken out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Expired {
    Overflow,
    Idle,
}

/// How many servers are in each place, and how many waiters there are.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Counts {
    pub opening: usize,
    pub idle: usize,
    pub lent: usize,
    pub aside: usize,
    pub closing: usize,
    pub waiting: usize,
}

/// Waiters in order of arrival. A ticket finds its place by counting from the front, so that
/// leaving the queue costs nothing to those behind.
#[derive(Debug)]
struct Queue<W> {
    /// `None`: gave up. The front is never `None`.
    places: VecDeque<Option<(W, Instant)>>,
    /// Ticket of the front.
    first: u64,
    waiting: usize,
}

impl<W> Default for Queue<W> {
    fn default() -> Self {
        Self { places: VecDeque::new(), first: 0, waiting: 0 }
    }
}

impl<W> Queue<W> {
    const fn len(&self) -> usize {
        self.waiting
    }

    fn push(&mut self, waiter: W, now: Instant) -> Ticket {
        let ticket = Ticket(self.first + self.places.len() as u64);
        self.places.push_back(Some((waiter, now)));
        self.waiting += 1;
        ticket
    }

    fn pop(&mut self) -> Option<W> {
        let (waiter, _) = self.places.pop_front()??;
        self.first += 1;
        self.waiting -= 1;
        self.drop_empty_front();
        Some(waiter)
    }

    fn remove(&mut self, ticket: Ticket) -> Option<W> {
        let index = usize::try_from(ticket.0.checked_sub(self.first)?).ok()?;
        let (waiter, _) = self.places.get_mut(index)?.take()?;
        self.waiting -= 1;
        self.drop_empty_front();
        Some(waiter)
    }

    fn drop_empty_front(&mut self) {
        while self.places.front().is_some_and(Option::is_none) {
            self.places.pop_front();
            self.first += 1;
        }
    }

    fn oldest(&self) -> Option<Instant> {
        self.places.front()?.as_ref().map(|(_, since)| *since)
    }
}

#[cfg(test)]
mod tests;
