//! The first exchange of a transaction that only reads, sent once more to another server when its own was lost.
//!
//! In the mode `read_only` nothing is written, so that what was sent may be sent again, whole, as long as the
//! client has been told nothing of the answer: the client notices nothing of a replica that goes.

use tokio::time::Instant;

use super::batch::Batch;
use super::link::{Link, Linked};
use super::names::Prepared;
use super::naming::reading;
use super::serve::Session;
use crate::error::ClientMessage;
use crate::server::Server;
use crate::sql::{LoneBegin, may_repeat};
use crate::wire::frame::{self, HEAD};
use crate::wire::frontend::{self, Named, Target};
use crate::wire::sqlstate;

/// Bytes that are kept of an exchange. A longer one is not sent once more.
const KEPT_MOST: usize = 64 * 1024;

/// How often one exchange is sent again that is not to blame for the loss.
const TIMES_MOST: u8 = 3;
/// The same where it may be what the exchange does that ends its server.
const TIMES_ALONE: u8 = 1;

/// What a client has sent since its link began, as long as it has been told nothing of the answers.
#[derive(Debug, Default)]
pub(super) struct Again {
    sent: Vec<u8>,
    /// Where it goes on in the bytes that are being taken; `None`: its first message has not come.
    from: Option<usize>,
    /// The BEGIN that was answered before it was sent.
    begun: Option<LoneBegin>,
    /// What came of the answer in one read with the server's last words. The client has not been told.
    untold: Vec<u8>,
}

impl Again {
    /// What the client is to be told that was not sent again after all.
    pub(super) fn take_untold(&mut self) -> Vec<u8> {
        std::mem::take(&mut self.untold)
    }

    /// A message at the batch's place goes to the server, behind `begun`.
    pub(super) fn note(&mut self, batch: &Batch<'_>, begun: Option<LoneBegin>) {
        if self.from.is_none() {
            self.from = Some(batch.at);
            self.begun = begun;
        }
    }
}

impl Session {
    /// Keeps what was taken from the client, as long as it may be sent again.
    pub(super) fn keep_for_again(&mut self, taken: &[u8]) {
        let Link::Linked(linked) = &mut self.link else { return };
        let Some(again) = &mut linked.again else { return };
        let Some(from) = &mut again.from else { return };
        let more = taken.get(std::mem::take(from)..).unwrap_or_default();
        if again.sent.len() + more.len() > KEPT_MOST {
            linked.again = None;
        } else {
            again.sent.extend_from_slice(more);
        }
    }

    /// The client is told something: what it has sent is not sent again.
    pub(super) fn end_again(&mut self) {
        if let Link::Linked(linked) = &mut self.link
            && linked.again.take().is_some()
        {
            self.repeated = 0;
        }
    }

    /// True if `bytes`, of an answer that ends with the server's last words, are not to be told yet: what they answer
    /// may be sent again. Else nothing that the client has sent is.
    #[inline]
    pub(super) fn withholds(&mut self, bytes: &[u8]) -> bool {
        if let Link::Linked(linked) = &mut self.link
            && linked.last_words.is_some()
            && !(linked.is_told || linked.is_done)
            && let Some(again) = &mut linked.again
            && !prepares_by_name(&again.sent)
            && !has_news(bytes)
        {
            again.untold = bytes.to_vec();
            return true;
        }
        self.end_again();
        false
    }

    /// The server of `linked` is lost, before `abandon` has taken back what was noted of it. What is to be sent
    /// again, if it may be.
    pub(super) fn take_again(&mut self, linked: &mut Linked) -> Option<Box<Again>> {
        let again = linked.again.take().filter(|again| !again.sent.is_empty())?;
        let is_cancelled = linked.cancel_sent.is_some() || linked.is_leaving || linked.is_told;
        let server = linked.checkout.peek()?;
        let is_of_host = linked.last_words.as_deref().is_none_or(ends_all);
        // It was another's exchange that broke it, or its host is going.
        let is_innocent = linked.last_words.as_deref().is_some_and(is_of_a_crash)
            || self.pool.is_stranded(&server.record)
            || self.pool.loses_several(&server.record, Instant::now());
        let may = !is_cancelled
            && is_of_host
            && self.repeated < if is_innocent { TIMES_MOST } else { TIMES_ALONE }
            && !server.record.cancels().are_under_way()
            && is_harmless(&again.sent, &self.prepared, server)
            && self.pool.may_retry();
        may.then_some(again)
    }

    /// Has what was sent go to another server, in front of what came behind it.
    pub(super) fn send_again(&mut self, mut again: Again) {
        self.repeated += 1;
        self.pool.stats.lost_retries.increment();
        self.begun = again.begun;
        // Its last message may not have come whole: the rest comes behind it.
        self.client_rest = 0;
        again.sent.append(&mut self.inbox);
        self.inbox = again.sent;
    }
}

/// True if there is something in it that answers nothing, and will not be said again.
fn has_news(mut bytes: &[u8]) -> bool {
    while let Ok(Some(head)) = frame::head(bytes, usize::MAX) {
        if matches!(head.tag, b'S' | b'A') {
            return true;
        }
        bytes = bytes.get(head.len..).unwrap_or_default();
    }
    false
}

/// True if it has a Parse that gives its statement a name. The server may have told of it: it is there then.
fn prepares_by_name(sent: &[u8]) -> bool {
    let mut rest = sent;
    while let Ok(Some(head)) = frontend::head(rest, KEPT_MOST) {
        let body = rest.get(HEAD..head.len).unwrap_or_default();
        if head.tag == b'P' && frontend::parse(body).is_none_or(|parse| !parse.name.is_empty()) {
            return true;
        }
        rest = rest.get(head.len..).unwrap_or_default();
    }
    false
}

/// True for what a server says that goes because its host does, or because it replays what is in the way. What
/// ends a session for what it does comes with other codes.
pub(super) fn ends_all(words: &ClientMessage) -> bool {
    matches!(&words.sqlstate.0, b"57P01" | b"57P02" | b"57P03" | b"40001")
}

/// True for what a server says that ends because the process of another crashed.
fn is_of_a_crash(words: &ClientMessage) -> bool {
    words.sqlstate == sqlstate::CRASH_SHUTDOWN
}

/// True if all that was sent only reads, as far as is known.
fn is_harmless(sent: &[u8], prepared: &Prepared, server: &Server) -> bool {
    let reading = reading(server);
    let is_known = |name: &[u8]| {
        let statement = prepared.statement(name);
        statement.is_some_and(|statement| may_repeat(statement.text(), reading))
    };
    let mut rest = sent;
    // A statement that is used must be the one that is called so at the end as well.
    let mut is_used = false;
    while let Ok(Some(head)) = frontend::head(rest, KEPT_MOST) {
        let Some(frame) = rest.get(..head.len) else { return false };
        let body = frame.get(HEAD..).unwrap_or_default();
        is_used |= matches!(head.tag, b'B' | b'D');
        let is_harmless = match head.tag {
            b'P' | b'C' if is_used => false,
            b'Q' => may_repeat(frontend::query_text(body), reading),
            b'P' => frontend::parse(body).is_some_and(|parse| may_repeat(parse.text, reading)),
            b'B' => frontend::bind(body).is_some_and(|bind| is_known(bind.statement)),
            b'D' => match frontend::named(body) {
                Some(Named { target: Target::Statement, name }) => is_known(name),
                other => other.is_some(),
            },
            b'E' | b'S' | b'H' | b'C' => true,
            _ => false,
        };
        if !is_harmless {
            return false;
        }
        rest = rest.get(head.len..).unwrap_or_default();
    }
    rest.is_empty()
}
