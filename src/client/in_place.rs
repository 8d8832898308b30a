//! What a server is sent in the place of what it is not to run: so a block has failed, and a segment is skipped,
//! where the client is told that it has.

use super::batch::Batch;
use super::from_client::{Frame, Next};
use super::link::{Link, Replacement, Words};
use super::names::drop_unnamed;
use super::serve::Session;
use crate::error::ClientMessage;
use crate::server::exchange::{Request, Verdict};
use crate::server::fate::Effect;
use crate::wire::{frontend, sqlstate};

impl Session {
    /// Refuses a frame of a session that is particular, or answers it in the server's place. `None`: it may go to the
    /// server.
    #[cold]
    pub(super) fn keep_back(&mut self, batch: &mut Batch<'_>, frame: Frame<'_>) -> Option<Next> {
        if self.is_read_only() && self.refuses_to_write(batch, frame) {
            return Some(Next::Go);
        }
        // A Query is looked at where its text is read.
        let may_be_ours = match frame.head.tag {
            b'Q' => false,
            b'P' => true,
            _ => self.ours.is_some(),
        };
        if may_be_ours && frame.is_whole() { self.take_ours(batch, frame) } else { None }
    }

    /// Refuses what a frame asks for.
    pub(super) fn refuse_text(
        &mut self,
        batch: &mut Batch<'_>,
        frame: Frame<'_>,
        message: ClientMessage,
    ) {
        self.replace_text(batch, frame, NO_SQL, Some(message));
    }

    /// Sends `text` in the place of a frame: as a Query for a Query, else as a Parse. With a `message` the error
    /// that it makes is told in these words.
    pub(super) fn replace_text(
        &mut self,
        batch: &mut Batch<'_>,
        frame: Frame<'_>,
        text: &[u8],
        message: Option<ClientMessage>,
    ) {
        let Link::Linked(linked) = &mut self.link else { return };
        let Some(server) = linked.checkout.server() else { return };
        if let Some(message) = message {
            linked.replacements.put(Replacement {
                serial: server.exchange.next_serial(),
                when: sqlstate::SYNTAX_ERROR,
                with: Words::Ours(message),
            });
        }
        server.note_text(said(frame));
        linked.has_unread = false;
        self.client_rest = frame.rest();
        batch.swallow(frame.available);
        if frame.head.tag == b'Q' {
            frontend::put_query(batch.out, text);
            let undo = drop_unnamed(&mut self.prepared, server);
            server.exchange.on_run(Request::Simple(Verdict::Forward), Effect::Reads, undo);
        } else {
            frontend::put_parse(batch.out, NAME, &[text, b"\0\0\0"].concat());
            server.exchange.on_request(Request::Parse(Verdict::Forward), None);
        }
    }
}

/// The text that the client has sent.
fn said(frame: Frame<'_>) -> &[u8] {
    match frame.head.tag {
        b'Q' => frontend::query_text(frame.body),
        _ => frontend::parse(frame.body).map_or(b"", |parse| parse.text),
    }
}

const NO_SQL: &[u8] = b"refused by pgweir";
/// What no statement is called.
const NAME: &[u8] = b"pgweir_refused";
