//! `SHOW STATE`.

use super::super::table::Type::Text;
use super::super::table::{Cell, Column, text};

pub const COLUMNS: [Column; 2] = [("key", Text), ("value", Text)];

/// pgweir is active as long as it answers: PAUSE and SUSPEND are not built yet.
pub fn rows() -> Vec<Vec<Cell>> {
    let states = [("active", "yes"), ("paused", "no"), ("suspended", "no")];
    states.into_iter().map(|(key, value)| vec![text(key), text(value)]).collect()
}
