//! A server lost under a client: what the client is told, and how the session goes on.

use std::task::Context as TaskContext;

use super::batch::Batch;
use super::from_client::{Frame, Next, may_begin};
use super::link::{InFlight, Link, Linked};
use super::serve::{End, Session};
use super::stand_in::{Message, StandIn};
use crate::error::{ClientMessage, Fault};
use crate::server::Server;
use crate::server::exchange::{Segment, Verdict};
use crate::sql::{Traits, classify};
use crate::telemetry::counters::CloseReason;
use crate::wire::backend::TxStatus;
use crate::wire::error_response::{self, Severity};
use crate::wire::{frontend, sqlstate};

/// What was under way when the server was lost.
#[derive(Debug, Clone, Copy)]
pub(super) struct UnderWay {
    pub(super) tx: TxStatus,
    /// `ReadyForQuery` messages that the client is owed.
    pub(super) owed: usize,
    /// What has no Sync behind it yet.
    pub(super) segment: Segment,
    /// Nothing at all is owed, or half said.
    pub(super) is_settled: bool,
    pub(super) may_commit: bool,
}

impl UnderWay {
    pub(super) fn of(server: &Server, in_flight: InFlight) -> Self {
        Self {
            tx: server.exchange.tx(),
            owed: server.exchange.owed_ready(),
            segment: server.exchange.segment(),
            is_settled: server.exchange.is_settled(),
            may_commit: in_flight.may_commit,
        }
    }
}

impl Session {
    /// The server is gone. Ends the link, and tells the client what that means for it.
    pub(super) fn on_server_lost(&mut self, cx: &mut TaskContext<'_>) -> Result<(), End> {
        let Some(linked) = self.take_linked() else { return Ok(()) };
        let Linked { mut checkout, last_words, server_rest, in_flight, .. } = *linked;
        let Some(server) = checkout.server() else { return Ok(()) };
        let under_way = UnderWay::of(server, in_flight);
        self.prepared.abandon(server);
        let is_cut = server_rest.is_cut() || self.client_rest > 0;
        tracing::warn!(client = self.record().id, domain = %self.record().domain,
            host = %self.pool.host.addr, pid = server.record.key.process_id,
            words = last_words.as_ref().map(|words| words.message.as_str()),
            "a server was lost under a client");
        checkout.close(CloseReason::Lost);
        self.pool.purge_dead();
        if is_cut {
            return Err(End::Cut("the server was lost in the middle of a message"));
        }
        if self.is_session_mode() {
            if last_words.is_some() {
                return Err(End::ServerEnded);
            }
            // The session's state is gone with its server.
            let message = lost_message(under_way, None);
            return Err(End::Fatal { fault: Fault::Server, message });
        }
        self.tell_loss(under_way, last_words.as_ref(), cx)
    }

    /// Closes the server, which undoes what was under way on it, for the reason that `message` gives.
    /// The session goes on if it can.
    pub(super) fn give_up_server(&mut self, message: ClientMessage) -> Result<(), End> {
        let Link::Linked(mut linked) = std::mem::replace(&mut self.link, Link::Free) else {
            return Ok(());
        };
        let in_flight = linked.in_flight;
        let Some(server) = linked.checkout.server() else { return Ok(()) };
        let under_way = UnderWay::of(server, in_flight);
        self.prepared.abandon(server);
        let message = if under_way.may_commit && !under_way.is_settled {
            message.detail("Whether the statement took effect is unknown.")
        } else {
            message
        };
        let is_cut = linked.server_rest.is_cut() || self.client_rest > 0;
        linked.checkout.close(CloseReason::Timeout);
        if is_cut {
            return Err(End::Cut("its server was taken from it in the middle of a message"));
        }
        if self.is_session_mode() {
            return Err(End::Fatal { fault: Fault::Proxy, message });
        }
        let mut out = Vec::new();
        self.put_loss(under_way, message, &mut out);
        self.outbox.extend_from_slice(&out);
        Ok(())
    }

    /// The client's settings could not be put on a server: its statement must not run under others.
    pub(super) fn on_settings_refused(
        &mut self,
        message: &ClientMessage,
    ) -> Result<Option<Verdict>, End> {
        if message.sqlstate == sqlstate::QUERY_CANCELED {
            // The cancel was meant for what the client had sent behind it (pitfall P24).
            return self.give_up_server(message.clone()).map(|()| None);
        }
        self.close_server(CloseReason::Refused);
        Err(End::Fatal { fault: Fault::Client, message: message.clone() })
    }

    /// Goes on after a loss: by what was under way.
    fn tell_loss(
        &mut self,
        under_way: UnderWay,
        words: Option<&ClientMessage>,
        cx: &mut TaskContext<'_>,
    ) -> Result<(), End> {
        let mut out = Vec::new();
        self.put_loss(under_way, lost_message(under_way, words), &mut out);
        if !out.is_empty() {
            self.send_to_client(&out, cx)?;
        }
        self.take_inbox(cx)
    }

    /// Appends what the client is told, and leaves a stand-in for what it is still to be told.
    pub(super) fn put_loss(
        &mut self,
        under_way: UnderWay,
        message: ClientMessage,
        out: &mut Vec<u8>,
    ) {
        let in_block = under_way.tx != TxStatus::Idle && !under_way.may_commit;
        if under_way.is_settled {
            if in_block {
                // An unasked error would be taken for the answer to the next request (P91).
                error_response::put(out, Severity::Warning, &message);
                self.link = Link::StandIn(Box::new(StandIn::failed_block(Some(message), false)));
            }
            return;
        }
        let status = if in_block { TxStatus::Failed } else { TxStatus::Idle };
        for _ in 0..under_way.owed {
            self.put_error(out, Fault::Server, &message, Some(status));
        }
        // The rest of a segment is taken up to its Sync; its error may have been told already.
        let skipping = under_way.segment != Segment::None;
        if under_way.segment == Segment::Open {
            self.put_error(out, Fault::Server, &message, None);
        }
        if in_block {
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
        if tag == b'X' {
            return Err(End::ClientLeft);
        }
        if !matches!(tag, b'Q') && !may_begin(frame) {
            return Ok(Next::Hold);
        }
        let message = match tag {
            b'Q' => Message::Query(classify(frontend::query_text(frame.body))),
            b'F' => Message::FunctionCall,
            b'S' => Message::Sync,
            b'P' => Message::Parse(self.note_parse(frame.body)),
            b'B' => Message::Bind(self.traits_of(frame.body)),
            b'D' if frame.body.first() == Some(&b'S') => Message::DescribeStatement,
            b'D' => Message::DescribePortal,
            b'E' => Message::Execute,
            b'C' => Message::Close,
            _ => Message::Ignored,
        };
        let mut out = Vec::new();
        if let Link::StandIn(stand_in) = &mut self.link {
            stand_in.answer(message, &mut out);
            if stand_in.is_over() {
                self.link = Link::Free;
            }
        }
        self.client_rest = frame.head.len - frame.available;
        batch.swallow(frame.available);
        if !out.is_empty() {
            self.send_to_client(&out, cx)?;
        }
        Ok(Next::Go)
    }

    /// Notes a Parse that ends the block, the only one that succeeds here: its Bind comes next.
    fn note_parse(&mut self, body: &[u8]) -> Option<Traits> {
        let parse = frontend::parse(body)?;
        let traits = classify(parse.text);
        if traits.ends_block() {
            let statement = self.context.store.private(parse.rest);
            self.prepared.note_parse(parse.name, statement);
        }
        Some(traits)
    }

    /// What the statement of a Bind does; `None` if the client has none of that name.
    fn traits_of(&self, body: &[u8]) -> Option<Traits> {
        let bind = frontend::bind(body)?;
        let statement = if bind.statement.is_empty() {
            self.prepared.unnamed.as_ref()
        } else {
            self.prepared.find(bind.statement)
        };
        statement.map(|statement| statement.traits())
    }
}

/// What a client is told whose server is gone.
fn lost_message(under_way: UnderWay, words: Option<&ClientMessage>) -> ClientMessage {
    let message = if under_way.may_commit {
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
