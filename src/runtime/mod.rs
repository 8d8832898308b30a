//! Threads, tasks, timers, signals.

pub mod alarm;
pub mod backoff;
pub mod drain;
pub mod second_look;
pub mod worker;
