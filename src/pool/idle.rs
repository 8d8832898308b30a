//! Idle servers: plain ones by site and home, and those of a kind. Pure.

use hashlink::LinkedHashMap;
use tokio::time::Instant;

use super::core::{Home, Kind, Label, ServerId};
use super::sites::Site;

/// The idle servers of a pool.
#[derive(Debug)]
pub(super) struct IdleServers<S, K> {
    /// Plain ones, those of one site after those of the other, by home, up to the last site that has had any; in
    /// each list the longest idle first.
    plain: Vec<List<S, K>>,
    homes: usize,
    of_kinds: List<S, K>,
    count: usize,
}

type List<S, K> = LinkedHashMap<ServerId, Idle<S, K>, foldhash::fast::RandomState>;

#[derive(Debug)]
struct Idle<S, K> {
    server: S,
    since: Instant,
    home: Home,
    site: Site,
    kind: Option<K>,
}

impl<S, K: Kind> IdleServers<S, K> {
    /// None, for `homes` workers.
    pub(super) fn new(homes: usize) -> Self {
        Self {
            plain: Vec::new(),
            homes: homes.max(1),
            of_kinds: LinkedHashMap::default(),
            count: 0,
        }
    }

    pub(super) const fn len(&self) -> usize {
        self.count
    }

    pub(super) fn insert(&mut self, label: Label<K>, server: S, now: Instant) {
        let Label { id, home, site, kind } = label;
        let index = home.0.min(self.homes - 1);
        let list = match &kind {
            None => {
                self.make_room_at(site);
                self.plain_at_mut(site).get_mut(index)
            }
            Some(_) => Some(&mut self.of_kinds),
        };
        if let Some(list) = list {
            list.insert(id, Idle { server, since: now, home, site, kind });
            self.count += 1;
        }
    }

    fn plain_at(&self, site: Site) -> &[List<S, K>] {
        let first = site.0 * self.homes;
        self.plain.get(first..first + self.homes).unwrap_or_default()
    }

    fn plain_at_mut(&mut self, site: Site) -> &mut [List<S, K>] {
        let first = site.0 * self.homes;
        self.plain.get_mut(first..first + self.homes).unwrap_or_default()
    }

    fn make_room_at(&mut self, site: Site) {
        let end = (site.0 + 1) * self.homes;
        if self.plain.len() < end {
            self.plain.resize_with(end, LinkedHashMap::default);
        }
    }

    /// True if a plain one is idle at `site`.
    pub(super) fn has_plain(&self, site: Site) -> bool {
        self.plain_at(site).iter().any(|list| !list.is_empty())
    }

    /// The plain server at `site` that is named by `last`, else the one used last among those at `home`, else
    /// the one used last anywhere else.
    pub(super) fn take_plain(
        &mut self,
        site: Site,
        home: Home,
        last: Option<ServerId>,
    ) -> Option<S> {
        if self.count == 0 {
            return None;
        }
        let plain = self.plain_at_mut(site);
        let last = last.and_then(|id| plain.iter_mut().find_map(|list| list.remove(&id)));
        let found = last.or_else(|| {
            let at_home = plain.get_mut(home.0)?;
            at_home.pop_back().map(|(_, server)| server)
        });
        let found = found.or_else(|| newest_of(plain))?;
        self.count -= 1;
        Some(found.server)
    }

    /// Takes the plain one at `site` that was used last.
    pub(super) fn take_newest(&mut self, site: Site) -> Option<S> {
        let found = newest_of(self.plain_at_mut(site))?;
        self.count -= 1;
        Some(found.server)
    }

    /// True if one of `kind` is idle.
    pub(super) fn has_of(&self, kind: &K) -> bool {
        self.of_kinds.values().any(|entry| entry.kind.as_ref() == Some(kind))
    }

    /// The server of `kind` at a site of the lowest `rank`; of several the one used last among those at `home`, else
    /// anywhere; and its site.
    pub(super) fn take_of(
        &mut self,
        kind: &K,
        home: Home,
        rank: impl Fn(Site) -> u8,
    ) -> Option<(S, Site)> {
        let fits = |entry: &Idle<S, K>| entry.kind.as_ref() == Some(kind);
        let newest = self.of_kinds.iter().rev().filter(|(_, entry)| fits(entry));
        let id = *newest.min_by_key(|(_, entry)| (rank(entry.site), entry.home != home))?.0;
        let found = self.of_kinds.remove(&id)?;
        self.count -= 1;
        Some((found.server, found.site))
    }

    /// Since when the longest-idle one has been idle.
    pub(super) fn longest(&self) -> Option<Instant> {
        let lists = self.plain.iter().chain([&self.of_kinds]);
        lists.filter_map(|list| list.front().map(|(_, s)| s.since)).min()
    }

    /// Since when the longest-idle one at `site` has been idle.
    pub(super) fn longest_at(&self, site: Site) -> Option<Instant> {
        let plain = self.plain_at(site).iter().filter_map(|list| list.front());
        let of_kind = self.of_kinds.iter().find(|(_, entry)| entry.site == site);
        plain.chain(of_kind).map(|(_, entry)| entry.since).min()
    }

    /// Takes the longest-idle one, and its site.
    pub(super) fn pop_longest(&mut self) -> Option<(S, Site)> {
        let oldest = self.lists_mut().filter(|list| !list.is_empty());
        let oldest = oldest.min_by_key(|list| list.front().map(|(_, s)| s.since))?;
        let (_, entry) = oldest.pop_front()?;
        self.count -= 1;
        Some((entry.server, entry.site))
    }

    /// Takes the longest-idle one at `site`.
    pub(super) fn pop_longest_at(&mut self, site: Site) -> Option<S> {
        let since = self.longest_at(site)?;
        let is_it = |entry: &Idle<S, K>| entry.site == site && entry.since == since;
        let entry = self.lists_mut().find_map(|list| {
            let id = *list.iter().find(|(_, entry)| is_it(entry))?.0;
            list.remove(&id)
        })?;
        self.count -= 1;
        Some(entry.server)
    }

    /// Takes out those that `is_wanted` says, each with its site.
    pub(super) fn take_where(
        &mut self,
        mut is_wanted: impl FnMut(&mut S) -> bool,
    ) -> Vec<(S, Site)> {
        self.take(|entry| is_wanted(&mut entry.server))
    }

    /// Takes out those at sites that `is_meant`, each with its site.
    pub(super) fn take_sites(&mut self, is_meant: impl Fn(Site) -> bool) -> Vec<(S, Site)> {
        self.take(|entry| is_meant(entry.site))
    }

    fn take(&mut self, mut is_wanted: impl FnMut(&mut Idle<S, K>) -> bool) -> Vec<(S, Site)> {
        let mut taken = Vec::new();
        for list in self.lists_mut() {
            let mut ids = Vec::new();
            for (id, entry) in list.iter_mut() {
                if is_wanted(entry) {
                    ids.push(*id);
                }
            }
            let gone = ids.iter().filter_map(|id| list.remove(id));
            taken.extend(gone.map(|entry| (entry.server, entry.site)));
        }
        self.count -= taken.len();
        taken
    }

    fn lists_mut(&mut self) -> impl Iterator<Item = &mut List<S, K>> {
        self.plain.iter_mut().chain([&mut self.of_kinds])
    }
}

/// Takes the one that was used last.
fn newest_of<S, K>(lists: &mut [List<S, K>]) -> Option<Idle<S, K>> {
    let newest = lists.iter_mut().filter(|list| !list.is_empty());
    let newest = newest.max_by_key(|list| list.back().map(|(_, entry)| entry.since))?;
    newest.pop_back().map(|(_, entry)| entry)
}
