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
use super::naming::reading;
use super::serve::Session;
use crate::pool::Pool;
use crate::server::Server;
use crate::server::exchange::Request;
use crate::sql::Affected;
use crate::wire::backend::TxStatus;

/// What the statements of a transaction concern, until it ends.
#[derive(Debug, Default)]
pub(super) struct Affecting {
    noted: Vec<Noted>,
    /// Command tags so far of the request with this serial number.
    tags: (u64, usize),
    /// To be set when what is being run is answered.
    is_answered: Arc<AtomicBool>,
    /// Statements that were prepared under names of the client's own, and what they concern.
    kept: Vec<(Box<[u8]>, Vec<Affected>)>,
}

#[derive(Debug)]
struct Noted {
    affected: Affected,
    /// Serial number of the Query that runs it; of an Execute no higher than that.
    since: u64,
    /// Which of a Query's statements it is; `None`: an Execute's.
    at: Option<usize>,
    is_done: bool,
    /// It is being run, and others make way for it.
    is_begun: bool,
}

/// How long a refusal may take that needs no look at who is connected.
const REFUSAL: Duration = Duration::from_millis(50);

/// How long `PostgreSQL` may take to let new connections see what `pg_reload_conf` has read.
const RELOAD: Duration = Duration::from_secs(1);

/// What is kept of one transaction. Beyond it everybody is concerned.
const MOST: usize = 100;

impl Session {
    /// Notes the statements of a Query that is about to be sent, of whose text `affects_others` holds.
    pub(super) fn note_affected(&mut self, text: &[u8]) {
        let Some(server) = self.linked_server() else { return };
        let affected = Affected::of(text, reading(server));
        self.add_affected(affected.into_iter().map(|(at, affected)| (Some(at), affected)));
    }

    /// The same of a statement that was bound.
    pub(super) fn note_affected_by(&mut self, text: &[u8]) {
        let Some(server) = self.linked_server() else { return };
        let affected = Affected::of(text, reading(server));
        self.add_affected(affected.into_iter().map(|(_, affected)| (None, affected)));
    }

    /// The same of a statement that is prepared under a name of the client's own.
    pub(super) fn keep_affected(&mut self, name: &[u8], text: &[u8]) {
        let Some(server) = self.linked_server() else { return };
        let affected = Affected::of(text, reading(server)).into_iter().map(|(_, one)| one);
        let affected: Vec<_> = affected.collect();
        let Link::Linked(linked) = &mut self.link else { return };
        let kept = &mut linked.affecting.get_or_insert_default().kept;
        if kept.len() >= MOST {
            kept.remove(0);
        }
        kept.push((name.into(), affected));
    }

    /// A statement that is called so by the client is prepared, and the one before is gone.
    pub(super) fn forget_affected(&mut self, name: &[u8]) {
        if let Link::Linked(linked) = &mut self.link
            && let Some(affecting) = &mut linked.affecting
        {
            affecting.kept.retain(|(known, _)| **known != *name);
        }
    }

    /// The statement that the client calls so was bound.
    pub(super) fn bind_affected(&mut self, name: &[u8]) {
        let Link::Linked(linked) = &mut self.link else { return };
        let Some(affecting) = &linked.affecting else { return };
        let Some((_, kept)) = affecting.kept.iter().find(|(known, _)| **known == *name) else {
            return;
        };
        let affected: Vec<_> = kept.iter().map(|one| (None, one.clone())).collect();
        self.add_affected(affected.into_iter());
    }

    fn add_affected(&mut self, affected: impl Iterator<Item = (Option<usize>, Affected)>) {
        let Link::Linked(linked) = &mut self.link else { return };
        let Some(server) = linked.checkout.server() else { return };
        let since = server.exchange.next_serial();
        let affecting = linked.affecting.get_or_insert_default();
        let note = |(at, affected)| Noted { affected, since, at, is_done: false, is_begun: false };
        affecting.noted.extend(affected.map(note));
        if affecting.noted.len() > MOST {
            let is_done = affecting.noted.iter().any(|noted| noted.is_done);
            let all = Noted { is_done, ..note((None, Affected::Server)) };
            affecting.noted = vec![all];
        }
    }

    fn linked_server(&mut self) -> Option<&mut Server> {
        match &mut self.link {
            Link::Linked(linked) => linked.checkout.server(),
            Link::Free
            | Link::Waiting(_)
            | Link::Proving { .. }
            | Link::Doubting(_)
            | Link::StandIn(_) => None,
        }
    }

    /// If one of them wants to be alone with a database and is run now, others make way. Who may not drop
    /// a database is told so at once; if the answer takes longer, `PostgreSQL` may be waiting for them to
    /// leave it, for 5 s at most.
    pub(super) fn make_way(&mut self) {
        let Link::Linked(linked) = &mut self.link else { return };
        let (Some(affecting), Some(server)) = (&mut linked.affecting, linked.checkout.peek())
        else {
            return;
        };
        let Some((serial, request)) = server.exchange.first_to_run() else { return };
        let is_run = |noted: &Noted| match noted.at {
            Some(_) => noted.since == serial,
            None => request == Request::Execute && noted.since <= serial,
        };
        let mut alone = Vec::new();
        for noted in &mut affecting.noted {
            if noted.wants_to_be_alone() && !noted.is_begun && is_run(noted) {
                noted.is_begun = true;
                alone.push(noted.affected.clone());
            }
        }
        if alone.is_empty() {
            return;
        }
        let is_answered = Arc::new(AtomicBool::new(false));
        affecting.is_answered = Arc::clone(&is_answered);
        let pools: Vec<_> = alone.iter().flat_map(|affected| self.concerned(affected)).collect();
        self.context.commons.drain.spawn(async move {
            sleep(REFUSAL).await;
            if !is_answered.load(Relaxed) {
                vacate(&pools);
            }
        });
    }

    /// `PostgreSQL` says that somebody is connected to the database that `message` names, in whatever
    /// language: who is idle there is closed, so that the next try succeeds. Nothing else tells it of what
    /// was in a text too long to be read.
    pub(super) fn on_database_in_use(&self, message: &[u8]) {
        let message = String::from_utf8_lossy(message);
        let mut pools = self.context.router.pools();
        pools.retain(|pool| pool.shares_host(&self.pool) && names(&message, &pool.database));
        vacate(&pools);
    }

    /// The request `serial` is over. If its transaction is, what was altered holds for servers that
    /// are opened from now on.
    pub(super) fn finish_affected(&mut self, serial: u64) {
        let Link::Linked(linked) = &mut self.link else { return };
        let Some(affecting) = &mut linked.affecting else { return };
        affecting.answered();
        affecting.noted.retain(|noted| noted.is_done || noted.since > serial);
        // What waited for that in a pipeline has its turn.
        self.make_way();
        let Link::Linked(linked) = &mut self.link else { return };
        let Some(affecting) = &mut linked.affecting else { return };
        if linked.checkout.peek().is_some_and(|server| server.exchange.tx() != TxStatus::Idle) {
            return;
        }
        let done = affecting.noted.extract_if(.., |noted| noted.is_done);
        let done: Vec<_> = done.map(|noted| noted.affected).collect();
        if affecting.noted.is_empty() && affecting.kept.is_empty() {
            linked.affecting = None;
        }
        let is_reload = done.contains(&Affected::Server);
        let pools: Vec<_> = done.iter().flat_map(|affected| self.concerned(affected)).collect();
        pools.iter().for_each(Pool::retire);
        if is_reload {
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
            pool.shares_host(&self.pool)
                && match affected {
                    Affected::Role(name) => is_it(&pool.user, name),
                    Affected::OwnRole => pool.user == self.pool.user,
                    Affected::Database(name) | Affected::Alone(name) => is_it(&pool.database, name),
                    Affected::Server => true,
                }
        });
        pools
    }
}

impl Affecting {
    /// What was run is answered, or its session is over.
    pub(super) fn answered(&self) {
        self.is_answered.store(true, Relaxed);
    }

    /// Notes a command tag of the request `serial`: one of them is done, if it is that one's.
    pub(super) fn done(&mut self, tag: &[u8], serial: u64) {
        const TAGS: [&[u8]; 4] = [b"ALTER ", b"DROP ", b"CREATE DATABASE", b"SELECT "];
        if self.tags.0 != serial {
            self.tags = (serial, 0);
        }
        let (_, count) = self.tags;
        self.tags.1 += 1;
        for noted in &mut self.noted {
            noted.is_done |= match noted.at {
                Some(at) => (noted.since, at) == (serial, count),
                None => noted.since <= serial && TAGS.iter().any(|known| tag.starts_with(known)),
            };
        }
    }
}

impl Drop for Affecting {
    fn drop(&mut self) {
        self.answered();
    }
}

/// True if `name` stands in `message` between quotation marks of whatever kind.
fn names(message: &str, name: &str) -> bool {
    // The last stands for a mark in another encoding than UTF-8.
    const MARKS: [char; 13] = [
        '"',
        '\'',
        '`',
        '»',
        '«',
        '„',
        '“',
        '”',
        '‘',
        '’',
        '「',
        '」',
        char::REPLACEMENT_CHARACTER,
    ];
    // In French there is a blank between the mark and the name.
    message.match_indices(name).any(|(at, found)| {
        let (before, behind) = message.split_at(at);
        let behind = behind.get(found.len()..).unwrap_or_default();
        before.trim_end().ends_with(MARKS) && behind.trim_start().starts_with(MARKS)
    })
}

fn vacate(pools: &[Arc<Pool>]) {
    let now = Instant::now();
    for pool in pools {
        pool.vacate(now);
    }
}

impl Noted {
    const fn wants_to_be_alone(&self) -> bool {
        matches!(self.affected, Affected::Alone(_))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_database_is_named_in_quotes() {
        for message in [
            "database \"shop\" is being accessed by other users",
            "Datenbank »shop« wird von anderen Benutzern verwendet",
            "la base de données « shop » est en cours d'utilisation",
            &String::from_utf8_lossy(b"Datenbank \xbbshop\xab wird von anderen verwendet"),
            "データベース\"shop\"は他のユーザーからアクセスされています",
        ] {
            assert!(names(message, "shop"), "{message}");
        }
        for message in ["database \"test_shop\" is", "\"shop_2\" is", "\"shop-two\"", "", "shop"] {
            assert!(!names(message, "shop"), "{message}");
        }
        assert!(!names("database \"shop\" is being accessed by other users", "users"));
    }
}
