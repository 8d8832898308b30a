//! What others may see of a session, and how they reach it.

use std::fmt;
use std::sync::atomic::Ordering::{AcqRel, Relaxed};
use std::sync::atomic::{AtomicU8, AtomicU64, AtomicUsize};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::Waker;
use std::time::{Duration, SystemTime};

use subtle::ConstantTimeEq as _;
use tokio::sync::oneshot;
use tokio::time::Instant;

use crate::pool::core::ServerId;
use crate::server::record::Askers;
use crate::telemetry::snapshot::{ClientState, Peer};
use crate::wire::startup::Replication;
use crate::wire::version::Version;

/// A session as `SHOW CLIENTS`, cancel requests and the drain see it.
#[derive(Debug)]
pub struct ClientRecord {
    pub id: u64,
    pub key: ClientKey,
    pub domain: Arc<str>,
    pub user: Arc<str>,
    pub peer: Peer,
    pub local: Peer,
    /// The version and cipher of its TLS, if it has any.
    pub tls: Option<Arc<str>>,
    /// A replication connection, if it is one.
    pub replication: Option<Replication>,
    pub connected: SystemTime,
    began: Instant,
    state: AtomicU8,
    /// Microseconds from `began` to the newest request.
    requested: AtomicU64,
    pub prepared_statements: AtomicUsize,
    application_name: Mutex<Arc<str>>,
    /// The server's number; 0: none.
    link: AtomicU64,
    pub bell: Bell,
}

/// What a cancel request for this session must carry. The secret is ours alone.
pub struct ClientKey {
    pub process_id: i32,
    random: [u8; Self::RANDOM_LEN],
    /// As much of it as the protocol version of the client has room for.
    secret_len: usize,
}

impl ClientKey {
    /// The longest secret in bytes.
    pub const RANDOM_LEN: usize = 32;

    pub fn new(process_id: i32, random: [u8; Self::RANDOM_LEN], version: Version) -> Self {
        Self { process_id, random, secret_len: version.secret_len() }
    }

    pub fn secret(&self) -> &[u8] {
        self.random.get(..self.secret_len).unwrap_or(&self.random)
    }

    /// Compares in a time that tells nothing of how much of it was guessed.
    pub fn has_secret(&self, secret: &[u8]) -> bool {
        self.secret().ct_eq(secret).into()
    }
}

impl fmt::Debug for ClientKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "ClientKey({})", self.process_id)
    }
}

/// Who a session is, as known at the end of its login.
#[derive(Debug)]
pub struct Identity {
    pub id: u64,
    pub key: ClientKey,
    pub domain: Arc<str>,
    pub user: Arc<str>,
    pub peer: Peer,
    pub local: Peer,
    pub tls: Option<Arc<str>>,
    pub replication: Option<Replication>,
    pub application_name: Arc<str>,
}

impl ClientRecord {
    pub fn new(identity: Identity) -> Self {
        Self {
            id: identity.id,
            key: identity.key,
            domain: identity.domain,
            user: identity.user,
            peer: identity.peer,
            local: identity.local,
            tls: identity.tls,
            replication: identity.replication,
            connected: SystemTime::now(),
            began: Instant::now(),
            state: AtomicU8::new(1),
            requested: AtomicU64::new(0),
            prepared_statements: AtomicUsize::new(0),
            application_name: Mutex::new(identity.application_name),
            link: AtomicU64::new(0),
            bell: Bell::default(),
        }
    }

    pub fn set_state(&self, state: ClientState) {
        let index = STATES.iter().position(|known| *known == state).unwrap_or_default();
        self.state.store(u8::try_from(index).unwrap_or_default(), Relaxed);
    }

    pub fn state(&self) -> ClientState {
        let index = usize::from(self.state.load(Relaxed));
        STATES.get(index).copied().unwrap_or(ClientState::Idle)
    }

    /// Notes that a request began.
    pub fn set_requested(&self, now: Instant) {
        let micros = now.saturating_duration_since(self.began).as_micros();
        self.requested.store(u64::try_from(micros).unwrap_or(u64::MAX), Relaxed);
    }

    /// When the newest request began.
    pub fn requested(&self) -> SystemTime {
        self.connected + Duration::from_micros(self.requested.load(Relaxed))
    }

    /// For how long it has waited for a server, if it does.
    pub fn wait(&self) -> Duration {
        match self.state() {
            ClientState::Waiting => self.requested().elapsed().unwrap_or_default(),
            ClientState::Login | ClientState::Idle | ClientState::Active => Duration::ZERO,
        }
    }

    /// Notes that `server` is lent to it.
    pub fn set_link(&self, server: ServerId) {
        self.link.store(server.0, Relaxed);
    }

    pub fn clear_link(&self) {
        self.link.store(0, Relaxed);
    }

    /// The server that is lent to it.
    pub fn link(&self) -> Option<ServerId> {
        Some(self.link.load(Relaxed)).filter(|id| *id != 0).map(ServerId)
    }

    pub fn set_application_name(&self, name: &str) {
        *self.application_name.lock().unwrap_or_else(PoisonError::into_inner) = name.into();
    }

    pub fn application_name(&self) -> Arc<str> {
        Arc::clone(&self.application_name.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

const STATES: [ClientState; 4] =
    [ClientState::Login, ClientState::Idle, ClientState::Waiting, ClientState::Active];

/// What a session is told from outside.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ring {
    /// End at the next transaction boundary.
    Drain,
    /// End now.
    Stop,
    /// Stop what the client waits for.
    Cancel,
    /// The host of its server is gone, which may say nothing of it.
    Stranded,
    /// It has a server to itself that is at a replica, and there is a primary again: end at the next transaction
    /// boundary.
    Misplaced,
}

/// How a session is told: a byte of flags, its task's waker, and who asked. An idle session pays a few
/// bytes.
#[derive(Debug, Default)]
pub struct Bell {
    rung: AtomicU8,
    held: Mutex<Held>,
}

#[derive(Debug, Default)]
struct Held {
    waker: Option<Waker>,
    /// Those whose cancel requests the session has not looked at yet.
    askers: Askers,
}

/// Cancel requests that may wait for a session to look at them.
const ASKERS_MAX: usize = 16;

impl Bell {
    const fn flag(ring: Ring) -> u8 {
        match ring {
            Ring::Drain => 1,
            Ring::Stop => 2,
            Ring::Cancel => 4,
            Ring::Stranded => 8,
            Ring::Misplaced => 16,
        }
    }

    /// Tells the session, whose task is woken.
    pub fn ring(&self, ring: Ring) {
        self.rung.fetch_or(Self::flag(ring), AcqRel);
        let waker = self.held().waker.clone();
        if let Some(waker) = waker {
            waker.wake();
        }
    }

    /// Asks the session to stop what it does. The receiver hears of the end of that by its sender's
    /// drop. `None`: there are so many of them that one more would do nothing.
    pub fn ring_cancel(&self) -> Option<oneshot::Receiver<()>> {
        let (asker, over) = oneshot::channel();
        {
            let mut held = self.held();
            if held.askers.len() >= ASKERS_MAX {
                return None;
            }
            held.askers.push(asker);
        }
        self.ring(Ring::Cancel);
        Some(over)
    }

    /// Takes those whose cancel requests the session looks at now.
    pub fn take_askers(&self) -> Askers {
        std::mem::take(&mut self.held().askers)
    }

    fn held(&self) -> MutexGuard<'_, Held> {
        self.held.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Says which task to wake. A task keeps its waker for life: once is enough.
    pub fn listen(&self, waker: &Waker) {
        self.held().waker = Some(waker.clone());
    }

    pub fn has_rung(&self) -> bool {
        self.rung.load(Relaxed) != 0
    }

    pub fn is_rung(&self, ring: Ring) -> bool {
        self.rung.load(Relaxed) & Self::flag(ring) != 0
    }

    /// Takes a ring back that has been answered.
    pub fn silence(&self, ring: Ring) {
        self.rung.fetch_and(!Self::flag(ring), AcqRel);
    }
}
