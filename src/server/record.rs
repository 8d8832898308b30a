//! What others may see of a server while a session or a pool holds it.

use std::fmt;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, AtomicU8, AtomicU64, AtomicUsize, Ordering::Relaxed};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};
use std::time::{Duration, SystemTime};

use tokio::sync::{Notify, oneshot};
use tokio::time::Instant;

use super::endpoint::Endpoint;
use crate::net::stream::Stream;
use crate::pool::core::{ServerId, Site};
use crate::telemetry::snapshot::{Peer, ServerState};
use crate::tls::Ladder;
use crate::wire::startup::Replication;

/// A server as `SHOW SERVERS` and cancel requests see it.
#[derive(Debug)]
pub struct ServerRecord {
    pub id: ServerId,
    pub host: Arc<Endpoint>,
    /// The same, by its place in the domain.
    pub site: Site,
    pub key: BackendKey,
    pub peer: Peer,
    pub local: Peer,
    /// The address that was asked for, if by TCP: of all that its host may have.
    pub address: Option<SocketAddr>,
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
    /// Lent, and nothing is under way on it.
    is_at_rest: AtomicBool,
    pub prepared_statements: AtomicUsize,
    /// How often something was read from it.
    reads: AtomicU64,
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
        (host, site): (Arc<Endpoint>, Site),
        key: BackendKey,
        stream: &Stream,
        tls: &Ladder,
    ) -> Self {
        Self {
            id,
            host,
            site,
            key,
            peer: stream.peer(),
            local: stream.local(),
            address: None,
            encryption: stream.encryption().map(|description| (description, tls.clone())),
            replication: None,
            connected: SystemTime::now(),
            opened: Instant::now(),
            state: AtomicU8::new(0),
            link: AtomicU64::new(0),
            requested: AtomicU64::new(0),
            is_at_rest: AtomicBool::new(false),
            prepared_statements: AtomicUsize::new(0),
            reads: AtomicU64::new(0),
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
        self.set_at_rest(false);
    }

    /// Notes whether its client sits in a block, with nothing under way.
    pub fn set_at_rest(&self, is_at_rest: bool) {
        self.is_at_rest.store(is_at_rest, Relaxed);
    }

    /// True if it is lent to a client that sits in its block.
    pub fn is_held_at_rest(&self) -> bool {
        self.link().is_some() && self.is_at_rest.load(Relaxed)
    }

    /// Notes that something was read from it. Whoever has the server is the only one who does.
    pub fn note_read(&self) {
        self.reads.store(self.reads.load(Relaxed).wrapping_add(1), Relaxed);
    }

    pub fn reads(&self) -> u64 {
        self.reads.load(Relaxed)
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

/// Those who wait for the end of a cancel request, of which they hear by the drop.
pub type Askers = Vec<oneshot::Sender<()>>;

/// Cancel requests under way to a server. While there are any it is lent to nobody else: a cancel
/// that comes late would hit a stranger's statement (pitfalls P21, P69).
#[derive(Debug, Default)]
pub struct Cancels {
    /// Those that may be sent, or heeded, after this.
    under_way: AtomicUsize,
    done: Notify,
    /// The one that is not sent yet, if there is such a one.
    unsent: Mutex<Option<Unsent>>,
    /// One was given up, and nobody knows whether PostgreSQL will still heed it.
    is_doubtful: AtomicBool,
    /// The session that holds the server, if it waits for the end of them.
    holder: Mutex<Option<Waker>>,
}

/// A cancel request for which there is no connection yet.
#[derive(Debug)]
enum Unsent {
    /// By whom; more may come to ask for it.
    Wanted(Askers),
    /// What it was to stop is over. When it has its connection it may be wanted for something else.
    Withdrawn,
}

/// One cancel request under way; its end is its drop.
#[derive(Debug)]
pub struct CancelUnderWay {
    server: Arc<ServerRecord>,
    stage: Stage,
}

#[derive(Debug)]
enum Stage {
    Unsent,
    /// Who asked for it hears of its end.
    Sending(#[expect(dead_code, reason = "told by its drop")] Askers),
    Withdrawn,
}

impl Cancels {
    /// Begins one. Called while the session that it is meant for holds the server. `None`: one that
    /// is not sent yet will do for these as well, or the server gave no key.
    pub fn begin(record: &Arc<ServerRecord>, askers: Askers) -> Option<CancelUnderWay> {
        if record.key.secret.is_empty() {
            return None;
        }
        let mut unsent = record.cancels.unsent();
        if let Some(Unsent::Wanted(waiting)) = unsent.as_mut() {
            let room = ASKERS_MAX.saturating_sub(waiting.len());
            waiting.extend(askers.into_iter().take(room));
            return None;
        }
        record.cancels.under_way.fetch_add(1, Relaxed);
        let has_carrier = unsent.replace(Unsent::Wanted(askers)).is_some();
        drop(unsent);
        (!has_carrier).then(|| CancelUnderWay { server: Arc::clone(record), stage: Stage::Unsent })
    }

    /// What they were to stop is over: one that is not sent yet never will be.
    pub fn withdraw(&self) {
        if !self.are_under_way() {
            return;
        }
        let mut unsent = self.unsent();
        if matches!(*unsent, Some(Unsent::Wanted(_))) {
            let askers = unsent.replace(Unsent::Withdrawn);
            drop(unsent);
            self.end_one();
            drop(askers);
        }
    }

    /// Notes that one is over.
    fn end_one(&self) {
        self.under_way.fetch_sub(1, Relaxed);
        self.done.notify_waiters();
        let holder = self.holder().take();
        if let Some(holder) = holder {
            holder.wake();
        }
    }

    fn unsent(&self) -> MutexGuard<'_, Option<Unsent>> {
        self.unsent.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn holder(&self) -> MutexGuard<'_, Option<Waker>> {
        self.holder.lock().unwrap_or_else(PoisonError::into_inner)
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

    /// Ready when none is under way. For the one session that holds the server.
    pub fn poll_over(&self, cx: &Context<'_>) -> Poll<()> {
        // Before it is looked: the end of one in between is not missed.
        *self.holder() = Some(cx.waker().clone());
        if self.are_under_way() {
            return Poll::Pending;
        }
        *self.holder() = None;
        Poll::Ready(())
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

impl CancelUnderWay {
    pub const fn server(&self) -> &Arc<ServerRecord> {
        &self.server
    }

    /// False if nobody wants it any more: it is not to be sent. If true, it may arrive at any time from
    /// here on, and is not what later requests ask for.
    #[must_use]
    pub fn begin_sending(&mut self) -> bool {
        let unsent = self.server.cancels.unsent().take();
        let is_wanted = matches!(unsent, Some(Unsent::Wanted(_)));
        self.stage = match unsent {
            Some(Unsent::Wanted(askers)) => Stage::Sending(askers),
            Some(Unsent::Withdrawn) | None => Stage::Withdrawn,
        };
        is_wanted
    }
}

impl Drop for CancelUnderWay {
    fn drop(&mut self) {
        if matches!(self.stage, Stage::Unsent) {
            let _is_sent: bool = self.begin_sending();
        }
        if matches!(self.stage, Stage::Sending(_)) {
            self.server.cancels.end_one();
        }
    }
}

/// Requests that one unsent cancel may stand for.
const ASKERS_MAX: usize = 64;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::HostAddr;

    fn server(secret: &[u8]) -> Arc<ServerRecord> {
        let name = HostAddr::Tcp { host: "db".into(), port: 5432 };
        let host = Arc::new(Endpoint::new(name));
        let key = BackendKey { process_id: 7, secret: secret.into() };
        Arc::new(ServerRecord::new(
            ServerId(1),
            (host, Site(0)),
            key,
            &Stream::Gone,
            &Ladder::disabled(),
        ))
    }

    #[test]
    fn what_is_not_sent_yet_does_for_later_requests_and_tells_them_all() {
        let server = server(&[1, 2, 3, 4]);
        let ((one, mut hears), (two, mut hears_too)) = (oneshot::channel(), oneshot::channel());
        let mut first = Cancels::begin(&server, vec![one]).unwrap();
        assert!(Cancels::begin(&server, vec![two]).is_none());

        assert!(first.begin_sending());
        let second = Cancels::begin(&server, Vec::new()).unwrap();

        assert_eq!(hears.try_recv(), Err(oneshot::error::TryRecvError::Empty));
        drop(first);
        assert_eq!(hears.try_recv(), Err(oneshot::error::TryRecvError::Closed));
        assert_eq!(hears_too.try_recv(), Err(oneshot::error::TryRecvError::Closed));
        assert!(server.cancels().are_under_way());
        drop(second);
        assert!(!server.cancels().are_under_way());
    }

    #[test]
    fn one_that_was_never_sent_leaves_nothing_behind() {
        let server = server(&[1, 2, 3, 4]);
        drop(Cancels::begin(&server, Vec::new()).unwrap());
        assert!(!server.cancels().are_under_way());
        assert!(Cancels::begin(&server, Vec::new()).is_some());
    }

    #[test]
    fn what_is_withdrawn_is_over_at_once_and_does_for_the_next_if_there_is_one() {
        let server = server(&[1, 2, 3, 4]);
        let ((one, mut hears), (two, mut hears_too)) = (oneshot::channel(), oneshot::channel());
        let mut first = Cancels::begin(&server, vec![one]).unwrap();
        server.cancels().withdraw();
        assert!(!server.cancels().are_under_way());
        assert_eq!(hears.try_recv(), Err(oneshot::error::TryRecvError::Closed));

        assert!(Cancels::begin(&server, vec![two]).is_none());
        assert!(server.cancels().are_under_way());
        assert!(first.begin_sending());
        server.cancels().withdraw();
        assert!(server.cancels().are_under_way(), "it is too late for that");
        assert_eq!(hears_too.try_recv(), Err(oneshot::error::TryRecvError::Empty));
        drop(first);
        assert!(!server.cancels().are_under_way());

        let mut last = Cancels::begin(&server, Vec::new()).unwrap();
        server.cancels().withdraw();
        assert!(!last.begin_sending());
        let _next = Cancels::begin(&server, Vec::new()).unwrap();
        drop(last);
        assert!(server.cancels().are_under_way(), "the end of one is not that of another");
    }

    #[test]
    fn the_session_that_holds_the_server_is_woken_by_the_end_of_the_last() {
        use std::sync::atomic::Ordering::SeqCst;
        use std::task::Wake;
        #[derive(Default)]
        struct Woken(AtomicBool);
        impl Wake for Woken {
            fn wake(self: Arc<Self>) {
                self.0.store(true, SeqCst);
            }
        }
        let (server, woken) = (server(&[1, 2, 3, 4]), Arc::new(Woken::default()));
        let waker = Arc::clone(&woken).into();
        let cx = Context::from_waker(&waker);
        let mut one = Cancels::begin(&server, Vec::new()).unwrap();
        assert!(one.begin_sending());
        assert!(server.cancels().poll_over(&cx).is_pending());

        drop(one);

        assert!(woken.0.load(SeqCst));
        assert!(server.cancels().poll_over(&cx).is_ready());
    }

    #[test]
    fn a_server_without_a_key_cannot_be_cancelled() {
        assert!(Cancels::begin(&server(&[]), Vec::new()).is_none());
    }
}
