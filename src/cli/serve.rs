//! `pgweir serve`: runs until a signal ends it.

use std::path::Path;
use std::process::ExitCode;

use tokio::signal::unix::{SignalKind, signal};

use super::{CONFIG, FAILED};
use crate::app::{self, Running};
use crate::config::{Config, ProcessEnvironment};
use crate::runtime::drain::Drained;

/// Serves what the file at `path` says.
pub fn run(path: &Path) -> ExitCode {
    let config = match crate::config::load(path, &ProcessEnvironment) {
        Ok(config) => config,
        Err(errors) => {
            eprintln!("{errors}");
            return ExitCode::from(CONFIG);
        }
    };
    if let Err(error) = crate::telemetry::log::init(&config.log) {
        eprintln!("pgweir: cannot log: {error}");
        return ExitCode::from(FAILED);
    }
    for warning in &config.warnings {
        tracing::warn!("{warning}");
    }
    match serve(config) {
        Ok(code) => code,
        Err(error) => {
            tracing::error!(%error, "cannot serve");
            ExitCode::from(FAILED)
        }
    }
}

fn serve(config: Config) -> anyhow::Result<ExitCode> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        let mut terminate = signal(SignalKind::terminate())?;
        let mut interrupt = signal(SignalKind::interrupt())?;
        let running = match app::start(config) {
            Ok(running) => running,
            Err(error @ (app::StartError::Users { .. } | app::StartError::UsersFile { .. })) => {
                tracing::error!(%error, "cannot start");
                return Ok(ExitCode::from(CONFIG));
            }
            Err(error) => return Err(error.into()),
        };
        announce(&running);
        tokio::select! {
            _ = terminate.recv() => tracing::info!("SIGTERM: draining"),
            _ = interrupt.recv() => tracing::info!("SIGINT: draining"),
        }
        let drained = tokio::select! {
            drained = running.shut_down() => drained,
            _ = terminate.recv() => return Ok(stop_at_once()),
            _ = interrupt.recv() => return Ok(stop_at_once()),
        };
        match drained {
            Drained::Clean => tracing::info!("stopped"),
            Drained::Forced { left } => {
                tracing::warn!(left, "stopped at shutdown_timeout, with work cut off");
            }
        }
        Ok(ExitCode::SUCCESS)
    })
}

fn stop_at_once() -> ExitCode {
    tracing::warn!("a second signal: stopping at once");
    ExitCode::from(FAILED)
}

fn announce(running: &Running) {
    for address in &running.addresses {
        tracing::info!(%address, "listening");
    }
    for socket in &running.sockets {
        tracing::info!(socket = %socket.display(), "listening");
    }
    if let Some(address) = running.http {
        tracing::info!(%address, "metrics and health");
    }
    tracing::info!(version = env!("CARGO_PKG_VERSION"), "ready");
}
