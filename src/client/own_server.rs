//! A session that has a server to itself: what there is to note where frames go through untouched.

use super::link::{InFlight, Link};
use super::serve::Session;
use crate::wire::backend;

impl Session {
    /// A parameter of a server that is the session's own has a new value.
    pub(super) fn on_own_parameter(&mut self, body: &[u8]) {
        let Link::Linked(linked) = &mut self.link else { return };
        let Some(server) = linked.checkout.server() else { return };
        server.note_parameter(body);
        if let Some((b"application_name", value)) = backend::parameter_status(body) {
            let name = String::from_utf8_lossy(value);
            self.registered.record.set_application_name(&name);
            server.record.set_application_name(&name);
        }
    }

    /// The end of a request on a replication connection. It may have lasted for years: a stream is no
    /// measure of anything.
    pub(super) fn on_replication_ready(&mut self) {
        let Link::Linked(linked) = &mut self.link else { return };
        linked.cancel_sent = None;
        if linked.is_settled() {
            linked.request_since = None;
            linked.in_flight = InFlight::default();
        }
    }
}
