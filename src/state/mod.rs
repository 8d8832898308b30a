//! What a session carries from server to server.

pub mod settings;
