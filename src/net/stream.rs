//! TCP and Unix sockets, plain or encrypted, behind one type.

use std::future::poll_fn;
use std::io;
use std::net::{Shutdown, SocketAddr};
use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use rustls::pki_types::ServerName;
use rustls::{ClientConfig, ServerConfig};
use socket2::{SockRef, Socket, TcpKeepalive};
use tokio::io::Interest;
use tokio::net::{TcpStream, UnixStream};
use tokio::task::coop::{consume_budget, unconstrained};
use tokio::time::sleep;

use super::eager::Eager;
use super::tls::{Hello, Tls};
use crate::config::Listen;
use crate::telemetry::snapshot::Peer;

/// Linux takes no longer ones.
const KEEPALIVE_IDLE_MOST: Duration = Duration::from_secs(32_767);
const USER_TIMEOUT_MOST: Duration = Duration::from_millis(i32::MAX as u64);

/// How often the end of a connection is looked for behind what was not read.
const LOOK_AGAIN: Duration = Duration::from_millis(250);

/// A connected socket.
#[derive(Debug)]
pub enum Stream {
    Tcp(Eager<TcpStream>),
    Unix(Eager<UnixStream>),
    /// Boxed: who does without TLS pays nothing for it.
    Tls(Box<Tls>),
    /// While one is made of another. Nobody sees it.
    Gone,
}

impl From<TcpStream> for Stream {
    fn from(socket: TcpStream) -> Self {
        Self::Tcp(socket.into())
    }
}

impl From<UnixStream> for Stream {
    fn from(socket: UnixStream) -> Self {
        Self::Unix(socket.into())
    }
}

impl Stream {
    /// Connects to the Unix socket of a server that listens in `directory`.
    ///
    /// Cancel-safe: dropping the future closes the socket.
    pub async fn connect_unix(directory: &Path, port: u16) -> io::Result<Self> {
        let path = directory.join(format!(".s.PGSQL.{port}"));
        UnixStream::connect(path).await.map(Self::from)
    }

    /// Connects to a TCP address.
    ///
    /// Cancel-safe: dropping the future closes the socket.
    pub async fn connect_to(address: SocketAddr) -> io::Result<Self> {
        let socket = TcpStream::connect(address).await?;
        set_keepalive(&SockRef::from(&socket), Duration::from_secs(60), None)?;
        Ok(Self::from(socket))
    }

    /// Has the runtime that calls hear of the socket, instead of the one that did so far. Nobody may wait on
    /// it. Where that fails it stays as it was.
    pub fn come_here(&mut self) -> io::Result<()> {
        match self {
            Self::Tcp(stream) => {
                *stream = TcpStream::from_std(same(&stream.socket)?.into())?.into();
            }
            Self::Unix(stream) => {
                *stream = UnixStream::from_std(same(&stream.socket)?.into())?.into();
            }
            Self::Tls(tls) => tls.socket = TcpStream::from_std(same(&tls.socket)?.into())?,
            Self::Gone => {}
        }
        Ok(())
    }

    /// The TCP socket, if it is one.
    fn tcp(&self) -> Option<&TcpStream> {
        match self {
            Self::Tcp(stream) => Some(&stream.socket),
            Self::Tls(tls) => Some(&tls.socket),
            Self::Unix(_) | Self::Gone => None,
        }
    }

    /// Answers a client's handshake, of which it has sent `begun` already.
    ///
    /// Cancel-safe in that nothing but the connection is lost.
    pub async fn accept_tls(&mut self, config: Arc<ServerConfig>, begun: &[u8]) -> io::Result<()> {
        self.become_tls(Hello::of_server(config)?, begun)?;
        self.shake_hands().await
    }

    /// Begins a handshake with a server that calls itself `name`.
    ///
    /// Cancel-safe in that nothing but the connection is lost.
    pub async fn connect_tls(
        &mut self,
        config: Arc<ClientConfig>,
        name: ServerName<'static>,
    ) -> io::Result<()> {
        self.become_tls(Hello::of_client(config, name)?, &[])?;
        self.shake_hands().await
    }

    fn become_tls(&mut self, hello: Hello, begun: &[u8]) -> io::Result<()> {
        match std::mem::replace(self, Self::Gone) {
            Self::Tcp(stream) => {
                let mut tls = Box::new(hello.over(stream.socket));
                let taken = tls.begin_with(begun);
                *self = Self::Tls(tls);
                taken
            }
            other @ (Self::Unix(_) | Self::Tls(_) | Self::Gone) => {
                *self = other;
                Err(io::ErrorKind::Unsupported.into())
            }
        }
    }

    async fn shake_hands(&mut self) -> io::Result<()> {
        poll_fn(|cx| match self {
            Self::Tls(tls) => tls.poll_handshake(cx),
            Self::Tcp(_) | Self::Unix(_) | Self::Gone => Poll::Ready(Err(gone())),
        })
        .await
    }

    /// True if it goes over a network, encrypted or not.
    pub fn is_tcp(&self) -> bool {
        self.tcp().is_some()
    }

    pub const fn is_encrypted(&self) -> bool {
        matches!(self, Self::Tls(_))
    }

    /// What `SHOW CLIENTS` says of its encryption; `None` without any.
    pub fn encryption(&self) -> Option<Arc<str>> {
        match self {
            Self::Tls(tls) => Some(tls.description().into()),
            Self::Tcp(_) | Self::Unix(_) | Self::Gone => None,
        }
    }

    /// True if both sides of its handshake named PostgreSQL's protocol (ALPN).
    pub fn is_for_postgresql(&self) -> bool {
        matches!(self, Self::Tls(tls) if tls.is_for_postgresql())
    }

    /// Reads what is there into `buf`; 0 is the end of the stream. Whoever reads on and on takes steps of
    /// its task's turn.
    #[inline]
    pub fn poll_read(&mut self, cx: &mut Context<'_>, buf: &mut [u8]) -> Poll<io::Result<usize>> {
        match self {
            Self::Tcp(stream) => stream.poll_read(cx, buf),
            Self::Unix(stream) => stream.poll_read(cx, buf),
            Self::Tls(tls) => tls.poll_read(cx, buf),
            Self::Gone => Poll::Ready(Err(gone())),
        }
    }

    /// Writes what the socket takes of `bytes`. After `Pending` the next write has to begin with the
    /// same bytes: what was not taken goes first, wherever it was kept.
    #[inline]
    pub fn poll_write(&mut self, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        match self {
            Self::Tcp(stream) => stream.poll_write(cx, bytes),
            Self::Unix(stream) => stream.poll_write(cx, bytes),
            Self::Tls(tls) => tls.poll_write(cx, bytes),
            Self::Gone => Poll::Ready(Err(gone())),
        }
    }

    /// Reads what is known to be there into `buf`, and leaves no waker if that is nothing.
    pub fn try_read(&mut self, buf: &mut [u8]) -> Poll<io::Result<usize>> {
        match self {
            Self::Tcp(stream) => stream.try_read(buf),
            Self::Unix(stream) => stream.try_read(buf),
            Self::Tls(tls) => {
                // Whatever this task has done before: that it is some other's turn does not mean nothing.
                let mut read = unconstrained(poll_fn(|cx| Poll::Ready(tls.poll_read(cx, buf))));
                match Pin::new(&mut read).poll(&mut Context::from_waker(Waker::noop())) {
                    Poll::Ready(read) => read,
                    Poll::Pending => Poll::Pending,
                }
            }
            Self::Gone => Poll::Ready(Err(gone())),
        }
    }

    /// Reads what is there into `buf`; 0 is the end of the stream. Cancel-safe.
    pub async fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        consume_budget().await;
        poll_fn(|cx| self.poll_read(cx, buf)).await
    }

    /// Tells the other end that nothing more comes. What it sends can still be read.
    pub fn end_writing(&self) {
        let socket = match self {
            Self::Tcp(stream) => SockRef::from(&stream.socket),
            Self::Unix(stream) => SockRef::from(&stream.socket),
            Self::Tls(tls) => SockRef::from(&tls.socket),
            Self::Gone => return,
        };
        // One that is broken has no other end.
        let _ended: io::Result<()> = socket.shutdown(Shutdown::Write);
    }

    /// Waits until the other end has closed the connection. What it sent before is left alone.
    pub async fn closed(&self) {
        loop {
            let ready = match self {
                Self::Tcp(stream) => stream.socket.ready(Interest::READABLE).await,
                Self::Unix(stream) => stream.socket.ready(Interest::READABLE).await,
                Self::Tls(tls) => tls.socket.ready(Interest::READABLE).await,
                Self::Gone => return,
            };
            if ready.is_ok_and(|ready| !ready.is_read_closed()) {
                // There is something to read, and no more to be told of it: the end is looked for.
                sleep(LOOK_AGAIN).await;
            } else {
                return;
            }
        }
    }

    /// Writes all of `bytes`. Not cancel-safe: a part may have been written.
    pub async fn write_all(&mut self, mut bytes: &[u8]) -> io::Result<()> {
        while !bytes.is_empty() {
            let n = poll_fn(|cx| self.poll_write(cx, bytes)).await?;
            if n == 0 {
                return Err(io::ErrorKind::WriteZero.into());
            }
            bytes = bytes.get(n..).unwrap_or_default();
        }
        Ok(())
    }

    /// Sends what a peer should still see, without waiting: it is on its way out. The bytes begin
    /// with those that the socket has not taken, if there are any.
    pub fn try_write_last(&mut self, bytes: &[u8]) {
        let sent = match self {
            Self::Tcp(stream) => stream.socket.try_write(bytes),
            Self::Unix(stream) => stream.socket.try_write(bytes),
            Self::Tls(tls) => return tls.try_write_last(bytes),
            Self::Gone => return,
        };
        // Nothing hangs on it: the socket is closed next.
        drop(sent);
    }

    /// The other end's address.
    pub fn peer(&self) -> Peer {
        self.peer_addr().map_or(Peer::Unix, Peer::of)
    }

    /// The other end's address, if it has one.
    pub fn peer_addr(&self) -> Option<SocketAddr> {
        self.tcp().and_then(|stream| stream.peer_addr().ok())
    }

    /// Our end's address.
    pub fn local(&self) -> Peer {
        self.tcp().and_then(|stream| stream.local_addr().ok()).map_or(Peer::Unix, Peer::of)
    }
}

/// One more descriptor of a socket: what cannot be registered with it is lost with it alone.
fn same(socket: &impl AsFd) -> io::Result<OwnedFd> {
    socket.as_fd().try_clone_to_owned()
}

/// Sets what `[listen]` says about the sockets of clients.
pub(super) fn set_client_options(socket: &Socket, listen: &Listen) -> io::Result<()> {
    if listen.keepalive {
        set_keepalive(socket, listen.keepalive_idle, listen.user_timeout)
    } else {
        socket.set_tcp_nodelay(true)
    }
}

fn set_keepalive(
    socket: &Socket,
    idle: Duration,
    user_timeout: Option<Duration>,
) -> io::Result<()> {
    socket.set_tcp_keepalive(&TcpKeepalive::new().with_time(idle.min(KEEPALIVE_IDLE_MOST)))?;
    if let Some(timeout) = user_timeout {
        socket.set_tcp_user_timeout(Some(timeout.min(USER_TIMEOUT_MOST)))?;
    }
    socket.set_tcp_nodelay(true)
}

/// Sends what is left over in `outbox`; true if something went.
#[inline]
pub fn flush(stream: &mut Stream, outbox: &mut Vec<u8>, cx: &mut Context<'_>) -> io::Result<bool> {
    if outbox.is_empty() { Ok(false) } else { flush_some(stream, outbox, cx) }
}

fn flush_some(stream: &mut Stream, outbox: &mut Vec<u8>, cx: &mut Context<'_>) -> io::Result<bool> {
    let mut sent = 0;
    while sent < outbox.len() {
        let rest = outbox.get(sent..).unwrap_or_default();
        match stream.poll_write(cx, rest) {
            Poll::Pending => break,
            Poll::Ready(Ok(0)) => return Err(io::ErrorKind::WriteZero.into()),
            Poll::Ready(Ok(n)) => sent += n,
            Poll::Ready(Err(error)) => return Err(error),
        }
    }
    if sent == outbox.len() {
        *outbox = Vec::new();
    } else {
        outbox.drain(..sent);
    }
    Ok(sent > 0)
}

/// Sends `bytes` behind what is left over in `outbox`, and leaves there what the socket does not
/// take.
pub fn send(
    stream: &mut Stream,
    outbox: &mut Vec<u8>,
    mut bytes: &[u8],
    cx: &mut Context<'_>,
) -> io::Result<()> {
    while outbox.is_empty() && !bytes.is_empty() {
        match stream.poll_write(cx, bytes) {
            Poll::Pending => break,
            Poll::Ready(Ok(0)) => return Err(io::ErrorKind::WriteZero.into()),
            Poll::Ready(Ok(n)) => bytes = bytes.get(n..).unwrap_or_default(),
            Poll::Ready(Err(error)) => return Err(error),
        }
    }
    outbox.extend_from_slice(bytes);
    Ok(())
}

fn gone() -> io::Error {
    io::ErrorKind::NotConnected.into()
}

#[cfg(test)]
mod tests {
    use std::io::{Read as _, Write as _};
    use std::os::unix::net::UnixStream as Other;

    use tokio::runtime::{Builder, Runtime};

    use super::*;

    fn runtime() -> Runtime {
        Builder::new_current_thread().enable_all().build().unwrap()
    }

    /// Reads what comes within a time that is long enough.
    async fn read(stream: &mut Stream) -> Vec<u8> {
        let mut buf = [0; 16];
        let read = tokio::time::timeout(Duration::from_secs(5), stream.read(&mut buf));
        let n = read.await.unwrap().unwrap();
        buf[..n].to_vec()
    }

    /// With what has come before, what comes after, and the end; and nobody drives the runtime that it left.
    fn assert_moves(make: impl Fn(Other) -> io::Result<Stream>) {
        let (left, entered) = (runtime(), runtime());
        let (mut there, here) = Other::pair().unwrap();
        here.set_nonblocking(true).unwrap();
        let mut stream = left.block_on(async {
            let mut stream = make(here).unwrap();
            let waits = poll_fn(|cx| Poll::Ready(stream.poll_read(cx, &mut [0; 16]).is_pending()));
            assert!(waits.await);
            stream
        });
        there.write_all(b"before").unwrap();
        entered.block_on(async {
            stream.come_here().unwrap();
            assert_eq!(read(&mut stream).await, b"before");
            stream.write_all(b"answer").await.unwrap();
            there.read_exact(&mut [0; 6]).unwrap();
            let later = std::thread::spawn(move || {
                std::thread::park_timeout(Duration::from_millis(50));
                there.write_all(b"after").unwrap();
                there
            });
            assert_eq!(read(&mut stream).await, b"after");
            drop(later.join().unwrap());
            assert_eq!(read(&mut stream).await, b"");
        });
    }

    #[test]
    fn a_socket_is_heard_of_where_it_has_come_to() {
        assert_moves(|socket| Ok(UnixStream::from_std(socket)?.into()));
        // To the kernel's stream sockets it makes no difference which of both they are called.
        assert_moves(|socket| {
            let socket = std::net::TcpStream::from(OwnedFd::from(socket));
            Ok(TcpStream::from_std(socket)?.into())
        });
    }

    /// Each plain client pays for its stream.
    #[test]
    fn tls_makes_no_plain_stream_larger() {
        let plain = size_of::<Eager<TcpStream>>().max(size_of::<Eager<UnixStream>>());
        assert!(size_of::<Stream>() <= plain + size_of::<usize>(), "{}", size_of::<Stream>());
    }
}
