//! A name, and where it goes.

pub mod domain;
pub mod router;

pub use domain::Domain;
pub use router::{Route, Router};
