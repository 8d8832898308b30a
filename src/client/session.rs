//! One client from accept to close: greet → log in → serve.

use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;

use tokio::sync::OwnedSemaphorePermit;
use tokio::time::{Instant, timeout_at};

use super::context::Context;
use super::greet::{GreetError, Wish, greet};
use super::login::{LoggedIn, LoginError, log_in};
use super::registry::Registry;
use super::{cancel, console};
use crate::error::{ClientFacing, ClientMessage, Fault};
use crate::net::stream::Stream;
use crate::net::tls::is_noise;
use crate::runtime::worker::WorkerShare;
use crate::wire::error_response::{self, Severity};
use crate::wire::sqlstate;
use crate::wire::startup::StartupError;

/// A client's socket with what it occupies.
#[derive(Debug)]
pub struct Accepted {
    pub stream: Stream,
    pub share: WorkerShare,
    /// A place among those that have not logged in.
    pub unauthenticated: OwnedSemaphorePermit,
}

/// Serves a client.
pub async fn run(accepted: Accepted, context: Arc<Context>) {
    let Accepted { mut stream, share, unauthenticated } = accepted;
    let connected = Counted::new(&context.registry);
    let deadline = Instant::now() + context.config.listen.login_timeout;
    // The future of a login is large, and gone before the session is served.
    let begun = Box::pin(timeout_at(deadline, begin(&mut stream, &context, deadline))).await;
    drop(unauthenticated);
    let begun = begun.unwrap_or_else(|_elapsed| {
        refuse(&mut stream, &login_timeout());
        Begun::Nothing
    });
    match begun {
        Begun::Nothing => {}
        Begun::Cancel { process_id, secret } => {
            cancel::forward(&context, process_id, &secret).await;
        }
        Begun::LoggedIn(LoggedIn::Console(seat)) => {
            connected.logged_in();
            Box::pin(console::run(stream, seat)).await;
        }
        Begun::LoggedIn(LoggedIn::Session(login)) => {
            connected.logged_in();
            context.process.login_duration.observe(login.begun.elapsed());
            super::serve::run(stream, login, Arc::clone(&context)).await;
        }
    }
    drop(share);
}

/// What a connection turned out to be for.
enum Begun {
    /// The client has left, or was told why it is not let in.
    Nothing,
    Cancel {
        process_id: i32,
        secret: Vec<u8>,
    },
    LoggedIn(LoggedIn),
}

/// Greets the client and logs it in.
async fn begin(stream: &mut Stream, context: &Arc<Context>, deadline: Instant) -> Begun {
    let soft = context.commons.drain.soft();
    // Who has not logged in when a drain begins does not hold it up.
    let greeted = tokio::select! {
        greeted = greet(stream, context.config.listen.tls.as_ref()) => greeted.map_err(Some),
        () = soft.cancelled() => Err(None),
    };
    let wish = match greeted {
        Ok(wish) => wish,
        Err(Some(error)) => {
            on_greet_error(stream, &error);
            return Begun::Nothing;
        }
        Err(None) => {
            on_login_error(stream, context, &LoginError::ShuttingDown);
            return Begun::Nothing;
        }
    };
    match wish {
        Wish::Nothing => Begun::Nothing,
        Wish::Cancel { process_id, secret } => Begun::Cancel { process_id, secret },
        Wish::Login(request) => {
            let logged_in = tokio::select! {
                logged_in = log_in(stream, request, context, deadline) => logged_in,
                () = soft.cancelled() => Err(LoginError::ShuttingDown),
            };
            match logged_in {
                Ok(logged_in) => Begun::LoggedIn(logged_in),
                Err(error) => {
                    on_login_error(stream, context, &error);
                    Begun::Nothing
                }
            }
        }
    }
}

fn on_greet_error(stream: &mut Stream, error: &GreetError) {
    let code = match error {
        GreetError::Startup(StartupError::Replication { .. }) => sqlstate::INVALID_PARAMETER,
        GreetError::Startup(StartupError::Version { .. }) => sqlstate::FEATURE_NOT_SUPPORTED,
        GreetError::Startup(_)
        | GreetError::DataBehindRequest
        | GreetError::TooManyRequests
        | GreetError::RequestInsideTls => sqlstate::PROTOCOL_VIOLATION,
        GreetError::NoTls { .. } => sqlstate::INVALID_AUTHORIZATION,
        // Who began with TLS cannot read what we would say.
        GreetError::TlsNotOffered | GreetError::NoProtocol => {
            tracing::info!(peer = %stream.peer(), %error, "client refused");
            return;
        }
        GreetError::Tls { source } if !is_noise(source) => {
            tracing::info!(peer = %stream.peer(), %error, "client refused");
            return;
        }
        GreetError::Tls { .. } | GreetError::Truncated | GreetError::Io(_) => {
            tracing::debug!(peer = %stream.peer(), %error, "client left before it logged in");
            return;
        }
    };
    tracing::info!(peer = %stream.peer(), %error, "client refused");
    let mut message = ClientMessage::new(code, error.to_string());
    if let GreetError::Startup(StartupError::Replication { .. }) = error {
        message = message.hint("Valid values are: \"false\", 0, \"true\", 1, \"database\".");
    }
    if let GreetError::NoTls { .. } = error {
        message = message.hint("Connect with sslmode=require, or a stricter one.");
    }
    refuse(stream, &message);
}

fn on_login_error(stream: &mut Stream, context: &Context, error: &LoginError) {
    context.process.login_failures.increment();
    // To be turned away from a pgweir that is being stopped is nothing that failed.
    if error.fault() == Fault::Client || error.is_of_shutdown() {
        tracing::info!(peer = %stream.peer(), %error, "login refused");
    } else {
        tracing::warn!(peer = %stream.peer(), %error, "login failed");
    }
    let message = error.client_message();
    context.process.errors.increment(message.sqlstate.class(), error.fault());
    if let LoginError::Server { body } = error {
        stream.try_write_last(&error_response::verbatim(body));
    } else {
        refuse(stream, &message);
    }
}

fn refuse(stream: &mut Stream, message: &ClientMessage) {
    let mut out = Vec::new();
    error_response::put(&mut out, Severity::Fatal, message);
    stream.try_write_last(&out);
}

fn login_timeout() -> ClientMessage {
    ClientMessage::new(sqlstate::CONNECTION_FAILURE, "login_timeout: the login took too long")
}

/// A socket in the registry's counts, first among those that log in.
struct Counted {
    registry: Arc<Registry>,
    is_in_login: std::sync::atomic::AtomicBool,
}

impl Counted {
    fn new(registry: &Arc<Registry>) -> Self {
        registry.connected.fetch_add(1, Relaxed);
        registry.in_login.fetch_add(1, Relaxed);
        Self { registry: Arc::clone(registry), is_in_login: true.into() }
    }

    fn logged_in(&self) {
        if self.is_in_login.swap(false, Relaxed) {
            self.registry.in_login.fetch_sub(1, Relaxed);
        }
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        self.logged_in();
        self.registry.connected.fetch_sub(1, Relaxed);
    }
}
