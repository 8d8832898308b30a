//! How many of a pool's servers may be in use, and what was asked of it.

use std::sync::atomic::Ordering::Relaxed;
use std::sync::{Arc, MutexGuard, PoisonError};

use tokio::time::Instant;

use super::connector;
use super::core::{Given, Limits, Step};
use super::limiter::{Limiter, Reading};
use super::load::LoadRecord;
use super::pool::{Pool, PoolCore};
use crate::config::PoolSettings;
use crate::telemetry::counters::CloseReason;
use crate::telemetry::snapshot::Load;

/// What a pool knows of its load.
#[derive(Debug)]
pub(super) struct Sizing {
    /// With `adaptive`.
    limiter: Option<Limiter>,
    record: LoadRecord,
    /// The limit that was told in the log last.
    told: usize,
    /// How often others had come to serve when that was looked at last.
    sites: u64,
}

impl Sizing {
    pub(super) fn new(settings: &PoolSettings, limits: Limits, now: Instant) -> Self {
        let limiter = || Limiter::new(limits.size, limits.min, limits.most(), now);
        Self {
            limiter: settings.adapts().then(limiter),
            record: LoadRecord::new(now),
            told: limits.size,
            sites: 0,
        }
    }

    /// The limit that is in force.
    pub(super) fn limit(&self) -> Option<usize> {
        self.limiter.as_ref().map(Limiter::in_force)
    }
}

impl Pool {
    fn sizing(&self) -> MutexGuard<'_, Sizing> {
        self.sizing.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What was asked of it in the last quarter of an hour.
    pub fn load(&self) -> Load {
        let waits = self.traffic.waits().values().0;
        self.sizing().record.load(&waits)
    }

    /// True if its limit was found to be as good as any.
    pub fn is_settled(&self) -> bool {
        self.sizing().limiter.as_ref().is_some_and(Limiter::is_settled)
    }

    /// How many servers may be in use now.
    pub fn limit(&self) -> usize {
        self.core().limit()
    }

    /// Takes note of what it does, and has the limit follow, if it does.
    pub(super) fn size_up(self: &Arc<Self>, now: Instant) {
        let core = self.core();
        let (in_use, waiting, limit) = (core.in_use(), core.counts().waiting, core.limit());
        let oldest = core.waiting_since().map(|since| now.saturating_duration_since(since));
        drop(core);
        let resting = if self.settings.adapts() { self.resting() } else { 0 };
        let reading = Reading { work: self.traffic.work(), in_use, waiting, resting };
        let mut sizing = self.sizing();
        let waits = || self.traffic.waits().values().0;
        sizing.record.look(now, (&reading, limit), oldest.unwrap_or_default(), waits);
        // Without a host, and across a change of hosts, there is nothing to be found out.
        let sites = self.sites_changed.borrow().of_standings;
        let has_changed = std::mem::replace(&mut sizing.sites, sites) != sites;
        let is_disturbed = has_changed || self.is_out.load(Relaxed);
        let Some(limiter) = sizing.limiter.as_mut() else { return };
        if is_disturbed {
            limiter.disturb(now);
        } else {
            limiter.look(now, reading);
        }
        let (wanted, found, is_at_rest) =
            (limiter.in_force(), limiter.found(), limiter.is_at_rest());
        if is_at_rest && found != sizing.told {
            tracing::info!(domain = %self.domain, mode = self.mode.as_str(), user = %self.user,
                limit = found, was = sizing.told, "the pool's limit was adapted");
            sizing.told = found;
        }
        drop(sizing);
        if wanted != limit {
            self.set_limit(wanted, found);
        }
    }

    /// How many servers are lent to clients that sit in their blocks.
    fn resting(&self) -> usize {
        self.records().iter().filter(|record| record.is_held_at_rest()).count()
    }

    fn set_limit(self: &Arc<Self>, limit: usize, found: usize) {
        tracing::debug!(domain = %self.domain, mode = self.mode.as_str(), user = %self.user,
            limit, found, "another limit of the pool is in force");
        self.core().set_limit(limit);
        self.advance();
    }

    /// What a limit has kept idle may have to be handed out where a server leaves that was in use.
    pub(super) fn advance_if_limited(self: &Arc<Self>) {
        if self.settings.adapts() {
            self.advance();
        }
    }

    /// Does what waiters or `min` want and what is allowed: hands out what is idle, and opens more.
    pub(super) fn advance(self: &Arc<Self>) {
        let now = Instant::now();
        // Nobody waits behind a refusal; `min` alone is no reason to ask again so soon.
        if self.refusal(now).is_some() && self.core().counts().waiting == 0 {
            return;
        }
        self.close_unproved(now);
        loop {
            let mut core = self.core();
            match core.next_step() {
                Some(Step::HandTo(waiter, server)) => {
                    self.pass_on(Given::HandTo(waiter, server), core);
                }
                Some(Step::Open(right)) => {
                    drop(core);
                    connector::start(Arc::clone(self), right);
                }
                Some(Step::Close(server)) => {
                    drop(core);
                    self.close_idle([server], CloseReason::Displaced);
                }
                None => return,
            }
        }
    }

    /// The core, to be given a server: what is idle and may be handed out for it has been proved alive.
    pub(super) fn core_to_give(self: &Arc<Self>, now: Instant) -> MutexGuard<'_, PoolCore> {
        let core = self.core();
        if !core.may_serve_idle() {
            return core;
        }
        drop(core);
        self.close_unproved(now);
        self.core()
    }

    /// Closes those that a limit has kept idle from waiters for so long that they would have to be proved alive:
    /// who waits is handed one that is.
    fn close_unproved(self: &Arc<Self>, now: Instant) {
        if !self.settings.adapts() {
            return;
        }
        let mut core = self.core();
        let counts = core.counts();
        if counts.idle == 0 || counts.waiting == 0 {
            return;
        }
        let unproved = core.take_idle_where(|server| {
            let idle_for = now.saturating_duration_since(server.last_used);
            let is_stale = self.settings.pre_ping && idle_for > self.settings.pre_ping_idle;
            is_stale || !server.is_alive()
        });
        drop(core);
        self.close_idle(unproved, CloseReason::Overflow);
    }
}
