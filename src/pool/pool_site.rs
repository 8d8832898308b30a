//! What a pool has at each of its hosts.

use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering::{Acquire, Relaxed, Release};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::Waker;
use std::time::Duration;

use tokio::time::{Instant, sleep_until};

use super::connector;
use super::core::{Evened, PerSite, Site, Standing};
use super::host::{Host, Presence};
use super::ledger::CapId;
use super::pool::Pool;
use crate::config::Mode;
use crate::runtime::backoff::Pace;
use crate::server::connect::Target;
use crate::server::record::ServerRecord;
use crate::telemetry::counters::CloseReason;

/// Servers of one host that are lost within this time are lost for the same reason.
const SERIES: Duration = Duration::from_secs(1);

/// One of a pool's hosts.
#[derive(Debug)]
pub struct PoolSite {
    pub host: Arc<Host>,
    pub target: Target,
    /// The shared caps that the pool's servers there count under.
    pub caps: Arc<[CapId]>,
    /// Of attempts to open one more where the host has no room for it, or does not let this pool in.
    pace: Mutex<Pace>,
    /// How long requests take there of late, in microseconds.
    latency: AtomicU64,
    /// When a server there was last lost, not for what its client did.
    lost: Mutex<Option<Instant>>,
}

/// How often something was new of the hosts of a pool.
#[derive(Debug, Default, Clone, Copy)]
pub struct Changes {
    pub all: u64,
    /// Others serve, or serve otherwise.
    pub of_standings: u64,
}

/// What those know of a pool's hosts who watch them.
pub trait Outlook: Send + Sync + std::fmt::Debug {
    /// Each host on a line of its own: its state, since when, and what is wrong with it.
    fn describe(&self) -> String;

    /// How long a client in `mode` waits while no host serves; `None`: as long as for any server.
    fn patience(&self, mode: Mode) -> Option<Duration>;
}

impl PoolSite {
    pub fn new(host: Arc<Host>, target: Target, caps: Arc<[CapId]>) -> Self {
        let latency = AtomicU64::new(0);
        Self { host, target, caps, pace: Mutex::default(), latency, lost: Mutex::default() }
    }

    /// Asks to try to open one more server.
    pub(super) fn admit(&self, now: Instant) -> Result<(), Instant> {
        self.pace().admit(now)
    }

    /// The host is there, and did not let in one more, at `now`. Returns when it may be asked again.
    pub(super) fn on_turned_away(&self, now: Instant) -> Instant {
        self.pace().on_failure(now)
    }

    pub(super) fn on_let_in(&self) {
        *self.pace() = Pace::default();
    }

    /// A request there took this long: an eighth of what is known is what came last. Two at once may lose one.
    fn note_latency(&self, took: Duration) {
        let took = u64::try_from(took.as_micros()).unwrap_or(u64::MAX).max(1);
        let known = self.latency.load(Relaxed);
        let next = if known == 0 { took } else { known - known / 8 + took / 8 };
        self.latency.store(next.max(1), Relaxed);
    }

    /// What it has taken longer than the `fastest` is half forgotten in three seconds: a site that is spared for it
    /// is tried again, and learns better or not.
    pub(super) fn fade(&self, fastest: u64) {
        let known = self.latency.load(Relaxed);
        if let Some(beyond) = known.checked_sub(fastest).filter(|_| known > 0) {
            self.latency.store(known - beyond / 8, Relaxed);
        }
    }

    /// It serves again, or another host does in its place: what was known of it says nothing.
    fn forget(&self) {
        *self.pace() = Pace::default();
        *self.lost() = None;
        self.latency.store(0, Relaxed);
    }

    #[cfg(test)]
    pub(super) fn latency(&self) -> u64 {
        self.latency.load(Relaxed)
    }

    fn lost(&self) -> MutexGuard<'_, Option<Instant>> {
        self.lost.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn pace(&self) -> MutexGuard<'_, Pace> {
        self.pace.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The hosts of `sites` as they are configured, each once.
pub(super) fn names(sites: &PerSite<PoolSite>) -> String {
    let mut names: Vec<String> = Vec::new();
    for site in sites.iter() {
        let name = site.host.endpoint.name.to_string();
        if !names.contains(&name) {
            names.push(name);
        }
    }
    names.join(",")
}

impl Pool {
    /// What it has at `site`.
    pub fn site(&self, site: Site) -> &PoolSite {
        self.sites.get(site)
    }

    /// The host that a server of its is at.
    pub fn host_of(&self, server: &ServerRecord) -> &Arc<Host> {
        &self.site(server.site).host
    }

    /// A request on `server` took this long.
    pub fn note_latency(&self, server: &ServerRecord, took: Duration) {
        // Where there is nothing to choose, nobody asks.
        if self.has_choice.load(Relaxed) {
            self.site(server.site).note_latency(took);
        }
    }

    /// A server of its was lost at `now`, and it was not for what its client did: for a moment its host is used only
    /// if no other serves.
    pub fn on_lost(&self, server: &ServerRecord, now: Instant) {
        *self.site(server.site).lost() = Some(now);
        self.core().avoid(server.site);
    }

    /// True if `server`, which is lost at `now`, was open when another of its was lost at the same host, within the
    /// second before: no exchange of its brings `PostgreSQL` down that was to come down already.
    pub fn loses_several(&self, server: &ServerRecord, now: Instant) -> bool {
        let last = *self.site(server.site).lost();
        last.is_some_and(|last| {
            server.opened < last && now.saturating_duration_since(last) < SERIES
        })
    }

    /// Has the core choose by what requests have taken of late. Where nothing is known it is taken for the
    /// fastest, so that it is tried.
    pub(super) fn weigh(&self) {
        self.core().tick();
        if !self.has_choice.load(Relaxed) {
            return;
        }
        let known = || self.sites.iter().map(|site| site.latency.load(Relaxed));
        let fastest = known().filter(|latency| *latency > 0).min().unwrap_or(1);
        self.sites.iter().for_each(|site| site.fade(fastest));
        let latencies: Vec<_> = known()
            .map(|latency| if latency == 0 { fastest } else { latency })
            .map(|latency| Duration::from_micros(latency).as_secs_f64())
            .collect();
        self.core().set_latencies(&latencies);
    }

    /// Its servers at `site` that are not being closed.
    pub fn servers_at(&self, site: Site) -> usize {
        self.core().counts_at(site).0
    }

    /// True if the two have servers at the same host.
    pub fn shares_host(&self, other: &Self) -> bool {
        let is_ours =
            |site: &PoolSite| other.sites.iter().any(|o| Arc::ptr_eq(&o.host, &site.host));
        self.sites.iter().any(is_ours)
    }

    /// Sets what each site is, in their order. Servers at those that are out are closed: idle ones now, others
    /// when they come back. Who is opening one there looks elsewhere.
    pub fn set_sites(self: &Arc<Self>, standings: &[Standing]) {
        let mut core = self.core();
        for (index, standing) in standings.iter().enumerate() {
            let is_out = matches!(standing, Standing::Lost | Standing::Out);
            if !is_out && core.is_out(Site(index)) {
                self.site(Site(index)).forget();
            }
        }
        let is_other = !core.are_sites(standings);
        let gone = core.set_sites(standings);
        let is_out = core.sites_in_use() == 0;
        self.has_choice.store(core.sites_in_use() > 1, Relaxed);
        // In this order: who sees the one goes by the other.
        if is_out && !self.is_out.load(Relaxed) {
            *self.out_since() = Some(Instant::now());
        }
        let was_out = self.is_out.swap(is_out, Release);
        // Those who wait may have another time to wait.
        let wakers: Vec<_> = if is_out || was_out {
            core.waiters().filter_map(|waiter| waiter.nudge()).collect()
        } else {
            Vec::new()
        };
        drop(core);
        wakers.into_iter().for_each(Waker::wake);
        self.sites_changed.send_modify(|changes| {
            changes.all += 1;
            changes.of_standings += u64::from(is_other);
        });
        self.close_idle(gone, CloseReason::HostOut);
        self.advance();
    }

    /// True if what is under way on `server` is lost, whether that has been noticed or not.
    pub fn is_stranded(&self, server: &ServerRecord) -> bool {
        self.core().is_lost(server.site)
    }

    /// The sessions that are linked to such servers.
    pub fn stranded(&self) -> Vec<u64> {
        let lost = self.core().lost();
        if lost.is_empty() {
            return Vec::new();
        }
        let records = self.records();
        let stranded = records.iter().filter(|record| lost.contains(&record.site));
        stranded.filter_map(|record| record.link()).collect()
    }

    /// True if `server` is at a host that could serve only as long as there was no primary, and there is one now.
    pub fn is_misplaced(&self, server: &ServerRecord) -> bool {
        if self.mode == Mode::ReadOnly
            || self.is_out.load(Relaxed)
            || self.host_of(server).presence() != Presence::Present
        {
            return false;
        }
        let core = self.core();
        core.is_out(server.site) && !core.is_lost(server.site)
    }

    /// The sessions that are linked to such servers.
    pub fn misplaced(&self) -> Vec<u64> {
        if self.mode == Mode::ReadOnly || self.core().left_at_work().is_empty() {
            return Vec::new();
        }
        let records = self.records();
        let linked = records.iter().filter_map(|record| Some((record, record.link()?)));
        linked.filter(|(record, _)| self.is_misplaced(record)).map(|(_, id)| id).collect()
    }

    /// True while no host serves it.
    pub fn is_without_host(&self) -> bool {
        self.is_out.load(Relaxed)
    }

    /// Until when a client may wait that has waited `since` then, and may do so for `timeout` where a host serves.
    /// Where none does it is told sooner: `failover.timeout` behind its request, or behind the moment when it was
    /// seen that none does, whichever is later. That a host is silent takes a while to be seen.
    pub fn wait_until(&self, since: Instant, timeout: Duration) -> Instant {
        let until = since + timeout;
        if !self.is_out.load(Acquire) {
            return until;
        }
        let Some(patience) = self.outlook.patience(self.mode) else { return until };
        let out_since = self.out_since().unwrap_or(since);
        until.min(since.max(out_since) + patience)
    }

    /// True if no host serves, and who asks is to be told at once.
    pub(super) fn tells_at_once(&self) -> bool {
        self.is_out.load(Relaxed)
            && self.outlook.patience(self.mode).is_some_and(|patience| patience.is_zero())
    }

    fn out_since(&self) -> MutexGuard<'_, Option<Instant>> {
        self.out_since.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits until a client that has waited `since` then may wait no longer, whatever happens to the hosts
    /// meanwhile.
    pub async fn out_of_patience(&self, since: Instant, timeout: Duration) {
        let mut changes = self.sites_changed.subscribe();
        loop {
            changes.mark_unchanged();
            tokio::select! {
                () = sleep_until(self.wait_until(since, timeout)) => return,
                // Its sender is the pool's: it never goes before it.
                _ = changes.changed() => {}
            }
        }
    }

    /// Waits until `site` is out.
    pub(super) async fn wait_until_out(&self, site: Site) {
        let mut changes = self.sites_changed.subscribe();
        while !self.core().is_out(site) {
            // Its sender is the pool's: it never goes before it.
            let _changed = changes.changed().await;
        }
    }

    /// Waits until what is under way at `site` is lost.
    pub(super) async fn wait_until_lost(&self, site: Site) {
        let mut changes = self.sites_changed.subscribe();
        while !self.core().is_lost(site) {
            let _changed = changes.changed().await;
        }
    }

    /// Moves a few servers from where there are too many to where there are too few: all at once would be a
    /// flood for a host that has just come back.
    pub(super) fn even_out(self: &Arc<Self>) {
        let most = (self.settings.size / 8).max(1);
        for _ in 0..most {
            let evened = self.core().even_out();
            match evened {
                Evened::Even => return,
                Evened::Open(right) => connector::start(Arc::clone(self), right),
                Evened::Close(server) => self.close_idle([server], CloseReason::EvenedOut),
            }
        }
    }
}
