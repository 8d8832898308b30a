//! One client from accept to close: greet → log in → serve.

use std::sync::Arc;
use std::sync::atomic::AtomicUsize;
use std::sync::atomic::Ordering::Relaxed;

use tokio::sync::OwnedSemaphorePermit;
use tokio::time::timeout;

use super::context::Context;
use super::greet::{GreetError, Wish, greet};
use super::login::{Known, LoggedIn, LoginError, identify, let_in};
use super::registry::Registry;
use super::{cancel, console};
use crate::error::{ClientFacing, ClientMessage, Fault};
use crate::net::stream::Stream;
use crate::net::tls::is_noise;
use crate::runtime::worker::WorkerShare;
use crate::telemetry::snapshot::Peer;
use crate::wire::error_response::{self, Severity};
use crate::wire::sqlstate;
use crate::wire::startup::StartupError;

/// A client's socket with what it occupies.
#[derive(Debug)]
pub struct Accepted {
    pub stream: Stream,
    pub peer: Peer,
    pub share: WorkerShare,
    /// A place among those that have not logged in.
    pub unauthenticated: OwnedSemaphorePermit,
}

/// Serves a client.
pub async fn run(accepted: Accepted, context: Arc<Context>) {
    let Accepted { mut stream, peer, share, unauthenticated } = accepted;
    let connected = Counted::new(&context.registry, |registry| &registry.connected);
    let in_login = Counted::new(&context.registry, |registry| &registry.in_login);
    // The future of a login is large, and gone before the session is served.
    let begun = Box::pin(begin(&mut stream, &peer, &context, unauthenticated)).await;
    match begun {
        Begun::Nothing => {}
        Begun::Cancel { process_id, secret } => {
            cancel::forward(&context, process_id, &secret).await;
        }
        Begun::LoggedIn(LoggedIn::Console(seat, inbox)) => {
            drop(in_login);
            Box::pin(console::run(stream, seat, inbox)).await;
        }
        Begun::LoggedIn(LoggedIn::Session(login)) => {
            drop(in_login);
            context.process.login_duration.observe(login.begun.elapsed());
            super::serve::run(stream, login, Arc::clone(&context)).await;
        }
    }
    drop((connected, share));
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

/// Who a client is.
enum Met {
    /// It has left, or was told what is wrong.
    Nobody,
    Cancel {
        process_id: i32,
        secret: Vec<u8>,
    },
    Client(Known),
}

/// Meets a client, within `login_timeout`, and lets it in.
async fn begin(
    stream: &mut Stream,
    peer: &Peer,
    context: &Arc<Context>,
    unauthenticated: OwnedSemaphorePermit,
) -> Begun {
    let soft = context.commons.drain.soft();
    let limit = context.config.listen.login_timeout;
    // Who has not logged in when a drain begins does not hold it up.
    let met = tokio::select! {
        met = timeout(limit, meet(stream, peer, context)) => met,
        () = soft.cancelled() => Ok(Err(LoginError::ShuttingDown)),
    };
    // Those who wait for a server are known: they count among the clients, and keep neither
    // strangers out nor cancels.
    drop(unauthenticated);
    let known = match met {
        Ok(Ok(Met::Nobody)) => return Begun::Nothing,
        Ok(Ok(Met::Cancel { process_id, secret })) => return Begun::Cancel { process_id, secret },
        Ok(Ok(Met::Client(known))) => known,
        Ok(Err(error)) => {
            on_login_error(stream, peer, context, &error);
            return Begun::Nothing;
        }
        Err(_elapsed) => {
            refuse(stream, &login_timeout());
            return Begun::Nothing;
        }
    };
    let let_in = tokio::select! {
        let_in = let_in(stream, peer, known, context) => let_in,
        () = soft.cancelled() => Err(LoginError::ShuttingDown),
    };
    match let_in {
        Ok(logged_in) => Begun::LoggedIn(logged_in),
        Err(error) => {
            on_login_error(stream, peer, context, &error);
            Begun::Nothing
        }
    }
}

/// Greets the client, and has it prove who it is.
async fn meet(stream: &mut Stream, peer: &Peer, context: &Context) -> Result<Met, LoginError> {
    match greet(stream, context.config.listen.tls.as_ref()).await {
        Ok(Wish::Nothing) => Ok(Met::Nobody),
        Ok(Wish::Cancel { process_id, secret }) => Ok(Met::Cancel { process_id, secret }),
        Ok(Wish::Login { request, rest }) => {
            identify(stream, request, rest, context).await.map(Met::Client)
        }
        Err(error) => {
            on_greet_error(stream, peer, &error);
            Ok(Met::Nobody)
        }
    }
}

fn on_greet_error(stream: &mut Stream, peer: &Peer, error: &GreetError) {
    let code = match error {
        GreetError::Startup(StartupError::Replication { .. }) => sqlstate::INVALID_PARAMETER,
        GreetError::Startup(StartupError::Version { .. }) => sqlstate::FEATURE_NOT_SUPPORTED,
        GreetError::Startup(_) | GreetError::DataBehindRequest { .. } => {
            sqlstate::PROTOCOL_VIOLATION
        }
        GreetError::NoTls { .. } => sqlstate::INVALID_AUTHORIZATION,
        // The one cannot read what we would say, the other may mean something else than PostgreSQL.
        GreetError::TlsNotOffered | GreetError::NoProtocol => {
            tracing::info!(peer = %peer, %error, "client refused");
            return;
        }
        GreetError::Tls { source } if !is_noise(source) => {
            tracing::info!(peer = %peer, %error, "client refused");
            return;
        }
        GreetError::Tls { .. } | GreetError::Truncated | GreetError::Io(_) => {
            tracing::debug!(peer = %peer, %error, "client left before it logged in");
            return;
        }
    };
    tracing::info!(peer = %peer, %error, "client refused");
    let mut message = ClientMessage::new(code, error.to_string());
    if let GreetError::Startup(StartupError::Replication { .. }) = error {
        message = message.hint("Valid values are: \"false\", 0, \"true\", 1, \"database\".");
    }
    if let GreetError::NoTls { .. } = error {
        message = message.hint("Connect with sslmode=require, or a stricter one.");
    }
    refuse(stream, &message);
}

fn on_login_error(stream: &mut Stream, peer: &Peer, context: &Context, error: &LoginError) {
    if let LoginError::Gone(_) = error {
        // psql does so each time it has to ask its user for a password.
        tracing::debug!(peer = %peer, %error, "client left before it was logged in");
        return;
    }
    context.process.login_failures.increment();
    // To be turned away from a pgweir that is being stopped is nothing that failed.
    if error.fault() == Fault::Client || error.is_of_shutdown() {
        tracing::info!(peer = %peer, %error, "login refused");
    } else {
        tracing::warn!(peer = %peer, %error, "login failed");
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

/// Counts in one of the registry's counters until it is dropped.
struct Counted {
    registry: Arc<Registry>,
    counter: fn(&Registry) -> &AtomicUsize,
}

impl Counted {
    fn new(registry: &Arc<Registry>, counter: fn(&Registry) -> &AtomicUsize) -> Self {
        counter(registry).fetch_add(1, Relaxed);
        Self { registry: Arc::clone(registry), counter }
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        (self.counter)(&self.registry).fetch_sub(1, Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::super::serve::{self, Session};
    use super::*;

    /// The size of the future that an async function returns.
    macro_rules! size_of_future {
        ($function:path, $($argument:ident),*) => {{
            fn size_of_output<F, $($argument),*>(_: fn($($argument),*) -> F) -> usize {
                size_of::<F>()
            }
            size_of_output($function)
        }};
    }

    /// Each client pays for it as long as it is there. What is rare belongs in a box, what only a login
    /// needs in the future of the login. A bound that has to be raised all the same is raised here, and
    /// the commit says what that buys.
    #[test]
    fn what_every_client_holds_is_no_larger_than_it_has_to_be() {
        for (what, bytes, most) in [
            // Eight bytes of it find the numbers of its worker, eight what it has to do with settings of ours,
            // and eight where else its transactions may go.
            ("Session", size_of::<Session>(), 424),
            ("the future of serve::run", size_of_future!(serve::run, A, B, C), 688),
            ("the future of session::run", size_of_future!(run, A, B), 1100),
        ] {
            assert!(bytes <= most, "{what} has {bytes} bytes, and may have {most}");
        }
    }
}
