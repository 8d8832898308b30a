//! Discarding what a session left behind on a server.

use std::sync::Arc;
use std::time::Duration;

use super::Server;
use super::server::CommandError;
use crate::state::settings::Settings;

/// Everything that a session can leave behind, in one statement.
const DISCARD: &str = "DISCARD ALL";

/// `random()` is seeded anew, whoever has seeded it.
const RESEED: &str = "SELECT WHERE pg_catalog.setseed(pg_catalog.hashtext(\
    pg_catalog.gen_random_uuid()::pg_catalog.text)::pg_catalog.float8 \
    OPERATOR(pg_catalog./) 2147483648::pg_catalog.float8) IS NULL";

/// Gives a row if there is something that DISCARD ALL leaves. Once it has a schema for temporary
/// objects, a server keeps it, empty, and PREPARE TRANSACTION can tell; a temporary replication slot
/// goes with its server.
const IS_LEFT: &str = "SELECT WHERE pg_catalog.pg_my_temp_schema() \
    OPERATOR(pg_catalog.<>) 0::pg_catalog.oid \
    OR EXISTS (SELECT FROM pg_catalog.pg_replication_slots \
    WHERE temporary AND active_pid OPERATOR(pg_catalog.=) pg_catalog.pg_backend_pid())";

/// Gives a row if the user may set the session's replication origin, as few may.
const MAY_HAVE_ORIGIN: &str = "SELECT FROM pg_catalog.pg_proc \
    WHERE proname OPERATOR(pg_catalog.=) 'pg_replication_origin_session_setup'::pg_catalog.name \
    AND pronamespace OPERATOR(pg_catalog.=) 'pg_catalog'::pg_catalog.regnamespace::pg_catalog.oid \
    AND pg_catalog.has_function_privilege(oid, 'execute')";

/// Gives a row if it is set. Who may not set it may not ask either.
const HAS_ORIGIN: &str = "SELECT WHERE pg_catalog.pg_replication_origin_session_is_setup()";

/// True if `server` can be told from a new one although its state is discarded.
async fn is_worn(server: &mut Server, after: Duration) -> Result<bool, CommandError> {
    let question = format!("{RESEED}; {IS_LEFT}; {MAY_HAVE_ORIGIN}");
    if server.command(&question, after).await? == 0 {
        return Ok(false);
    }
    Ok(server.command(&format!("{IS_LEFT}; {HAS_ORIGIN}"), after).await? > 0)
}

/// Makes `server` as new for a session that has it to itself. One that fails must be closed, and so
/// must one that can still be told from a new one: false.
pub async fn renew(server: &mut Server, after: Duration) -> Result<bool, CommandError> {
    discard_all(server, after).await?;
    Ok(!is_worn(server, after).await?)
}

/// Makes `server` as new within `after`, as far as sessions that share it can tell. One that fails
/// must be closed.
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
