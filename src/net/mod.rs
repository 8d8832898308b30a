//! Everything that knows sockets.
