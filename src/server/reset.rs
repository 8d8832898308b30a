//! Discarding what a session left behind on a server.

use std::sync::Arc;
use std::time::Duration;

use super::Server;
use super::server::CommandError;
use crate::state::settings::Settings;

/// Everything that a session can leave behind, in one statement.
const DISCARD: &str = "DISCARD ALL";

/// Gives a row if there is something that DISCARD ALL leaves: once it has a schema for temporary
/// objects, a server keeps it, empty, and PREPARE TRANSACTION can tell.
const IS_LEFT: &str =
    "SELECT WHERE pg_catalog.pg_my_temp_schema() OPERATOR(pg_catalog.<>) 0::pg_catalog.oid";

/// True if `server` can be told from a new one although its state is discarded.
pub async fn is_worn(server: &mut Server, after: Duration) -> Result<bool, CommandError> {
    Ok(server.command(IS_LEFT, after).await? > 0)
}

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
