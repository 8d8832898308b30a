//! What others may see of a server while a session or a pool holds it.

use std::fmt;
use std::sync::atomic::{AtomicBool, AtomicU8, AtomicU64, AtomicUsize, Ordering::Relaxed};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, SystemTime};

use tokio::sync::Notify;
use tokio::time::Instant;

use crate::config::HostAddr;
use crate::net::stream::Stream;
use crate::pool::core::ServerId;
use crate::telemetry::snapshot::{Peer, ServerState};
use crate::tls::Ladder;
use crate::wire::startup::Replication;

/// A server as `SHOW SERVERS` and cancel requests see it.
#[derive(Debug)]
pub struct ServerRecord {
    pub id: ServerId,
    pub host: HostAddr,
    pub key: BackendKey,
    pub peer: Peer,
    pub local: Peer,
    /// The version and cipher of its TLS, and how to have the same again for a cancel request.
    pub encryption: Option<(Arc<str>, Ladder)>,
    /// Opened for replication.
    pub replication: Option<Replication>,
    pub connected: SystemTime,
    pub opened: Instant,
    state: AtomicU8,
    /// The client's number; 0: none.
    link: AtomicU64,
    /// Microseconds from `opened` to when it was last lent.
    requested: AtomicU64,
    pub prepared_statements: AtomicUsize,
    application_name: Mutex<Arc<str>>,
    cancels: Cancels,
}

/// What a cancel request names. `Debug` does not show the secret.
#[derive(Clone, PartialEq, Eq)]
pub struct BackendKey {
    pub process_id: i32,
    pub secret: Box<[u8]>,
}

impl fmt::Debug for BackendKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "BackendKey({})", self.process_id)
    }
}

impl ServerRecord {
    pub fn new(
        id: ServerId,
        host: HostAddr,
        key: BackendKey,
        stream: &Stream,
        tls: &Ladder,
    ) -> Self {
        Self {
            id,
            host,
            key,
            peer: stream.peer(),
            local: stream.local(),
            encryption: stream.encryption().map(|description| (description, tls.clone())),
            replication: None,
            connected: SystemTime::now(),
            opened: Instant::now(),
            state: AtomicU8::new(0),
            link: AtomicU64::new(0),
            requested: AtomicU64::new(0),
            prepared_statements: AtomicUsize::new(0),
            application_name: Mutex::new("".into()),
            cancels: Cancels::default(),
        }
    }

    pub fn set_state(&self, state: ServerState) {
        let index = STATES.iter().position(|known| *known == state).unwrap_or_default();
        self.state.store(u8::try_from(index).unwrap_or_default(), Relaxed);
    }

    pub fn state(&self) -> ServerState {
        let index = usize::from(self.state.load(Relaxed));
        STATES.get(index).copied().unwrap_or(ServerState::Closing)
    }

    /// Notes that the server is lent to `client`.
    pub fn set_link(&self, client: u64, now: Instant) {
        self.link.store(client, Relaxed);
        let micros = now.saturating_duration_since(self.opened).as_micros();
        self.requested.store(u64::try_from(micros).unwrap_or(u64::MAX), Relaxed);
    }

    pub fn clear_link(&self) {
        self.link.store(0, Relaxed);
    }

    pub fn link(&self) -> Option<u64> {
        Some(self.link.load(Relaxed)).filter(|id| *id != 0)
    }

    /// When it was last lent.
    pub fn requested(&self) -> SystemTime {
        self.connected + Duration::from_micros(self.requested.load(Relaxed))
    }

    pub fn set_application_name(&self, name: &str) {
        let mut held = self.application_name.lock().unwrap_or_else(PoisonError::into_inner);
        if **held != *name {
            *held = name.into();
        }
    }

    pub fn application_name(&self) -> Arc<str> {
        Arc::clone(&self.application_name.lock().unwrap_or_else(PoisonError::into_inner))
    }

    pub const fn cancels(&self) -> &Cancels {
        &self.cancels
    }
}

const STATES: [ServerState; 7] = [
    ServerState::Login,
    ServerState::Idle,
    ServerState::Used,
    ServerState::Tested,
    ServerState::Active,
    ServerState::BeingCanceled,
    ServerState::Closing,
];

/// Cancel requests under way to a server. While there are any it is lent to nobody else: a cancel
/// that comes late would hit a stranger's statement (pitfalls P21, P69).
#[derive(Debug, Default)]
pub struct Cancels {
    under_way: AtomicUsize,
    done: Notify,
    /// One was given up, and nobody knows whether PostgreSQL will still heed it.
    is_doubtful: AtomicBool,
}

/// One cancel request under way; its end is its drop.
#[derive(Debug)]
pub struct CancelUnderWay(Arc<ServerRecord>);

impl Cancels {
    /// Begins one. Called while the session that it is meant for is known to hold the server.
    pub fn begin(record: &Arc<ServerRecord>) -> CancelUnderWay {
        record.cancels.under_way.fetch_add(1, Relaxed);
        CancelUnderWay(Arc::clone(record))
    }

    /// Notes that one was given up.
    pub fn doubt(&self) {
        self.is_doubtful.store(true, Relaxed);
    }

    pub fn is_doubtful(&self) -> bool {
        self.is_doubtful.load(Relaxed)
    }

    pub fn are_under_way(&self) -> bool {
        self.under_way.load(Relaxed) > 0
    }

    /// Waits until none is under way. Each has a deadline of its own, so that this ends.
    pub async fn wait(&self) {
        loop {
            let done = self.done.notified();
            tokio::pin!(done);
            done.as_mut().enable();
            if !self.are_under_way() {
                return;
            }
            done.await;
        }
    }
}

impl Drop for CancelUnderWay {
    fn drop(&mut self) {
        self.0.cancels.under_way.fetch_sub(1, Relaxed);
        self.0.cancels.done.notify_waiters();
    }
}
