//! Messages about statements that are not taken as they come: held back until answers decide what they
//! mean, or passed on for the server to refuse.

use super::batch::Batch;
use super::breach::malformed;
use super::from_client::{Frame, Next};
use super::inbox::DEPTH_MAX;
use super::link::{Awaits, Link, Linked};
use super::names::Prepared;
use super::provide::Name;
use super::reread::is_read_otherwise;
use super::serve::{End, Session};
use crate::server::exchange::{Request, Verdict};
use crate::sql::classify;
use crate::wire::frontend::{self, Target};

/// What a message about a statement or a portal says, read once, and the statement that it uses.
pub(super) enum About<'a> {
    Parse(frontend::Parse<'a>),
    Bind(frontend::Bind<'a>, Name),
    DescribeStatement(&'a [u8], Name),
    DescribePortal,
    Close(frontend::Named<'a>),
}

impl<'a> About<'a> {
    /// Reads a Parse, Bind, Describe or Close of a client with these statements; `None` if it breaks the
    /// protocol.
    pub(super) fn read(frame: Frame<'a>, prepared: &Prepared) -> Option<Self> {
        match frame.head.tag {
            b'P' => frontend::parse(frame.body).map(Self::Parse),
            b'B' => {
                let bind = frontend::bind(frame.body)?;
                Some(Self::Bind(bind, Name::of(prepared, bind.statement)))
            }
            b'D' => {
                let named = frontend::named(frame.body)?;
                Some(match named.target {
                    Target::Statement => {
                        Self::DescribeStatement(named.name, Name::of(prepared, named.name))
                    }
                    Target::Portal => Self::DescribePortal,
                })
            }
            _ => frontend::named(frame.body).map(Self::Close),
        }
    }

    /// The name of the statement that it is about.
    fn statement(&self) -> Option<&'a [u8]> {
        match self {
            Self::Parse(parse) => Some(parse.name),
            Self::Bind(bind, _) => Some(bind.statement),
            Self::DescribeStatement(name, _) => Some(name),
            Self::DescribePortal => None,
            Self::Close(named) => (named.target == Target::Statement).then_some(named.name),
        }
    }

    /// The statement that it uses.
    fn used(&self) -> Option<&Name> {
        match self {
            Self::Bind(_, used) | Self::DescribeStatement(_, used) => Some(used),
            Self::Parse(_) | Self::DescribePortal | Self::Close(_) => None,
        }
    }
}

impl Session {
    /// A message that breaks the protocol is the server's to refuse: in its words, and in its turn.
    pub(super) fn pass_malformed(
        &mut self,
        batch: &mut Batch<'_>,
        frame: Frame<'_>,
    ) -> Result<Next, End> {
        let tag = frame.head.tag;
        if !frame.is_whole() {
            return Err(malformed(tag));
        }
        let Link::Linked(linked) = &mut self.link else { return Ok(Next::Hold) };
        let Some(server) = linked.checkout.server() else { return Ok(Next::Hold) };
        server.exchange.on_request(
            match tag {
                b'P' => Request::Parse(Verdict::Forward),
                b'B' => Request::Bind,
                b'D' => Request::Describe(Verdict::Forward),
                _ => Request::Close(Verdict::Forward),
            },
            None,
        );
        batch.pass(frame.available);
        Ok(Next::Go)
    }

    /// A COPY is under way that may swallow the message, or a DEALLOCATE that may take the statement
    /// (pitfall P51), or a Parse or Close of it that may fail or be skipped: only the answer tells which.
    /// The message is held back until then. `None`: one that is about no statement.
    pub(super) fn must_await_answers(&mut self, about: Option<&About<'_>>) -> bool {
        let Link::Linked(linked) = &mut self.link else { return false };
        let Some(server) = linked.checkout.peek() else { return false };
        let in_flight = linked.in_flight;
        let is_read_otherwise = || {
            about
                .and_then(About::used)
                .is_some_and(|name| is_read_otherwise(name, &self.prepared, server, in_flight))
        };
        let has_boundary = server.exchange.has_boundary();
        if !(in_flight.deallocates || in_flight.may_copy || has_boundary) {
            linked.awaits.answers = is_read_otherwise() && !server.exchange.is_answered();
            return linked.awaits.answers;
        }
        if server.exchange.is_answered() {
            linked.in_flight.ran();
            return false;
        }
        let depends = |about: &About<'_>| {
            let Some(name) = about.statement() else { return false };
            // A new unnamed statement takes the place of whatever there is.
            if name.is_empty() && matches!(about, About::Parse(_)) {
                return false;
            }
            is_read_otherwise()
                || (in_flight.deallocates && self.prepared.ours(name).is_some())
                || self.prepared.is_open_question(name, server)
        };
        // What it names, and whether the block is good, is known then.
        let depends_on_named = (in_flight.deallocates || has_boundary)
            && about.is_some_and(|about| names_statements(about, &self.prepared));
        // Under which settings it is read, or what is behind it, is known then.
        let is_read_later = in_flight.changes_meaning && has_boundary && about.is_some();
        linked.awaits.answers =
            in_flight.may_copy || depends_on_named || is_read_later || about.is_some_and(depends);
        linked.awaits.answers
    }
}

impl Linked {
    /// True if a message with this tag has to wait, whatever is in it.
    pub(super) fn holds(&mut self, tag: u8) -> bool {
        let Some(server) = self.checkout.peek() else { return true };
        let is_of_copy = || matches!(tag, b'd' | b'c' | b'f') || server.exchange.takes_copy_data();
        self.awaits = Awaits {
            answers: self.awaits.answers || self.restores.must_be_awaited(),
            room: server.exchange.depth() >= DEPTH_MAX,
            // It could come to hit this one (P69). A copy is what it is meant for.
            cancels: server.record.cancels().are_under_way() && !is_of_copy(),
        };
        // A server that is done goes back: this is for the next.
        self.is_done || self.awaits.any()
    }
}

/// The message is about a statement whose text names others, which are prepared in front of it.
fn names_statements(about: &About<'_>, prepared: &Prepared) -> bool {
    match about {
        // Who never had one has none that could be named.
        About::Parse(_) if prepared.never_had_one() => false,
        About::Parse(parse) => classify(parse.text).names_statements(),
        About::Close(_) | About::DescribePortal => false,
        About::Bind(..) | About::DescribeStatement(..) => about
            .used()
            .and_then(|name| name.statement(prepared))
            .is_some_and(|statement| statement.traits().names_statements()),
    }
}
