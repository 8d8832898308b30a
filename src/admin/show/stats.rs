//! `SHOW STATS`, `STATS_TOTALS`, `STATS_AVERAGES` and `TOTALS`.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::super::table::Type::{Numeric, Text};
use super::super::table::{Cell, Column, text};
use crate::telemetry::averages::Totals;

/// Of `SHOW STATS`. Times are in microseconds.
pub const COLUMNS: [Column; 25] = [
    ("database", Text),
    ("total_server_assignment_count", Numeric),
    ("total_xact_count", Numeric),
    ("total_query_count", Numeric),
    ("total_received", Numeric),
    ("total_sent", Numeric),
    ("total_xact_time", Numeric),
    ("total_query_time", Numeric),
    ("total_wait_time", Numeric),
    ("total_client_parse_count", Numeric),
    ("total_server_parse_count", Numeric),
    ("total_bind_count", Numeric),
    ("total_client_login_count", Numeric),
    ("avg_server_assignment_count", Numeric),
    ("avg_xact_count", Numeric),
    ("avg_query_count", Numeric),
    ("avg_recv", Numeric),
    ("avg_sent", Numeric),
    ("avg_xact_time", Numeric),
    ("avg_query_time", Numeric),
    ("avg_wait_time", Numeric),
    ("avg_client_parse_count", Numeric),
    ("avg_server_parse_count", Numeric),
    ("avg_bind_count", Numeric),
    ("avg_client_login_count", Numeric),
];

/// Of `SHOW STATS_TOTALS`.
pub const TOTALS: [Column; 13] = [
    ("database", Text),
    ("server_assignment_count", Numeric),
    ("xact_count", Numeric),
    ("query_count", Numeric),
    ("bytes_received", Numeric),
    ("bytes_sent", Numeric),
    ("xact_time", Numeric),
    ("query_time", Numeric),
    ("wait_time", Numeric),
    ("client_parse_count", Numeric),
    ("server_parse_count", Numeric),
    ("bind_count", Numeric),
    ("client_login_count", Numeric),
];

/// Of `SHOW STATS_AVERAGES`.
pub const AVERAGES: [Column; 13] = [
    ("database", Text),
    ("server_assignment_count", Numeric),
    ("xact_count", Numeric),
    ("query_count", Numeric),
    ("bytes_received", Numeric),
    ("bytes_sent", Numeric),
    ("xact_time", Numeric),
    ("query_time", Numeric),
    ("wait_time", Numeric),
    ("avg_client_parse_count", Numeric),
    ("avg_server_parse_count", Numeric),
    ("avg_bind_count", Numeric),
    ("avg_client_login_count", Numeric),
];

/// Of `SHOW TOTALS`.
pub const SUMS: [Column; 2] = [("name", Text), ("value", Numeric)];

/// `averages` has no entry for a database before the end of its first period.
pub fn rows(totals: &Databases, averages: &Databases) -> Vec<Vec<Cell>> {
    let row = |(name, totals): (&Arc<str>, &Totals)| {
        let averages = averages.get(name).copied().unwrap_or_default();
        cells(name, totals.values().into_iter().chain(averages.values()))
    };
    totals.iter().map(row).collect()
}

pub fn totals(totals: &Databases) -> Vec<Vec<Cell>> {
    totals.iter().map(|(name, totals)| cells(name, totals.values())).collect()
}

/// A row for each database of `totals`.
pub fn averages(totals: &Databases, averages: &Databases) -> Vec<Vec<Cell>> {
    let row =
        |name: &Arc<str>| cells(name, averages.get(name).copied().unwrap_or_default().values());
    totals.keys().map(row).collect()
}

pub fn sums(totals: &Totals, averages: &Totals) -> Vec<Vec<Cell>> {
    let rows = |prefix: &'static str, values: [u64; 12]| {
        let row = move |(name, value)| vec![Some(format!("{prefix}{name}")), number(value)];
        SUM_NAMES.into_iter().zip(values).map(row)
    };
    rows("total_", totals.values()).chain(rows("avg_", averages.values())).collect()
}

/// Numbers by what the console calls their database.
pub type Databases = BTreeMap<Arc<str>, Totals>;

fn cells(database: &str, values: impl IntoIterator<Item = u64>) -> Vec<Cell> {
    std::iter::once(text(database)).chain(values.into_iter().map(number)).collect()
}

fn number(value: u64) -> Cell {
    text(value.to_string())
}

const SUM_NAMES: [&str; 12] = [
    "server_assignment_count",
    "xact_count",
    "query_count",
    "client_bytes",
    "server_bytes",
    "xact_time",
    "query_time",
    "wait_time",
    "ps_client_parse_count",
    "ps_server_parse_count",
    "ps_bind_count",
    "client_login_count",
];
