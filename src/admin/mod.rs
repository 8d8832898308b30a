//! The console: a database that is not there, in which pgweir answers for itself.
//!
//! ```text
//! console (protocol, state) → parse (text → command) → show (snapshots → table) → respond (bytes)
//! ```

mod console;
mod frontend;
mod parse;
mod refusal;
mod respond;
pub mod show;
mod table;

pub use console::{Access, Console, ConsoleStep};
pub use table::{Cell, Column, Table, Type};
