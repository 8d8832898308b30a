//! Discarding what a session left behind on a server.

use std::sync::Arc;
use std::time::Duration;

use super::Server;
use super::server::CommandError;
use crate::state::settings::Settings;

/// Everything that a session can leave behind, in one statement.
const DISCARD: &str = "DISCARD ALL";

/// Makes `server` as new within `after`. One that fails must be closed.
pub async fn discard_all(server: &mut Server, after: Duration) -> Result<(), CommandError> {
    server.command(DISCARD, after).await?;
    server.applied = Arc::new(Settings::default());
    server.applied_is_unknown = false;
    server.statements = super::statements::Statements::default();
    server.is_shared = false;
    server.is_dirty = false;
    server.record.prepared_statements.store(0, std::sync::atomic::Ordering::Relaxed);
    Ok(())
}
