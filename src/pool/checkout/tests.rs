//! A server is handed over while its waiter gives up: it goes to one of the two places, never to none.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicBool, Ordering::SeqCst};
use std::sync::mpsc;
use std::task::{Wake, Waker};

use super::*;
use crate::auth::ServerSecret;
use crate::config::{HostAddr, Mode, PoolMode, PoolSettings};
use crate::net::stream::Stream;
use crate::pool::core::{Balance, PerSite, Site, Standing};
use crate::pool::host::Host;
use crate::pool::pool::Commons;
use crate::pool::pool_site::{Outlook, PoolSite};
use crate::runtime::drain::Drain;
use crate::server::connect::Target;
use crate::server::endpoint::Endpoint;
use crate::server::exchange::Exchange;
use crate::server::parameters::Parameters;
use crate::server::record::{BackendKey, ServerRecord};
use crate::server::statements::Statements;
use crate::server::texts::Texts;
use crate::state::settings::Settings;
use crate::tls::Ladder;

const SETTINGS: PoolSettings = PoolSettings {
    pool_mode: PoolMode::Transaction,
    size: 1,
    min: 1,
    max_overflow: 0,
    overflow_linger: Duration::ZERO,
    timeout: Duration::from_secs(1),
    max_waiting: None,
    recycle: None,
    idle_timeout: None,
    pre_ping: false,
    pre_ping_idle: Duration::ZERO,
    connect_timeout: Duration::from_secs(1),
    connect_attempts: None,
    connects_per_host: 1,
    query_timeout: None,
    transaction_timeout: None,
    idle_in_transaction_timeout: None,
    prepared_statements: 0,
    reuse_unnamed: false,
    defer_begin: true,
    wait_notice: None,
    adaptive: false,
    statement_timeout: None,
};

fn host() -> Arc<Endpoint> {
    Arc::new(Endpoint::new(HostAddr::Tcp { host: "db".into(), port: 5432 }))
}

/// A server without a socket: nothing is said on it here.
fn server() -> Box<Server> {
    let key = BackendKey { process_id: 7, secret: Box::default() };
    let record =
        ServerRecord::new(ServerId(1), (host(), Site(0)), key, &Stream::Gone, &Ladder::disabled());
    Box::new(Server {
        record: Arc::new(record),
        home: Home(0),
        stream: Stream::Gone,
        exchange: Exchange::default(),
        statements: Statements::default(),
        parameters: Parameters::default(),
        base: Arc::default(),
        applied: Arc::new(Settings::default()),
        applied_is_unknown: false,
        opening: None,
        notices: Vec::new(),
        inbox: Vec::new(),
        outbox: Vec::new(),
        made_up: VecDeque::new(),
        is_shared: false,
        is_dirty: false,
        is_worn: false,
        texts: Texts::default(),
        generation: 0,
        expires: None,
        last_used: Instant::now(),
    })
}

/// Nothing is wrong with the host.
#[derive(Debug)]
struct Clear;

impl Outlook for Clear {
    fn describe(&self) -> String {
        String::new()
    }

    fn patience(&self, _mode: Mode) -> Option<Duration> {
        None
    }
}

/// A pool of one server, which is idle.
fn pool() -> Arc<Pool> {
    let target = Target {
        host: host(),
        site: Site(0),
        tls: Ladder::disabled(),
        database: "db".into(),
        user: "app".into(),
        secret: ServerSecret::None,
        options: Arc::default(),
        connect_query: Arc::default(),
        connect_timeout: SETTINGS.connect_timeout,
    };
    let commons = Arc::new(Commons::new(Drain::default(), 1));
    let host = Arc::new(Host::new(host(), 1, Arc::default()));
    let sites = PerSite::new(PoolSite::new(host, target, Arc::default()), Vec::new());
    let of = ("main".into(), Mode::ReadWrite);
    let balance = Balance::LeastBusy;
    let pool = Pool::new(of, balance, sites, Arc::new(SETTINGS), commons, Arc::new(Clear));
    let pool = Arc::new(pool);
    let right = pool.core().right_if_wanted().expect("min wants a server");
    pool.on_opened(right, server(), None);
    pool
}

/// Takes the idle server.
fn take(pool: &Pool) -> Box<Server> {
    let waiter = Arc::new(Waiter::default());
    match pool.core().checkout(Home(0), None, None, Instant::now(), || waiter) {
        Decision::Lend(server) => server,
        other @ (Decision::Wait { .. } | Decision::QueueFull) => panic!("{other:?}"),
    }
}

fn wait(pool: &Arc<Pool>, waiter: &Arc<Waiter>) -> Wait {
    match pool.ask(Home(0), None, None, waiter, Instant::now()) {
        Ok(Asked::Wait(wait)) => wait,
        other => panic!("{other:?}"),
    }
}

/// Keeps whoever drops it until it is let go.
#[derive(Debug)]
struct HoldsUp(Arc<Gate>);

#[derive(Debug, Default)]
struct Gate {
    is_reached: AtomicBool,
    is_open: AtomicBool,
}

impl Wake for HoldsUp {
    fn wake(self: Arc<Self>) {}
}

impl Drop for HoldsUp {
    fn drop(&mut self) {
        self.0.is_reached.store(true, SeqCst);
        until(|| self.0.is_open.load(SeqCst));
    }
}

fn until(is_so: impl Fn() -> bool) {
    while !is_so() {
        std::thread::yield_now();
    }
}

/// One who gives up finds itself in the queue or the server in the letter box: in between nobody can
/// look. Here the letter box is held shut while the server is on its way there.
#[test]
fn a_server_that_is_handed_over_is_in_nobodys_hands_at_no_moment() {
    let pool = pool();
    let server = take(&pool);
    let record = Arc::clone(&server.record);
    let waiter = Arc::new(Waiter::default());
    let gives_up = wait(&pool, &waiter);
    let gate = Arc::new(Gate::default());
    let holds_up = Waker::from(Arc::new(HoldsUp(Arc::clone(&gate))));
    assert!(waiter.poll(&Context::from_waker(&holds_up)).is_pending());
    drop(holds_up);
    let (looks, looked) = mpsc::channel();

    let could_look = std::thread::scope(|scope| {
        // Another waker takes the place of the first, which is dropped with the letter box locked.
        scope.spawn(|| waiter.poll(&Context::from_waker(Waker::noop())).is_pending());
        until(|| gate.is_reached.load(SeqCst));
        scope.spawn(|| pool.checkin(server, Instant::now()));
        until(|| record.state() == ServerState::Active);
        let pool = &pool;
        scope.spawn(move || looks.send(pool.core().counts().waiting));
        let could_look = looked.recv_timeout(Duration::from_millis(100)).is_ok();
        gate.is_open.store(true, SeqCst);
        could_look
    });

    assert!(!could_look);
    drop(gives_up);
    let counts = pool.core().counts();
    assert_eq!((counts.idle, counts.lent, counts.waiting), (1, 0, 0));
}

/// Who gives up after the server has come leaves it to the next in the queue.
#[test]
fn a_server_that_came_to_one_who_gives_up_goes_to_the_next_in_the_queue() {
    let pool = pool();
    let server = take(&pool);
    let (first, second) = (Arc::new(Waiter::default()), Arc::new(Waiter::default()));
    let gives_up = wait(&pool, &first);
    let mut stays = wait(&pool, &second);
    pool.checkin(server, Instant::now());

    drop(gives_up);

    let cx = Context::from_waker(Waker::noop());
    let Poll::Ready(Ok(checkout)) = stays.poll(&cx) else { panic!("it was not served") };
    drop(checkout);
    assert_eq!(pool.core().counts().idle, 1);
}

/// P33: nothing was sent to it, so that whoever asks gets another one.
#[tokio::test]
async fn a_server_that_is_found_closed_is_not_lent() {
    let pool = pool();
    let server = take(&pool);
    pool.checkin(server, Instant::now());
    assert_eq!(pool.core().counts().idle, 1);

    let _waits = wait(&pool, &Arc::new(Waiter::default()));

    assert_eq!(pool.core().counts().idle, 0);
    assert_eq!(pool.stats.closed_retries.value(), 1);
}

#[tokio::test]
async fn what_was_known_of_a_site_is_forgotten_when_it_comes_back() {
    let pool = pool();
    let site = pool.site(Site(0));
    pool.has_choice.store(true, Relaxed);
    pool.note_latency(&server().record, Duration::from_secs(10));
    let until = site.on_turned_away(Instant::now());
    assert_eq!(site.admit(Instant::now()), Err(until));

    pool.set_sites(&[Standing::Serves { weight: 1 }]);
    assert_eq!(site.admit(Instant::now()), Err(until), "it has served all the time");
    pool.set_sites(&[Standing::Out]);
    pool.set_sites(&[Standing::Serves { weight: 1 }]);

    assert_eq!(site.admit(Instant::now()), Ok(()));
    assert_eq!(site.latency(), 0);
}

/// What was on the second is not to blame: whatever ended the first ends both.
#[tokio::test(start_paused = true)]
async fn servers_that_are_lost_soon_one_after_the_other_go_with_their_host() {
    let pool = pool();
    let after = |time: Duration| tokio::time::advance(time);
    let (first, second) = (server(), server());
    after(Duration::from_millis(10)).await;
    let lost = Instant::now();
    assert!(!pool.loses_several(&first.record, lost), "the first");
    pool.on_lost(&first.record, lost);
    after(Duration::from_millis(10)).await;
    let opened_since = server();
    after(Duration::from_millis(10)).await;
    assert!(pool.loses_several(&second.record, Instant::now()), "the second");
    let is_one = pool.loses_several(&opened_since.record, Instant::now());
    assert!(!is_one, "PostgreSQL was back by then: it may have been brought down once more");
    after(Duration::from_secs(1)).await;
    assert!(!pool.loses_several(&second.record, Instant::now()), "long ago");
    pool.on_lost(&first.record, Instant::now());
    pool.set_sites(&[Standing::Out]);
    pool.set_sites(&[Standing::Serves { weight: 1 }]);
    assert!(!pool.loses_several(&second.record, Instant::now()), "it has come back");
}

/// One long report does not keep a site from being tried for good.
#[tokio::test]
async fn what_a_site_has_taken_long_for_fades() {
    let pool = pool();
    let site = pool.site(Site(0));
    pool.has_choice.store(true, Relaxed);
    pool.note_latency(&server().record, Duration::from_secs(10));
    let at_first = site.latency();
    site.fade(1000);
    assert!(site.latency() < at_first);
    (0..200).for_each(|_| site.fade(1000));
    assert!(site.latency() < 1010, "{}", site.latency());
    site.fade(1_000_000);
    assert!(site.latency() < 1010, "it is the fastest now");
}
