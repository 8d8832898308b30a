//! Accepting clients: TCP and Unix sockets, one acceptor for all of them.

use std::io;
use std::net::{SocketAddr, TcpListener, ToSocketAddrs};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::net::{SocketFlags, accept_with, acceptfrom_with};
use socket2::{Domain, Protocol, Socket, Type};
use thiserror::Error;
use tokio::io::Interest;
use tokio::time::Instant;

use super::stream::{Stream, set_client_options};
use crate::config::{Listen, ListenAddr};
use crate::telemetry::snapshot::Peer;

/// A socket that is bound and listens.
#[derive(Debug)]
pub enum Bound {
    Tcp(TcpListener, SocketAddr),
    Unix(UnixListener, SocketFile),
}

/// A Unix socket's file, removed on drop.
#[derive(Debug)]
pub struct SocketFile(pub PathBuf);

impl Drop for SocketFile {
    fn drop(&mut self) {
        if let Err(error) = std::fs::remove_file(&self.0) {
            tracing::warn!(path = %self.0.display(), %error, "a socket's file is left behind");
        }
    }
}

/// Why an address cannot be listened at.
#[derive(Debug, Error)]
#[error("cannot listen at {address}: {source}")]
pub struct BindError {
    pub address: String,
    #[source]
    pub source: io::Error,
}

/// Connections that the kernel queues.
const BACKLOG: i32 = 1024;

/// Binds an address; a name may have several. `options`: what the sockets of clients get, if they get any.
pub fn bind(address: &ListenAddr, options: Option<&Listen>) -> Result<Vec<Bound>, BindError> {
    let failed = |address: &dyn std::fmt::Display| {
        let address = address.to_string();
        move |source| BindError { address, source }
    };
    match address {
        ListenAddr::Tcp { host, port } => {
            let text = format!("{host}:{port}");
            let addrs = (host.as_str(), *port).to_socket_addrs().map_err(failed(&text))?;
            addrs.map(|addr| bind_tcp(addr, options).map_err(failed(&addr))).collect()
        }
        ListenAddr::Unix { directory, port } => {
            let path = directory.join(format!(".s.PGSQL.{port}"));
            let shown = path.display().to_string();
            Ok(vec![bind_unix(&path).map_err(failed(&shown))?])
        }
    }
}

fn bind_tcp(addr: SocketAddr, options: Option<&Listen>) -> io::Result<Bound> {
    let socket = Socket::new(Domain::for_address(addr), Type::STREAM, Some(Protocol::TCP))?;
    socket.set_reuse_address(true)?;
    socket.set_nonblocking(true)?;
    // Linux gives them to each socket that is accepted: system calls less for each.
    options.map_or(Ok(()), |options| set_client_options(&socket, options))?;
    socket.bind(&addr.into())?;
    socket.listen(BACKLOG)?;
    let listener = TcpListener::from(socket);
    let bound = listener.local_addr()?;
    Ok(Bound::Tcp(listener, bound))
}

fn bind_unix(path: &Path) -> io::Result<Bound> {
    if path.exists() {
        // Left behind by a process that is gone, unless somebody answers.
        if UnixStream::connect(path).is_ok() {
            return Err(io::ErrorKind::AddrInUse.into());
        }
        std::fs::remove_file(path)?;
    }
    let listener = UnixListener::bind(path)?;
    let file = SocketFile(path.to_owned());
    listener.set_nonblocking(true)?;
    // Who may come in is a matter of logging in.
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o777))?;
    Ok(Bound::Unix(listener, file))
}

/// A bound socket on the runtime that accepts from it.
#[derive(Debug)]
pub struct Listener {
    socket: Accepting,
    /// The last look at the queue found a client.
    is_behind_one: bool,
    /// Removed when it is over.
    _file: Option<SocketFile>,
    complaint: Complaint,
}

/// tokio's own listeners register each client with the runtime that accepts it, which is not the one that
/// serves it. As streams they are only waited for.
#[derive(Debug)]
enum Accepting {
    Tcp(tokio::net::TcpStream),
    Unix(tokio::net::UnixStream),
}

impl Accepting {
    /// Cancel-safe. `is_behind_one`: see `Listener`.
    async fn accept(&self, is_behind_one: &mut bool) -> io::Result<Raw> {
        let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
        match self {
            Self::Tcp(listener) => {
                let accept =
                    || take_next(listener, is_behind_one, || acceptfrom_with(listener, flags));
                let (socket, from) = listener.async_io(Interest::READABLE, accept).await?;
                let from = from.and_then(|from| SocketAddr::try_from(from).ok());
                Ok(Raw::Tcp(socket.into(), from.ok_or(io::ErrorKind::ConnectionAborted)?))
            }
            Self::Unix(listener) => {
                let accept = || take_next(listener, is_behind_one, || accept_with(listener, flags));
                let socket = listener.async_io(Interest::READABLE, accept).await?;
                Ok(Raw::Unix(socket.into()))
            }
        }
    }
}

/// Takes a client by `accept`; `WouldBlock` if there is none. To be told so by accept(2), which makes a socket
/// and its file first, costs ten times what poll(2) does: behind a client there is most often no other.
fn take_next<T>(
    listener: &impl AsFd,
    is_behind_one: &mut bool,
    accept: impl FnOnce() -> rustix::io::Result<T>,
) -> io::Result<T> {
    if std::mem::take(is_behind_one) {
        let mut queue = [PollFd::new(listener, PollFlags::IN)];
        if poll(&mut queue, Some(&Timespec::default()))? == 0 {
            return Err(io::ErrorKind::WouldBlock.into());
        }
    }
    let client = accept()?;
    *is_behind_one = true;
    Ok(client)
}

impl Listener {
    /// Registers with the runtime that calls.
    pub fn new(bound: Bound) -> io::Result<Self> {
        let (socket, file) = match bound {
            Bound::Tcp(listener, _) => {
                let listener = std::net::TcpStream::from(OwnedFd::from(listener));
                (Accepting::Tcp(listener.try_into()?), None)
            }
            Bound::Unix(listener, file) => {
                let listener = UnixStream::from(OwnedFd::from(listener));
                (Accepting::Unix(listener.try_into()?), Some(file))
            }
        };
        Ok(Self { socket, is_behind_one: false, _file: file, complaint: Complaint::default() })
    }

    /// Accepts a client whose socket belongs to no runtime yet. Cancel-safe.
    ///
    /// With every file descriptor in use it waits and tries again, and says so rarely (P76).
    pub async fn accept(&mut self) -> Raw {
        loop {
            match self.socket.accept(&mut self.is_behind_one).await {
                Ok(raw) => return raw,
                Err(error) if is_of_one_client(&error) => {}
                Err(error) => {
                    if self.complaint.is_due(Instant::now()) {
                        tracing::error!(%error, "cannot accept clients; trying again");
                    }
                    tokio::time::sleep(AGAIN_AFTER).await;
                }
            }
        }
    }
}

const AGAIN_AFTER: Duration = Duration::from_millis(100);

/// What is said of a trouble that comes again and again, with whatever works in between.
#[derive(Debug, Default)]
struct Complaint {
    told: Option<Instant>,
}

impl Complaint {
    const EVERY: Duration = Duration::from_secs(60);

    /// True if it was not said lately. It is said now.
    fn is_due(&mut self, now: Instant) -> bool {
        let is_due = self.told.is_none_or(|told| now >= told + Self::EVERY);
        if is_due {
            self.told = Some(now);
        }
        is_due
    }
}

/// The client was gone before it was accepted.
fn is_of_one_client(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::ConnectionAborted
            | io::ErrorKind::ConnectionReset
            | io::ErrorKind::Interrupted
    )
}

/// A client's socket that belongs to no runtime.
#[derive(Debug)]
pub enum Raw {
    /// With the address that it comes from: a socket that was reset no longer tells.
    Tcp(std::net::TcpStream, SocketAddr),
    Unix(UnixStream),
}

impl Raw {
    /// Where the client is.
    pub fn peer(&self) -> Peer {
        match self {
            Self::Tcp(_, from) => Peer::of(*from),
            Self::Unix(_) => Peer::Unix,
        }
    }

    /// Registers with the runtime that calls.
    pub fn into_stream(self) -> io::Result<Stream> {
        match self {
            Self::Tcp(stream, _) => tokio::net::TcpStream::from_std(stream).map(Stream::from),
            Self::Unix(stream) => tokio::net::UnixStream::from_std(stream).map(Stream::from),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::net::TcpStream;

    use super::*;

    /// However the kernel tells of them: those that wait already, and those that come when nobody is left.
    async fn accept_all<C>(bound: Bound, connect: impl Fn() -> C) {
        let mut listener = Listener::new(bound).unwrap();
        for together in [1, 3, 1, 20, 2] {
            let _clients: Vec<_> = (0..together).map(|_| connect()).collect();
            for _ in 0..together {
                let accepted = tokio::time::timeout(Duration::from_secs(5), listener.accept());
                accepted.await.unwrap();
            }
            let nobody = tokio::time::timeout(Duration::from_millis(20), listener.accept());
            assert!(nobody.await.is_err());
        }
    }

    #[tokio::test]
    async fn all_who_come_are_accepted() {
        let at = ListenAddr::Tcp { host: "127.0.0.1".into(), port: 0 };
        let bound = bind(&at, None).unwrap().remove(0);
        let Bound::Tcp(_, address) = &bound else { panic!("{bound:?}") };
        let address = *address;
        accept_all(bound, || TcpStream::connect(address).unwrap()).await;

        let directory = tempfile::tempdir().unwrap();
        let at = ListenAddr::Unix { directory: directory.path().to_owned(), port: 5432 };
        let bound = bind(&at, None).unwrap().remove(0);
        let path = directory.path().join(".s.PGSQL.5432");
        accept_all(bound, || UnixStream::connect(&path).unwrap()).await;
    }

    /// P76: each client that is accepted in between is no reason to say it again.
    #[test]
    fn one_trouble_is_told_once_a_minute_however_often_it_comes() {
        let mut complaint = Complaint::default();
        let start = Instant::now();
        let told = (0..150).filter(|n| complaint.is_due(start + Duration::from_secs(*n))).count();

        assert_eq!(told, 3);
    }
}
