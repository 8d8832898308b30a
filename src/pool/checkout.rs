//! Lending a server: the guard, the wait, and what can go wrong.

use std::fmt::Write as _;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::task::{Context, Poll};
use std::time::Duration;

use thiserror::Error;
use tokio::time::Instant;

use super::connector;
use super::core::{Decision, Home, Place, ServerId, Ticket};
use super::pool::Pool;
use super::waiter::{Failure, Waiter};
use crate::config::{Mode, format_duration, format_millis};
use crate::error::{ClientFacing, ClientMessage, Fault};
use crate::server::Server;
use crate::server::connect::ConnectError;
use crate::server::opening::Opening;
use crate::server::server::CommandError;
use crate::telemetry::counters::CloseReason;
use crate::telemetry::snapshot::ServerState;
use crate::wire::sqlstate;

/// A server on loan. Dropping it checks the server in, or closes it if work is under way on it.
#[derive(Debug, Default)]
#[must_use = "dropping a checkout returns the server at once"]
pub struct Checkout {
    /// `Some` until it is given back.
    lent: Option<Lent>,
}

#[derive(Debug)]
struct Lent {
    server: Box<Server>,
    pool: Arc<Pool>,
}

impl Checkout {
    fn new(pool: &Arc<Pool>, server: Box<Server>) -> Self {
        Self { lent: Some(Lent { server, pool: Arc::clone(pool) }) }
    }

    /// The server. `None` never happens to a caller: giving it back consumes the checkout.
    pub fn server(&mut self) -> Option<&mut Server> {
        self.lent.as_mut().map(|lent| &mut *lent.server)
    }

    /// The server, to look at.
    pub fn peek(&self) -> Option<&Server> {
        self.lent.as_ref().map(|lent| &*lent.server)
    }

    /// Gives the server back.
    pub fn checkin(mut self, now: Instant) {
        if let Some(Lent { server, pool }) = self.lent.take() {
            pool.checkin(server, now);
        }
    }

    /// Closes the server.
    pub fn close(mut self, reason: CloseReason) {
        if let Some(Lent { server, pool }) = self.lent.take() {
            server.record.clear_link();
            pool.close(server, Place::Lent, reason);
        }
    }
}

impl Drop for Checkout {
    fn drop(&mut self) {
        if let Some(Lent { server, pool }) = self.lent.take() {
            // A client that left in the middle must not hand its transaction to the next one.
            pool.checkin(server, Instant::now());
        }
    }
}

/// A place in the queue. Dropping it leaves the queue; a server that came meanwhile goes back.
#[derive(Debug)]
pub struct Wait {
    pool: Arc<Pool>,
    waiter: Arc<Waiter>,
    ticket: Ticket,
    pub since: Instant,
    is_over: bool,
}

/// What asking for a server leads to.
#[derive(Debug)]
pub enum Asked {
    Lent(Checkout),
    /// It has been idle for so long that it has to be proved alive first.
    Stale(Checkout),
    Wait(Wait),
}

/// Why there is no server.
#[derive(Debug, Error)]
pub enum CheckoutError {
    #[error("no server of domain {domain:?} ({mode}) became free within {after:?}; {numbers}",
        mode = .mode.as_str())]
    Timeout { domain: Arc<str>, mode: Mode, after: Duration, numbers: PoolNumbers },
    #[error("no server of domain {domain:?} has answered within {after:?}")]
    Silent { domain: Arc<str>, after: Duration },
    #[error("{waiting} clients wait for a server of domain {domain:?} already (max_waiting)")]
    QueueFull { domain: Arc<str>, waiting: usize },
    #[error("no {} of domain {domain:?} is available: {}", role(*.mode), .hosts.replace('\n', "; "))]
    NoHost {
        domain: Arc<str>,
        mode: Mode,
        /// Each host on a line of its own.
        hosts: String,
    },
    #[error("no server of domain {domain:?}: {source}")]
    Connect { domain: Arc<str>, mode: Mode, host: String, source: Arc<ConnectError> },
    #[error("pooler is shutting down")]
    ShuttingDown,
}

impl CheckoutError {
    /// It is the hosts that are not there, or do not let anybody in.
    pub const fn is_of_hosts(&self) -> bool {
        matches!(self, Self::NoHost { .. } | Self::Connect { .. })
    }
}

/// What a host has to be for sessions in `mode`.
const fn role(mode: Mode) -> &'static str {
    match mode {
        Mode::ReadOnly => "replica",
        Mode::ReadWrite | Mode::Batch | Mode::Transactional => "primary",
    }
}

/// The numbers of a pool at a moment, for an error's DETAIL.
#[derive(Debug, Clone, Copy)]
pub struct PoolNumbers {
    pub size: usize,
    pub max_overflow: usize,
    /// How many may be in use, of an adaptive pool.
    pub limit: Option<usize>,
    pub in_use: usize,
    pub opening: usize,
    pub waiting: usize,
    /// Since when the server that has been lent for longest is lent.
    pub longest: Duration,
}

impl std::fmt::Display for PoolNumbers {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "size {}, max_overflow {}, ", self.size, self.max_overflow)?;
        if let Some(limit) = self.limit {
            write!(f, "adapted to {limit}, ")?;
        }
        write!(
            f,
            "in use {}, being opened {}, waiting {}, longest loan {}",
            self.in_use,
            self.opening,
            self.waiting,
            format_millis(self.longest),
        )
    }
}

impl ClientFacing for CheckoutError {
    fn fault(&self) -> Fault {
        match self {
            Self::Timeout { .. } | Self::QueueFull { .. } | Self::ShuttingDown => Fault::Proxy,
            Self::Silent { .. } | Self::NoHost { .. } | Self::Connect { .. } => Fault::Server,
        }
    }

    fn client_message(&self) -> ClientMessage {
        match self {
            Self::Timeout { domain, mode, after, numbers } => ClientMessage::new(
                sqlstate::TOO_MANY_CONNECTIONS,
                format!(
                    "query_wait_timeout: no server of domain \"{domain}\" ({}) became free within {}",
                    mode.as_str(),
                    format_duration(*after)
                ),
            )
            .detail(numbers.to_string())
            .hint(
                "Raise pool.size or pool.max_overflow of the domain if PostgreSQL bears it, or end \
                 transactions sooner. pool.timeout is the longest wait.",
            ),
            Self::Silent { domain, after } => ClientMessage::new(
                sqlstate::UNABLE_TO_CONNECT,
                format!(
                    "no server of domain \"{domain}\" has answered within {}",
                    format_duration(*after)
                ),
            )
            .detail("Idle ones were asked whether they are still there (pre_ping), and said nothing."),
            Self::QueueFull { domain, waiting } => ClientMessage::new(
                sqlstate::TOO_MANY_CONNECTIONS,
                format!("too many clients wait for a server of domain \"{domain}\" (max_waiting)"),
            )
            .detail(format!("{waiting} are waiting."))
            .hint("Raise pool.max_waiting, or pool.size."),
            Self::NoHost { domain, mode, hosts } => ClientMessage::new(
                sqlstate::UNABLE_TO_CONNECT,
                format!("no {} of domain \"{domain}\" is available", role(*mode)),
            )
            .detail(hosts.clone())
            .hint(
                "SHOW HOSTS in the database pgweir tells what is known of its hosts; failover.timeout and \
                 failover.on_primary_loss of the domain say how long is waited.",
            ),
            Self::Connect { domain, mode, host, source } => {
                let mut message = source.client_message(domain, role(*mode));
                let detail = message.detail.get_or_insert_default();
                if !detail.is_empty() {
                    detail.push('\n');
                }
                // Writing to a String cannot fail.
                let _written = write!(detail, "host {host}");
                message
            }
            Self::ShuttingDown => {
                ClientMessage::new(sqlstate::ADMIN_SHUTDOWN, "pooler is shutting down")
            }
        }
    }
}

impl Pool {
    /// Lends a server to the session with this `waiter`, or gives it a place in the queue. `last` is
    /// the server that it had before, `wish` what it is to be opened with; `None`: a plain one.
    pub fn ask(
        self: &Arc<Self>,
        home: Home,
        last: Option<ServerId>,
        wish: Option<&Arc<Opening>>,
        waiter: &Arc<Waiter>,
        now: Instant,
    ) -> Result<Asked, CheckoutError> {
        loop {
            let mut core = self.core();
            if core.is_closed() {
                return Err(CheckoutError::ShuttingDown);
            }
            if self.tells_at_once() {
                drop(core);
                return Err(self.no_host_error());
            }
            if !core.counts().has_open()
                && let Some(failure) = self.refusal(now)
            {
                return Err(self.connect_error(failure));
            }
            let decision = core.checkout(home, last, wish, now, || Arc::clone(waiter));
            drop(core);
            match decision {
                Decision::Lend(mut server) => {
                    if !server.is_alive() {
                        self.on_dead(server);
                        continue;
                    }
                    let settings = &self.settings;
                    let is_stale = settings.pre_ping
                        && now.saturating_duration_since(server.last_used) > settings.pre_ping_idle;
                    let lent = Checkout::new(self, server);
                    return Ok(if is_stale { Asked::Stale(lent) } else { Asked::Lent(lent) });
                }
                Decision::Wait { ticket, connect, displaced } => {
                    self.close_idle(displaced, CloseReason::Displaced);
                    if let Some(right) = connect {
                        connector::start(Arc::clone(self), right);
                    }
                    return Ok(Asked::Wait(Wait {
                        pool: Arc::clone(self),
                        waiter: Arc::clone(waiter),
                        ticket,
                        since: now,
                        is_over: false,
                    }));
                }
                Decision::QueueFull => {
                    let waiting = self.core().counts().waiting;
                    return Err(CheckoutError::QueueFull {
                        domain: Arc::clone(&self.domain),
                        waiting,
                    });
                }
            }
        }
    }

    /// A server turned out to be dead: others that were idle may have gone with it (pitfall P33).
    fn on_dead(self: &Arc<Self>, server: Box<Server>) {
        self.stats.closed_retries.increment();
        self.host_of(&server.record).alert.notify_one();
        self.close(server, Place::Lent, CloseReason::Lost);
        self.purge_dead();
    }

    /// Closes idle servers whose end has been seen.
    pub fn purge_dead(self: &Arc<Self>) {
        let dead = self.core().take_idle_where(|server| !server.is_alive());
        if !dead.is_empty() {
            self.close_idle(dead, CloseReason::Lost);
        }
    }

    /// Proves that a stale server is alive. `None`: it was not, and is closed.
    ///
    /// Cancel-safe in that a server whose proof was given up is closed.
    pub async fn prove(self: &Arc<Self>, mut checkout: Checkout) -> Option<Checkout> {
        let limit = self.settings.connect_timeout;
        let server = checkout.server()?;
        let site = server.record.site;
        server.record.set_state(ServerState::Tested);
        let proved = tokio::select! {
            proved = server.command("", limit) => proved,
            // A host that is gone may never answer.
            () = self.wait_until_out(site) => Err(CommandError::Closed),
        };
        match proved {
            Ok(_) => {
                server.record.set_state(ServerState::Active);
                Some(checkout)
            }
            Err(error) => {
                tracing::info!(domain = %self.domain, %error, "an idle server was found dead");
                self.site(site).host.alert.notify_one();
                self.stats.closed_retries.increment();
                checkout.close(CloseReason::PrePing);
                self.purge_dead();
                None
            }
        }
    }

    /// Asks a server on its way back for a row. `None`: it could not tell, and is closed.
    ///
    /// Cancel-safe in that a server whose answer was not awaited is closed.
    pub async fn ask_aside(
        self: &Arc<Self>,
        mut checkout: Checkout,
        sql: &str,
    ) -> Option<(Checkout, Vec<Option<String>>)> {
        let server = checkout.server()?;
        let site = server.record.site;
        let ask = async {
            // What was meant for the client's statement must not hit ours (pitfall P69).
            server.record.cancels().wait().await;
            if server.record.cancels().is_doubtful() {
                return Err(CommandError::Closed);
            }
            server.query_row(sql, self.settings.connect_timeout).await
        };
        let answer = tokio::select! {
            answer = ask => answer,
            () = self.wait_until_lost(site) => Err(CommandError::Closed),
        };
        match answer {
            Ok(row) => Some((checkout, row)),
            Err(error) => {
                tracing::debug!(domain = %self.domain, %error, "a server does not tell what it is asked aside");
                checkout.close(CloseReason::ResetFailed);
                None
            }
        }
    }

    fn connect_error(&self, failure: Failure) -> CheckoutError {
        let Failure { host, source } = failure;
        let (domain, mode) = (Arc::clone(&self.domain), self.mode);
        CheckoutError::Connect { domain, mode, host: host.to_string(), source }
    }

    fn no_host_error(&self) -> CheckoutError {
        let (domain, mode) = (Arc::clone(&self.domain), self.mode);
        CheckoutError::NoHost { domain, mode, hosts: self.outlook.describe() }
    }

    /// What a client is told whose login found no server in time.
    pub fn login_timeout_error(&self, after: Duration) -> CheckoutError {
        match self.last_trouble() {
            _ if self.is_out.load(Relaxed) => self.no_host_error(),
            Some(failure) => self.connect_error(failure),
            None => self.timeout_error(after),
        }
    }

    /// What a waiter is told whose time is up: that the host cannot be reached, if that is why, or
    /// that the pool is full (pitfall P85).
    pub fn timeout_error(&self, after: Duration) -> CheckoutError {
        if self.is_out.load(Relaxed) {
            return self.no_host_error();
        }
        let counts = self.core().counts();
        if counts.lent + counts.idle + counts.aside == 0
            && let Some(failure) = self.last_trouble()
        {
            return self.connect_error(failure);
        }
        let lent = self.records().into_iter().filter(|record| record.link().is_some());
        let longest = lent.map(|r| r.requested().elapsed().unwrap_or_default()).max();
        CheckoutError::Timeout {
            domain: Arc::clone(&self.domain),
            mode: self.mode,
            after,
            numbers: PoolNumbers {
                size: self.settings.size,
                max_overflow: self.settings.max_overflow,
                limit: self.settings.adapts().then(|| self.limit()),
                in_use: counts.lent,
                opening: counts.opening,
                waiting: counts.waiting,
                longest: longest.unwrap_or_default(),
            },
        }
    }
}

impl Wait {
    /// Looks whether the wait is over, and registers the task to be woken.
    pub fn poll(&mut self, cx: &Context<'_>) -> Poll<Result<Checkout, CheckoutError>> {
        let Poll::Ready(outcome) = self.waiter.poll(cx) else { return Poll::Pending };
        self.is_over = true;
        Poll::Ready(match outcome {
            Ok(server) => Ok(Checkout::new(&self.pool, server)),
            Err(_) if self.pool.core().is_closed() => Err(CheckoutError::ShuttingDown),
            Err(failure) => Err(self.pool.connect_error(failure)),
        })
    }
}

impl Drop for Wait {
    fn drop(&mut self) {
        if self.is_over {
            return;
        }
        // Served already: the server is in the letter box, and belongs to the next in the queue.
        let left = self.pool.core().give_up(self.ticket);
        if left.is_some() {
            // A place may have been kept for it.
            self.pool.advance_if_limited();
        } else if let Some(outcome) = self.waiter.take() {
            self.pool.take_back(outcome);
        }
    }
}

#[cfg(test)]
mod tests;
