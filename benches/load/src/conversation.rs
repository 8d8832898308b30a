//! The same things in the same order: for counting instructions.

use clap::ValueEnum;

use crate::connection::Connection;
use crate::{Target, messages};

const TEXT: &str = "select abalance from pgbench_accounts where aid = 4711";
const LONG: &str = "select * from pgbench_accounts limit 100000";

/// What is said.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Topic {
    /// A simple query
    Simple,
    /// A text with parameters apart
    Extended,
    /// A statement prepared before
    Prepared,
    /// BEGIN, two queries and COMMIT, as psycopg2 sends them
    Transaction,
    /// Ten prepared statements in one packet
    Pipeline,
    /// A query with 100,000 rows of 12 bytes
    Rows,
    /// A connection for each query
    Connect,
}

/// Lets each client in turn say it `times` times.
pub(crate) async fn hold(
    target: &Target,
    topic: Topic,
    times: u32,
    clients: u32,
) -> anyhow::Result<()> {
    if topic == Topic::Connect {
        for _ in 0..times * clients {
            let mut connection = Connection::open(target, 0).await?;
            connection.ask(&messages::query(TEXT), 1).await?;
            connection.close().await?;
        }
        return Ok(());
    }
    let mut connections = Vec::new();
    for number in 0..clients {
        let mut connection = Connection::open(target, number).await?;
        if matches!(topic, Topic::Prepared | Topic::Pipeline) {
            let prepare = [messages::parse("s", TEXT), messages::sync()].concat();
            connection.ask(&prepare, 1).await?;
        }
        connections.push(connection);
    }
    let said = said(topic);
    for _ in 0..times {
        for connection in &mut connections {
            for (bytes, boundaries) in &said {
                connection.ask(bytes, *boundaries).await?;
            }
        }
    }
    for connection in connections {
        connection.close().await?;
    }
    Ok(())
}

/// What is sent in one go, and how many `ReadyForQuery` answer it.
fn said(topic: Topic) -> Vec<(Vec<u8>, u32)> {
    match topic {
        Topic::Simple | Topic::Connect => vec![(messages::query(TEXT), 1)],
        Topic::Extended => vec![(messages::run_extended(TEXT), 1)],
        Topic::Prepared => vec![(messages::run_prepared("s"), 1)],
        Topic::Transaction => {
            ["begin", TEXT, TEXT, "commit"].map(|text| (messages::query(text), 1)).to_vec()
        }
        Topic::Rows => vec![(messages::query(LONG), 1)],
        Topic::Pipeline => vec![(messages::run_prepared("s").repeat(10), 10)],
    }
}
