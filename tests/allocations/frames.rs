//! Messages in a buffer of fixed size: whoever reads them so allocates nothing.

use std::io::{self, Read};

use crate::support::socket::Socket;

const HEAD: usize = 5;
/// More than any exchange of these tests is long.
const BUFFER_LEN: usize = 64 * 1024;

/// What was read of a connection and not looked at yet.
pub struct Frames {
    buffer: Box<[u8]>,
    begin: usize,
    end: usize,
}

impl Frames {
    pub fn new() -> Self {
        Self { buffer: vec![0; BUFFER_LEN].into_boxed_slice(), begin: 0, end: 0 }
    }

    /// The tag and the body of the next message that is there in full.
    pub fn next(&mut self) -> Option<(u8, &[u8])> {
        let rest = &self.buffer[self.begin..self.end];
        let [tag, length @ ..] = *rest.first_chunk::<HEAD>()?;
        let len = u32::from_be_bytes(length) as usize + 1;
        if rest.len() < len {
            return None;
        }
        let body = self.begin + HEAD..self.begin + len;
        self.begin += len;
        Some((tag, &self.buffer[body]))
    }

    /// Reads more; false at the end of the connection.
    pub fn fill(&mut self, socket: &mut Socket) -> io::Result<bool> {
        self.buffer.copy_within(self.begin..self.end, 0);
        self.end -= self.begin;
        self.begin = 0;
        let room = &mut self.buffer[self.end..];
        assert!(!room.is_empty(), "a message longer than {BUFFER_LEN} bytes");
        let n = socket.read(room)?;
        self.end += n;
        Ok(n > 0)
    }

    /// Reads up to the `boundaries`-th `ReadyForQuery`.
    #[track_caller]
    pub fn read_answers(&mut self, socket: &mut Socket, boundaries: usize) {
        let mut left = boundaries;
        while left > 0 {
            assert!(self.fill(socket).unwrap(), "the connection was closed");
            while let Some((tag, _)) = self.next() {
                assert_ne!(tag, b'E', "an error");
                left -= usize::from(tag == b'Z');
            }
        }
    }
}
