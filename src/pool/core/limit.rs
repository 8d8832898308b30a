//! The limit that a pool is under at the moment, of those that its size allows, and what it keeps from waiters.

use super::{Core, Given, Home, Kind, Right, Surplus, Ticket};

/// What may be done now that something has changed.
#[derive(Debug)]
pub enum Step<S, W, K> {
    /// An idle server is the waiter's.
    HandTo(W, S),
    Open(Right<K>),
    /// It is in the way of someone who waits for another kind.
    Close(S),
}

impl<S, W, K: Kind> Core<S, W, K> {
    /// Changes how many servers may be in use. What is in use beyond it comes back in its own time; what
    /// may be done at once is in `next_step`.
    pub fn set_limit(&mut self, limit: usize) {
        self.limit = limit.clamp(1, self.limits.most());
    }

    pub const fn limit(&self) -> usize {
        self.limit
    }

    /// Servers that are lent or aside.
    pub const fn in_use(&self) -> usize {
        self.lent + self.aside
    }

    /// True if as many are in use as may be.
    pub(super) const fn is_full(&self) -> bool {
        self.in_use() >= self.limit
    }

    /// True if what comes free is not simply the oldest waiter's: others are idle, or places are kept.
    pub(super) const fn is_within(&self) -> bool {
        self.idle.len() > 0 || self.in_use() + self.opening + self.closing >= self.limit
    }

    /// True if giving back a server may hand out one that is idle.
    pub const fn may_serve_idle(&self) -> bool {
        self.queue.len() > 0 && self.idle.len() > 0 && self.in_use() <= self.limit
    }

    /// How many may stay open without being in use.
    pub(super) fn lasting(&self) -> usize {
        self.limits.size.min(self.limit).max(self.limits.min)
    }

    /// What there is to do after a change that gave back no server: another limit, or one that closes. To be asked
    /// until there is nothing more.
    pub fn next_step(&mut self) -> Option<Step<S, W, K>> {
        if let Some((waiter, server)) = self.serve(Home(0)) {
            return Some(Step::HandTo(waiter, server));
        }
        if let Some(right) = self.right_if_wanted() {
            return Some(Step::Open(right));
        }
        let displaced = if self.total() < self.limits.most() { None } else { self.displace() };
        displaced.map(Step::Close)
    }

    /// What becomes of a server that is idle now, or of another, in a pool that is full, or was and has others idle
    /// or keeps places.
    #[cold]
    #[inline(never)]
    pub(super) fn serve_or_displace(&mut self, home: Home) -> Given<S, W> {
        if let Some((waiter, server)) = self.serve(home) {
            return Given::HandTo(waiter, server);
        }
        match self.displace() {
            Some(server) => Given::Close(server, Surplus::Displaced),
            None => Given::Idle,
        }
    }

    /// Lends an idle server to the oldest waiter who may have one, if not as many are in use as may be.
    #[cold]
    #[inline(never)]
    fn serve(&mut self, home: Home) -> Option<(W, S)> {
        if self.is_full() || self.idle.len() == 0 {
            return None;
        }
        let (ticket, wish) = self.first_served()?;
        let (server, site) = match &wish {
            None => {
                let site = self.sites.pick_to_lend(|site| self.idle.has_plain(site))?;
                (self.idle.take_newest(site)?, site)
            }
            Some(kind) => self.idle.take_of(kind, home, |site| self.sites.rank(site))?,
        };
        let waiter = self.queue.remove(ticket)?;
        self.lend(site);
        Some((waiter, server))
    }

    /// The oldest waiter whom an idle server fits, and its wish. It passes nobody who has nothing on its way, and
    /// leaves a place for each whom it passes.
    fn first_served(&self) -> Option<(Ticket, Option<K>)> {
        let has_plain = self.sites.in_use().iter().any(|site| self.idle.has_plain(*site));
        let fits = |wish: Option<&K>| wish.map_or(has_plain, |kind| self.idle.has_of(kind));
        let mut on_its_way = self.on_its_way(self.closing);
        let places = self.limit.saturating_sub(self.in_use());
        for (ticket, wish) in self.queue.wishes().take(places) {
            if fits(wish) {
                return Some((ticket, wish.cloned()));
            }
            if !on_its_way.is_for(wish) {
                return None;
            }
        }
        None
    }
}
