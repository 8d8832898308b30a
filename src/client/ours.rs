//! Settings that are pgweir's own: `pgweir.domain`, `mode`, `host` and `pin`. They are shown and set here, and
//! never reach a server.
//!
//! Where no server is linked the answer is given at once. Where one is, whatever is about these settings waits
//! until all in front of it is answered: whether its block or segment is good is known then. What is wrong fails
//! on the server as well, which is sent something in its place that it refuses.

mod asks;

use std::collections::HashMap;
use std::task::Context as TaskContext;

use tokio::time::Instant;

use asks::{Ask, Shown, understand};
pub(super) use asks::{no_mode, not_alone};

use super::batch::Batch;
use super::from_client::{Frame, Next};
use super::link::Link;
use super::serve::{End, Session};
use crate::config::{Mode, PoolMode};
use crate::error::ClientMessage;
use crate::server::exchange::{MadeUp, Request, Segment};
use crate::sql;
use crate::wire::backend::{self, TxStatus};
use crate::wire::frontend::{self, Target};
use crate::wire::{frame, sqlstate};

/// What a session has that has ever named a setting of ours.
#[derive(Debug)]
pub(super) struct Ours {
    at_login: Mode,
    /// The mode that this transaction asks for.
    asked: Option<Mode>,
    /// The mode from the end of the exchange on: its transaction is done.
    next: Option<Mode>,
    statements: HashMap<Box<[u8]>, Ask>,
    portals: HashMap<Box<[u8]>, Bound>,
}

/// A portal.
#[derive(Debug, Clone, Copy)]
struct Bound {
    ask: Ask,
    /// As in Bind: 0 for text, 1 for binary, which is the same for a text.
    format: u16,
}

/// A message of the client about a setting of ours.
#[derive(Debug)]
enum Part {
    Query(Ask),
    Parse(Box<[u8]>, Ask),
    Bind(Box<[u8]>, Bound),
    DescribeStatement(Ask),
    DescribePortal(Bound),
    Execute(Ask),
    Close(Target, Box<[u8]>),
    /// It is refused for this.
    Refused(ClientMessage),
}

impl Session {
    /// Answers a frame about settings of ours where no server is linked; `None`: it is about something else.
    pub(super) fn answer_ours(
        &mut self,
        batch: &mut Batch<'_>,
        frame: Frame<'_>,
        cx: &mut TaskContext<'_>,
    ) -> Result<Option<Next>, End> {
        if !self.may_be_ours(frame) {
            return Ok(None);
        }
        let Some(part) = self.read_ours(frame) else { return Ok(None) };
        let in_block = self.begun.is_some();
        if in_block && part.needs_server() {
            return Ok(None);
        }
        let is_query = matches!(part, Part::Query(_));
        let mut out = Vec::new();
        if let Err(message) = self.put_part(part, in_block, &mut out) {
            self.answer_without_server(&message);
            return Ok(Some(Next::Go));
        }
        if is_query {
            self.traffic.queries.increment();
            let status = if in_block { TxStatus::Block } else { TxStatus::Idle };
            backend::put_ready(&mut out, status);
            self.keep_mode();
            self.settle_mode();
        }
        batch.swallow(frame.head.len);
        self.idle_since = Instant::now();
        self.send_to_client(&out, cx)?;
        Ok(Some(Next::Go))
    }

    /// The same where a server is linked.
    pub(super) fn take_ours(&mut self, batch: &mut Batch<'_>, frame: Frame<'_>) -> Option<Next> {
        let Link::Linked(linked) = &mut self.link else { return None };
        let exchange = &linked.checkout.server()?.exchange;
        if exchange.takes_copy_data() || !self.may_be_ours(frame) {
            return None;
        }
        let part = self.read_ours(frame)?;
        let Link::Linked(linked) = &mut self.link else { return None };
        let server = linked.checkout.server()?;
        if !server.exchange.is_answered() {
            linked.awaits.answers = true;
            batch.gather();
            frontend::put_flush(batch.out);
            return Some(Next::Hold);
        }
        if server.exchange.segment() == Segment::Failed {
            batch.swallow(frame.head.len);
            return Some(Next::Go);
        }
        let is_query = frame.head.tag == b'Q';
        if server.exchange.is_in_failed_block() {
            self.replace_text(batch, frame, IN_PLACE, None);
            return Some(Next::Go);
        }
        let in_block = server.exchange.tx() != TxStatus::Idle;
        let mut answer = Vec::new();
        if let Err(message) = self.put_part(part, in_block, &mut answer) {
            self.refuse_text(batch, frame, message);
            return Some(Next::Go);
        }
        let Link::Linked(linked) = &mut self.link else { return None };
        let server = linked.checkout.server()?;
        batch.swallow(frame.head.len);
        server.made_up.push_back(answer);
        server.exchange.on_request(Request::MadeUp(MadeUp::Ours), None);
        if is_query {
            // How its transaction stands is the server's to say.
            linked.has_unread = false;
            frontend::put_sync(batch.out);
            server.exchange.on_request(Request::Sync, None);
        }
        Some(Next::Go)
    }

    /// False of almost all frames, by a glance.
    fn may_be_ours(&self, frame: Frame<'_>) -> bool {
        frame.is_whole()
            && match frame.head.tag {
                b'Q' => sql::may_be_ours(frame.body) || self.ours.is_some(),
                b'P' => {
                    let name = frame.body.iter().position(|byte| *byte == 0).unwrap_or_default();
                    let text = frame.body.get(name + 1..).unwrap_or_default();
                    sql::may_be_ours(text) || self.ours.is_some()
                }
                b'B' | b'D' | b'E' | b'C' => self.ours.is_some(),
                _ => false,
            }
    }

    /// Reads a frame; what it takes the place of of ours is forgotten if it is about something else.
    fn read_ours(&mut self, frame: Frame<'_>) -> Option<Part> {
        match frame.head.tag {
            b'Q' => {
                let text = frontend::query_text(frame.body);
                if let Some(ours) = &mut self.ours {
                    // A simple query takes it along.
                    ours.statements.remove(&b""[..]);
                }
                let asked = sql::Ours::read(text).filter(|_| text.len() + 1 == frame.body.len())?;
                Some(understand(asked).map_or_else(Part::Refused, Part::Query))
            }
            b'P' => {
                let parse = frontend::parse(frame.body)?;
                let Some(asked) = sql::Ours::read(parse.text) else {
                    self.ours.as_mut()?.statements.remove(parse.name);
                    return None;
                };
                let part = |ask| Part::Parse(parse.name.into(), ask);
                Some(understand(asked).map_or_else(Part::Refused, part))
            }
            _ => self.ours.as_mut()?.read(frame),
        }
    }

    /// Appends the answer to a part, and does what it asks for.
    fn put_part(
        &mut self,
        part: Part,
        in_block: bool,
        out: &mut Vec<u8>,
    ) -> Result<(), ClientMessage> {
        match part {
            Part::Query(ask) => {
                if let Ask::Show(shown) = ask {
                    put_columns(shown, 0, out);
                }
                self.run(ask, in_block, out)?;
            }
            Part::Execute(ask) => self.run(ask, in_block, out)?,
            Part::Parse(name, ask) => {
                let max = self.context.config.listen.max_statements_per_client;
                let count =
                    self.prepared.len() + self.ours.as_ref().map_or(0, |o| o.statements.len());
                super::names::check_room(count, max)?;
                self.ours().statements.insert(name, ask);
                out.extend_from_slice(backend::PARSE_COMPLETE);
            }
            Part::Bind(portal, bound) => {
                self.ours().portals.insert(portal, bound);
                out.extend_from_slice(backend::BIND_COMPLETE);
            }
            Part::DescribeStatement(ask) => {
                out.extend_from_slice(backend::NO_PARAMETERS);
                put_description(ask, 0, out);
            }
            Part::DescribePortal(bound) => put_description(bound.ask, bound.format, out),
            Part::Close(target, name) => {
                let ours = self.ours();
                match target {
                    Target::Statement => drop(ours.statements.remove(&name)),
                    Target::Portal => drop(ours.portals.remove(&name)),
                }
                out.extend_from_slice(backend::CLOSE_COMPLETE);
            }
            Part::Refused(message) => return Err(message),
        }
        Ok(())
    }

    fn run(&mut self, ask: Ask, in_block: bool, out: &mut Vec<u8>) -> Result<(), ClientMessage> {
        let tag: &[u8] = match ask {
            Ask::Show(shown) => {
                put_row(&self.value_of(shown), out);
                b"SHOW"
            }
            Ask::SetMode { to, is_reset } => {
                let mode = to.unwrap_or_else(|| self.ours().at_login);
                self.check_change(mode, in_block)?;
                self.ours().asked = Some(mode);
                if is_reset { b"RESET" } else { b"SET" }
            }
        };
        frame::put(out, b'C', |out| frame::put_text(out, tag));
        Ok(())
    }

    fn value_of(&mut self, shown: Shown) -> String {
        match shown {
            Shown::Domain => self.record().domain.to_string(),
            Shown::Mode => {
                let next = self.ours.as_ref().and_then(|ours| ours.asked.or(ours.next));
                next.unwrap_or(self.mode).as_str().to_owned()
            }
            Shown::Host => self.last_host(),
            Shown::Pin if self.is_session_mode() => "session".to_owned(),
            Shown::Pin => String::new(),
        }
    }

    /// The host of the server that is linked, or else of the last one if that is still there.
    fn last_host(&mut self) -> String {
        if let Link::Linked(linked) = &self.link
            && let Some(server) = linked.checkout.peek()
        {
            return server.record.host.to_string();
        }
        let last = self.last.and_then(|last| self.pool.endpoint_of(last));
        last.map(|host| host.to_string()).unwrap_or_default()
    }

    fn check_change(&self, to: Mode, in_block: bool) -> Result<(), ClientMessage> {
        if in_block {
            return Err(ClientMessage::new(
                sqlstate::ACTIVE_TRANSACTION,
                "pgweir.mode cannot be changed inside a transaction block",
            )
            .hint("End the block first. A driver that begins blocks by itself needs autocommit for this."));
        }
        if to == self.mode {
            return Ok(());
        }
        let rules = self.rules_of(to);
        if self.is_session_mode() || rules.is_none_or(|rules| rules.pool_mode == PoolMode::Session)
        {
            return Err(ClientMessage::new(
                sqlstate::FEATURE_NOT_SUPPORTED,
                format!(
                    "pgweir.mode cannot be changed from {} to {}: a session that has a server of its own has it from login to end",
                    self.mode.as_str(),
                    to.as_str(),
                ),
            )
            .hint(format!("Connect anew with options='-c pgweir.mode={}'.", to.as_str())));
        }
        if to == Mode::ReadOnly
            && self.settings.value("default_transaction_read_only") == Some("off")
        {
            return Err(super::read_only::no_writes()
                .detail("The session has set default_transaction_read_only to off."));
        }
        Ok(())
    }

    /// The transaction is done, and what it has set holds.
    pub(super) fn keep_mode(&mut self) {
        if let Some(ours) = &mut self.ours {
            ours.portals.clear();
            ours.next = ours.asked.take().or(ours.next);
        }
    }

    /// No server is linked any more: from now on the mode is what was set.
    pub(super) fn settle_mode(&mut self) {
        if let Some(next) = self.ours.as_mut().and_then(|ours| ours.next.take()) {
            self.go_to(next);
        }
    }

    /// Something has failed: what its transaction has set is taken back with it.
    pub(super) fn undo_mode(&mut self) {
        if let Some(ours) = &mut self.ours {
            ours.asked = None;
        }
    }

    /// RESET ALL and DISCARD ALL go back to the mode at login, once their transaction is over.
    pub(super) fn note_mode_reset(&mut self, text: &[u8]) {
        if let Some(ours) = &mut self.ours
            && sql::Resets::of(text).covers("pgweir.mode").is_some()
        {
            ours.asked = Some(ours.at_login);
        }
    }

    fn ours(&mut self) -> &mut Ours {
        let at_login = self.mode;
        self.ours.get_or_insert_with(|| {
            Box::new(Ours {
                at_login,
                asked: None,
                next: None,
                statements: HashMap::new(),
                portals: HashMap::new(),
            })
        })
    }
}

impl Part {
    /// Which host a block is on is known once it is there.
    fn needs_server(&self) -> bool {
        let is_host = |ask: &Ask| *ask == Ask::Show(Shown::Host);
        match self {
            Self::Query(ask) | Self::Execute(ask) => is_host(ask),
            Self::Parse(..)
            | Self::Bind(..)
            | Self::DescribeStatement(_)
            | Self::DescribePortal(_)
            | Self::Close(..)
            | Self::Refused(_) => false,
        }
    }
}

impl Ours {
    /// Reads a Bind, Describe, Execute or Close.
    fn read(&mut self, frame: Frame<'_>) -> Option<Part> {
        match frame.head.tag {
            b'B' => {
                let bind = frontend::bind(frame.body)?;
                let Some(ask) = self.statements.get(bind.statement).copied() else {
                    self.portals.remove(bind.portal);
                    return None;
                };
                let rest = frame.body.get(bind.names_len..)?;
                let format = result_format(rest).unwrap_or_default();
                Some(Part::Bind(bind.portal.into(), Bound { ask, format }))
            }
            b'E' => {
                let mut left = frame.body;
                let bound = self.portals.get(frame::take_text(&mut left)?)?;
                Some(Part::Execute(bound.ask))
            }
            b'D' => {
                let named = frontend::named(frame.body)?;
                match named.target {
                    Target::Statement => {
                        self.statements.get(named.name).copied().map(Part::DescribeStatement)
                    }
                    Target::Portal => {
                        self.portals.get(named.name).copied().map(Part::DescribePortal)
                    }
                }
            }
            b'C' => {
                let named = frontend::named(frame.body)?;
                let is_there = match named.target {
                    Target::Statement => self.statements.contains_key(named.name),
                    Target::Portal => self.portals.contains_key(named.name),
                };
                is_there.then(|| Part::Close(named.target, named.name.into()))
            }
            _ => None,
        }
    }
}

/// The format that the rest of a Bind behind its names wants the first column in. Parameters, of which there are
/// none, are stepped over.
fn result_format(mut rest: &[u8]) -> Option<u16> {
    let formats = frame::take_u16(&mut rest)?;
    rest = rest.get(usize::from(formats) * 2..)?;
    for _ in 0..frame::take_u16(&mut rest)? {
        let (len, behind) = rest.split_first_chunk::<4>()?;
        // NULL has no bytes.
        let len = usize::try_from(i32::from_be_bytes(*len)).unwrap_or_default();
        rest = behind.get(len..)?;
    }
    let wanted = frame::take_u16(&mut rest)?;
    if wanted == 0 { Some(0) } else { frame::take_u16(&mut rest) }
}

fn put_description(ask: Ask, format: u16, out: &mut Vec<u8>) {
    match ask {
        Ask::Show(shown) => put_columns(shown, format, out),
        Ask::SetMode { .. } => out.extend_from_slice(backend::NO_DATA),
    }
}

fn put_columns(shown: Shown, format: u16, out: &mut Vec<u8>) {
    let name = format!("pgweir.{}", shown.name());
    backend::put_text_column(out, name.as_bytes(), format);
}

fn put_row(value: &str, out: &mut Vec<u8>) {
    backend::put_text_row(out, value.as_bytes());
}

/// What a server in a failed block refuses for that, as it does everything.
const IN_PLACE: &[u8] = b"SHOW server_version";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_format_of_the_result_is_that_of_the_bind() {
        assert_eq!(result_format(&[0, 0, 0, 0, 0, 0]), Some(0));
        assert_eq!(result_format(&[0, 0, 0, 0, 0, 1, 0, 1]), Some(1));
        assert_eq!(result_format(&[0, 1, 0, 1, 0, 1, 0, 0, 0, 1, 7, 0, 1, 0, 1]), Some(1));
        assert_eq!(result_format(&[]), None);
    }
}
