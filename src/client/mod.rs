//! One accepted connection.

mod affects;
mod batch;
pub mod cancel;
pub mod console;
pub mod context;
mod deadlines;
mod from_client;
mod from_server;
mod greet;
mod held;
mod link;
mod login;
mod loss;
mod names;
mod naming;
mod own_server;
mod placement;
mod prepared;
pub mod record;
mod refusal;
pub mod registry;
pub mod report;
mod resets;
mod serve;
pub mod session;
mod stand_in;
