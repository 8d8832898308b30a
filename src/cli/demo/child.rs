//! A child process that is ended before the demo is.

use std::ffi::OsStr;
use std::fs::File;
use std::io;
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus, Stdio};
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process, kill_process_group, test_kill_process_group};
use thiserror::Error;
use tokio::time::{sleep, timeout};
use tokio_util::sync::CancellationToken;

use super::account::Account;

/// A child in a process group of its own: a Ctrl-C reaches the demo alone, which then ends its
/// children in their order.
#[derive(Debug)]
pub(super) struct Child {
    process: std::process::Child,
    name: &'static str,
    group: Pid,
    /// What ends it.
    farewell: Signal,
    log: PathBuf,
    /// It has ended, so that its number may be somebody else's by now.
    is_over: bool,
}

#[derive(Debug, Error)]
pub(super) enum ChildError {
    #[error("cannot start {name}: {source}")]
    Start { name: &'static str, source: io::Error },
    #[error(
        "user {user} may not enter {} or run {name}: set TMPDIR (or PG_BIN) to a folder that it may \
         enter, e.g. TMPDIR=/tmp",
        folder.display()
    )]
    NoEntry { name: &'static str, user: &'static str, folder: PathBuf },
    /// `said` are the last lines that it wrote.
    #[error("{name} failed ({status}):\n{said}")]
    Failed { name: &'static str, status: ExitStatus, said: String },
    #[error("stopped before it was ready")]
    Stopped,
}

/// Where children live and as whom.
#[derive(Debug, Clone)]
pub(super) struct Surroundings {
    pub(super) folder: PathBuf,
    pub(super) account: Option<Account>,
}

impl Surroundings {
    /// A command that sees nothing of the caller's own PostgreSQL settings.
    pub(super) fn command(&self, program: &Path) -> Command {
        let mut command = Command::new(program);
        for (name, _) in std::env::vars_os().filter(|(name, _)| is_postgres_setting(name)) {
            command.env_remove(name);
        }
        command.env("LC_ALL", "C").current_dir(&self.folder).process_group(0);
        if let Some(account) = &self.account {
            command.uid(account.uid).gid(account.gid);
        }
        command
    }

    /// Why `name` did not start. A folder for root alone is the likely slip, and "permission denied"
    /// would not say so.
    fn refusal(&self, name: &'static str, source: io::Error) -> ChildError {
        match &self.account {
            Some(Account { name: user, .. })
                if source.kind() == io::ErrorKind::PermissionDenied =>
            {
                ChildError::NoEntry { name, user, folder: self.folder.clone() }
            }
            _ => ChildError::Start { name, source },
        }
    }

    fn log_of(&self, name: &str) -> PathBuf {
        self.folder.join(format!("{name}.log"))
    }

    /// Starts `command`, whose stderr goes to `name`'s log; `farewell` ends it.
    pub(super) fn start(
        &self,
        name: &'static str,
        mut command: Command,
        farewell: Signal,
    ) -> Result<Child, ChildError> {
        let failed = |source| ChildError::Start { name, source };
        let log = self.log_of(name);
        let file = File::options().create(true).append(true).open(&log).map_err(failed)?;
        let process = command
            .stdin(Stdio::null())
            // What goes wrong is said on stderr; the rest would only hide it.
            .stdout(Stdio::null())
            .stderr(file)
            .spawn()
            .map_err(|source| self.refusal(name, source))?;
        let group = Pid::from_child(&process);
        Ok(Child { process, name, group, farewell, log, is_over: false })
    }

    /// Runs `command` to its end, or until `stop`.
    pub(super) async fn run(
        &self,
        name: &'static str,
        command: Command,
        stop: &CancellationToken,
    ) -> Result<(), ChildError> {
        let mut child = self.start(name, command, Signal::TERM)?;
        let ended = tokio::select! {
            status = child.wait() => status,
            () = stop.cancelled() => Err(ChildError::Stopped),
        };
        child.end().await;
        match ended? {
            status if status.success() => Ok(()),
            status => Err(child.failure(status)),
        }
    }
}

impl Child {
    /// Waits for it to end by itself. Cancel-safe.
    ///
    /// By looking every now and then: were tokio to watch children, each worker would ask about them, under
    /// a lock that all share, whenever it waits for events.
    pub(super) async fn wait(&mut self) -> Result<ExitStatus, ChildError> {
        loop {
            let ended = self.process.try_wait();
            self.is_over |= !matches!(ended, Ok(None));
            match ended {
                Ok(Some(status)) => return Ok(status),
                Ok(None) => sleep(POLL).await,
                Err(source) => return Err(ChildError::Start { name: self.name, source }),
            }
        }
    }

    /// How it ended, if it has.
    pub(super) fn ended(&mut self) -> Option<ExitStatus> {
        let status = self.process.try_wait().ok().flatten();
        self.is_over |= status.is_some();
        status
    }

    pub(super) fn failure(&self, status: ExitStatus) -> ChildError {
        ChildError::Failed { name: self.name, status, said: self.last_words() }
    }

    /// The end of its log.
    pub(super) fn last_words(&self) -> String {
        let bytes = std::fs::read(&self.log).unwrap_or_default();
        tail(&String::from_utf8_lossy(&bytes), LINES).to_owned()
    }

    /// Ends it, and what is then left of its group.
    pub(super) async fn end(&mut self) {
        if self.is_over {
            return;
        }
        self.say_farewell();
        if timeout(GRACE, self.wait()).await.is_err() {
            self.kill();
            drop(timeout(GRACE, self.wait()).await);
        }
        if !self.group_ends().await {
            self.kill();
            self.group_ends().await;
        }
        self.is_over = true;
    }

    /// Waits a little until nobody of the group is left, and says whether that is so.
    async fn group_ends(&self) -> bool {
        for _ in 0..POLLS {
            if test_kill_process_group(self.group).is_err() {
                return true;
            }
            sleep(POLL).await;
        }
        false
    }

    /// To it alone: the `postgres` that `initdb` runs leaves its shared memory behind if a signal
    /// ends it, and ends by itself once nobody talks to it.
    fn say_farewell(&self) {
        // An error says that there is nobody left to hear it.
        kill_process(self.group, self.farewell).ok();
    }

    fn kill(&self) {
        kill_process_group(self.group, Signal::KILL).ok();
    }
}

/// For a panic on the way; the ordinary end is [`Child::end`].
impl Drop for Child {
    fn drop(&mut self) {
        if !self.is_over {
            self.say_farewell();
        }
    }
}

fn is_postgres_setting(name: &OsStr) -> bool {
    name.as_encoded_bytes().starts_with(b"PG")
}

/// The last `lines` lines of `text`.
fn tail(text: &str, lines: usize) -> &str {
    let text = text.trim_end();
    let start = text.rmatch_indices('\n').nth(lines - 1).map_or(0, |(at, _)| at + 1);
    text.get(start..).unwrap_or(text)
}

const LINES: usize = 8;
/// Longer than PostgreSQL waits for its own children before it kills them.
const GRACE: Duration = Duration::from_secs(8);
const POLL: Duration = Duration::from_millis(20);
const POLLS: usize = 100;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_tail_is_the_last_lines() {
        assert_eq!(tail("a\nb\nc\n", 2), "b\nc");
        assert_eq!(tail("a\nb\n", 2), "a\nb");
        assert_eq!(tail("", 2), "");
    }

    fn shell(script: &str) -> (tempfile::TempDir, Surroundings, Command) {
        let folder = tempfile::tempdir().unwrap();
        let surroundings = Surroundings { folder: folder.path().to_owned(), account: None };
        let mut command = surroundings.command(Path::new("/bin/sh"));
        command.arg("-c").arg(script);
        (folder, surroundings, command)
    }

    #[tokio::test]
    async fn a_failure_shows_what_the_program_said() {
        let (_folder, surroundings, command) = shell("echo no space left >&2; exit 3");

        let failed = surroundings.run("sh", command, &CancellationToken::new()).await.unwrap_err();

        assert_eq!(failed.to_string(), "sh failed (exit status: 3):\nno space left");
    }

    #[tokio::test]
    async fn a_stop_ends_the_program_and_those_it_has_started() {
        let (folder, surroundings, command) =
            shell("sleep 300 & echo $$ > pid.part; mv pid.part pid; wait");
        let stop = CancellationToken::new();

        let pid = async {
            loop {
                if let Ok(pid) = std::fs::read_to_string(folder.path().join("pid")) {
                    stop.cancel();
                    return pid.trim().parse().unwrap();
                }
                sleep(POLL).await;
            }
        };
        let (ended, pid) = tokio::join!(surroundings.run("sh", command, &stop), pid);

        assert!(matches!(ended, Err(ChildError::Stopped)), "{ended:?}");
        let left = test_kill_process_group(Pid::from_raw(pid).unwrap());
        assert!(left.is_err(), "a process of the group is left");
    }

    #[tokio::test]
    async fn settings_of_the_caller_do_not_reach_a_child() {
        assert!(is_postgres_setting(OsStr::new("PGHOST")));
        assert!(!is_postgres_setting(OsStr::new("PATH")));
    }
}
