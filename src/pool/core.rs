//! Who gets which server: counts, idle lists, one queue → decisions. Pure: no await, no clock, no I/O.
//!
//! Most servers are plain: opened with what the pool's configuration says, and lent to anybody. Some
//! are of a [`Kind`]: opened for a client with parameters of its own, and lent only to those who wish
//! for the same. Both count alike, and wait in one queue.
//!
//! Each server is at a [`Site`], a host of the pool's domain. Clients do not choose: limits and the queue
//! are those of all sites together.
//!
//! Invariants:
//! - A server is in exactly one place: being opened, idle, lent, aside (reset, tested, awaiting a
//!   cancel), or closing until PostgreSQL has let go of it. Their number never exceeds
//!   `size + max_overflow`.
//! - The limit, at most that, says how many may be in use: lent or aside. Nothing is lent beyond it; what is
//!   when it falls comes back in its own time. What it keeps idle counts as overflow does.
//! - As long as fewer are in use, nobody waits while a server is idle that fits, or while any is idle and nothing
//!   is on its way: a server of the right kind that is being opened, or one of another kind that is being closed
//!   to make room. What comes free goes to the oldest waiter whom it fits, unless an older one has
//!   nothing on its way: then it makes room for that one.
//! - Under a limit, who is served in front of an older waiter leaves a place for what is on that one's way.
//! - Servers are opened one [`Right`] each, and there are never more rights than are wanted by
//!   waiters and by `min`, and one to even out the sites.
//! - No server is idle at a site that is out, and none is opened there.

mod lacks;
mod limit;
mod spread;
mod terms;

use std::time::Duration;

use tokio::time::Instant;

use self::lacks::{Lack, Taker};
pub use self::limit::Step;
pub use self::terms::{
    Counts, Decision, Evened, Expired, Given, Home, Kind, Label, Limits, Place, Right, ServerId,
    Surplus,
};
use super::idle::IdleServers;
use super::queue::Queue;
pub use super::queue::Ticket;
use super::sites::Sites;
pub use super::sites::{Balance, PerSite, Site, Standing};

/// The state of one pool: servers `S` of kinds `K`, waiters `W`.
#[derive(Debug)]
pub struct Core<S, W, K> {
    limits: Limits,
    /// How many may be in use at the moment.
    limit: usize,
    sites: Sites,
    idle: IdleServers<S, K>,
    opening: usize,
    /// The kinds of those being opened that are of one.
    opening_kinds: Vec<K>,
    lent: usize,
    aside: usize,
    closing: usize,
    queue: Queue<W, K>,
    /// Where the next server that comes back is one too many.
    shed: Option<Site>,
    closed: bool,
}

impl<S, W, K: Kind> Core<S, W, K> {
    /// A pool without servers, for `homes` workers and `sites` hosts that all serve.
    pub fn new(limits: Limits, homes: usize, sites: usize, balance: Balance) -> Self {
        Self {
            limits,
            limit: limits.most(),
            sites: Sites::new(sites, balance),
            idle: IdleServers::new(homes),
            opening: 0,
            opening_kinds: Vec::new(),
            lent: 0,
            aside: 0,
            closing: 0,
            queue: Queue::default(),
            shed: None,
            closed: false,
        }
    }

    /// Lends a plain server: at the site whose turn it is the one named by `last`, else the one used last
    /// among those at `home`, else the one used last at another's. For a `wish`: one of that kind. Without
    /// one, `waiter` joins the queue.
    pub fn checkout(
        &mut self,
        home: Home,
        last: Option<ServerId>,
        wish: Option<&K>,
        now: Instant,
        waiter: impl FnOnce() -> W,
    ) -> Decision<S, K> {
        let idle = match wish {
            // Those who wait while something is idle have a place kept for each.
            _ if self.in_use() + self.queue.len() >= self.limit => None,
            None => self.take_plain(home, last),
            Some(kind) => self.idle.take_of(kind, home, |site| self.sites.rank(site)),
        };
        if let Some((server, site)) = idle {
            self.lend(site);
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

    fn take_plain(&mut self, home: Home, last: Option<ServerId>) -> Option<(S, Site)> {
        let site = match self.sites.sole() {
            Some(site) => site,
            None => self.sites.pick_to_lend(|site| self.idle.has_plain(site))?,
        };
        self.idle.take_plain(site, home, last).map(|server| (server, site))
    }

    fn lend(&mut self, site: Site) {
        self.lent += 1;
        self.sites.lend(site);
    }

    /// Takes out, to be closed, the longest-idle server if someone waits for another kind and has
    /// nothing on its way.
    fn displace(&mut self) -> Option<S> {
        let is_spoken_for = self.in_use() + self.opening + self.closing >= self.limit;
        if self.idle.len() == 0 || is_spoken_for || self.first_without(self.closing).is_none() {
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
        self.leave(place, label.site);
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
        debug_assert_eq!(right.site, label.site, "opened elsewhere");
        self.spend(right);
        // It stays counted where it was being opened.
        self.sites.begin(label.site);
        self.give(label, server, now)
    }

    fn give(&mut self, label: Label<K>, server: S, now: Instant) -> Given<S, W> {
        if let Some(why) = self.surplus(label.site) {
            self.end(label.site);
            return Given::Close(server, why);
        }
        let is_within = self.is_full() || (self.queue.len() > 0 && self.is_within());
        let is_kept = label.kind.as_ref().is_none_or(Kind::may_idle);
        let home = label.home;
        // Whose one is of several is seen when it is among them; one that is used once never is.
        let is_seen_later = is_within && (is_kept || self.is_full());
        let kind = label.kind.as_ref();
        let taker = if is_seen_later { Taker::Nobody } else { self.taker(kind) };
        match taker {
            Taker::Fits(ticket) => {
                if let Some(waiter) = self.queue.remove(ticket) {
                    self.lend(label.site);
                    return Given::HandTo(waiter, server);
                }
            }
            Taker::Nobody if is_kept => {}
            Taker::Nobody | Taker::NeedsRoom => {
                self.end(label.site);
                return Given::Close(server, Surplus::Displaced);
            }
        }
        self.idle.insert(label, server, now);
        if is_within { self.serve_or_displace(home) } else { Given::Idle }
    }

    /// Why a server at `site` may not stay, if it may not.
    fn surplus(&mut self, site: Site) -> Option<Surplus> {
        if self.sites.is_out(site) {
            return Some(Surplus::SiteOut);
        }
        // Not from under those who wait.
        let is_idle = self.queue.len() == 0;
        self.shed.take_if(|shed| is_idle && *shed == site).map(|_| Surplus::Uneven)
    }

    /// A server at `site` is being closed.
    fn end(&mut self, site: Site) {
        self.closing += 1;
        self.sites.end(site);
    }

    /// A lent server is put aside to be reset, tested or held back, and comes back by `checkin`.
    pub fn put_aside(&mut self, site: Site) {
        self.leave(Place::Lent, site);
        self.aside += 1;
    }

    /// A server in `place` is being closed. It counts until it is `closed`.
    pub fn begin_close(&mut self, place: Place, site: Site) {
        self.leave(place, site);
        self.end(site);
    }

    /// A server that was being closed is gone; a right if one should be opened in its place.
    pub fn closed(&mut self) -> Option<Right<K>> {
        debug_assert!(self.closing > 0, "a server was closed that was not closing");
        self.closing = self.closing.saturating_sub(1);
        self.right_if_wanted()
    }

    fn leave(&mut self, place: Place, site: Site) {
        let count = match place {
            Place::Lent => {
                self.sites.give_back(site);
                &mut self.lent
            }
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
        self.sites.end(right.site);
        if let Some(kind) = right.kind()
            && let Some(at) = self.opening_kinds.iter().position(|other| other == kind)
        {
            self.opening_kinds.swap_remove(at);
        }
    }

    /// True if the server that a right is for would still find someone.
    pub fn is_opening_wanted(&self, right: &Right<K>) -> bool {
        let kind = right.kind();
        let opening = match kind {
            None => self.opening - self.opening_kinds.len(),
            Some(_) => self.opening_kinds.iter().filter(|other| Some(*other) == kind).count(),
        };
        let is_for_min = kind.is_none() && self.kept() <= self.limits.min;
        let is_for_site = right.evens_out && !self.sites.is_out(right.site);
        !self.closed && (opening <= self.queue.count(kind) || is_for_min || is_for_site)
    }

    /// A right to open one more server, if a waiter or `min` wants one and a place is free.
    pub fn right_if_wanted(&mut self) -> Option<Right<K>> {
        if self.closed || self.total() >= self.limits.most() {
            return None;
        }
        let site = self.sites.pick_to_open(None)?;
        let has_room = self.in_use() + self.opening < self.limit;
        let wish = match self.first_without(0).filter(|_| has_room) {
            Some(Lack(wish)) => wish.cloned(),
            None if self.kept() < self.limits.min => None,
            None => return None,
        };
        self.opening_kinds.extend(wish.clone());
        Some(self.right(wish, site, false))
    }

    fn right(&mut self, kind: Option<K>, site: Site, evens_out: bool) -> Right<K> {
        self.opening += 1;
        self.sites.begin(site);
        Right { kind, site, evens_out }
    }

    /// Takes a waiter out of the queue. `None` if it has been served already.
    pub fn give_up(&mut self, ticket: Ticket) -> Option<W> {
        self.queue.remove(ticket)
    }

    /// Who waits, the oldest first.
    pub fn waiters(&self) -> impl Iterator<Item = &W> {
        self.queue.iter()
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
    /// beyond its size or limit, `idle_timeout` (`None`: for ever) if it is beyond `min`.
    pub fn take_expired(
        &mut self,
        now: Instant,
        linger: Duration,
        idle_timeout: Option<Duration>,
    ) -> Option<(S, Expired)> {
        let since = self.idle.longest()?;
        let idle_for = now.saturating_duration_since(since);
        let why = if self.kept() > self.lasting() && idle_for >= linger {
            Expired::Overflow
        } else if self.kept() > self.limits.min && idle_timeout.is_some_and(|most| idle_for >= most)
        {
            Expired::Idle
        } else {
            return None;
        };
        self.pop_longest_idle().map(|server| (server, why))
    }

    /// Takes out, to be closed, idle servers that `is_dead` says are of no more use.
    pub fn take_idle_where(&mut self, is_dead: impl FnMut(&mut S) -> bool) -> Vec<S> {
        let dead = self.idle.take_where(is_dead);
        dead.into_iter()
            .map(|(server, site)| {
                self.end(site);
                server
            })
            .collect()
    }

    /// Lends nothing more and opens nothing more; hands out the idle servers and the waiters.
    pub fn close(&mut self) -> (Vec<S>, Vec<W>) {
        self.closed = true;
        (self.take_idle_where(|_| true), self.take_waiters())
    }

    fn pop_longest_idle(&mut self) -> Option<S> {
        let (server, site) = self.idle.pop_longest()?;
        self.end(site);
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

#[cfg(test)]
mod tests;
