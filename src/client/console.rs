//! A client of the console: the shell that moves its bytes.

use std::sync::Arc;

use bytes::BytesMut;
use tokio_util::sync::CancellationToken;

use super::context::Context;
use crate::admin::{Access, Console, ConsoleStep};
use crate::error::ClientMessage;
use crate::net::stream::Stream;
use crate::telemetry::snapshot::Observe;
use crate::wire::backend::{self, TxStatus};
use crate::wire::error_response::{self, Severity};
use crate::wire::frame::{self, HEAD};
use crate::wire::sqlstate;

/// A user's seat at the console.
pub struct Seat {
    console: Console,
    stop: CancellationToken,
}

impl std::fmt::Debug for Seat {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Seat").finish_non_exhaustive()
    }
}

impl Seat {
    /// A seat for `user`; `None` if the configuration has none for it.
    pub fn take(context: &Arc<Context>, user: &str) -> Option<Self> {
        let admin = &context.config.admin;
        let access = if admin.users.iter().any(|name| name == user) {
            Access::Admin
        } else if admin.stats_users.iter().any(|name| name == user) {
            Access::Stats
        } else {
            return None;
        };
        let observe: Arc<dyn Observe> = Arc::clone(context) as Arc<dyn Observe>;
        let console = Console::new(observe, Arc::clone(&context.averages), access);
        Some(Self { console, stop: context.commons.drain.soft().clone() })
    }

    /// Appends what follows `AuthenticationOk`.
    pub fn greet(&self, out: &mut Vec<u8>) {
        let mut greeting = BytesMut::new();
        self.console.greet(&mut greeting);
        out.extend_from_slice(&greeting);
        backend::put_backend_key(out, 0, &[0; 4]);
        backend::put_ready(out, TxStatus::Idle);
    }
}

/// Serves the console until its client leaves, breaks the protocol, or pgweir stops. `inbox`: what the
/// client has sent already.
pub async fn run(mut stream: Stream, mut seat: Seat, inbox: Vec<u8>) {
    let stop = seat.stop.clone();
    let last = tokio::select! {
        last = serve(&mut stream, &mut seat.console, inbox) => last,
        () = stop.cancelled() => {
            Some(ClientMessage::new(sqlstate::ADMIN_SHUTDOWN, "pooler is shutting down"))
        }
    };
    if let Some(message) = last {
        let mut out = Vec::new();
        error_response::put(&mut out, Severity::Fatal, &message);
        stream.try_write_last(&out);
    }
}

/// Moves messages; what the client is to be told at the end, if anything.
async fn serve(
    stream: &mut Stream,
    console: &mut Console,
    mut inbox: Vec<u8>,
) -> Option<ClientMessage> {
    let mut chunk = vec![0; 4096];
    let mut out = BytesMut::new();
    loop {
        loop {
            let head = match frame::head(&inbox, Console::MAX_MESSAGE + HEAD) {
                Ok(Some(head)) if inbox.len() >= head.len => head,
                Ok(_) => break,
                Err(error) => {
                    let code = sqlstate::PROTOCOL_VIOLATION;
                    return Some(ClientMessage::new(code, error.to_string()));
                }
            };
            let body = inbox.get(HEAD..head.len).unwrap_or_default();
            let step = console.on_message(head.tag, body, &mut out);
            inbox.drain(..head.len);
            stream.write_all(&out).await.ok()?;
            out.clear();
            if step == ConsoleStep::Close {
                return None;
            }
        }
        let n = stream.read(&mut chunk).await.ok().filter(|n| *n > 0)?;
        inbox.extend_from_slice(chunk.get(..n).unwrap_or_default());
    }
}
