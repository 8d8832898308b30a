//! Servers, lent out: one pool for each (domain, mode, server user).

mod cancel;
pub mod caps;
pub mod checkout;
mod clean;
pub mod connector;
pub mod core;
pub mod host;
mod idle;
pub mod janitor;
pub mod ledger;
pub mod limiter;
mod load;
#[expect(clippy::module_inception, reason = "the room is about this type")]
pub mod pool;
pub mod pool_site;
mod queue;
mod retire;
mod shared;
mod sites;
mod sizing;
mod trouble;
pub mod waiter;

pub use checkout::{Checkout, CheckoutError};
pub use pool::Pool;
