//! A server lost under a client: what the client is told, and how the session goes on.

use std::sync::Arc;
use std::task::Context as TaskContext;

use tokio::time::Instant;

use super::again::ends_all;
use super::batch::Batch;
use super::deadlines::query_took_too_long;
use super::from_client::{Frame, Next, may_begin};
use super::link::{Link, Linked};
use super::serve::{End, Session};
use super::shapes::outdated;
use super::stand_in::{Message, StandIn, Taken};
use crate::config::Mode;
use crate::error::{ClientMessage, Fault};
use crate::server::Server;
use crate::server::exchange::{Segment, Verdict};
use crate::server::fate::{Fate, Fates};
use crate::server::shape::Describes;
use crate::sql::{Traits, classify};
use crate::telemetry::counters::CloseReason;
use crate::wire::backend::TxStatus;
use crate::wire::error_response::{self, Severity};
use crate::wire::frontend::{self, Named, Target};
use crate::wire::sqlstate;

/// What was under way when the server was lost.
#[derive(Debug)]
pub(super) struct UnderWay {
    fates: Fates,
    /// What has no Sync behind it yet.
    segment: Segment,
}

impl UnderWay {
    pub(super) fn of(server: &mut Server) -> Self {
        Self { fates: server.exchange.fates(), segment: server.exchange.segment() }
    }

    /// The client waits for nothing, whatever of ours is not answered.
    fn is_settled(&self) -> bool {
        self.fates.owed.is_empty() && self.segment == Segment::None
    }

    /// The same for a client that is to be in no block, whatever happened to it.
    pub(super) fn outside_of_a_block(mut self) -> Self {
        self.fates.last.in_block = false;
        self.fates.owed.iter_mut().for_each(|fate| fate.in_block = false);
        self
    }
}

impl Session {
    /// The host of a server may be gone. If it is the one that the session is linked to, that is lost.
    pub(super) fn on_stranded(&mut self, cx: &mut TaskContext<'_>) -> Result<(), End> {
        let Link::Linked(linked) = &self.link else { return Ok(()) };
        let server = linked.checkout.peek();
        if server.is_some_and(|server| self.pool.is_stranded(&server.record)) {
            return self.on_server_lost(cx);
        }
        Ok(())
    }

    /// The session idles, and has a server to itself that may be at a replica though there is a primary again: all
    /// that it writes would be refused for as long as it lasts.
    pub(super) fn on_misplaced(&self) -> Result<(), End> {
        let Link::Linked(linked) = &self.link else { return Ok(()) };
        let server = linked.checkout.peek();
        if server.is_none_or(|server| !self.pool.is_misplaced(&server.record)) {
            return Ok(());
        }
        let message = ClientMessage::new(
            sqlstate::ADMIN_SHUTDOWN,
            "the session is at a replica, and there is a primary again",
        )
        .hint("Connect again.");
        Err(End::fatal(Fault::Server, message))
    }

    /// A server refused a write: it may be a primary no more. Who reads is refused all the time.
    pub(super) fn on_read_only(&self) {
        let Link::Linked(linked) = &self.link else { return };
        if let Some(server) = linked.checkout.peek()
            && self.pool.mode != Mode::ReadOnly
        {
            self.pool.host_of(&server.record).doubt(Instant::now());
        }
    }

    /// The server is gone. Ends the link, and tells the client what that means for it.
    pub(super) fn on_server_lost(&mut self, cx: &mut TaskContext<'_>) -> Result<(), End> {
        let Some(mut linked) = self.take_linked() else { return Ok(()) };
        let untold = linked.again.as_mut().map(|again| again.take_untold()).unwrap_or_default();
        let mut out = Vec::new();
        self.put_held(&mut linked, &mut out);
        let again = if out.is_empty() { self.take_again(&mut linked) } else { None };
        if again.is_none() {
            out.splice(..0, untold);
        }
        self.disown(&std::mem::take(&mut linked.doubts));
        let Linked { mut checkout, last_words, is_told, server_rest, .. } = *linked;
        let Some(server) = checkout.server() else { return Ok(()) };
        let under_way = UnderWay::of(server);
        self.prepared.abandon(server);
        tracing::warn!(client = self.record().id, domain = %self.record().domain,
            host = %server.record.host, pid = server.record.key.process_id,
            words = last_words.as_ref().map(|words| words.message.as_str()),
            "a server was lost under a client");
        self.pool.host_of(&server.record).alert.notify_one();
        if last_words.as_deref().is_none_or(ends_all) {
            self.pool.on_lost(&server.record, Instant::now());
        }
        checkout.close(CloseReason::Lost);
        if is_told {
            return Err(End::ServerEnded);
        }
        self.pool.purge_dead();
        if server_rest.is_cut() {
            return Err(End::Cut("the server was lost in the middle of a message"));
        }
        if self.is_session_mode() {
            if last_words.is_some() {
                return Err(End::ServerEnded);
            }
            // The session's state is gone with its server.
            let message = session_lost_message(&under_way);
            return Err(End::fatal(Fault::Server, message));
        }
        if let Some(words) = last_words.as_deref().filter(|words| is_of_the_client(words)) {
            return Err(End::fatal(Fault::Client, words.clone()));
        }
        if let Some(again) = again {
            self.send_again(*again);
            return self.take_inbox(cx);
        }
        self.repeated = 0;
        self.put_loss(&under_way, |fate| lost_message(fate, last_words.as_deref()), &mut out);
        if !out.is_empty() {
            self.send_to_client(&out, cx)?;
        }
        self.take_inbox(cx)
    }

    /// Closes the server, which undoes what was under way on it, for the reason that `message` gives.
    /// The session goes on if it can.
    pub(super) fn give_up_server(&mut self, message: &ClientMessage) -> Result<(), End> {
        let mut out = Vec::new();
        self.put_given_up(message, &mut out)?;
        self.outbox.extend_from_slice(&out);
        Ok(())
    }

    fn put_given_up(&mut self, message: &ClientMessage, out: &mut Vec<u8>) -> Result<(), End> {
        let Some(mut linked) = self.take_linked() else { return Ok(()) };
        self.put_held(&mut linked, out);
        let Linked { mut checkout, server_rest, .. } = *linked;
        let Some(server) = checkout.server() else { return Ok(()) };
        let under_way = UnderWay::of(server);
        self.prepared.abandon(server);
        checkout.close(CloseReason::Timeout);
        if server_rest.is_cut() {
            return Err(End::Cut("its server was taken from it in the middle of a message"));
        }
        if self.is_session_mode() {
            let message = doubting(message.clone(), under_way.fates.overall());
            return Err(End::fatal(Fault::Proxy, message));
        }
        self.put_loss(&under_way, |fate| doubting(message.clone(), fate), out);
        Ok(())
    }

    /// A block was opened where none may be: its server is closed, which undoes it. What came behind
    /// the BEGIN has the same end.
    pub(super) fn refuse_block(&mut self, batch: &mut Batch<'_>) {
        let Some(linked) = self.take_linked() else { return };
        let Linked { mut checkout, .. } = *linked;
        let Some(server) = checkout.server() else { return };
        let behind = UnderWay::of(server).outside_of_a_block();
        self.prepared.abandon(server);
        checkout.close(CloseReason::Refused);
        let message = ClientMessage::new(
            sqlstate::FEATURE_NOT_SUPPORTED,
            "transaction blocks not allowed in statement pooling mode",
        )
        .hint("Use pool_mode = \"transaction\" for this domain or user.");
        batch.gather();
        self.undo_settings(batch.out);
        // In the place of the server's own ReadyForQuery.
        self.put_error(batch.out, Fault::Client, &message, Some(TxStatus::Idle));
        self.put_loss(&behind, |fate| doubting(message.clone(), fate), batch.out);
        // Nothing of the server's is left to take.
        batch.at = batch.data.len();
        batch.pass_from = batch.at;
    }

    /// A statement was prepared anew and found to be another than its client was told, when it had been
    /// sent already what runs it: its server is closed, which undoes what can be undone.
    pub(super) fn cut_off(&mut self, batch: &mut Batch<'_>, described: &Describes) {
        let Some(linked) = self.take_linked() else { return };
        let Linked { mut checkout, .. } = *linked;
        let Some(server) = checkout.server() else { return };
        let under_way = UnderWay::of(server);
        self.prepared.abandon(server);
        checkout.close(CloseReason::Refused);
        batch.gather();
        self.put_loss(&under_way, outdated_message, batch.out);
        // Nothing of the server's is left to take.
        batch.at = batch.data.len();
        batch.pass_from = batch.at;
        if !under_way.fates.overall().may_commit {
            self.renew(&described.name, &described.statement);
        }
    }

    /// The client's settings could not be put on a server: its statement must not run under others.
    pub(super) fn on_settings_refused(
        &mut self,
        batch: &mut Batch<'_>,
        message: &ClientMessage,
    ) -> Result<Option<Verdict>, End> {
        let is_begin = matches!(&self.link, Link::Linked(linked)
            if linked.checkout.peek().is_some_and(|server| server.exchange.is_at_presumed()));
        if is_begin {
            // What was sent behind it runs outside of the block that its client believes in.
            batch.gather();
            return self.put_given_up(message, batch.out).map(|()| None);
        }
        if message.sqlstate == sqlstate::QUERY_CANCELED {
            // The cancel was meant for what the client had sent behind it (pitfall P24).
            let is_overdue = matches!(&self.link, Link::Linked(l) if l.cancel_sent.is_some());
            let overdue = self.rules.query_timeout.filter(|_| is_overdue).map(query_took_too_long);
            let message = overdue.as_ref().unwrap_or(message);
            batch.gather();
            return self.put_given_up(message, batch.out).map(|()| None);
        }
        self.close_server(CloseReason::Refused);
        Err(End::fatal(Fault::Client, message.clone()))
    }

    /// Appends what the client is told, and leaves a stand-in for what it is still to be told.
    pub(super) fn put_loss(
        &mut self,
        under_way: &UnderWay,
        message: impl Fn(Fate) -> ClientMessage,
        out: &mut Vec<u8>,
    ) {
        self.undo_settings(out);
        self.undo_mode();
        let Fates { owed, last } = &under_way.fates;
        if under_way.is_settled() {
            if last.in_block {
                // An unasked error would be taken for the answer to the next request (P91).
                let message = message(*last);
                error_response::put(out, Severity::Warning, &message);
                self.link = Link::StandIn(Box::new(StandIn::failed_block(Some(message), false)));
            }
            return;
        }
        for fate in owed {
            let status = if fate.in_block { TxStatus::Failed } else { TxStatus::Idle };
            self.put_error(out, Fault::Server, &message(*fate), Some(status));
        }
        // The rest of a segment is taken up to its Sync; its error may have been told already.
        let skipping = under_way.segment != Segment::None;
        if under_way.segment == Segment::Open {
            self.put_error(out, Fault::Server, &message(*last), None);
        }
        if last.in_block {
            self.link = Link::StandIn(Box::new(StandIn::failed_block(None, skipping)));
        } else if skipping {
            self.link = Link::StandIn(Box::new(StandIn::skipping()));
        }
    }

    /// A frame of a client whose server we stand in for.
    pub(super) fn on_frame_stand_in(
        &mut self,
        batch: &mut Batch<'_>,
        frame: Frame<'_>,
        cx: &mut TaskContext<'_>,
    ) -> Result<Next, End> {
        let tag = frame.head.tag;
        if !may_begin(frame) {
            return Ok(Next::Hold);
        }
        if tag == b'X' {
            return Err(End::ClientLeft);
        }
        let message = match tag {
            b'Q' => Message::Query(classify(frontend::query_text(frame.body))),
            b'F' => Message::FunctionCall,
            b'S' => Message::Sync,
            b'P' => Message::Parse(self.take_parse(frame.body)),
            b'B' => Message::Bind(self.traits_of(frontend::bind(frame.body).map(|b| b.statement))),
            b'D' => match frontend::named(frame.body) {
                Some(Named { target: Target::Statement, name }) => {
                    Message::DescribeStatement(self.traits_of(Some(name)))
                }
                Some(_) | None => Message::DescribePortal,
            },
            b'E' => Message::Execute,
            b'C' => Message::Close,
            _ => Message::Ignored,
        };
        let mut out = Vec::new();
        if let Link::StandIn(stand_in) = &mut self.link {
            let taken = stand_in.answer(message, &mut out);
            if stand_in.is_over() {
                self.link = Link::Free;
            }
            self.note_statement(tag, frame.body, taken);
        }
        self.client_rest = frame.head.len - frame.available;
        batch.swallow(frame.available);
        if !out.is_empty() {
            self.idle_since = Instant::now();
            self.send_to_client(&out, cx)?;
        }
        Ok(Next::Go)
    }

    /// Keeps the client's statements in step with what it was answered.
    fn note_statement(&mut self, tag: u8, body: &[u8], taken: Taken) {
        match (tag, taken) {
            // Either ends the unnamed statement, whatever becomes of itself.
            (b'Q', Taken::Done | Taken::Refused) => self.prepared.unnamed = None,
            (b'P', Taken::Done | Taken::Refused) => {
                let Some(parse) = frontend::parse(body) else { return };
                if parse.name.is_empty() {
                    self.prepared.unnamed = None;
                }
                if taken == Taken::Done {
                    let settings = Arc::clone(&self.settings);
                    let statement = self.context.store.private(parse.rest, Some(settings));
                    self.prepared.note_parse(parse.name, statement);
                }
            }
            (b'C', Taken::Done) => match frontend::named(body) {
                Some(Named { target: Target::Statement, name: b"" }) => {
                    self.prepared.unnamed = None;
                }
                Some(Named { target: Target::Statement, name }) => {
                    self.prepared.remove(name);
                }
                Some(_) | None => {}
            },
            _ => {}
        }
    }

    /// What the statement of a Parse does; `None` if there can be none of that name, or no more.
    fn take_parse(&mut self, body: &[u8]) -> Option<Traits> {
        let parse = frontend::parse(body)?;
        if !parse.name.is_empty() {
            if self.prepared.find(parse.name).is_some() {
                return None;
            }
            let max = self.context.config.listen.max_statements_per_client;
            if let (Err(message), Link::StandIn(stand_in)) =
                (self.prepared.check_room(max), &mut self.link)
            {
                stand_in.refuse_next(message);
                return None;
            }
        }
        Some(classify(parse.text))
    }

    /// What the client's statement of that name does; `None` if it has none.
    fn traits_of(&self, name: Option<&[u8]>) -> Option<Traits> {
        self.prepared.statement(name?).map(|statement| statement.traits())
    }
}

/// What a client is told whose server is gone.
fn lost_message(fate: Fate, words: Option<&ClientMessage>) -> ClientMessage {
    let message = if fate.may_commit {
        ClientMessage::new(
            sqlstate::OUTCOME_UNKNOWN,
            "the server connection was lost; whether the statement took effect is unknown",
        )
        .hint("Look before doing it again.")
    } else {
        ClientMessage::new(
            sqlstate::CONNECTION_FAILURE,
            "the server connection was lost; the transaction is rolled back",
        )
    };
    match words {
        Some(words) => message.detail(format!(
            "The server said: {} ({})",
            words.message,
            words.sqlstate.as_str()
        )),
        None => message,
    }
}

/// What a client is told whose server was closed because it ran what the client would misread. A
/// driver may do again what fails in PostgreSQL's words.
fn outdated_message(fate: Fate) -> ClientMessage {
    if fate.may_commit {
        ClientMessage::new(
            sqlstate::OUTCOME_UNKNOWN,
            "what the statement takes or gives was changed past pgweir; whether it took effect is unknown",
        )
        .hint("Look before doing it again.")
    } else {
        outdated()
    }
}

/// True if the server went because the client broke the protocol: it would again.
fn is_of_the_client(words: &ClientMessage) -> bool {
    words.sqlstate == sqlstate::PROTOCOL_VIOLATION
}

/// What a client is told whose session ends with a server that went without a word.
fn session_lost_message(under_way: &UnderWay) -> ClientMessage {
    let overall = under_way.fates.overall();
    if under_way.is_settled() && !overall.in_block {
        return ClientMessage::new(sqlstate::CONNECTION_FAILURE, "the server connection was lost")
            .detail("In session mode the state of the session is gone with its server.");
    }
    lost_message(overall, None)
}

/// `message` with what is true of a server that was given up in the middle of something.
pub(super) fn doubting(message: ClientMessage, fate: Fate) -> ClientMessage {
    if fate.may_commit {
        message.detail("Whether the statement took effect is unknown.")
    } else {
        message
    }
}
