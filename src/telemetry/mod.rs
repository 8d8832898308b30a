//! Seeing what happens: counters, snapshots of them, and the ways out.

pub mod advice;
pub mod averages;
pub mod counters;
pub mod http;
pub mod log;
pub mod metrics;
pub mod resources;
pub mod sample;
pub mod slow;
pub mod snapshot;
pub mod status;
pub mod traffic;

#[cfg(test)]
pub mod fake;
