//! A name, and where it goes.

#[expect(clippy::module_inception, reason = "the room is about this type")]
pub mod domain;
pub mod router;

pub use domain::Domain;
pub use router::{Route, Router};
