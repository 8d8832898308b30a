//! Logging a client in: who it is, where it goes, and what it is told of its server.

use std::sync::Arc;
use std::time::Duration;

use thiserror::Error;
use tokio::time::{Instant, timeout_at};

use super::console::Seat;
use super::context::Context;
use super::record::{ClientKey, ClientRecord, Identity};
use super::registry::{ClientLimits, Full, Registered, Registry};
use crate::auth::{Entropy, Login, LoginRefusal, Step};
use crate::config::{PoolMode, PoolSettings};
use crate::domain::Route;
use crate::domain::domain::PoolWanted;
use crate::error::{ClientFacing, ClientMessage, Fault};
use crate::net::stream::Stream;
use crate::pool::checkout::Asked;
use crate::pool::waiter::Waiter;
use crate::pool::{Checkout, CheckoutError, Pool};
use crate::runtime::worker::current_home;
use crate::server::parameters::Parameters;
use crate::server::server::CommandError;
use crate::state::settings::{Settings, is_reported};
use crate::wire::backend::{self, TxStatus};
use crate::wire::startup::LoginRequest;
use crate::wire::{frame, sqlstate};

/// What a login leads to.
#[derive(Debug)]
pub(super) enum LoggedIn {
    Session(Box<SessionStart>),
    Console(Seat),
}

/// Everything that a session begins with.
#[derive(Debug)]
pub(super) struct SessionStart {
    pub registered: Registered,
    pub pool: Arc<Pool>,
    pub rules: PoolSettings,
    pub idle_timeout: Option<Duration>,
    pub settings: Arc<Settings>,
    /// In session mode: the server that is the session's until its end.
    pub checkout: Option<Checkout>,
    pub begun: Instant,
}

/// Why a client is not let in.
#[derive(Debug, Error)]
pub(super) enum LoginError {
    #[error("no more connections allowed (max_clients = {max})")]
    TooManyClients { max: usize },
    #[error("no more connections of user {user:?} allowed (users.{user}.max_clients = {max})")]
    TooManyOfUser { user: String, max: usize },
    #[error("replication connections are not built yet")]
    Replication,
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
    #[error("user {user:?} may not use the console")]
    NoConsole { user: String },
    #[error("no server could be had within login_timeout: {source}")]
    NoServer { source: CheckoutError },
    #[error("the server does not take the client's startup parameters: {source}")]
    Settings { source: CommandError },
    #[error("the system has no randomness to give")]
    Random,
    #[error("pooler is shutting down")]
    ShuttingDown,
}

impl ClientFacing for LoginError {
    fn fault(&self) -> Fault {
        match self {
            Self::TooManyClients { .. }
            | Self::TooManyOfUser { .. }
            | Self::Random
            | Self::ShuttingDown => Fault::Proxy,
            Self::NoServer { source } => source.fault(),
            Self::Replication
            | Self::Gone(_)
            | Self::NotAPassword { .. }
            | Self::PasswordTooLong { .. }
            | Self::Refused(_)
            | Self::NoSuchDatabase { .. }
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
            Self::Replication => message(sqlstate::FEATURE_NOT_SUPPORTED),
            Self::Gone(_) | Self::NotAPassword { .. } | Self::PasswordTooLong { .. } => {
                message(sqlstate::PROTOCOL_VIOLATION)
            }
            Self::Refused(refusal) => refusal.client_message(),
            Self::NoSuchDatabase { .. } => message(sqlstate::INVALID_CATALOG_NAME),
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
/// The longest password message in bytes (pitfall P9).
const PASSWORD_MAX: usize = 64 * 1024;
/// The only minor version of protocol 3 that we speak.
const MINOR: u32 = 0;

/// Logs a client in that has sent its startup packet.
///
/// Cancel-safe: a server that was lent for it goes back.
pub(super) async fn log_in(
    stream: &mut Stream,
    request: LoginRequest,
    context: &Arc<Context>,
    deadline: Instant,
) -> Result<LoggedIn, LoginError> {
    let begun = Instant::now();
    if context.commons.drain.soft().is_cancelled() {
        return Err(LoginError::ShuttingDown);
    }
    let is_console = CONSOLE.contains(&request.database.as_str());
    check_room(context, is_console)?;
    if request.replication {
        return Err(LoginError::Replication);
    }
    let mut out = Vec::with_capacity(512);
    if request.minor > MINOR || !request.protocol_options.is_empty() {
        backend::put_negotiate(&mut out, MINOR, &request.protocol_options);
    }
    authenticate(stream, &request, context, &mut out).await?;
    if is_console {
        let seat = Seat::take(context, &request.user);
        let seat = seat.ok_or(LoginError::NoConsole { user: request.user })?;
        seat.greet(&mut out);
        stream.write_all(&out).await?;
        return Ok(LoggedIn::Console(seat));
    }
    let route = context
        .router
        .route(&request.database)
        .ok_or_else(|| LoginError::NoSuchDatabase { name: request.database.clone() })?;
    let mut start = prepare(&route, &request, stream, context, deadline).await?;
    start.begun = begun;
    put_greeting(&mut out, &start);
    stream.write_all(&out).await?;
    start.pool.stats.logins.increment();
    Ok(LoggedIn::Session(Box::new(start)))
}

/// Checks the limits on clients. Administrators come in whatever the limit says.
fn check_room(context: &Context, is_console: bool) -> Result<(), LoginError> {
    let max = context.config.listen.max_clients;
    if !is_console && context.registry.len() >= max {
        return Err(LoginError::TooManyClients { max });
    }
    Ok(())
}

/// Asks the client to prove who it is. `out` holds what goes in front of the first question.
async fn authenticate(
    stream: &mut Stream,
    request: &LoginRequest,
    context: &Context,
    out: &mut Vec<u8>,
) -> Result<(), LoginError> {
    let mut random = [0; Entropy::LEN];
    getrandom::fill(&mut random).map_err(|_error| LoginError::Random)?;
    let entropy = Entropy::new(context.mock_key, random);
    let account = context.account(&request.user);
    let mut step = Login::start(context.config.auth.method, &request.user, account, &entropy);
    loop {
        match step {
            Step::Send { frame, next } => {
                out.extend_from_slice(&frame);
                stream.write_all(out).await?;
                out.clear();
                let body = read_password(stream).await?;
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

/// Reads one password message; nothing may come behind it before our answer.
async fn read_password(stream: &mut Stream) -> Result<Vec<u8>, LoginError> {
    let mut message = Vec::new();
    let mut chunk = [0; 1024];
    loop {
        let n = stream.read(&mut chunk).await?;
        if n == 0 {
            return Err(std::io::Error::from(std::io::ErrorKind::UnexpectedEof).into());
        }
        message.extend_from_slice(chunk.get(..n).unwrap_or_default());
        if let Some(tag) = message.first().filter(|tag| **tag != b'p') {
            return Err(LoginError::NotAPassword { tag: *tag });
        }
        let too_long = LoginError::PasswordTooLong { len: message.len() };
        let head = frame::head(&message, PASSWORD_MAX).map_err(|_error| too_long)?;
        if let Some(head) = head.filter(|head| message.len() >= head.len) {
            if message.len() > head.len {
                return Err(LoginError::NotAPassword { tag: b'?' });
            }
            message.drain(..frame::HEAD);
            return Ok(message);
        }
    }
}

/// Finds the pool, and a server where one is needed now.
async fn prepare(
    route: &Route,
    request: &LoginRequest,
    stream: &Stream,
    context: &Arc<Context>,
    deadline: Instant,
) -> Result<SessionStart, LoginError> {
    let (pool, rules) = pool_of(route, request, context);
    let settings = Settings::new(request.settings.iter().map(|(n, v)| (n.as_str(), v.as_str())));
    let mut checkout = None;
    let mut settings = Arc::new(settings);
    let is_session_mode = rules.pool_mode == PoolMode::Session;
    let known = if is_session_mode { None } else { pool.checked_settings(&settings) };
    let must_check = known.is_none() && !only_application_name(&settings);
    if let Some(known) = known {
        settings = known;
    }
    if is_session_mode || must_check || pool.welcome().is_none() {
        match check_out(&pool, deadline).await {
            Ok(mut lent) => {
                settings = apply(&mut lent, &pool, settings).await?;
                checkout = Some(lent).filter(|_| is_session_mode);
            }
            // The last known parameters answer in the place of a server that cannot be had.
            Err(source) => {
                if is_session_mode || pool.welcome().is_none() {
                    return Err(LoginError::NoServer { source });
                }
            }
        }
    }
    let record = record_of(route, request, stream, context, checkout.as_mut())?;
    let own = context.config.users.get(&request.user).and_then(|rules| rules.client_idle_timeout);
    Ok(SessionStart {
        registered: register(context, record)?,
        pool,
        rules,
        idle_timeout: own.unwrap_or(context.config.listen.client_idle_timeout),
        settings,
        checkout,
        begun: Instant::now(),
    })
}

/// The pool of the domain's user, or of the client's own where the domain has none.
fn pool_of(route: &Route, request: &LoginRequest, context: &Context) -> (Arc<Pool>, PoolSettings) {
    let domain = &route.domain.config;
    let rules = context.pool_settings(domain, &request.user);
    let (user, secret, settings): (Arc<str>, _, _) = match &domain.user {
        Some(user) => (Arc::clone(user), context.domain_secret(domain, user), domain.pool.clone()),
        None => {
            let secret = context.secret_for_server(&request.user);
            (request.user.as_str().into(), secret, rules.clone())
        }
    };
    let pool = route.domain.pool(PoolWanted {
        user_cap: context.router.user_cap(&user),
        user,
        database: Arc::clone(&route.database),
        secret,
        settings,
    });
    (pool, rules)
}

fn only_application_name(settings: &Settings) -> bool {
    settings.iter().all(|(name, _)| name == "application_name")
}

/// Lends a server during a login, which ends at `deadline` at the latest.
async fn check_out(pool: &Arc<Pool>, deadline: Instant) -> Result<Checkout, CheckoutError> {
    let begun = Instant::now();
    // A little before the login's own deadline, so that the client hears why.
    let most = deadline.saturating_duration_since(begun).mul_f64(0.95);
    let after = pool.settings.timeout.min(most);
    let waiter = Arc::new(Waiter::default());
    let lend = async {
        loop {
            match pool.ask(current_home(), None, &waiter, Instant::now())? {
                Asked::Lent(checkout) => return Ok(checkout),
                Asked::Stale(checkout) => {
                    if let Some(checkout) = pool.prove(checkout).await {
                        return Ok(checkout);
                    }
                }
                Asked::Wait(mut wait) => {
                    return std::future::poll_fn(|cx| wait.poll(cx)).await;
                }
            }
        }
    };
    match timeout_at(begun + after, lend).await {
        Ok(result) => result,
        Err(_elapsed) => Err(pool.login_timeout_error(after)),
    }
}

/// Puts the client's settings on a server, and returns them as the server spells them.
async fn apply(
    checkout: &mut Checkout,
    pool: &Arc<Pool>,
    settings: Arc<Settings>,
) -> Result<Arc<Settings>, LoginError> {
    let Some(server) = checkout.server() else { return Ok(settings) };
    if let Some(change) = server.change_to(&settings) {
        let after = pool.settings.connect_timeout;
        if let Err(source) = server.command(&change, after).await {
            // Part of it may have been done.
            server.is_dirty = true;
            return Err(LoginError::Settings { source });
        }
    }
    let mut spelled = (*settings).clone();
    for (name, _) in settings.iter().filter(|(name, _)| is_reported(name)) {
        if let Some(value) = server.parameters.value(name) {
            spelled.set(name, value);
        }
    }
    let spelled = Arc::new(spelled);
    server.applied = Arc::clone(&spelled);
    pool.note_checked_settings(&settings, &spelled);
    Ok(spelled)
}

/// Adds the session, if the limits on clients still let it in: others may have come meanwhile.
fn register(context: &Context, record: ClientRecord) -> Result<Registered, LoginError> {
    let of_user = context.config.users.get(&*record.user).and_then(|rules| rules.max_clients);
    let limits = ClientLimits { all: context.config.listen.max_clients, of_user };
    let user = Arc::clone(&record.user);
    context.registry.add(record, limits).map_err(|full| match full {
        Full::All { max } => LoginError::TooManyClients { max },
        Full::User { max } => LoginError::TooManyOfUser { user: user.to_string(), max },
    })
}

fn record_of(
    route: &Route,
    request: &LoginRequest,
    stream: &Stream,
    context: &Context,
    checkout: Option<&mut Checkout>,
) -> Result<ClientRecord, LoginError> {
    let id = context.registry.next_id();
    let server = checkout.and_then(|checkout| checkout.server()).map(|s| Arc::clone(&s.record));
    let process_id = server.as_ref().map_or_else(|| Registry::process_id(id), |s| s.key.process_id);
    let mut secret = [0; 4];
    getrandom::fill(&mut secret).map_err(|_error| LoginError::Random)?;
    let name = request.settings.iter().rev().find(|(name, _)| name == "application_name");
    let record = ClientRecord::new(Identity {
        id,
        key: ClientKey { process_id, secret },
        domain: Arc::clone(&route.domain.config.name),
        user: request.user.as_str().into(),
        peer: stream.peer(),
        local: stream.local(),
        application_name: name.map_or("", |(_, value)| value).into(),
    });
    Ok(record)
}

/// Appends what a client waits for at the end of its login.
fn put_greeting(out: &mut Vec<u8>, start: &SessionStart) {
    let welcome = start.pool.welcome().unwrap_or_else(|| Arc::new(Parameters::default()));
    let mut told = (*welcome).clone();
    for (name, value) in start.settings.iter() {
        if is_reported(name) || told.value(name).is_some() {
            told.note(name, value);
        }
    }
    for (name, value) in told.iter() {
        backend::put_parameter_status(out, name.as_bytes(), value.as_bytes());
    }
    let key = start.registered.record.key;
    backend::put_backend_key(out, key.process_id, &key.secret);
    backend::put_ready(out, TxStatus::Idle);
}
