//! Waiters in order of arrival, each with the kind of server that it waits for. Pure.

use std::collections::VecDeque;

use tokio::time::Instant;

/// A place in the queue.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Ticket(u64);

/// Waiters in order of arrival. A ticket finds its place by counting from the front, so that
/// leaving the queue costs nothing to those behind.
#[derive(Debug)]
pub(super) struct Queue<W, K> {
    /// `None`: gave up. The front is never `None`.
    places: VecDeque<Option<Entry<W, K>>>,
    /// Ticket of the front.
    first: u64,
    waiting: usize,
    /// Those among them that wait for a server of a kind.
    particular: usize,
}

#[derive(Debug)]
struct Entry<W, K> {
    waiter: W,
    since: Instant,
    /// `None`: a plain server.
    wish: Option<K>,
}

impl<W, K> Default for Queue<W, K> {
    fn default() -> Self {
        Self { places: VecDeque::new(), first: 0, waiting: 0, particular: 0 }
    }
}

impl<W, K: Eq> Queue<W, K> {
    pub(super) const fn len(&self) -> usize {
        self.waiting
    }

    /// True if somebody waits for a server of a kind.
    pub(super) const fn is_particular(&self) -> bool {
        self.particular > 0
    }

    pub(super) fn push(&mut self, waiter: W, wish: Option<K>, now: Instant) -> Ticket {
        let ticket = Ticket(self.first + self.places.len() as u64);
        self.particular += usize::from(wish.is_some());
        self.places.push_back(Some(Entry { waiter, since: now, wish }));
        self.waiting += 1;
        ticket
    }

    /// Takes the oldest.
    pub(super) fn pop(&mut self) -> Option<W> {
        self.remove(Ticket(self.first))
    }

    pub(super) fn remove(&mut self, ticket: Ticket) -> Option<W> {
        let index = usize::try_from(ticket.0.checked_sub(self.first)?).ok()?;
        let entry = self.places.get_mut(index)?.take()?;
        self.waiting -= 1;
        self.particular -= usize::from(entry.wish.is_some());
        while self.places.front().is_some_and(Option::is_none) {
            self.places.pop_front();
            self.first += 1;
        }
        Some(entry.waiter)
    }

    /// The oldest first.
    pub(super) fn iter(&self) -> impl Iterator<Item = &W> {
        self.places.iter().flatten().map(|entry| &entry.waiter)
    }

    /// Tickets and wishes, the oldest first.
    pub(super) fn wishes(&self) -> impl Iterator<Item = (Ticket, Option<&K>)> {
        (self.first..).zip(&self.places).filter_map(|(ticket, entry)| {
            let entry = entry.as_ref()?;
            Some((Ticket(ticket), entry.wish.as_ref()))
        })
    }

    /// How many wait for a server of `kind`.
    pub(super) fn count(&self, kind: Option<&K>) -> usize {
        match kind {
            None => self.waiting - self.particular,
            Some(_) if self.particular == 0 => 0,
            Some(_) => self.wishes().filter(|(_, wish)| *wish == kind).count(),
        }
    }

    /// When the oldest arrived of those who wait for a server of `kind`.
    pub(super) fn oldest_of(&self, kind: Option<&K>) -> Option<Instant> {
        let mut entries = self.places.iter().flatten();
        entries.find(|entry| entry.wish.as_ref() == kind).map(|entry| entry.since)
    }

    /// When the oldest arrived.
    pub(super) fn oldest(&self) -> Option<Instant> {
        self.places.front()?.as_ref().map(|entry| entry.since)
    }
}
