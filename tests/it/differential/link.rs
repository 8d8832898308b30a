//! A connection that is written to in pieces and read message by message.
//!
//! A write never waits for a reader that waits for one itself: what the other side does not take is
//! sent on while it is read from.

use std::io::{ErrorKind, Read, Write};
use std::time::Duration;

use tokio::time::Instant;

use crate::support::messages::startup;
use crate::support::reply::Message;
use crate::support::socket::{Address, Socket};

#[derive(Debug)]
pub struct Connection {
    socket: Socket,
    inbox: Vec<u8>,
    taken: usize,
    /// What the other side has not taken yet.
    outbox: Vec<u8>,
}

/// How long an answer is waited for.
const PATIENCE: Duration = Duration::from_secs(5);

/// How long one direction is tried before the other is, where both are at work.
const TURN: Duration = Duration::from_millis(2);

/// What a read led to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Answer {
    Message(Message),
    End,
    /// Nothing came in time.
    Silence,
}

impl Connection {
    /// Connects and logs in; what was said up to the first `ReadyForQuery`.
    pub fn open(address: &Address, parameters: &[(&str, &str)]) -> (Self, Vec<Message>) {
        let socket = Socket::connect(address).unwrap();
        socket.set_read_timeout(PATIENCE).unwrap();
        socket.set_write_timeout(TURN).unwrap();
        let (inbox, outbox) = (Vec::new(), Vec::new());
        let mut connection = Self { socket, inbox, taken: 0, outbox };
        connection.send(&startup(parameters));
        let mut said = Vec::new();
        loop {
            match connection.read() {
                Answer::Message(message) => {
                    let is_last = matches!(message.tag, b'Z' | b'E');
                    said.push(message);
                    if is_last {
                        return (connection, said);
                    }
                }
                other => panic!("{other:?} behind {said:?}"),
            }
        }
    }

    pub fn send(&mut self, bytes: &[u8]) {
        self.outbox.extend_from_slice(bytes);
        self.push();
    }

    /// Sends what the other side takes now. It may have closed already, which is seen where it is read
    /// from.
    fn push(&mut self) {
        while !self.outbox.is_empty() {
            match self.socket.write(&self.outbox) {
                Ok(n) => drop(self.outbox.drain(..n)),
                Err(error) => match error.kind() {
                    ErrorKind::Interrupted => {}
                    ErrorKind::WouldBlock | ErrorKind::TimedOut => return,
                    ErrorKind::BrokenPipe | ErrorKind::ConnectionReset => self.outbox.clear(),
                    _ => panic!("{error}"),
                },
            }
        }
    }

    pub fn read(&mut self) -> Answer {
        if let Some(message) = self.take() {
            return Answer::Message(message);
        }
        let mut deadline = Instant::now() + PATIENCE;
        while !self.outbox.is_empty() {
            self.socket.set_read_timeout(TURN).unwrap();
            let read = self.read_some();
            self.socket.set_read_timeout(PATIENCE).unwrap();
            match read {
                Some(Answer::Silence) if Instant::now() < deadline => {}
                Some(answer) => return answer,
                None => deadline = Instant::now() + PATIENCE,
            }
            self.push();
        }
        loop {
            if let Some(message) = self.take() {
                return Answer::Message(message);
            }
            if let Some(answer) = self.read_some() {
                return answer;
            }
        }
    }

    /// Reads what is there; what it leads to if nothing came.
    fn read_some(&mut self) -> Option<Answer> {
        let mut chunk = [0; 16 * 1024];
        loop {
            match self.socket.read(&mut chunk) {
                Ok(0) => return Some(Answer::End),
                Ok(n) => {
                    self.inbox.extend_from_slice(&chunk[..n]);
                    return None;
                }
                Err(error) => match error.kind() {
                    ErrorKind::Interrupted => {}
                    ErrorKind::ConnectionReset => return Some(Answer::End),
                    ErrorKind::WouldBlock | ErrorKind::TimedOut => return Some(Answer::Silence),
                    _ => panic!("{error}"),
                },
            }
        }
    }

    fn take(&mut self) -> Option<Message> {
        let rest = &self.inbox[self.taken..];
        let len = u32::from_be_bytes(rest.get(1..5)?.try_into().unwrap()) as usize + 1;
        let frame = rest.get(..len)?;
        let message = Message { tag: frame[0], body: frame[5..].to_vec() };
        self.taken += len;
        if self.taken == self.inbox.len() {
            self.inbox.clear();
            self.taken = 0;
        }
        Some(message)
    }
}
