//! Periodic maintenance: what is too old or too long idle, what died unseen, what `min` lacks, and
//! places under caps that others wait for.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::{Instant, MissedTickBehavior, interval};

use super::core::{Expired, Site};
use super::pool::{Commons, Pool};
use crate::telemetry::counters::CloseReason;

/// How often pools are looked after.
const TICK: Duration = Duration::from_millis(500);

/// Looks after the pools that `pools` lists, until the drain begins.
pub async fn run(commons: Arc<Commons>, pools: impl Fn() -> Vec<Arc<Pool>>) {
    let mut ticks = interval(TICK);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            _ = ticks.tick() => {
                let now = Instant::now();
                for pool in pools() {
                    pool.maintain(now);
                }
            }
            () = commons.relieve.notified() => {}
            () = commons.drain.soft().cancelled() => return,
        }
        relieve(&commons, &pools());
    }
}

/// Closes the longest-idle server under a cap that somebody waits for, as long as that helps.
fn relieve(commons: &Commons, pools: &[Arc<Pool>]) {
    while let Some((turn, lacks)) = commons.caps.first_awaited() {
        if turn > Instant::now() {
            // It yields: what others have idle is theirs as well.
            return;
        }
        let is_under = |pool: &Arc<Pool>, site: Site| {
            lacks.iter().any(|cap| pool.site(site).caps.contains(cap))
        };
        let spare = |pool: &Arc<Pool>| {
            let (since, _) = pool.core().spare_since(|site| is_under(pool, site))?;
            Some((since, Arc::clone(pool)))
        };
        let Some((_, pool)) = pools.iter().filter_map(spare).min_by_key(|(since, _)| *since) else {
            return;
        };
        let server = pool.core().take_longest_idle(|site| is_under(&pool, site));
        let Some(server) = server else { return };
        pool.close_idle([server], CloseReason::TakenOver);
    }
}

impl Pool {
    fn maintain(self: &Arc<Self>, now: Instant) {
        self.purge_dead();
        self.close_outdated();
        self.release_min(now);
        self.expire(now);
        self.weigh();
        self.even_out();
        self.size_up(now);
        self.advance();
    }

    fn expire(self: &Arc<Self>, now: Instant) {
        loop {
            let linger = self.settings.overflow_linger;
            let expired = self.core().take_expired(now, linger, self.settings.idle_timeout);
            let Some((server, why)) = expired else { break };
            let reason = match why {
                Expired::Overflow => CloseReason::Overflow,
                Expired::Idle => CloseReason::IdleTimeout,
            };
            self.close_idle([server], reason);
        }
        let old = |expires: Option<Instant>| expires.is_some_and(|expires| now >= expires);
        let mut left = 1;
        let old = self.core().take_idle_where(|server| {
            // One at a time: the others are replaced in the ticks to come (pitfall P35).
            let take = left > 0 && old(server.expires);
            left -= usize::from(take);
            take
        });
        if !old.is_empty() {
            self.close_idle(old, CloseReason::Recycle);
        }
    }
}
