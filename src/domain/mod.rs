//! A name, and where it goes: which of its hosts is the primary, and what is wrong with the others.

pub mod causal;
#[expect(clippy::module_inception, reason = "the room is about this type")]
pub mod domain;
pub mod health;
pub mod lag;
pub mod lookout;
pub mod name;
pub mod probe;
pub mod router;
pub mod slots;
pub mod topology;
pub mod watch;

pub use domain::Domain;
pub use router::{Route, Router};
