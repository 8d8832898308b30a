//! What a server sends: stepped over, noted where it matters, and written on to the client.
//!
//! Rows are never parsed: the five bytes of a frame's head are enough to step over it.

use std::task::{Context as TaskContext, Poll};
use std::time::Duration;

use tokio::time::Instant;

use super::batch::Batch;
use super::inbox::DEPTH_MAX;
use super::link::{LAST_WORDS, Link, Linked, Rest};
use super::made_up::put_made_up;
use super::refusal::Weighed;
use super::serve::{End, Session};
use crate::config::PoolMode;
use crate::net::buffer::{DESCRIPTION_LEN, HOLD_LEN, with_scratch};
use crate::net::stream::flush;
use crate::server::exchange::{CopyEnd, Request, Verdict};
use crate::sql::{TagState, state_of_tag};
use crate::telemetry::counters::Observed;
use crate::telemetry::slow::Answered;
use crate::wire::backend::{self, TxStatus};
use crate::wire::frame::{self, HEAD, Head};

/// What a server's bytes led to besides bytes for the client.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Read {
    Nothing,
    Bytes,
    /// The server closed the connection, or it broke.
    Lost,
}

impl Session {
    /// Moves what is left over for the server, and reads what it sends.
    pub(super) fn poll_server(&mut self, cx: &mut TaskContext<'_>) -> Result<bool, End> {
        let Link::Linked(linked) = &mut self.link else { return Ok(false) };
        let Some(server) = linked.checkout.server() else { return Ok(false) };
        let mut moved = false;
        match flush(&mut server.stream, &mut server.outbox, cx) {
            Ok(sent) => moved |= sent,
            Err(_) => {
                linked.broken_since = Some(Instant::now());
                server.outbox = Vec::new();
            }
        }
        // A client that does not take its answers holds its server, and nothing else (P74).
        if !self.outbox.is_empty() {
            return Ok(moved);
        }
        match self.read_server(cx)? {
            Read::Nothing => {}
            Read::Bytes => {
                moved = true;
                self.resume(cx)?;
            }
            // What its own server said last reaches the client whole, however slowly it reads: the
            // end is seen again behind it.
            Read::Lost if self.is_session_mode() && !self.outbox.is_empty() => return Ok(true),
            Read::Lost => {
                self.on_server_lost(cx)?;
                return Ok(true);
            }
        }
        if let Link::Linked(linked) = &self.link
            && linked.is_leaving
            && linked.may_be_left()
            && self.outbox.is_empty()
        {
            // In the inbox is what says why, and what is to be done first.
            self.take_inbox(cx)?;
            moved = true;
        }
        // The client's part is at most what one read brought: its server need not wait for it (P74).
        if matches!(&self.link, Link::Linked(linked) if linked.is_done) {
            self.unlink();
            // What the client sent meanwhile begins a new exchange.
            self.take_inbox(cx)?;
        }
        Ok(moved)
    }

    /// Goes on with what waited for the answers to what was in front of it.
    fn resume(&mut self, cx: &mut TaskContext<'_>) -> Result<(), End> {
        if let Link::Linked(linked) = &mut self.link {
            let Some(server) = linked.checkout.peek() else { return Ok(()) };
            let is_answered = linked.awaits.answers && server.exchange.is_answered();
            let has_room = linked.awaits.room && server.exchange.depth() < DEPTH_MAX;
            if !is_answered && !has_room {
                return Ok(());
            }
            if !is_answered {
                return self.take_inbox(cx);
            }
            linked.awaits.answers = false;
            linked.in_flight.ran();
        }
        // Without a server, too: what waited for one that was given up is answered in its place.
        self.take_inbox(cx)
    }

    fn read_server(&mut self, cx: &mut TaskContext<'_>) -> Result<Read, End> {
        with_scratch(|scratch| {
            let Link::Linked(linked) = &mut self.link else { return Ok(Read::Nothing) };
            let Some(server) = linked.checkout.server() else {
                return Ok(Read::Nothing);
            };
            if linked.is_done && server.inbox.is_empty() {
                return Ok(Read::Nothing);
            }
            let n = match server.stream.poll_read(cx, &mut scratch.input) {
                Poll::Pending if linked.broken_since.is_some_and(is_silent) => {
                    return Ok(Read::Lost);
                }
                Poll::Pending => return Ok(Read::Nothing),
                Poll::Ready(Ok(0) | Err(_)) => return Ok(Read::Lost),
                Poll::Ready(Ok(n)) => n,
            };
            server.record.note_read();
            let read = scratch.input.get(..n).unwrap_or_default();
            if server.inbox.is_empty() {
                let taken = self.take_from_server(read, &mut scratch.output, cx)?;
                self.keep_for_server(read.get(taken..).unwrap_or_default());
            } else {
                let mut inbox = std::mem::take(&mut server.inbox);
                inbox.extend_from_slice(read);
                let taken = self.take_from_server(&inbox, &mut scratch.output, cx)?;
                self.keep_for_server(inbox.get(taken..).unwrap_or_default());
            }
            // Behind last words nothing comes but the end: what the client sends is for a stand-in.
            let has_ended =
                matches!(&self.link, Link::Linked(linked) if linked.last_words.is_some());
            Ok(if has_ended { Read::Lost } else { Read::Bytes })
        })
    }

    fn keep_for_server(&mut self, rest: &[u8]) {
        if let Link::Linked(linked) = &mut self.link
            && let Some(server) = linked.checkout.server()
        {
            server.inbox = rest.to_vec();
        }
    }

    /// Takes what can be taken of `data`, and sends the client its part; the number of bytes taken.
    fn take_from_server(
        &mut self,
        data: &[u8],
        out: &mut Vec<u8>,
        cx: &mut TaskContext<'_>,
    ) -> Result<usize, End> {
        let mut batch = Batch { data, at: 0, pass_from: 0, out };
        while self.step_over_frame(&mut batch)? {}
        if !batch.out.is_empty() {
            batch.gather();
        }
        let passed = batch.data.get(batch.pass_from..batch.at).unwrap_or_default();
        let bytes = if batch.out.is_empty() { passed } else { batch.out.as_slice() };
        if !bytes.is_empty() && !self.withholds(bytes) {
            self.send_to_client(bytes, cx)?;
        }
        Ok(batch.at)
    }

    /// Deals with the next frame, or with the rest of one; false if there is none to deal with yet.
    fn step_over_frame(&mut self, batch: &mut Batch<'_>) -> Result<bool, End> {
        let Link::Linked(linked) = &mut self.link else { return Ok(false) };
        if linked.server_rest.len > 0 {
            let n = linked.server_rest.len.min(batch.data.len() - batch.at);
            linked.server_rest.len -= n;
            batch.step(n, linked.server_rest.verdict);
            linked.on_frame_over(batch);
            return Ok(linked.server_rest.len == 0);
        }
        let rest = batch.data.get(batch.at..).unwrap_or_default();
        let limit = self.context.config.listen.max_message;
        let head = match frame::head(rest, limit) {
            Ok(Some(head)) => head,
            Ok(None) => return Ok(false),
            Err(error) => return self.on_bad_frame(&error),
        };
        if is_row(head) {
            linked.step_over_rows(batch, limit);
            return Ok(true);
        }
        let available = head.len.min(rest.len());
        // The front of a long one is enough, for what is looked at stands there.
        if available < head.len.min(linked.hold_len(head)) {
            return Ok(false);
        }
        let body = rest.get(HEAD..available).unwrap_or_default();
        let verdict = match self.hear_last_words(head.tag, body) {
            None => self.on_answer(batch, head.tag, body, available == head.len)?,
            last => last,
        };
        let Some(verdict) = verdict else { return Ok(false) };
        let Link::Linked(linked) = &mut self.link else { return Ok(false) };
        batch.step(available, verdict);
        linked.server_rest = Rest { len: head.len - available, verdict };
        linked.on_frame_over(batch);
        Ok(true)
    }

    /// Applies an answer; `None` if the link is over.
    fn on_answer(
        &mut self,
        batch: &mut Batch<'_>,
        tag: u8,
        body: &[u8],
        is_whole: bool,
    ) -> Result<Option<Verdict>, End> {
        let is_session_mode = self.is_session_mode();
        let Link::Linked(linked) = &mut self.link else { return Ok(None) };
        let Some(server) = linked.checkout.server() else { return Ok(None) };
        if server.exchange.owes_made_up_first() {
            put_made_up(server, batch);
        }
        let is_own = server.exchange.is_at_own();
        let serial = server.exchange.head_serial();
        let mut copy_end = CopyEnd::Failed;
        if tag == b'E' {
            match self.weigh_error(batch, body, serial, is_own)? {
                Weighed::Applies(end) => copy_end = end,
                Weighed::Settled(verdict) => return Ok(Some(verdict)),
                Weighed::Unlinked => return Ok(None),
            }
        }
        let Link::Linked(linked) = &mut self.link else { return Ok(None) };
        let Some(server) = linked.checkout.server() else { return Ok(None) };
        let ready = body.first().copied().and_then(TxStatus::from_byte);
        let applied = match tag {
            b'E' => server.exchange.on_error(copy_end),
            _ => server.exchange.on_answer(tag, ready),
        };
        let verdict = match applied {
            Ok(verdict) => verdict,
            Err(violation) => return self.on_violation(&violation.to_string()).map(|_| None),
        };
        let verdict = match tag {
            b'S' if is_whole && is_session_mode => {
                self.on_own_parameter(body)?;
                verdict
            }
            b'2' => {
                linked.first_use_works(serial);
                verdict
            }
            b'C' if is_session_mode => {
                self.traffic.queries.increment();
                linked.note_done(body, serial);
                verdict
            }
            b'S' if is_whole => self.on_parameter(body, serial, is_own, verdict),
            b'C' if !is_own => {
                self.on_complete(body, serial);
                verdict
            }
            b'E' => self.on_error(batch, body, is_whole, serial, verdict),
            b'Z' if self.record().replication.is_some() => {
                self.on_replication_ready();
                verdict
            }
            b'Z' if is_own => {
                self.on_own_ready(batch, serial);
                verdict
            }
            b'Z' => self.on_ready(batch, serial, verdict),
            b'I' | b's' => {
                self.traffic.queries.increment();
                verdict
            }
            b't' | b'T' | b'n' if !self.on_description(batch, tag, body, is_whole) => {
                return Ok(None);
            }
            b't' | b'T' | b'n' if verdict == Verdict::Forward => {
                self.pass_description(batch, tag, body, is_whole, serial)
            }
            _ => verdict,
        };
        Ok(Some(verdict))
    }

    /// A statement is done.
    fn on_complete(&mut self, body: &[u8], serial: u64) {
        self.traffic.queries.increment();
        let Link::Linked(linked) = &mut self.link else { return };
        linked.note_done(body, serial);
        if let Some(ours) = &mut self.ours {
            ours.on_tag(backend::command_tag(body));
        }
        let Some(server) = linked.checkout.server() else { return };
        match state_of_tag(backend::command_tag(body)) {
            // A cursor that outlives its transaction is known by its text.
            TagState::None
            | TagState::DeclareCursor
            | TagState::Unlisten
            | TagState::DiscardTemp => {}
            TagState::Deallocate => {
                let naming = linked.naming.as_mut();
                match naming.and_then(|naming| naming.deallocated(serial)) {
                    Some(name) => {
                        server.statements.drop_own_name(&name);
                        self.prepared.deallocated(&name, server.id(), serial);
                    }
                    // Whose it was no text has told: it may be missed by others.
                    None => server.is_dirty = true,
                }
            }
            TagState::Set => {
                linked.restores.done(serial);
                // No text was read that says so: what it has set may be anything.
                server.is_dirty |= !linked.in_flight.sets;
            }
            TagState::Alter => linked.in_flight.alters_results |= linked.in_flight.is_unseen,
            TagState::Reset => {
                linked.reset_seen = true;
                linked.restores.done(serial);
            }
            TagState::DiscardAll => {
                linked.reset_seen = true;
                linked.restores.done(serial);
                server.statements.deallocated_all(serial);
                self.prepared.deallocated_all(server.id(), serial);
            }
            TagState::DeallocateAll => {
                server.statements.deallocated_all(serial);
                self.prepared.deallocated_all(server.id(), serial);
            }
            TagState::Load => server.is_worn = true,
            TagState::Prepare | TagState::Listen | TagState::Do => server.is_dirty = true,
        }
    }

    /// The end of a request. The server goes back if the exchange is over.
    fn on_ready(&mut self, batch: &mut Batch<'_>, serial: u64, verdict: Verdict) -> Verdict {
        self.settle_unfollowed(batch, serial);
        self.finish_affected(serial);
        let Link::Linked(linked) = &mut self.link else { return verdict };
        linked.settle_naming(serial);
        let Some(server) = linked.checkout.server() else { return verdict };
        let tx = server.exchange.tx();
        if linked.in_flight.alters_results {
            self.context.store.alter(&self.pool.database);
        }
        if server.exchange.depth() == 0 {
            linked.in_flight.answered(tx);
            linked.restores.answered();
            linked.first_use = None;
        }
        linked.cancel_sent = None;
        linked.ends_since = None;
        server.record.cancels().withdraw();
        if tx == TxStatus::Idle {
            self.traffic.transactions.increment();
        } else if self.rules.pool_mode == PoolMode::Statement {
            self.refuse_block(batch);
            return verdict;
        }
        // What follows is the client's, but it does not know of it.
        if linked.restores.hold(serial, tx) {
            return Verdict::Swallow;
        }
        if tx == TxStatus::Idle {
            self.keep_settings();
            self.keep_mode();
        }
        self.finish_request(serial);
        verdict
    }

    /// The client has its answer to the request that ends with the message `serial`. The server goes back
    /// if it waits for no other.
    pub(super) fn finish_request(&mut self, serial: u64) {
        let is_session_mode = self.is_session_mode();
        let Link::Linked(linked) = &mut self.link else { return };
        let Some(server) = linked.checkout.server() else { return };
        let tx = server.exchange.tx();
        let is_done = server.exchange.is_settled();
        linked.replacements.drop_before(serial + 1);
        let now = Instant::now();
        linked.quiet_since = now;
        // What was sent ahead begins now.
        let since = std::mem::replace(&mut linked.request_since, (!is_done).then_some(now));
        let took = since.map(|since| now.saturating_duration_since(since));
        let observed = took.map(Observed::of);
        if tx == TxStatus::Idle {
            // As a rule the request is all of its transaction.
            let whole = observed.filter(|_| since == Some(linked.since));
            let whole =
                whole.unwrap_or_else(|| Observed::of(now.saturating_duration_since(linked.since)));
            self.traffic.transaction_duration.add(whole);
            linked.since = now;
            linked.is_done = is_done && !is_session_mode;
        } else if let Some(server) = linked.checkout.peek().filter(|_| is_done) {
            server.record.set_at_rest(true);
        }
        if let (Some(took), Some(observed)) = (took, observed) {
            self.traffic.query_duration.add(observed);
            if let Some(server) = linked.checkout.peek() {
                self.pool.note_latency(&server.record, took);
            }
            self.log_request(took, serial);
        }
    }

    fn log_request(&mut self, took: Duration, serial: u64) {
        let Link::Linked(linked) = &mut self.link else { return };
        let Some(server) = linked.checkout.server() else { return };
        let text = server.texts.answered(serial);
        if !self.context.slow.wants(took) {
            return;
        }
        let record = &self.registered.record;
        self.context.slow.record(&Answered {
            duration: took,
            domain: &record.domain,
            user: &record.user,
            application_name: &record.application_name(),
            client_id: record.id,
            text: &String::from_utf8_lossy(text),
        });
    }
}

const fn is_row(head: Head) -> bool {
    matches!(head.tag, b'D' | b'd')
}

/// Nothing came behind the write that failed at `since`, not even the end.
fn is_silent(since: Instant) -> bool {
    since.elapsed() >= LAST_WORDS
}

impl Linked {
    /// The client has all its answers, and has not said that this was all.
    pub(super) fn on_held_open(&mut self) {
        self.quiet_since = Instant::now();
        self.cancel_sent = None;
        if let Some(server) = self.checkout.peek() {
            server.record.cancels().withdraw();
        }
    }

    /// A statement is done.
    fn note_done(&mut self, body: &[u8], serial: u64) {
        if let Some(affecting) = &mut self.affecting {
            affecting.done(backend::command_tag(body), serial);
        }
    }

    /// As much of a message as has to be there before it is dealt with.
    fn hold_len(&self, head: Head) -> usize {
        match self.checkout.peek() {
            Some(server)
                if matches!(head.tag, b't' | b'T')
                    && head.len <= DESCRIPTION_LEN
                    && server.exchange.awaits_description() =>
            {
                DESCRIPTION_LEN
            }
            _ => HOLD_LEN,
        }
    }

    /// Steps over the rows that come next, the last of them maybe in part. They end nothing: what becomes
    /// of the first becomes of all.
    fn step_over_rows(&mut self, batch: &mut Batch<'_>, limit: usize) {
        let verdict = self.row_verdict(batch);
        let mut rest = batch.data.get(batch.at..).unwrap_or_default();
        let whole = rest.len();
        while let Ok(Some(head)) = frame::head(rest, limit)
            && is_row(head)
        {
            let Some(behind) = rest.get(head.len..) else {
                self.server_rest = Rest { len: head.len - rest.len(), verdict };
                rest = &[];
                break;
            };
            rest = behind;
        }
        batch.step(whole - rest.len(), verdict);
    }

    /// Rows belong to the request that is being answered.
    fn row_verdict(&mut self, batch: &mut Batch<'_>) -> Verdict {
        let Some(server) = self.checkout.server() else { return Verdict::Forward };
        match server.exchange.head() {
            Some(Request::Simple(verdict)) => verdict,
            Some(Request::MadeUp(_)) => {
                put_made_up(server, batch);
                Verdict::Forward
            }
            _ => Verdict::Forward,
        }
    }
}
