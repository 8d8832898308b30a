//! Answers of ours to what is not sent to a server, in their place among the server's.

use std::task::Context as TaskContext;

use super::batch::Batch;
use super::link::{Link, Linked};
use super::serve::{End, Session};
use crate::server::Server;
use crate::server::exchange::MadeUp;
use crate::wire::backend;

impl Session {
    /// Gives the answers of ours that are due, because nothing of the server's is in front of them. Where
    /// it will say something behind them they go with that, in one write.
    pub(super) fn answer_made_up(&mut self, cx: &mut TaskContext<'_>) -> Result<(), End> {
        let Link::Linked(linked) = &mut self.link else { return Ok(()) };
        let is_cut = linked.server_rest.is_cut();
        let Some(server) = linked.checkout.server() else { return Ok(()) };
        let mut out = Vec::new();
        // Not into the middle of a frame: behind it.
        if server.exchange.owes_made_up_alone() && !is_cut {
            append(server, &mut out);
        }
        if server.exchange.has_undone() {
            self.undo();
        }
        if out.is_empty() {
            return Ok(());
        }
        self.end_again();
        if let Link::Linked(linked) = &mut self.link
            && linked.checkout.peek().is_some_and(|server| server.exchange.is_held_open())
        {
            linked.on_held_open();
        }
        self.send_to_client(&out, cx)
    }
}

impl Linked {
    /// Behind a frame, if all of it was stepped over, come answers of ours that nothing else comes in front of.
    pub(super) fn on_frame_over(&mut self, batch: &mut Batch<'_>) {
        if self.server_rest.len > 0 {
            return;
        }
        let Some(server) = self.checkout.server() else { return };
        if server.exchange.owes_made_up_alone() {
            put_made_up(server, batch);
        }
        if server.exchange.is_held_open() {
            self.on_held_open();
        }
    }
}

/// Puts the answers of ours that are due where the batch is.
#[cold]
pub(super) fn put_made_up(server: &mut Server, batch: &mut Batch<'_>) {
    batch.gather();
    append(server, batch.out);
}

/// Appends the answers of ours that are due.
fn append(server: &mut Server, out: &mut Vec<u8>) {
    while let Some(made_up) = server.exchange.next_made_up() {
        match made_up {
            MadeUp::ParseComplete => out.extend_from_slice(backend::PARSE_COMPLETE),
            MadeUp::CloseComplete => out.extend_from_slice(backend::CLOSE_COMPLETE),
            MadeUp::Ours => out.extend(server.made_up.pop_front().into_iter().flatten()),
        }
    }
}
