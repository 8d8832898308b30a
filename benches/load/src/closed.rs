//! Clients that ask as fast as they are answered.

use std::cell::RefCell;
use std::rc::Rc;

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
    let announced = tokio::task::spawn_local(announce(begin, end));
    let latencies = Rc::new(RefCell::new(histogram()));
    let mut clients = JoinSet::new();
    for (mut connection, mut requests) in connections.into_iter().zip(Requests::of(load)) {
        let latencies = Rc::clone(&latencies);
        clients.spawn_local(async move {
            loop {
                let sent = Instant::now();
                if sent >= end {
                    return anyhow::Ok(connection);
                }
                connection.ask(requests.next(), 1).await?;
                let answered = Instant::now();
                if (begin..end).contains(&answered) {
                    record(&mut latencies.borrow_mut(), answered - sent);
                }
            }
        });
    }
    // Nobody leaves before everybody has been answered: to end connections costs the other side something.
    let mut done = Vec::new();
    while let Some(ended) = clients.join_next().await {
        done.push(ended??);
    }
    announced.await?;
    company.check()?;
    println!("{}", json(&latencies.borrow(), load.seconds(), &[]));
    for connection in done {
        connection.close().await?;
    }
    Ok(())
}
