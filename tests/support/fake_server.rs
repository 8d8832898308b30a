//! A server that does what a script says: for what no real one does at a wish.

use std::io::{Read, Write};
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};

use rustls::ServerConfig;

use super::messages::message;
use super::reply::Message;
use super::socket::Socket;
use super::wait::DEADLINE;

const SSL_REQUEST: u32 = 80_877_103;

/// A listener that runs `script` on each connection, in a thread of its own.
#[derive(Debug)]
pub struct FakeServer {
    port: u16,
    connections: Arc<AtomicUsize>,
}

/// One connection to it.
#[derive(Debug)]
pub struct Peer {
    pub stream: Socket,
    inbox: Vec<u8>,
    /// The client's startup packet without its length.
    pub startup: Vec<u8>,
    /// The number of the connection, from 0.
    pub number: usize,
}

/// What a peer does behind an answer.
#[derive(Debug)]
pub enum Then {
    GoesOn,
    /// It has refused a message, and skips to the Sync.
    Skips,
    Goes,
}

impl FakeServer {
    /// Starts one whose `script` is run once the client's startup packet has been read.
    pub fn start(script: impl Fn(&mut Peer) + Send + Sync + 'static) -> Self {
        Self::start_at((Ipv4Addr::LOCALHOST, 0), script)
    }

    /// The same at an address and port of its own.
    pub fn start_at(
        address: (Ipv4Addr, u16),
        script: impl Fn(&mut Peer) + Send + Sync + 'static,
    ) -> Self {
        Self::start_raw_at(address, move |mut peer| {
            if let Some(startup) = peer.take_startup() {
                peer.startup = startup;
                script(&mut peer);
            }
        })
    }

    /// The same, behind TLS.
    pub fn start_tls(
        config: Arc<ServerConfig>,
        script: impl Fn(&mut Peer) + Send + Sync + 'static,
    ) -> Self {
        Self::start_raw(move |mut peer| {
            assert!(peer.take(8).is_some());
            peer.send_bytes(b"S");
            // A client that does not like what it sees breaks off, which is its business.
            let Some(mut peer) = peer.encrypt(Arc::clone(&config)) else { return };
            if let Some(startup) = peer.take_startup() {
                peer.startup = startup;
                script(&mut peer);
            }
        })
    }

    /// Starts one whose `script` is run as soon as somebody has connected.
    pub fn start_raw(script: impl Fn(Peer) + Send + Sync + 'static) -> Self {
        Self::start_raw_at((Ipv4Addr::LOCALHOST, 0), script)
    }

    fn start_raw_at(
        address: (Ipv4Addr, u16),
        script: impl Fn(Peer) + Send + Sync + 'static,
    ) -> Self {
        let listener = TcpListener::bind(address).unwrap();
        let port = listener.local_addr().unwrap().port();
        let connections = Arc::new(AtomicUsize::new(0));
        let script = Arc::new(script);
        let counted = Arc::clone(&connections);
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                let number = counted.fetch_add(1, Relaxed);
                let script = Arc::clone(&script);
                std::thread::spawn(move || {
                    let stream: TcpStream = stream.unwrap();
                    stream.set_read_timeout(Some(DEADLINE)).unwrap();
                    stream.set_nodelay(true).unwrap();
                    let stream = Socket::Tcp(stream);
                    script(Peer { stream, inbox: Vec::new(), startup: Vec::new(), number });
                });
            }
        });
        Self { port, connections }
    }

    pub fn port(&self) -> u16 {
        self.port
    }

    /// As a configuration names this host.
    pub fn host(&self) -> String {
        format!("127.0.0.1:{}", self.port)
    }

    /// Connections so far.
    pub fn connections(&self) -> usize {
        self.connections.load(Relaxed)
    }
}

impl Peer {
    /// The protocol version that the client asks for, as minor version of 3; `None`: it asks for
    /// something else.
    pub fn minor(&self) -> Option<u16> {
        let [0, 3, high, low, ..] = self.startup[..] else { return None };
        Some(u16::from_be_bytes([high, low]))
    }

    /// Lets the client in as PostgreSQL does under `trust`.
    pub fn welcome(&mut self) {
        self.welcome_with_key(&[1, 2, 3, 4]);
    }

    /// The same, with this secret in the cancel key.
    pub fn welcome_with_key(&mut self, secret: &[u8]) {
        self.send(b'R', &[0; 4]);
        for (name, value) in [
            ("server_version", "15.0"),
            ("client_encoding", "UTF8"),
            ("DateStyle", "ISO, MDY"),
            ("TimeZone", "UTC"),
            ("standard_conforming_strings", "on"),
        ] {
            self.send(b'S', format!("{name}\0{value}\0").as_bytes());
        }
        let id = u8::try_from(self.number).unwrap_or(u8::MAX);
        self.send(b'K', &[&[0, 0, 0, id], secret].concat());
        self.ready(b'I');
    }

    pub fn send(&mut self, tag: u8, body: &[u8]) {
        self.send_bytes(&message(tag, body));
    }

    /// Sends bytes as they are. The other side may have gone, which is its business.
    pub fn send_bytes(&mut self, bytes: &[u8]) {
        if let Err(error) = self.stream.write_all(bytes) {
            eprintln!("fake server: {error}");
        }
    }

    pub fn ready(&mut self, status: u8) {
        self.send(b'Z', &[status]);
    }

    pub fn complete(&mut self, tag: &str) {
        self.send(b'C', format!("{tag}\0").as_bytes());
    }

    /// A row of one column.
    pub fn row(&mut self, value: &str) {
        let mut body = vec![0, 1];
        body.extend_from_slice(&u32::try_from(value.len()).unwrap().to_be_bytes());
        body.extend_from_slice(value.as_bytes());
        self.send(b'D', &body);
    }

    pub fn error(&mut self, severity: &str, code: &str, text: &str) {
        let body = format!("S{severity}\0V{severity}\0C{code}\0M{text}\0\0");
        self.send(b'E', body.as_bytes());
    }

    /// Nothing of what was read is left to be looked at.
    pub fn has_read_all(&self) -> bool {
        self.inbox.is_empty()
    }

    /// Reads up to the next message with `tag`; `None` at the end.
    pub fn read_to(&mut self, tag: u8) -> Option<Message> {
        loop {
            let message = self.read()?;
            if message.tag == tag {
                return Some(message);
            }
        }
    }

    /// The next message; `None` at the end.
    pub fn read(&mut self) -> Option<Message> {
        let head = self.take(5)?;
        let len = u32::from_be_bytes(head[1..5].try_into().unwrap()) as usize;
        Some(Message { tag: head[0], body: self.take(len - 4)? })
    }

    /// Answers every message by `answer` until that goes or the client does, as PostgreSQL takes the
    /// extended protocol: a Sync gets its `ReadyForQuery`, and what is behind a refusal nothing up to there.
    pub fn answer_each(&mut self, mut answer: impl FnMut(&mut Self, &Message) -> Then) {
        let mut skips = false;
        while let Some(message) = self.read() {
            match message.tag {
                b'S' => {
                    skips = false;
                    self.ready(b'I');
                }
                _ if skips => {}
                _ => match answer(self, &message) {
                    Then::GoesOn => {}
                    Then::Skips => skips = true,
                    Then::Goes => return,
                },
            }
        }
    }

    /// Answers one of the messages of the extended protocol as if it had worked: without parameters or
    /// columns.
    pub fn accept(&mut self, message: &Message) -> Then {
        match message.tag {
            b'P' => self.send(b'1', b""),
            b'C' => self.send(b'3', b""),
            b'B' => self.send(b'2', b""),
            b'E' => self.complete("DONE"),
            b'D' => {
                if message.body.starts_with(b"S") {
                    self.send(b't', b"\0\0");
                }
                self.send(b'n', b"");
            }
            _ => {}
        }
        Then::GoesOn
    }

    /// Reads the startup packet, and declines to encrypt if that is asked in front of it.
    pub fn take_startup(&mut self) -> Option<Vec<u8>> {
        loop {
            let head = self.take(4)?;
            let len = u32::from_be_bytes(head[..4].try_into().unwrap()) as usize;
            let body = self.take(len - 4)?;
            if body != SSL_REQUEST.to_be_bytes() {
                return Some(body);
            }
            self.send_bytes(b"N");
        }
    }

    /// Answers the client's handshake; `None` if that comes to nothing.
    pub fn encrypt(self, config: Arc<ServerConfig>) -> Option<Self> {
        let stream = self.stream.into_served_tls(config).ok()?;
        Some(Self { stream, ..self })
    }

    /// Reads `len` bytes, of whatever kind.
    pub fn take(&mut self, len: usize) -> Option<Vec<u8>> {
        let mut chunk = [0; 4096];
        while self.inbox.len() < len {
            match self.stream.read(&mut chunk) {
                Ok(0) | Err(_) => return None,
                Ok(n) => self.inbox.extend_from_slice(&chunk[..n]),
            }
        }
        let rest = self.inbox.split_off(len);
        Some(std::mem::replace(&mut self.inbox, rest))
    }
}
