//! The throwaway cluster: made, started, filled, and ended without a trace.

use std::io;
use std::net::{Ipv4Addr, TcpListener};
use std::path::Path;
use std::time::Duration;

use rustix::process::Signal;
use thiserror::Error;
use tokio::time::{sleep, timeout};
use tokio_util::sync::CancellationToken;

use super::child::{Child, ChildError, Surroundings};
use super::folder::{Folder, FolderError};
use super::programs::Programs;
use super::samples::{PASSWORD, SAMPLES, USER};

/// A PostgreSQL of our own.
#[derive(Debug)]
pub(super) struct Cluster {
    pub(super) port: u16,
    /// `15`.
    pub(super) version: String,
    postgres: Child,
}

#[derive(Debug, Error)]
pub(super) enum ClusterError {
    #[error(transparent)]
    Child(#[from] ChildError),
    #[error(transparent)]
    Folder(#[from] FolderError),
    #[error("no free port: {0}")]
    Port(io::Error),
    #[error("PostgreSQL does not answer after {} s; the end of its log:\n{said}", READY.as_secs())]
    Silent { said: String },
}

impl Cluster {
    /// Makes a cluster in `folder`, starts it and fills its databases. Nothing runs if this fails.
    pub(super) async fn start(
        programs: &Programs,
        folder: &Folder,
        surroundings: &Surroundings,
        stop: &CancellationToken,
    ) -> Result<Self, ClusterError> {
        let data = folder.path().join("data");
        let password = folder.write("password", PASSWORD)?;
        let mut initdb = surroundings.command(&programs.path("initdb"));
        initdb.arg("-D").arg(&data).arg("--pwfile").arg(password);
        initdb.args(["-U", USER, "-A", "scram-sha-256", "-E", "UTF8", "--locale=C", "--no-sync"]);
        surroundings.run("initdb", initdb, stop).await?;
        let start = Start { programs, surroundings, data: &data, stop };
        let (mut postgres, port) = start.on_a_free_port().await?;
        let filled = fill(programs, folder, surroundings, port, stop).await;
        if let Err(error) = filled {
            postgres.end().await;
            return Err(error);
        }
        let version = std::fs::read_to_string(data.join("PG_VERSION")).unwrap_or_default();
        Ok(Self { port, version: version.trim().to_owned(), postgres })
    }

    /// Waits until it ends by itself, and says how. Cancel-safe.
    pub(super) async fn lost(&mut self) -> ChildError {
        match self.postgres.wait().await {
            Ok(status) => self.postgres.failure(status),
            Err(error) => error,
        }
    }

    /// Ends it: at once, for its data is not kept.
    pub(super) async fn end(&mut self) {
        self.postgres.end().await;
    }
}

/// What starting the server takes.
struct Start<'a> {
    programs: &'a Programs,
    surroundings: &'a Surroundings,
    data: &'a Path,
    stop: &'a CancellationToken,
}

impl Start<'_> {
    /// Somebody else may take a free port before PostgreSQL does, hence several attempts.
    async fn on_a_free_port(&self) -> Result<(Child, u16), ClusterError> {
        let mut attempts = 1;
        loop {
            let port = free_port().map_err(ClusterError::Port)?;
            match self.on_port(port).await {
                Ok(postgres) => return Ok((postgres, port)),
                Err(ClusterError::Child(ChildError::Failed { said, .. }))
                    if attempts < ATTEMPTS && said.contains("Address already in use") =>
                {
                    attempts += 1;
                }
                Err(error) => return Err(error),
            }
        }
    }

    async fn on_port(&self, port: u16) -> Result<Child, ClusterError> {
        let mut command = self.surroundings.command(&self.programs.path("postgres"));
        command.arg("-D").arg(self.data).arg("-c").arg(format!("port={port}"));
        for setting in SETTINGS {
            command.arg("-c").arg(setting);
        }
        let mut postgres = self.surroundings.start("postgres", command, Signal::QUIT)?;
        let answer = tokio::select! {
            answer = timeout(READY, self.is_ready()) => answer,
            status = postgres.wait() => return Err(postgres.failure(status?).into()),
            () = self.stop.cancelled() => {
                postgres.end().await;
                return Err(ChildError::Stopped.into());
            }
        };
        if answer.is_err() {
            postgres.end().await;
            return Err(ClusterError::Silent { said: postgres.last_words() });
        }
        Ok(postgres)
    }

    async fn is_ready(&self) {
        let status = self.data.join("postmaster.pid");
        while !std::fs::read_to_string(&status).is_ok_and(|text| says_ready(&text)) {
            sleep(POLL).await;
        }
    }
}

/// The eighth line of postmaster.pid is the status (PostgreSQL's `utils/pidfile.h`).
fn says_ready(postmaster_pid: &str) -> bool {
    postmaster_pid.lines().nth(7).is_some_and(|status| status.trim() == "ready")
}

async fn fill(
    programs: &Programs,
    folder: &Folder,
    surroundings: &Surroundings,
    port: u16,
    stop: &CancellationToken,
) -> Result<(), ClusterError> {
    let script = folder.write("fill.sql", &filling())?;
    let mut psql = surroundings.command(&programs.path("psql"));
    psql.env("PGPASSWORD", PASSWORD)
        .args(["-h", "127.0.0.1", "-p", &port.to_string(), "-U", USER, "-d", "postgres"])
        .args(["-X", "-q", "-v", "ON_ERROR_STOP=1", "-f"])
        .arg(script);
    Ok(surroundings.run("psql", psql, stop).await?)
}

/// What psql makes the three databases with.
fn filling() -> String {
    let fill = |sample: &super::samples::Sample| {
        let database = sample.database;
        format!("CREATE DATABASE \"{database}\";\n\\connect \"{database}\"\n{}\n", sample.schema)
    };
    SAMPLES.iter().map(fill).collect()
}

/// A port that nobody listens at.
fn free_port() -> io::Result<u16> {
    Ok(TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?.local_addr()?.port())
}

/// No Unix socket: in a deep `$TMPDIR` its path would be too long for one.
const SETTINGS: [&str; 9] = [
    "listen_addresses=127.0.0.1",
    "unix_socket_directories=",
    "max_connections=60",
    "shared_buffers=32MB",
    "fsync=off",
    "synchronous_commit=off",
    "full_page_writes=off",
    "max_wal_size=128MB",
    "cluster_name=pgweir demo",
];
const READY: Duration = Duration::from_secs(60);
const POLL: Duration = Duration::from_millis(20);
const ATTEMPTS: usize = 5;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_server_is_ready_when_its_pid_file_says_so() {
        let file = "4711\n/data\n1763\n41234\n\n127.0.0.1\n  123 456\n";

        assert!(says_ready(&format!("{file}ready   \n")));
        assert!(!says_ready(&format!("{file}starting\n")));
        assert!(!says_ready(file));
        assert!(!says_ready(""));
    }

    #[test]
    fn the_databases_are_those_of_the_first_seed() {
        let sql = filling();

        for name in ["markets_technicals", "markets_internals", "Plurality"] {
            assert!(sql.contains(&format!("CREATE DATABASE \"{name}\";\n\\connect \"{name}\"\n")));
        }
        for table in
            ["usstockseod", "key_indicators", "metadata", "market_breadth", "rs_industry_groups"]
        {
            assert!(sql.contains(&format!("CREATE TABLE {table} ")), "{table}");
        }
    }
}
