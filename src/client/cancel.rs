//! Cancel requests: ours are passed on to the server that the session holds at that moment, or to
//! nobody.

use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

use tokio::time::timeout;

use super::context::Context;
use super::record::{ClientRecord, Ring};
use crate::pool::Pool;
use crate::server::cancel::request;
use crate::server::connect::ConnectError;
use crate::server::record::ServerRecord;
use crate::telemetry::snapshot::ClientState;

/// How long a cancel may be under way. Its server is lent to nobody for as long.
const TIMEOUT: Duration = Duration::from_secs(10);

/// Passes a client's cancel request on. An unknown key is ignored in silence: whoever guesses learns
/// nothing.
pub(super) fn forward(context: &Context, process_id: i32, secret: &[u8]) {
    let Some(record) = context.registry.find(process_id, secret) else {
        tracing::debug!(process_id, "a cancel request for nobody");
        return;
    };
    context.process.cancels.increment();
    tracing::info!(client = record.id, "cancel request");
    if record.state() == ClientState::Waiting {
        record.bell.ring(Ring::Cancel);
        return;
    }
    let pools = context.router.pools();
    let Some(pool) = pool_of(&pools, &record).map(Arc::clone) else { return };
    // A task of its own: the client may go, and its login_timeout end, before PostgreSQL answers.
    context.commons.drain.spawn(async move { send_for(&pool, &record).await });
}

fn pool_of<'a>(pools: &'a [Arc<Pool>], record: &ClientRecord) -> Option<&'a Arc<Pool>> {
    let server = record.link()?;
    pools.iter().find(|pool| pool.has(server.id))
}

async fn send_for(pool: &Pool, record: &ClientRecord) {
    let Some((server, under_way)) = record.begin_cancel() else { return };
    pool.cancels_active.fetch_add(1, Relaxed);
    send(pool, &server).await;
    pool.cancels_active.fetch_sub(1, Relaxed);
    // Only now may the server be lent to somebody else.
    drop(under_way);
}

/// Asks a server to stop what it does, and waits until PostgreSQL has passed that on: it closes the
/// connection then.
pub(super) async fn send(pool: &Pool, server: &Arc<ServerRecord>) {
    let run = async {
        // Not more of them at once than of logins: a host that is slow is not hammered.
        let _gate = pool.host.gate.acquire().await.map_err(|_closed| ConnectError::Closed)?;
        request(server).await
    };
    match timeout(TIMEOUT, run).await {
        Ok(Ok(())) => {}
        Ok(Err(error)) => {
            server.cancels().doubt();
            tracing::warn!(host = %server.host, %error, "a cancel request was not delivered");
        }
        Err(_elapsed) => {
            server.cancels().doubt();
            tracing::warn!(host = %server.host, "a cancel request was not delivered in time");
        }
    }
}
