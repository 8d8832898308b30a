//! RESET on a server that is shared, and what a server reports of settings.
//!
//! A server of one's own goes back to what its client asked for at startup. On a shared one these
//! values were put on by `set_config`, and a RESET goes past them to the server's own. So a statement
//! of ours follows a client's RESET in the same write and puts them back before anything that comes
//! behind: SET for what one statement is known to have reset, and a SELECT that looks which settings
//! are at the server's value where the text does not tell (several statements, a pipeline of them).
//! Inside one Query string or one pipeline nothing can come in between. Behind a COPY neither: only its
//! answer tells where it ends, so nothing is sent, and what the client sends next waits.
//!
//! The `ReadyForQuery` of a request that resets is kept until ours is answered too: what the server
//! reports by then is what its client has, and what it is told.

use std::sync::Arc;

use tokio::time::Instant;

use super::batch::Batch;
use super::link::{Link, Linked, carry_over};
use super::read_only::takes_it_back;
use super::serve::Session;
use super::told::{News, put_changes, settle};
use crate::config::Mode;
use crate::error::ClientMessage;
use crate::server::Server;
use crate::server::exchange::{Request, Segment, Verdict};
use crate::server::unnamed::Unnamed;
use crate::sql::{Covers, Resets};
use crate::state::settings::{Settings, is_fixed};
use crate::wire::backend::{self, TxStatus};
use crate::wire::{frontend, sqlstate};

/// The resets of a link.
#[derive(Debug, Default)]
pub(super) struct Restores {
    /// One that was sent, until what follows it is sent too.
    wanted: Option<Box<Wanted>>,
    /// Statements of ours that are not answered yet, in their order.
    under_way: Vec<Restore>,
    /// The end of the client's request whose restore is being answered.
    held: Option<TxStatus>,
    /// Something was reset whose statement was not seen, or nothing could be put back in a failed
    /// block: it is made up for in front of the next message.
    is_due: bool,
    /// Nothing could be put back because a copy might have swallowed it: what comes behind waits for
    /// the answers.
    is_put_off: bool,
    /// What is under way may reset what nobody has read, or what nothing of ours could follow.
    is_unread: bool,
    /// Resets that may come to light when this block ends: they lie under a SET LOCAL, or were done
    /// by a transaction in front of it while ours was done in it.
    hidden: Option<Box<Resets>>,
}

#[derive(Debug)]
struct Wanted {
    /// Serial number of the request that resets.
    from: u64,
    resets: Resets,
    /// It is all that its request does.
    is_alone: bool,
    is_run: bool,
}

#[derive(Debug)]
struct Restore {
    /// Serial number of the first request that it is about.
    from: u64,
    /// Serial number of our statement. What ends the client's request is the one in front of it.
    serial: u64,
    resets: Resets,
    /// What is reset is known, if it is done.
    is_certain: bool,
    /// The reset, or another statement like it, was done, and none has failed since.
    is_done: bool,
    /// Our statement was refused, because the block has failed.
    is_refused: bool,
}

impl Restore {
    /// Whether the request `serial` is one that it is about.
    fn is_about(&self, serial: u64) -> bool {
        (self.from..self.serial).contains(&serial)
    }
}

impl Restores {
    /// What was sent may turn out to be wrong: if the client's request fails. Nothing may come behind
    /// it before that is known. Nor behind many: each may be a thousand times as long as the RESET.
    pub(super) fn must_be_awaited(&self) -> bool {
        self.under_way.len() >= UNDER_WAY_MOST
            || self.under_way.iter().any(|restore| restore.is_certain)
    }

    fn is_behind(&self, serial: u64) -> bool {
        self.under_way.iter().any(|restore| restore.serial == serial + 1)
    }

    /// The end of the request `serial`: true if it is kept until ours behind it is answered.
    pub(super) fn hold(&mut self, serial: u64, tx: TxStatus) -> bool {
        self.held = self.is_behind(serial).then_some(tx);
        self.held.is_some()
    }

    /// True if a parameter that is reported for the request `serial` may be a reset one, of which the client
    /// is told when all is done.
    fn tells_later(&self, serial: u64, reset_seen: bool) -> bool {
        self.hidden.is_some()
            || (reset_seen && self.is_unread)
            || self.under_way.iter().any(|restore| restore.is_about(serial))
    }

    /// A text is sent of which not all was read.
    pub(super) fn note_unread(&mut self) {
        self.is_unread = true;
    }

    /// Notes that a statement of the request `serial` is done which may have been the reset.
    pub(super) fn done(&mut self, serial: u64) {
        let mut about = self.under_way.iter_mut().filter(|restore| restore.is_about(serial));
        if let Some(restore) = about.next() {
            restore.is_done = true;
        }
    }

    /// Notes that the request `serial` has failed, and nothing of it was done.
    pub(super) fn failed(&mut self, serial: u64) {
        let mut about = self.under_way.iter_mut().filter(|restore| restore.is_about(serial));
        if let Some(restore) = about.next() {
            restore.is_done = false;
        }
    }

    /// Nothing of ours can follow what was sent.
    fn put_off(&mut self) {
        self.is_put_off = true;
        self.is_unread = true;
    }

    /// A portal is run.
    pub(super) fn run(&mut self) {
        if let Some(wanted) = &mut self.wanted {
            wanted.is_run = true;
        }
    }

    /// Notes a text that resets: of the request `serial`, or of a statement that it binds.
    pub(super) fn note(&mut self, text: &[u8], serial: u64, is_alone: bool, is_run: bool) {
        let resets = Resets::of(text);
        if resets.copies {
            return self.put_off();
        }
        if let Some(wanted) = &mut self.wanted {
            wanted.resets.add(resets);
            wanted.is_alone = false;
            return;
        }
        self.wanted = Some(Box::new(Wanted { from: serial, resets, is_alone, is_run }));
    }

    /// Something else comes in the same pipeline: a statement with this text, if that is known.
    pub(super) fn is_not_alone(&mut self, text: Option<&[u8]>) {
        if let Some(wanted) = &mut self.wanted {
            wanted.is_alone = false;
            wanted.resets.add(text.map(Resets::of).unwrap_or_default());
        }
    }

    /// True if the statement of ours with this serial number may fail with `message`: in a failed block
    /// the client's has failed as well. If that is not sure, it is made up for once the block is
    /// good again.
    pub(super) fn forgives(&mut self, message: &ClientMessage, serial: u64) -> bool {
        let mut refused = self.under_way.iter_mut().filter(|restore| restore.serial == serial);
        let refused = refused.next();
        match refused.filter(|_| message.sqlstate == sqlstate::IN_FAILED_TRANSACTION) {
            Some(restore) => {
                restore.is_refused = true;
                self.is_due |= !restore.is_certain;
                true
            }
            None => false,
        }
    }

    /// With its block what was hidden is over.
    fn uncover(&mut self, server: &mut Server, tx: TxStatus) {
        // What is not reported is not seen to have come to light.
        let hidden = self.hidden.take_if(|_| tx == TxStatus::Idle);
        server.applied_is_unknown |= hidden.is_some();
    }

    /// Everything is answered.
    pub(super) fn answered(&mut self) {
        self.under_way.clear();
        self.is_unread = false;
    }
}

impl Linked {
    /// Puts back, in front of the client's next message, what is due.
    pub(super) fn restore_due(
        &mut self,
        batch: &mut Batch<'_>,
        startup: &Settings,
        settings: &Arc<Settings>,
    ) {
        let Some(server) = self.checkout.server() else { return };
        if server.applied_is_unknown && server.exchange.may_checkin() {
            carry_over(server, settings);
        }
        if !self.restores.is_due || !server.exchange.is_settled() {
            return;
        }
        match server.exchange.tx() {
            TxStatus::Failed => {}
            TxStatus::Block => {
                self.restores.is_due = false;
                let resets = Resets::anything();
                let from = server.exchange.next_serial();
                let anything = Wanted { from, resets, is_alone: false, is_run: true };
                self.restore(batch, startup, anything);
            }
            // What is put on for the next transaction comes anyway.
            TxStatus::Idle => self.restores.is_due = false,
        }
    }

    /// True for a message in front of which something has to be put back that was put off: it is due
    /// once all is answered. What belongs to the copy goes on.
    pub(super) fn is_put_off(&mut self, tag: u8) -> bool {
        if !self.restores.is_put_off || matches!(tag, b'd' | b'c' | b'f' | b'H' | b'S') {
            return false;
        }
        let Some(server) = self.checkout.peek() else { return false };
        if !server.exchange.is_answered() {
            return true;
        }
        self.restores.is_put_off = server.exchange.takes_copy_data();
        false
    }

    fn restore(&mut self, batch: &mut Batch<'_>, startup: &Settings, wanted: Wanted) {
        let Wanted { from, resets, is_alone, .. } = wanted;
        let Some(server) = self.checkout.server() else { return };
        let is_open = server.exchange.segment() != Segment::None;
        if is_open || self.in_flight.may_copy || server.exchange.takes_copy_data() {
            // The Sync in front of it may go into a copy, which ignores that and would fail on ours.
            return self.restores.put_off();
        }
        let is_certain = is_alone && resets.is_certain();
        let text = if is_certain {
            startup.put_back(|name| resets.covers(name))
        } else {
            startup.put_back_if_reset(|name| resets.may_cover(name))
        };
        let Some(text) = text else { return };
        batch.gather();
        frontend::put_query(batch.out, text.as_bytes());
        let serial = server.exchange.next_serial();
        server.exchange.on_request(Request::Simple(Verdict::Swallow), None);
        // A simple query takes it along.
        server.statements.unnamed = Unnamed::None;
        server.statements.unnamed_since = serial;
        let (is_done, is_refused) = (false, false);
        let restore = Restore { from, serial, resets, is_certain, is_done, is_refused };
        self.restores.under_way.push(restore);
    }
}

impl Session {
    /// Puts back, behind a Query or a Sync, what it resets.
    pub(super) fn restore_behind(&mut self, batch: &mut Batch<'_>, tag: u8) {
        let Link::Linked(linked) = &mut self.link else { return };
        if !matches!(tag, b'Q' | b'S') || linked.restores.wanted.is_none() {
            return;
        }
        if let Some(wanted) = linked.restores.wanted.take().filter(|wanted| wanted.is_run) {
            linked.restore(batch, &self.startup, *wanted);
        }
    }

    /// A parameter has a new value: the session's, unless a RESET put it back to the server's.
    pub(super) fn on_parameter(
        &mut self,
        body: &[u8],
        serial: u64,
        is_own: bool,
        verdict: Verdict,
    ) -> Verdict {
        let Link::Linked(linked) = &mut self.link else { return verdict };
        let Some(server) = linked.checkout.server() else { return verdict };
        server.note_parameter(body);
        let Some((name, value)) = backend::parameter_status(body) else { return verdict };
        let (Ok(name), Ok(value)) = (std::str::from_utf8(name), std::str::from_utf8(value)) else {
            return verdict;
        };
        // What is beyond all measure is not kept.
        if is_fixed(name) || server.parameters.value(name) != Some(value) {
            return verdict;
        }
        if is_own {
            let is_restore = linked.restores.under_way.iter().any(|r| r.serial == serial);
            // The server spells it in its own way (pitfall P44): the client learns it once.
            if is_restore || self.settings.value(name).is_none_or(|wanted| wanted == value) {
                return verdict;
            }
            Arc::make_mut(&mut self.settings).set(name, value);
            Arc::make_mut(&mut server.applied).set(name, value);
            return Verdict::Forward;
        }
        if linked.restores.tells_later(serial, linked.reset_seen) {
            return Verdict::Swallow;
        }
        let is_base = server.base.value(name) == Some(value);
        let is_reset = linked.reset_seen && is_base && self.startup.value(name).is_none();
        if is_reset {
            Arc::make_mut(&mut self.settings).remove(name);
        } else {
            Arc::make_mut(&mut server.applied).set(name, value);
            if self.mode == Mode::ReadOnly && takes_it_back(name, value) {
                // The next transaction begins without it.
                Arc::make_mut(&mut self.settings).remove(name);
            } else {
                Arc::make_mut(&mut self.settings).set(name, value);
            }
        }
        if name == "application_name" {
            self.registered.record.set_application_name(value);
            server.record.set_application_name(value);
        }
        if !is_reset {
            linked.doubt(name);
        }
        verdict
    }

    /// The end of a request of the client's in which a RESET was seen, or which ends a block with one
    /// that was hidden: tells it of those that no statement of ours followed.
    pub(super) fn settle_unfollowed(&mut self, batch: &mut Batch<'_>, serial: u64) {
        let Link::Linked(linked) = &mut self.link else { return };
        let Some(server) = linked.checkout.server() else { return };
        let restores = &mut linked.restores;
        let tx = server.exchange.tx();
        if restores.is_behind(serial) {
            linked.reset_seen = false;
            return;
        }
        let is_unread = linked.reset_seen && restores.is_unread;
        if std::mem::take(&mut linked.reset_seen) {
            // Which of what we had put on it is still there, only the server knows.
            server.applied_is_unknown = true;
            restores.is_due |= is_unread && tx != TxStatus::Idle;
        }
        if restores.hidden.is_none() && !is_unread {
            return;
        }
        let hidden = restores.hidden.as_deref();
        let news =
            settle(server, &self.startup, &mut self.settings, &self.settled, |name, is_news| {
                is_left(hidden, tx, name, is_news) || (is_unread && is_news)
            });
        restores.uncover(server, tx);
        batch.gather();
        self.tell(&news, batch.out);
    }

    /// A server is gone that had ended a request, the client was not told yet, and what was to follow
    /// is done by whichever server comes next.
    pub(super) fn put_held(&mut self, linked: &mut Linked, out: &mut Vec<u8>) {
        let Some(tx) = linked.restores.held.take() else { return };
        let restore = linked.restores.under_way.first();
        if let Some(restore) = restore.filter(|_| tx == TxStatus::Idle)
            && let Some(server) = linked.checkout.server()
        {
            let is_reset =
                |name: &str, is_news| is_news && restore.resets.may_cover(name).is_some();
            let news = settle(server, &self.startup, &mut self.settings, &self.settled, is_reset);
            self.tell(&news, out);
            self.keep_settings();
            self.keep_mode();
        }
        backend::put_ready(out, tx);
    }

    /// The end of something of ours. Behind a Sync of ours nothing is left that the client waits for.
    pub(super) fn on_own_ready(&mut self, batch: &mut Batch<'_>, serial: u64) {
        let is_session_mode = self.is_session_mode();
        let Link::Linked(linked) = &mut self.link else { return };
        let Some(server) = linked.checkout.server() else { return };
        let tx = server.exchange.tx();
        let at = linked.restores.under_way.iter().position(|restore| restore.serial == serial);
        if at.is_none() && !is_session_mode && server.follow_base(&self.settings) {
            self.pool.share_base(server);
            // Where it is for one transaction it is told nothing of.
            if self.pool.mode == self.mode {
                batch.gather();
                put_changes(&self.reported, &server.base, &self.settings, batch.out);
                self.reported = Arc::clone(&server.base);
            }
        }
        if let Some(restore) = at.map(|at| linked.restores.under_way.remove(at)) {
            let news =
                linked.on_restored(restore, &self.startup, &mut self.settings, &self.settled);
            batch.gather();
            self.tell(&news, batch.out);
        }
        if tx == TxStatus::Idle {
            self.keep_settings();
            self.keep_mode();
        }
        let Link::Linked(linked) = &mut self.link else { return };
        let Some(server) = linked.checkout.server() else { return };
        if server.exchange.depth() == 0 {
            linked.in_flight.answered(tx);
            linked.restores.answered();
        }
        if let Some(held) = linked.restores.held.take() {
            batch.gather();
            backend::put_ready(batch.out, held);
            self.finish_request(serial);
        }
        let Link::Linked(linked) = &mut self.link else { return };
        if linked.checkout.peek().is_some_and(|server| server.exchange.may_checkin()) {
            linked.is_done = !is_session_mode;
            linked.quiet_since = Instant::now();
            linked.request_since = None;
        }
    }
}

impl Linked {
    /// A statement of ours is done, or refused: what the client has now, as far as it was not told.
    fn on_restored(
        &mut self,
        restore: Restore,
        startup: &Settings,
        settings: &mut Arc<Settings>,
        settled: &Settings,
    ) -> Vec<News> {
        let Some(server) = self.checkout.server() else { return Vec::new() };
        let tx = server.exchange.tx();
        let Restore { resets, is_certain, is_done, is_refused, .. } = restore;
        server.note_applied();
        // It was reset by us alone, or not put back: that is to be mended in front of what comes next.
        server.applied_is_unknown |= if is_certain { !is_done } else { is_refused };
        if is_certain && !is_done && tx == TxStatus::Idle {
            return Vec::new();
        }
        let is_open = is_refused && !is_certain;
        let hidden = self.restores.hidden.as_deref();
        let news = settle(server, startup, settings, settled, |name, is_news| {
            is_left(hidden, tx, name, is_news)
                || (is_open && is_news && resets.may_cover(name).is_some())
        });
        self.restores.uncover(server, tx);
        let may_hide = |(name, _)| resets.divides() || is_beneath(&resets, name);
        if !is_certain && tx == TxStatus::Block && startup.iter().any(may_hide) {
            self.restores.hidden.get_or_insert_default().add(resets);
        }
        news
    }
}

/// Statements of ours that may be unanswered at once.
const UNDER_WAY_MOST: usize = 64;

fn is_beneath(resets: &Resets, name: &str) -> bool {
    resets.covers(name) == Some(Covers::Beneath)
}

/// Whether one of these may have left `name` at the server's own value, if their block is over.
fn is_left(hidden: Option<&Resets>, tx: TxStatus, name: &str, is_news: bool) -> bool {
    hidden.filter(|_| tx != TxStatus::Block).is_some_and(|resets| {
        is_beneath(resets, name)
            || (is_news && resets.divides() && resets.may_cover(name).is_some())
    })
}
