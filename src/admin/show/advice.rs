//! `SHOW ADVICE`: a row for each pool, with how many servers it would do with.

use std::time::Duration;

use super::super::table::Type::{Int4, Numeric, Text};
use super::super::table::{Cell, Column, int4, text};
use crate::telemetry::advice::Advice;
use crate::telemetry::snapshot::PoolSnapshot;

pub const COLUMNS: [Column; 15] = [
    ("domain", Text),
    ("mode", Text),
    ("user", Text),
    ("database", Text),
    ("size", Int4),
    ("adaptive", Text),
    ("limit", Int4),
    ("advised", Int4),
    ("in_use", Text),
    ("full_percent", Text),
    ("waits", Numeric),
    ("avg_wait_ms", Numeric),
    ("longest_wait_ms", Numeric),
    ("seconds", Int4),
    ("advice", Text),
];

pub fn rows(pools: &[PoolSnapshot]) -> Vec<Vec<Cell>> {
    pools.iter().map(row).collect()
}

fn row(pool: &PoolSnapshot) -> Vec<Cell> {
    let (advice, load) = (Advice::of(pool), &pool.load);
    vec![
        text(&pool.domain),
        text(pool.mode),
        text(&pool.user),
        text(&pool.database),
        int4(pool.size),
        text(if pool.adaptive { "yes" } else { "no" }),
        int4(pool.limit),
        advice.servers.and_then(int4),
        text(format!("{:.1}", load.busiest)),
        text(format!("{:.1}", load.full * 100.0)),
        text(load.waits.to_string()),
        milliseconds(load.mean_wait),
        milliseconds(load.longest_wait),
        int4(load.period.as_secs()),
        text(advice.text),
    ]
}

fn milliseconds(duration: Duration) -> Cell {
    text(duration.as_millis().to_string())
}
