//! Shutting down: who may finish, who is told, and that nothing is left.

use std::time::Duration;

use pgweir::runtime::drain::Drained;
use tokio::time::Instant;

use crate::support::messages::query;
use crate::support::postgres::Postgres;
use crate::support::proxy::Proxy;
use crate::support::wait::wait_until;

const PATIENT: &str = "pool.size = 2\nruntime.shutdown_timeout = '10s'";

/// P80
#[test]
fn idle_clients_are_told_and_closed_at_once() {
    let postgres = Postgres::start();
    let mut proxy = Proxy::start(&postgres, PATIENT);
    let (mut fresh, mut used) = (proxy.client(), proxy.client());
    used.value("select 1");
    let begun = Instant::now();

    let drained = proxy.shut_down();

    for client in [&mut fresh, &mut used] {
        let error = client.read_fatal();
        assert_eq!(error.code(), "57P01");
        assert!(error.message().contains("pooler is shutting down"), "{error:?}");
    }
    assert_eq!(drained.join().unwrap(), Drained::Clean);
    assert!(begun.elapsed() < Duration::from_secs(5), "{:?}", begun.elapsed());
    wait_until("no server is left", || postgres.connections() == 0);
}

/// P80: a transaction in hand is let through, and its client closed behind it.
#[test]
fn a_transaction_in_hand_may_end() {
    let postgres = Postgres::start();
    let mut proxy = Proxy::start(&postgres, PATIENT);
    let mut client = proxy.client();
    client.value("create table kept (n int)");
    client.ask("begin");
    client.ask("insert into kept values (1)");
    let mut idle = proxy.client();

    let drained = proxy.shut_down();
    idle.read_fatal();
    assert_eq!(client.ask("insert into kept values (2)").status(), Some('T'));
    assert_eq!(client.ask("commit").done(), ["COMMIT"]);

    assert_eq!(client.read_fatal().code(), "57P01");
    assert_eq!(drained.join().unwrap(), Drained::Clean);
    assert_eq!(postgres.client().value("select count(*) from kept"), "2");
}

/// P80: a statement under way is answered first.
#[test]
fn a_statement_under_way_is_answered() {
    let postgres = Postgres::start();
    let mut proxy = Proxy::start(&postgres, PATIENT);
    let mut client = proxy.client();
    client.send(&query("select pg_sleep(0.4), 'done'"));
    proxy.wait_for_pool("it runs", |pool| pool.servers.active == 1);

    let drained = proxy.shut_down();

    let reply = client.read_to(b'Z');
    assert_eq!(reply.tags(), "TDCZI");
    assert_eq!(client.read_fatal().code(), "57P01");
    assert_eq!(drained.join().unwrap(), Drained::Clean);
}

#[test]
fn a_client_in_the_queue_is_told() {
    let postgres = Postgres::start();
    let mut proxy = Proxy::start(&postgres, "pool.size = 1\nruntime.shutdown_timeout = '10s'");
    let (mut holder, mut waiter) = (proxy.client(), proxy.client());
    holder.ask("begin; select 1");
    waiter.send(&query("select 1"));
    proxy.wait_for_waiting(1);

    let drained = proxy.shut_down();

    assert_eq!(waiter.read_fatal().code(), "57P01");
    holder.ask("commit");
    holder.read_fatal();
    assert_eq!(drained.join().unwrap(), Drained::Clean);
}

/// Its server was lost: there is nothing that it could commit.
#[test]
fn a_block_that_was_lost_keeps_nobody() {
    let postgres = Postgres::start();
    let mut proxy = Proxy::start(&postgres, PATIENT);
    let mut client = proxy.client();
    client.ask("begin");
    let pid = client.pid();
    postgres.client().value(&format!("select pg_terminate_backend({pid})"));
    assert_eq!(client.read().tag, b'N');
    let begun = Instant::now();

    let drained = proxy.shut_down();

    assert_eq!(client.read_fatal().code(), "57P01");
    assert_eq!(drained.join().unwrap(), Drained::Clean);
    assert!(begun.elapsed() < Duration::from_secs(5), "{:?}", begun.elapsed());
}

/// Who does not end in time is cut off, and told so.
#[test]
fn a_transaction_longer_than_shutdown_timeout_is_cut_off() {
    let postgres = Postgres::start();
    let mut proxy = Proxy::start(&postgres, "runtime.shutdown_timeout = '200ms'");
    let (mut client, mut asleep) = (proxy.client(), proxy.client());
    client.ask("begin");
    client.ask("create table undone ()");
    asleep.send(&query("select pg_sleep(60)"));
    proxy.wait_for_pool("both run", |pool| pool.servers.active == 2);
    let begun = Instant::now();

    let drained = proxy.shut_down();

    assert_eq!(client.read_fatal().code(), "57P01");
    assert_eq!(asleep.read_fatal().code(), "57P01");
    assert_eq!(drained.join().unwrap(), Drained::Forced { left: 2 });
    assert!(begun.elapsed() < Duration::from_secs(5), "{:?}", begun.elapsed());
    assert_eq!(postgres.client().value("select to_regclass('undone') is null"), "t");
}

#[test]
fn nobody_is_let_in_while_it_drains() {
    let postgres = Postgres::start();
    let mut proxy = Proxy::start(&postgres, PATIENT);
    let mut client = proxy.client();
    client.ask("begin; select 1");
    let mut idle = proxy.client();
    // Accepted before, with its login still to come.
    let mut late = proxy.connect();
    late.send(&[0]);
    let address = proxy.address.clone();

    let drained = proxy.shut_down();
    idle.read_fatal();

    let refused = crate::support::socket::Socket::connect(&address);
    if let Ok(mut socket) = refused {
        // The kernel may have taken it; nobody serves it.
        let mut all = Vec::new();
        drop(std::io::Read::read_to_end(&mut socket, &mut all));
        assert!(!all.contains(&b'Z'));
    }
    client.ask("commit");
    drop(late);
    assert_eq!(drained.join().unwrap(), Drained::Clean);
}

/// Two proxies fit in one process, and the end of one is not the other's.
#[test]
fn two_proxies_in_one_process_do_not_disturb_each_other() {
    let postgres = Postgres::start();
    let mut first = Proxy::start(&postgres, PATIENT);
    let second = Proxy::start(&postgres, "");
    let mut client = second.client();
    client.ask("begin");

    assert_eq!(first.shut_down().join().unwrap(), Drained::Clean);

    assert_eq!(client.ask("commit").status(), Some('I'));
    assert_eq!(second.client().value("select 1"), "1");
}

/// What a client has asked for it gets to the end, however slowly it reads, before it is told.
#[test]
fn an_answer_that_a_client_has_not_read_yet_is_sent_to_its_end() {
    let postgres = Postgres::start();
    let mut proxy = Proxy::start(&postgres, PATIENT);
    let mut client = proxy.client();
    client.send(&query("select repeat('x', 1000) from generate_series(1, 20000)"));
    wait_until("the server waits for its client", || {
        let wait = "select count(*) from pg_stat_activity where wait_event = 'ClientWrite'";
        postgres.client().value(wait) == "1"
    });

    let drained = proxy.shut_down();

    let reply = client.read_ready(1);
    assert_eq!((reply.rows().len(), reply.status()), (20_000, Some('I')));
    assert_eq!(client.read_fatal().code(), "57P01");
    assert_eq!(drained.join().unwrap(), Drained::Clean);
}
