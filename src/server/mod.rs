//! One connection to `PostgreSQL`.

pub mod exchange;
