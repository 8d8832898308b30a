//! Where a login leads: its pool, its settings, and a server where it needs one now.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::{Instant, timeout};

use super::context::Context;
use super::login::LoginError;
use crate::config::{Mode, PoolMode, PoolSettings};
use crate::domain::Route;
use crate::domain::domain::PoolWanted;
use crate::pool::checkout::Asked;
use crate::pool::waiter::Waiter;
use crate::pool::{Checkout, CheckoutError, Pool};
use crate::runtime::worker::current_home;
use crate::server::connect::ConnectError;
use crate::server::opening::Opening;
use crate::server::parameters::Parameters;
use crate::server::reset::renew;
use crate::state::settings::{Settings, is_fixed};
use crate::telemetry::counters::CloseReason;
use crate::wire::startup::LoginRequest;

/// A session's pool, and what it begins with there.
#[derive(Debug)]
pub(super) struct Placement {
    pub pool: Arc<Pool>,
    pub rules: Arc<PoolSettings>,
    /// What is put on a server for it: nothing where the server is its own.
    pub settings: Arc<Settings>,
    /// What a server reports before anything is put on it.
    pub reported: Arc<Parameters>,
    /// What its servers are opened with, if that is not what the pool opens them with.
    pub wish: Option<Arc<Opening>>,
    /// The server that is the session's until its end.
    pub checkout: Option<Checkout>,
}

/// The pool that a session is to have, and the rules for it there.
#[derive(Debug)]
pub(super) struct Destination {
    pool: Arc<Pool>,
    pub rules: Arc<PoolSettings>,
}

impl Destination {
    pub(super) fn of(route: &Route, mode: Mode, request: &LoginRequest, context: &Context) -> Self {
        let (pool, mut rules) = pool_of(route, mode, &request.user, context);
        if request.replication.is_some() {
            // The stream may last for years, and it is PostgreSQL that watches over it.
            let rules = Arc::make_mut(&mut rules);
            rules.pool_mode = PoolMode::Session;
            rules.query_timeout = None;
            rules.transaction_timeout = None;
            rules.idle_in_transaction_timeout = None;
        }
        Self { pool, rules }
    }
}

/// The pool of the domain's user, or of the client's own where the domain has none, and the rules there for a
/// client of this name.
pub(super) fn pool_of(
    route: &Route,
    mode: Mode,
    client: &str,
    context: &Context,
) -> (Arc<Pool>, Arc<PoolSettings>) {
    let domain = &route.domain.config;
    let rules = context.pool_settings(domain, client, mode);
    let (user, secret, settings): (Arc<str>, _, _) = match &domain.user {
        Some(user) => (
            Arc::clone(user),
            context.domain_secret(domain, user),
            Arc::clone(domain.pool_of(mode)),
        ),
        None => {
            let secret = context.secret_for_server(client);
            (client.into(), secret, Arc::clone(&rules))
        }
    };
    let pool = route.domain.pool(PoolWanted {
        mode,
        user_cap: context.router.user_cap(&user),
        user,
        database: Arc::clone(&route.database),
        secret,
        settings,
    });
    (pool, rules)
}

/// Finds the place of the session with the number `id`, with a server where one is needed now.
///
/// Cancel-safe: a server that was lent for it goes back.
pub(super) async fn place(
    to: &Destination,
    request: &LoginRequest,
    id: u64,
) -> Result<Placement, LoginError> {
    let (pool, rules) = (Arc::clone(&to.pool), Arc::clone(&to.rules));
    let patience = Patience { after: rules.timeout, since: Instant::now() };
    if rules.pool_mode == PoolMode::Session {
        let checkout = own_server(&pool, request, id, patience).await?;
        let reported = checkout.peek().map(|server| Arc::new(server.parameters.clone()));
        return Ok(Placement {
            pool,
            rules,
            settings: Arc::default(),
            reported: reported.unwrap_or_default(),
            wish: None,
            checkout: Some(checkout),
        });
    }
    let mut settings = request.settings()?;
    let wish = Opening::take_from(&mut settings);
    let wish = Some(Arc::new(wish)).filter(|wish| !wish.is_plain());
    let settings = Settings::new(settings.iter().map(|(n, v)| (n.as_str(), v.as_str())));
    let (settings, reported) = shared(&pool, settings, wish.as_ref(), patience).await?;
    Ok(Placement { pool, rules, settings, reported, wish, checkout: None })
}

/// How long a login waits for a server, and since when.
#[derive(Debug, Clone, Copy)]
struct Patience {
    after: Duration,
    since: Instant,
}

/// A server for the session alone, opened with what its client asks for.
async fn own_server(
    pool: &Arc<Pool>,
    request: &LoginRequest,
    id: u64,
    patience: Patience,
) -> Result<Checkout, LoginError> {
    let opening = Opening {
        options: request.options.clone(),
        parameters: request.parameters.clone(),
        replication: request.replication.map(|kind| (kind, id)),
    };
    let opening = Some(Arc::new(opening)).filter(|opening| !opening.is_plain());
    loop {
        let lent = check_out(pool, opening.as_ref(), patience).await;
        let mut lent = lent.map_err(|source| refusal(source, opening.as_deref()))?;
        let Some(server) = lent.server() else { continue };
        let after = pool.settings.connect_timeout;
        if !server.is_shared || renew(server, after).await.is_ok_and(|is_new| is_new) {
            return Ok(lent);
        }
        lent.close(CloseReason::ResetFailed);
    }
}

/// What a client is told that has no server of its own: what the server said to it, word for word,
/// or why there is none.
fn refusal(source: CheckoutError, opening: Option<&Opening>) -> LoginError {
    let error = match &source {
        CheckoutError::Connect { source, .. } => Some(&**source),
        CheckoutError::Timeout { .. }
        | CheckoutError::Silent { .. }
        | CheckoutError::QueueFull { .. }
        | CheckoutError::NoHost { .. }
        | CheckoutError::ShuttingDown => None,
    };
    match (error, opening) {
        (Some(error @ ConnectError::Refused { body, .. }), Some(opening))
            if error.is_for(opening) =>
        {
            LoginError::Server { body: body.clone() }
        }
        _ => LoginError::NoServer { source },
    }
}

/// The settings that are to follow the session from server to server, as a server spells them, and
/// what a server reports without them.
async fn shared(
    pool: &Arc<Pool>,
    mut settings: Settings,
    wish: Option<&Arc<Opening>>,
    patience: Patience,
) -> Result<(Arc<Settings>, Arc<Parameters>), LoginError> {
    // It is not worth a server: each program has a name of its own.
    let name = plain_application_name(&settings).map(str::to_owned);
    if name.is_some() {
        settings.remove(APPLICATION_NAME);
    }
    let known = if settings.is_empty() { Some(Arc::default()) } else { pool.checked(&settings) };
    if let (Some(known), Some(welcome), None) = (&known, pool.welcome(), wish) {
        let settings = pool.share_settings(with_name(Arc::clone(known), name.as_deref()));
        if !pool.doubts_welcome(&welcome, Instant::now()) {
            return Ok((settings, welcome));
        }
        // In a box: hardly any login does that.
        let better = Box::pin(timeout(BETTER_WELCOME, better_welcome(pool, patience))).await;
        return Ok((settings, better.ok().flatten().unwrap_or(welcome)));
    }
    let lent = check_out(pool, wish, patience).await;
    let mut lent = lent.map_err(|source| refusal(source, wish.map(|wish| &**wish)))?;
    let reported = lent.peek().map(|server| Arc::clone(&server.base)).unwrap_or_default();
    Ok((apply(&mut lent, pool, settings, name.as_deref()).await?, reported))
}

/// How long a login looks for a better greeting than the last known.
const BETTER_WELCOME: Duration = Duration::from_secs(1);

/// What a server reports now, if one is to be had.
async fn better_welcome(pool: &Arc<Pool>, patience: Patience) -> Option<Arc<Parameters>> {
    let lent = check_out(pool, None, patience).await.ok()?;
    // An idle server reads its configuration anew only when it is asked something.
    let mut lent = pool.prove(lent).await?;
    lent.server().map(|server| pool.renew_welcome(server))
}

/// The application name that is asked for, if it is one that every server takes as it is.
fn plain_application_name(settings: &Settings) -> Option<&str> {
    let is_plain =
        |value: &&str| value.len() < NAME_MAX && value.bytes().all(|b| matches!(b, b' '..=b'~'));
    settings.value(APPLICATION_NAME).filter(is_plain)
}

fn with_name(settings: Arc<Settings>, name: Option<&str>) -> Arc<Settings> {
    let Some(name) = name else { return settings };
    let mut settings = Arc::unwrap_or_clone(settings);
    settings.set(APPLICATION_NAME, name);
    Arc::new(settings)
}

const APPLICATION_NAME: &str = "application_name";

/// `PostgreSQL` cuts an application name before it has this many bytes.
const NAME_MAX: usize = 64;

/// Lends a server during a login.
async fn check_out(
    pool: &Arc<Pool>,
    wish: Option<&Arc<Opening>>,
    patience: Patience,
) -> Result<Checkout, CheckoutError> {
    tokio::select! {
        lent = lend(pool, wish) => lent,
        // In a box: hardly any login waits, and each has room for all that it may do.
        () = Box::pin(pool.out_of_patience(patience.since, patience.after)) => {
            Err(pool.login_timeout_error(patience.after))
        }
    }
}

async fn lend(pool: &Arc<Pool>, wish: Option<&Arc<Opening>>) -> Result<Checkout, CheckoutError> {
    let waiter = Arc::new(Waiter::default());
    loop {
        match pool.ask(current_home(), None, wish, &waiter, Instant::now())? {
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
}

/// Puts the client's settings on a server, its application name beside them, and returns all as the
/// server spells them.
async fn apply(
    checkout: &mut Checkout,
    pool: &Arc<Pool>,
    asked: Settings,
    name: Option<&str>,
) -> Result<Arc<Settings>, LoginError> {
    let settings = with_name(Arc::new(asked.clone()), name);
    let Some(server) = checkout.server() else { return Ok(settings) };
    server.is_shared = true;
    if let Some(change) = server.change_to(&settings) {
        let after = pool.settings.connect_timeout;
        if let Err(source) = server.command(&change, after).await {
            // Part of it may have been done.
            server.is_dirty = true;
            return Err(LoginError::Settings { source });
        }
    }
    let mut spelled = asked.clone();
    for (name, _) in asked.iter().filter(|(name, _)| !is_fixed(name)) {
        if let Some(value) = server.parameters.value(name) {
            spelled.set(name, value);
        }
    }
    let spelled = Arc::new(spelled);
    pool.note_checked(&asked, &spelled);
    let spelled = pool.share_settings(with_name(spelled, name));
    server.applied = Arc::clone(&spelled);
    Ok(spelled)
}
