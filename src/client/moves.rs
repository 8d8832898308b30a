//! A session that goes from one pool of its domain to another, between transactions.

use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;

use tokio::time::Instant;

use super::placement::pool_of;
use super::read_only::SETTING as READ_ONLY;
use super::routes::Routes;
use super::serve::Session;
use crate::config::{Mode, PoolSettings};
use crate::domain::Route;
use crate::pool::Pool;

impl Session {
    /// The rules that the session would have in `mode`.
    pub(super) fn rules_of(&self, mode: Mode) -> Option<Arc<PoolSettings>> {
        let domain = self.context.router.domain(&self.pool.domain)?;
        Some(self.context.pool_settings(&domain.config, &self.record().user, mode))
    }

    /// Has the session go on in `mode`. No server is linked, and none is waited for.
    pub(super) fn go_to(&mut self, mode: Mode) {
        if mode == self.mode {
            return;
        }
        let Some(domain) = self.context.router.domain(&self.pool.domain) else { return };
        let route = Route {
            domain: Arc::clone(domain),
            database: Arc::clone(&self.pool.database),
            mode: None,
        };
        let (pool, rules) = pool_of(&route, mode, &self.record().user, &self.context);
        if self.routes.is_none() {
            self.routes = Routes::of(&route, &pool, &rules, &self.record().user, &self.context);
            // It may have written in the mode that it had.
            if let Some(routes) = &mut self.routes {
                routes.note_written(Instant::now());
            }
        }
        if mode == Mode::ReadOnly && self.settings.value(READ_ONLY) == Some("off") {
            // Set behind the change of the mode, in the same transaction.
            Arc::make_mut(&mut self.settings).remove(READ_ONLY);
            self.keep_settings();
        }
        self.mode = mode;
        self.is_particular = true;
        self.rules = rules;
        self.use_pool(pool);
    }

    /// Takes servers from another pool from now on.
    pub(super) fn use_pool(&mut self, pool: Arc<Pool>) {
        self.pool.clients.fetch_sub(1, Relaxed);
        pool.clients.fetch_add(1, Relaxed);
        self.traffic = pool.traffic.of(self.home.0);
        self.pool = pool;
    }
}
