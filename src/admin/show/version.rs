//! `SHOW VERSION`.

use super::super::table::Column;
use super::super::table::Type::Text;

pub const COLUMNS: [Column; 1] = [("version", Text)];

pub const VERSION: &str = concat!("pgweir ", env!("CARGO_PKG_VERSION"));
