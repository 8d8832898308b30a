//! Messages about statements where they are not shared: they go on as they are.

use super::batch::Batch;
use super::from_client::{Frame, Next, note_traits};
use super::link::{Deeds, Link};
use super::memo::recall;
use super::ours::not_alone;
use super::serve::Session;
use crate::server::exchange::{Request, Segment, Verdict};
use crate::server::unnamed::Unnamed;
use crate::sql::Traits;
use crate::wire::frontend;

impl Session {
    /// A Parse where statements are not shared.
    pub(super) fn on_plain_parse(
        &mut self,
        batch: &mut Batch<'_>,
        frame: Frame<'_>,
        in_copy: bool,
    ) -> Next {
        let is_session_mode = self.is_session_mode();
        let parsed = frontend::parse(frame.body);
        let traits = parsed.map_or_else(Traits::default, |parsed| recall(parsed.text));
        if traits.names_ours() && !in_copy {
            self.refuse_text(batch, frame, not_alone());
            return Next::Go;
        }
        let Link::Linked(linked) = &mut self.link else { return Next::Hold };
        let Some(server) = linked.checkout.server() else { return Next::Hold };
        server.statements.unnamed = Unnamed::None;
        self.traffic.client_parses.increment();
        self.traffic.server_parses.increment();
        if let Some(parsed) = parsed {
            // Without shared statements a name stays on the server for the next client to meet.
            server.is_dirty |= !parsed.name.is_empty() || in_copy;
            server.note_text(parsed.text);
            let is_skipped = server.exchange.segment() == Segment::Failed;
            if parsed.name.is_empty() && !is_skipped {
                linked.portals.parse(Deeds::of(traits), !server.exchange.is_answered());
            }
            note_traits(&mut linked.in_flight, server, traits);
            if traits.resets() && !is_session_mode {
                linked.restores.note(parsed.text, server.exchange.next_serial(), false, false);
            }
        }
        server.exchange.on_request(Request::Parse(Verdict::Forward), None);
        self.alter();
        if let Some(parsed) = parsed {
            self.forget_affected(parsed.name);
            if traits.affects_others() {
                self.keep_affected(parsed.name, parsed.text);
            }
        }
        batch.pass(frame.available);
        Next::Go
    }

    /// A Bind where statements are not shared.
    pub(super) fn on_plain_bind(&mut self, frame: Frame<'_>) {
        let Link::Linked(linked) = &mut self.link else { return };
        let Some(server) = linked.checkout.server() else { return };
        self.traffic.binds.increment();
        linked.in_flight.has_bound = true;
        server.exchange.on_request(Request::Bind, None);
        if let Some(bind) = frontend::bind(frame.body) {
            let is_unnamed = bind.statement.is_empty();
            let deeds = if is_unnamed { linked.portals.parsed() } else { Deeds::UNREAD };
            linked.portals.bind(bind.portal, deeds);
            self.bind_affected(bind.statement);
        }
    }
}
