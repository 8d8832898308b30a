//! Clients that ask as fast as they are answered.

use tokio::task::JoinSet;
use tokio::time::Instant;

use crate::connection::Connection;
use crate::figures::{WARM_UP, histogram, json, record};
use crate::{Load, Target, messages};

/// Runs the load, and prints its figures.
pub(crate) async fn run(target: &Target, load: &Load) -> anyhow::Result<()> {
    let mut connections = Vec::new();
    for _ in 0..load.clients {
        connections.push(prepared_connection(target, load).await?);
    }
    let begin = Instant::now() + WARM_UP;
    let end = begin + load.seconds();
    let mut clients = JoinSet::new();
    for mut connection in connections {
        let request = request(load);
        clients.spawn_local(async move {
            let mut latencies = histogram();
            loop {
                let sent = Instant::now();
                if sent >= end {
                    connection.close().await?;
                    return anyhow::Ok(latencies);
                }
                connection.ask(&request, 1).await?;
                let answered = Instant::now();
                if (begin..end).contains(&answered) {
                    record(&mut latencies, answered - sent);
                }
            }
        });
    }
    let mut all = histogram();
    while let Some(ended) = clients.join_next().await {
        all.add(ended??)?;
    }
    println!("{}", json(&all, load.seconds(), &[]));
    Ok(())
}

/// A connection that knows what it will run.
pub(crate) async fn prepared_connection(
    target: &Target,
    load: &Load,
) -> anyhow::Result<Connection> {
    let mut connection = Connection::open(target).await?;
    if load.prepared {
        let prepare = [messages::parse("s", &load.text), messages::sync()].concat();
        connection.ask(&prepare, 1).await?;
    }
    Ok(connection)
}

/// What is sent for each transaction.
pub(crate) fn request(load: &Load) -> Vec<u8> {
    if load.prepared { messages::run_prepared("s") } else { messages::query(&load.text) }
}
