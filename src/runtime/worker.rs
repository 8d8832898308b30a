//! The worker threads: each has a runtime of its own and its share of the clients.

use std::cell::Cell;
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::thread::JoinHandle;

use tokio::runtime::{Builder, Handle};
use tokio::sync::oneshot;

use crate::pool::core::Home;

/// A worker as the others see it.
#[derive(Debug, Clone)]
pub struct Worker {
    pub home: Home,
    pub handle: Handle,
    /// Clients that it serves.
    load: Arc<AtomicUsize>,
}

/// A client's place on a worker, given back on drop.
#[derive(Debug)]
pub struct WorkerShare(Arc<AtomicUsize>);

impl Drop for WorkerShare {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Relaxed);
    }
}

thread_local! {
    static HOME: Cell<Home> = const { Cell::new(Home(0)) };
}

/// The worker whose thread this is; the first one on any other thread.
pub fn current_home() -> Home {
    HOME.get()
}

/// All workers of a process. Dropping it ends them.
#[derive(Debug)]
pub struct Workers {
    workers: Vec<Worker>,
    threads: Vec<(oneshot::Sender<()>, JoinHandle<()>)>,
}

impl Workers {
    /// Starts `count` workers; 0: one for each core that the process may use.
    pub fn start(count: usize) -> io::Result<Self> {
        let count = match count {
            0 => std::thread::available_parallelism()?.get(),
            n => n,
        };
        let mut all = Self { workers: Vec::new(), threads: Vec::new() };
        for index in 0..count {
            let runtime = Builder::new_current_thread().enable_all().build()?;
            let (stop, stopped) = oneshot::channel();
            let load = Arc::new(AtomicUsize::new(0));
            all.workers.push(Worker { home: Home(index), handle: runtime.handle().clone(), load });
            let thread =
                std::thread::Builder::new().name(format!("worker-{index}")).spawn(move || {
                    HOME.set(Home(index));
                    // An error means that the sender was dropped, which says the same.
                    drop(runtime.block_on(stopped));
                    // Not to be waited for: a look-up of a name may hang for half a minute.
                    runtime.shutdown_background();
                })?;
            all.threads.push((stop, thread));
        }
        Ok(all)
    }

    /// The workers as an acceptor sees them.
    pub fn shares(&self) -> Shares {
        Shares(self.workers.clone().into())
    }

    pub fn all(&self) -> &[Worker] {
        &self.workers
    }
}

/// Gives out places on workers.
#[derive(Debug, Clone)]
pub struct Shares(Arc<[Worker]>);

impl Shares {
    /// The worker with the fewest clients, one more of which is now counted as its.
    pub fn least_loaded(&self) -> Option<(&Worker, WorkerShare)> {
        let worker = self.0.iter().min_by_key(|worker| worker.load.load(Relaxed))?;
        worker.load.fetch_add(1, Relaxed);
        Some((worker, WorkerShare(Arc::clone(&worker.load))))
    }
}

impl Drop for Workers {
    fn drop(&mut self) {
        // All tasks have ended by now: homes shut down last.
        for (stop, thread) in self.threads.drain(..) {
            drop(stop);
            if thread.join().is_err() {
                tracing::error!("a worker thread panicked");
            }
        }
    }
}
