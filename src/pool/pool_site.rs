//! What a pool has at each of its hosts.

use std::sync::atomic::Ordering::Relaxed;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::Waker;
use std::time::Duration;

use tokio::time::{Instant, sleep_until};

use super::connector;
use super::core::{Evened, Site, Standing};
use super::host::Host;
use super::ledger::CapId;
use super::pool::Pool;
use crate::runtime::backoff::Pace;
use crate::server::connect::Target;
use crate::server::record::ServerRecord;
use crate::telemetry::counters::CloseReason;

/// One of a pool's hosts.
#[derive(Debug)]
pub struct PoolSite {
    pub host: Arc<Host>,
    pub target: Target,
    /// The shared caps that the pool's servers there count under.
    pub caps: Arc<[CapId]>,
    /// Of attempts to open one more where the host has no room for it, or does not let this pool in.
    pace: Mutex<Pace>,
}

/// What those know of a pool's hosts who watch them.
pub trait Outlook: Send + Sync + std::fmt::Debug {
    /// Each host on a line of its own: its state, since when, and what is wrong with it.
    fn describe(&self) -> String;

    /// How long a client waits, from its request on, while no host serves; `None`: as long as for any server.
    fn patience(&self) -> Option<Duration>;
}

impl PoolSite {
    pub fn new(host: Arc<Host>, target: Target, caps: Arc<[CapId]>) -> Self {
        Self { host, target, caps, pace: Mutex::default() }
    }

    /// Asks to try to open one more server.
    pub(super) fn admit(&self, now: Instant) -> Result<(), Instant> {
        self.pace().admit(now)
    }

    /// The host is there, and did not let in one more, at `now`.
    pub(super) fn on_turned_away(&self, now: Instant) {
        self.pace().on_failure(now);
    }

    pub(super) fn on_let_in(&self) {
        *self.pace() = Pace::default();
    }

    fn pace(&self) -> MutexGuard<'_, Pace> {
        self.pace.lock().unwrap_or_else(PoisonError::into_inner)
    }
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

    /// Its hosts as they are configured, e.g. `db1:5432,db2:5432`.
    pub fn hosts(&self) -> String {
        let hosts: Vec<_> = self.sites.iter().map(|site| site.host.addr.to_string()).collect();
        hosts.join(",")
    }

    /// Sets what each site is, in their order. Servers at those that are out are closed: idle ones now, others
    /// when they come back. Who is opening one there looks elsewhere.
    pub fn set_sites(self: &Arc<Self>, standings: &[Standing]) {
        let mut core = self.core();
        let gone = core.set_sites(standings);
        let is_out = core.sites_in_use() == 0;
        let has_changed = self.is_out.swap(is_out, Relaxed) != is_out;
        // Those who wait have another time to wait.
        let wakers: Vec<_> = if has_changed {
            core.waiters().filter_map(|waiter| waiter.nudge()).collect()
        } else {
            Vec::new()
        };
        drop(core);
        wakers.into_iter().for_each(Waker::wake);
        self.sites_changed.send_modify(|version| *version += 1);
        self.close_idle(gone, CloseReason::HostOut);
        self.open_if_wanted();
    }

    /// True if what is under way on `server` is lost, whether that has been noticed or not.
    pub fn is_stranded(&self, server: &ServerRecord) -> bool {
        self.core().is_lost(server.site)
    }

    /// The sessions that are linked to such servers.
    pub fn stranded(&self) -> Vec<u64> {
        let records = self.records();
        let core = self.core();
        let lost = records.iter().filter(|record| core.is_lost(record.site));
        lost.filter_map(|record| record.link()).collect()
    }

    /// How long a client may wait for a server that may wait for `timeout` where a host serves.
    pub fn patience(&self, timeout: Duration) -> Duration {
        if !self.is_out.load(Relaxed) {
            return timeout;
        }
        self.outlook.patience().map_or(timeout, |patience| patience.min(timeout))
    }

    /// Waits until a client that has waited `since` then may wait no longer, whatever happens to the hosts
    /// meanwhile.
    pub async fn out_of_patience(&self, since: Instant, timeout: Duration) {
        let mut changes = self.sites_changed.subscribe();
        loop {
            changes.mark_unchanged();
            tokio::select! {
                () = sleep_until(since + self.patience(timeout)) => return,
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
