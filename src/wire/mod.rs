//! `PostgreSQL` protocol version 3 as bytes. No I/O, no clock, no logging.
//!
//! Nothing here allocates per message on the way through: a frame is stepped over by its head, and
//! the few messages that are looked at are borrowed from the buffer that they were read into.

pub mod backend;
pub mod error_response;
pub mod frame;
pub mod frontend;
pub mod sqlstate;
pub mod startup;
pub mod version;
