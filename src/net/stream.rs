//! TCP and Unix sockets behind one type.

use std::future::poll_fn;
use std::io;
use std::net::IpAddr;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use socket2::{SockRef, TcpKeepalive};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpStream, UnixStream};

use crate::config::{HostAddr, Listen};
use crate::telemetry::snapshot::Peer;

/// A connected socket.
#[derive(Debug)]
pub enum Stream {
    Tcp(TcpStream),
    Unix(UnixStream),
}

impl Stream {
    /// Connects to `host`, trying the addresses of its name in turn.
    ///
    /// Cancel-safe: dropping the future closes the socket.
    pub async fn connect(host: &HostAddr) -> io::Result<Self> {
        match host {
            HostAddr::Tcp { host, port } => {
                let stream = TcpStream::connect((host.as_str(), *port)).await?;
                let stream = Self::Tcp(stream);
                stream.set_keepalive(Duration::from_secs(60), None)?;
                Ok(stream)
            }
            HostAddr::Unix { directory, port } => {
                let path = directory.join(format!(".s.PGSQL.{port}"));
                UnixStream::connect(path).await.map(Self::Unix)
            }
        }
    }

    /// Sets what `[listen]` says about a client's socket.
    pub fn set_client_options(&self, listen: &Listen) -> io::Result<()> {
        if listen.keepalive {
            self.set_keepalive(listen.keepalive_idle, listen.user_timeout)
        } else {
            self.set_no_delay()
        }
    }

    fn set_keepalive(&self, idle: Duration, user_timeout: Option<Duration>) -> io::Result<()> {
        let Self::Tcp(stream) = self else { return Ok(()) };
        let socket = SockRef::from(stream);
        socket.set_tcp_keepalive(&TcpKeepalive::new().with_time(idle))?;
        if user_timeout.is_some() {
            socket.set_tcp_user_timeout(user_timeout)?;
        }
        self.set_no_delay()
    }

    fn set_no_delay(&self) -> io::Result<()> {
        match self {
            Self::Tcp(stream) => stream.set_nodelay(true),
            Self::Unix(_) => Ok(()),
        }
    }

    /// Reads what is there into `buf`; 0 is the end of the stream.
    #[inline]
    pub fn poll_read(&mut self, cx: &mut Context<'_>, buf: &mut [u8]) -> Poll<io::Result<usize>> {
        let mut buf = ReadBuf::new(buf);
        ready!(match self {
            Self::Tcp(stream) => Pin::new(stream).poll_read(cx, &mut buf),
            Self::Unix(stream) => Pin::new(stream).poll_read(cx, &mut buf),
        })?;
        Poll::Ready(Ok(buf.filled().len()))
    }

    /// Writes what the socket takes of `bytes`.
    #[inline]
    pub fn poll_write(&mut self, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        match self {
            Self::Tcp(stream) => Pin::new(stream).poll_write(cx, bytes),
            Self::Unix(stream) => Pin::new(stream).poll_write(cx, bytes),
        }
    }

    /// Reads what is there into `buf`; 0 is the end of the stream. Cancel-safe.
    pub async fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        poll_fn(|cx| self.poll_read(cx, buf)).await
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

    /// Sends what a peer should still see, without waiting: it is on its way out.
    pub fn try_write_last(&self, bytes: &[u8]) {
        let sent = match self {
            Self::Tcp(stream) => stream.try_write(bytes),
            Self::Unix(stream) => stream.try_write(bytes),
        };
        // Nothing hangs on it: the socket is closed next.
        drop(sent);
    }

    /// The other end's address.
    pub fn peer(&self) -> Peer {
        match self {
            Self::Tcp(stream) => stream.peer_addr().map_or(Peer::Unix, peer),
            Self::Unix(_) => Peer::Unix,
        }
    }

    /// Our end's address.
    pub fn local(&self) -> Peer {
        match self {
            Self::Tcp(stream) => stream.local_addr().map_or(Peer::Unix, peer),
            Self::Unix(_) => Peer::Unix,
        }
    }
}

/// Sends what is left over in `outbox`; true if something went.
pub fn flush(stream: &mut Stream, outbox: &mut Vec<u8>, cx: &mut Context<'_>) -> io::Result<bool> {
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

fn peer(addr: std::net::SocketAddr) -> Peer {
    let ip = match addr.ip() {
        IpAddr::V6(ip) => ip.to_ipv4_mapped().map_or(IpAddr::V6(ip), IpAddr::V4),
        ip @ IpAddr::V4(_) => ip,
    };
    Peer::Tcp { ip, port: addr.port() }
}
