//! `SHOW POOLS`.

use super::super::table::Type::{Int4, Text};
use super::super::table::{Cell, Column, int4, seconds, subsec_micros, text};
use crate::telemetry::snapshot::PoolSnapshot;

pub const COLUMNS: [Column; 17] = [
    ("database", Text),
    ("user", Text),
    ("cl_active", Int4),
    ("cl_waiting", Int4),
    ("cl_active_cancel_req", Int4),
    ("cl_waiting_cancel_req", Int4),
    ("sv_active", Int4),
    ("sv_active_cancel", Int4),
    ("sv_being_canceled", Int4),
    ("sv_idle", Int4),
    ("sv_used", Int4),
    ("sv_tested", Int4),
    ("sv_login", Int4),
    ("maxwait", Int4),
    ("maxwait_us", Int4),
    ("pool_mode", Text),
    ("load_balance_hosts", Text),
];

pub fn rows(pools: &[PoolSnapshot]) -> Vec<Vec<Cell>> {
    pools.iter().map(row).collect()
}

fn row(pool: &PoolSnapshot) -> Vec<Cell> {
    vec![
        text(pool.shown_database()),
        text(&pool.user),
        // To PgBouncer a client that wants nothing is active too.
        int4(pool.clients_active + pool.clients_idle),
        int4(pool.clients_waiting),
        int4(pool.cancels_active),
        // A cancel request never waits for a server of the pool: it has a connection of its own.
        int4(0),
        int4(pool.servers.active),
        int4(pool.cancels_active),
        int4(pool.servers.being_canceled),
        int4(pool.servers.idle),
        int4(pool.servers.used),
        int4(pool.servers.tested),
        int4(pool.servers.login),
        seconds(pool.oldest_wait),
        subsec_micros(pool.oldest_wait),
        text(pool.pool_mode.as_str()),
        None,
    ]
}
