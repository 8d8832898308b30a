//! A client that sends and reads bytes, so that no client library can hide what went over the wire.

use std::collections::BTreeMap;
use std::io::{self, Read, Write};
use std::time::Duration;

use super::authority::TlsClient;
use super::messages;
use super::reply::{Fields, Message, Reply};
use super::socket::{Address, Socket};
use super::wait::DEADLINE;

/// A connection to a proxy or to a server.
#[derive(Debug)]
pub struct Client {
    pub socket: Socket,
    address: Address,
    inbox: Vec<u8>,
    /// What `BackendKeyData` said: process id and secret.
    pub key: (i32, Vec<u8>),
    /// What `ParameterStatus` said during the login.
    pub parameters: BTreeMap<String, String>,
}

impl Client {
    /// A connection on which nothing was said.
    pub fn connect(address: &Address) -> Self {
        Self {
            socket: Socket::connect(address).unwrap_or_else(|e| panic!("{address:?}: {e}")),
            address: address.clone(),
            inbox: Vec::new(),
            key: (0, Vec::new()),
            parameters: BTreeMap::new(),
        }
    }

    /// Asks for TLS, which has to be there, and encrypts.
    #[track_caller]
    pub fn encrypted(mut self, tls: &TlsClient) -> Self {
        self.send(&messages::ssl_request());
        assert_eq!(self.read_byte(), b'S');
        self.try_encrypt(tls).unwrap_or_else(|error| panic!("no TLS: {error}"))
    }

    /// Begins a handshake on the spot.
    pub fn try_encrypt(self, tls: &TlsClient) -> io::Result<Self> {
        let socket = self.socket.into_tls(tls.config())?;
        Ok(Self { socket, ..self })
    }

    /// A client that is logged in, without a password.
    #[track_caller]
    pub fn log_in(address: &Address, parameters: &[(&str, &str)]) -> Self {
        Self::try_log_in(address, parameters).unwrap_or_else(|error| panic!("{error:?}"))
    }

    /// Logs in without a password, or is told why not.
    #[track_caller]
    pub fn try_log_in(address: &Address, parameters: &[(&str, &str)]) -> Result<Self, Fields> {
        let mut client = Self::connect(address);
        client.send(&messages::startup(parameters));
        client.finish_login().map(|_reply| client)
    }

    /// Logs in without a password in protocol 3.`minor`.
    #[track_caller]
    pub fn log_in_as(address: &Address, minor: u16, parameters: &[(&str, &str)]) -> (Self, Reply) {
        let mut client = Self::connect(address);
        client.send(&messages::startup_version((3, minor), parameters));
        let reply = client.finish_login().unwrap_or_else(|error| panic!("{error:?}"));
        (client, reply)
    }

    /// Reads up to the end of the login, and keeps what it tells.
    #[track_caller]
    pub fn finish_login(&mut self) -> Result<Reply, Fields> {
        let mut reply = Reply::default();
        loop {
            let message = self.read();
            match message.tag {
                b'E' => return Err(message.fields()),
                b'K' => {
                    let id = i32::from_be_bytes(message.body[..4].try_into().unwrap());
                    self.key = (id, message.body[4..].to_vec());
                }
                _ => {}
            }
            let is_last = message.tag == b'Z';
            reply.0.push(message);
            if is_last {
                self.parameters = reply.parameters().into_iter().collect();
                return Ok(reply);
            }
        }
    }

    #[track_caller]
    pub fn send(&mut self, bytes: &[u8]) {
        self.try_send(bytes).unwrap();
    }

    pub fn try_send(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.socket.write_all(bytes)
    }

    /// The next message; `None` at the end of the connection.
    #[track_caller]
    pub fn try_read(&mut self) -> Option<Message> {
        self.read_within(DEADLINE).expect("no message in time")
    }

    /// The next message.
    #[track_caller]
    pub fn read(&mut self) -> Message {
        self.try_read().expect("the connection was closed")
    }

    /// The next message within `timeout`. `Err`: there was none. `Ok(None)`: the end.
    pub fn read_within(&mut self, timeout: Duration) -> Result<Option<Message>, io::Error> {
        self.socket.set_read_timeout(timeout)?;
        let mut chunk = vec![0; 64 * 1024];
        loop {
            if let Some(message) = self.take_message() {
                return Ok(Some(message));
            }
            match self.socket.read(&mut chunk) {
                Ok(0) => {
                    assert!(self.inbox.is_empty(), "the connection ended inside a message");
                    return Ok(None);
                }
                Ok(n) => self.inbox.extend_from_slice(&chunk[..n]),
                Err(error) if error.kind() == io::ErrorKind::ConnectionReset => return Ok(None),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
    }

    fn take_message(&mut self) -> Option<Message> {
        let len = u32::from_be_bytes(self.inbox.get(1..5)?.try_into().unwrap()) as usize + 1;
        if self.inbox.len() < len {
            return None;
        }
        let rest = self.inbox.split_off(len);
        let frame = std::mem::replace(&mut self.inbox, rest);
        Some(Message { tag: frame[0], body: frame[5..].to_vec() })
    }

    /// One byte that is no message: the answer to a wish for encryption.
    pub fn read_byte(&mut self) -> u8 {
        let mut byte = [0];
        self.socket.read_exact(&mut byte).unwrap();
        byte[0]
    }

    /// Everything up to the next message with `tag`, which is the last.
    #[track_caller]
    pub fn read_to(&mut self, tag: u8) -> Reply {
        let mut reply = Reply::default();
        loop {
            let Some(message) = self.read_within(DEADLINE).unwrap_or_else(|error| {
                panic!("waiting for {:?}: {error} behind {reply:?}", char::from(tag))
            }) else {
                panic!("the connection was closed behind {reply:?}")
            };
            let is_last = message.tag == tag;
            reply.0.push(message);
            if is_last {
                return reply;
            }
        }
    }

    /// Everything up to the `count`th `ReadyForQuery` from here.
    #[track_caller]
    pub fn read_ready(&mut self, count: usize) -> Reply {
        let mut reply = Reply::default();
        for _ in 0..count {
            reply.0.extend(self.read_to(b'Z').0);
        }
        reply
    }

    /// Sends `bytes`, which hold one Query or Sync, and reads the answer.
    #[track_caller]
    pub fn exchange(&mut self, bytes: &[u8]) -> Reply {
        self.send(bytes);
        self.read_ready(1)
    }

    /// A simple query and its answer.
    #[track_caller]
    pub fn ask(&mut self, text: &str) -> Reply {
        self.exchange(&messages::query(text))
    }

    /// A simple query that must not fail; the first column of its rows, separated by blanks.
    #[track_caller]
    pub fn value(&mut self, text: &str) -> String {
        let reply = self.ask(text);
        assert_eq!(reply.errors(), [], "{text}");
        reply.values()
    }

    /// Parses a statement, which must work.
    #[track_caller]
    pub fn prepare(&mut self, name: &str, text: &str) {
        let reply = self.exchange(&[messages::parse(name, text), messages::sync()].concat());
        assert!(reply.tags().starts_with("1Z"), "{reply:?}");
    }

    /// Runs a statement without parameters.
    #[track_caller]
    pub fn use_prepared(&mut self, name: &str) -> Reply {
        self.exchange(&[messages::run(name, &[]), messages::sync()].concat())
    }

    /// The same, which must work; the fields of all its rows, separated by blanks.
    #[track_caller]
    pub fn fields_of(&mut self, name: &str) -> String {
        let reply = self.use_prepared(name);
        assert_eq!(reply.errors(), [], "{name}");
        reply.rows().concat().join(" ")
    }

    /// The process id of the server that answers.
    #[track_caller]
    pub fn pid(&mut self) -> String {
        self.value("select pg_backend_pid()")
    }

    /// Reads to the end of the connection.
    #[track_caller]
    pub fn read_to_end(&mut self) -> Reply {
        let mut reply = Reply::default();
        while let Some(message) = self.try_read() {
            reply.0.push(message);
        }
        reply
    }

    /// Reads to the end, whose last message must be a FATAL.
    #[track_caller]
    pub fn read_fatal(&mut self) -> Fields {
        let reply = self.read_to_end();
        let last = reply.0.last().expect("the connection ended without a word").fields();
        assert_eq!(last.severity(), "FATAL", "{reply:?}");
        last
    }

    /// Asserts that nothing comes for a while. Only where nothing could come later either.
    #[track_caller]
    pub fn assert_silent(&mut self) {
        match self.read_within(Duration::from_millis(50)) {
            Ok(message) => panic!("something came: {message:?}"),
            Err(error) => assert_eq!(error.kind(), io::ErrorKind::WouldBlock),
        }
    }

    /// Sends a cancel request for this session over a connection of its own, and waits for its end.
    pub fn cancel(&self) {
        self.cancel_with(self.key.0, &self.key.1);
    }

    /// Sends a cancel request with any key.
    pub fn cancel_with(&self, process_id: i32, secret: &[u8]) {
        let mut other = Self::connect(&self.address);
        other.send(&messages::cancel_request(process_id, secret));
        assert_eq!(other.try_read(), None);
    }

    /// Sends a cancel request for this session; the connection that it goes over.
    pub fn begin_cancel(&self) -> Self {
        let mut other = Self::connect(&self.address);
        other.send(&messages::cancel_request(self.key.0, &self.key.1));
        other
    }

    /// Goes without a word, as a process does that is killed.
    pub fn vanish(self) {
        self.socket.set_abortive().unwrap();
    }
}
