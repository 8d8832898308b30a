//! Cancel requests: ours are handed to the session that they name, which alone knows what it does at
//! that moment, and to which server.

use std::task::Context as TaskContext;

use super::context::Context;
use super::link::Link;
use super::record::Ring;
use super::serve::{End, Session};
use crate::error::ClientMessage;
use crate::server::exchange::{Request, Verdict};
use crate::wire::sqlstate;

/// Passes a client's cancel request on, and waits until it has reached what it is meant for, or
/// nothing. The client's own connection is closed then and not before: it may take that for the sign
/// that none of its later statements will be hit (pitfall P69). An unknown key is ignored in silence:
/// whoever guesses learns nothing.
///
/// Takes as long as a cancel may be under way to a server. Dropping it does not take the request back.
pub(super) async fn forward(context: &Context, process_id: i32, secret: &[u8]) {
    let Some(record) = context.registry.find(process_id, secret) else {
        tracing::debug!(process_id, "a cancel request for nobody");
        return;
    };
    context.process.cancels.increment();
    tracing::info!(client = record.id, "cancel request");
    let Some(over) = record.bell.ring_cancel() else { return };
    // It is also over when the session is, whose record this would keep.
    drop(record);
    // Nothing is ever sent: the other half is dropped when it is over.
    let _dropped = over.await;
}

impl Session {
    /// A cancel request has come: for what the client waits for now, if it waits for anything. False
    /// if it is left for later.
    pub(super) fn on_cancel(&mut self, cx: &mut TaskContext<'_>) -> bool {
        if matches!(self.link, Link::Doubting(_)) && !self.inbox.is_empty() {
            // A question of ours is in front of what it is meant for.
            self.second_look.forget();
            return false;
        }
        let is_waiting = matches!(self.link, Link::Waiting(_) | Link::Proving { .. });
        let mut running = None;
        if let Link::Linked(linked) = &self.link
            && let Some(server) = linked.checkout.peek()
        {
            if server.exchange.head() == Some(Request::Simple(Verdict::Swallow)) {
                // A command of ours is in front of the client's statement. The bell is left rung
                // until it is answered: the cancel must not hit that (pitfall P24).
                self.second_look.forget();
                return false;
            }
            // One that is idle, in a transaction or not, has nothing to stop.
            running = (server.exchange.depth() > 0).then(|| server.record.clone());
        }
        if running.is_none() && !is_waiting {
            // The query that it is meant for was sent before, to another socket.
            if self.second_look.poll(cx).is_pending() {
                return false;
            }
        }
        self.second_look.forget();
        self.record().bell.silence(Ring::Cancel);
        let askers = self.record().bell.take_askers();
        if askers.is_empty() {
            // Whoever rang was heard with those before, and what runs now is not what they meant.
            return true;
        }
        if let Some(server) = running {
            // Whatever becomes of it, it is not sent to another server.
            self.end_again();
            self.pool.cancel(&server, askers);
        } else if is_waiting {
            self.answer_without_server(&ClientMessage::new(
                sqlstate::QUERY_CANCELED,
                "canceling statement due to user request",
            ));
        }
        true
    }

    /// Goes on with what waited for the end of a cancel.
    pub(super) fn poll_cancels(&mut self, cx: &mut TaskContext<'_>) -> Result<bool, End> {
        let Link::Linked(linked) = &mut self.link else { return Ok(false) };
        let Some(server) = linked.checkout.peek() else { return Ok(false) };
        if !linked.awaits.cancels || server.record.cancels().poll_over(cx).is_pending() {
            return Ok(false);
        }
        linked.awaits.cancels = false;
        self.take_inbox(cx)?;
        Ok(true)
    }
}
