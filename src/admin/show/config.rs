//! `SHOW CONFIG`.

use super::super::table::Type::Text;
use super::super::table::{Cell, Column, text};
use crate::config::Config;

pub const COLUMNS: [Column; 4] =
    [("key", Text), ("value", Text), ("default", Text), ("changeable", Text)];

pub fn rows(config: &Config) -> Vec<Vec<Cell>> {
    let row = |row: &crate::config::ConfigRow| {
        // Nothing can be changed while pgweir runs, until RELOAD and SET are built.
        vec![text(&row.key), text(&row.value), text(&row.default), text("no")]
    };
    config.rows.iter().map(row).collect()
}
