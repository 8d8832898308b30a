//! A connection that is written to in pieces and read message by message.

use std::io::{ErrorKind, Read, Write};

use crate::support::messages::startup;
use crate::support::reply::Message;
use crate::support::socket::{Address, Socket};

#[derive(Debug)]
pub struct Connection {
    socket: Socket,
    inbox: Vec<u8>,
    taken: usize,
}

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
        socket.set_read_timeout(std::time::Duration::from_secs(5)).unwrap();
        let mut connection = Self { socket, inbox: Vec::new(), taken: 0 };
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

    /// The other side may have closed already, which is seen where it is read from.
    pub fn send(&mut self, bytes: &[u8]) {
        if let Err(error) = self.socket.write_all(bytes) {
            assert!(
                matches!(error.kind(), ErrorKind::BrokenPipe | ErrorKind::ConnectionReset),
                "{error}"
            );
        }
    }

    pub fn read(&mut self) -> Answer {
        let mut chunk = [0; 16 * 1024];
        loop {
            if let Some(message) = self.take() {
                return Answer::Message(message);
            }
            match self.socket.read(&mut chunk) {
                Ok(0) => return Answer::End,
                Ok(n) => self.inbox.extend_from_slice(&chunk[..n]),
                Err(error) => match error.kind() {
                    ErrorKind::Interrupted => {}
                    ErrorKind::ConnectionReset => return Answer::End,
                    ErrorKind::WouldBlock | ErrorKind::TimedOut => return Answer::Silence,
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
