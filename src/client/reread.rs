//! Statements that are prepared once more, read as they were when their client parsed them.
//!
//! A text is read when it is parsed: literals and names mean what the settings of that moment say
//! (pitfall P68). A server that gets a statement later may have other settings. It is given those of
//! the first Parse for as long as it reads the text: in a transaction of its own where the server is
//! at rest, so that what the client does next knows nothing of it, and else inside the client's own,
//! where what was in force is brought back behind it. What a statement means is not known while
//! answers are owed (`Session::must_await_answers` holds it back until then).

use super::batch::Batch;
use super::link::InFlight;
use super::names::Prepared;
use super::prepared::Desk;
use super::provide::Name;
use crate::server::Server;
use crate::server::exchange::{Request, Segment, Verdict};
use crate::server::store::Statement;
use crate::state::settings::Settings;
use crate::wire::backend::TxStatus;
use crate::wire::frontend;

/// How a statement is read once more.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Reading {
    /// What is in force is what it was parsed under, or all that is known of it.
    AsItIs,
    /// In a transaction of its own, in front of the client's.
    Apart,
    /// Inside the client's transaction.
    Within,
}

impl Reading {
    /// How `server` has to read a statement that it lacks.
    pub(super) fn of(statement: &Statement, server: &Server, in_flight: InFlight) -> Self {
        let Some(under) = statement.under() else { return Self::AsItIs };
        let is_same = || {
            statement.is_of(&server.applied)
                || (!may_hold_literal(statement.text()) && under.names_alike(&server.applied))
        };
        if (!in_flight.changes_meaning && is_same()) || reads_alike(statement) {
            return Self::AsItIs;
        }
        match (server.exchange.segment(), server.exchange.tx()) {
            // Nothing is prepared there, whatever it means.
            (Segment::Failed, _) => Self::AsItIs,
            _ if server.exchange.is_in_failed_block() => Self::AsItIs,
            (Segment::None, TxStatus::Idle) => Self::Apart,
            (Segment::None | Segment::Open, _) => Self::Within,
        }
    }
}

/// True if a text means the same under all settings. (A query of ours in front of it would take the
/// snapshot that SET TRANSACTION must come before.)
fn reads_alike(statement: &Statement) -> bool {
    let text = statement.text();
    statement.traits().is_control() && text.is_ascii() && !text.contains(&b'\\')
}

/// False for a text that certainly has no literal in it but numbers.
fn may_hold_literal(text: &[u8]) -> bool {
    let is_literal = |at: usize| {
        // `$1` is a parameter, and `$$` or `$a$` begins a string.
        text.get(at) == Some(&b'\'') || !text.get(at + 1).is_some_and(u8::is_ascii_digit)
    };
    memchr::memchr2_iter(b'\'', b'$', text).any(is_literal)
}

/// True if a Bind or Describe of what is called `name` would make `server` read the statement once more,
/// under other settings than are in force.
pub(super) fn is_read_otherwise(
    name: &Name,
    prepared: &Prepared,
    server: &Server,
    in_flight: InFlight,
) -> bool {
    let Some(statement) = name.statement(prepared) else { return false };
    let is_there = || match (name, &prepared.unnamed) {
        (Name::Unnamed, Some(parse)) => server.statements.unnamed.is(parse),
        _ => server.statements.is_ready(statement),
    };
    Reading::of(statement, server, in_flight) != Reading::AsItIs && !is_there()
}

/// What our statement and its portal are called that change settings.
const CONTEXT: &[u8] = b"pgweir_context";

/// Changes settings, as messages that a request of ours covers.
pub(super) fn put_context(out: &mut Vec<u8>, text: &str) {
    // An error may have left it.
    frontend::put_close_statement(out, CONTEXT);
    frontend::put_parse(out, CONTEXT, &[text.as_bytes(), b"\0\0\0"].concat());
    frontend::put_run(out, CONTEXT);
    frontend::put_close_statement(out, CONTEXT);
}

impl Desk<'_> {
    /// Has the server read a text in a transaction of its own, and returns that request's serial
    /// number. `closed`: statements to close before. Should it fail, the request behind it fails for
    /// want of the statement, and is told why.
    pub(super) fn put_apart(
        &mut self,
        batch: &mut Batch<'_>,
        statement: &Statement,
        name: &[u8],
        closed: &[&[u8]],
    ) -> u64 {
        batch.gather();
        for name in closed {
            frontend::put_close_statement(batch.out, name);
        }
        if let Some(under) = statement.under() {
            put_context(batch.out, &under.enter_parse_context());
        }
        frontend::put_parse(batch.out, name, statement.rest());
        frontend::put_sync(batch.out);
        let serial = self.server.exchange.next_serial();
        self.naming.get_or_insert_default().group = Some(serial);
        self.server.exchange.on_request(Request::Simple(Verdict::Swallow), None);
        serial
    }

    /// Puts in front of a Parse inside the client's transaction what it is to be read under.
    pub(super) fn enter_context(&mut self, batch: &mut Batch<'_>, statement: &Statement) {
        batch.gather();
        enter_context(batch.out, self.server, statement);
    }

    /// Brings back, behind it, what was in force.
    pub(super) fn leave_context(&mut self, batch: &mut Batch<'_>) {
        batch.gather();
        leave_context(batch.out, self.server);
    }
}

/// Puts in front of a Parse inside the client's transaction what it is to be read under.
pub(super) fn enter_context(out: &mut Vec<u8>, server: &mut Server, statement: &Statement) {
    if let Some(under) = statement.under() {
        put_context_within(out, server, &under.enter_parse_context());
    }
}

/// Brings back, behind it, what was in force.
pub(super) fn leave_context(out: &mut Vec<u8>, server: &mut Server) {
    put_context_within(out, server, &Settings::leave_parse_context());
}

fn put_context_within(out: &mut Vec<u8>, server: &mut Server, text: &str) {
    put_context(out, text);
    for request in [
        Request::Close(Verdict::Swallow),
        Request::Parse(Verdict::Swallow),
        Request::Own,
        Request::Own,
        Request::Close(Verdict::Swallow),
        Request::Close(Verdict::Swallow),
    ] {
        server.exchange.on_request(request, None);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn strings_of_each_kind_are_literals_and_parameters_are_none() {
        for (text, expected) in [
            ("select a from t where b = $1 and c = 2", false),
            ("copy t to stdout", false),
            ("select $12::date", false),
            ("select '1'", true),
            ("select $$1$$", true),
            ("select $a$1$a$", true),
            ("select $", true),
        ] {
            assert_eq!(may_hold_literal(text.as_bytes()), expected, "{text}");
        }
    }
}
