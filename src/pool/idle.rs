//! Idle servers: plain ones by home, and those of a kind. Pure.

use hashlink::LinkedHashMap;
use tokio::time::Instant;

use super::core::{Home, Kind, Label, ServerId};

/// The idle servers of a pool.
#[derive(Debug)]
pub(super) struct IdleServers<S, K> {
    /// Plain ones by home; in each list the longest idle first.
    plain: Vec<List<S, K>>,
    of_kinds: List<S, K>,
    count: usize,
}

type List<S, K> = LinkedHashMap<ServerId, Idle<S, K>, foldhash::fast::RandomState>;

#[derive(Debug)]
struct Idle<S, K> {
    server: S,
    since: Instant,
    home: Home,
    kind: Option<K>,
}

impl<S, K: Kind> IdleServers<S, K> {
    /// None, for `homes` workers.
    pub(super) fn new(homes: usize) -> Self {
        Self {
            plain: (0..homes.max(1)).map(|_| LinkedHashMap::default()).collect(),
            of_kinds: LinkedHashMap::default(),
            count: 0,
        }
    }

    pub(super) const fn len(&self) -> usize {
        self.count
    }

    pub(super) fn insert(&mut self, label: Label<K>, server: S, now: Instant) {
        let Label { id, home, kind } = label;
        let index = home.0.min(self.plain.len() - 1);
        let list = match &kind {
            None => self.plain.get_mut(index),
            Some(_) => Some(&mut self.of_kinds),
        };
        if let Some(list) = list {
            list.insert(id, Idle { server, since: now, home, kind });
            self.count += 1;
        }
    }

    /// The plain server named by `last`, else the one used last among those at `home`, else the one
    /// used last anywhere else.
    pub(super) fn take_plain(&mut self, home: Home, last: Option<ServerId>) -> Option<S> {
        if self.count == 0 {
            return None;
        }
        let last = last.and_then(|id| self.plain.iter_mut().find_map(|list| list.remove(&id)));
        let found = last.or_else(|| {
            let at_home = self.plain.get_mut(home.0)?;
            at_home.pop_back().map(|(_, server)| server)
        });
        let found = found.or_else(|| {
            let newest = self.plain.iter_mut().filter(|list| !list.is_empty());
            let newest = newest.max_by_key(|list| list.back().map(|(_, s)| s.since));
            newest.and_then(|list| list.pop_back().map(|(_, s)| s))
        })?;
        self.count -= 1;
        Some(found.server)
    }

    /// The server of `kind` used last among those at `home`, else anywhere.
    pub(super) fn take_of(&mut self, kind: &K, home: Home) -> Option<S> {
        let fits = |entry: &Idle<S, K>| entry.kind.as_ref() == Some(kind);
        let newest = || self.of_kinds.iter().rev().filter(|(_, entry)| fits(entry));
        let at_home = newest().find(|(_, entry)| entry.home == home);
        let id = *at_home.or_else(|| newest().next())?.0;
        let found = self.of_kinds.remove(&id)?;
        self.count -= 1;
        Some(found.server)
    }

    /// Since when the longest-idle one has been idle.
    pub(super) fn longest(&self) -> Option<Instant> {
        let lists = self.plain.iter().chain([&self.of_kinds]);
        lists.filter_map(|list| list.front().map(|(_, s)| s.since)).min()
    }

    pub(super) fn pop_longest(&mut self) -> Option<S> {
        let oldest = self.lists_mut().filter(|list| !list.is_empty());
        let oldest = oldest.min_by_key(|list| list.front().map(|(_, s)| s.since))?;
        let (_, entry) = oldest.pop_front()?;
        self.count -= 1;
        Some(entry.server)
    }

    /// Takes out those that `is_wanted` says.
    pub(super) fn take_where(&mut self, mut is_wanted: impl FnMut(&mut S) -> bool) -> Vec<S> {
        let mut taken = Vec::new();
        for list in self.lists_mut() {
            let mut ids = Vec::new();
            for (id, entry) in list.iter_mut() {
                if is_wanted(&mut entry.server) {
                    ids.push(*id);
                }
            }
            taken.extend(ids.iter().filter_map(|id| list.remove(id)).map(|entry| entry.server));
        }
        self.count -= taken.len();
        taken
    }

    fn lists_mut(&mut self) -> impl Iterator<Item = &mut List<S, K>> {
        self.plain.iter_mut().chain([&mut self.of_kinds])
    }
}
