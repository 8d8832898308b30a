//! The integration tests: one binary, a module per behaviour.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::wildcard_enum_match_arm,
    unreachable_pub,
    dead_code,
    reason = "test code: what goes wrong is to be seen at once"
)]

#[path = "../support/mod.rs"]
mod support;

mod auth;
mod pooling;
mod prepared;
mod startup;
