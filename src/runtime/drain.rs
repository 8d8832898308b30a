//! The one place that spawns: every task is known here, and shutdown ends with none left.

use std::future::Future;
use std::time::Duration;

use tokio::runtime::Handle;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

/// Spawns tasks and ends them.
#[derive(Debug, Clone, Default)]
pub struct Drain {
    tasks: TaskTracker,
    soft: CancellationToken,
    hard: CancellationToken,
}

/// How a drain ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Drained {
    Clean,
    /// This many tasks had to be cut off.
    Forced {
        left: usize,
    },
}

impl Drain {
    /// Runs `task` on the worker that calls.
    pub fn spawn(&self, task: impl Future<Output = ()> + Send + 'static) {
        self.spawn_on(&Handle::current(), task);
    }

    /// Runs `task` on the worker that `handle` belongs to. It is dropped when the drain turns hard.
    pub fn spawn_on(&self, handle: &Handle, task: impl Future<Output = ()> + Send + 'static) {
        let hard = self.hard.clone();
        // The guarded future is larger by a token; sessions, of which there are many, end by their
        // bell instead and use `spawn_session`.
        self.tasks.spawn_on(
            async move {
                tokio::select! {
                    () = task => {}
                    () = hard.cancelled() => {}
                }
            },
            handle,
        );
    }

    /// Runs a client's session, which hears of a drain through its bell.
    pub fn spawn_session(
        &self,
        handle: &Handle,
        session: impl Future<Output = ()> + Send + 'static,
    ) {
        self.tasks.spawn_on(session, handle);
    }

    /// Cancelled when no new work is to be begun.
    pub const fn soft(&self) -> &CancellationToken {
        &self.soft
    }

    /// Cancelled when everything is to end at once.
    pub const fn hard(&self) -> &CancellationToken {
        &self.hard
    }

    /// Waits for every task to end, for at most `grace`; then calls `cut_off` and ends the rest.
    pub async fn run(&self, grace: Duration, cut_off: impl FnOnce()) -> Drained {
        self.tasks.close();
        self.soft.cancel();
        if timeout(grace, self.tasks.wait()).await.is_ok() {
            return Drained::Clean;
        }
        let left = self.tasks.len();
        self.hard.cancel();
        cut_off();
        self.tasks.wait().await;
        Drained::Forced { left }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_task_that_does_not_end_is_cut_off_after_the_grace() {
        let drain = Drain::default();
        drain.spawn(std::future::pending());

        let drained = drain.run(Duration::from_secs(5), || {}).await;

        assert_eq!(drained, Drained::Forced { left: 1 });
    }

    #[tokio::test(start_paused = true)]
    async fn a_task_that_hears_of_the_drain_ends_it() {
        let drain = Drain::default();
        let soft = drain.soft().clone();
        drain.spawn(async move { soft.cancelled().await });

        assert_eq!(drain.run(Duration::from_secs(5), || {}).await, Drained::Clean);
    }
}
