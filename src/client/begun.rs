//! A block that the client has begun, and that no server knows of yet.
//!
//! A lone BEGIN is answered at once, and sent as a message of its own in front of the first statement behind it,
//! its answer swallowed: that is a round trip less, and no server is held by a client that thinks between the
//! two. A COMMIT or ROLLBACK right behind it needs no server at all. `now()` is then the time of the first
//! statement.

use std::task::Context as TaskContext;

use tokio::time::Instant;

use super::batch::Batch;
use super::from_client::{Frame, Next};
use super::link::{Deeds, Linked};
use super::serve::{End, Session};
use crate::config::PoolMode;
use crate::server::exchange::{Request, Verdict};
use crate::server::fate::Effect;
use crate::server::unnamed::Unnamed;
use crate::sql::{LoneBegin, LoneEnd, classify};
use crate::wire::backend::TxStatus;
use crate::wire::{frame, frontend};

/// True if a frame may be a lone BEGIN, by its first two letters: hardly any other goes further.
pub(super) const fn may_be(frame: Frame<'_>) -> bool {
    frame.head.tag == b'Q'
        && matches!(
            frame.body,
            [b'b' | b'B', b'e' | b'E', ..]
                | [b's' | b'S', b't' | b'T', ..]
                | [b' ' | b'\t' | b'\n' | b'\r' | 0x0b | 0x0c, ..]
        )
}

impl Session {
    /// Answers a frame that needs no server, because it begins a block or is in one that no server knows of.
    /// `None`: it needs one.
    pub(super) fn answer_without(
        &mut self,
        batch: &mut Batch<'_>,
        frame: Frame<'_>,
        cx: &mut TaskContext<'_>,
    ) -> Result<Option<Next>, End> {
        let text = (frame.head.tag == b'Q').then(|| frontend::query_text(frame.body));
        // One that breaks the protocol is for a server to refuse.
        let text = text.filter(|text| text.len() + 1 == frame.body.len());
        let answer = match (self.begun, text, frame.head.tag) {
            (None, Some(text), _) if self.may_defer() => {
                let Some(begin) = LoneBegin::read(text) else { return Ok(None) };
                self.begun = Some(begin);
                Answer::complete(begin.tag(), TxStatus::Block)
            }
            (Some(_), Some(text), _) => {
                let Some(end) = LoneEnd::read(text) else { return Ok(None) };
                self.begun = None;
                self.traffic.transactions.increment();
                Answer::complete(end.tag(), TxStatus::Idle)
            }
            (Some(_), None, b'S') if frame.head.len == frame::HEAD => {
                Answer::ready(TxStatus::Block)
            }
            _ => return Ok(None),
        };
        if text.is_some() {
            self.traffic.queries.increment();
            // A simple query takes it along.
            self.prepared.unnamed = None;
        }
        batch.swallow(frame.head.len);
        self.idle_since = Instant::now();
        self.send_to_client(answer.bytes(), cx)?;
        Ok(Some(Next::Go))
    }

    fn may_defer(&self) -> bool {
        self.rules.defer_begin && self.rules.pool_mode == PoolMode::Transaction
    }
}

/// Puts a BEGIN that was answered behind what is put on a server for the client, and in front of all that the
/// client sends.
pub(super) fn put(begin: LoneBegin, linked: &mut Linked, batch: &mut Batch<'_>) {
    let Some(server) = linked.checkout.server() else { return };
    batch.gather();
    frontend::put_query_with(batch.out, |text| begin.put(text));
    let traits = classify(b"begin");
    let tx = server.exchange.tx();
    server.exchange.on_run(Request::Simple(Verdict::Swallow), Effect::of(traits), None);
    server.exchange.presume_block();
    server.statements.unnamed = Unnamed::None;
    linked.in_flight.run(Deeds::of(traits), tx);
}

/// An answer of ours, without an allocation.
struct Answer {
    bytes: [u8; Self::MOST],
    len: usize,
}

impl Answer {
    /// The longest tag is `START TRANSACTION`.
    const MOST: usize = 32;

    fn complete(tag: &str, status: TxStatus) -> Self {
        let mut answer = Self { bytes: [0; Self::MOST], len: 0 };
        let len = u8::try_from(tag.len() + 5).unwrap_or_default();
        answer.put(&[b'C', 0, 0, 0, len]);
        answer.put(tag.as_bytes());
        answer.put(&[0, b'Z', 0, 0, 0, 5, status.byte()]);
        answer
    }

    fn ready(status: TxStatus) -> Self {
        let mut answer = Self { bytes: [0; Self::MOST], len: 0 };
        answer.put(&[b'Z', 0, 0, 0, 5, status.byte()]);
        answer
    }

    fn put(&mut self, part: &[u8]) {
        if let Some(place) = self.bytes.get_mut(self.len..self.len + part.len()) {
            place.copy_from_slice(part);
            self.len += part.len();
        }
    }

    fn bytes(&self) -> &[u8] {
        self.bytes.get(..self.len).unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn answers_are_whole_messages() {
        let long = Answer::complete("START TRANSACTION", TxStatus::Block);
        assert_eq!(long.bytes(), b"C\0\0\0\x16START TRANSACTION\0Z\0\0\0\x05T");
        assert_eq!(
            Answer::complete("COMMIT", TxStatus::Idle).bytes(),
            b"C\0\0\0\x0bCOMMIT\0Z\0\0\0\x05I"
        );
        assert_eq!(Answer::ready(TxStatus::Block).bytes(), b"Z\0\0\0\x05T");
    }
}
