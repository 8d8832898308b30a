//! TLS over a TCP socket, with the promises of a plain one.
//!
//! A read is pending only when the socket is drained and nothing decrypted is left over. A write
//! counts bytes only once the kernel has their ciphertext: whoever sees everything written may
//! sleep, give a server back, or close.

use std::fmt;
use std::io::{self, Read as _, Write as _};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, Waker, ready};

use rustls::pki_types::ServerName;
use rustls::{ClientConfig, ClientConnection, Connection, ServerConfig, ServerConnection};
use tokio::io::{AsyncRead as _, AsyncWrite as _, ReadBuf};
use tokio::net::TcpStream;

use super::buffer::with_ciphertext;
use crate::tls::PROTOCOL;

/// A socket that is encrypted, or about to be.
pub struct Tls {
    pub(super) socket: TcpStream,
    connection: Connection,
    /// Bytes of the write under way whose ciphertext the socket has not taken whole.
    sealed: usize,
}

/// One end of a handshake that has not begun.
#[derive(Debug)]
pub(super) struct Hello(Connection);

impl Hello {
    pub(super) fn of_server(config: Arc<ServerConfig>) -> io::Result<Self> {
        let connection = ServerConnection::new(config).map_err(broken)?;
        Ok(Self(connection.into()))
    }

    /// `name` is what the server's certificate has to be for, if anybody looks.
    pub(super) fn of_client(
        config: Arc<ClientConfig>,
        name: ServerName<'static>,
    ) -> io::Result<Self> {
        let connection = ClientConnection::new(config, name).map_err(broken)?;
        Ok(Self(connection.into()))
    }

    pub(super) fn over(self, socket: TcpStream) -> Tls {
        Tls { socket, connection: self.0, sealed: 0 }
    }
}

/// Longest read during a handshake, and shortest one after it.
const READ_MIN: usize = 4096;

impl Tls {
    /// Takes what the other side has sent of its handshake already.
    pub(super) fn begin_with(&mut self, begun: &[u8]) -> io::Result<()> {
        self.take_in(begun, &mut []).map(drop)
    }

    /// Goes on with the handshake to its end.
    pub(super) fn poll_handshake(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        loop {
            ready!(self.poll_drain(cx))?;
            if !self.connection.is_handshaking() {
                return Poll::Ready(Ok(()));
            }
            if ready!(self.poll_fill(cx, &mut []))?.is_end {
                return Poll::Ready(Err(io::ErrorKind::UnexpectedEof.into()));
            }
        }
    }

    /// True if both sides have agreed on PostgreSQL's protocol (ALPN).
    pub(super) fn is_for_postgresql(&self) -> bool {
        self.connection.alpn_protocol() == Some(PROTOCOL)
    }

    /// The protocol's version and the cipher suite, by their usual names.
    pub(super) fn description(&self) -> String {
        let version = match self.connection.protocol_version() {
            Some(rustls::ProtocolVersion::TLSv1_2) => "TLSv1.2",
            _ => "TLSv1.3",
        };
        let suite = self.connection.negotiated_cipher_suite().map(|suite| suite.suite());
        let suite = suite.and_then(|suite| suite.as_str()).unwrap_or("?");
        // rustls has names of its own for the suites of TLS 1.3.
        match suite.strip_prefix("TLS13_") {
            Some(rest) => format!("{version}/TLS_{rest}"),
            None => format!("{version}/{suite}"),
        }
    }

    pub(super) fn poll_read(
        &mut self,
        cx: &mut Context<'_>,
        buf: &mut [u8],
    ) -> Poll<io::Result<usize>> {
        loop {
            match self.connection.reader().read(buf) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                read => return Poll::Ready(read),
            }
            let Poll::Ready(filled) = self.poll_fill(cx, buf)? else {
                self.give_back_memory();
                return Poll::Pending;
            };
            // An end without a goodbye is an end: every message says how long it is, and some
            // clients just go.
            if filled.len > 0 || filled.is_end {
                return Poll::Ready(Ok(filled.len));
            }
        }
    }

    /// After `Pending` the next write has to begin with the same bytes: they are encrypted already.
    pub(super) fn poll_write(
        &mut self,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        if self.sealed == 0 {
            // What rustls had to say for itself goes first, so that there is room.
            ready!(self.poll_drain(cx))?;
            self.sealed = self.connection.writer().write(bytes)?;
        }
        if self.sealed > bytes.len() {
            return Poll::Ready(Err(io::ErrorKind::InvalidInput.into()));
        }
        ready!(self.poll_drain(cx))?;
        Poll::Ready(Ok(std::mem::take(&mut self.sealed)))
    }

    /// Sends what the other side should still see, and a goodbye, without waiting.
    pub(super) fn try_write_last(&mut self, bytes: &[u8]) {
        if !self.connection.is_handshaking() {
            self.connection.set_buffer_limit(None);
            let rest = bytes.get(self.sealed..).unwrap_or_default();
            // Nothing hangs on it: the socket is closed next.
            drop(self.connection.writer().write_all(rest));
        }
        self.say_goodbye();
    }

    fn say_goodbye(&mut self) {
        self.connection.send_close_notify();
        self.drain_now();
    }

    /// Sends what is encrypted until the socket takes no more.
    fn poll_drain(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        while self.connection.wants_write() {
            let mut sink = Sink { socket: &mut self.socket, cx };
            match self.connection.write_tls(&mut sink) {
                Ok(0) => return Poll::Ready(Err(io::ErrorKind::WriteZero.into())),
                Ok(_) => {}
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Poll::Pending,
                Err(error) => return Poll::Ready(Err(error)),
            }
        }
        Poll::Ready(Ok(()))
    }

    fn drain_now(&mut self) {
        let mut cx = Context::from_waker(Waker::noop());
        // Whoever is not there to read it misses nothing.
        let _drained: Poll<io::Result<()>> = self.poll_drain(&mut cx);
    }

    /// Reads from the socket once and decrypts into `buf`. What finds no room there stays with
    /// rustls: one record and what was read behind it, at most.
    fn poll_fill(&mut self, cx: &mut Context<'_>, buf: &mut [u8]) -> Poll<io::Result<Filled>> {
        with_ciphertext(|ciphertext| {
            let most = ciphertext.len().min(buf.len().max(READ_MIN));
            let mut read = ReadBuf::new(ciphertext.get_mut(..most).unwrap_or_default());
            ready!(Pin::new(&mut self.socket).poll_read(cx, &mut read))?;
            let is_end = read.filled().is_empty();
            let len = self.take_in(read.filled(), buf)?;
            Poll::Ready(Ok(Filled { len, is_end }))
        })
    }

    /// Decrypts what arrived, into `buf` as far as that goes.
    fn take_in(&mut self, mut ciphertext: &[u8], buf: &mut [u8]) -> io::Result<usize> {
        let mut len = 0;
        while !ciphertext.is_empty() {
            // Nothing counts behind the other side's goodbye.
            if self.connection.read_tls(&mut ciphertext)? == 0 {
                break;
            }
            if let Err(error) = self.connection.process_new_packets() {
                // The other side is told why.
                self.drain_now();
                return Err(broken(error));
            }
            let room = buf.get_mut(len..).unwrap_or_default();
            match self.connection.reader().read(room) {
                Ok(n) => len += n,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                Err(error) => return Err(error),
            }
        }
        Ok(len)
    }

    /// Lets rustls shrink the buffer that long records made it grow: it does so before it reads.
    fn give_back_memory(&mut self) {
        let _nothing: io::Result<usize> = self.connection.read_tls(&mut NothingYet);
    }
}

/// What one read came to.
struct Filled {
    /// Decrypted bytes in the caller's buffer.
    len: usize,
    /// The other side has closed the connection.
    is_end: bool,
}

impl Drop for Tls {
    fn drop(&mut self) {
        self.say_goodbye();
    }
}

impl fmt::Debug for Tls {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Tls({:?})", self.socket)
    }
}

fn broken(error: rustls::Error) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, error)
}

/// What TLS itself has against a connection, if that is what `error` is about.
pub fn refusal(error: &io::Error) -> Option<&rustls::Error> {
    error.get_ref()?.downcast_ref()
}

/// True if the other side did not speak TLS at all, or went away: a probe, or a stray client.
pub fn is_noise(error: &io::Error) -> bool {
    match refusal(error) {
        Some(refusal) => matches!(refusal, rustls::Error::InvalidMessage(_)),
        None => true,
    }
}

/// The socket as rustls writes to it.
struct Sink<'a, 'b> {
    socket: &'a mut TcpStream,
    cx: &'a mut Context<'b>,
}

impl io::Write for Sink<'_, '_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        or_would_block(Pin::new(&mut *self.socket).poll_write(self.cx, bytes))
    }

    fn write_vectored(&mut self, parts: &[io::IoSlice<'_>]) -> io::Result<usize> {
        or_would_block(Pin::new(&mut *self.socket).poll_write_vectored(self.cx, parts))
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

fn or_would_block(written: Poll<io::Result<usize>>) -> io::Result<usize> {
    match written {
        Poll::Ready(written) => written,
        Poll::Pending => Err(io::ErrorKind::WouldBlock.into()),
    }
}

/// A source that has nothing at the moment.
struct NothingYet;

impl io::Read for NothingYet {
    fn read(&mut self, _buf: &mut [u8]) -> io::Result<usize> {
        Err(io::ErrorKind::WouldBlock.into())
    }
}
