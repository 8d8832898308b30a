//! Making a server fit for the next client, or closing it.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;

use super::core::Place;
use super::pool::Pool;
use crate::server::Server;
use crate::server::reset::{discard_all, renew};
use crate::server::server::CommandError;
use crate::telemetry::counters::CloseReason;
use crate::telemetry::snapshot::ServerState;

/// How long a server may take to roll back. One that takes longer does so by itself when it is closed.
const ROLLBACK_TIMEOUT: Duration = Duration::from_secs(1);

/// How long a server may take to discard a session's state.
const RESET_TIMEOUT: Duration = Duration::from_secs(10);

impl Pool {
    /// Waits for cancels that may still hit it, rolls back what is open, discards state, and takes it back.
    pub(super) async fn clean(self: Arc<Self>, mut server: Box<Server>) {
        let site = server.record.site;
        server.record.set_state(ServerState::BeingCanceled);
        tokio::select! {
            () = server.record.cancels().wait() => {}
            () = self.wait_until_lost(site) => {
                return self.close(server, Place::Aside, CloseReason::Lost);
            }
        }
        if server.record.cancels().is_doubtful() {
            // PostgreSQL may still deliver one: to whatever runs there then (pitfall P69).
            return self.close(server, Place::Aside, CloseReason::ResetFailed);
        }
        let is_in_block = server.exchange.may_roll_back();
        if is_in_block || server.must_discard() {
            if is_in_block {
                tracing::debug!(domain = %self.domain, server = server.id().0,
                    "a client has left a block open, which is rolled back");
            }
            server.record.set_state(ServerState::Used);
            let discarded = tokio::select! {
                discarded = discard(&mut server) => discarded,
                () = self.wait_until_lost(site) => {
                    return self.close(server, Place::Aside, CloseReason::Lost);
                }
            };
            match discarded {
                Ok(true) => {}
                Ok(false) => return self.close(server, Place::Aside, CloseReason::ResetFailed),
                Err(error) => {
                    tracing::warn!(domain = %self.domain, server = server.id().0, %error,
                        "a server could not be reset and is closed");
                    return self.close(server, Place::Aside, CloseReason::ResetFailed);
                }
            }
        }
        if !server.inbox.is_empty() {
            // The front of a message that nobody will read on.
            return self.close(server, Place::Aside, CloseReason::ResetFailed);
        }
        if self.is_outdated(&server) {
            return self.close(server, Place::Aside, CloseReason::Altered);
        }
        let now = Instant::now();
        server.last_used = now;
        self.give(server, Place::Aside, now);
    }
}

/// Discards a session's state, and its block; false if a session that has a server to itself would still find some.
async fn discard(server: &mut Server) -> Result<bool, CommandError> {
    if server.exchange.may_roll_back() {
        server.command("ROLLBACK", ROLLBACK_TIMEOUT).await?;
    }
    if server.is_shared {
        return discard_all(server, RESET_TIMEOUT).await.map(|()| true);
    }
    renew(server, RESET_TIMEOUT).await
}
