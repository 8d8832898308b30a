//! Clients that ask as fast as they are answered.

use tokio::task::JoinSet;
use tokio::time::Instant;

use crate::clients::{Company, Requests, announce, connect, measured_time};
use crate::figures::{histogram, json, record};
use crate::{Load, Target};

/// Runs the load, and prints its figures.
pub(crate) async fn run(target: &Target, load: &Load) -> anyhow::Result<()> {
    let mut company = Company::join(target, load).await?;
    let connections = connect(target, load).await?;
    let (begin, end) = measured_time(load);
    tokio::task::spawn_local(announce(begin, end));
    let mut clients = JoinSet::new();
    for (mut connection, mut requests) in connections.into_iter().zip(Requests::of(load)) {
        clients.spawn_local(async move {
            let mut latencies = histogram();
            loop {
                let sent = Instant::now();
                if sent >= end {
                    return anyhow::Ok((connection, latencies));
                }
                connection.ask(requests.next(), 1).await?;
                let answered = Instant::now();
                if (begin..end).contains(&answered) {
                    record(&mut latencies, answered - sent);
                }
            }
        });
    }
    let mut all = histogram();
    // Nobody leaves before everybody has been answered: to end connections costs the other side something.
    let mut done = Vec::new();
    while let Some(ended) = clients.join_next().await {
        let (connection, latencies) = ended??;
        all.add(latencies)?;
        done.push(connection);
    }
    company.check()?;
    println!("{}", json(&all, load.seconds(), &[]));
    for connection in done {
        connection.close().await?;
    }
    Ok(())
}
