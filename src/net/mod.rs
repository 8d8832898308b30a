//! Everything that knows sockets.

pub mod buffer;
mod eager;
pub mod listener;
pub mod resolve;
pub mod stream;
pub mod tls;
