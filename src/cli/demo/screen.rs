//! Standard output, without letting a slow reader hold up the end of the demo.

use std::io::{self, Write as _};
use std::time::Duration;

use thiserror::Error;
use tokio::time::sleep;
use tokio_util::sync::CancellationToken;

/// Where the demo's words go.
#[derive(Debug, Clone)]
pub(super) struct Screen {
    stop: CancellationToken,
}

/// Nobody reads any more.
#[derive(Debug, Error)]
#[error("standard output is closed")]
pub(super) struct Closed;

impl Screen {
    /// A screen that waits for its reader until `stop`, and then a second longer at most.
    pub(super) const fn new(stop: CancellationToken) -> Self {
        Self { stop }
    }

    /// Shows `text`, which ends its own lines.
    pub(super) async fn show(&self, text: String) -> Result<(), Closed> {
        // On a thread of its own: a reader that has stopped blocks the write, and signals must be
        // heard nevertheless.
        let written = tokio::task::spawn_blocking(move || write(&text));
        tokio::select! {
            written = written => written.ok().and_then(Result::ok).ok_or(Closed),
            () = self.too_long() => Err(Closed),
        }
    }

    async fn too_long(&self) {
        self.stop.cancelled().await;
        sleep(PATIENCE).await;
    }
}

fn write(text: &str) -> io::Result<()> {
    let mut out = io::stdout().lock();
    out.write_all(text.as_bytes())?;
    out.flush()
}

const PATIENCE: Duration = Duration::from_secs(1);
