//! Servers, lent out: one pool for each (domain, mode, server user).

pub mod core;
pub mod ledger;
