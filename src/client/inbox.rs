//! What a client sends: read as long as there is room, and kept while it has to wait.

use std::task::{Context as TaskContext, Poll};

use super::link::Link;
use super::serve::{End, Session};
use crate::net::buffer::{HOLD_LEN, with_scratch};
use crate::wire::frame;

/// Requests that a client may have unanswered before no more are passed on.
pub(super) const DEPTH_MAX: usize = 10_000;

impl Session {
    /// Reads what the client sends.
    pub(super) fn poll_client(&mut self, cx: &mut TaskContext<'_>) -> Result<bool, End> {
        if !self.may_read_client() {
            return Ok(false);
        }
        with_scratch(|scratch| {
            let n = match self.stream.poll_read(cx, &mut scratch.input) {
                Poll::Pending => return Ok(false),
                Poll::Ready(Ok(0)) => return self.on_client_gone(End::ClientLeft),
                Poll::Ready(Ok(n)) => n,
                Poll::Ready(Err(error)) => return self.on_client_gone(End::Io(error)),
            };
            let read = scratch.input.get(..n).unwrap_or_default();
            self.traffic.bytes_received.add(n as u64);
            if self.inbox.is_empty() {
                let taken = self.take_from_client(read, &mut scratch.output, cx)?;
                self.inbox.extend_from_slice(read.get(taken..).unwrap_or_default());
                return Ok(true);
            }
            self.inbox.extend_from_slice(read);
            let inbox = std::mem::take(&mut self.inbox);
            let taken = self.take_from_client(&inbox, &mut scratch.output, cx)?;
            self.keep(inbox, taken);
            Ok(true)
        })
    }

    /// The client has closed its end. If it has said goodbye, what it said before is done all the
    /// same, though that still waits.
    fn on_client_gone(&mut self, end: End) -> Result<bool, End> {
        if !ends_with_goodbye(&self.inbox) {
            return Err(end);
        }
        self.has_left = true;
        Ok(false)
    }

    /// Takes what is waiting in the inbox.
    pub(super) fn take_inbox(&mut self, cx: &mut TaskContext<'_>) -> Result<(), End> {
        if self.inbox.is_empty() {
            return Ok(());
        }
        let inbox = std::mem::take(&mut self.inbox);
        with_scratch(|scratch| {
            let taken = self.take_from_client(&inbox, &mut scratch.output, cx)?;
            self.keep(inbox, taken);
            Ok(())
        })
    }

    /// Answers what waits in the inbox of a client that will have no server for it.
    pub(super) fn answer_inbox(&mut self, cx: &mut TaskContext<'_>) -> Result<bool, End> {
        let before = self.inbox.len();
        if before > 0 && matches!(self.link, Link::StandIn(_)) {
            self.take_inbox(cx)?;
        }
        Ok(self.inbox.len() != before)
    }

    fn keep(&mut self, mut inbox: Vec<u8>, taken: usize) {
        if taken < inbox.len() {
            inbox.drain(..taken);
            self.inbox = inbox;
        }
    }

    /// Whether there is room for more from the client.
    fn may_read_client(&mut self) -> bool {
        if self.has_left {
            return false;
        }
        match &mut self.link {
            Link::Free | Link::StandIn(_) => self.outbox.len() < HOLD_LEN,
            // Its end must be noticed, and little more.
            Link::Waiting(_) | Link::Proving { .. } | Link::Doubting(_) => {
                self.inbox.len() < HOLD_LEN
            }
            Link::Linked(linked) => {
                linked.broken_since.is_none()
                    && !linked.is_done
                    // It begins with what ends the session. Who broke the protocol, and said no goodbye, may
                    // be gone before it is told.
                    && (!linked.is_leaving || self.inbox.first() != Some(&b'X'))
                    && (!(linked.awaits.any() || linked.is_leaving) || self.inbox.len() < HOLD_LEN)
                    && linked.checkout.server().is_some_and(|server| server.outbox.is_empty())
            }
        }
    }
}

/// True if `inbox`, which begins with the head of a message, ends with a Terminate.
fn ends_with_goodbye(mut inbox: &[u8]) -> bool {
    let mut last = 0;
    while let Ok(Some(head)) = frame::head(inbox, usize::MAX) {
        let Some(rest) = inbox.get(head.len..) else { return false };
        inbox = rest;
        last = head.tag;
        if last == b'X' {
            break;
        }
    }
    last == b'X'
}
