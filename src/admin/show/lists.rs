//! `SHOW LISTS`.

use std::collections::HashSet;

use super::super::table::Type::{Int4, Text};
use super::super::table::{Cell, Column, int4, text};
use crate::telemetry::snapshot::{DomainSnapshot, PoolSnapshot, ProcessSnapshot};

pub const COLUMNS: [Column; 2] = [("list", Text), ("items", Int4)];

/// Peers and DNS are listed with nothing in them: monitors look the rows up by name.
pub fn rows(
    process: &ProcessSnapshot,
    domains: &[DomainSnapshot],
    pools: &[PoolSnapshot],
) -> Vec<Vec<Cell>> {
    let users: HashSet<&str> = pools.iter().map(|pool| &*pool.user).collect();
    let idle: usize = pools.iter().map(|pool| pool.servers.idle).sum();
    let open: usize = pools.iter().map(|pool| pool.servers.total()).sum();
    let lists = [
        ("databases", domains.len()),
        ("users", users.len()),
        ("peers", 0),
        ("pools", pools.len()),
        ("peer_pools", 0),
        ("free_clients", 0),
        ("used_clients", process.clients_connected),
        ("login_clients", process.clients_login),
        ("free_servers", idle),
        ("used_servers", open.saturating_sub(idle)),
        ("dns_names", 0),
        ("dns_zones", 0),
        ("dns_queries", 0),
        ("dns_pending", 0),
    ];
    lists.into_iter().map(|(list, items)| vec![text(list), int4(items)]).collect()
}
