//! All sessions of a process, by what a cancel request names.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering::Relaxed};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::record::{ClientKey, ClientRecord, Ring};

/// The sessions that are logged in.
#[derive(Debug, Default)]
pub struct Registry {
    sessions: Mutex<HashMap<ClientKey, Arc<ClientRecord>>>,
    /// Sockets accepted and not yet logged in, and all that are open.
    pub in_login: AtomicUsize,
    pub connected: AtomicUsize,
    next_id: AtomicU64,
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

    /// Adds a session, unless there are as many as `limits` say.
    pub fn add(
        self: &Arc<Self>,
        record: ClientRecord,
        limits: ClientLimits,
    ) -> Result<Registered, Full> {
        let record = Arc::new(record);
        let mut sessions = self.sessions();
        if sessions.len() >= limits.all {
            return Err(Full::All { max: limits.all });
        }
        if let Some(max) = limits.of_user
            && sessions.values().filter(|other| other.user == record.user).count() >= max
        {
            return Err(Full::User { max });
        }
        sessions.insert(record.key, Arc::clone(&record));
        drop(sessions);
        Ok(Registered { record, registry: Arc::clone(self) })
    }

    /// Sessions that are logged in.
    pub fn len(&self) -> usize {
        self.sessions().len()
    }

    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The session that a cancel request is meant for.
    pub fn find(&self, key: &ClientKey) -> Option<Arc<ClientRecord>> {
        self.sessions().get(key).map(Arc::clone)
    }

    pub fn list(&self) -> Vec<Arc<ClientRecord>> {
        self.sessions().values().map(Arc::clone).collect()
    }

    /// Tells every session.
    pub fn ring_all(&self, ring: Ring) {
        for record in self.list() {
            record.bell.ring(ring);
        }
    }

    fn sessions(&self) -> MutexGuard<'_, HashMap<ClientKey, Arc<ClientRecord>>> {
        self.sessions.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Registered {
    fn drop(&mut self) {
        self.registry.sessions().remove(&self.record.key);
    }
}
