//! How a session and its server part.

use tokio::time::Instant;

use super::link::{Link, Linked};
use super::serve::Session;
use super::spare;
use crate::telemetry::counters::CloseReason;
use crate::telemetry::snapshot::ClientState;

impl Session {
    /// Gives the server back after the exchange.
    #[inline]
    pub(super) fn unlink(&mut self) {
        let Some(linked) = self.take_linked() else { return };
        if self.client_rest > 0 {
            // It waits for the rest of a message: of a COPY that has failed meanwhile (P31).
            return linked.checkout.close(CloseReason::ClientLeft);
        }
        let linked = if linked.doubts.is_empty() { Some(linked) } else { self.begin_doubt(linked) };
        if let Some(linked) = linked {
            spare::unlink(linked).checkin(self.idle_since);
        }
    }

    /// Closes the server that the session is linked to, and nothing else.
    pub(super) fn close_server(&mut self, reason: CloseReason) {
        if let Some(linked) = self.take_linked() {
            linked.checkout.close(reason);
        }
    }

    /// Ends the link, if there is one, and leaves everything else as it is.
    #[inline]
    pub(super) fn take_linked(&mut self) -> Option<Box<Linked>> {
        let Link::Linked(linked) = &self.link else { return None };
        // Whatever is done was seen to be a moment ago: a clock read less.
        self.idle_since = if linked.is_done { linked.quiet_since } else { Instant::now() };
        // What it was about to alter may be done all the same.
        self.alter();
        if linked.in_flight.writes
            && !self.is_away()
            && let Some(routes) = &mut self.routes
        {
            routes.note_written(self.idle_since);
        }
        self.record().clear_link();
        self.record().set_state(ClientState::Idle);
        match std::mem::replace(&mut self.link, Link::Free) {
            Link::Linked(linked) => Some(linked),
            Link::Free
            | Link::Waiting(_)
            | Link::Proving { .. }
            | Link::Doubting(_)
            | Link::StandIn(_) => None,
        }
    }
}
