//! One connection to `PostgreSQL`.
