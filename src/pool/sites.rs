//! The hosts under one pool: which of them serve it, and how its servers are spread over them. Pure.

use std::cmp::Ordering;

/// One of the hosts of the pool's domain: its place in the configuration.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Site(pub usize);

/// Something for each site, of which there is at least one.
#[derive(Debug, Clone)]
pub struct PerSite<T> {
    first: T,
    others: Vec<T>,
}

impl<T> PerSite<T> {
    pub const fn new(first: T, others: Vec<T>) -> Self {
        Self { first, others }
    }

    /// What is for `site`; for one that there is not, what is for the first.
    pub fn get(&self, site: Site) -> &T {
        site.0.checked_sub(1).and_then(|at| self.others.get(at)).unwrap_or(&self.first)
    }

    /// In the order of the sites.
    pub fn iter(&self) -> impl Iterator<Item = &T> {
        std::iter::once(&self.first).chain(&self.others)
    }

    pub const fn count(&self) -> usize {
        1 + self.others.len()
    }

    /// Something else for each site, made of what is for it here.
    pub fn map<U>(&self, mut make: impl FnMut(Site, &T) -> U) -> PerSite<U> {
        let first = make(Site(0), &self.first);
        let others = (1..).zip(&self.others).map(|(at, other)| make(Site(at), other)).collect();
        PerSite { first, others }
    }
}

/// What a site is to a pool at the moment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Standing {
    /// The host is gone, or takes writes that are lost: what is under way there is lost as well.
    Lost,
    /// None of the pool's servers may be there; what is under way may end.
    Out,
    /// It keeps the servers that it has; they are lent if nothing is idle where work should go, and others are
    /// opened only if no other site serves.
    Shunned,
    /// Work goes there, in proportion to the weight among the sites that serve. At least 1.
    Serves { weight: u32 },
}

/// How work is spread over the sites that serve.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Balance {
    /// To the site with the fewest servers lent, weighted by how long they have taken of late.
    LeastBusy,
    /// To each in turn, as often as its weight says.
    RoundRobin,
}

/// The rank of a site that serves, and is avoided.
const AVOIDED: u8 = 1;

/// Ticks for which a site is avoided where a server was lost. The first is under way.
const AVOIDED_FOR: u8 = 2;

/// The sites of one pool.
#[derive(Debug)]
pub(super) struct Sites {
    all: Vec<State>,
    balance: Balance,
    /// Those that are not out. Most may be: the places of addresses that a name does not have.
    in_use: Vec<Site>,
    /// The only one of these, if there is only one: nothing has to be chosen.
    sole: Option<Site>,
}

#[derive(Debug)]
struct State {
    standing: Standing,
    /// Servers there, being opened or open.
    kept: usize,
    lent: usize,
    /// How long a request takes there, in any unit: only the ratios count.
    latency: f64,
    /// What it has saved up of its turns.
    credit: i64,
    /// The ticks for which it is used only if no other serves: it may be about to be lost.
    avoided: u8,
}

impl State {
    fn weight(&self) -> u32 {
        match self.standing {
            Standing::Serves { weight } => weight.max(1),
            Standing::Lost | Standing::Out | Standing::Shunned => 1,
        }
    }

    /// Sites that serve go before those that are avoided, and these before those that are shunned.
    const fn rank(&self) -> u8 {
        match self.standing {
            Standing::Serves { .. } if self.avoided == 0 => 0,
            Standing::Serves { .. } => AVOIDED,
            Standing::Shunned => 2,
            Standing::Lost | Standing::Out => 3,
        }
    }

    const fn is_out(&self) -> bool {
        matches!(self.standing, Standing::Lost | Standing::Out)
    }

    /// How busy it would be with one server more lent.
    fn load(&self) -> f64 {
        (count(self.lent) + 1.0) * self.latency / f64::from(self.weight())
    }

    /// How full it would be with one server more.
    fn fill(&self) -> f64 {
        (count(self.kept) + 1.0) / f64::from(self.weight())
    }
}

/// Counts are small: they are exact.
#[expect(clippy::cast_precision_loss, reason = "pools have far fewer than 2^52 servers")]
const fn count(n: usize) -> f64 {
    n as f64
}

impl Sites {
    /// `count` sites that all serve alike.
    pub(super) fn new(count: usize, balance: Balance) -> Self {
        let state = || State {
            standing: Standing::Serves { weight: 1 },
            kept: 0,
            lent: 0,
            latency: 1.0,
            credit: 0,
            avoided: 0,
        };
        let all: Vec<_> = (0..count.max(1)).map(|_| state()).collect();
        let in_use: Vec<_> = (0..all.len()).map(Site).collect();
        let sole = (all.len() == 1).then_some(Site(0));
        Self { all, balance, in_use, sole }
    }

    pub(super) const fn len(&self) -> usize {
        self.all.len()
    }

    /// The only site that is not out.
    pub(super) const fn sole(&self) -> Option<Site> {
        self.sole
    }

    /// Sets what each site is, in their order; sites beyond the end of `standings` are out.
    pub(super) fn set(&mut self, standings: &[Standing]) {
        for (index, state) in self.all.iter_mut().enumerate() {
            let standing = standings.get(index).copied().unwrap_or(Standing::Out);
            if state.is_out() {
                state.avoided = 0;
            }
            state.standing = standing;
            state.credit = 0;
        }
        let is_in = |(_, state): &(usize, &State)| !state.is_out();
        let in_use = self.all.iter().enumerate().filter(is_in).map(|(index, _)| Site(index));
        self.in_use = in_use.collect();
        self.sole = match self.in_use.as_slice() {
            [sole] => Some(*sole),
            _ => None,
        };
    }

    /// True if each site is what `standings` says, in their order; sites beyond its end are out.
    pub(super) fn are(&self, standings: &[Standing]) -> bool {
        let standings = standings.iter().chain(std::iter::repeat(&Standing::Out));
        self.all.iter().map(|state| &state.standing).eq(standings.take(self.all.len()))
    }

    /// Sets how long requests have taken at each site of late, in their order.
    pub(super) fn set_latencies(&mut self, latencies: &[f64]) {
        for (state, latency) in self.all.iter_mut().zip(latencies) {
            state.latency = if latency.is_finite() && *latency > 0.0 { *latency } else { 1.0 };
        }
    }

    /// A server was lost there. Others may go next, sooner than it is known what the host is: for the next ticks
    /// it is used only if no other site serves.
    pub(super) fn avoid(&mut self, site: Site) {
        if let Some(state) = self.all.get_mut(site.0) {
            state.avoided = AVOIDED_FOR;
        }
    }

    /// One tick has passed.
    pub(super) fn tick(&mut self) {
        self.all.iter_mut().for_each(|state| state.avoided = state.avoided.saturating_sub(1));
    }

    /// How far behind others a site is where servers are to be had: 0 is best.
    pub(super) fn rank(&self, site: Site) -> u8 {
        self.all.get(site.0).map_or(u8::MAX, State::rank)
    }

    /// The sites that are not out.
    pub(super) fn in_use(&self) -> &[Site] {
        &self.in_use
    }

    /// What is known of those.
    fn states_in_use(&self) -> impl Iterator<Item = (Site, &State)> {
        self.in_use.iter().filter_map(|site| Some((*site, self.all.get(site.0)?)))
    }

    pub(super) fn is_out(&self, site: Site) -> bool {
        self.all.get(site.0).is_none_or(State::is_out)
    }

    pub(super) fn is_lost(&self, site: Site) -> bool {
        self.all.get(site.0).is_some_and(|state| state.standing == Standing::Lost)
    }

    /// The site that the next server is to be taken from, among those that `has_idle`.
    pub(super) fn pick_to_lend(&mut self, has_idle: impl Fn(Site) -> bool) -> Option<Site> {
        let candidates = self.states_in_use().filter(|(site, _)| has_idle(*site));
        let order =
            |a: &State, b: &State| a.rank().cmp(&b.rank()).then(compare(a.load(), b.load()));
        let (best, state) = candidates.min_by(|(_, a), (_, b)| order(a, b))?;
        if self.balance == Balance::LeastBusy {
            return Some(best);
        }
        let rank = state.rank();
        Some(self.next_in_turn(|site, s| s.rank() == rank && has_idle(site)).unwrap_or(best))
    }

    /// Each gets as many turns as its weight says, evenly spread (smooth weighted round robin).
    fn next_in_turn(&mut self, is_candidate: impl Fn(Site, &State) -> bool) -> Option<Site> {
        let mut total = 0;
        let mut next: Option<(Site, i64)> = None;
        let Self { all, in_use, .. } = self;
        for site in in_use.iter().copied() {
            let Some(state) = all.get_mut(site.0).filter(|state| is_candidate(site, state)) else {
                continue;
            };
            let weight = i64::from(state.weight());
            state.credit += weight;
            total += weight;
            if next.is_none_or(|(_, most)| state.credit > most) {
                next = Some((site, state.credit));
            }
        }
        let (next, _) = next?;
        self.all.get_mut(next.0)?.credit -= total;
        Some(next)
    }

    /// The site to open the next server at: the one with the fewest for its weight. `except`: not there if
    /// there is any other that serves.
    pub(super) fn pick_to_open(&self, except: Option<Site>) -> Option<Site> {
        let key = |site: &Site| {
            let state = self.all.get(site.0);
            let is_last = Some(*site) == except;
            let rank = match self.rank(*site) {
                // What has failed only now is no better.
                0 if is_last => AVOIDED,
                rank => rank,
            };
            (rank, is_last, state.map_or(f64::MAX, State::fill))
        };
        let order = |a: &Site, b: &Site| {
            let ((rank_a, last_a, fill_a), (rank_b, last_b, fill_b)) = (key(a), key(b));
            (rank_a, last_a).cmp(&(rank_b, last_b)).then(compare(fill_a, fill_b))
        };
        self.in_use.iter().copied().min_by(order)
    }

    /// Where servers are too many and where too few, by two at least: moving one helps.
    pub(super) fn uneven(&self) -> Option<(Site, Site)> {
        if self.sole.is_some() {
            return None;
        }
        let serves = |(_, state): &(Site, &State)| state.rank() == 0;
        let serving = || self.states_in_use().filter(serves);
        let fill = |state: &State| count(state.kept) / f64::from(state.weight());
        let order = |a: &State, b: &State| compare(fill(a), fill(b));
        let (from, fullest) = serving().max_by(|(_, a), (_, b)| order(a, b))?;
        let (to, emptiest) = serving().min_by(|(_, a), (_, b)| order(a, b))?;
        // After the move the one must not be emptier than the other was full.
        let without = count(fullest.kept.checked_sub(1)?) / f64::from(fullest.weight());
        (without >= emptiest.fill()).then_some((from, to))
    }

    /// A server is being opened there.
    pub(super) fn begin(&mut self, site: Site) {
        if let Some(state) = self.all.get_mut(site.0) {
            state.kept += 1;
        }
    }

    /// A server there is being closed, or was not opened after all.
    pub(super) fn end(&mut self, site: Site) {
        if let Some(state) = self.all.get_mut(site.0) {
            debug_assert!(state.kept > 0, "a server left {site:?}, where none was");
            state.kept = state.kept.saturating_sub(1);
        }
    }

    pub(super) fn lend(&mut self, site: Site) {
        if let Some(state) = self.all.get_mut(site.0) {
            state.lent += 1;
        }
    }

    /// A lent server is lent no more.
    pub(super) fn give_back(&mut self, site: Site) {
        if let Some(state) = self.all.get_mut(site.0) {
            debug_assert!(state.lent > 0, "a server came back to {site:?}, which had lent none");
            state.lent = state.lent.saturating_sub(1);
        }
    }

    /// Servers there that are not being closed, and those of them that are lent.
    pub(super) fn counts(&self, site: Site) -> (usize, usize) {
        self.all.get(site.0).map_or((0, 0), |state| (state.kept, state.lent))
    }
}

fn compare(a: f64, b: f64) -> Ordering {
    a.total_cmp(&b)
}

#[cfg(test)]
mod tests {
    use super::*;

    const SERVES: Standing = Standing::Serves { weight: 1 };

    fn sites(balance: Balance, standings: &[Standing]) -> Sites {
        let mut sites = Sites::new(standings.len(), balance);
        sites.set(standings);
        sites
    }

    /// The sites that `turns` checkouts go to, each given back at once.
    fn turns(sites: &mut Sites, turns: usize) -> Vec<usize> {
        (0..turns).filter_map(|_| sites.pick_to_lend(|_| true)).map(|site| site.0).collect()
    }

    #[test]
    fn each_gets_as_many_turns_as_its_weight_says() {
        let weights = [1, 2, 1].map(|weight| Standing::Serves { weight });
        let mut sites = sites(Balance::RoundRobin, &weights);
        let turns = turns(&mut sites, 400);
        let count = |site| turns.iter().filter(|turn| **turn == site).count();
        assert_eq!([0, 1, 2].map(count), [100, 200, 100]);
        assert!(turns.windows(3).all(|three| three.contains(&1)), "in lumps");
    }

    #[test]
    fn work_goes_where_less_of_it_is() {
        let mut sites = sites(Balance::LeastBusy, &[SERVES, SERVES]);
        sites.lend(Site(0));
        assert_eq!(turns(&mut sites, 3), [1, 1, 1]);
        sites.lend(Site(1));
        // What takes three times as long there is worth waiting for here.
        sites.set_latencies(&[3.0, 1.0]);
        sites.lend(Site(1));
        assert_eq!(turns(&mut sites, 1), [1]);
        sites.set_latencies(&[f64::NAN, 0.0]);
        assert_eq!(turns(&mut sites, 1), [0], "what makes no sense counts as nothing");
    }

    #[test]
    fn who_is_shunned_serves_only_if_nobody_else_does() {
        let mut sites = sites(Balance::LeastBusy, &[Standing::Shunned, SERVES, Standing::Out]);
        sites.lend(Site(1));
        assert_eq!(turns(&mut sites, 1), [1]);
        assert_eq!(sites.pick_to_lend(|site| site != Site(1)), Some(Site(0)));
        assert_eq!(sites.pick_to_lend(|site| site == Site(2)), None, "it is out");
        assert_eq!(sites.pick_to_open(None), Some(Site(1)));
        assert_eq!(sites.pick_to_open(Some(Site(1))), Some(Site(1)), "even after a failure");
    }

    #[test]
    fn where_a_server_was_lost_none_is_used_for_a_while_if_another_site_serves() {
        for balance in [Balance::LeastBusy, Balance::RoundRobin] {
            let mut sites = sites(balance, &[SERVES, SERVES, SERVES]);
            (0..4).for_each(|_| sites.begin(Site(1)));
            sites.avoid(Site(0));
            for _ in 0..AVOIDED_FOR {
                sites.lend(Site(1));
                assert!(!turns(&mut sites, 4).contains(&0), "it is avoided");
                assert_eq!(sites.pick_to_open(None), Some(Site(2)));
                assert_eq!(sites.uneven(), Some((Site(1), Site(2))), "none is moved there");
                sites.tick();
            }
            assert!(turns(&mut sites, 4).contains(&0), "for ever");
        }
    }

    #[test]
    fn where_a_server_was_lost_the_next_is_used_if_nothing_else_serves() {
        let mut sites = sites(Balance::LeastBusy, &[SERVES, SERVES]);
        sites.avoid(Site(0));
        assert_eq!(sites.pick_to_lend(|site| site == Site(0)), Some(Site(0)));
        sites.set(&[SERVES, Standing::Out]);
        assert_eq!(sites.pick_to_open(None), Some(Site(0)));
    }

    /// Who may not open anything there would ask for ever.
    #[test]
    fn where_a_server_was_lost_is_as_good_as_where_none_can_be_opened() {
        let mut sites = sites(Balance::LeastBusy, &[SERVES, SERVES, Standing::Shunned]);
        sites.avoid(Site(0));
        assert_eq!(sites.pick_to_open(None), Some(Site(1)));
        assert_eq!(sites.pick_to_open(Some(Site(1))), Some(Site(0)));
        assert_eq!(sites.pick_to_open(Some(Site(0))), Some(Site(1)));
    }

    #[test]
    fn who_comes_back_is_not_avoided_for_what_was_before() {
        let mut sites = sites(Balance::LeastBusy, &[SERVES, SERVES]);
        sites.avoid(Site(0));
        sites.set(&[SERVES, SERVES]);
        assert_eq!(turns(&mut sites, 1), [1], "another look at another host changes nothing");
        sites.set(&[Standing::Lost, SERVES]);
        sites.set(&[SERVES, SERVES]);
        assert_eq!(turns(&mut sites, 1), [0]);
    }

    #[test]
    fn servers_are_opened_where_there_are_fewer_for_the_weight() {
        let weights = [3, 1].map(|weight| Standing::Serves { weight });
        let mut sites = sites(Balance::LeastBusy, &weights);
        for _ in 0..8 {
            let site = sites.pick_to_open(None).unwrap();
            sites.begin(site);
        }
        assert_eq!([0, 1].map(|site| sites.counts(Site(site)).0), [6, 2]);
        assert_eq!(sites.uneven(), None);
        assert_eq!(
            sites.pick_to_open(Some(Site(0))),
            Some(Site(1)),
            "one has just failed at the other"
        );
    }

    #[test]
    fn sites_are_uneven_only_if_a_move_makes_them_less_so() {
        let mut sites = sites(Balance::LeastBusy, &[SERVES, SERVES, Standing::Shunned]);
        sites.begin(Site(0));
        assert_eq!(sites.uneven(), None, "one server is somewhere");
        sites.begin(Site(0));
        assert_eq!(sites.uneven(), Some((Site(0), Site(1))));
        sites.begin(Site(1));
        assert_eq!(sites.uneven(), None);
    }

    #[test]
    fn nothing_is_chosen_where_nothing_serves() {
        let mut sites = sites(Balance::RoundRobin, &[Standing::Out, Standing::Out]);
        assert_eq!((sites.sole(), sites.pick_to_open(None)), (None, None));
        assert_eq!(sites.pick_to_lend(|_| true), None);
        sites.set(&[Standing::Out, Standing::Shunned]);
        assert_eq!((sites.sole(), sites.pick_to_open(None)), (Some(Site(1)), Some(Site(1))));
    }
}
