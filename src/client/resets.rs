//! RESET on a server that is shared, and what a server reports of settings.
//!
//! A server of one's own goes back to what its client asked for at startup. On a shared one these
//! values were put on by `set_config`, and a RESET goes past them to the server's own. So a statement
//! of ours follows a client's RESET in the same write and puts them back before anything that comes
//! behind: SET for what one statement is known to have reset, and a SELECT that looks which settings
//! are at the server's value where the text does not tell (several statements, a pipeline of them).
//! Inside one Query string or one pipeline nothing can come in between. Behind a COPY neither: only its
//! answer tells where it ends, so nothing is sent, and what the client sends next waits.

use std::sync::Arc;

use tokio::time::Instant;

use super::batch::Batch;
use super::link::{Link, Linked, carry_over};
use super::serve::Session;
use crate::error::ClientMessage;
use crate::server::Server;
use crate::server::exchange::{Request, Segment, Verdict};
use crate::server::parameters::Parameters;
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
    /// Something was reset whose statement was not seen, or nothing could be put back in a failed
    /// block: it is made up for in front of the next message.
    is_due: bool,
    /// Nothing could be put back because a copy might have swallowed it: what comes behind waits for
    /// the answers.
    is_put_off: bool,
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
}

impl Restore {
    /// Whether `name` is at its startup value in the end, as far as the text tells.
    fn reaches(&self, name: &str) -> Option<Covers> {
        self.resets.covers(name).filter(|_| self.resets.is_last(name))
    }
}

impl Restores {
    /// What was sent may turn out to be wrong: if the client's request fails. Nothing may come behind
    /// it before that is known. Nor behind many: each may be a thousand times as long as the RESET.
    pub(super) fn must_be_awaited(&self) -> bool {
        self.under_way.len() >= UNDER_WAY_MOST
            || self.under_way.iter().any(|restore| restore.is_certain)
    }

    fn behind(&self, serial: u64) -> Option<&Restore> {
        self.under_way.iter().find(|restore| restore.serial == serial + 1)
    }

    /// Statements of ours that are not answered.
    pub(super) const fn len(&self) -> usize {
        self.under_way.len()
    }

    pub(super) const fn is_empty(&self) -> bool {
        self.under_way.is_empty()
    }

    /// Notes that a statement of the request `serial` is done which may have been the reset.
    pub(super) fn done(&mut self, serial: u64) {
        let about = |restore: &&mut Restore| (restore.from..restore.serial).contains(&serial);
        if let Some(restore) = self.under_way.iter_mut().find(about) {
            restore.is_done = true;
        }
    }

    /// Notes that the request `serial` has failed, and nothing of it was done.
    pub(super) fn failed(&mut self, serial: u64) {
        let about = |restore: &&mut Restore| (restore.from..restore.serial).contains(&serial);
        if let Some(restore) = self.under_way.iter_mut().find(about) {
            restore.is_done = false;
        }
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
            self.is_put_off = true;
            return;
        }
        if let Some(wanted) = &mut self.wanted {
            wanted.resets.add(resets);
            wanted.is_alone = false;
            return;
        }
        self.wanted = Some(Box::new(Wanted { from: serial, resets, is_alone, is_run }));
    }

    /// Something else comes in the same pipeline.
    pub(super) fn is_not_alone(&mut self) {
        if let Some(wanted) = &mut self.wanted {
            wanted.is_alone = false;
        }
    }

    /// True if the statement of ours with this serial number may fail with `message`: in a failed block
    /// the client's has failed as well. If that is not sure, it is made up for once the block is
    /// good again.
    pub(super) fn forgives(&mut self, message: &ClientMessage, serial: u64) -> bool {
        let restore = self.under_way.iter().find(|restore| restore.serial == serial);
        let restore = restore.filter(|_| message.sqlstate == sqlstate::IN_FAILED_TRANSACTION);
        self.is_due |= restore.is_some_and(|restore| !restore.is_certain);
        restore.is_some()
    }

    /// A RESET was done that nobody follows: true if the server's settings are not known any more.
    pub(super) fn note_unseen(&mut self, tx: TxStatus) -> bool {
        let is_unseen = self.under_way.is_empty();
        self.is_due |= is_unseen && tx != TxStatus::Idle;
        is_unseen
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
            self.restores.is_put_off = true;
            return;
        }
        let is_certain = is_alone && resets.is_certain();
        let text = if is_certain {
            startup.put_back(|name| resets.covers(name).filter(|_| resets.is_last(name)))
        } else {
            startup.put_back_if_reset(|name| resets.covers(name))
        };
        let Some(text) = text else { return };
        batch.gather();
        frontend::put_query(batch.out, text.as_bytes());
        let serial = server.exchange.next_serial();
        server.exchange.on_request(Request::Simple(Verdict::Swallow), None);
        // A simple query takes it along.
        server.statements.unnamed = Unnamed::None;
        server.statements.unnamed_since = serial;
        self.restores.under_way.push(Restore { from, serial, resets, is_certain, is_done: false });
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
        batch: &mut Batch<'_>,
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
        if is_fixed(name) {
            return verdict;
        }
        if is_own {
            let is_void = linked.restores.under_way.first().is_some_and(|restore| {
                restore.serial == serial && !(restore.is_done && restore.is_certain)
            });
            // The server spells it in its own way (pitfall P44): the client learns it once.
            if is_void || self.settings.value(name).is_none_or(|wanted| wanted == value) {
                return verdict;
            }
            Arc::make_mut(&mut self.settings).set(name, value);
            Arc::make_mut(&mut server.applied).set(name, value);
            return Verdict::Forward;
        }
        let is_base = server.base.value(name) == Some(value);
        let restored = linked.restores.behind(serial).map(|restore| Restored {
            is_reset: restore.is_done
                && restore.reaches(name).is_some()
                && (restore.is_certain || is_base)
                && self.startup.value(name).is_some(),
            is_certain: restore.is_certain,
        });
        let startup = self.startup.value(name);
        let is_reset = match restored {
            // Told with the others when all is done.
            Some(Restored { is_reset: true, is_certain: true }) => return Verdict::Swallow,
            Some(restored) => restored.is_reset,
            None => linked.reset_seen && is_base,
        };
        if is_reset || (linked.reset_seen && is_base && startup.is_none()) {
            let settings = Arc::make_mut(&mut self.settings);
            let Some(wanted) = startup.filter(|wanted| *wanted != value) else {
                settings.remove(name);
                return verdict;
            };
            if settings.value(name) != Some(wanted) {
                settings.set(name, wanted);
                batch.gather();
                backend::put_parameter_status(batch.out, name.as_bytes(), wanted.as_bytes());
            }
            return Verdict::Swallow;
        }
        Arc::make_mut(&mut self.settings).set(name, value);
        Arc::make_mut(&mut server.applied).set(name, value);
        if name == "application_name" {
            self.registered.record.set_application_name(value);
            server.record.set_application_name(value);
        }
        verdict
    }

    /// In front of the `ReadyForQuery` of a request that reset something: what it put back.
    pub(super) fn tell_restored(&mut self, batch: &mut Batch<'_>, serial: u64) {
        let Link::Linked(linked) = &mut self.link else { return };
        let restore = linked.restores.behind(serial);
        let Some(restore) = restore.filter(|r| r.is_certain && r.is_done) else { return };
        let Some(server) = linked.checkout.peek() else { return };
        let is_told =
            |name: &str| server.parameters.value(name).is_some() && restore.reaches(name).is_some();
        let mut told: Vec<_> = self.startup.iter().filter(|(name, _)| is_told(name)).collect();
        told.sort_by_key(|(name, _)| name.to_ascii_lowercase());
        for (name, wanted) in told {
            if self.settings.value(name) == Some(wanted) {
                continue;
            }
            Arc::make_mut(&mut self.settings).set(name, wanted);
            if name == "application_name" {
                self.registered.record.set_application_name(wanted);
            }
            batch.gather();
            backend::put_parameter_status(batch.out, name.as_bytes(), wanted.as_bytes());
        }
    }

    /// Tells the client what its server reports by itself, if that is not what the one before did: the
    /// server's configuration may have been changed (pitfall P73).
    pub(super) fn tell_base(&mut self, base: &Arc<Parameters>) {
        if Arc::ptr_eq(&self.reported, base) {
            return;
        }
        let before = self.outbox.len();
        put_changes(&self.reported, base, &self.settings, &mut self.outbox);
        self.pool.stats.bytes_sent.add((self.outbox.len() - before) as u64);
        self.reported = Arc::clone(base);
    }

    /// The end of something of ours. Behind a Sync of ours nothing is left that the client waits for.
    pub(super) fn on_own_ready(&mut self, batch: &mut Batch<'_>, serial: u64) {
        let is_session_mode = self.is_session_mode();
        let Link::Linked(linked) = &mut self.link else { return };
        let Some(server) = linked.checkout.server() else { return };
        let at = linked.restores.under_way.iter().position(|restore| restore.serial == serial);
        if at.is_none() && !is_session_mode && server.follow_base(&self.settings) {
            self.pool.share_base(server);
            batch.gather();
            put_changes(&self.reported, &server.base, &self.settings, batch.out);
            self.reported = Arc::clone(&server.base);
        }
        if let Some(restore) = at.map(|at| linked.restores.under_way.remove(at)) {
            server.note_applied();
            if !restore.is_certain {
                tell_what_is(server, &mut self.settings, batch);
            } else if !restore.is_done {
                // It was reset by us alone: a server that is not in a failed block has to be mended.
                server.applied_is_unknown = true;
            }
        }
        if server.exchange.depth() == 0 {
            linked.in_flight.answered(server.exchange.tx());
            linked.restores.under_way.clear();
        }
        if server.exchange.may_checkin() {
            linked.is_done = !is_session_mode;
            linked.quiet_since = Instant::now();
            linked.request_since = None;
        }
    }
}

/// Statements of ours that may be unanswered at once.
const UNDER_WAY_MOST: usize = 64;

/// Appends what the server's own parameters are by now of which the client was told otherwise. What
/// it set itself it has on every server.
fn put_changes(told: &Parameters, base: &Parameters, settings: &Settings, out: &mut Vec<u8>) {
    for (name, value) in base.iter() {
        if settings.value(name).is_none() && told.value(name) != Some(value) {
            backend::put_parameter_status(out, name.as_bytes(), value.as_bytes());
        }
    }
}

struct Restored {
    is_reset: bool,
    is_certain: bool,
}

/// Tells the client of parameters that have become other than it was told.
fn tell_what_is(server: &mut Server, settings: &mut Arc<Settings>, batch: &mut Batch<'_>) {
    for (name, value) in server.parameters.iter().filter(|(name, _)| !is_fixed(name)) {
        if settings.value(name).or_else(|| server.base.value(name)) == Some(value) {
            continue;
        }
        Arc::make_mut(settings).set(name, value);
        batch.gather();
        backend::put_parameter_status(batch.out, name.as_bytes(), value.as_bytes());
    }
}
