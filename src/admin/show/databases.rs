//! `SHOW DATABASES`: a row for each domain.

use super::super::table::Type::{Int4, Text};
use super::super::table::{Cell, Column, int4, seconds, text};
use crate::config::HostAddr;
use crate::telemetry::snapshot::DomainSnapshot;

pub const COLUMNS: [Column; 17] = [
    ("name", Text),
    ("host", Text),
    ("port", Int4),
    ("database", Text),
    ("force_user", Text),
    ("pool_size", Int4),
    ("min_pool_size", Int4),
    ("reserve_pool_size", Int4),
    ("server_lifetime", Int4),
    ("pool_mode", Text),
    ("load_balance_hosts", Text),
    ("max_connections", Int4),
    ("current_connections", Int4),
    ("max_client_connections", Int4),
    ("current_client_connections", Int4),
    ("paused", Int4),
    ("disabled", Int4),
];

pub fn rows(domains: &[DomainSnapshot]) -> Vec<Vec<Cell>> {
    domains.iter().map(row).collect()
}

fn row(domain: &DomainSnapshot) -> Vec<Cell> {
    let config = &domain.config;
    let (host, port) = config.hosts.first().map_or((None, None), address);
    vec![
        text(&config.name),
        host,
        port,
        config.database.as_ref().map(ToString::to_string),
        config.user.as_ref().map(ToString::to_string),
        int4(config.pool.size),
        int4(config.pool.min),
        int4(config.pool.max_overflow),
        seconds(config.pool.recycle.unwrap_or_default()),
        text(config.pool.pool_mode.as_str()),
        None,
        // 0: no limit.
        int4(config.max_connections.unwrap_or(0)),
        int4(domain.servers),
        int4(0),
        int4(domain.clients),
        int4(0),
        int4(0),
    ]
}

fn address(host: &HostAddr) -> (Cell, Cell) {
    match host {
        HostAddr::Tcp { host, port } => (text(host), int4(*port)),
        HostAddr::Unix { directory, port } => (text(directory.to_string_lossy()), int4(*port)),
    }
}
