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

mod affects;
mod asynchronous;
mod auth;
mod begun;
mod bytes;
mod cancel;
mod columns;
mod copy;
mod deallocate;
mod differential;
mod drain;
mod first_use;
mod identity;
mod limits;
mod loss;
mod names;
mod ours;
mod own_server;
mod pipelines;
mod pooling;
mod prepared;
mod replication;
mod reread;
mod resets;
mod reuse;
mod settings;
mod sizing;
mod startup;
mod state;
mod timeouts;
mod tls_clients;
mod tls_servers;
mod versions;
