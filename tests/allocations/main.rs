//! What pgweir allocates: for an exchange when everything is warm, and for a client that is idle.
//!
//! The whole process is counted, for what pgweir does is not all done on one thread. So the clients and
//! the server of these tests, which live in it as well, allocate nothing while it is counted, and the
//! tests take turns.

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

mod exchanges;
mod frames;
mod idle;
mod quiet_server;

use std::alloc::System;
use std::sync::{Mutex, MutexGuard, PoisonError};

use stats_alloc::{INSTRUMENTED_SYSTEM, StatsAlloc};

#[global_allocator]
static ALLOCATOR: &StatsAlloc<System> = &INSTRUMENTED_SYSTEM;

static TURN: Mutex<()> = Mutex::new(());

/// Waits until no other test counts.
fn turn() -> MutexGuard<'static, ()> {
    TURN.lock().unwrap_or_else(PoisonError::into_inner)
}
