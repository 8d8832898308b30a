//! A server that answers at once with what was made beforehand, and allocates nothing for it.

use std::io::Write as _;

use super::frames::Frames;
use crate::support::fake_server::{FakeServer, Peer};
use crate::support::messages::message;

/// One column of type int4, and the value 1 in it.
const COLUMNS: &[u8] = b"\0\x01?column?\0\0\0\0\0\0\0\0\0\0\x17\0\x04\xff\xff\xff\xff\0\0";
const ROW: &[u8] = b"\0\x01\0\0\0\x011";
/// More than it answers in one go, but for a wide answer.
const OUTBOX_LEN: usize = 64 * 1024;
/// What is asked for a wide answer, and how many bytes it has at least: more than two sockets take.
pub const WIDE: &str = "wide";
pub const WIDE_LEN: usize = 16 * 1024 * 1024;
const WIDE_ROW_LEN: usize = 32 * 1024;

/// Starts one.
pub fn start() -> FakeServer {
    FakeServer::start(|peer| {
        peer.welcome();
        QuietServer::new(peer).serve();
    })
}

/// One connection to it.
struct QuietServer<'a> {
    peer: &'a mut Peer,
    frames: Frames,
    answers: Answers,
}

impl<'a> QuietServer<'a> {
    fn new(peer: &'a mut Peer) -> Self {
        Self { peer, frames: Frames::new(), answers: Answers::new() }
    }

    /// Answers until the other side goes.
    fn serve(&mut self) {
        while let Ok(true) = self.frames.fill(&mut self.peer.stream) {
            while let Some((tag, body)) = self.frames.next() {
                if tag == b'X' {
                    return;
                }
                if tag == b'Q' && body.starts_with(WIDE.as_bytes()) {
                    for _ in 0..WIDE_LEN / WIDE_ROW_LEN {
                        if self.peer.stream.write_all(&self.answers.wide_row).is_err() {
                            return;
                        }
                    }
                }
                self.answers.put(tag, body);
            }
            // The other side may have gone, which is its business.
            if self.peer.stream.write_all(&self.answers.outbox).is_err() {
                return;
            }
            self.answers.outbox.clear();
        }
    }
}

/// What is answered.
struct Answers {
    columns: Vec<u8>,
    row: Vec<u8>,
    wide_row: Vec<u8>,
    selected: Vec<u8>,
    /// Of a statement without parameters.
    parameters: Vec<u8>,
    status: u8,
    outbox: Vec<u8>,
}

impl Answers {
    fn new() -> Self {
        Self {
            columns: message(b'T', COLUMNS),
            row: message(b'D', ROW),
            wide_row: message(b'D', &vec![b'x'; WIDE_ROW_LEN]),
            selected: message(b'C', b"SELECT 1\0"),
            parameters: message(b't', b"\0\0"),
            status: b'I',
            outbox: Vec::with_capacity(OUTBOX_LEN),
        }
    }

    fn put(&mut self, tag: u8, body: &[u8]) {
        let out = &mut self.outbox;
        match tag {
            b'Q' => {
                self.put_query(body);
                self.put_ready();
            }
            b'S' => self.put_ready(),
            b'P' => out.extend_from_slice(b"1\0\0\0\x04"),
            b'B' => out.extend_from_slice(b"2\0\0\0\x04"),
            b'C' => out.extend_from_slice(b"3\0\0\0\x04"),
            b'D' => {
                if body.starts_with(b"S") {
                    out.extend_from_slice(&self.parameters);
                }
                out.extend_from_slice(&self.columns);
            }
            b'E' => self.put_row(),
            _ => {}
        }
    }

    /// Runs a text as far as its first word goes.
    fn put_query(&mut self, text: &[u8]) {
        if text.starts_with(b"begin") {
            self.status = b'T';
            self.outbox.extend_from_slice(b"C\0\0\0\x0aBEGIN\0");
        } else if text.starts_with(b"commit") {
            self.status = b'I';
            self.outbox.extend_from_slice(b"C\0\0\0\x0bCOMMIT\0");
        } else {
            self.outbox.extend_from_slice(&self.columns);
            self.put_row();
        }
    }

    fn put_row(&mut self) {
        self.outbox.extend_from_slice(&self.row);
        self.outbox.extend_from_slice(&self.selected);
    }

    fn put_ready(&mut self) {
        self.outbox.extend_from_slice(&[b'Z', 0, 0, 0, 5, self.status]);
    }
}
