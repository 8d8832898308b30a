//! Clients that ask as fast as they are answered.

use std::cell::RefCell;
use std::rc::Rc;
use std::time::Duration;

use hdrhistogram::Histogram;
use tokio::time::Instant;

use crate::connection::Connection;
use crate::{Load, Target, messages};

const WARM_UP: Duration = Duration::from_secs(1);

/// Runs the load, and prints its figures.
pub(crate) async fn run(target: &Target, load: &Load) -> anyhow::Result<()> {
    let latencies = Rc::new(RefCell::new(histogram()));
    let mut connections = Vec::new();
    for _ in 0..load.clients {
        connections.push(prepared_connection(target, load).await?);
    }
    let begin = Instant::now() + WARM_UP;
    let end = begin + load.seconds();
    let request = request(load);
    let mut clients = tokio::task::JoinSet::new();
    for mut connection in connections {
        let (latencies, request) = (Rc::clone(&latencies), request.clone());
        clients.spawn_local(async move {
            loop {
                let sent = Instant::now();
                if sent >= end {
                    return connection.close().await;
                }
                connection.ask(&request, 1).await?;
                if sent >= begin {
                    record(&mut latencies.borrow_mut(), sent.elapsed());
                }
            }
        });
    }
    while let Some(ended) = clients.join_next().await {
        ended??;
    }
    print(&latencies.borrow(), load.seconds());
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

/// Latencies from 1 µs to a minute, in nanoseconds.
pub(crate) fn histogram() -> Histogram<u64> {
    Histogram::new_with_bounds(1000, 60_000_000_000, 3).expect("these bounds make sense")
}

pub(crate) fn record(latencies: &mut Histogram<u64>, latency: Duration) {
    latencies.saturating_record(u64::try_from(latency.as_nanos()).unwrap_or(u64::MAX));
}

/// Prints rate (per second) and latencies (µs) as one JSON object.
pub(crate) fn print(latencies: &Histogram<u64>, seconds: Duration) {
    let at = |quantile: f64| latencies.value_at_quantile(quantile) / 1000;
    println!(
        r#"{{"transactions": {}, "per_second": {:.0}, "mean_us": {:.1}, "p50_us": {}, "p99_us": {}, "p999_us": {}, "max_us": {}}}"#,
        latencies.len(),
        latencies.len() as f64 / seconds.as_secs_f64(),
        latencies.mean() / 1000.0,
        at(0.5),
        at(0.99),
        at(0.999),
        latencies.max() / 1000,
    );
}
