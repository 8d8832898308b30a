//! Reads of a session that may write, on replicas (`route_read_only`).
//!
//! A transaction that says that it only reads is served from the pool of the mode `read_only`, unless the session
//! has written something that the replicas have not replayed (`causal_reads`). Everything else is served from the
//! session's own pool.

use std::sync::Arc;

use tokio::time::Instant;

use super::context::Context;
use super::from_client::Frame;
use super::memo::recall;
use super::placement::pool_of;
use super::read_only::SETTING as READ_ONLY;
use super::serve::Session;
use crate::config::{Mode, PoolMode, PoolSettings};
use crate::domain::Route;
use crate::domain::causal::Mark;
use crate::domain::lookout::Lookout;
use crate::pool::{Checkout, Pool};
use crate::sql::LoneBegin;
use crate::wire::frontend;

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
    /// The domain's servers begin SERIALIZABLE transactions.
    serializes: bool,
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
                serializes: config.server_options.iter().any(|(name, value)| {
                    name.eq_ignore_ascii_case(ISOLATION) && value.eq_ignore_ascii_case(SERIALIZABLE)
                }),
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
    #[inline]
    pub(super) fn choose_pool(&mut self, frame: Frame<'_>) {
        if self.routes.is_some() && self.mode == Mode::ReadWrite {
            self.choose(frame);
        }
    }

    fn choose(&mut self, frame: Frame<'_>) {
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
        let Some(text) = self.text_of(frame) else { return false };
        let traits = recall(text);
        if let Some(begin) = self.begun {
            // SET TRANSACTION READ WRITE is the first statement of its block.
            return self.may_begin_there(begin) && !traits.sets();
        }
        if let Some(begin) = LoneBegin::read(text) {
            return self.may_begin_there(begin);
        }
        // Some things that change nothing in a table only a primary does: LISTEN, advisory locks.
        let is_plain_read =
            !traits.may_write() && !traits.is_control() && !traits.several_statements();
        is_plain_read && self.reads_by_default() && !self.is_serializable()
    }

    /// The text that a transaction begins with, where that is known as a whole.
    fn text_of<'a>(&'a self, frame: Frame<'a>) -> Option<&'a [u8]> {
        match frame.head.tag {
            b'Q' if frame.is_whole() => Some(frontend::query_text(frame.body)),
            b'P' => Some(frontend::parse(frame.body)?.text),
            b'B' => {
                let statement = frontend::bind(frame.body)?.statement;
                Some(self.prepared.statement(statement)?.text())
            }
            _ => None,
        }
    }

    fn may_begin_there(&self, begin: LoneBegin) -> bool {
        (begin.is_read_only() || self.reads_by_default())
            && (begin.names_isolation() || !self.is_serializable())
    }

    /// `default_transaction_read_only` is on: as the session has it, or else the servers of its own pool.
    fn reads_by_default(&self) -> bool {
        let of_pool = || self.routes.as_ref().and_then(|routes| routes.own.welcome());
        match self.settings.value(READ_ONLY) {
            Some(value) => value == "on",
            None => of_pool().is_some_and(|welcome| welcome.value(READ_ONLY) == Some("on")),
        }
    }

    /// Transactions that say nothing else are SERIALIZABLE, as far as is known.
    fn is_serializable(&self) -> bool {
        match self.settings.value(ISOLATION) {
            Some(value) => value.eq_ignore_ascii_case(SERIALIZABLE),
            None => self.routes.as_ref().is_some_and(|routes| routes.serializes),
        }
    }

    /// True while the session takes its servers from another pool than its own.
    #[inline]
    pub(super) fn is_away(&self) -> bool {
        self.routes.is_some() && self.pool.mode != self.mode
    }

    /// A server was lent to the session that has not replayed what it has written: another goes to its own pool.
    /// `None`: it is fit.
    #[inline]
    pub(super) fn give_back_unfit(&mut self, checkout: Checkout) -> Option<Checkout> {
        if self.is_away() { self.check_fit(checkout) } else { Some(checkout) }
    }

    #[cold]
    fn check_fit(&mut self, checkout: Checkout) -> Option<Checkout> {
        let Some(routes) = &self.routes else { return Some(checkout) };
        let is_fit = routes.written.is_none_or(|written| {
            let record = checkout.peek().map(|server| &server.record);
            record.is_some_and(|record| {
                routes.lookout.has_replayed(record.site, written, record.opened)
            })
        });
        if is_fit {
            return Some(checkout);
        }
        checkout.checkin(Instant::now());
        self.come_home();
        None
    }

    /// Takes servers from the session's own pool again; false if it does already.
    pub(super) fn come_home(&mut self) -> bool {
        let Some(routes) = self.routes.as_ref().filter(|_| self.is_away()) else { return false };
        let own = Arc::clone(&routes.own);
        self.use_pool(own);
        true
    }
}

const ISOLATION: &str = "default_transaction_isolation";
const SERIALIZABLE: &str = "serializable";
