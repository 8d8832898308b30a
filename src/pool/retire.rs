//! Servers that later clients must not get: what they were opened with is not true any more.

use std::sync::atomic::Ordering::Relaxed;
use std::sync::{Arc, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

use super::pool::Pool;
use crate::server::Server;
use crate::telemetry::counters::CloseReason;

/// For how long nothing is opened ahead in a database that `PostgreSQL` wants to be left alone. It
/// waits 5 s itself for others to go.
const HOLD: Duration = Duration::from_secs(10);

impl Pool {
    /// Closes what is idle, and what is lent when it comes back.
    pub fn retire(self: &Arc<Self>) {
        self.generation.fetch_add(1, Relaxed);
        self.close_outdated();
    }

    /// The same, and opens nothing that no client waits for, for a while.
    pub fn vacate(self: &Arc<Self>, now: Instant) {
        *self.min_held_until() = Some(now + HOLD);
        self.core().set_min(0);
        self.retire();
    }

    /// Lets `min` count again when its time has come.
    pub(super) fn release_min(&self, now: Instant) {
        if self.min_held_until().take_if(|until| now >= *until).is_some() {
            self.core().set_min(self.settings.min);
        }
    }

    fn min_held_until(&self) -> MutexGuard<'_, Option<Instant>> {
        self.min_held_until.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// True for a server that was opened before the last `retire`.
    pub(super) fn is_outdated(&self, server: &Server) -> bool {
        server.generation != self.generation.load(Relaxed)
    }

    /// Closes idle servers that came too late to be closed by `retire`.
    pub(super) fn close_outdated(self: &Arc<Self>) {
        let outdated = self.core().take_idle_where(|server| self.is_outdated(server));
        if !outdated.is_empty() {
            tracing::info!(domain = %self.domain, servers = outdated.len(),
                "idle servers are closed: a role, a database or the server was altered");
            self.close_idle(outdated, CloseReason::Altered);
        }
    }
}
