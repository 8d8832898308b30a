//! The messages that a server owes answers to, in their order, and what was noted of them. Pure.

use std::collections::VecDeque;

use super::fate::Effect;
use super::request::Request;

/// A message that is not answered yet.
#[derive(Debug, Clone, Copy)]
pub(super) struct Entry {
    pub(super) serial: u64,
    pub(super) request: Request,
    pub(super) effect: Effect,
    /// Something of it stands in `undos`.
    pub(super) is_noted: bool,
}

/// Messages that there is room for while nothing is owed.
const KEPT_MOST: usize = 256;

/// The messages that are not answered yet. A note has the serial number of its message.
#[derive(Debug)]
pub(super) struct Owed<U> {
    /// The first one, which each answer is about. `None`: there are none.
    first: Option<Entry>,
    /// Those behind it.
    others: VecDeque<Entry>,
    /// What was noted of some of them, with their serial numbers and in their order: kept apart because
    /// most have nothing.
    undos: VecDeque<(u64, U)>,
    /// Those that end with a `ReadyForQuery`.
    boundaries: usize,
}

impl<U> Default for Owed<U> {
    fn default() -> Self {
        Self { first: None, others: VecDeque::new(), undos: VecDeque::new(), boundaries: 0 }
    }
}

impl<U> Owed<U> {
    #[inline]
    pub(super) fn push(&mut self, serial: u64, request: Request, effect: Effect, undo: Option<U>) {
        self.boundaries += usize::from(request.ends_with_ready());
        let entry = Entry { serial, request, effect, is_noted: undo.is_some() };
        if self.first.is_none() {
            self.first = Some(entry);
        } else {
            self.others.push_back(entry);
        }
        if let Some(undo) = undo {
            self.undos.push_back((serial, undo));
        }
    }

    /// Takes out the first; `None`: there is none. The effect of its request, and what was noted of it.
    #[inline]
    pub(super) fn pop(&mut self) -> Option<(Effect, Option<U>)> {
        let entry = self.first.take()?;
        if !self.others.is_empty() {
            self.first = self.others.pop_front();
        } else if self.others.capacity() > KEPT_MOST {
            self.shrink();
        }
        Some((entry.effect, self.take_out(entry)))
    }

    /// The same for the second: what was noted of it.
    pub(super) fn take_second(&mut self) -> Option<U> {
        let entry = self.others.pop_front()?;
        self.take_out(entry)
    }

    /// A long pipeline is no reason to keep so much for ever.
    #[cold]
    fn shrink(&mut self) {
        self.others.shrink_to(KEPT_MOST);
        self.undos.shrink_to(KEPT_MOST);
    }

    /// Forgets an entry that was taken out; what was noted of it.
    #[inline]
    fn take_out(&mut self, entry: Entry) -> Option<U> {
        self.boundaries -= usize::from(entry.request.ends_with_ready());
        if entry.is_noted { self.remove_undo(entry.serial) } else { None }
    }

    fn remove_undo(&mut self, serial: u64) -> Option<U> {
        // As a rule it is the first.
        if self.undos.front().is_some_and(|(first, _)| *first == serial) {
            return self.undos.pop_front().map(|(_, undo)| undo);
        }
        let at = self.undos.iter().position(|(other, _)| *other == serial)?;
        self.undos.remove(at).map(|(_, undo)| undo)
    }

    pub(super) const fn first(&self) -> Option<&Entry> {
        self.first.as_ref()
    }

    /// Another message with the same end stands in the place of the first.
    pub(super) fn replace_first(&mut self, request: Request) {
        if let Some(first) = &mut self.first {
            debug_assert_eq!(first.request.ends_with_ready(), request.ends_with_ready());
            first.request = request;
        }
    }

    pub(super) fn second(&self) -> Option<Request> {
        self.others.front().map(|entry| entry.request)
    }

    pub(super) fn last(&self) -> Option<Request> {
        self.others.back().or_else(|| self.first()).map(|entry| entry.request)
    }

    pub(super) fn iter(&self) -> impl DoubleEndedIterator<Item = &Entry> {
        self.first.iter().chain(&self.others)
    }

    /// What was noted, of the oldest message first.
    pub(super) fn undos_mut(&mut self) -> impl Iterator<Item = &mut U> {
        self.undos.iter_mut().map(|(_, undo)| undo)
    }

    /// What was noted, of the oldest message first, with the message's serial number.
    pub(super) fn undos(&self) -> impl Iterator<Item = (u64, &U)> {
        self.undos.iter().map(|(serial, undo)| (*serial, undo))
    }

    /// True if one ends with a `ReadyForQuery`.
    pub(super) const fn has_boundary(&self) -> bool {
        self.boundaries > 0
    }

    pub(super) fn len(&self) -> usize {
        usize::from(self.first.is_some()) + self.others.len()
    }

    #[cfg(test)]
    pub(super) fn capacity(&self) -> usize {
        self.others.capacity() + self.undos.capacity()
    }

    pub(super) const fn is_empty(&self) -> bool {
        self.first.is_none()
    }
}
