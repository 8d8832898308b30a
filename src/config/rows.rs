//! The rows of `SHOW CONFIG`: every key that applies, its value and its default.

use super::ConfigRow;
use super::keys::{Fallback, Kind, Type};
use super::raw::{Table, View, default, join};
use super::value::MASK;

/// All keys of the fixed tables, and of the domains, hosts and users those that are written.
pub(super) fn rows(root: &Table) -> Vec<ConfigRow> {
    let mut rows = Vec::new();
    fixed(root, &mut rows);
    for name in ["domains", "hosts", "users"] {
        for (_, table) in root.named(name) {
            written(table, None, root, &mut rows);
        }
    }
    rows
}

fn fixed(table: &Table, rows: &mut Vec<ConfigRow>) {
    for key in table.keys {
        match key.kind {
            Kind::Value { .. } => rows.push(ConfigRow {
                key: join(&table.path, key.name),
                value: View::of(table).shown(key.name),
                default: shown_default(table, key.name),
            }),
            Kind::Table(_) => fixed(table.table(key.name), rows),
            Kind::Named { .. } | Kind::Later(_) => {}
        }
    }
}

/// The keys that are written in `table`. `beneath` is the table it is laid over: without the line,
/// that one's value would apply.
fn written(table: &Table, beneath: Option<&Table>, root: &Table, rows: &mut Vec<ConfigRow>) {
    for key in table.keys {
        match key.kind {
            Kind::Value { of, default: fallback } => {
                let Some(leaf) = table.leaf(key.name) else { continue };
                let default = match (of, fallback, beneath) {
                    (Type::Secret, Fallback::Is(_), _) => MASK.to_owned(),
                    (_, _, Some(beneath)) => View::of(beneath).shown(key.name),
                    (_, _, None) => shown_default(table, key.name),
                };
                let key = join(&table.path, key.name);
                rows.push(ConfigRow { key, value: leaf.shown.clone(), default });
            }
            Kind::Table(_) => {
                let is_domain_pool = key.name == "pool" && table.path.starts_with("domains.");
                let beneath = is_domain_pool.then(|| root.table("pool"));
                written(table.table(key.name), beneath, root, rows);
            }
            Kind::Named { .. } | Kind::Later(_) => {}
        }
    }
}

fn shown_default(table: &Table, name: &str) -> String {
    default(table.keys, name).map_or_else(String::new, |leaf| leaf.shown)
}
