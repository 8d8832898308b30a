//! pgweir: a PostgreSQL connection-pooling proxy.
//!
//! Reading the modules in this order follows a connection from the socket to the server and back.
//!
//! ```text
//! net::listener → client::session → domain → pool → server → back through client::from_server
//! ```

pub mod admin;
pub mod app;
pub mod auth;
pub mod cli;
pub mod client;
pub mod config;
pub mod domain;
pub mod error;
pub mod net;
pub mod pool;
pub mod runtime;
pub mod server;
pub mod sql;
pub mod state;
pub mod telemetry;
pub mod tls;
pub mod wire;
