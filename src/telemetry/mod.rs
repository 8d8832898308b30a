//! Seeing what happens: counters, snapshots of them, and the ways out.

pub mod counters;
pub mod snapshot;
