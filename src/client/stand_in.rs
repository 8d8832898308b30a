//! Answering in the place of a server: after one was lost in the middle of something, or where none
//! could be had. Pure.
//!
//! The failed block that a lost server leaves behind is kept here: whatever ends it is answered with
//! ROLLBACK, everything else is refused, as PostgreSQL does.

use crate::error::ClientMessage;
use crate::sql::Traits;
use crate::wire::backend::{self, TxStatus};
use crate::wire::error_response::{self, Severity};
use crate::wire::frame;
use crate::wire::sqlstate;

/// What is answered in the place of a server.
#[derive(Debug)]
pub(super) struct StandIn {
    /// The client is inside a block that has failed.
    in_block: bool,
    /// An error was reported in an extended segment: everything up to its Sync is ignored.
    skipping: bool,
    /// The error that the client has not been told yet: the answer to its next request.
    pending: Option<ClientMessage>,
    /// A statement that ends the block was bound: an Execute runs it.
    ends_bound: bool,
}

/// What became of a message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Taken {
    Done,
    Refused,
    /// It came behind an error, and nothing was done about it.
    Skipped,
}

/// A message of the client, as far as it matters here.
#[derive(Debug, Clone, Copy)]
pub(super) enum Message {
    /// Query: what its text does.
    Query(Traits),
    FunctionCall,
    Sync,
    /// Parse, or a Bind or Describe of a statement: what its text does, if it is known.
    Parse(Option<Traits>),
    Bind(Option<Traits>),
    DescribeStatement(Option<Traits>),
    DescribePortal,
    Execute,
    Close,
    /// Flush and everything of a copy.
    Ignored,
}

impl StandIn {
    /// Answers the next request with `message`, outside of a block.
    pub(super) const fn refusing(message: ClientMessage) -> Self {
        Self { in_block: false, skipping: false, pending: Some(message), ends_bound: false }
    }

    /// Keeps the failed block of a lost server. `pending`: what the client is still to be told.
    /// `skipping`: it was told in the middle of an extended segment.
    pub(super) const fn failed_block(pending: Option<ClientMessage>, skipping: bool) -> Self {
        Self { in_block: true, skipping, pending, ends_bound: false }
    }

    /// Takes an extended segment, whose error was told, to its Sync.
    pub(super) const fn skipping() -> Self {
        Self { in_block: false, skipping: true, pending: None, ends_bound: false }
    }

    /// The next request is refused for this, unless there is more to be said.
    pub(super) fn refuse_next(&mut self, message: ClientMessage) {
        if !self.skipping {
            self.pending.get_or_insert(message);
        }
    }

    /// Nothing is left to answer for: a server may be asked for again.
    pub(super) const fn is_over(&self) -> bool {
        !self.in_block && !self.skipping && self.pending.is_none()
    }

    /// The client is in its failed block, and has all its answers.
    pub(super) const fn is_at_rest(&self) -> bool {
        self.in_block && !self.skipping
    }

    const fn status(&self) -> TxStatus {
        if self.in_block { TxStatus::Failed } else { TxStatus::Idle }
    }

    /// Appends the answer to a message, and says what became of it.
    pub(super) fn answer(&mut self, message: Message, out: &mut Vec<u8>) -> Taken {
        match message {
            Message::Sync => {
                self.skipping = false;
                backend::put_ready(out, self.status());
                Taken::Done
            }
            _ if self.skipping => Taken::Skipped,
            Message::Ignored => Taken::Skipped,
            Message::Query(traits) => {
                let is_done = traits.ends_block() && !self.must_tell(traits);
                if is_done {
                    self.roll_back(out);
                } else {
                    self.refuse(Some(traits), out);
                }
                backend::put_ready(out, self.status());
                if is_done { Taken::Done } else { Taken::Refused }
            }
            Message::FunctionCall => {
                self.put_error(out);
                backend::put_ready(out, self.status());
                Taken::Refused
            }
            Message::Parse(traits) => self.answer_extended(traits, backend::PARSE_COMPLETE, out),
            Message::Bind(traits) => {
                let taken = self.answer_extended(traits, backend::BIND_COMPLETE, out);
                self.ends_bound = taken == Taken::Done;
                taken
            }
            Message::DescribeStatement(traits) => {
                let ends_block = traits.is_some_and(Traits::ends_block);
                self.answer_if(ends_block, NO_PARAMETERS_NO_DATA, out)
            }
            Message::DescribePortal => self.answer_if(self.ends_bound, backend::NO_DATA, out),
            Message::Close => self.answer_if(true, backend::CLOSE_COMPLETE, out),
            // What was bound before the server was lost is gone with it.
            Message::Execute if self.pending.is_some() || !self.ends_bound => self.fail(out),
            Message::Execute => {
                self.roll_back(out);
                Taken::Done
            }
        }
    }

    fn answer_extended(
        &mut self,
        traits: Option<Traits>,
        complete: &[u8],
        out: &mut Vec<u8>,
    ) -> Taken {
        let ends_block = traits.is_some_and(Traits::ends_block);
        if ends_block && !traits.is_some_and(|traits| self.must_tell(traits)) {
            self.pending = None;
            out.extend_from_slice(complete);
            return Taken::Done;
        }
        self.refuse(traits, out);
        self.skipping = true;
        Taken::Refused
    }

    fn refuse(&mut self, traits: Option<Traits>, out: &mut Vec<u8>) {
        let ends_block = traits.is_some_and(Traits::ends_block);
        if self.in_block && ends_block && traits.is_some_and(Traits::chains) {
            self.pending.get_or_insert_with(unchained);
        }
        self.put_error(out);
        self.in_block &= !ends_block;
    }

    /// A COMMIT is told what has not been told yet, and ends the block all the same: some clients
    /// take it for ended whatever they hear, and hardly any looks at the tag. A ROLLBACK gets what
    /// it wants, but for AND CHAIN: what comes next would be run outside of any block.
    const fn must_tell(&self, traits: Traits) -> bool {
        let is_pending = self.pending.is_some();
        (is_pending && (!self.in_block || traits.may_write())) || (self.in_block && traits.chains())
    }

    fn answer_if(&mut self, may: bool, answer: &[u8], out: &mut Vec<u8>) -> Taken {
        if !may || self.pending.is_some() {
            return self.fail(out);
        }
        out.extend_from_slice(answer);
        Taken::Done
    }

    fn fail(&mut self, out: &mut Vec<u8>) -> Taken {
        self.put_error(out);
        self.skipping = true;
        Taken::Refused
    }

    fn put_error(&mut self, out: &mut Vec<u8>) {
        let message = self.pending.take().unwrap_or_else(|| {
            ClientMessage::new(
                sqlstate::IN_FAILED_TRANSACTION,
                "current transaction is aborted, commands ignored until end of transaction block",
            )
        });
        error_response::put(out, Severity::Error, &message);
    }

    fn roll_back(&mut self, out: &mut Vec<u8>) {
        self.in_block = false;
        self.pending = None;
        frame::put(out, b'C', |out| frame::put_text(out, b"ROLLBACK"));
    }
}

/// The next block would have to be like the one that was lost: that is not known.
fn unchained() -> ClientMessage {
    let text = "the server connection was lost; the transaction is rolled back, and no other begins behind it";
    ClientMessage::new(sqlstate::CONNECTION_FAILURE, text).hint("Begin a new transaction.")
}

const NO_PARAMETERS_NO_DATA: &[u8] = b"t\0\0\0\x06\0\0n\0\0\0\x04";

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sql::classify;

    fn tags(stand_in: &mut StandIn, messages: &[Message]) -> String {
        let mut out = Vec::new();
        for message in messages {
            stand_in.answer(*message, &mut out);
        }
        let mut tags = String::new();
        let mut rest = out.as_slice();
        while let Ok(Some(head)) = frame::head(rest, usize::MAX) {
            tags.push(char::from(head.tag));
            if head.tag == b'Z' {
                tags.push(char::from(rest[5]));
            }
            rest = &rest[head.len..];
        }
        tags
    }

    fn query(text: &str) -> Message {
        Message::Query(classify(text.as_bytes()))
    }

    fn lost() -> ClientMessage {
        ClientMessage::new(sqlstate::CONNECTION_FAILURE, "the server connection was lost")
    }

    #[test]
    fn a_failed_block_is_left_by_rollback_or_commit_alone() {
        let mut stand_in = StandIn::failed_block(None, false);
        assert_eq!(tags(&mut stand_in, &[query("select 1")]), "EZE");
        assert_eq!(tags(&mut stand_in, &[query("ROLLBACK TO a")]), "EZE");
        assert!(!stand_in.is_over());
        assert_eq!(tags(&mut stand_in, &[query("COMMIT")]), "CZI");
        assert!(stand_in.is_over());
    }

    #[test]
    fn what_is_pending_is_the_answer_to_the_next_request() {
        let mut stand_in = StandIn::failed_block(Some(lost()), false);
        assert_eq!(tags(&mut stand_in, &[query("SELECT 1")]), "EZE");
        assert_eq!(tags(&mut stand_in, &[query("ROLLBACK")]), "CZI");
    }

    /// psycopg2 takes its block for ended after a COMMIT that failed.
    #[test]
    fn a_commit_is_told_what_is_pending_and_ends_the_block() {
        let mut simple = StandIn::failed_block(Some(lost()), false);
        assert_eq!(tags(&mut simple, &[query("COMMIT")]), "EZI");
        assert!(simple.is_over());

        let mut extended = StandIn::failed_block(Some(lost()), false);
        let commit = Message::Parse(Some(classify(b"COMMIT")));
        assert_eq!(tags(&mut extended, &[commit, Message::Execute, Message::Sync]), "EZI");
        assert!(extended.is_over());
    }

    #[test]
    fn a_rollback_is_not_refused_for_what_is_pending() {
        let mut stand_in = StandIn::failed_block(Some(lost()), false);
        assert_eq!(tags(&mut stand_in, &[query("ROLLBACK")]), "CZI");
        assert!(stand_in.is_over());
    }

    /// What comes behind it expects a block.
    #[test]
    fn no_block_is_chained_to_one_that_was_lost() {
        for text in ["ROLLBACK AND CHAIN", "COMMIT AND CHAIN"] {
            for pending in [None, Some(lost())] {
                let mut simple = StandIn::failed_block(pending.clone(), false);
                assert_eq!(tags(&mut simple, &[query(text)]), "EZI");
                assert!(simple.is_over());

                let mut extended = StandIn::failed_block(pending, false);
                let parse = Message::Parse(Some(classify(text.as_bytes())));
                assert_eq!(tags(&mut extended, &[parse, Message::Execute, Message::Sync]), "EZI");
                assert!(extended.is_over());
            }
        }
        let mut refusing = StandIn::refusing(lost());
        assert_eq!(tags(&mut refusing, &[query("COMMIT AND CHAIN")]), "EZI");
        assert!(refusing.is_over());
    }

    #[test]
    fn a_refused_request_ends_with_its_error() {
        let mut simple = StandIn::refusing(lost());
        assert_eq!(tags(&mut simple, &[query("select 1")]), "EZI");
        assert!(simple.is_over());

        let mut extended = StandIn::refusing(lost());
        let select = Some(classify(b"select 1"));
        let messages = [Message::Parse(select), Message::Bind(select), Message::Execute];
        assert_eq!(tags(&mut extended, &messages), "E");
        assert!(!extended.is_over());
        assert_eq!(tags(&mut extended, &[Message::Sync]), "ZI");
        assert!(extended.is_over());
    }

    #[test]
    fn a_failed_block_is_left_in_the_extended_protocol_too() {
        let mut stand_in = StandIn::failed_block(None, false);
        let rollback = Some(classify(b"ROLLBACK"));
        let messages = [
            Message::Parse(rollback),
            Message::Bind(rollback),
            Message::DescribeStatement(rollback),
            Message::DescribePortal,
            Message::Execute,
            Message::Sync,
        ];
        assert_eq!(tags(&mut stand_in, &messages), "12tnnCZI");
        assert!(stand_in.is_over());
    }

    /// A cursor's portal is gone with its server: its Execute is no ROLLBACK.
    #[test]
    fn what_was_bound_before_the_loss_ends_no_block() {
        for message in [Message::Execute, Message::DescribePortal] {
            let mut stand_in = StandIn::failed_block(None, false);
            assert_eq!(tags(&mut stand_in, &[message, Message::Sync]), "EZE");
            assert!(!stand_in.is_over());
        }
    }

    #[test]
    fn only_what_ends_the_block_is_described() {
        let mut stand_in = StandIn::failed_block(None, false);
        for traits in [None, Some(classify(b"select 1"))] {
            let messages = [Message::DescribeStatement(traits), Message::Sync];
            assert_eq!(tags(&mut stand_in, &messages), "EZE");
        }
    }

    /// What is to be kept in step with the answers is told.
    #[test]
    fn what_became_of_a_message_is_told() {
        let mut stand_in = StandIn::failed_block(None, false);
        let mut out = Vec::new();
        let select = Message::Parse(Some(classify(b"select 1")));
        assert_eq!(stand_in.answer(Message::Close, &mut out), Taken::Done);
        assert_eq!(stand_in.answer(select, &mut out), Taken::Refused);
        assert_eq!(stand_in.answer(select, &mut out), Taken::Skipped);
        assert_eq!(stand_in.answer(Message::Close, &mut out), Taken::Skipped);
    }
}
