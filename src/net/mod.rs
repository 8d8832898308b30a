//! Everything that knows sockets.

pub mod buffer;
pub mod listener;
pub mod stream;
pub mod tls;
