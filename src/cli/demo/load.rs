//! The sample load: a `pgbench` for each domain.

use rustix::process::Signal;
use thiserror::Error;

use super::child::{Child, ChildError, Surroundings};
use super::folder::{Folder, FolderError};
use super::programs::Programs;
use super::samples::{PASSWORD, SAMPLES, Sample, USER};

/// The load under way.
#[derive(Debug)]
pub(super) struct SampleLoad<'a> {
    programs: &'a Programs,
    folder: &'a Folder,
    surroundings: &'a Surroundings,
    /// Where pgweir listens.
    port: u16,
    parts: Vec<Part>,
}

#[derive(Debug)]
struct Part {
    sample: &'static Sample,
    pgbench: Child,
    restarts: usize,
}

#[derive(Debug, Error)]
pub(super) enum LoadError {
    #[error(transparent)]
    Child(#[from] ChildError),
    #[error(transparent)]
    Folder(#[from] FolderError),
}

impl<'a> SampleLoad<'a> {
    /// A load that has not begun.
    pub(super) const fn new(
        programs: &'a Programs,
        folder: &'a Folder,
        surroundings: &'a Surroundings,
        port: u16,
    ) -> Self {
        Self { programs, folder, surroundings, port, parts: Vec::new() }
    }

    /// Begins to load every domain. What has begun by an error is for `end` to end.
    pub(super) fn begin(&mut self) -> Result<(), LoadError> {
        for sample in &SAMPLES {
            for script in &sample.load.scripts {
                self.folder.write(&file_of(script.name), &script.text())?;
            }
            let pgbench = self.start(sample)?;
            self.parts.push(Part { sample, pgbench, restarts: 0 });
        }
        Ok(())
    }

    fn start(&self, sample: &'static Sample) -> Result<Child, ChildError> {
        let mut command = self.surroundings.command(&self.programs.path("pgbench"));
        command.env("PGPASSWORD", PASSWORD).args(arguments(sample, self.port));
        self.surroundings.start(sample.domain, command, Signal::TERM)
    }

    /// Begins again what has ended by itself, and says so; an error if it keeps ending.
    pub(super) fn keep_up(&mut self) -> Result<Vec<String>, LoadError> {
        let mut notes = Vec::new();
        let mut parts = std::mem::take(&mut self.parts);
        let kept = parts.iter_mut().try_for_each(|part| {
            let Some(status) = part.pgbench.ended() else { return Ok(()) };
            let failure = part.pgbench.failure(status);
            if part.restarts == RESTARTS {
                return Err(failure);
            }
            part.restarts += 1;
            part.pgbench = self.start(part.sample)?;
            notes.push(format!("the load begins again: {failure}"));
            Ok(())
        });
        self.parts = parts;
        kept?;
        Ok(notes)
    }

    /// Ends it at once.
    pub(super) async fn end(&mut self) {
        for part in &mut self.parts {
            part.pgbench.end().await;
        }
    }
}

fn file_of(script: &str) -> String {
    format!("{script}.sql")
}

/// What `pgbench` is called with. The scripts are in its working folder.
fn arguments(sample: &Sample, port: u16) -> Vec<String> {
    let load = &sample.load;
    let mut arguments: Vec<_> = ["-h", "127.0.0.1", "-U", USER, "-n", "-j", "1", "-T", FOR_EVER]
        .into_iter()
        .map(str::to_owned)
        .collect();
    arguments.extend(["-p".to_owned(), port.to_string()]);
    arguments.extend(["-M".to_owned(), load.protocol.to_owned()]);
    arguments.extend(["-c".to_owned(), load.clients.to_string()]);
    arguments.extend(["-R".to_owned(), load.rate.to_string()]);
    if load.reconnects {
        arguments.push("-C".to_owned());
    }
    for script in &load.scripts {
        arguments.extend(["-f".to_owned(), format!("{}@{}", file_of(script.name), script.weight)]);
    }
    arguments.push(sample.domain.to_owned());
    arguments
}

/// Seconds, near the most that `pgbench` takes.
const FOR_EVER: &str = "2000000000";
/// How often a part may end by itself.
const RESTARTS: usize = 3;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pgbench_is_told_the_domain_its_clients_and_its_scripts() {
        let said = arguments(&SAMPLES[1], 6432).join(" ");

        assert_eq!(
            said,
            "-h 127.0.0.1 -U postgres -n -j 1 -T 2000000000 -p 6432 -M simple -c 8 -R 25 -C \
             -f internals-read.sql@80 -f internals-transaction.sql@18 -f internals-batch.sql@2 \
             internals"
        );
    }
}
