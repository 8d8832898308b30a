//! Serving a session that is logged in: one task that moves bytes both ways.
//!
//! Every poll does what can be done without waiting, in this order: what is left to send to the
//! client, the wait for a server, what the server sends, what the client sends, its cancels. It is over
//! when nothing moved that leaves more to do. Both directions go on independently of each other: an
//! unfinished write in one never stops reading in the other.

use std::future::poll_fn;
use std::io;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::task::{Context as TaskContext, Poll, ready};
use std::time::Duration;

use tokio::task::coop::poll_proceed;
use tokio::task::yield_now;
use tokio::time::Instant;

use super::context::Context;
use super::link::{Link, Waiting, carry_over};
use super::login::SessionStart;
use super::names::Prepared;
use super::ours::Ours;
use super::record::{ClientRecord, Ring};
use super::registry::Registered;
use super::routes::Routes;
use super::spare;
use super::stand_in::StandIn;
use crate::config::{Mode, PoolMode, PoolSettings};
use crate::error::{ClientFacing, ClientMessage, Fault};
use crate::net::stream::{Stream, flush, send};
use crate::pool::checkout::Asked;
use crate::pool::core::{Home, ServerId};
use crate::pool::waiter::Waiter;
use crate::pool::{Checkout, CheckoutError, Pool};
use crate::runtime::alarm::Alarm;
use crate::runtime::second_look::SecondLook;
use crate::runtime::worker::current_home;
use crate::server::opening::Opening;
use crate::server::parameters::Parameters;
use crate::sql::LoneBegin;
use crate::state::settings::Settings;
use crate::telemetry::snapshot::{ClientState, ServerState};
use crate::telemetry::traffic::Traffic;
use crate::wire::backend::{self, TxStatus};
use crate::wire::error_response::{self, Severity};
use crate::wire::sqlstate;

/// A session at work.
pub(super) struct Session {
    pub(super) context: Arc<Context>,
    pub(super) registered: Registered,
    pub(super) stream: Stream,
    pub(super) home: Home,
    /// What the client sent and nobody has taken yet.
    pub(super) inbox: Vec<u8>,
    /// What the client's socket has not taken yet.
    pub(super) outbox: Vec<u8>,
    /// Bytes still to come of a client's frame whose front has gone to the server.
    pub(super) client_rest: usize,
    pub(super) pool: Arc<Pool>,
    pub(super) mode: Mode,
    /// It has been in the mode `read_only`, has another pool to choose, or has named a setting of ours: false of most,
    /// of which nothing of that has to be looked at.
    pub(super) is_particular: bool,
    /// The numbers of the pool that this worker adds to.
    pub(super) traffic: Arc<Traffic>,
    pub(super) rules: Arc<PoolSettings>,
    pub(super) idle_timeout: Option<Duration>,
    /// What the client asked for at startup, and what it has now.
    pub(super) startup: Arc<Settings>,
    pub(super) settings: Arc<Settings>,
    /// The same as it was when its last transaction ended.
    pub(super) settled: Arc<Settings>,
    /// What its servers report by themselves, as it was told.
    pub(super) reported: Arc<Parameters>,
    pub(super) prepared: Prepared,
    pub(super) link: Link,
    wish: Option<Arc<Opening>>,
    pub(super) waiter: Option<Arc<Waiter>>,
    pub(super) last: Option<ServerId>,
    pub(super) alarm: Alarm,
    /// When the client last had nothing open; only kept if it may not idle for ever.
    pub(super) idle_since: Instant,
    /// The client has said goodbye and closed its end, and what it said before still waits.
    pub(super) has_left: bool,
    /// How often what the client waits for was sent to another server.
    pub(super) repeated: u8,
    /// A block that no server knows of.
    pub(super) begun: Option<LoneBegin>,
    /// What it has to do with settings of pgweir's own; hardly any has.
    pub(super) ours: Option<Box<Ours>>,
    /// Where its transactions may go, if there is a choice.
    pub(super) routes: Option<Box<Routes>>,
    /// For what a cancel is meant for, where it found nothing to stop.
    pub(super) second_look: SecondLook,
}

/// Why a session is over.
#[derive(Debug)]
pub(super) enum End {
    /// The client said goodbye or closed the connection.
    ClientLeft,
    Io(io::Error),
    /// The client is told, and its connection closed.
    Fatal {
        fault: Fault,
        message: Box<ClientMessage>,
    },
    /// A frame of the answer has been forwarded in part: nothing can be said any more.
    Cut(&'static str),
    /// The client has been told by its own server, word for word.
    ServerEnded,
}

impl End {
    pub(super) fn fatal(fault: Fault, message: ClientMessage) -> Self {
        Self::Fatal { fault, message: Box::new(message) }
    }
}

/// Serves the session to its end.
pub(super) async fn run(stream: Stream, start: Box<SessionStart>, context: Arc<Context>) {
    let mut session = Session::new(stream, *start, context);
    let record = Arc::clone(&session.registered.record);
    tracing::info!(client = record.id, domain = %record.domain, user = %record.user,
        peer = %record.peer, "client logged in");
    session.pool.clients.fetch_add(1, Relaxed);
    let drain = &session.context.commons.drain;
    if drain.soft().is_cancelled() {
        // Its login ended after everybody was told.
        record.bell.ring(if drain.hard().is_cancelled() { Ring::Stop } else { Ring::Drain });
    }
    let begun = poll_fn(|cx| {
        record.bell.listen(cx.waker());
        Poll::Ready(session.take_inbox(cx))
    });
    let end = match begun.await {
        Ok(()) => poll_fn(|cx| session.poll(cx)).await,
        Err(end) => end,
    };
    if matches!(end, End::Fatal { .. } | End::ServerEnded) {
        // What the client has sent meanwhile is heard of: it is discarded, lest it reset the connection.
        yield_now().await;
    }
    session.pool.clients.fetch_sub(1, Relaxed);
    let hard = session.context.commons.drain.hard().clone();
    if let Some(rest) = session.finish(&end) {
        Box::pin(rest.send(&hard)).await;
    }
}

impl Session {
    fn new(stream: Stream, start: SessionStart, context: Arc<Context>) -> Self {
        let now = Instant::now();
        let placement = start.placement;
        let home = current_home();
        let mut session = Self {
            context,
            registered: start.registered,
            stream,
            home,
            inbox: start.inbox,
            outbox: Vec::new(),
            client_rest: 0,
            traffic: placement.pool.traffic.of(home.0),
            mode: placement.pool.mode,
            is_particular: placement.pool.mode == Mode::ReadOnly || start.routes.is_some(),
            pool: placement.pool,
            rules: placement.rules,
            idle_timeout: start.idle_timeout,
            startup: Arc::clone(&placement.settings),
            settled: Arc::clone(&placement.settings),
            settings: placement.settings,
            reported: placement.reported,
            prepared: Prepared::default(),
            link: Link::Free,
            wish: placement.wish,
            waiter: None,
            last: None,
            alarm: Alarm::default(),
            idle_since: now,
            has_left: false,
            repeated: 0,
            begun: None,
            ours: None,
            routes: start.routes,
            second_look: SecondLook::default(),
        };
        if let Some(checkout) = placement.checkout {
            session.become_linked(checkout, now);
        }
        session
    }

    pub(super) fn record(&self) -> &Arc<ClientRecord> {
        &self.registered.record
    }

    fn poll(&mut self, cx: &mut TaskContext<'_>) -> Poll<End> {
        loop {
            // Who always has something to do lets others have their turn.
            ready!(poll_proceed(cx)).made_progress();
            match self.step(cx) {
                Err(end) => return Poll::Ready(end),
                Ok(true) => {}
                Ok(false) => {
                    self.set_alarm();
                    if self.alarm.poll(cx).is_pending() {
                        return Poll::Pending;
                    }
                    // What was over may have left a stand-in to answer what waits in the inbox.
                    if let Err(end) = self.on_alarm().and_then(|()| self.take_inbox(cx)) {
                        return Poll::Ready(end);
                    }
                }
            }
        }
    }

    /// Does what can be done without waiting; true if that may have left more to do.
    fn step(&mut self, cx: &mut TaskContext<'_>) -> Result<bool, End> {
        if self.record().bell.has_rung() {
            self.on_bell(cx)?;
        }
        let mut moved = self.flush_client(cx)?;
        // A server that was lent is looked at next, if the client need not be told something first. Else
        // there may be another wait to begin.
        let is_looked_at =
            |session: &Self| matches!(session.link, Link::Linked(_)) && session.outbox.is_empty();
        moved |= self.poll_link(cx)? && !is_looked_at(self);
        let server_moved = self.poll_server(cx)?;
        moved |= self.poll_cancels(cx)?;
        moved |= self.answer_inbox(cx)?;
        moved |= self.poll_client(cx)?;
        // If that has ended the link, the client was looked at behind it, and what it does not take is
        // waited for where it was sent: nothing is left but a bell that the end of an exchange was awaited
        // for.
        let is_over = matches!(self.link, Link::Free) && !self.record().bell.has_rung();
        moved |= server_moved && !is_over;
        // Behind the client: what it sent before its cancel is what that is meant for.
        if self.record().bell.is_rung(Ring::Cancel) && self.on_cancel(cx) {
            self.take_inbox(cx)?;
            moved = true;
        }
        Ok(moved)
    }

    fn on_bell(&mut self, cx: &mut TaskContext<'_>) -> Result<(), End> {
        if self.record().bell.is_rung(Ring::Stranded) {
            self.record().bell.silence(Ring::Stranded);
            self.on_stranded(cx)?;
        }
        let bell = &self.record().bell;
        // What the client is still to be sent of its answers goes first.
        let is_at_boundary = self.outbox.is_empty()
            && match &self.link {
                // In a block, whether a server knows of it or not, the client may go on.
                Link::Free => self.begun.is_none(),
                Link::Waiting(_) => true,
                Link::Linked(linked) => linked.is_at_boundary(),
                // Nothing is left that could be committed.
                Link::StandIn(stand_in) => stand_in.is_at_rest(),
                Link::Proving { .. } | Link::Doubting(_) => false,
            };
        if bell.is_rung(Ring::Stop) || (bell.is_rung(Ring::Drain) && is_at_boundary) {
            let message = ClientMessage::new(sqlstate::ADMIN_SHUTDOWN, "pooler is shutting down");
            return Err(End::fatal(Fault::Proxy, message));
        }
        if bell.is_rung(Ring::Misplaced) && is_at_boundary {
            bell.silence(Ring::Misplaced);
            return self.on_misplaced();
        }
        Ok(())
    }

    /// Sends what is left over for the client.
    fn flush_client(&mut self, cx: &mut TaskContext<'_>) -> Result<bool, End> {
        let flushed = flush(&mut self.stream, &mut self.outbox, cx);
        self.unless_it_has_left(flushed)
    }

    /// Sends `bytes` to the client, behind what is left over.
    pub(super) fn send_to_client(
        &mut self,
        bytes: &[u8],
        cx: &mut TaskContext<'_>,
    ) -> Result<(), End> {
        self.traffic.bytes_sent.add(bytes.len() as u64);
        let sent = send(&mut self.stream, &mut self.outbox, bytes, cx);
        self.unless_it_has_left(sent)
    }

    /// Whoever said goodbye wants its answers no more: that they reach nobody does not end what it asked
    /// for.
    fn unless_it_has_left<T: Default>(&mut self, written: io::Result<T>) -> Result<T, End> {
        match written {
            Err(_) if self.has_left => {
                self.outbox = Vec::new();
                Ok(T::default())
            }
            written => written.map_err(End::Io),
        }
    }

    /// Goes on with a wait for a server.
    fn poll_link(&mut self, cx: &mut TaskContext<'_>) -> Result<bool, End> {
        match &mut self.link {
            Link::Free | Link::Linked(_) | Link::StandIn(_) => return Ok(false),
            Link::Waiting(waiting) => {
                let since = waiting.since;
                let Poll::Ready(outcome) = waiting.wait.poll(cx) else {
                    // Behind the poll, which has left a waker: from then on it is told of that.
                    if !self.pool.is_without_host() || !self.come_home() {
                        return Ok(false);
                    }
                    self.link = Link::Free;
                    self.ask_for_server(since);
                    self.take_inbox(cx)?;
                    return Ok(true);
                };
                match outcome {
                    Ok(checkout) => self.on_lent(checkout, since),
                    Err(error) if error.is_of_hosts() && self.come_home() => {
                        self.link = Link::Free;
                        self.ask_for_server(since);
                    }
                    Err(error) => self.on_checkout_error(&error),
                }
            }
            Link::Proving { proof, since } => {
                let Poll::Ready(proved) = proof.as_mut().poll(cx) else { return Ok(false) };
                let since = *since;
                if let Some(checkout) = proved {
                    self.on_lent(checkout, since);
                } else {
                    self.link = Link::Free;
                    self.ask_for_server(since);
                }
            }
            Link::Doubting(doubt) => {
                let Poll::Ready(told) = doubt.as_mut().poll(cx) else { return Ok(false) };
                self.end_doubt(told);
            }
        }
        self.take_inbox(cx)?;
        Ok(true)
    }

    fn on_lent(&mut self, checkout: Checkout, since: Instant) {
        let Some(checkout) = self.give_back_unfit(checkout) else {
            self.link = Link::Free;
            self.ask_for_server(since);
            return;
        };
        let now = Instant::now();
        let waited = now.saturating_duration_since(since);
        self.traffic.checkout_wait.observe(waited);
        self.become_linked(checkout, now);
    }

    fn become_linked(&mut self, mut checkout: Checkout, now: Instant) {
        self.traffic.checkouts.increment();
        if let Some(server) = checkout.server() {
            let record = &server.record;
            record.set_state(ServerState::Active);
            record.set_link(self.registered.record.id, now);
            self.registered.record.set_link(server.id());
            self.last = Some(server.id());
            server.texts.clear();
            if self.rules.pool_mode == PoolMode::Session {
                // Whatever a session leaves behind that has a server to itself, seen or not.
                server.is_dirty = true;
                server.come_to(self.home);
            } else {
                server.is_shared = true;
                carry_over(server, &self.settings);
                if !self.is_away() {
                    self.tell_base(&server.base);
                }
            }
        }
        self.record().set_state(ClientState::Active);
        let mut linked = spare::link(checkout, now);
        if self.pool.mode == Mode::ReadOnly && !self.is_session_mode() {
            linked.again = Some(Box::default());
        }
        self.link = Link::Linked(linked);
    }

    /// Has a server that was idle polled here. Not one that goes from hand to hand: to move costs what is
    /// saved by it in one exchange.
    fn have_come(&self, checkout: &mut Checkout) {
        if let Some(server) = checkout.server() {
            server.come_to(self.home);
        }
    }

    /// Asks the pool for a server; true if the session is linked at once.
    pub(super) fn ask_for_server(&mut self, since: Instant) -> bool {
        let waiter = self.waiter.get_or_insert_default();
        match self.pool.ask(self.home, self.last, self.wish.as_ref(), waiter, since) {
            Ok(Asked::Lent(checkout)) => {
                let Some(mut checkout) = self.give_back_unfit(checkout) else {
                    return self.ask_for_server(since);
                };
                self.have_come(&mut checkout);
                self.traffic.checkout_wait.observe(Duration::ZERO);
                self.record().set_requested(since);
                self.become_linked(checkout, since);
                return true;
            }
            Ok(Asked::Stale(mut checkout)) => {
                self.have_come(&mut checkout);
                let pool = Arc::clone(&self.pool);
                let proof = Box::pin(async move { pool.prove(checkout).await });
                self.link = Link::Proving { proof, since };
            }
            Ok(Asked::Wait(wait)) => {
                self.link = Link::Waiting(Box::new(Waiting { wait, since, was_told: false }));
            }
            Err(error) if error.is_of_hosts() && self.come_home() => {
                return self.ask_for_server(since);
            }
            Err(error) => {
                self.on_checkout_error(&error);
                return false;
            }
        }
        self.record().set_requested(since);
        self.record().set_state(ClientState::Waiting);
        false
    }

    pub(super) fn on_checkout_error(&mut self, error: &CheckoutError) {
        let message = error.client_message();
        let (client, domain) = (self.record().id, &self.record().domain);
        if matches!(error, CheckoutError::ShuttingDown) {
            tracing::info!(client, %domain, %error, "no server for a client");
        } else {
            tracing::warn!(client, %domain, %error, "no server for a client");
        }
        self.context.process.errors.increment(message.sqlstate.class(), error.fault());
        self.answer_without_server(&message);
    }

    /// Ends a wait with an error for the request that it was for. The rest of the request is taken
    /// up to its end by a stand-in.
    pub(super) fn answer_without_server(&mut self, message: &ClientMessage) {
        self.record().set_state(ClientState::Idle);
        self.idle_since = Instant::now();
        self.repeated = 0;
        self.undo_mode();
        // The client believes itself in a block.
        let stand_in = match self.begun.take() {
            Some(_) => StandIn::failed_block(Some(message.clone()), false),
            None => StandIn::refusing(message.clone()),
        };
        self.link = Link::StandIn(Box::new(stand_in));
    }

    /// Appends an error and, if the client waits for it, the end of the exchange.
    pub(super) fn put_error(
        &self,
        out: &mut Vec<u8>,
        fault: Fault,
        message: &ClientMessage,
        ready: Option<TxStatus>,
    ) {
        self.context.process.errors.increment(message.sqlstate.class(), fault);
        error_response::put(out, Severity::Error, message);
        if let Some(status) = ready {
            backend::put_ready(out, status);
        }
    }

    pub(super) fn is_session_mode(&self) -> bool {
        self.rules.pool_mode == PoolMode::Session
    }

    /// True if statements are renamed and shared between servers.
    pub(super) fn shares_statements(&self) -> bool {
        !self.is_session_mode() && self.rules.prepared_statements > 0
    }
}
