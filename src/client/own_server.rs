//! A session that has a server to itself: what there is to note where frames go through untouched.

use super::link::{InFlight, Link};
use super::read_only::{no_writes, takes_it_back};
use super::serve::{End, Session};
use crate::error::Fault;
use crate::wire::backend;

impl Session {
    /// A parameter of a server that is the session's own has a new value.
    pub(super) fn on_own_parameter(&mut self, body: &[u8]) -> Result<(), End> {
        let is_read_only = self.is_read_only();
        let Link::Linked(linked) = &mut self.link else { return Ok(()) };
        let Some(server) = linked.checkout.server() else { return Ok(()) };
        server.note_parameter(body);
        if let Some((name, value)) = backend::parameter_status(body)
            && is_read_only
            && takes_it_back(&String::from_utf8_lossy(name), &String::from_utf8_lossy(value))
        {
            // Nobody else has this server: there is no next transaction to begin without it.
            return Err(End::fatal(Fault::Client, no_writes()));
        }
        if let Some((b"application_name", value)) = backend::parameter_status(body) {
            let name = String::from_utf8_lossy(value);
            self.registered.record.set_application_name(&name);
            server.record.set_application_name(&name);
        }
        Ok(())
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
