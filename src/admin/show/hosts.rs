//! `SHOW HOSTS`: a row for each host of each domain.

use super::super::table::Type::{Int4, Numeric, Text};
use super::super::table::{Cell, Column, int4, text, timestamp};
use crate::telemetry::snapshot::HostSnapshot;

pub const COLUMNS: [Column; 11] = [
    ("domain", Text),
    ("host", Text),
    ("role", Text),
    ("state", Text),
    ("since", Text),
    ("lag_bytes", Numeric),
    ("lag_ms", Numeric),
    ("timeline", Int4),
    ("system_identifier", Text),
    ("servers", Int4),
    ("trouble", Text),
];

pub fn rows(hosts: &[HostSnapshot]) -> Vec<Vec<Cell>> {
    hosts.iter().map(row).collect()
}

fn row(host: &HostSnapshot) -> Vec<Cell> {
    let lagging = if host.lags { "replica (lags)" } else { host.role };
    vec![
        text(&host.domain),
        text(&host.host),
        text(lagging),
        text(host.condition),
        timestamp(host.since),
        host.lag.map(|(bytes, _)| bytes.to_string()),
        host.lag.map(|(_, time)| time.as_millis().to_string()),
        host.timeline.and_then(int4),
        host.system.map(|system| system.to_string()),
        int4(host.servers),
        host.trouble.as_ref().map(ToString::to_string),
    ]
}
