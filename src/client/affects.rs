//! Statements about roles, databases and the server as a whole: whose servers they concern.
//!
//! A new connection sees what ALTER ROLE, ALTER DATABASE or ALTER SYSTEM has changed; a server that
//! was opened before does not. And `PostgreSQL` drops, renames or copies a database only while nobody
//! else is connected to it, which an idle server is (pitfall P95).

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::time::Duration;

use tokio::time::{Instant, sleep};

use super::link::Link;
use super::serve::Session;
use crate::pool::Pool;
use crate::sql::Affected;
use crate::wire::backend::TxStatus;

/// What the statements of a transaction concern, until it ends.
#[derive(Debug, Default)]
pub(super) struct Affecting {
    affected: Vec<Affected>,
    /// One of them was done.
    is_done: bool,
    /// Nothing of them runs now.
    is_answered: Arc<AtomicBool>,
    /// One of them was prepared on a server that the session keeps, and may be run at any time.
    is_kept: bool,
}

/// How long a refusal may take that needs no look at who is connected.
const REFUSAL: Duration = Duration::from_millis(50);

/// How long `PostgreSQL` may take to let new connections see what `pg_reload_conf` has read.
const RELOAD: Duration = Duration::from_secs(1);

/// What is kept of one transaction. Beyond it everybody is concerned.
const MOST: usize = 100;

impl Session {
    /// Notes a statement of whose text `affects_others` holds.
    pub(super) fn note_affected(&mut self, text: &[u8], is_kept: bool) {
        let affected = Affected::of(text);
        let Link::Linked(linked) = &mut self.link else { return };
        let affecting = linked.affecting.get_or_insert_default();
        affecting.is_kept |= is_kept;
        let noted = &mut affecting.affected;
        noted.extend(affected);
        if noted.len() > MOST {
            *noted = vec![Affected::Server];
        }
    }

    /// One of them is run. Who may not drop a database is told so at once; if the answer takes longer,
    /// `PostgreSQL` may be waiting for others to leave it, for 5 s at most.
    pub(super) fn make_way(&mut self, tag: u8) {
        let Link::Linked(linked) = &mut self.link else { return };
        let Some(affecting) = &mut linked.affecting else { return };
        if !matches!(tag, b'Q' | b'E') {
            return;
        }
        let is_answered = Arc::clone(&affecting.is_answered);
        is_answered.store(false, Relaxed);
        let alone =
            affecting.affected.iter().filter(|affected| matches!(affected, Affected::Alone(_)));
        let alone: Vec<_> = alone.cloned().collect();
        let pools: Vec<_> = alone.iter().flat_map(|database| self.concerned(database)).collect();
        if pools.is_empty() {
            return;
        }
        self.context.commons.drain.spawn(async move {
            sleep(REFUSAL).await;
            if !is_answered.load(Relaxed) {
                let now = Instant::now();
                for pool in &pools {
                    pool.vacate(now);
                }
            }
        });
    }

    /// `PostgreSQL` says that somebody is connected to a database: who came back meanwhile is closed
    /// too, so that the next try succeeds.
    pub(super) fn on_database_in_use(&self) {
        let Link::Linked(linked) = &self.link else { return };
        for affected in linked.affecting.iter().flat_map(|affecting| &affecting.affected) {
            if matches!(affected, Affected::Alone(_)) {
                self.vacate(affected);
            }
        }
    }

    fn vacate(&self, database: &Affected) {
        let now = Instant::now();
        for pool in self.concerned(database) {
            pool.vacate(now);
        }
    }

    /// A request is over. If its transaction is, what was altered holds for servers that are opened
    /// from now on.
    pub(super) fn finish_affected(&mut self) {
        let Link::Linked(linked) = &mut self.link else { return };
        let Some(affecting) = &linked.affecting else { return };
        affecting.is_answered.store(true, Relaxed);
        if linked.checkout.peek().is_some_and(|server| server.exchange.tx() != TxStatus::Idle) {
            return;
        }
        let affecting =
            linked.affecting.take_if(|affecting| affecting.is_done || !affecting.is_kept);
        let Some(affecting) = affecting.filter(|affecting| affecting.is_done) else { return };
        let pools: Vec<_> =
            affecting.affected.iter().flat_map(|affected| self.concerned(affected)).collect();
        pools.iter().for_each(Pool::retire);
        if affecting.affected.contains(&Affected::Server) {
            self.context.commons.drain.spawn(async move {
                sleep(RELOAD).await;
                pools.iter().for_each(Pool::retire);
            });
        }
    }

    /// The pools whose servers a statement concerns: on the host that it ran on.
    fn concerned(&self, affected: &Affected) -> Vec<Arc<Pool>> {
        let is_it = |known: &str, name: &Option<String>| name.as_deref().is_none_or(|n| n == known);
        let mut pools = self.context.router.pools();
        pools.retain(|pool| {
            Arc::ptr_eq(&pool.host, &self.pool.host)
                && match affected {
                    Affected::Role(name) => is_it(&pool.target.user, name),
                    Affected::Database(name) | Affected::Alone(name) => {
                        is_it(&pool.target.database, name)
                    }
                    Affected::Server => true,
                }
        });
        pools
    }
}

impl Affecting {
    /// Notes that a statement is done: one of them, if the tag says so.
    pub(super) fn done(&mut self, tag: &[u8]) {
        const TAGS: [&[u8]; 4] = [b"ALTER ", b"DROP ", b"CREATE DATABASE", b"SELECT "];
        self.is_done |= TAGS.iter().any(|known| tag.starts_with(known));
    }
}
