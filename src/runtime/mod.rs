//! Threads, tasks, signals.
