//! `SHOW CLIENTS`.

use super::super::table::Type::{Int4, Text};
use super::super::table::{Cell, Column, int4, seconds, subsec_micros, text, timestamp};
use super::peer;
use crate::telemetry::snapshot::ClientSnapshot;

/// Of `SHOW SERVERS` too.
pub const COLUMNS: [Column; 21] = [
    ("type", Text),
    ("user", Text),
    ("database", Text),
    ("replication", Text),
    ("state", Text),
    ("addr", Text),
    ("port", Int4),
    ("local_addr", Text),
    ("local_port", Int4),
    ("connect_time", Text),
    ("request_time", Text),
    ("wait", Int4),
    ("wait_us", Int4),
    ("close_needed", Int4),
    ("ptr", Text),
    ("link", Text),
    ("remote_pid", Int4),
    ("tls", Text),
    ("application_name", Text),
    ("prepared_statements", Int4),
    ("id", Int4),
];

pub fn rows(clients: &[ClientSnapshot]) -> Vec<Vec<Cell>> {
    clients.iter().map(row).collect()
}

fn row(client: &ClientSnapshot) -> Vec<Cell> {
    let (addr, port) = peer(&client.peer);
    let (local_addr, local_port) = peer(&client.local);
    vec![
        text("C"),
        text(&client.user),
        text(&client.domain),
        text(client.replication.unwrap_or("none")),
        text(client.state.as_str()),
        text(addr),
        int4(port),
        text(local_addr),
        int4(local_port),
        timestamp(client.connected),
        timestamp(client.requested),
        seconds(client.wait),
        subsec_micros(client.wait),
        int4(0),
        text(client_ptr(client.id)),
        text(client.link.map(server_ptr).unwrap_or_default()),
        int4(client.remote_pid.unwrap_or(0)),
        text(client.tls.as_deref().unwrap_or_default()),
        text(&client.application_name),
        int4(client.prepared_statements),
        short_id(client.id),
    ]
}

/// What `ptr` says of a client, and the `link` of the server that it has.
pub(super) fn client_ptr(id: u64) -> String {
    format!("client-{id}")
}

/// What `ptr` says of a server, and the `link` of the client that has it.
pub(super) fn server_ptr(id: u64) -> String {
    format!("server-{id}")
}

/// The column is an int4 in `PgBouncer` and ids are longer; `ptr` has all of it.
pub(super) fn short_id(id: u64) -> Cell {
    int4(id & 0x7fff_ffff)
}
