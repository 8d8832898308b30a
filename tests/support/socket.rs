//! A TCP or a Unix socket, plain or encrypted, that blocks, for a time at most.

use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use rustls::{ClientConfig, ClientConnection, ServerConfig, ServerConnection, StreamOwned};

use super::wait::DEADLINE;

/// Where to connect.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Address {
    Tcp(SocketAddr),
    Unix(PathBuf),
}

/// A connected socket.
#[derive(Debug)]
pub enum Socket {
    Tcp(TcpStream),
    Unix(UnixStream),
    /// Encrypted, at the end that asked for it.
    Tls(Box<StreamOwned<ClientConnection, TcpStream>>),
    /// Encrypted, at the end that was asked.
    ServedTls(Box<StreamOwned<ServerConnection, TcpStream>>),
}

impl Socket {
    pub fn connect(address: &Address) -> io::Result<Self> {
        let socket = match address {
            Address::Tcp(address) => Self::Tcp(TcpStream::connect(address)?),
            Address::Unix(path) => Self::Unix(UnixStream::connect(path)?),
        };
        if let Self::Tcp(stream) = &socket {
            stream.set_nodelay(true)?;
        }
        socket.set_read_timeout(DEADLINE)?;
        socket.set_write_timeout(DEADLINE)?;
        Ok(socket)
    }

    /// The TCP socket beneath it, if there is one.
    fn tcp(&self) -> Option<&TcpStream> {
        match self {
            Self::Tcp(stream) => Some(stream),
            Self::Tls(tls) => Some(&tls.sock),
            Self::ServedTls(tls) => Some(&tls.sock),
            Self::Unix(_) => None,
        }
    }

    /// Encrypts, as the client `localhost`'s certificate is shown to.
    pub fn into_tls(self, config: Arc<ClientConfig>) -> io::Result<Self> {
        let Self::Tcp(mut stream) = self else { panic!("not a TCP socket") };
        let name = "localhost".try_into().unwrap();
        let mut connection = ClientConnection::new(config, name).map_err(io::Error::other)?;
        while connection.is_handshaking() {
            connection.complete_io(&mut stream)?;
        }
        while connection.wants_write() {
            connection.write_tls(&mut stream)?;
        }
        Ok(Self::Tls(Box::new(StreamOwned::new(connection, stream))))
    }

    /// Encrypts, as the server.
    pub fn into_served_tls(self, config: Arc<ServerConfig>) -> io::Result<Self> {
        let Self::Tcp(mut stream) = self else { panic!("not a TCP socket") };
        let mut connection = ServerConnection::new(config).map_err(io::Error::other)?;
        while connection.is_handshaking() {
            connection.complete_io(&mut stream)?;
        }
        while connection.wants_write() {
            connection.write_tls(&mut stream)?;
        }
        Ok(Self::ServedTls(Box::new(StreamOwned::new(connection, stream))))
    }

    /// Writes `bytes` in records of `size` bytes, all of them in one go.
    pub fn write_in_records(&mut self, bytes: &[u8], size: usize) -> io::Result<()> {
        let Self::Tls(tls) = self else { panic!("not encrypted") };
        for part in bytes.chunks(size) {
            tls.conn.writer().write_all(part)?;
        }
        while tls.conn.wants_write() {
            tls.conn.write_tls(&mut tls.sock)?;
        }
        Ok(())
    }

    /// Changes the keys of one direction and asks the other side to do the same: records come and go
    /// that hold nothing to read.
    pub fn refresh_keys(&mut self) -> io::Result<()> {
        match self {
            Self::Tls(tls) => tls.conn.refresh_traffic_keys().map_err(io::Error::other)?,
            Self::ServedTls(tls) => tls.conn.refresh_traffic_keys().map_err(io::Error::other)?,
            Self::Tcp(_) | Self::Unix(_) => panic!("not encrypted"),
        }
        self.flush()
    }

    pub fn set_read_timeout(&self, timeout: Duration) -> io::Result<()> {
        match (self, self.tcp()) {
            (_, Some(stream)) => stream.set_read_timeout(Some(timeout)),
            (Self::Unix(stream), _) => stream.set_read_timeout(Some(timeout)),
            _ => Ok(()),
        }
    }

    pub fn set_write_timeout(&self, timeout: Duration) -> io::Result<()> {
        match (self, self.tcp()) {
            (_, Some(stream)) => stream.set_write_timeout(Some(timeout)),
            (Self::Unix(stream), _) => stream.set_write_timeout(Some(timeout)),
            _ => Ok(()),
        }
    }

    /// Makes the kernel break the connection off at the end, as for a process that was killed.
    pub fn set_abortive(&self) -> io::Result<()> {
        self.tcp().map_or(Ok(()), |stream| {
            socket2::SockRef::from(stream).set_linger(Some(Duration::ZERO))
        })
    }

    /// Says that nothing more will be sent, and goes on reading.
    pub fn close_write(&self) -> io::Result<()> {
        match self {
            Self::Tcp(stream) => stream.shutdown(std::net::Shutdown::Write),
            Self::Unix(stream) => stream.shutdown(std::net::Shutdown::Write),
            Self::Tls(_) | Self::ServedTls(_) => Err(io::ErrorKind::Unsupported.into()),
        }
    }

    pub fn try_clone(&self) -> io::Result<Self> {
        match self {
            Self::Tcp(stream) => stream.try_clone().map(Self::Tcp),
            Self::Unix(stream) => stream.try_clone().map(Self::Unix),
            Self::Tls(_) | Self::ServedTls(_) => Err(io::ErrorKind::Unsupported.into()),
        }
    }
}

impl Read for Socket {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        match self {
            Self::Tcp(stream) => stream.read(buf),
            Self::Unix(stream) => stream.read(buf),
            Self::Tls(tls) => tls.read(buf),
            Self::ServedTls(tls) => tls.read(buf),
        }
    }
}

impl Write for Socket {
    fn write(&mut self, buf: &[u8]) -> io::Result<usize> {
        match self {
            Self::Tcp(stream) => stream.write(buf),
            Self::Unix(stream) => stream.write(buf),
            Self::Tls(tls) => tls.write(buf),
            Self::ServedTls(tls) => tls.write(buf),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        match self {
            Self::Tls(tls) => tls.flush(),
            Self::ServedTls(tls) => tls.flush(),
            Self::Tcp(_) | Self::Unix(_) => Ok(()),
        }
    }
}
