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
    copy: Copy,
    /// An error was reported, and no Sync has been sent since: the server ignores everything.
    skipping: bool,
    /// Extended messages were sent, and no Sync since.
    segment_open: bool,
    tx: TxStatus,
    /// Something was executed since the last `ReadyForQuery`, and told of.
    has_executed: bool,
    /// What was answered since the last `ReadyForQuery` may have done.
    course: Course,
    /// A copy failed, and nobody knows whether a Sync that was sent into it will be answered.
    doubtful: bool,
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
            copy: Copy::None,
            skipping: false,
            segment_open: false,
            tx: TxStatus::Idle,
            has_executed: false,
            course: Course::from(TxStatus::Idle),
            doubtful: false,
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
            Request::Simple(_) | Request::Sync => {
                if request == Request::Sync && self.ends_with_sync_in_copy() {
                    // One or many: none is answered, or all are in doubt.
                    return;
                }
                self.last_boundary = self.next;
                self.segment_open = false;
            }
            Request::CopyEnd if self.owed.is_empty() => return,
            Request::CopyEnd => {}
            Request::Parse(_)
            | Request::Bind
            | Request::Describe(_)
            | Request::Execute
            | Request::Close(_)
            | Request::Own
            | Request::MadeUp(_) => self.segment_open = true,
        }
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
        self.pop();
        self.begin_anew(status);
        self.copy = Copy::None;
    }

    /// A Sync that was taken to have gone into a copy came behind its failure.
    fn on_doubtful_ready(&mut self, status: TxStatus) {
        self.begin_anew(status);
        self.skipping = false;
    }

    const fn begin_anew(&mut self, status: TxStatus) {
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
            let undo = self.owed.take_second().and_then(|(_, undo)| undo);
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
        while self.head() == Some(Request::CopyEnd) {
            self.pop();
        }
    }

    fn skip(&mut self, undo: Option<U>) {
        self.undone.extend(undo.map(|undo| Undone { failed: false, undo }));
    }

    /// Takes off the first request, which was answered; what was noted of it.
    #[inline]
    fn pop(&mut self) -> Option<U> {
        let (entry, undo) = self.owed.pop()?;
        self.course.answered(entry.effect);
        undo
    }

    /// Takes the next answer of ours, if it is due.
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

    /// What was noted of the message that failed, until it is taken.
    pub fn failed(&self) -> Option<&U> {
        self.undone.iter().find(|undone| undone.failed).map(|undone| &undone.undo)
    }

    /// What was noted of the Describe that has just been answered.
    pub fn take_described(&mut self) -> Option<U> {
        self.described.take()
    }

    /// Something was noted of the Describe that is being answered.
    pub fn awaits_description(&self) -> bool {
        matches!(self.head(), Some(Request::Describe(_))) && self.owed.is_first_noted()
    }

    /// What was noted of messages that nobody knows yet whether they work, and that do not share the fate
    /// of what is sent now ([`Self::is_open_question`]).
    pub fn open_questions(&self) -> impl Iterator<Item = &U> {
        let is_open = |(serial, _): &(u64, &U)| self.is_open_question(*serial);
        self.owed.undos().filter(is_open).map(|(_, undo)| undo)
    }

    /// What was noted of the messages that are still owed an answer.
    pub fn undos_mut(&mut self) -> impl Iterator<Item = &mut U> {
        self.owed.undos_mut()
    }

    pub fn has_undone(&self) -> bool {
        !self.undone.is_empty()
    }

    /// Nothing is owed in either direction.
    pub fn is_settled(&self) -> bool {
        self.owed.is_empty() && self.copy == Copy::None && !self.skipping && !self.segment_open
    }

    /// Nothing is owed, and no block is open.
    pub fn is_at_rest(&self) -> bool {
        self.is_settled() && self.tx == TxStatus::Idle
    }

    /// True when the server may be lent to another session, as far as the exchange goes.
    pub fn may_checkin(&self) -> bool {
        self.is_at_rest() && !self.doubtful
    }

    /// The transaction status of the last `ReadyForQuery`.
    pub const fn tx(&self) -> TxStatus {
        self.tx
    }

    /// The block has failed, as far as was answered. All that a failed one executes is its end, which
    /// need not be at a `ReadyForQuery`.
    pub fn is_in_failed_block(&self) -> bool {
        self.tx == TxStatus::Failed && !self.has_executed
    }

    /// The request that the next answer belongs to.
    pub fn head(&self) -> Option<Request> {
        self.owed.first().map(|entry| entry.request)
    }

    /// Serial number of the request that is being answered; later requests have higher ones.
    pub fn head_serial(&self) -> u64 {
        self.owed.first().map_or(self.next, |entry| entry.serial)
    }

    /// Serial number that the next request will have.
    pub const fn next_serial(&self) -> u64 {
        self.next
    }

    /// True if nobody knows yet whether the request with this serial number works, and what is sent now
    /// does not share its fate: a Sync or a Query stands between them.
    pub fn is_open_question(&self, serial: u64) -> bool {
        self.owed.has_boundary() && serial < self.last_boundary && serial >= self.head_serial()
    }

    /// What is sent now comes behind a Sync or a Query that is not answered yet.
    pub const fn has_boundary(&self) -> bool {
        self.owed.has_boundary()
    }

    /// Nothing is to be heard from the server before it gets more.
    pub fn is_answered(&self) -> bool {
        let is_ours = |entry: &Entry| matches!(entry.request, Request::MadeUp(_));
        match self.owed.first() {
            Some(first) if !is_ours(first) => self.takes_copy_data(),
            _ => self.owed.iter().all(is_ours) || self.takes_copy_data(),
        }
    }

    /// Requests that are not answered yet.
    pub fn depth(&self) -> usize {
        self.owed.len()
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

    /// The extended messages with no Sync behind them yet.
    pub const fn segment(&self) -> Segment {
        match (self.skipping, self.segment_open) {
            (true, _) => Segment::Failed,
            (false, true) => Segment::Open,
            (false, false) => Segment::None,
        }
    }

    /// The server waits for `CopyData`, as far as is known, and what ends it has not been sent.
    pub fn takes_copy_data(&self) -> bool {
        matches!(self.copy, Copy::In | Copy::Both)
            && self.owed.iter().skip(1).all(|entry| entry.request == Request::Sync)
    }

    /// The same, and nothing else is copied at the same time.
    pub fn copies_in(&self) -> bool {
        self.copy == Copy::In && self.takes_copy_data()
    }

    /// Extended messages were sent with no Sync behind them, and all of them are answered: the
    /// client's Flush keeps the server.
    pub fn is_held_open(&self) -> bool {
        self.owed.is_empty() && (self.segment_open || self.skipping)
    }

    /// True if a `ParseComplete` of ours cannot turn out to be a lie: a server in a failed block
    /// would refuse, and whether an earlier segment fails is not known before it is answered.
    pub fn may_make_up(&self) -> bool {
        !self.is_in_failed_block() && !self.owed.has_boundary() && self.copy == Copy::None
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
