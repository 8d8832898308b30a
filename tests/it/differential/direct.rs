//! A client with a connection of its own to PostgreSQL: one message at a time, each with all that
//! answers it. What PostgreSQL says does not depend on when it is asked, so that this is what it says
//! to the same messages sent at once.

use std::fmt;

use super::link::{Answer, Connection};
use super::rules::tells_of_crash;
use super::sequence::Frame;
use super::texts::{BINARY_COPY, CSV_COPY};
use crate::support::messages::flush;
use crate::support::reply::Message;

/// What the server waits for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Mode {
    Ready,
    /// An extended segment has failed: everything up to the Sync is ignored.
    Skipping,
    CopyIn {
        simple: bool,
        format: Format,
        fed: bool,
    },
    Closed(Ending),
}

/// Why PostgreSQL has ended the connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Ending {
    /// The client has said goodbye, or was told what it did wrong.
    Told,
    /// A length that nobody may claim.
    Length,
    /// A mistake of PostgreSQL's own.
    Crash,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Format {
    Text,
    Csv,
    Binary,
}

#[derive(Debug)]
#[expect(clippy::struct_excessive_bools, reason = "facts that are independent of each other")]
pub struct Direct {
    connection: Connection,
    mode: Mode,
    status: u8,
    /// Extended messages were sent, and no Sync since.
    pub is_open: bool,
    /// Something was bound since then.
    pub has_bound: bool,
    /// Something was executed since then.
    has_executed: bool,
    /// The unnamed portal is what a Query left behind that has failed in a block.
    has_debris: bool,
    /// PostgreSQL's major one.
    version: u32,
}

/// PostgreSQL did not say what was expected of it: a mistake of the tester.
#[derive(Debug)]
pub struct Unexpected {
    frame: Frame,
    said: Vec<Message>,
    last: Answer,
}

impl fmt::Display for Unexpected {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { frame, said, last } = self;
        write!(f, "PostgreSQL said {said:?} to {frame:?}, then {last:?}")
    }
}

impl Direct {
    /// `version`: PostgreSQL's major one.
    pub const fn new(connection: Connection, version: u32) -> Self {
        Self {
            connection,
            mode: Mode::Ready,
            status: b'I',
            is_open: false,
            has_bound: false,
            has_executed: false,
            has_debris: false,
            version,
        }
    }

    /// The session needs no server between here and its next message.
    pub fn is_free(&self) -> bool {
        match self.mode {
            Mode::Ready => self.status == b'I' && !self.is_open,
            Mode::Closed(_) => true,
            Mode::Skipping | Mode::CopyIn { .. } => false,
        }
    }

    pub fn is_closed(&self) -> bool {
        matches!(self.mode, Mode::Closed(_))
    }

    pub fn is_ended_by_length(&self) -> bool {
        self.mode == Mode::Closed(Ending::Length)
    }

    pub fn has_crashed(&self) -> bool {
        self.mode == Mode::Closed(Ending::Crash)
    }

    pub fn is_idle(&self) -> bool {
        self.mode == Mode::Ready && !self.is_open
    }

    /// PostgreSQL 15 may crash of it: the portal of a Query that has failed in a block points to a plan
    /// that is gone, which an Execute of the unnamed portal reads. PostgreSQL 17 and 18 take a Query behind
    /// an Execute without a Sync for one in a block, and say XX000 to the next one behind the Sync.
    pub fn is_deadly(&self, frame: &Frame) -> bool {
        let is_query = matches!(frame.tag(), b'Q' | b'F');
        let is_unsynced = self.has_executed && self.status == b'I';
        (self.has_debris && frame.executes_unnamed())
            || (self.loses_track() && is_unsynced && is_query)
    }

    /// It loses track of its transaction where a Query comes behind an Execute without a Sync.
    pub const fn loses_track(&self) -> bool {
        self.version >= 17
    }

    /// Settings that change together are reported in an order that depends on what its process has
    /// reported before. Older ones go by their names.
    pub const fn reports_by_history(&self) -> bool {
        self.version >= 16
    }

    /// `said` describes a statement that returns nothing, in a block that has failed. Rule 3: pgweir can
    /// only refuse that where the server lacks the statement.
    pub fn is_described_in_failed_block(&self, said: &[Message]) -> bool {
        self.status == b'E' && matches!(said, [t, n] if t.tag == b't' && n.tag == b'n')
    }

    /// Sends a message; all that answers it.
    pub fn send(&mut self, frame: &Frame) -> Result<Vec<Message>, Unexpected> {
        let mut said = Vec::new();
        let tag = frame.tag();
        self.connection.send(&frame.0);
        if tag == b'X' || !b"QPBDECSHFdcf".contains(&tag) || frame.has_impossible_length() {
            self.read_end(&mut said);
            let is_by_length = frame.has_impossible_length();
            self.mode = Mode::Closed(if is_by_length { Ending::Length } else { Ending::Told });
            return Ok(said);
        }
        if let Some(last) = self.last_answer(frame) {
            self.read_to(frame, last, &mut said)?;
        }
        Ok(said)
    }

    /// The messages of which one ends the answer to `frame`; `None` if it has none. Where PostgreSQL
    /// would keep the answer for itself until a Flush, it is sent one.
    fn last_answer(&mut self, frame: &Frame) -> Option<&'static [u8]> {
        match (self.mode, frame.tag()) {
            (Mode::CopyIn { simple, format, fed }, b'd') => {
                self.mode = Mode::CopyIn { simple, format, fed: true };
                let last: &[u8] = if simple { b"Z" } else { b"E" };
                is_refused(frame.body(), format, fed).then_some(last)
            }
            (Mode::Closed(_), _) | (Mode::CopyIn { .. }, b'S' | b'H') => None,
            (Mode::CopyIn { simple: true, .. }, b'c' | b'f') => Some(b"ZG"),
            (Mode::CopyIn { simple: false, .. }, b'c' | b'f') => {
                self.connection.send(&flush());
                Some(b"CE")
            }
            (Mode::CopyIn { .. }, _) => Some(b""),
            (Mode::Skipping | Mode::Ready, b'S') => Some(b"Z"),
            (Mode::Skipping, _) | (Mode::Ready, b'd' | b'c' | b'f') => None,
            (Mode::Ready, b'H') if frame.body().is_empty() => None,
            (Mode::Ready, b'Q' | b'F') => {
                self.is_open = false;
                Some(b"ZG")
            }
            (Mode::Ready, tag) => {
                self.is_open = true;
                self.has_bound |= tag == b'B';
                self.has_executed |= tag == b'E';
                self.connection.send(&flush());
                Some(match tag {
                    b'P' => b"1E",
                    b'B' => b"2E",
                    b'D' => b"TnE",
                    b'C' => b"3E",
                    b'E' => b"CIsEG",
                    _ => b"E",
                })
            }
        }
    }

    /// Reads up to one of the messages `last`, and notes what it means.
    fn read_to(
        &mut self,
        frame: &Frame,
        last: &[u8],
        said: &mut Vec<Message>,
    ) -> Result<(), Unexpected> {
        loop {
            let message = match self.connection.read() {
                Answer::Message(message) => message,
                Answer::End if ends_with_fatal(said) => {
                    let is_crash = said.last().is_some_and(tells_of_crash);
                    self.mode = Mode::Closed(if is_crash { Ending::Crash } else { Ending::Told });
                    return Ok(());
                }
                last => {
                    let said = std::mem::take(said);
                    return Err(Unexpected { frame: frame.clone(), said, last });
                }
            };
            let tag = message.tag;
            let body = message.body.clone();
            said.push(message);
            if last.contains(&tag) {
                if tag == b'E' && ends_with_fatal(said) {
                    continue;
                }
                self.note(frame, tag, &body);
                return Ok(());
            }
        }
    }

    fn note(&mut self, frame: &Frame, tag: u8, body: &[u8]) {
        let asked = frame.tag();
        let simple = matches!(self.mode, Mode::CopyIn { simple: true, .. }) || asked == b'Q';
        // A Bind that worked has put another in the place of the unnamed portal.
        self.has_debris &= tag != b'2';
        self.mode = match tag {
            b'Z' => {
                self.status = body[0];
                self.has_debris = self.status == b'E' && (self.has_debris || asked != b'S');
                self.is_open = false;
                self.has_bound = false;
                self.has_executed = false;
                Mode::Ready
            }
            b'G' => {
                let is_csv = frame.body().ends_with(b"(format csv)\0");
                let format = match body[0] {
                    1 => Format::Binary,
                    _ if is_csv => Format::Csv,
                    _ => Format::Text,
                };
                Mode::CopyIn { simple, format, fed: false }
            }
            b'E' => Mode::Skipping,
            _ => Mode::Ready,
        };
    }

    fn read_end(&mut self, said: &mut Vec<Message>) {
        while let Answer::Message(message) = self.connection.read() {
            said.push(message);
        }
    }
}

fn ends_with_fatal(said: &[Message]) -> bool {
    said.last().is_some_and(|last| last.tag == b'E' && last.body.starts_with(b"SFATAL\0"))
}

/// Whether PostgreSQL refuses a piece of data as soon as it has it.
fn is_refused(data: &[u8], format: Format, fed: bool) -> bool {
    let is_good = match format {
        _ if data.is_empty() => true,
        Format::Binary => data == BINARY_COPY && !fed,
        Format::Csv => data == CSV_COPY,
        Format::Text => data != BINARY_COPY && data != CSV_COPY && !data.starts_with(b"bad"),
    };
    !is_good
}
