//! Reads of a session that may write, on replicas (`route_read_only`).
//!
//! A transaction that says that it only reads is served from the pool of the mode `read_only`, unless the session
//! has written something that the replicas have not replayed (`causal_reads`). Everything else is served from the
//! session's own pool.

use std::sync::Arc;

use tokio::time::Instant;

use super::from_client::Frame;
use super::memo::recall;
use super::placement::pool_of;
use super::serve::Session;
use crate::config::{Mode, PoolMode, PoolSettings};
use crate::domain::Route;
use crate::domain::causal::Mark;
use crate::domain::lookout::Lookout;
use crate::pool::{Checkout, Pool};
use crate::sql::LoneBegin;
use crate::wire::frontend;

use super::context::Context;

/// Where a session's transactions may go.
#[derive(Debug)]
pub(super) struct Routes {
    own: Arc<Pool>,
    reads: Arc<Pool>,
    lookout: Arc<Lookout>,
    /// What it has written, and may not be on all replicas.
    written: Option<Mark>,
    /// Writes are minded.
    is_causal: bool,
}

impl Routes {
    /// Those of a session of `client` whose own pool is `own`, if there is anything to choose.
    pub(super) fn of(
        route: &Route,
        own: &Arc<Pool>,
        rules: &PoolSettings,
        client: &str,
        context: &Context,
    ) -> Option<Box<Self>> {
        let config = &route.domain.config;
        let has_choice = config.route_read_only
            && own.mode == Mode::ReadWrite
            && rules.pool_mode != PoolMode::Session;
        has_choice.then(|| {
            let (reads, _) = pool_of(route, Mode::ReadOnly, client, context);
            Box::new(Self {
                own: Arc::clone(own),
                reads,
                lookout: Arc::clone(&route.domain.lookout),
                written: None,
                is_causal: config.causal_reads,
            })
        })
    }

    /// A transaction that may have written is over, or lost.
    pub(super) fn note_written(&mut self, now: Instant) {
        if self.is_causal {
            self.written = Some(Mark::Before(now));
        }
    }
}

impl Session {
    /// Chooses the pool for a transaction that begins with `frame`. No server is linked.
    pub(super) fn choose_pool(&mut self, frame: Frame<'_>) {
        if self.routes.is_none() || self.mode != Mode::ReadWrite {
            return;
        }
        let only_reads = self.only_reads(frame);
        let Some(routes) = &mut self.routes else { return };
        let goes_to_replica = only_reads && routes.lookout.may_read(&mut routes.written);
        let pool = if goes_to_replica { &routes.reads } else { &routes.own };
        if Arc::ptr_eq(pool, &self.pool) {
            return;
        }
        let pool = Arc::clone(pool);
        self.use_pool(pool);
    }

    /// True if the transaction says that it only reads. SERIALIZABLE does not count: a standby has no such
    /// transactions.
    fn only_reads(&self, frame: Frame<'_>) -> bool {
        if let Some(begin) = self.begun {
            return begin.is_read_only() || self.reads_by_default();
        }
        let text = match frame.head.tag {
            b'Q' => frontend::query_text(frame.body),
            b'P' => frontend::parse(frame.body).map_or(&b""[..], |parse| parse.text),
            b'B' => return self.reads_by_default() && self.binds_a_read(frame.body),
            _ => return false,
        };
        if !frame.is_whole() {
            return false;
        }
        if let Some(begin) = LoneBegin::read(text) {
            return begin.is_read_only() || self.reads_by_default();
        }
        // Some things that change nothing in a table only a primary does: LISTEN, advisory locks.
        self.reads_by_default() && !recall(text).may_write() && !recall(text).sets()
    }

    fn binds_a_read(&self, body: &[u8]) -> bool {
        let statement =
            frontend::bind(body).and_then(|bind| self.prepared.statement(bind.statement));
        statement.is_some_and(|statement| !statement.traits().may_write())
    }

    /// `default_transaction_read_only` is on, and transactions are not serializable by default.
    fn reads_by_default(&self) -> bool {
        let value = |name| self.settings.value(name).or_else(|| self.reported.value(name));
        value("default_transaction_read_only") == Some("on")
            && value("default_transaction_isolation") != Some("serializable")
    }

    /// True while the session takes its servers from another pool than its own.
    pub(super) fn is_away(&self) -> bool {
        self.pool.mode != self.mode
    }

    /// A server was lent to the session that has not replayed what it has written: another goes to its own pool.
    /// `None`: it is fit.
    pub(super) fn give_back_unfit(&mut self, checkout: Checkout) -> Option<Checkout> {
        let Some(routes) = self.routes.as_ref().filter(|_| self.is_away()) else {
            return Some(checkout);
        };
        let site = checkout.peek().map(|server| server.record.site);
        let is_fit = routes.written.is_none_or(|written| {
            site.is_some_and(|site| routes.lookout.has_replayed(site, written))
        });
        if is_fit {
            return Some(checkout);
        }
        let own = Arc::clone(&routes.own);
        checkout.checkin(Instant::now());
        self.use_pool(own);
        None
    }
}
