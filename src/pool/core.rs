//! Who gets which server: counts, idle lists, one queue → decisions. Pure: no await, no clock, no I/O.
//!
//! Most servers are plain: opened with what the pool's configuration says, and lent to anybody. Some
//! are of a [`Kind`]: opened for a client with parameters of its own, and lent only to those who wish
//! for the same. Both count alike, and wait in one queue.
//!
//! Invariants:
//! - A server is in exactly one place: being opened, idle, lent, aside (reset, tested, awaiting a
//!   cancel), or closing until PostgreSQL has let go of it. Their number never exceeds
//!   `size + max_overflow`.
//! - Nobody waits while a server is idle that fits, or while any is idle and nothing is on its way:
//!   a server of the right kind that is being opened, or one of another kind that is being closed to
//!   make room. What comes free goes to the oldest waiter whom it fits, unless an older one has
//!   nothing on its way: then it makes room for that one.
//! - Servers are opened one [`Right`] each, and there are never more rights than are wanted by
//!   waiters and by `min`.

use std::time::Duration;

use tokio::time::Instant;

use super::idle::IdleServers;
use super::queue::Queue;
pub use super::queue::Ticket;

/// A server's number, unique in the process.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ServerId(pub u64);

/// The number of a worker: where a server's socket is polled.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Home(pub usize);

/// What sets servers apart that are not plain.
pub trait Kind: Eq + Clone {
    /// True if one that its client has done with is kept for the next who wishes for the same.
    fn may_idle(&self) -> bool;
}

/// What the pool knows a server by.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Label<K> {
    pub id: ServerId,
    pub home: Home,
    /// `None`: a plain one.
    pub kind: Option<K>,
}

/// The right to open one server, of a kind or plain. Its place is counted already.
#[derive(Debug, PartialEq, Eq)]
#[must_use = "a right that is neither used nor given back blocks a place for ever"]
pub struct Right<K>(Option<K>);

impl<K> Right<K> {
    /// The kind of server that it is for; `None`: a plain one.
    pub const fn kind(&self) -> Option<&K> {
        self.0.as_ref()
    }
}

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
pub enum Decision<S, K> {
    Lend(S),
    /// In the queue; `connect`: someone has to open a server as well. `displaced`: one that was idle
    /// and does not fit, to be closed to make room.
    Wait {
        ticket: Ticket,
        connect: Option<Right<K>>,
        displaced: Option<S>,
    },
    /// `max_waiting` are waiting already.
    QueueFull,
}

/// What becomes of a server that was given back or has been opened.
#[derive(Debug)]
pub enum Given<S, W> {
    /// It is the oldest waiter's whom it fits.
    HandTo(W, S),
    Idle,
    /// It is to be closed: it is in the way of someone who waits for another kind, or of no use to
    /// anybody else.
    Close(S),
}

/// Where a server is that the pool does not hold itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Place {
    Lent,
    /// Being reset, tested, or held back for a cancel.
    Aside,
}

/// The state of one pool: servers `S` of kinds `K`, waiters `W`.
#[derive(Debug)]
pub struct Core<S, W, K> {
    limits: Limits,
    idle: IdleServers<S, K>,
    opening: usize,
    /// The kinds of those being opened that are of one.
    opening_kinds: Vec<K>,
    lent: usize,
    aside: usize,
    closing: usize,
    queue: Queue<W, K>,
    closed: bool,
}

impl<S, W, K: Kind> Core<S, W, K> {
    /// A pool without servers, for `homes` workers.
    pub fn new(limits: Limits, homes: usize) -> Self {
        Self {
            limits,
            idle: IdleServers::new(homes),
            opening: 0,
            opening_kinds: Vec::new(),
            lent: 0,
            aside: 0,
            closing: 0,
            queue: Queue::default(),
            closed: false,
        }
    }

    /// Lends a plain server: the one named by `last`, else the one used last among those at `home`,
    /// else the one used last anywhere else. For a `wish`: one of that kind. Without one, `waiter`
    /// joins the queue.
    pub fn checkout(
        &mut self,
        home: Home,
        last: Option<ServerId>,
        wish: Option<&K>,
        now: Instant,
        waiter: impl FnOnce() -> W,
    ) -> Decision<S, K> {
        let idle = match wish {
            None => self.idle.take_plain(home, last),
            Some(kind) => self.idle.take_of(kind, home),
        };
        if let Some(server) = idle {
            self.lent += 1;
            return Decision::Lend(server);
        }
        if self.limits.max_waiting.is_some_and(|most| self.queue.len() >= most) {
            return Decision::QueueFull;
        }
        let ticket = self.queue.push(waiter(), wish.cloned(), now);
        let connect = self.right_if_wanted();
        let displaced = if connect.is_none() { self.displace() } else { None };
        Decision::Wait { ticket, connect, displaced }
    }

    /// Takes out, to be closed, the longest-idle server if someone waits for another kind and has
    /// nothing on its way.
    fn displace(&mut self) -> Option<S> {
        if self.idle.len() == 0 || self.first_without(self.closing).is_none() {
            return None;
        }
        self.pop_longest_idle()
    }

    /// Takes a server back from `place`.
    pub fn checkin(
        &mut self,
        place: Place,
        label: Label<K>,
        server: S,
        now: Instant,
    ) -> Given<S, W> {
        self.leave(place);
        self.give(label, server, now)
    }

    /// Takes in a server that a right has opened.
    pub fn opened(
        &mut self,
        right: Right<K>,
        label: Label<K>,
        server: S,
        now: Instant,
    ) -> Given<S, W> {
        self.spend(right);
        self.give(label, server, now)
    }

    fn give(&mut self, label: Label<K>, server: S, now: Instant) -> Given<S, W> {
        let is_kept = label.kind.as_ref().is_none_or(Kind::may_idle);
        match self.taker(label.kind.as_ref()) {
            Taker::Fits(ticket) => {
                if let Some(waiter) = self.queue.remove(ticket) {
                    self.lent += 1;
                    return Given::HandTo(waiter, server);
                }
            }
            Taker::Nobody if is_kept => {}
            Taker::Nobody | Taker::NeedsRoom => {
                self.closing += 1;
                return Given::Close(server);
            }
        }
        self.idle.insert(label, server, now);
        Given::Idle
    }

    /// Whose a server of `kind` is that has come free.
    fn taker(&self, kind: Option<&K>) -> Taker {
        if self.queue.len() == 0 {
            return Taker::Nobody;
        }
        let mut on_its_way = self.on_its_way(self.closing);
        for (ticket, wish) in self.queue.wishes() {
            if wish == kind {
                return Taker::Fits(ticket);
            }
            if !on_its_way.is_for(wish) {
                return Taker::NeedsRoom;
            }
        }
        Taker::Nobody
    }

    /// The lack of the oldest waiter who has nothing on its way, with `places` coming free.
    fn first_without(&self, places: usize) -> Option<Lack<'_, K>> {
        if !self.queue.is_particular() && self.opening_kinds.is_empty() {
            // All the same: they can be counted.
            return (self.opening + places < self.queue.len()).then_some(Lack(None));
        }
        let mut on_its_way = self.on_its_way(places);
        let mut wishes = self.queue.wishes().map(|(_, wish)| wish);
        wishes.find(|wish| !on_its_way.is_for(*wish)).map(Lack)
    }

    fn on_its_way(&self, places: usize) -> OnItsWay<'_, K> {
        OnItsWay {
            plain: self.opening - self.opening_kinds.len(),
            kinds: self.opening_kinds.iter().collect(),
            places,
        }
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
    pub fn closed(&mut self) -> Option<Right<K>> {
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

    /// Changes how many servers are opened ahead of need.
    pub const fn set_min(&mut self, min: usize) {
        self.limits.min = min;
    }

    /// Gives up opening a server.
    pub fn abandon(&mut self, right: Right<K>) {
        self.spend(right);
    }

    #[expect(clippy::needless_pass_by_value, reason = "a right can be used once")]
    fn spend(&mut self, right: Right<K>) {
        self.opening -= 1;
        if let Some(kind) = right.kind()
            && let Some(at) = self.opening_kinds.iter().position(|other| other == kind)
        {
            self.opening_kinds.swap_remove(at);
        }
    }

    /// True if a server of `kind` that is being opened would still find someone.
    pub fn is_opening_wanted(&self, kind: Option<&K>) -> bool {
        let opening = match kind {
            None => self.opening - self.opening_kinds.len(),
            Some(_) => self.opening_kinds.iter().filter(|other| Some(*other) == kind).count(),
        };
        let is_for_min = kind.is_none() && self.kept() <= self.limits.min;
        !self.closed && (opening <= self.queue.count(kind) || is_for_min)
    }

    /// A right to open one more server, if a waiter or `min` wants one and a place is free.
    pub fn right_if_wanted(&mut self) -> Option<Right<K>> {
        if self.closed || self.total() >= self.limits.most() {
            return None;
        }
        let wish = match self.first_without(0) {
            Some(Lack(wish)) => wish.cloned(),
            None if self.kept() < self.limits.min => None,
            None => return None,
        };
        self.opening += 1;
        self.opening_kinds.extend(wish.clone());
        Some(Right(wish))
    }

    /// Takes a waiter out of the queue. `None` if it has been served already.
    pub fn give_up(&mut self, ticket: Ticket) -> Option<W> {
        self.queue.remove(ticket)
    }

    /// Takes all waiters out of the queue, the oldest first.
    pub fn take_waiters(&mut self) -> Vec<W> {
        std::iter::from_fn(|| self.queue.pop()).collect()
    }

    /// Takes those out of the queue who wait for a server of `kind`, the oldest first.
    pub fn take_waiters_of(&mut self, kind: &K) -> Vec<W> {
        let of_kind = self.queue.wishes().filter(|(_, wish)| *wish == Some(kind));
        let tickets: Vec<_> = of_kind.map(|(ticket, _)| ticket).collect();
        tickets.into_iter().filter_map(|ticket| self.queue.remove(ticket)).collect()
    }

    /// Takes out, to be closed, one idle server that has been idle for longer than it may: `linger` if the pool is
    /// beyond its size, `idle_timeout` (`None`: for ever) if it is beyond `min`.
    pub fn take_expired(
        &mut self,
        now: Instant,
        linger: Duration,
        idle_timeout: Option<Duration>,
    ) -> Option<(S, Expired)> {
        let since = self.idle.longest()?;
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
        if self.kept() > self.limits.min { self.idle.longest() } else { None }
    }

    /// Takes out, to be closed, idle servers that `is_dead` says are of no more use.
    pub fn take_idle_where(&mut self, is_dead: impl FnMut(&mut S) -> bool) -> Vec<S> {
        let dead = self.idle.take_where(is_dead);
        self.closing += dead.len();
        dead
    }

    /// Lends nothing more and opens nothing more; hands out the idle servers and the waiters.
    pub fn close(&mut self) -> (Vec<S>, Vec<W>) {
        self.closed = true;
        (self.take_idle_where(|_| true), self.take_waiters())
    }

    fn pop_longest_idle(&mut self) -> Option<S> {
        let server = self.idle.pop_longest()?;
        self.closing += 1;
        Some(server)
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
        self.opening + self.idle.len() + self.lent + self.aside
    }

    pub const fn counts(&self) -> Counts {
        Counts {
            opening: self.opening,
            idle: self.idle.len(),
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

    /// When the oldest waiter arrived whom a server of `kind` fits.
    pub fn waiting_since_for(&self, kind: Option<&K>) -> Option<Instant> {
        self.queue.oldest_of(kind)
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

/// Who takes a server that has come free.
enum Taker {
    Fits(Ticket),
    /// Someone who waits for another kind, and has nothing on its way.
    NeedsRoom,
    Nobody,
}

/// A server of this kind is waited for, and none is on its way; `None`: a plain one.
struct Lack<'a, K>(Option<&'a K>);

/// What waiters may count on, handed out to them in order of arrival.
struct OnItsWay<'a, K> {
    /// Servers that are being opened.
    plain: usize,
    kinds: Vec<&'a K>,
    /// Places that are coming free, for any kind.
    places: usize,
}

impl<K: Eq> OnItsWay<'_, K> {
    /// Takes out what the next waiter, with this `wish`, may count on; false if there is nothing.
    fn is_for(&mut self, wish: Option<&K>) -> bool {
        let at = wish.and_then(|kind| self.kinds.iter().position(|other| *other == kind));
        if let Some(at) = at {
            self.kinds.swap_remove(at);
        } else if wish.is_none() && self.plain > 0 {
            self.plain -= 1;
        } else if self.places > 0 {
            self.places -= 1;
        } else {
            return false;
        }
        true
    }
}

#[cfg(test)]
mod tests;
