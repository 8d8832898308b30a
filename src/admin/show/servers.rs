//! `SHOW SERVERS`.

use super::super::table::{Cell, int4, text, timestamp};
use super::clients::{client_ptr, server_ptr, short_id};
use super::peer;
use crate::telemetry::snapshot::ServerSnapshot;

pub fn rows(servers: &[ServerSnapshot]) -> Vec<Vec<Cell>> {
    servers.iter().map(row).collect()
}

fn row(server: &ServerSnapshot) -> Vec<Cell> {
    let (addr, port) = peer(&server.peer);
    let (local_addr, local_port) = peer(&server.local);
    let database = if &*server.domain == "*" { &server.database } else { &server.domain };
    vec![
        text("S"),
        text(&server.user),
        text(database),
        text(server.replication.unwrap_or("none")),
        text(server.state.as_str()),
        text(addr),
        int4(port),
        text(local_addr),
        int4(local_port),
        timestamp(server.connected),
        timestamp(server.requested),
        int4(0),
        int4(0),
        int4(0),
        text(server_ptr(server.id)),
        text(server.link.map(client_ptr).unwrap_or_default()),
        int4(server.remote_pid),
        text(server.tls.as_deref().unwrap_or_default()),
        text(&server.application_name),
        int4(server.prepared_statements),
        short_id(server.id),
    ]
}
