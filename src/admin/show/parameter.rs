//! Settings that drivers look for in any `PostgreSQL`: told at login, and answered to SHOW.

use super::super::table::{Cell, Column, Type, text};

/// `(name in lower case, name as told, value, told at login)`
pub const PARAMETERS: [(&str, &str, &str, bool); 15] = [
    ("server_version", "server_version", SERVER_VERSION, true),
    ("server_version_num", "server_version_num", "150000", false),
    ("server_encoding", "server_encoding", "UTF8", true),
    ("client_encoding", "client_encoding", "UTF8", true),
    ("datestyle", "DateStyle", "ISO", true),
    ("intervalstyle", "IntervalStyle", "postgres", true),
    ("timezone", "TimeZone", "GMT", true),
    ("standard_conforming_strings", "standard_conforming_strings", "on", true),
    ("is_superuser", "is_superuser", "on", true),
    ("integer_datetimes", "integer_datetimes", "on", true),
    ("in_hot_standby", "in_hot_standby", "off", true),
    ("default_transaction_read_only", "default_transaction_read_only", "off", true),
    ("default_transaction_isolation", "default_transaction_isolation", "read committed", false),
    ("transaction_isolation", "transaction_isolation", "read committed", false),
    ("transaction_read_only", "transaction_read_only", "off", false),
];

/// Drivers read the number in front and choose their ways by it.
pub const SERVER_VERSION: &str = concat!("15.0 (pgweir ", env!("CARGO_PKG_VERSION"), ")");

/// What `version()` gives; `SQLAlchemy` reads the number behind the first word.
pub const POSTGRESQL: &str = concat!("PostgreSQL 15.0 (pgweir ", env!("CARGO_PKG_VERSION"), ")");

pub(super) fn find(name: &str) -> Option<usize> {
    PARAMETERS.iter().position(|(known, ..)| *known == name)
}

pub(super) fn columns(place: usize) -> Vec<Column> {
    PARAMETERS.get(place).map(|(_, name, ..)| (*name, Type::Text)).into_iter().collect()
}

pub(super) fn rows(place: usize) -> Vec<Vec<Cell>> {
    PARAMETERS.get(place).map(|(_, _, value, _)| vec![text(value)]).into_iter().collect()
}
