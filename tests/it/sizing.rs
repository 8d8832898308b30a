//! Pools whose limit follows what their servers get done, and what they say of their size.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::thread::{JoinHandle, park_timeout, spawn};
use std::time::Duration;

use crate::support::messages::query;
use crate::support::postgres::Postgres;
use crate::support::proxy::Proxy;
use crate::support::wait::wait_until_within;

const LONG: Duration = Duration::from_secs(60);

/// Clients that ask for the same again and again, each as soon as it has its answer.
struct Crowd {
    is_over: Arc<AtomicBool>,
    clients: Vec<JoinHandle<()>>,
}

impl Crowd {
    fn new(proxy: &Proxy, count: usize, text: &'static str) -> Self {
        let is_over = Arc::new(AtomicBool::new(false));
        let run = |_| {
            let (mut client, is_over) = (proxy.client(), Arc::clone(&is_over));
            spawn(move || {
                while !is_over.load(Relaxed) {
                    client.ask(text);
                }
            })
        };
        let clients = (0..count).map(run).collect();
        Self { is_over, clients }
    }

    fn disperse(self) {
        self.is_over.store(true, Relaxed);
        for client in self.clients {
            client.join().unwrap();
        }
    }
}

/// Statements that wait and leave the processor alone: each server more does as much as the one before.
#[test]
fn servers_that_wait_are_opened_up_to_the_bound() {
    let postgres = Postgres::start();
    let proxy = Proxy::start(&postgres, "pool = { size = 1, max_overflow = 5, adaptive = true }");

    let crowd = Crowd::new(&proxy, 12, "select pg_sleep(0.02)");

    wait_until_within(LONG, "six are lent", || {
        let pool = proxy.pool();
        pool.limit == 6 && pool.servers.active == 6
    });
    crowd.disperse();
    assert!(postgres.connections() <= 6);
}

/// Statements that shut each other out: with one server as much is done as with six.
#[test]
fn servers_that_wait_for_each_other_are_lent_no_more() {
    let postgres = Postgres::start();
    let proxy = Proxy::start(
        &postgres,
        "pool = { size = 6, max_overflow = 0, adaptive = true, overflow_linger = '1s' }",
    );
    let crowd = Crowd::new(&proxy, 16, "select pg_advisory_xact_lock(7), pg_sleep(0.005)");

    wait_until_within(LONG, "few are lent", || {
        let pool = proxy.pool();
        pool.limit <= 3 && pool.servers.active <= 3
    });
    // Not only because it is being tried: that is in turns with what was found.
    wait_until_within(LONG, "few are lent for good", || {
        let mut looks = (0..25).map(|_| {
            park_timeout(Duration::from_millis(200));
            proxy.pool().limit
        });
        looks.all(|limit| limit <= 4)
    });
    // What was open and is lent no more is closed as overflow is.
    wait_until_within(LONG, "few are open", || proxy.pool().servers.total() <= 4);
    crowd.disperse();
}

#[test]
fn clients_that_sit_in_their_blocks_do_not_stop_the_others() {
    let postgres = Postgres::start();
    let proxy = Proxy::start(&postgres, "pool = { size = 2, max_overflow = 6, adaptive = true }");
    let mut idle: Vec<_> = (0..2).map(|_| proxy.client()).collect();
    for client in &mut idle {
        assert_eq!(client.ask("begin; select 1").status(), Some('T'));
    }
    let mut waiter = proxy.client();

    waiter.send(&query("select 'served'"));

    assert_eq!(waiter.read_ready(1).values(), "served");
    assert!(proxy.pool().limit > 2);
    for client in &mut idle {
        assert_eq!(client.ask("commit").status(), Some('I'));
    }
}

#[test]
fn statements_that_take_long_in_their_blocks_are_no_reason_to_lend_more() {
    let postgres = Postgres::start();
    let proxy = Proxy::start(&postgres, "pool = { size = 2, max_overflow = 6, adaptive = true }");
    let mut busy: Vec<_> = (0..2).map(|_| proxy.client()).collect();
    for client in &mut busy {
        assert_eq!(client.ask("begin; select 1").status(), Some('T'));
        client.send(&query("select pg_sleep(4); commit"));
    }
    let mut waiter = proxy.client();

    assert_eq!(waiter.value("select 'served'"), "served");

    assert_eq!(proxy.pool().limit, 2);
    for client in &mut busy {
        assert_eq!(client.read_ready(1).status(), Some('I'));
    }
}

#[test]
fn a_session_with_a_server_to_itself_does_not_have_to_wait_for_a_limit() {
    let postgres = Postgres::start();
    let proxy = Proxy::start(
        &postgres,
        "pool = { size = 1, max_overflow = 2, adaptive = true, pool_mode = 'session' }",
    );
    let mut clients: Vec<_> = (0..3).map(|_| proxy.client()).collect();
    for client in &mut clients {
        assert_eq!(client.value("select 1"), "1");
    }
    let pool = proxy.pool();
    assert_eq!((pool.servers.active, pool.limit, pool.adaptive), (3, 3, false));
}

#[test]
fn a_timeout_tells_what_the_limit_has_come_to() {
    let postgres = Postgres::start();
    let proxy = Proxy::start(
        &postgres,
        "pool = { size = 1, max_overflow = 2, adaptive = true, timeout = '200ms' }",
    );
    let mut holder = proxy.client();
    assert_eq!(holder.ask("begin; select 1").status(), Some('T'));

    let reply = proxy.client().ask("select 1");

    let detail = reply.error().detail().to_owned();
    assert!(detail.starts_with("size 1, max_overflow 2, adapted to 1, in use 1"), "{detail}");
}

#[test]
fn advice_goes_by_what_came_whether_the_pool_adapts_or_not() {
    let postgres = Postgres::start();
    let proxy = Proxy::start(&postgres, "pool = { size = 20 }");
    let mut client = proxy.client();
    client.ask("select pg_sleep(1.2)");

    wait_until_within(LONG, "it was noticed", || proxy.pool().load.transactions == 1);

    let load = proxy.pool().load;
    assert!(load.hold >= Duration::from_millis(1_200) && load.most == 1, "{load:?}");
    assert!(load.busiest > 0.0 && load.busiest <= 1.01 && load.full == 0.0, "{load:?}");
}
