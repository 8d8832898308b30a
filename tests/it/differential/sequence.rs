//! What is sent: by whom, in what order, in what pieces.

use std::fmt;

/// A frontend message.
#[derive(Clone, PartialEq, Eq)]
pub struct Frame(pub Vec<u8>);

impl Frame {
    pub fn tag(&self) -> u8 {
        self.0[0]
    }

    pub fn body(&self) -> &[u8] {
        &self.0[5..]
    }

    /// Its length is one that PostgreSQL takes from nobody, or not for such a message.
    pub fn has_impossible_length(&self) -> bool {
        let claimed = u32::from_be_bytes(self.0[1..5].try_into().unwrap());
        let most = if b"DECSHXcf".contains(&self.tag()) { 10_000 } else { 0x3fff_fffe };
        // What does not exist is refused for its type.
        b"QPBDECSHFdcfX".contains(&self.tag()) && !(4..=most).contains(&claimed)
    }

    /// What an Execute executes may have been prepared long before.
    fn may_begin_block(&self) -> bool {
        let says = |word: &[u8]| self.body().windows(word.len()).any(|words| words == word);
        self.tag() == b'E'
            || (self.tag() == b'Q' && (says(b"begin") || says(b"start") || says(b"chain")))
    }

    pub fn executes_unnamed(&self) -> bool {
        self.tag() == b'E' && self.body().first() == Some(&0)
    }
}

impl fmt::Debug for Frame {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let name = match self.tag() {
            b'Q' => "Query",
            b'P' => "Parse",
            b'B' => "Bind",
            b'D' => "Describe",
            b'E' => "Execute",
            b'C' => "Close",
            b'S' => "Sync",
            b'H' => "Flush",
            b'F' => "FunctionCall",
            b'd' => "CopyData",
            b'c' => "CopyDone",
            b'f' => "CopyFail",
            b'X' => "Terminate",
            _ => "?",
        };
        let body = self.body();
        let shown = body.get(..300).unwrap_or(body);
        write!(f, "{name}[{}]", shown.escape_ascii())?;
        if shown.len() < body.len() {
            write!(f, " of {} bytes", body.len())?;
        }
        if self.has_impossible_length() {
            write!(f, " with the length {}", self.0[1..5].escape_ascii())?;
        }
        Ok(())
    }
}

/// The messages that `bytes` hold.
pub fn split(mut bytes: &[u8]) -> Vec<Frame> {
    let mut frames = Vec::new();
    while !bytes.is_empty() {
        let len = u32::from_be_bytes(bytes[1..5].try_into().unwrap()) as usize + 1;
        let (frame, rest) = bytes.split_at(len);
        frames.push(Frame(frame.to_vec()));
        bytes = rest;
    }
    frames
}

/// Messages that one client sends without waiting for their answers.
#[derive(Debug, Clone)]
pub struct Step {
    pub client: usize,
    pub frames: Vec<Frame>,
    /// Where the bytes are cut into writes.
    pub cuts: Vec<usize>,
}

impl Step {
    /// Splits off what is sent only once the client has seen whether its copy has failed: anything but
    /// the end of it behind its data. Without that nobody knows what the server has ignored.
    pub fn split_behind_copy_data(&mut self) -> Option<Self> {
        let at = self
            .frames
            .windows(2)
            .position(|pair| pair[0].tag() == b'd' && !b"dcf".contains(&pair[1].tag()))?;
        let frames = self.frames.split_off(at + 1);
        Some(Self { client: self.client, frames, cuts: Vec::new() })
    }

    /// Takes out what cannot be compared, of a step that is sent before anybody knows its answers: what
    /// PostgreSQL may not bear (`Direct::is_deadly`), and a statement described behind what may have failed
    /// in a block (`Direct::is_described_in_failed_block`).
    pub fn take_out_incomparable(&mut self, loses_track: bool) {
        let (mut has_queried, mut is_bound, mut has_executed) = (false, false, false);
        let mut may_be_in_block = false;
        self.frames.retain(|frame| {
            let tag = frame.tag();
            if may_be_in_block && tag == b'D' && frame.body().first() == Some(&b'S') {
                return false;
            }
            may_be_in_block |= frame.may_begin_block();
            if loses_track && has_executed && matches!(tag, b'Q' | b'F') {
                return false;
            }
            has_executed = tag == b'E' || (has_executed && tag != b'S');
            match frame.tag() {
                b'Q' | b'F' => (has_queried, is_bound) = (true, false),
                b'S' => is_bound = false,
                b'B' if frame.body().first() == Some(&0) => is_bound = true,
                _ => {}
            }
            !has_queried || is_bound || !frame.executes_unnamed()
        });
        self.cuts.clear();
    }

    pub fn bytes(&self) -> Vec<u8> {
        self.frames.iter().flat_map(|frame| frame.0.iter().copied()).collect()
    }
}

#[derive(Debug, Clone, Default)]
pub struct Sequence {
    pub steps: Vec<Step>,
    /// It changes tables: they are made anew behind it.
    pub changes_tables: bool,
}

impl Sequence {
    pub fn prepares_transactions(&self) -> bool {
        let prepare = b"prepare transaction";
        let mut frames = self.steps.iter().flat_map(|step| &step.frames);
        frames.any(|frame| frame.0.windows(prepare.len()).any(|words| words == prepare))
    }
}

impl fmt::Display for Sequence {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for step in &self.steps {
            writeln!(f, "client {} (cut at {:?})", step.client, step.cuts)?;
            for frame in &step.frames {
                writeln!(f, "    {frame:?}")?;
            }
        }
        Ok(())
    }
}
