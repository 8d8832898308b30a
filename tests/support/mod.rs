//! What the integration tests stand on: real servers, scripted servers, a proxy, a client of bytes.

pub mod authority;
pub mod fake_server;
pub mod messages;
pub mod names;
pub mod password;
pub mod postgres;
pub mod proxy;
pub mod random;
pub mod raw_client;
pub mod relay;
pub mod reply;
pub mod socket;
pub mod splitter;
pub mod wait;
