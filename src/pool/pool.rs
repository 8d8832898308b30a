//! The servers of one domain, mode and server user: the shell around [`Core`].

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering::Relaxed};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use arc_swap::ArcSwapOption;
use hashlink::LruCache;
use tokio::sync::{Notify, watch};
use tokio::time::Instant;

use super::caps::{Caps, Places};
use super::connector;
use super::core::{
    self, Balance, Core, Given, Kind, Label, Limits, PerSite, Place, ServerId, Site, Surplus,
};
use super::pool_site::{Changes, Outlook, PoolSite, names};
use super::sizing::Sizing;
use super::trouble::{RetryBudget, Trouble, tell};
use super::waiter::{Failure, Outcome, Waiter};
use crate::config::{Mode, PoolSettings};
use crate::runtime::backoff::random;
use crate::runtime::drain::Drain;
use crate::server::Server;
use crate::server::connect::{ConnectError, Target};
use crate::server::endpoint::Endpoint;
use crate::server::opening::Opening;
use crate::server::parameters::Parameters;
use crate::server::record::{Cancels, ServerRecord};
use crate::state::settings::Settings;
use crate::telemetry::counters::{CloseReason, PoolStats};
use crate::telemetry::snapshot::{ServerCounts, ServerState};
use crate::telemetry::traffic::Shares;

/// What all pools of a process share.
#[derive(Debug)]
pub struct Commons {
    pub drain: Drain,
    pub caps: Arc<Caps>,
    /// Number of workers.
    pub homes: usize,
    /// Rung when a server became idle while someone waits for a place under a cap.
    pub relieve: Notify,
    next_server: AtomicU64,
}

impl Commons {
    pub fn new(drain: Drain, homes: usize) -> Self {
        Self {
            drain,
            caps: Arc::default(),
            homes,
            relieve: Notify::new(),
            next_server: AtomicU64::new(1),
        }
    }

    pub fn next_server_id(&self) -> ServerId {
        ServerId(self.next_server.fetch_add(1, Relaxed))
    }
}

/// A server as the pool's records have it.
#[derive(Debug)]
struct Known {
    record: Arc<ServerRecord>,
    /// Its places under shared caps, given back when it is gone.
    _places: Option<Places>,
}

pub(super) type PoolCore = Core<Box<Server>, Arc<Waiter>, Arc<Opening>>;
/// The right to open one server.
pub(super) type Right = core::Right<Arc<Opening>>;

impl Kind for Arc<Opening> {
    /// A connection for replication cannot be cleaned.
    fn may_idle(&self) -> bool {
        self.replication.is_none()
    }
}

/// What the core knows `server` by.
fn label(server: &Server) -> Label<Arc<Opening>> {
    let site = server.record.site;
    Label { id: server.id(), home: server.home, site, kind: server.opening.clone() }
}

/// Why a server is closed that is one too many.
const fn reason(why: Surplus) -> CloseReason {
    match why {
        Surplus::Displaced => CloseReason::Displaced,
        Surplus::SiteOut => CloseReason::HostOut,
        Surplus::Uneven => CloseReason::EvenedOut,
    }
}

/// A pool.
#[derive(Debug)]
pub struct Pool {
    pub domain: Arc<str>,
    pub mode: Mode,
    /// The database on the server, and who its servers are logged in as.
    pub database: Arc<str>,
    pub user: Arc<str>,
    /// Its hosts, in the order of the configuration, and behind them the places for more addresses of their names.
    pub sites: PerSite<PoolSite>,
    /// Its hosts as they are configured, e.g. `db1:5432,db2:5432`.
    pub hosts: Arc<str>,
    /// More than one site serves. Changed with the core locked.
    pub(super) has_choice: AtomicBool,
    /// Where the pool is told what is wrong with them.
    pub outlook: Arc<dyn Outlook>,
    /// No site serves. Changed with the core locked.
    pub(super) is_out: AtomicBool,
    /// Since when that was so the last time.
    pub(super) out_since: Mutex<Option<Instant>>,
    pub(super) sites_changed: watch::Sender<Changes>,
    pub settings: Arc<PoolSettings>,
    pub commons: Arc<Commons>,
    pub stats: Arc<PoolStats>,
    pub traffic: Shares,
    /// Clients that are logged in to it.
    pub clients: AtomicUsize,
    core: Mutex<PoolCore>,
    /// Grows when servers that are there are of no more use.
    pub(super) generation: AtomicU64,
    /// `min` does not count until then.
    pub(super) min_held_until: Mutex<Option<Instant>>,
    servers: Mutex<HashMap<ServerId, Known>>,
    /// What its servers report, for the greeting of clients.
    pub(super) welcome: ArcSwapOption<Parameters>,
    /// When that was last doubted.
    pub(super) welcome_doubted: Mutex<Option<Instant>>,
    pub(super) sizing: Mutex<Sizing>,
    pub(super) trouble: Mutex<Trouble>,
    pub(super) budget: Mutex<RetryBudget>,
    pub cancels_active: AtomicUsize,
    /// Startup settings that a server has taken, and how it spells them.
    pub(super) checked: Mutex<LruCache<Settings, Arc<Settings>>>,
    /// Settings that functions were seen to set, and when.
    pub(super) set_by_functions: Mutex<LruCache<Box<str>, Instant>>,
    /// Settings of sessions: those who have the same have one copy of them.
    pub(super) shared_settings: Mutex<LruCache<Arc<Settings>, Arc<Settings>>>,
}

/// Sets of startup settings that are remembered as taken.
const CHECKED_MOST: usize = 100;

/// Sets of settings of which later sessions get the copy that earlier ones have.
const COPIES_MOST: usize = 100;

/// Another pool's waiter must be older by this than our own oldest before a busy server is given up
/// for it: each such change costs a login.
const YIELD_AFTER: Duration = Duration::from_millis(100);

/// How long a server that is closed may go on with what was cancelled before it is cancelled once more, the
/// first time: one that came before its statement had begun finds nothing to stop.
const STOP_AGAIN: Duration = Duration::from_millis(100);

/// How long a server at rest that is closed may take to go before its place is given to another.
const END_TIMEOUT: Duration = Duration::from_millis(250);

impl Pool {
    pub fn new(
        (domain, mode): (Arc<str>, Mode),
        balance: Balance,
        sites: PerSite<PoolSite>,
        settings: Arc<PoolSettings>,
        commons: Arc<Commons>,
        outlook: Arc<dyn Outlook>,
    ) -> Self {
        let Target { database, user, .. } = &sites.get(Site(0)).target;
        let limits = Limits {
            size: settings.size,
            min: settings.min,
            max_overflow: settings.max_overflow,
            max_waiting: settings.max_waiting,
        };
        let sizing = Sizing::new(&settings, limits, Instant::now());
        let mut core = Core::new(limits, commons.homes, sites.count(), balance);
        if let Some(limit) = sizing.limit() {
            core.set_limit(limit);
        }
        Self {
            domain,
            mode,
            database: Arc::clone(database),
            user: Arc::clone(user),
            core: Mutex::new(core),
            hosts: names(&sites).into(),
            has_choice: AtomicBool::new(sites.count() > 1),
            sites,
            outlook,
            is_out: AtomicBool::new(false),
            out_since: Mutex::default(),
            sites_changed: watch::Sender::default(),
            settings,
            stats: Arc::default(),
            traffic: Shares::new(commons.homes),
            clients: AtomicUsize::new(0),
            generation: AtomicU64::new(0),
            min_held_until: Mutex::default(),
            servers: Mutex::default(),
            welcome: ArcSwapOption::empty(),
            welcome_doubted: Mutex::default(),
            sizing: Mutex::new(sizing),
            trouble: Mutex::default(),
            budget: Mutex::default(),
            cancels_active: AtomicUsize::new(0),
            checked: Mutex::new(LruCache::new(CHECKED_MOST)),
            set_by_functions: Mutex::new(LruCache::new(CHECKED_MOST)),
            shared_settings: Mutex::new(LruCache::new(COPIES_MOST)),
            commons,
        }
    }

    pub(super) fn core(&self) -> MutexGuard<'_, PoolCore> {
        // Nothing inside may panic, and a count that is off by one is better than no pool at all.
        self.core.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes back a server in whatever state it is. Where it may not be lent again as it is, it is
    /// cleaned or closed first.
    pub fn checkin(self: &Arc<Self>, mut server: Box<Server>, now: Instant) {
        server.record.clear_link();
        let is_in_block = self.may_roll_back(&server);
        let is_fit = is_in_block || server.exchange.may_checkin();
        if !is_fit || !server.inbox.is_empty() || !server.outbox.is_empty() {
            return self.close(server, Place::Lent, CloseReason::ClientLeft);
        }
        if server.opening.as_ref().is_some_and(|opening| !opening.may_idle()) {
            return self.close(server, Place::Lent, CloseReason::ClientLeft);
        }
        let is_old = server.expires.is_some_and(|expires| now >= expires);
        if is_old || self.must_yield(server.record.site, server.opening.as_ref(), now) {
            let why = if is_old { CloseReason::Recycle } else { CloseReason::TakenOver };
            return self.close(server, Place::Lent, why);
        }
        if self.is_outdated(&server) {
            return self.close(server, Place::Lent, CloseReason::Altered);
        }
        if server.is_worn {
            return self.close(server, Place::Lent, CloseReason::ResetFailed);
        }
        let cancels = server.record.cancels();
        if is_in_block || server.must_discard() || cancels.are_under_way() || cancels.is_doubtful()
        {
            server.record.set_state(ServerState::Used);
            self.core().put_aside(server.record.site);
            let pool = Arc::clone(self);
            return self.commons.drain.spawn(async move { pool.clean(server).await });
        }
        server.last_used = now;
        self.give(server, Place::Lent, now);
    }

    /// The server is at rest in a block, which can be rolled back at once: not behind a cancel, whose end its
    /// locks would wait for, and not where pools are being closed.
    fn may_roll_back(&self, server: &Server) -> bool {
        let cancels = server.record.cancels();
        server.exchange.may_roll_back()
            && !cancels.are_under_way()
            && !cancels.is_doubtful()
            && !self.commons.drain.soft().is_cancelled()
    }

    pub(super) fn give(self: &Arc<Self>, server: Box<Server>, place: Place, now: Instant) {
        let label = label(&server);
        server.record.set_state(ServerState::Idle);
        let mut core = self.core_to_give(now);
        let given = core.checkin(place, label, server, now);
        self.pass_on(given, core);
    }

    /// Takes in a server that was just opened.
    pub(super) fn on_opened(
        self: &Arc<Self>,
        right: Right,
        mut server: Box<Server>,
        places: Option<Places>,
    ) {
        let now = Instant::now();
        server.expires = self.settings.recycle.map(|age| {
            // Spread over a tenth, so that servers opened together do not go together (P35).
            now + age.mul_f64(1.0 - 0.1 * f64::from(random()) / f64::from(u32::MAX))
        });
        self.share_base(&mut server);
        self.end_trouble();
        let (id, label) = (server.id(), label(&server));
        let known = Known { record: Arc::clone(&server.record), _places: places };
        self.servers().insert(id, known);
        server.record.set_state(ServerState::Idle);
        let mut core = self.core_to_give(now);
        if core.is_closed() {
            core.abandon(right);
            drop(core);
            server.say_goodbye();
            self.servers().remove(&id);
            return;
        }
        let given = core.opened(right, label, server, now);
        self.pass_on(given, core);
    }

    /// Puts a server into its waiter's letter box before the core is unlocked, and wakes it after.
    pub(super) fn pass_on(
        self: &Arc<Self>,
        given: Given<Box<Server>, Arc<Waiter>>,
        core: MutexGuard<'_, PoolCore>,
    ) {
        let waker = match given {
            Given::HandTo(waiter, server) => {
                server.record.set_state(ServerState::Active);
                waiter.put(Ok(server))
            }
            Given::Idle => None,
            Given::Close(server, why) => {
                drop(core);
                self.end(server, reason(why));
                return self.advance_if_limited();
            }
        };
        drop(core);
        match waker {
            Some(waker) => waker.wake(),
            None if self.commons.caps.is_awaited() => self.commons.relieve.notify_one(),
            None => {}
        }
    }

    /// Closes a server that was in `place`.
    pub fn close(self: &Arc<Self>, server: Box<Server>, place: Place, reason: CloseReason) {
        self.core().begin_close(place, server.record.site);
        self.end(server, reason);
        self.advance_if_limited();
    }

    /// Closes servers that were taken out of the idle list.
    pub(super) fn close_idle(
        self: &Arc<Self>,
        servers: impl IntoIterator<Item = Box<Server>>,
        reason: CloseReason,
    ) {
        for server in servers {
            self.end(server, reason);
        }
    }

    /// Ends a server that is counted as closing. Its place is free when PostgreSQL has let go of it:
    /// until then it counts against the limits there as well. What it may still be at is cancelled,
    /// which has as long as any cancel.
    fn end(self: &Arc<Self>, mut server: Box<Server>, reason: CloseReason) {
        self.note_end(&server, reason);
        if reason == CloseReason::Lost {
            drop(server);
            return self.on_ended(reason);
        }
        let pool = Arc::clone(self);
        self.commons.drain.spawn(async move {
            let site = server.record.site;
            tokio::select! {
                () = pool.see_off(&mut server) => {}
                // From a host that is gone no answer comes, and others wait for the place.
                () = pool.wait_until_lost(site) => {}
            }
            let id = server.id();
            drop(server);
            pool.servers().remove(&id);
            pool.on_ended(reason);
        });
    }

    async fn see_off(&self, server: &mut Server) {
        let is_at_work = server.exchange.depth() > 0;
        let limit = if is_at_work { self.settings.connect_timeout } else { END_TIMEOUT };
        let deadline = Instant::now() + limit;
        if is_at_work {
            self.stop(server, limit).await;
        }
        server.say_goodbye();
        // It may wait for the rest of a message, of which the goodbye would be a part.
        server.stream.end_writing();
        let mut pause = if is_at_work { STOP_AGAIN } else { limit };
        loop {
            let until = deadline.min(Instant::now() + pause);
            if server.ends_by(until).await || until == deadline {
                return;
            }
            // What was to be stopped had not begun.
            self.stop(server, deadline.saturating_duration_since(until)).await;
            pause *= 2;
        }
    }

    /// Cancels what is under way on a server that is being closed: PostgreSQL would finish the statement
    /// before it notices that nobody waits for it.
    async fn stop(&self, server: &Server, limit: Duration) {
        if let Some(under_way) = Cancels::begin(&server.record, Vec::new()) {
            let asked = self.deliver(under_way, limit).await;
            tracing::trace!(?asked, "cancelled what was under way on a server that is closed");
        }
    }

    fn on_ended(self: &Arc<Self>, reason: CloseReason) {
        let right = self.core().closed();
        if let Some(right) = right {
            connector::start(Arc::clone(self), right);
        }
        self.advance_if_limited();
        tracing::trace!(domain = %self.domain, reason = reason.label(), "a server's place is free");
    }

    fn note_end(&self, server: &Server, reason: CloseReason) {
        server.record.set_state(ServerState::Closing);
        self.stats.closes.increment(reason as usize);
        tracing::debug!(domain = %self.domain, server = server.id().0,
            pid = server.record.key.process_id, reason = reason.label(), "server closed");
        if reason == CloseReason::Lost {
            self.servers().remove(&server.id());
        }
    }

    /// True if a waiter of another pool, older than ours, lacks a place that a server at `site` takes; or
    /// one of ours, older than those whom a server of `kind` fits.
    fn must_yield(&self, site: Site, kind: Option<&Arc<Opening>>, now: Instant) -> bool {
        if !self.commons.caps.is_awaited() {
            return false;
        }
        let Some((since, lacks)) = self.commons.caps.first_awaited() else { return false };
        if !lacks.iter().any(|cap| self.site(site).caps.contains(cap)) {
            return false;
        }
        let core = self.core();
        let ours = core.waiting_since_for(kind).unwrap_or(now) + connector::yields_for(self);
        core.total() > self.settings.min && ours.saturating_duration_since(since) >= YIELD_AFTER
    }

    fn servers(&self) -> MutexGuard<'_, HashMap<ServerId, Known>> {
        self.servers.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Gives a waiter's outcome back that nobody will look at.
    pub(super) fn take_back(self: &Arc<Self>, outcome: Outcome) {
        if let Ok(server) = outcome {
            self.checkin(server, Instant::now());
        }
    }

    /// Closes what is idle, refuses waiters, and opens nothing more.
    pub fn shut_down(self: &Arc<Self>) {
        let mut core = self.core();
        let (servers, waiters) = core.close();
        let host = self.site(Site(0)).host.endpoint.to_string().into();
        tell(waiters, &Failure { host, source: Arc::new(ConnectError::Closed) }, core);
        for mut server in servers {
            self.note_end(&server, CloseReason::Shutdown);
            server.say_goodbye();
        }
    }

    /// True if the server is one of its.
    pub fn has(&self, server: ServerId) -> bool {
        self.servers().contains_key(&server)
    }

    /// Where a server of its is.
    pub fn endpoint_of(&self, server: ServerId) -> Option<Arc<Endpoint>> {
        self.servers().get(&server).map(|known| Arc::clone(&known.record.host))
    }

    /// The records of its servers.
    pub fn records(&self) -> Vec<Arc<ServerRecord>> {
        self.servers().values().map(|known| Arc::clone(&known.record)).collect()
    }

    /// Servers by place, waiters, and how long the oldest has waited.
    pub fn counts(&self) -> (ServerCounts, usize, Duration) {
        let states: Vec<_> = self.servers().values().map(|known| known.record.state()).collect();
        let are = |state| states.iter().filter(|known| **known == state).count();
        let core = self.core();
        let counts = core.counts();
        // A server may have gone from one place to the next since: it is in one of them all the same.
        let tested = are(ServerState::Tested).min(counts.lent);
        let being_canceled = are(ServerState::BeingCanceled).min(counts.aside);
        let servers = ServerCounts {
            login: counts.opening,
            idle: counts.idle,
            used: counts.aside - being_canceled,
            tested,
            active: counts.lent - tested,
            being_canceled,
            closing: counts.closing,
        };
        let oldest = core.waiting_since().map(|since| since.elapsed()).unwrap_or_default();
        (servers, counts.waiting, oldest)
    }
}
