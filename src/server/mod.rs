//! One connection to `PostgreSQL`.

pub mod connect;
pub mod exchange;
pub mod parameters;
pub mod record;
pub mod reset;
pub mod server;
pub mod statements;

pub use server::Server;
