//! Where a host is: what it is called, and the addresses that lead there at the moment.

use std::fmt;
use std::io;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::time::Duration;

use tokio::sync::watch;
use tokio::time::timeout;

use super::connect_error::ConnectError;
use super::dialect::Dialect;
use crate::config::HostAddr;
use crate::net::resolve::Address;
use crate::net::stream::Stream;

/// A host as connections to it are opened.
#[derive(Debug)]
pub struct Endpoint {
    /// As it is configured: certificates are for this name, whatever address it has (pitfall P41).
    pub name: HostAddr,
    whereabouts: watch::Sender<Whereabouts>,
    /// Its name leads to other hosts as well: the name alone does not tell which it is.
    is_one_of_several: AtomicBool,
    pub dialect: Dialect,
}

/// Where a host is to be found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Whereabouts {
    /// Nobody has said yet where its name leads.
    Unknown,
    /// Addresses of the same host, tried in turn. None for a Unix socket, which has no other address than its
    /// name.
    At(Arc<[Address]>),
    /// Its name leads nowhere, for this reason.
    Nowhere(Arc<str>),
}

/// How long one address has to answer before the next one is tried as well (RFC 8305).
const HEAD_START: Duration = Duration::from_millis(250);

impl Endpoint {
    /// A host that may be at any address of its name, if it is a name.
    pub fn new(name: HostAddr) -> Self {
        let whereabouts = match &name {
            HostAddr::Unix { .. } => Whereabouts::At(Arc::default()),
            HostAddr::Tcp { .. } => name
                .literal()
                .map_or(Whereabouts::Unknown, |address| Whereabouts::At(Arc::new([address]))),
        };
        Self {
            name,
            whereabouts: watch::Sender::new(whereabouts),
            is_one_of_several: AtomicBool::new(false),
            dialect: Dialect::default(),
        }
    }

    /// It is to be found there from now on.
    pub fn be(&self, whereabouts: Whereabouts) {
        self.whereabouts.send_if_modified(|is| {
            let is_other = *is != whereabouts;
            *is = whereabouts;
            is_other
        });
    }

    pub fn whereabouts(&self) -> Whereabouts {
        self.whereabouts.borrow().clone()
    }

    /// True if a connection that asked for `address` is one to where it is now. `None`: through a Unix socket.
    pub fn is_at(&self, address: Option<Address>) -> bool {
        match (&*self.whereabouts.borrow(), address) {
            (Whereabouts::At(addresses), Some(address)) => addresses.contains(&address),
            (Whereabouts::At(_), None) => true,
            (Whereabouts::Unknown | Whereabouts::Nowhere(_), _) => false,
        }
    }

    /// Says whether its name leads to others as well.
    pub fn set_one_of_several(&self, is_so: bool) {
        self.is_one_of_several.store(is_so, Relaxed);
    }

    /// Connects to it, once it is known where it is. Returns the address that was asked for as well, if it has any:
    /// the one that answers may call itself otherwise, as behind `0.0.0.0`.
    ///
    /// Cancel-safe: dropping the future closes the socket.
    pub(super) async fn connect(&self) -> Result<(Stream, Option<Address>), ConnectError> {
        if let HostAddr::Unix { directory, port } = &self.name {
            return Ok((Stream::connect_unix(directory, *port).await?, None));
        }
        let mut changes = self.whereabouts.subscribe();
        let known = changes.wait_for(|is| *is != Whereabouts::Unknown).await;
        // The sender is its own: it is there as long as it is.
        let known = known.map_or(Whereabouts::Unknown, |is| is.clone());
        match known {
            Whereabouts::At(addresses) => {
                let (stream, asked) = connect_to_any(&addresses).await?;
                Ok((stream, Some(asked)))
            }
            Whereabouts::Nowhere(why) => Err(ConnectError::NoAddress { why }),
            Whereabouts::Unknown => Err(ConnectError::Closed),
        }
    }
}

/// Tries one address after the other; the next one as well if the one before is slow.
async fn connect_to_any(addresses: &[Address]) -> io::Result<(Stream, Address)> {
    let Some((first, others)) = addresses.split_first() else {
        return Err(io::ErrorKind::AddrNotAvailable.into());
    };
    let mut first = pin!(connect_to(*first));
    if others.is_empty() {
        return first.await;
    }
    let mut others = Box::pin(connect_to_any(others));
    match timeout(HEAD_START, &mut first).await {
        Ok(Ok(connected)) => return Ok(connected),
        Ok(Err(_)) => return others.await,
        Err(_elapsed) => {}
    }
    tokio::select! {
        connected = &mut first => match connected {
            Ok(connected) => Ok(connected),
            Err(_) => others.await,
        },
        connected = &mut others => match connected {
            Ok(connected) => Ok(connected),
            Err(_) => first.await,
        },
    }
}

async fn connect_to(address: Address) -> io::Result<(Stream, Address)> {
    Ok((Stream::connect_to(address).await?, address))
}

/// As it is configured, e.g. `db:5432`; with its address if that does not tell which host it is:
/// `db:5432 (10.0.0.7)`.
impl fmt::Display for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.name)?;
        if self.is_one_of_several.load(Relaxed)
            && let Whereabouts::At(addresses) = &*self.whereabouts.borrow()
            && let Some(address) = addresses.first()
        {
            write!(f, " ({})", address.ip())?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::net::TcpListener;

    use super::*;

    fn named() -> Endpoint {
        Endpoint::new(HostAddr::Tcp { host: "db".into(), port: 5432 })
    }

    fn at(addresses: &[Address]) -> Whereabouts {
        Whereabouts::At(addresses.into())
    }

    #[test]
    fn it_is_shown_with_its_address_where_the_name_does_not_tell_which_it_is() {
        let endpoint = named();
        assert_eq!(endpoint.to_string(), "db:5432");
        endpoint.set_one_of_several(true);
        assert_eq!(endpoint.to_string(), "db:5432");
        endpoint.be(at(&["[::1]:5432".parse().unwrap()]));
        assert_eq!(endpoint.to_string(), "db:5432 (::1)");
        endpoint.set_one_of_several(false);
        assert_eq!(endpoint.to_string(), "db:5432");
    }

    #[tokio::test(start_paused = true)]
    async fn who_connects_waits_until_it_is_known_where_it_is() {
        let endpoint = Arc::new(named());
        let waits = timeout(Duration::from_secs(60), endpoint.connect()).await;
        assert!(waits.is_err(), "{waits:?}");
        endpoint.be(Whereabouts::Nowhere("no such name".into()));
        let error = endpoint.connect().await.unwrap_err();
        assert_eq!(error.to_string(), "its name does not resolve: no such name");
    }

    /// `localhost` leads to `::1` first, where nobody may listen.
    #[tokio::test]
    async fn an_address_that_refuses_is_passed_over() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let there = listener.local_addr().unwrap();
        let refuses = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
        let endpoint = named();
        for addresses in [[there, refuses], [refuses, there]] {
            endpoint.be(at(&addresses));
            let (stream, asked) = endpoint.connect().await.unwrap();
            assert_eq!((stream.peer_addr(), asked), (Some(there), Some(there)));
            assert!(endpoint.is_at(asked));
        }
        endpoint.be(at(&[refuses]));
        assert!(endpoint.connect().await.unwrap_err().is_unreachable());
        assert!(!endpoint.is_at(Some(there)), "it has moved");
    }

    #[tokio::test]
    async fn one_that_answers_as_another_is_where_it_was_asked_for() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let any: Address =
            format!("0.0.0.0:{}", listener.local_addr().unwrap().port()).parse().unwrap();
        let endpoint = named();
        endpoint.be(at(&[any]));

        let (stream, asked) = endpoint.connect().await.unwrap();

        assert_ne!(stream.peer_addr(), Some(any));
        assert!(endpoint.is_at(asked));
    }

    /// P41: a black hole in front does not use up the time for all that comes behind it.
    #[tokio::test]
    async fn an_address_that_does_not_answer_is_not_waited_for() {
        let hole =
            socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None).unwrap();
        let any: Address = "127.0.0.1:0".parse().unwrap();
        hole.bind(&any.into()).unwrap();
        hole.listen(0).unwrap();
        let nowhere = hole.local_addr().unwrap().as_socket().unwrap();
        // What fills its queue: the kernel answers nobody else.
        let _fill: Vec<_> = (0..4)
            .map(|_| {
                let one = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None);
                let one = one.unwrap();
                one.set_nonblocking(true).unwrap();
                let _begun = one.connect(&nowhere.into());
                one
            })
            .collect();
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let there = listener.local_addr().unwrap();
        let endpoint = named();
        endpoint.be(at(&[nowhere, there]));
        let connected = timeout(Duration::from_secs(10), endpoint.connect()).await.unwrap();
        assert_eq!(connected.unwrap().1, Some(there));
    }
}
