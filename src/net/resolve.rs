//! Names to addresses.

use std::fmt::Debug;
use std::future::Future;
use std::io;
use std::net::SocketAddr;
use std::pin::Pin;

use tokio::net::lookup_host;

/// Where a connection can be opened.
pub type Address = SocketAddr;

/// What a resolver says: the addresses of a name, those that it prefers first.
pub type Answer = io::Result<Vec<Address>>;

/// Whoever knows where names lead.
pub trait Resolve: Send + Sync + Debug {
    /// The addresses of `name`, at `port`.
    fn resolve<'a>(
        &'a self,
        name: &'a str,
        port: u16,
    ) -> Pin<Box<dyn Future<Output = Answer> + Send + 'a>>;
}

/// The system's resolver: `getaddrinfo`, which tells no lifetimes.
#[derive(Debug, Clone, Copy)]
pub struct System;

impl Resolve for System {
    fn resolve<'a>(
        &'a self,
        name: &'a str,
        port: u16,
    ) -> Pin<Box<dyn Future<Output = Answer> + Send + 'a>> {
        Box::pin(async move { Ok(lookup_host((name, port)).await?.collect()) })
    }
}
