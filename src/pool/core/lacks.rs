//! Who lacks a server, and who takes one that has come free.

use super::{Core, Kind, Ticket};

impl<S, W, K: Kind> Core<S, W, K> {
    /// Whose a server of `kind` is that has come free.
    #[inline]
    pub(super) fn taker(&self, kind: Option<&K>) -> Taker {
        if self.queue.len() == 0 { Taker::Nobody } else { self.taker_of_those_waiting(kind) }
    }

    fn taker_of_those_waiting(&self, kind: Option<&K>) -> Taker {
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
    pub(super) fn first_without(&self, places: usize) -> Option<Lack<'_, K>> {
        if !self.queue.is_particular() && self.opening_kinds.is_empty() {
            // All the same: they can be counted.
            return (self.opening + places < self.queue.len()).then_some(Lack(None));
        }
        let mut on_its_way = self.on_its_way(places);
        let mut wishes = self.queue.wishes().map(|(_, wish)| wish);
        wishes.find(|wish| !on_its_way.is_for(*wish)).map(Lack)
    }

    pub(super) fn on_its_way(&self, places: usize) -> OnItsWay<'_, K> {
        OnItsWay {
            plain: self.opening - self.opening_kinds.len(),
            kinds: self.opening_kinds.iter().collect(),
            places,
        }
    }
}

/// Who takes a server that has come free.
pub(super) enum Taker {
    Fits(Ticket),
    /// Someone who waits for another kind, and has nothing on its way.
    NeedsRoom,
    Nobody,
}

/// A server of this kind is waited for, and none is on its way; `None`: a plain one.
pub(super) struct Lack<'a, K>(pub(super) Option<&'a K>);

/// What waiters may count on, handed out to them in order of arrival.
pub(super) struct OnItsWay<'a, K> {
    /// Servers that are being opened.
    plain: usize,
    kinds: Vec<&'a K>,
    /// Places that are coming free, for any kind.
    places: usize,
}

impl<K: Eq> OnItsWay<'_, K> {
    /// Takes out what the next waiter, with this `wish`, may count on; false if there is nothing.
    pub(super) fn is_for(&mut self, wish: Option<&K>) -> bool {
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
