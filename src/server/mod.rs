//! One connection to `PostgreSQL`.

pub mod cancel;
pub mod connect;
mod connect_error;
pub mod dialect;
mod encrypt;
pub mod endpoint;
pub mod exchange;
pub mod fate;
pub mod opening;
mod owed;
pub mod parameters;
pub mod record;
mod request;
pub mod reset;
mod seen;
#[expect(clippy::module_inception, reason = "the room is about this type")]
pub mod server;
pub mod shape;
pub mod statements;
pub mod store;
pub mod texts;
pub mod undo;
pub mod unnamed;

pub use server::Server;
