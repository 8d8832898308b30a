//! Settings that are pgweir's own: `pgweir.domain`, `mode`, `host` and `pin`. They are shown and set here, and
//! never reach a server.
//!
//! Where no server is linked the answer is given at once. Where one is, whatever is about these settings waits
//! until all in front of it is answered: whether its block or segment is good is known then. What is wrong fails
//! on the server as well, which is sent something in its place that it refuses.

mod asks;
mod change;

use std::collections::HashMap;
use std::task::Context as TaskContext;

use tokio::time::Instant;

use asks::{Ask, Shown, understand};
pub(super) use asks::{no_mode, not_alone};

use super::batch::Batch;
use super::from_client::{Frame, Next};
use super::link::{Link, Linked};
use super::names::check_room;
use super::serve::{End, Session};
use crate::config::Mode;
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
    /// Answers a frame about settings of ours where no server is linked; `None`: it is about something else, or
    /// needs a server.
    #[inline]
    pub(super) fn answer_ours(
        &mut self,
        batch: &mut Batch<'_>,
        frame: Frame<'_>,
        cx: &mut TaskContext<'_>,
    ) -> Result<Option<Next>, End> {
        let may_be_ours = match frame.head.tag {
            b'Q' => sql::may_be_ours(frame.body),
            b'P' => may_parse_ours(frame.body),
            _ => false,
        };
        if (may_be_ours || self.ours.is_some()) && frame.is_whole() {
            self.answer(batch, frame, cx)
        } else {
            Ok(None)
        }
    }

    #[cold]
    fn answer(
        &mut self,
        batch: &mut Batch<'_>,
        frame: Frame<'_>,
        cx: &mut TaskContext<'_>,
    ) -> Result<Option<Next>, End> {
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
            self.prepared.unnamed = None;
        }
        batch.swallow(frame.head.len);
        self.idle_since = Instant::now();
        self.send_to_client(&out, cx)?;
        Ok(Some(Next::Go))
    }

    /// The same where a server is linked, for a frame that may be about them.
    #[cold]
    pub(super) fn take_ours(&mut self, batch: &mut Batch<'_>, frame: Frame<'_>) -> Option<Next> {
        let Link::Linked(linked) = &mut self.link else { return None };
        let exchange = &linked.checkout.server()?.exchange;
        // What comes behind an error is skipped by the server.
        let is_lost = exchange.takes_copy_data() || exchange.segment() == Segment::Failed;
        if is_lost {
            return None;
        }
        let Link::Linked(linked) = &mut self.link else { return None };
        let server = linked.checkout.server()?;
        if self.ours.as_ref().is_some_and(|ours| ours.is_named_in(frame))
            && !server.exchange.is_answered()
        {
            return Some(linked.await_answers(batch));
        }
        let part = self.read_ours(frame)?;
        let Link::Linked(linked) = &mut self.link else { return None };
        let server = linked.checkout.server()?;
        if !server.exchange.is_answered() {
            return Some(linked.await_answers(batch));
        }
        let is_query = frame.head.tag == b'Q';
        let has_executed = server.exchange.has_executed();
        if server.exchange.is_in_failed_block() {
            self.replace_text(batch, frame, IN_PLACE, None);
            return Some(Next::Go);
        }
        // The statements of a segment are one transaction.
        let in_block = server.exchange.tx() != TxStatus::Idle || has_executed;
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

    /// Reads a frame. One about something else may take the place of a statement of ours, or put all settings back
    /// to what they were at login.
    fn read_ours(&mut self, frame: Frame<'_>) -> Option<Part> {
        match frame.head.tag {
            b'Q' => {
                let text = frontend::query_text(frame.body);
                if let Some(ours) = &mut self.ours {
                    // A simple query takes it along.
                    ours.statements.remove(&b""[..]);
                    ours.note_reset(text);
                }
                let asked = sql::Ours::read(text).filter(|_| text.len() + 1 == frame.body.len())?;
                Some(understand(asked).map_or_else(Part::Refused, Part::Query))
            }
            b'P' => {
                let parse = frontend::parse(frame.body)?;
                let Some(asked) = sql::Ours::read(parse.text) else {
                    let ours = self.ours.as_mut()?;
                    ours.statements.remove(parse.name);
                    ours.note_reset(parse.text);
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
                self.check_name(&name)?;
                self.ours().statements.insert(name, ask);
                out.extend_from_slice(backend::PARSE_COMPLETE);
            }
            Part::Bind(portal, bound) => {
                if self.ours().portals.len() >= PORTALS_MOST {
                    return Err(too_many_portals());
                }
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

    /// Refuses a name that a statement has already, and one too many.
    fn check_name(&self, name: &[u8]) -> Result<(), ClientMessage> {
        if name.is_empty() {
            return Ok(());
        }
        let of_ours = self.ours.as_ref().map(|ours| &ours.statements);
        if self.prepared.find(name).is_some() || of_ours.is_some_and(|ours| ours.contains_key(name))
        {
            return Err(already_there(name));
        }
        let max = self.context.config.listen.max_statements_per_client;
        check_room(self.prepared.len() + of_ours.map_or(0, HashMap::len), max)
    }

    fn ours(&mut self) -> &mut Ours {
        let at_login = self.mode;
        self.is_particular = true;
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

impl Linked {
    /// Holds a message back until all in front of it is answered.
    fn await_answers(&mut self, batch: &mut Batch<'_>) -> Next {
        self.awaits.answers = true;
        batch.gather();
        frontend::put_flush(batch.out);
        Next::Hold
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
    /// A Parse takes the place of a statement of ours, if it is not refused.
    fn is_named_in(&self, frame: Frame<'_>) -> bool {
        frame.head.tag == b'P'
            && frontend::parse(frame.body)
                .is_some_and(|parse| self.statements.contains_key(parse.name))
    }

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

/// False of the bodies of almost all Parse messages, by a glance at the first letters of their texts.
#[inline]
pub(super) fn may_parse_ours(body: &[u8]) -> bool {
    match body {
        [0, text @ ..] => sql::may_be_ours(text),
        named => may_be_in_named(named),
    }
}

#[cold]
fn may_be_in_named(body: &[u8]) -> bool {
    let mut left = body;
    frame::take_text(&mut left).is_some() && sql::may_be_ours(left)
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

fn already_there(name: &[u8]) -> ClientMessage {
    let name = String::from_utf8_lossy(name);
    let text = format!("prepared statement \"{name}\" already exists");
    ClientMessage::new(sqlstate::DUPLICATE_STATEMENT, text)
}

fn too_many_portals() -> ClientMessage {
    let text =
        format!("a client may have at most {PORTALS_MOST} portals of settings of pgweir's own");
    ClientMessage::new(sqlstate::CONFIGURATION_LIMIT, text)
}

/// Portals in one transaction.
const PORTALS_MOST: usize = 100;

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
