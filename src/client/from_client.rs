//! What a client sends: stepped over, noted, and written on to the server.
//!
//! Frames go on as they are wherever they can. Where something has to come in between (settings to
//! carry, a `Parse` that the server lacks, a renamed `Bind`), everything is gathered in `out`, so
//! that it is one write in either case.

use std::task::Context as TaskContext;

use tokio::time::Instant;

use super::batch::Batch;
use super::begun;
use super::breach::{unknown, violation};
use super::link::{Deeds, InFlight, Link};
use super::memo::recall;
use super::names::{drop_unnamed, has_unnamed};
use super::naming::note_execute;
use super::ours::{may_parse_ours, not_alone};
use super::serve::{End, Session};
use crate::net::buffer::HOLD_LEN;
use crate::net::stream::send;
use crate::server::Server;
use crate::server::exchange::{Request, Verdict};
use crate::server::fate::Effect;
use crate::server::undo::Undo;
use crate::sql::Traits;
use crate::wire::backend::{self, TxStatus};
use crate::wire::frame::{HEAD, Head};
use crate::wire::frontend;

/// A frame of which at least the front is there.
#[derive(Clone, Copy)]
pub(super) struct Frame<'a> {
    pub(super) head: Head,
    /// As much of the body as is there.
    pub(super) body: &'a [u8],
    /// Bytes of the frame that are there, its head included.
    pub(super) available: usize,
}

impl Frame<'_> {
    pub(super) const fn is_whole(&self) -> bool {
        self.available == self.head.len
    }

    pub(super) const fn rest(&self) -> usize {
        self.head.len - self.available
    }
}

/// What to do after a frame was looked at.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Next {
    Go,
    /// More of it has to arrive, or a server to be lent, before it can be dealt with.
    Hold,
}

impl Session {
    /// Takes what can be taken of `data`; the number of bytes that were. The rest waits in the
    /// inbox, for more bytes or for a server.
    pub(super) fn take_from_client(
        &mut self,
        data: &[u8],
        out: &mut Vec<u8>,
        cx: &mut TaskContext<'_>,
    ) -> Result<usize, End> {
        let mut batch = Batch { data, at: 0, pass_from: 0, out };
        let stepped = self.step_over(&mut batch, cx);
        // What came before a violation is good, and goes on.
        self.send_to_server(&mut batch, cx);
        stepped?;
        let at = batch.at;
        self.keep_sent(data.get(..at).unwrap_or_default());
        self.keep_for_again(data.get(..at).unwrap_or_default());
        self.answer_made_up(cx)?;
        Ok(at)
    }

    fn step_over(&mut self, batch: &mut Batch<'_>, cx: &mut TaskContext<'_>) -> Result<(), End> {
        loop {
            if self.client_rest > 0 {
                let n = self.client_rest.min(batch.data.len() - batch.at);
                self.client_rest -= n;
                match self.link {
                    Link::Linked(_) => batch.pass(n),
                    Link::Free
                    | Link::Waiting(_)
                    | Link::Proving { .. }
                    | Link::Doubting(_)
                    | Link::StandIn(_) => {
                        batch.swallow(n);
                    }
                }
            }
            let rest = batch.data.get(batch.at..).unwrap_or_default();
            let head = match frontend::head(rest, self.context.config.listen.max_message) {
                Ok(Some(head)) => head,
                Ok(None) => return Ok(()),
                // It is refused for its type, whatever it says of its length.
                Err(error) if !is_known(error.tag()) && error.tag() != b'X' => {
                    Head { tag: error.tag(), len: HEAD }
                }
                Err(error) => return self.leave(batch, violation(&error)),
            };
            let available = head.len.min(rest.len());
            let body = rest.get(HEAD..available).unwrap_or_default();
            let frame = Frame { head, body, available };
            let next = match self.link {
                Link::Free => self.on_frame_unlinked(batch, frame, cx)?,
                Link::Linked(_) => self.on_frame_linked(batch, frame)?,
                Link::StandIn(_) => self.on_frame_stand_in(batch, frame, cx)?,
                Link::Waiting(_) | Link::Proving { .. } | Link::Doubting(_) => Next::Hold,
            };
            if next == Next::Hold {
                return Ok(());
            }
        }
    }

    /// A frame while no server is linked: some need none.
    fn on_frame_unlinked(
        &mut self,
        batch: &mut Batch<'_>,
        frame: Frame<'_>,
        cx: &mut TaskContext<'_>,
    ) -> Result<Next, End> {
        self.settle_mode();
        match frame.head.tag {
            // What is still to come of it would reset the connection, and what was said last be lost.
            b'X' if frame.is_whole() => return Err(End::ClientLeft),
            b'X' => return Ok(Next::Hold),
            // The end of nothing: a transaction that was none.
            b'S' if frame.head.len == HEAD && self.begun.is_none() => {
                let mut ready = Vec::with_capacity(6);
                backend::put_ready(&mut ready, TxStatus::Idle);
                batch.swallow(frame.head.len);
                self.idle_since = Instant::now();
                self.keep_mode();
                self.send_to_client(&ready, cx)?;
                return Ok(Next::Go);
            }
            // A copy that has failed, or a Flush of nothing (pitfall P31).
            b'H' if frame.head.len > HEAD => {}
            b'H' | b'd' | b'c' | b'f' => {
                self.client_rest = frame.rest();
                batch.swallow(frame.available);
                return Ok(Next::Go);
            }
            b'Q' | b'P' | b'B' | b'D' | b'E' | b'C' | b'S' | b'F' => {}
            tag => return Err(unknown(tag)),
        }
        if !may_begin(frame) {
            return Ok(Next::Hold);
        }
        if let Some(next) = self.answer_ours(batch, frame, cx)? {
            return Ok(next);
        }
        if (self.begun.is_some() || begun::may_be(frame))
            && frame.is_whole()
            && let Some(next) = self.answer_without(batch, frame, cx)?
        {
            return Ok(next);
        }
        self.choose_pool(frame);
        if self.ask_for_server(Instant::now()) {
            return Ok(Next::Go);
        }
        Ok(match self.link {
            Link::StandIn(_) => Next::Go,
            Link::Free
            | Link::Waiting(_)
            | Link::Proving { .. }
            | Link::Doubting(_)
            | Link::Linked(_) => Next::Hold,
        })
    }

    fn on_frame_linked(&mut self, batch: &mut Batch<'_>, frame: Frame<'_>) -> Result<Next, End> {
        let tag = frame.head.tag;
        if !may_begin(frame) {
            return Ok(Next::Hold);
        }
        if tag == b'X' {
            return self.leave(batch, End::ClientLeft).map(|()| Next::Hold);
        }
        let shares = self.shares_statements();
        if let Link::Linked(linked) = &mut self.link
            && linked.holds(tag)
        {
            return Ok(Next::Hold);
        }
        if self.waits_for_answers(frame) {
            // A copy takes no notice of it, anything else does.
            batch.gather();
            frontend::put_flush(batch.out);
            return Ok(Next::Hold);
        }
        let is_plain = !self.is_particular && (tag != b'P' || !may_parse_ours(frame.body));
        self.begin_request(tag);
        self.put_due(batch);
        if !is_plain && let Some(next) = self.keep_back(batch, frame) {
            return Ok(next);
        }
        let Link::Linked(linked) = &mut self.link else { return Ok(Next::Hold) };
        let Some(server) = linked.checkout.server() else { return Ok(Next::Hold) };
        if !is_known(tag) {
            // The server ends the connection for it: its words are the client's.
            server.exchange.on_request(Request::Simple(Verdict::Forward), None);
            self.client_rest = frame.rest();
            batch.pass(frame.available);
            return Ok(Next::Go);
        }
        // Into a copy goes whatever comes: the server refuses what has no place there.
        let in_copy = server.exchange.takes_copy_data();
        match tag {
            b'Q' => {
                if let Some(next) = self.begin_query(batch, frame, in_copy) {
                    return Ok(next);
                }
            }
            b'S' => {
                server.exchange.on_request(Request::Sync, None);
                linked.has_unread = false;
            }
            b'E' => self.begin_execute(frame),
            // A Flush with a body breaks the protocol: it is answered like any such message.
            b'H' if frame.head.len > HEAD && !in_copy => {
                server.exchange.on_request(Request::Describe(Verdict::Forward), None);
            }
            b'H' | b'd' => {}
            b'c' | b'f' => server.exchange.on_request(Request::CopyEnd, None),
            b'F' => {
                server.is_dirty = true;
                linked.in_flight.changes_meaning = true;
                linked.in_flight.writes = true;
                linked.has_unread = false;
                server.exchange.on_run(Request::Simple(Verdict::Forward), Effect::Writes, None);
            }
            b'P' | b'B' | b'D' | b'C' if shares && !in_copy => {
                return self.on_statement_frame(batch, frame);
            }
            b'P' => return Ok(self.on_plain_parse(batch, frame, in_copy)),
            b'B' => self.on_plain_bind(frame),
            b'D' => server.exchange.on_request(Request::Describe(Verdict::Forward), None),
            b'C' => server.exchange.on_request(Request::Close(Verdict::Forward), None),
            _ => return Err(unknown(tag)),
        }
        self.client_rest = frame.rest();
        batch.pass(frame.available);
        self.follow(batch, tag);
        Ok(Next::Go)
    }

    /// Puts the BEGIN that was answered in front of what comes behind it, and settings back that a RESET has
    /// taken.
    fn put_due(&mut self, batch: &mut Batch<'_>) {
        if self.is_session_mode() {
            return;
        }
        let Link::Linked(linked) = &mut self.link else { return };
        let begun = self.begun.take();
        if let Some(again) = &mut linked.again {
            again.note(batch, begun);
        }
        if let Some(begin) = begun {
            begun::put(begin, linked, batch);
        }
        linked.restore_due(batch, &self.startup, &self.settings);
    }

    /// What a message of whatever kind means, or what has to come in front of it, is known later.
    fn waits_for_answers(&mut self, frame: Frame<'_>) -> bool {
        if self.is_particular && self.waits_for_boundary(frame.head.tag) {
            return true;
        }
        if let Link::Linked(linked) = &mut self.link {
            linked.awaits.answers = linked.is_put_off(frame.head.tag);
            if linked.awaits.answers {
                return true;
            }
        }
        frame.head.tag == b'H' && frame.head.len > HEAD && self.must_await_answers(None)
    }

    /// Does what a message leads to besides its answer.
    fn follow(&mut self, batch: &mut Batch<'_>, tag: u8) {
        self.restore_behind(batch, tag);
        let affects = matches!(&self.link, Link::Linked(linked) if linked.affecting.is_some());
        if affects && matches!(tag, b'Q' | b'E') {
            self.make_way();
        }
    }

    fn begin_execute(&mut self, frame: Frame<'_>) {
        let Link::Linked(linked) = &mut self.link else { return };
        let Some(server) = linked.checkout.server() else { return };
        linked.in_flight.has_bound = true;
        let deeds = linked.portals.deeds(frame.body);
        linked.in_flight.run(deeds, server.exchange.tx());
        linked.restores.run();
        note_execute(&mut linked.naming, frame.body, server);
        server.exchange.on_run(Request::Execute, deeds.effect, None);
    }

    /// Notes a Query; `Some`: it does not go on as it is.
    fn begin_query(
        &mut self,
        batch: &mut Batch<'_>,
        frame: Frame<'_>,
        in_copy: bool,
    ) -> Option<Next> {
        let is_session_mode = self.is_session_mode();
        let text = frontend::query_text(frame.body);
        // One that breaks the protocol is refused before it does anything.
        let is_sound = !frame.is_whole() || text.len() + 1 == frame.body.len();
        let traits = frame.is_whole().then(|| recall(text));
        self.read_unread_before_query(batch, traits);
        if traits.is_some_and(Traits::names_statements)
            && self.shares_statements()
            && !in_copy
            && is_sound
            && let Some(next) = self.name_statements(batch, frame)
        {
            return Some(next);
        }
        if self.ours.is_some() || traits.is_some_and(Traits::names_ours) {
            if let Some(next) = self.take_ours(batch, frame) {
                return Some(next);
            }
            if traits.is_some_and(Traits::names_ours) && !in_copy {
                self.refuse_text(batch, frame, not_alone());
                return Some(Next::Go);
            }
        }
        if traits.is_some_and(Traits::affects_others) {
            self.note_affected(text);
        }
        let Link::Linked(linked) = &mut self.link else { return Some(Next::Hold) };
        let Some(server) = linked.checkout.server() else { return Some(Next::Hold) };
        let serial = server.exchange.next_serial();
        let may_drop = is_sound && has_unnamed(&self.prepared, server);
        let is_read = may_drop && !(frame.is_whole() && is_refused_unread(text, server));
        let undo = is_read.then(|| drop_unnamed(&mut self.prepared, server)).flatten();
        server.note_text(text);
        on_query(&mut linked.in_flight, server, traits, undo);
        if traits.is_none() {
            linked.restores.note_unread();
        }
        let traits = traits.unwrap_or_default();
        if traits.resets() && !is_session_mode && !in_copy {
            linked.restores.note(text, serial, true, true);
        }
        if server.exchange.has_undone() {
            // The server skips it, and what comes behind must know.
            self.undo();
        }
        self.alter();
        None
    }

    /// What others parse from now on waits for what this session alters, and is not what it was: known
    /// before it begins, and once more when it is done.
    pub(super) fn alter(&self) {
        if matches!(&self.link, Link::Linked(linked) if linked.in_flight.alters_results) {
            self.context.store.alter(&self.pool.database);
        }
    }

    /// Nothing comes behind this from the client: what it sent before is done and answered first, but for
    /// a copy, which gets no more data.
    fn leave(&mut self, batch: &mut Batch<'_>, end: End) -> Result<(), End> {
        let Link::Linked(linked) = &mut self.link else { return Err(end) };
        let may_be_left = linked.may_be_left();
        let Some(server) = linked.checkout.server() else { return Err(end) };
        // Whether it takes what it has got of a copy, it says at the end.
        let ends_copy = matches!(end, End::Fatal { .. })
            && server.exchange.copies_in()
            && !linked.has_ended_copy;
        if may_be_left && !ends_copy {
            return Err(end);
        }
        batch.gather();
        if ends_copy {
            linked.has_ended_copy = true;
            frontend::put_copy_fail(batch.out);
            server.exchange.on_request(Request::CopyEnd, None);
        }
        if !linked.is_leaving {
            linked.is_leaving = true;
            frontend::put_flush(batch.out);
        }
        Ok(())
    }

    /// Notes when a request begins.
    fn begin_request(&mut self, tag: u8) {
        let is_session_mode = self.is_session_mode();
        let Link::Linked(linked) = &mut self.link else { return };
        if matches!(tag, b'd' | b'c' | b'f' | b'H') {
            return;
        }
        let Some(server) = linked.checkout.server() else { return };
        if let Some(since) = linked.request_since {
            if server.exchange.is_held_open() {
                // What the client thought about is no time of the request's.
                let now = Instant::now();
                linked.request_since = Some(since + (now - linked.quiet_since));
                linked.quiet_since = now;
            }
            return;
        }
        let is_first = server.exchange.tx() == TxStatus::Idle && server.exchange.is_settled();
        linked.request_since = Some(if is_first && !is_session_mode {
            // The first request of a link began when the link did: a clock read less.
            linked.since
        } else {
            server.record.set_at_rest(false);
            Instant::now()
        });
        if let Some(begun) = linked.request_since.filter(|_| is_first) {
            linked.since = begun;
        }
    }

    /// Sends the batch, as one write if the socket takes it.
    fn send_to_server(&mut self, batch: &mut Batch<'_>, cx: &mut TaskContext<'_>) {
        let Link::Linked(linked) = &mut self.link else { return };
        let Some(server) = linked.checkout.server() else { return };
        if !batch.out.is_empty() {
            batch.gather();
        }
        let passed = batch.data.get(batch.pass_from..batch.at).unwrap_or_default();
        let bytes = if batch.out.is_empty() { passed } else { batch.out.as_slice() };
        if bytes.is_empty() || linked.broken_since.is_some() {
            return;
        }
        // A server that takes nothing more may still have something to say: its end is seen where
        // it is read from.
        if send(&mut server.stream, &mut server.outbox, bytes, cx).is_err() {
            linked.broken_since = Some(Instant::now());
            server.outbox = Vec::new();
        }
    }
}

/// False for what the protocol does not have.
const fn is_known(tag: u8) -> bool {
    matches!(tag, b'Q' | b'P' | b'B' | b'D' | b'E' | b'C' | b'F' | b'H' | b'S' | b'd' | b'c' | b'f')
}

/// True if enough of the frame is there to begin with it. Short ones are waited for; of long ones
/// the front is enough, but for those that must be known whole.
pub(super) fn may_begin(frame: Frame<'_>) -> bool {
    match frame.head.tag {
        _ if frame.is_whole() => true,
        b'd' => true,
        b'P' | b'D' | b'C' => false,
        b'B' if frame.available >= HOLD_LEN => true,
        b'B' => frontend::bind(frame.body).is_some(),
        _ => frame.available >= HOLD_LEN,
    }
}

/// True if the server refuses a text for its bytes: the unnamed statement survives that, as nothing of it
/// has begun. Known of UTF-8 alone: others accept almost all.
fn is_refused_unread(text: &[u8], server: &Server) -> bool {
    std::str::from_utf8(text).is_err() && server.parameters.value("client_encoding") == Some("UTF8")
}

/// Notes a simple query, of which a long one is known by its front only.
fn on_query(
    in_flight: &mut InFlight,
    server: &mut Server,
    traits: Option<Traits>,
    undo: Option<Undo>,
) {
    if let Some(traits) = traits {
        note_traits(in_flight, server, traits);
    } else {
        // What has not been seen may leave anything behind.
        server.is_dirty = true;
        in_flight.changes_meaning = true;
        in_flight.is_unseen = true;
    }
    let deeds = traits.map_or(Deeds::UNREAD, Deeds::of);
    in_flight.run(deeds, server.exchange.tx());
    server.exchange.on_run(Request::Simple(Verdict::Forward), deeds.effect, undo);
}

/// Notes what a statement may do.
pub(super) fn note_traits(in_flight: &mut InFlight, server: &mut Server, traits: Traits) {
    in_flight.add(traits);
    server.is_worn |= traits.outlives_discard();
    let leaves = traits.leaves_state() && !traits.sets_only_reported();
    // What is made where nobody knows which schema it goes to may be temporary.
    server.is_dirty |= leaves || (in_flight.moves && traits.alters_results());
}
