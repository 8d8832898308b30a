//! `pgweir demo`: a throwaway PostgreSQL, pgweir before it, a load, and nothing left behind.
//!
//! Each step here starts one thing, runs the next step, and ends what it started, whatever came of it.

mod account;
mod child;
mod cluster;
mod folder;
mod load;
mod programs;
mod proxy;
mod report;
mod samples;
mod screen;
mod tally;
mod watch;

use std::io::Write as _;
use std::process::ExitCode;
use std::time::Duration;

use thiserror::Error;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio_util::sync::CancellationToken;

use self::account::{Account, NoAccount};
use self::child::{ChildError, Surroundings};
use self::cluster::{Cluster, ClusterError};
use self::folder::{Folder, FolderError};
use self::load::{LoadError, SampleLoad};
use self::programs::{Programs, ProgramsError};
use self::proxy::{Ports, ProxyError};
use self::report::Greeting;
use self::screen::{Closed, Screen};
use super::FAILED;
use crate::app::Running;
use crate::config::{self, ProcessEnvironment};

/// What the user asks for.
#[derive(Debug, clap::Args)]
pub struct Options {
    /// How long it runs, e.g. 10s or 5m; without it until Ctrl-C.
    #[arg(long = "for", value_name = "DURATION", value_parser = parse_length)]
    duration: Option<Duration>,
    /// Where pgweir listens. 0: any free port. Without it 6432, or a free one if that is taken.
    #[arg(long, value_name = "PORT")]
    port: Option<u16>,
    /// Where metrics and status are. 0: any free port. Without it 9632, or a free one if that is
    /// taken.
    #[arg(long, value_name = "PORT")]
    http_port: Option<u16>,
}

#[derive(Debug, Error)]
enum DemoError {
    #[error(transparent)]
    Programs(#[from] ProgramsError),
    #[error(transparent)]
    Account(#[from] NoAccount),
    #[error(transparent)]
    Folder(#[from] FolderError),
    #[error(transparent)]
    Cluster(#[from] ClusterError),
    #[error(transparent)]
    Proxy(#[from] ProxyError),
    #[error(transparent)]
    Load(#[from] LoadError),
    /// PostgreSQL ended while it was needed.
    #[error("PostgreSQL is gone: {0}")]
    Lost(ChildError),
    #[error(transparent)]
    Closed(#[from] Closed),
    #[error("cannot hear signals: {0}")]
    Signals(std::io::Error),
}

/// Runs the demo. A signal or a closed standard output is an ordinary end of it.
pub fn run(options: &Options) -> ExitCode {
    let outcome = match tokio::runtime::Builder::new_current_thread().enable_all().build() {
        Ok(runtime) => {
            let outcome = runtime.block_on(until_told(options));
            // A write that nobody reads must not hold up the end.
            runtime.shutdown_background();
            outcome
        }
        Err(error) => Err(DemoError::Signals(error)),
    };
    match outcome {
        Ok(()) | Err(DemoError::Closed(_)) => ExitCode::SUCCESS,
        Err(error) => {
            // The terminal may be gone.
            drop(writeln!(std::io::stderr(), "pgweir demo: {error}"));
            ExitCode::from(FAILED)
        }
    }
}

/// Runs the demo and tells it of the signals that end it.
async fn until_told(options: &Options) -> Result<(), DemoError> {
    let stop = CancellationToken::new();
    let mut signals = Signals::new().map_err(DemoError::Signals)?;
    let told = async {
        loop {
            signals.next().await;
            stop.cancel();
        }
    };
    tokio::select! {
        outcome = Box::pin(demo(options, &stop)) => outcome,
        () = told => Ok(()),
    }
}

/// The signals that end the demo: Ctrl-C, `kill`, and the loss of the terminal.
struct Signals([Signal; 3]);

impl Signals {
    fn new() -> std::io::Result<Self> {
        Ok(Self([
            signal(SignalKind::interrupt())?,
            signal(SignalKind::terminate())?,
            signal(SignalKind::hangup())?,
        ]))
    }

    async fn next(&mut self) {
        let Self([interrupt, terminate, hangup]) = self;
        tokio::select! {
            _ = interrupt.recv() => {}
            _ = terminate.recv() => {}
            _ = hangup.recv() => {}
        }
    }
}

/// The machine as the demo found it: a folder for everything, and the words on the screen.
async fn demo(options: &Options, stop: &CancellationToken) -> Result<(), DemoError> {
    let programs = Programs::find(&ProcessEnvironment)?;
    let account = Account::choose(&ProcessEnvironment)?;
    let screen = Screen::new(stop.clone());
    let folder = Folder::new(account.as_ref())?;
    let surroundings = Surroundings { folder: folder.path().to_owned(), account };
    let stage =
        Stage { options, programs: &programs, folder: &folder, surroundings: &surroundings, stop };

    let outcome = stage.with_cluster(&screen).await;
    folder.remove().await?;
    if outcome.is_ok() {
        screen.show("Everything is stopped and removed.\n".to_owned()).await?;
    }
    outcome
}

/// What every step needs.
#[derive(Debug, Clone, Copy)]
struct Stage<'a> {
    options: &'a Options,
    programs: &'a Programs,
    folder: &'a Folder,
    surroundings: &'a Surroundings,
    stop: &'a CancellationToken,
}

impl Stage<'_> {
    async fn with_cluster(self, screen: &Screen) -> Result<(), DemoError> {
        screen.show(self.first_words()).await?;
        let cluster = Cluster::start(self.programs, self.folder, self.surroundings, self.stop);
        let mut cluster = cluster.await?;
        let outcome = self.with_proxy(screen, &mut cluster).await;
        cluster.end().await;
        outcome
    }

    async fn with_proxy(self, screen: &Screen, cluster: &mut Cluster) -> Result<(), DemoError> {
        let ports = Ports::choose(self.options.port, self.options.http_port);
        let (running, config) = proxy::start(self.folder, &ports, cluster.port)?;
        let greeting = Greeting {
            postgres_version: &cluster.version,
            postgres_port: cluster.port,
            port: running.addresses.first().map_or(0, std::net::SocketAddr::port),
            http_port: running.http.map_or(0, |address| address.port()),
            notes: ports.notes(),
            psql: &self.programs.psql,
            config: config.display().to_string(),
            duration: self.options.duration,
        };
        let outcome = match screen.show(greeting.text()).await {
            Ok(()) => self.with_load(screen, cluster, &running, greeting.port).await,
            Err(closed) => Err(closed.into()),
        };
        running.shut_down().await;
        outcome
    }

    async fn with_load(
        self,
        screen: &Screen,
        cluster: &mut Cluster,
        running: &Running,
        port: u16,
    ) -> Result<(), DemoError> {
        let mut load = SampleLoad::new(self.programs, self.folder, self.surroundings, port);
        let observe = running.observe();
        let outcome = match load.begin() {
            Ok(()) => {
                tokio::select! {
                    outcome = watch::watch(
                        &*observe, &mut load, screen, self.options.duration, self.stop,
                    ) => outcome,
                    lost = cluster.lost() => Err(DemoError::Lost(lost)),
                }
            }
            Err(error) => Err(error.into()),
        };
        load.end().await;
        outcome
    }

    fn first_words(self) -> String {
        let as_whom = match &self.surroundings.account {
            Some(account) => format!(", as user {} (it refuses root)", account.name),
            None => String::new(),
        };
        format!(
            "Starting a throwaway PostgreSQL in {}\nwith the programs in {}{as_whom} ...\n",
            self.folder.path().display(),
            self.programs.folder().display(),
        )
    }
}

/// `--for`: a duration that is longer than nothing.
fn parse_length(text: &str) -> Result<Duration, String> {
    config::parse_duration(text)
        .filter(|duration| !duration.is_zero())
        .ok_or_else(|| "a duration with its unit is needed, e.g. 10s, 5m or 1h30m".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_length_is_a_duration_longer_than_nothing() {
        assert_eq!(parse_length("1m30s"), Ok(Duration::from_secs(90)));
        for text in ["", "x", "10", "0s", "-1s"] {
            assert!(parse_length(text).is_err(), "{text}");
        }
    }
}
