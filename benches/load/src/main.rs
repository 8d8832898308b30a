//! Loads for poolers that pgbench has not, and a server that costs nothing behind them.
//!
//! `null-server` answers every message at once with canned replies, so that what stands in front of it and
//! not PostgreSQL is what saturates. `conversation` says the same things in the same order each time: for
//! counting instructions. `closed` asks as fast as it is answered; `open` asks at a rate, whatever comes
//! back. The figures go to standard output as one JSON object.

mod clients;
mod closed;
mod connection;
mod conversation;
mod figures;
mod messages;
mod null_server;
mod open;

use std::net::SocketAddr;
use std::num::NonZero;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::Context;
use clap::{Args, Parser, Subcommand};

#[derive(Debug, Parser)]
#[command(name = "pgweir-load", about = "Loads for poolers, and a server that costs nothing")]
struct Options {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Answer whatever is asked, at once
    NullServer {
        #[arg(long)]
        listen: SocketAddr,
    },
    /// Say the same things in the same order
    Conversation {
        #[command(flatten)]
        target: Target,
        /// What is said: simple, extended, prepared, transaction, pipeline, rows or connect
        #[arg(long)]
        topic: conversation::Topic,
        /// How often each client says it
        #[arg(long, default_value_t = 1000)]
        times: u32,
        #[arg(long, default_value_t = 1)]
        clients: u32,
    },
    /// Ask as fast as it is answered
    Closed {
        #[command(flatten)]
        target: Target,
        #[command(flatten)]
        load: Load,
    },
    /// Ask at a rate, whatever comes back; waiting for a free client counts
    Open {
        #[command(flatten)]
        target: Target,
        #[command(flatten)]
        load: Load,
        /// Requests per second, at exponentially distributed distances
        #[arg(long, value_parser = above_zero)]
        rate: f64,
    },
}

/// Whom to talk to.
#[derive(Debug, Clone, Args)]
struct Target {
    #[arg(long)]
    address: SocketAddr,
    #[arg(long, default_value = "postgres")]
    user: String,
    #[arg(long, default_value = "postgres")]
    database: String,
    /// Spread clients over so many databases, whose names end in their number from 0 on
    #[arg(long)]
    databases: Option<NonZero<u32>>,
}

impl Target {
    /// The database of one of several clients.
    fn database(&self, client: u32) -> String {
        match self.databases {
            Some(databases) => format!("{}{}", self.database, client % databases),
            None => self.database.clone(),
        }
    }
}

/// How much, and what.
#[derive(Debug, Clone, Args)]
struct Load {
    #[arg(long, default_value_t = 8, value_parser = clap::value_parser!(u32).range(1..))]
    clients: u32,
    /// Measured seconds
    #[arg(long, default_value_t = 5.0, value_parser = above_zero)]
    seconds: f64,
    /// Seconds before them
    #[arg(long, default_value_t = 1.0, value_parser = above_zero)]
    warm_up: f64,
    /// `{}` stands for the text's number
    #[arg(long, default_value = "select 1")]
    text: String,
    /// How many texts each client asks in turn
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..))]
    texts: u32,
    /// Prepare the texts once for each client, and only run them
    #[arg(long)]
    prepared: bool,
    /// So many more clients that only stay connected
    #[arg(long, default_value_t = 0)]
    idle: u32,
    /// One more client that reads a result without end, at so many bytes a second
    #[arg(long, value_parser = clap::value_parser!(u32).range(1..))]
    slow_reader: Option<u32>,
}

/// A number that a rate or a time may be.
fn above_zero(text: &str) -> Result<f64, String> {
    match text.parse() {
        Ok(number) if number > 0.0 && number < 1e9 => Ok(number),
        Ok(_) | Err(_) => Err("a number above 0 and below a billion is wanted".to_owned()),
    }
}

impl Load {
    fn seconds(&self) -> Duration {
        Duration::from_secs_f64(self.seconds)
    }
}

fn main() -> ExitCode {
    match run(Options::parse().command) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("pgweir-load: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run(command: Command) -> anyhow::Result<()> {
    let runtime =
        tokio::runtime::Builder::new_current_thread().enable_all().build().context("no runtime")?;
    tokio::task::LocalSet::new().block_on(&runtime, async {
        match command {
            Command::NullServer { listen } => null_server::serve(listen).await,
            Command::Conversation { target, topic, times, clients } => {
                conversation::hold(&target, topic, times, clients).await
            }
            Command::Closed { target, load } => closed::run(&target, &load).await,
            Command::Open { target, load, rate } => open::run(&target, &load, rate).await,
        }
    })
}
