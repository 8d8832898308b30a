//! All sessions of a process, by what a cancel request names.

use std::collections::{BTreeMap, HashSet};
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering::Relaxed};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::record::{ClientRecord, Ring};

/// The sessions of those who have proved who they are.
#[derive(Debug, Default)]
pub struct Registry {
    sessions: Mutex<Sessions>,
    /// Sockets accepted and not yet logged in, and all that are open.
    pub in_login: AtomicUsize,
    pub connected: AtomicUsize,
    next_id: AtomicU64,
}

#[derive(Debug, Default)]
struct Sessions {
    /// By process id and number: in session mode the process id is the server's, and servers of several
    /// hosts may have the same.
    begun: BTreeMap<(i32, u64), Arc<ClientRecord>>,
    /// The users of those that are to begin, by number. They count as the others do.
    coming: BTreeMap<u64, Arc<str>>,
}

impl Sessions {
    fn len(&self) -> usize {
        self.begun.len() + self.coming.len()
    }

    fn of_user(&self, user: &str) -> usize {
        let begun = self.begun.values().filter(|record| *record.user == *user).count();
        begun + self.coming.values().filter(|other| ***other == *user).count()
    }
}

/// How many sessions there may be.
#[derive(Debug, Clone, Copy)]
pub struct ClientLimits {
    pub all: usize,
    /// Of the user that logs in; `None`: no limit of its own.
    pub of_user: Option<usize>,
}

/// The limit that is reached.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Full {
    All { max: usize },
    User { max: usize },
}

/// Room among the sessions for one that is to begin; given back on drop.
#[derive(Debug)]
pub struct Room {
    id: u64,
    registry: Arc<Registry>,
}

/// A session's entry; gone on drop.
#[derive(Debug)]
pub struct Registered {
    pub record: Arc<ClientRecord>,
    registry: Arc<Registry>,
}

/// Process ids of ours begin above PostgreSQL's highest (2^22), so that nobody terminates a stranger
/// by one.
const FIRST_PROCESS_ID: u64 = 4_194_305;

impl Registry {
    pub fn next_id(&self) -> u64 {
        self.next_id.fetch_add(1, Relaxed) + 1
    }

    /// A process id for the session with this number: no backend's, and unique among two thousand
    /// million sessions.
    pub fn process_id(id: u64) -> i32 {
        let span = i32::MAX as u64 - FIRST_PROCESS_ID;
        i32::try_from(FIRST_PROCESS_ID + id % span).unwrap_or(i32::MAX)
    }

    /// Keeps room for the session with the number `id`, unless there are as many as `limits` say.
    pub fn make_room(
        self: &Arc<Self>,
        id: u64,
        user: &str,
        limits: ClientLimits,
    ) -> Result<Room, Full> {
        let mut sessions = self.sessions();
        if sessions.len() >= limits.all {
            return Err(Full::All { max: limits.all });
        }
        if let Some(max) = limits.of_user
            && sessions.of_user(user) >= max
        {
            return Err(Full::User { max });
        }
        sessions.coming.insert(id, user.into());
        drop(sessions);
        Ok(Room { id, registry: Arc::clone(self) })
    }

    /// Sessions, and those that are to begin.
    pub fn len(&self) -> usize {
        self.sessions().len()
    }

    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The session that a cancel request is meant for.
    pub fn find(&self, process_id: i32, secret: &[u8]) -> Option<Arc<ClientRecord>> {
        let sessions = self.sessions();
        let mut of_process = sessions.begun.range((process_id, 0)..=(process_id, u64::MAX));
        of_process.find(|(_, record)| record.key.has_secret(secret)).map(|(_, r)| Arc::clone(r))
    }

    pub fn list(&self) -> Vec<Arc<ClientRecord>> {
        self.sessions().begun.values().map(Arc::clone).collect()
    }

    /// Tells every session.
    pub fn ring_all(&self, ring: Ring) {
        for record in self.list() {
            record.bell.ring(ring);
        }
    }

    /// Tells the sessions with the numbers `ids`.
    pub fn ring_some(&self, ids: &HashSet<u64>, ring: Ring) {
        if ids.is_empty() {
            return;
        }
        for record in self.list().iter().filter(|record| ids.contains(&record.id)) {
            record.bell.ring(ring);
        }
    }

    fn sessions(&self) -> MutexGuard<'_, Sessions> {
        self.sessions.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Room {
    /// The session begins.
    pub fn take(self, record: ClientRecord) -> Registered {
        let record = Arc::new(record);
        let mut sessions = self.registry.sessions();
        sessions.coming.remove(&self.id);
        sessions.begun.insert(entry_of(&record), Arc::clone(&record));
        drop(sessions);
        Registered { record, registry: Arc::clone(&self.registry) }
    }
}

impl Drop for Room {
    fn drop(&mut self) {
        self.registry.sessions().coming.remove(&self.id);
    }
}

impl Drop for Registered {
    fn drop(&mut self) {
        self.registry.sessions().begun.remove(&entry_of(&self.record));
    }
}

fn entry_of(record: &ClientRecord) -> (i32, u64) {
    (record.key.process_id, record.id)
}
