//! Where the servers of a pool are: which of its sites serve, and evening them out.

use tokio::time::Instant;

use super::{Core, Evened, Kind, Right, Site, Standing};

impl<S, W, K: Kind> Core<S, W, K> {
    /// Has a right used at another site if its own is out, or if it `failed` there and another serves. False if
    /// there is no site to use it at.
    pub fn settle(&mut self, right: &mut Right<K>, failed: bool) -> bool {
        if !failed && !self.sites.is_out(right.site) {
            return true;
        }
        if right.evens_out {
            // Elsewhere it would make things less even.
            return false;
        }
        let Some(site) = self.sites.pick_to_open(failed.then_some(right.site)) else {
            return false;
        };
        self.sites.end(right.site);
        self.sites.begin(site);
        right.site = site;
        true
    }

    /// Moves one server from where there are too many to where there are too few: a right to open one there,
    /// if there is room, else one that is to be closed, now or when it comes back.
    pub fn even_out(&mut self) -> Evened<S, K> {
        let Some((from, to)) = self.sites.uneven().filter(|_| !self.closed) else {
            self.shed = None;
            return Evened::Even;
        };
        // What is more than lasts would be closed again as soon as it may.
        if self.total() < self.lasting() {
            self.shed = None;
            return Evened::Open(self.right(None, to, true));
        }
        match self.idle.pop_longest_at(from) {
            Some(server) => {
                self.end(from);
                Evened::Close(server)
            }
            None => {
                self.shed = Some(from);
                Evened::Even
            }
        }
    }

    /// Sets what each site is, in their order. Returns the idle servers at those that are out, to be closed.
    pub fn set_sites(&mut self, standings: &[Standing]) -> Vec<S> {
        self.sites.set(standings);
        let Self { idle, sites, .. } = self;
        let gone = idle.take_sites(|site| sites.is_out(site));
        gone.into_iter()
            .map(|(server, site)| {
                self.end(site);
                server
            })
            .collect()
    }

    /// True if the sites are already what `standings` says, in their order.
    pub fn are_sites(&self, standings: &[Standing]) -> bool {
        self.sites.are(standings)
    }

    /// Sets how long requests have taken at each site of late, in any unit.
    pub fn set_latencies(&mut self, latencies: &[f64]) {
        self.sites.set_latencies(latencies);
    }

    /// A server at `site` was lost: others are used before those that are left there, for the next ticks.
    pub fn avoid(&mut self, site: Site) {
        self.sites.avoid(site);
    }

    /// One tick has passed.
    pub fn tick(&mut self) {
        self.sites.tick();
    }

    /// True if no server may be at `site`.
    pub fn is_out(&self, site: Site) -> bool {
        self.sites.is_out(site)
    }

    /// The sites where what is under way is lost.
    pub fn lost(&self) -> Vec<Site> {
        (0..self.sites.len()).map(Site).filter(|site| self.sites.is_lost(*site)).collect()
    }

    /// True if what is under way at `site` is lost.
    pub fn is_lost(&self, site: Site) -> bool {
        self.sites.is_lost(site)
    }

    /// The sites that are out, where what is under way may end, and something is.
    pub fn left_at_work(&self) -> Vec<Site> {
        let sites = (0..self.sites.len()).map(Site);
        let is_left = |site: &Site| {
            self.sites.is_out(*site) && !self.sites.is_lost(*site) && self.sites.counts(*site).1 > 0
        };
        sites.filter(is_left).collect()
    }

    /// How many sites are not out.
    pub fn sites_in_use(&self) -> usize {
        self.sites.in_use().len()
    }

    /// True if there is more than one site to open servers at.
    pub fn has_choice(&self) -> bool {
        self.sites.sole().is_none() && self.sites_in_use() > 1
    }

    /// Servers at `site` that are not being closed, and those of them that are lent.
    pub fn counts_at(&self, site: Site) -> (usize, usize) {
        self.sites.counts(site)
    }

    /// Takes out, to be closed, the longest-idle server at a site that `is_meant`, if the pool has more than
    /// `min`.
    pub fn take_longest_idle(&mut self, is_meant: impl Fn(Site) -> bool) -> Option<S> {
        let (_, site) = self.spare_since(is_meant)?;
        let server = self.idle.pop_longest_at(site)?;
        self.end(site);
        Some(server)
    }

    /// Since when the longest-idle server that may be taken has been idle, of those at sites that `is_meant`.
    pub fn spare_since(&self, is_meant: impl Fn(Site) -> bool) -> Option<(Instant, Site)> {
        if self.kept() <= self.limits.min {
            return None;
        }
        let sites = (0..self.sites.len()).map(Site).filter(|site| is_meant(*site));
        let longest = sites.filter_map(|site| Some((self.idle.longest_at(site)?, site)));
        longest.min_by_key(|(since, _)| *since)
    }
}
