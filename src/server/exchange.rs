//! What a server owes: every message that was sent to it, until it is answered. Pure.
//!
//! The rules are those of the protocol's message flow (PostgreSQL documentation, chapter 55.2): an
//! error in an extended segment skips everything up to the next Sync; in copy-in mode Sync and Flush
//! are ignored; messages of a copy that has ended are ignored without a word.
//!
//! What is sent into a copy may find that it has failed already. So it is owed an answer like all
//! else, and how the copy ends tells what went into it.
//!
//! Invariant: each entry of `owed` gets exactly one end: answered, skipped by an error, or lost in a
//! copy.

mod questions;

use thiserror::Error;

pub use super::request::{CopyEnd, MadeUp, Request, Segment, Verdict};

use super::fate::{Course, Effect, Fates, Step};
use super::owed::{Entry, Owed};
use crate::wire::backend::TxStatus;

/// What was noted of a message that came to nothing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Undone<U> {
    /// True if this message failed; false if an earlier one did and the server skipped it.
    pub failed: bool,
    pub undo: U,
}

/// The server sent what nothing had asked for.
#[derive(Debug, Error, Clone, Copy, PartialEq, Eq)]
#[error("the server sent {tag:?} while {owed:?} was owed", tag = char::from(*.tag))]
pub struct Violation {
    pub tag: u8,
    pub owed: Option<Request>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Copy {
    None,
    In,
    Out,
    Both,
}

/// The exchange in progress on a server connection.
///
/// `U` is what the caller wants back about a message that came to nothing.
#[derive(Debug)]
#[expect(clippy::struct_excessive_bools, reason = "facts that are independent of each other")]
pub struct Exchange<U> {
    owed: Owed<U>,
    /// Serial number of the next entry.
    next: u64,
    /// That of the last one that ends with a `ReadyForQuery`.
    pub(super) last_boundary: u64,
    /// That of the last one that may make other statements of those that the client or the server has:
    /// whoever notes a serial number that will be asked about sends one of these with it, or behind it.
    last_change: u64,
    copy: Copy,
    /// An error was reported, and no Sync has been sent since: the server ignores everything.
    skipping: bool,
    /// Extended messages were sent, and no Sync since.
    segment_open: bool,
    tx: TxStatus,
    /// Up to the answer to this request the server is taken to be in a block: it is a BEGIN that cannot fail.
    presumed: Option<u64>,
    /// Something was executed since the last `ReadyForQuery`, and told of.
    has_executed: bool,
    /// What was answered since the last `ReadyForQuery` may have done.
    course: Course,
    /// A copy failed, and nobody knows whether a Sync that was sent into it will be answered.
    doubtful: bool,
    /// An answer of ours may be among those owed. (As a rule none is, and nobody need look.)
    may_owe_made_up: bool,
    undone: Vec<Undone<U>>,
    /// What was noted of the Describe that was answered last, until it is taken.
    described: Option<U>,
}

impl<U> Default for Exchange<U> {
    fn default() -> Self {
        Self {
            owed: Owed::default(),
            next: 0,
            last_boundary: 0,
            last_change: 0,
            copy: Copy::None,
            skipping: false,
            segment_open: false,
            tx: TxStatus::Idle,
            presumed: None,
            has_executed: false,
            course: Course::from(TxStatus::Idle),
            doubtful: false,
            may_owe_made_up: false,
            undone: Vec::new(),
            described: None,
        }
    }
}

impl<U> Exchange<U> {
    /// Notes a message on its way to the server (or in its place).
    pub fn on_request(&mut self, request: Request, undo: Option<U>) {
        self.on_run(request, Effect::Reads, undo);
    }

    /// Notes a message that runs something, and what that may do.
    pub fn on_run(&mut self, request: Request, effect: Effect, undo: Option<U>) {
        if self.skipping {
            if request == Request::Sync {
                self.skipping = false;
            } else {
                return self.skip(undo);
            }
        }
        match request {
            Request::Simple(_) => {
                self.last_boundary = self.next;
                self.segment_open = false;
                self.last_change = self.next;
            }
            Request::Sync => {
                if self.ends_with_sync_in_copy() {
                    // One or many: none is answered, or all are in doubt.
                    return;
                }
                self.last_boundary = self.next;
                self.segment_open = false;
            }
            Request::CopyEnd if self.owed.is_empty() => return,
            Request::CopyEnd => {}
            Request::Parse(_) | Request::Close(_) | Request::MadeUp(_) => {
                self.segment_open = true;
                self.last_change = self.next;
            }
            Request::Bind | Request::Describe(_) | Request::Execute | Request::Own => {
                self.segment_open = true;
            }
        }
        self.may_owe_made_up = matches!(request, Request::MadeUp(_))
            || (self.may_owe_made_up && !self.owed.is_empty());
        self.owed.push(self.next, request, effect, undo);
        self.next += 1;
    }

    /// A Sync went into the copy, and nothing but data behind it.
    fn ends_with_sync_in_copy(&self) -> bool {
        self.takes_copy_data() && self.owed.last() == Some(Request::Sync)
    }

    /// Applies a message from the server and says who it is for. Rows and other messages that end
    /// nothing need not be shown.
    pub fn on_answer(&mut self, tag: u8, ready: Option<TxStatus>) -> Result<Verdict, Violation> {
        let head = self.head();
        let violation = Violation { tag, owed: head };
        let verdict = match (tag, head) {
            (b'Z', _)
                if self.doubtful && !matches!(head, Some(Request::Simple(_) | Request::Sync)) =>
            {
                self.on_doubtful_ready(ready.ok_or(violation)?);
                Verdict::Forward
            }
            (b'Z', Some(Request::Simple(verdict))) => {
                self.on_ready(ready.ok_or(violation)?);
                verdict
            }
            (b'Z', Some(Request::Sync)) => {
                self.on_ready(ready.ok_or(violation)?);
                Verdict::Forward
            }
            (b'E', Some(_)) => return self.on_error(CopyEnd::Failed),
            (b'G', Some(Request::Simple(_) | Request::Execute)) => {
                self.copy = Copy::In;
                Verdict::Forward
            }
            (b'H', Some(Request::Simple(_) | Request::Execute)) => {
                self.copy = Copy::Out;
                Verdict::Forward
            }
            (b'W', Some(Request::Simple(_) | Request::Execute)) => {
                self.copy = Copy::Both;
                Verdict::Forward
            }
            // What is said of a text that is prepared once more was said when the client prepared it.
            (b'N' | b'S', Some(Request::Simple(verdict)))
            | (b'N', Some(Request::Parse(verdict)))
            | (b't', Some(Request::Describe(verdict))) => verdict,
            // A notification comes when it comes, behind a command of ours as well.
            (b'N' | b'S' | b'A', _) | (b'D' | b'd' | b'c', Some(Request::Execute)) => {
                Verdict::Forward
            }
            (_, Some(Request::Simple(verdict))) => {
                if tag == b'C' {
                    self.end_copy(CopyEnd::Done);
                }
                verdict
            }
            (b'1', Some(Request::Parse(verdict))) | (b'3', Some(Request::Close(verdict))) => {
                self.pop();
                verdict
            }
            (b'T' | b'n', Some(Request::Describe(verdict))) => {
                self.described = self.pop();
                verdict
            }
            (b'2', Some(Request::Bind)) | (b'I' | b's', Some(Request::Execute)) => {
                self.pop();
                Verdict::Forward
            }
            (b'C', Some(Request::Execute)) => {
                self.end_copy(CopyEnd::Done);
                self.pop();
                self.has_executed = true;
                Verdict::Forward
            }
            (b'2' | b'C', Some(Request::Own)) => {
                self.pop();
                Verdict::Swallow
            }
            _ => return Err(violation),
        };
        self.drop_useless_copy_ends();
        Ok(verdict)
    }

    fn on_ready(&mut self, status: TxStatus) {
        if self.presumed.is_some_and(|serial| self.head_serial() >= serial) {
            self.presumed = None;
        }
        self.pop();
        self.begin_anew(status);
        self.copy = Copy::None;
    }

    /// A Sync that was taken to have gone into a copy came behind its failure.
    fn on_doubtful_ready(&mut self, status: TxStatus) {
        self.begin_anew(status);
        self.skipping = false;
    }

    /// Takes the server to be in a block from now on: what was noted last is a BEGIN that it cannot refuse.
    pub const fn presume_block(&mut self) {
        self.presumed = Some(self.next - 1);
        self.begin_anew(TxStatus::Block);
    }

    /// True if the request that is answered next is that BEGIN.
    pub fn is_at_presumed(&self) -> bool {
        self.presumed.is_some_and(|serial| serial == self.head_serial())
    }

    /// True if what is answered next is a command of ours.
    pub fn is_at_own(&self) -> bool {
        self.head() == Some(Request::Simple(Verdict::Swallow))
    }

    const fn begin_anew(&mut self, status: TxStatus) {
        let status = if self.presumed.is_some() { TxStatus::Block } else { status };
        self.tx = status;
        self.has_executed = false;
        self.course = Course::from(status);
    }

    /// Applies an error, and says who it is for. `end`: what of a copy it ends, if there is one.
    pub fn on_error(&mut self, end: CopyEnd) -> Result<Verdict, Violation> {
        let Some(request) = self.head() else { return Err(Violation { tag: b'E', owed: None }) };
        self.end_copy(end);
        match request {
            // Its ReadyForQuery is still to come.
            Request::Simple(verdict) => return Ok(verdict),
            Request::Sync => return Ok(Verdict::Forward),
            Request::Parse(_)
            | Request::Bind
            | Request::Describe(_)
            | Request::Execute
            | Request::Close(_)
            | Request::Own
            | Request::CopyEnd
            | Request::MadeUp(_) => {}
        }
        let mut failed = true;
        loop {
            match self.head() {
                Some(Request::Sync) => return Ok(Verdict::Forward),
                Some(_) => {}
                None => break,
            }
            // A server that skips ignores a Query as well.
            let undo = self.owed.pop().and_then(|(_, undo)| undo);
            self.undone.extend(undo.map(|undo| Undone { failed, undo }));
            failed = false;
        }
        self.skipping = true;
        Ok(Verdict::Forward)
    }

    /// Takes out what went into the copy that is over: Syncs up to what ended it, and that.
    fn end_copy(&mut self, end: CopyEnd) {
        let was_in = matches!(self.copy, Copy::In | Copy::Both);
        self.copy = Copy::None;
        if !was_in {
            return;
        }
        while let Some(next) = self.owed.second() {
            let is_last = match next {
                Request::Sync => {
                    self.doubtful |= end == CopyEnd::Failed;
                    false
                }
                // It may have come behind the failure, and has its turn then.
                Request::MadeUp(_) if end == CopyEnd::Failed => break,
                // Never sent: the server knows nothing of it, and its answer would come too late.
                Request::MadeUp(_) => false,
                Request::CopyEnd => matches!(end, CopyEnd::Done | CopyEnd::GivenUp),
                Request::Simple(_)
                | Request::Parse(_)
                | Request::Bind
                | Request::Describe(_)
                | Request::Execute
                | Request::Close(_)
                | Request::Own => break,
            };
            if next == Request::CopyEnd && !is_last {
                break;
            }
            let undo = self.owed.take_second();
            self.skip(undo);
            if is_last {
                break;
            }
        }
        // A Sync that went into the copy does not end the segment.
        let last = self.owed.iter().rev().map(|e| e.request).find(|r| *r != Request::CopyEnd);
        self.segment_open = !matches!(last, Some(Request::Simple(_) | Request::Sync));
    }

    /// A `CopyDone` that no copy was waiting for is ignored by the server.
    #[inline]
    fn drop_useless_copy_ends(&mut self) {
        while matches!(self.head(), Some(Request::CopyEnd)) {
            self.pop();
        }
    }

    fn skip(&mut self, undo: Option<U>) {
        self.undone.extend(undo.map(|undo| Undone { failed: false, undo }));
    }

    /// Takes off the first request, which was answered; what was noted of it.
    #[inline]
    fn pop(&mut self) -> Option<U> {
        let (effect, undo) = self.owed.pop()?;
        self.course.answered(effect);
        undo
    }

    /// Takes the next answer of ours, if nothing of the server's is in front of it.
    pub fn next_made_up(&mut self) -> Option<MadeUp> {
        let Request::MadeUp(made_up) = self.head()? else { return None };
        self.pop();
        self.drop_useless_copy_ends();
        Some(made_up)
    }

    /// The segment that has just failed is to be sent once more: its end is for nobody. True if its Sync
    /// was sent, false if one of ours is to be; `None` if there is more behind it, which it cannot follow.
    pub fn end_unheard(&mut self) -> Option<bool> {
        let is_sent = match self.owed.len() {
            0 if self.skipping => false,
            1 if self.head() == Some(Request::Sync) => true,
            _ => return None,
        };
        if !is_sent {
            self.on_request(Request::Sync, None);
        }
        self.owed.replace_first(Request::Simple(Verdict::Swallow));
        Some(is_sent)
    }

    /// Takes what came to nothing, the newest first: undoing in this order restores what was.
    pub fn take_undone(&mut self) -> impl Iterator<Item = Undone<U>> + '_ {
        self.undone.drain(..).rev()
    }

    /// What was noted of the Describe that has just been answered.
    pub fn take_described(&mut self) -> Option<U> {
        self.described.take()
    }

    /// What was noted of the messages that are still owed an answer.
    pub fn undos_mut(&mut self) -> impl Iterator<Item = &mut U> {
        self.owed.undos_mut()
    }

    /// The server is lost: what becomes of what the client is owed. Nothing is for commands of ours.
    pub fn fates(&mut self) -> Fates {
        self.end_copy(CopyEnd::Failed);
        let steps = self.owed.iter().flat_map(|entry| {
            let is_owed =
                matches!(entry.request, Request::Simple(Verdict::Forward) | Request::Sync);
            [Some(Step::Run(entry.effect)), is_owed.then_some(Step::Ready)]
        });
        Fates::along(self.course, steps.flatten())
    }

    /// Everything sent so far ends the connection's use: what is owed will never come.
    pub fn abandon(&mut self) -> impl Iterator<Item = Undone<U>> + '_ {
        while let Some((_, undo)) = self.owed.pop() {
            self.skip(undo);
        }
        self.take_undone()
    }
}

#[cfg(test)]
mod tests;
