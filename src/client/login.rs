//! Logging a client in: who it is, where it goes, and what it is told of its server.

use std::sync::Arc;
use std::time::Duration;

use thiserror::Error;
use tokio::time::Instant;

use super::console::Seat;
use super::context::Context;
use super::deadlines::is_waiting;
use super::greet::read_some;
use super::ours::no_mode;
use super::placement::{Destination, Placement, place};
use super::read_only::{asks_for_writes, no_writes};
use super::record::{ClientKey, ClientRecord, Identity};
use super::registry::{ClientLimits, Full, Registered, Registry, Room};
use super::routes::Routes;
use crate::auth::{Entropy, Login, LoginRefusal, Step};
use crate::config::{AuthMethod, Mode};
use crate::domain::{Route, Router};
use crate::error::{ClientFacing, ClientMessage, Fault};
use crate::net::stream::Stream;
use crate::pool::{Checkout, CheckoutError};
use crate::server::server::CommandError;
use crate::state::settings::is_reported;
use crate::telemetry::snapshot::Peer;
use crate::wire::backend::{self, TxStatus};
use crate::wire::error_response::{self, ErrorFields, Severity};
use crate::wire::startup::{LoginRequest, Replication, StartupError};
use crate::wire::{frame, sqlstate};

/// What a login leads to.
#[derive(Debug)]
pub(super) enum LoggedIn {
    Session(Box<SessionStart>),
    /// With what the client has sent already.
    Console(Seat, Vec<u8>),
}

/// Everything that a session begins with.
#[derive(Debug)]
pub(super) struct SessionStart {
    pub registered: Registered,
    pub idle_timeout: Option<Duration>,
    pub placement: Placement,
    pub routes: Option<Box<Routes>>,
    pub begun: Instant,
    /// What the client has sent already.
    pub inbox: Vec<u8>,
}

/// A client that has proved who it is, and has not been told so.
#[derive(Debug)]
pub(super) struct Known {
    request: LoginRequest,
    begun: Instant,
    /// What it is to be told first.
    out: Vec<u8>,
    /// What it has sent without waiting for that.
    inbox: Vec<u8>,
}

/// Why a client is not let in.
#[derive(Debug, Error)]
pub(super) enum LoginError {
    #[error("no more connections allowed (max_clients = {max})")]
    TooManyClients { max: usize },
    #[error("no more connections of user {user:?} allowed (users.{user}.max_clients = {max})")]
    TooManyOfUser { user: String, max: usize },
    #[error(transparent)]
    Startup(#[from] StartupError),
    #[error("unrecognized configuration parameter \"{name}\"")]
    UnknownSetting { name: String },
    #[error("invalid value for parameter \"pgweir.mode\": \"{value}\"")]
    NoSuchMode { value: String },
    #[error("a session of mode read_only that asks for transactions that write")]
    ReadOnly,
    #[error("the server said: {}", ErrorFields::parse(.body).to_message().message)]
    Server { body: Box<[u8]> },
    #[error("the client closed the connection, or broke it off: {0}")]
    Gone(#[from] std::io::Error),
    #[error("expected a password message, got {tag:?}", tag = char::from(*.tag))]
    NotAPassword { tag: u8 },
    #[error("a password message of {len} bytes")]
    PasswordTooLong { len: usize },
    #[error(transparent)]
    Refused(#[from] LoginRefusal),
    #[error("no such database: {name}")]
    NoSuchDatabase { name: String },
    #[error(
        "no such database: {name}; a replication connection that names none, and several domains"
    )]
    WhichDomain { name: String },
    #[error("user {user:?} may not use the console")]
    NoConsole { user: String },
    #[error("no server could be had: {source}")]
    NoServer { source: CheckoutError },
    #[error("the server does not take the client's startup parameters: {source}")]
    Settings { source: CommandError },
    #[error("the system has no randomness to give")]
    Random,
    #[error("pooler is shutting down")]
    ShuttingDown,
}

impl LoginError {
    /// It came while pgweir was being stopped.
    pub(super) const fn is_of_shutdown(&self) -> bool {
        matches!(self, Self::ShuttingDown | Self::NoServer { source: CheckoutError::ShuttingDown })
    }
}

impl ClientFacing for LoginError {
    fn fault(&self) -> Fault {
        match self {
            Self::TooManyClients { .. }
            | Self::TooManyOfUser { .. }
            | Self::Random
            | Self::ShuttingDown => Fault::Proxy,
            Self::NoServer { source } => source.fault(),
            Self::Startup(_)
            | Self::UnknownSetting { .. }
            | Self::NoSuchMode { .. }
            | Self::ReadOnly
            | Self::Server { .. }
            | Self::Gone(_)
            | Self::NotAPassword { .. }
            | Self::PasswordTooLong { .. }
            | Self::Refused(_)
            | Self::NoSuchDatabase { .. }
            | Self::WhichDomain { .. }
            | Self::NoConsole { .. }
            | Self::Settings { .. } => Fault::Client,
        }
    }

    fn client_message(&self) -> ClientMessage {
        let message = |code| ClientMessage::new(code, self.to_string());
        match self {
            Self::TooManyClients { max } => ClientMessage::new(
                sqlstate::TOO_MANY_CONNECTIONS,
                "no more connections allowed (max_clients)",
            )
            .detail(format!("max_clients = {max}"))
            .hint("Raise listen.max_clients, or close connections that are not needed."),
            Self::TooManyOfUser { .. } => message(sqlstate::TOO_MANY_CONNECTIONS),
            Self::Startup(_)
            | Self::Gone(_)
            | Self::NotAPassword { .. }
            | Self::PasswordTooLong { .. } => message(sqlstate::PROTOCOL_VIOLATION),
            Self::UnknownSetting { name } if name == DOMAIN_SETTING => {
                message(sqlstate::UNDEFINED_OBJECT)
                    .hint("It is for replication connections. Others name their domain as database.")
            }
            Self::UnknownSetting { .. } => message(sqlstate::UNDEFINED_OBJECT),
            Self::ReadOnly => no_writes(),
            Self::NoSuchMode { value } => no_mode(value),
            Self::Server { body } => ErrorFields::parse(body).to_message(),
            Self::Refused(refusal) => refusal.client_message(),
            Self::NoSuchDatabase { .. } => message(sqlstate::INVALID_CATALOG_NAME),
            Self::WhichDomain { name } => ClientMessage::new(
                sqlstate::INVALID_CATALOG_NAME,
                format!("no such database: {name}"),
            )
            .detail("A physical replication connection names no database, and there are several domains.")
            .hint("Name the domain: options='-c pgweir.domain=NAME'."),
            Self::NoConsole { .. } => message(sqlstate::INVALID_AUTHORIZATION),
            Self::NoServer { source } => source.client_message(),
            Self::Settings { source: CommandError::Refused { message } } => message.clone(),
            Self::Settings { .. } => message(sqlstate::CONNECTION_FAILURE),
            Self::Random => message(sqlstate::INTERNAL_ERROR),
            Self::ShuttingDown => message(sqlstate::ADMIN_SHUTDOWN),
        }
    }
}

/// The names of the console's database.
const CONSOLE: [&str; 2] = ["pgbouncer", "pgweir"];
/// Names the mode of a session.
const MODE_SETTING: &str = "pgweir.mode";
/// Names the domain of a replication connection.
const DOMAIN_SETTING: &str = "pgweir.domain";
/// The longest password message in bytes (pitfall P9).
const PASSWORD_MAX: usize = 64 * 1024;

/// Asks a client that has sent its startup packet, and `inbox` behind it, to prove who it is.
///
/// Cancel-safe in that nothing but the connection is lost.
pub(super) async fn identify(
    stream: &mut Stream,
    request: LoginRequest,
    mut inbox: Vec<u8>,
    context: &Context,
) -> Result<Known, LoginError> {
    let begun = Instant::now();
    if context.commons.drain.soft().is_cancelled() {
        return Err(LoginError::ShuttingDown);
    }
    let max = context.config.listen.max_clients;
    // Administrators come in whatever the limit says.
    if !is_for_console(&request) && context.registry.len() >= max {
        return Err(LoginError::TooManyClients { max });
    }
    let mut out = Vec::with_capacity(512);
    if request.must_negotiate() {
        let version = request.version.agreed();
        backend::put_negotiate(&mut out, version, &request.protocol_options);
    }
    authenticate(stream, &request, context, &mut out, &mut inbox).await?;
    Ok(Known { request, begun, out, inbox })
}

fn is_for_console(request: &LoginRequest) -> bool {
    request.replication.is_none() && CONSOLE.contains(&request.database.as_str())
}

/// Lets a client in that is known: to the console, or to a session, for which it waits in the queue of
/// its pool if it needs a server now.
///
/// Cancel-safe: a server that was lent for it goes back.
pub(super) async fn let_in(
    stream: &mut Stream,
    peer: &Peer,
    known: Known,
    context: &Arc<Context>,
) -> Result<LoggedIn, LoginError> {
    let Known { request, begun, mut out, inbox } = known;
    if is_for_console(&request) {
        let seat = Seat::take(context, &request.user);
        let seat = seat.ok_or(LoginError::NoConsole { user: request.user })?;
        seat.greet(&mut out);
        stream.write_all(&out).await?;
        return Ok(LoggedIn::Console(seat, inbox));
    }
    let route = route(&request, &context.router)?;
    let mode = mode(&request, &route, context)?;
    if mode == Mode::ReadOnly && asks_for_writes(&request.settings()?) {
        return Err(LoginError::ReadOnly);
    }
    let id = context.registry.next_id();
    let room = make_room(context, id, &request.user)?;
    let to = Destination::of(&route, mode, &request, context);
    let placement = wait_for_place(stream, &to, &request, id, &mut out).await?;
    let record = record_of(id, &route, &request, (stream, peer), &placement)?;
    let own = context.config.users.get(&request.user).and_then(|rules| rules.client_idle_timeout);
    let idle_timeout = own.unwrap_or(context.config.listen.client_idle_timeout);
    let routes = Routes::of(&route, &placement.pool, &placement.rules, &request.user, context);
    let start = SessionStart {
        routes,
        registered: room.take(record),
        idle_timeout: idle_timeout.filter(|_| request.replication.is_none()),
        placement,
        begun,
        inbox,
    };
    put_greeting(&mut out, &start);
    stream.write_all(&out).await?;
    start.placement.pool.stats.logins.increment();
    Ok(LoggedIn::Session(Box::new(start)))
}

/// Finds its place for the session with the number `id`. `out`, what its client is still to be told,
/// goes to it ahead of the notice if that has to wait for long.
async fn wait_for_place(
    stream: &mut Stream,
    to: &Destination,
    request: &LoginRequest,
    id: u64,
    out: &mut Vec<u8>,
) -> Result<Placement, LoginError> {
    let mut placed = std::pin::pin!(place(to, request, id));
    let mut notice = to.rules.wait_notice;
    loop {
        let told = tokio::select! {
            placed = &mut placed => return placed,
            // Whom nobody waits for leaves the queue, and has no server opened.
            () = stream.closed() => {
                return Err(std::io::Error::from(std::io::ErrorKind::UnexpectedEof).into());
            }
            told = elapsed(notice) => told,
        };
        notice = None;
        error_response::put(out, Severity::Notice, &is_waiting(told));
        stream.write_all(out).await?;
        out.clear();
    }
}

/// Waits for `after`, and for ever if there is none.
async fn elapsed(after: Option<Duration>) -> Duration {
    match after {
        Some(after) => {
            tokio::time::sleep(after).await;
            after
        }
        None => std::future::pending().await,
    }
}

/// Finds the domain that the client means. A physical replication connection belongs to no database:
/// its domain has a setting of ours to be named by, and need not be named if there is only one.
fn route(request: &LoginRequest, router: &Router) -> Result<Route, LoginError> {
    let is_known = |name: &str| {
        name == MODE_SETTING || (name == DOMAIN_SETTING && request.replication.is_some())
    };
    if let Some((name, _)) = request.own.iter().find(|(name, _)| !is_known(name)) {
        return Err(LoginError::UnknownSetting { name: name.clone() });
    }
    let name = request.database.as_str();
    let unknown = |name: &str| LoginError::NoSuchDatabase { name: name.to_owned() };
    if let Some(domain) = request.own(DOMAIN_SETTING) {
        return router.named(domain).ok_or_else(|| unknown(domain));
    }
    match request.replication {
        None | Some(Replication::Logical) => router.route(name).ok_or_else(|| unknown(name)),
        Some(Replication::Physical) => router
            .named(name)
            .or_else(|| router.only(name))
            .ok_or_else(|| LoginError::WhichDomain { name: name.to_owned() }),
    }
}

/// The mode of the session: what the client asks for, else what the database's name says, else its user's.
fn mode(request: &LoginRequest, route: &Route, context: &Context) -> Result<Mode, LoginError> {
    if let Some(value) = request.own(MODE_SETTING) {
        return Mode::named(value)
            .ok_or_else(|| LoginError::NoSuchMode { value: value.to_owned() });
    }
    let of_user = || context.config.users.get(&request.user).and_then(|rules| rules.mode);
    Ok(route.mode.or_else(of_user).unwrap_or_default())
}

/// Asks the client to prove who it is. `out` holds what goes in front of the first question, `inbox`
/// what the client has sent already.
async fn authenticate(
    stream: &mut Stream,
    request: &LoginRequest,
    context: &Context,
    out: &mut Vec<u8>,
    inbox: &mut Vec<u8>,
) -> Result<(), LoginError> {
    let mut random = [0; Entropy::LEN];
    // Who is asked nothing needs none.
    if context.config.auth.method != AuthMethod::Trust {
        getrandom::fill(&mut random).map_err(|_error| LoginError::Random)?;
    }
    let entropy = Entropy::new(context.mock_key, random);
    let account = context.account(&request.user);
    let mut step = Login::start(context.config.auth.method, &request.user, account, &entropy);
    loop {
        match step {
            Step::Send { frame, next } => {
                out.extend_from_slice(&frame);
                stream.write_all(out).await?;
                out.clear();
                let body = read_password(stream, inbox).await?;
                step = next.on_password_message(&body);
            }
            Step::Done { last } => {
                out.extend(last.into_iter().flatten());
                backend::put_authentication_ok(out);
                return Ok(());
            }
            Step::Refuse(refusal) => return Err(refusal.into()),
        }
    }
}

/// Takes one password message from `inbox`, and reads until it is there.
async fn read_password(stream: &mut Stream, inbox: &mut Vec<u8>) -> Result<Vec<u8>, LoginError> {
    loop {
        if let Some(tag) = inbox.first().filter(|tag| **tag != b'p') {
            return Err(LoginError::NotAPassword { tag: *tag });
        }
        let too_long = LoginError::PasswordTooLong { len: inbox.len() };
        let head = frame::head(inbox, PASSWORD_MAX).map_err(|_error| too_long)?;
        if let Some(head) = head.filter(|head| inbox.len() >= head.len) {
            let rest = inbox.split_off(head.len);
            let mut message = std::mem::replace(inbox, rest);
            message.drain(..frame::HEAD);
            return Ok(message);
        }
        if !read_some(stream, inbox).await? {
            return Err(std::io::Error::from(std::io::ErrorKind::UnexpectedEof).into());
        }
    }
}

/// Keeps room for the session, if the limits on clients let it in: others may have come meanwhile.
fn make_room(context: &Context, id: u64, user: &str) -> Result<Room, LoginError> {
    let of_user = context.config.users.get(user).and_then(|rules| rules.max_clients);
    let limits = ClientLimits { all: context.config.listen.max_clients, of_user };
    context.registry.make_room(id, user, limits).map_err(|full| match full {
        Full::All { max } => LoginError::TooManyClients { max },
        Full::User { max } => LoginError::TooManyOfUser { user: user.to_owned(), max },
    })
}

fn record_of(
    id: u64,
    route: &Route,
    request: &LoginRequest,
    (stream, peer): (&Stream, &Peer),
    placement: &Placement,
) -> Result<ClientRecord, LoginError> {
    let server = placement.checkout.as_ref().and_then(Checkout::peek);
    let process_id =
        server.map_or_else(|| Registry::process_id(id), |server| server.record.key.process_id);
    let mut random = [0; ClientKey::RANDOM_LEN];
    getrandom::fill(&mut random).map_err(|_error| LoginError::Random)?;
    let name = match server {
        Some(server) => server.parameters.value("application_name"),
        None => placement.settings.value("application_name"),
    };
    let record = ClientRecord::new(Identity {
        id,
        key: ClientKey::new(process_id, random, request.version.agreed()),
        domain: Arc::clone(&route.domain.config.name),
        user: request.user.as_str().into(),
        peer: peer.clone(),
        local: stream.local(),
        tls: stream.encryption(),
        replication: request.replication,
        application_name: name.unwrap_or_default().into(),
    });
    Ok(record)
}

/// Appends what a client waits for at the end of its login.
fn put_greeting(out: &mut Vec<u8>, start: &SessionStart) {
    let Placement { settings, reported, checkout, .. } = &start.placement;
    if let Some(server) = checkout.as_ref().and_then(Checkout::peek) {
        out.extend_from_slice(&server.notices);
    }
    let own = |name| settings.iter().find(|(known, _)| *known == name).map(|(_, value)| value);
    for (name, value) in reported.iter() {
        let value = own(name).unwrap_or(value);
        backend::put_parameter_status(out, name.as_bytes(), value.as_bytes());
    }
    for (name, value) in settings.iter() {
        if is_reported(name) && reported.value(name).is_none() {
            backend::put_parameter_status(out, name.as_bytes(), value.as_bytes());
        }
    }
    let key = &start.registered.record.key;
    backend::put_backend_key(out, key.process_id, key.secret());
    backend::put_ready(out, TxStatus::Idle);
}
