//! Cancel requests to servers: one way for all who want something stopped.
//!
//! There is a bound on how many there are at once for a host, apart from that on logins: neither
//! waits for the other when the host is slow (pitfall P23).

use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

use thiserror::Error;
use tokio::time::{Instant, timeout_at};

use super::pool::Pool;
use crate::server::cancel;
use crate::server::connect::ConnectError;
use crate::server::record::{Askers, CancelUnderWay, Cancels, ServerRecord};

/// A cancel request that was given up.
#[derive(Debug, Error)]
pub(super) enum Undelivered {
    /// It can hit nobody any more.
    #[error("no connection for it: {source}")]
    NotSent { source: ConnectError },
    /// Nobody knows whether PostgreSQL will still heed it.
    #[error("it was sent, but {source}")]
    Doubtful { source: ConnectError },
}

impl Pool {
    /// Asks a server to stop what it does, on behalf of the session that it is lent to: until that is
    /// over the server stays with the session, which begins nothing new on it, or goes to nobody.
    /// `askers` are told of the end.
    pub fn cancel(self: &Arc<Self>, server: &Arc<ServerRecord>, askers: Askers) {
        let Some(under_way) = Cancels::begin(server, askers) else { return };
        let (pool, host) = (Arc::clone(self), Arc::clone(&server.host));
        self.commons.drain.spawn(async move {
            pool.cancels_active.fetch_add(1, Relaxed);
            if let Err(error) = pool.deliver(under_way, pool.settings.connect_timeout).await {
                tracing::warn!(%host, %error, "a cancel request was not delivered");
            }
            pool.cancels_active.fetch_sub(1, Relaxed);
        });
    }

    /// Sends a cancel request, unless it is withdrawn before it can be sent, and waits for at most
    /// `limit` until PostgreSQL has passed it on.
    pub(super) async fn deliver(
        &self,
        mut under_way: CancelUnderWay,
        limit: Duration,
    ) -> Result<(), Undelivered> {
        let deadline = Instant::now() + limit;
        let server = Arc::clone(under_way.server());
        let connect = async {
            let gate = self.host_of(&server).cancel_gate.acquire().await;
            let gate = gate.map_err(|_closed| ConnectError::Closed)?;
            Ok((gate, cancel::connect(&server).await?))
        };
        let connected = timeout_at(deadline, connect).await;
        if !under_way.begin_sending() {
            return Ok(());
        }
        let (_gate, stream) = connected
            .unwrap_or(Err(ConnectError::Timeout { after: limit }))
            .map_err(|source| Undelivered::NotSent { source })?;
        let sent = timeout_at(deadline, cancel::send(stream, &server)).await;
        sent.unwrap_or(Err(ConnectError::Timeout { after: limit })).map_err(|source| {
            server.cancels().doubt();
            Undelivered::Doubtful { source }
        })
    }
}
