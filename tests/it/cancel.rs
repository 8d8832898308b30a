//! Cancel requests: they reach what they are meant for, or nothing.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::Relaxed};
use std::time::Duration;

use crate::support::fake_server::{FakeServer, Peer};
use crate::support::messages::{bind, copy_data, copy_done, execute, extended, parse, query, sync};
use crate::support::postgres::{Postgres, USER};
use crate::support::proxy::Proxy;
use crate::support::raw_client::Client;
use crate::support::relay::Relay;
use crate::support::socket::Address;
use crate::support::wait::wait_until;

const ONE: &str = "pool.size = 1\n";

/// Waits until PostgreSQL runs a statement with this text.
fn wait_for_statement(postgres: &Postgres, text: &str) {
    let mut observer = postgres.client();
    let count = format!(
        "select count(*) from pg_stat_activity where state = 'active' and query like '{text}%' \
         and pid <> pg_backend_pid()"
    );
    wait_until("the statement runs", || observer.value(&count) == "1");
}

#[test]
fn a_cancel_ends_the_statement_that_is_running() {
    let postgres = Postgres::start();
    for mode in ["transaction", "statement", "session"] {
        let proxy = Proxy::start(&postgres, &format!("{ONE}pool.pool_mode = '{mode}'"));
        let mut client = proxy.client();
        for sent in [query("select pg_sleep(60)"), extended("select pg_sleep(60)", &[])] {
            client.send(&sent);
            wait_for_statement(&postgres, "select pg_sleep");

            client.cancel();

            let reply = client.read_ready(1);
            assert_eq!((reply.code().as_str(), reply.status()), ("57014", Some('I')), "{mode}");
            assert_eq!(client.value("select 1"), "1");
            assert_eq!(proxy.pool().servers.total(), 1);
        }
    }
}

#[test]
fn a_cancel_in_a_block_leaves_a_failed_block() {
    let postgres = Postgres::start();
    let proxy = Proxy::start(&postgres, ONE);
    let mut client = proxy.client();
    client.ask("begin");
    client.send(&query("select pg_sleep(60)"));
    wait_for_statement(&postgres, "select pg_sleep");

    client.cancel();

    assert_eq!(client.read_ready(1).status(), Some('E'));
    assert_eq!(client.ask("rollback").status(), Some('I'));
}

/// P22: a client that waits for a server is told itself; nobody else notices.
#[test]
fn a_cancel_of_a_client_in_the_queue_is_57014_and_disturbs_nobody() {
    let postgres = Postgres::start();
    let proxy = Proxy::start(&postgres, ONE);
    let (mut holder, mut waiter) = (proxy.client(), proxy.client());
    holder.ask("begin; select 1");
    waiter.send(&query("select 'never run'"));
    proxy.wait_for_waiting(1);

    waiter.cancel();

    let reply = waiter.read_ready(1);
    assert_eq!((reply.tags().as_str(), reply.code().as_str()), ("EZI", "57014"));
    assert_eq!(reply.error().message(), "canceling statement due to user request");
    assert_eq!(holder.value("select 'fine'"), "fine");
    holder.ask("commit");
    assert_eq!(waiter.value("select 'again'"), "again");
}

/// P22: what stands in the queue is the first segment of a pipeline, whichever protocol it speaks.
#[test]
fn a_cancel_in_the_queue_ends_one_statement_of_a_pipeline_and_the_rest_goes_on() {
    let postgres = Postgres::start();
    let proxy = Proxy::start(&postgres, ONE);
    let (mut holder, mut waiter) = (proxy.client(), proxy.client());
    let cases = [
        [query("select 'no'"), query("select 'yes'")].concat(),
        [extended("select 'no'", &[]), extended("select 'yes'", &[])].concat(),
        [extended("select 'no'", &[]), query("select 'yes'")].concat(),
    ];
    for pipeline in cases {
        holder.ask("begin; select 1");
        waiter.send(&pipeline);
        proxy.wait_for_waiting(1);

        waiter.cancel();

        let reply = waiter.read_ready(1);
        assert_eq!((reply.tags().as_str(), reply.code().as_str()), ("EZI", "57014"));
        proxy.wait_for_waiting(1);
        assert_eq!(holder.value("select 'fine'"), "fine");
        holder.ask("commit");
        assert_eq!(waiter.read_ready(1).values(), "yes");
    }
    assert_eq!(waiter.value("select 'again'"), "again");
}

/// As without a pooler: one statement of a pipeline is stopped, and its segment with it.
#[test]
fn a_cancel_in_a_pipeline_stops_the_segment_that_is_running() {
    let postgres = Postgres::start();
    let proxy = Proxy::start(&postgres, ONE);
    let mut client = proxy.client();
    let sleep = [parse("", "select pg_sleep(60)"), bind("", &[]), execute()].concat();
    let skipped = [parse("", "select 'skipped'"), bind("", &[]), execute(), sync()].concat();
    client.send(&[sleep, skipped, extended("select 'next'", &[])].concat());
    wait_for_statement(&postgres, "select pg_sleep");

    client.cancel();

    let reply = client.read_ready(1);
    assert_eq!((reply.tags().as_str(), reply.code().as_str()), ("12EZI", "57014"));
    assert_eq!(client.read_ready(1).values(), "next");
}

/// PostgreSQL heeds it when it has the next piece of data in hand.
#[test]
fn a_cancel_ends_a_copy() {
    let postgres = Postgres::start();
    let proxy = Proxy::start(&postgres, ONE);
    let mut client = proxy.client();
    client.ask("create table t (n int)");
    client.send(&query("copy t from stdin"));
    assert_eq!(client.read().tag, b'G');

    client.cancel();
    client.send(&copy_data(b"1\n"));

    let reply = client.read_ready(1);
    assert_eq!((reply.code().as_str(), reply.status()), ("57014", Some('I')));
    client.send(&copy_done());
    assert_eq!(client.value("select count(*) from t"), "0");
}

/// Everybody else waits for a server, and the cancel does not need one of the pool.
#[test]
fn a_cancel_gets_through_while_the_pool_is_full() {
    let postgres = Postgres::start();
    let proxy = Proxy::start(&postgres, ONE);
    let (mut client, mut waiters) = (proxy.client(), [proxy.client(), proxy.client()]);
    client.send(&query("select pg_sleep(60)"));
    wait_for_statement(&postgres, "select pg_sleep");
    for waiter in &mut waiters {
        waiter.send(&query("select 'undisturbed'"));
    }
    proxy.wait_for_waiting(2);

    client.cancel();

    assert_eq!(client.read_ready(1).code(), "57014");
    for mut waiter in waiters {
        assert_eq!(waiter.read_ready(1).values(), "undisturbed");
    }
}

#[test]
fn a_cancel_comes_in_through_a_unix_socket() {
    let postgres = Postgres::start();
    let folder = tempfile::tempdir().unwrap();
    let at = folder.path().display();
    let listen = format!("[listen]\naddresses = ['127.0.0.1:0', '{at}:6432']");
    let proxy = Proxy::start(&postgres, &listen);
    let address = Address::Unix(folder.path().join(".s.PGSQL.6432"));
    let mut client = Client::log_in(&address, &[("user", USER), ("database", "main")]);
    client.send(&query("select pg_sleep(60)"));
    wait_for_statement(&postgres, "select pg_sleep");

    client.cancel();

    assert_eq!(client.read_ready(1).code(), "57014");
    drop(proxy);
}

/// The process id is the server's there, and the secret is ours: PostgreSQL itself does not know it.
#[test]
fn in_session_mode_a_cancel_works_while_the_session_lasts() {
    let postgres = Postgres::start();
    let proxy = Proxy::start(&postgres, "pool.size = 1\npool.pool_mode = 'session'");
    let mut client = proxy.client();
    assert_eq!(client.pid(), client.key.0.to_string());
    client.send(&query("select pg_sleep(60)"));
    wait_for_statement(&postgres, "select pg_sleep");
    postgres.client().cancel_with(client.key.0, &client.key.1);

    client.cancel();

    assert_eq!(client.read_ready(1).code(), "57014");
    let key = client.key.clone();
    drop(client);
    let mut next = proxy.client();
    assert_eq!(next.key.0, key.0, "the server is the same");
    next.send(&query("select pg_sleep(1), 'undisturbed'"));
    wait_for_statement(&postgres, "select pg_sleep");
    next.cancel_with(key.0, &key.1);
    assert_eq!(next.read_ready(1).errors(), []);
}

/// P22: PostgreSQL is not even asked, so that no later statement can be hit.
#[test]
fn a_cancel_for_a_session_with_nothing_under_way_is_sent_to_nobody() {
    let postgres = Postgres::start();
    let relay = Relay::before(&postgres);
    let proxy = Proxy::before(&relay.host(), "[admin]\nusers = ['app']");
    let mut client = proxy.client();
    let console = proxy.client_with(&[("database", "pgweir")]);
    client.cancel();
    client.value("select 1");
    client.cancel();
    client.ask("begin");
    client.cancel();
    client.ask("select 1/0");
    client.cancel();
    client.ask("rollback");
    console.cancel();

    assert_eq!(client.value("select 'fine'"), "fine");
    assert_eq!(relay.cancels(), Vec::<Vec<u8>>::new());
}

/// What a stand-in answers for is not under way anywhere.
#[test]
fn a_cancel_for_a_session_that_lost_its_server_does_nothing() {
    let postgres = Postgres::start();
    let relay = Relay::before(&postgres);
    let proxy = Proxy::before(&relay.host(), ONE);
    let mut client = proxy.client();
    client.ask("begin");
    let pid = client.pid();
    postgres.client().value(&format!("select pg_terminate_backend({pid})"));
    assert_eq!(client.ask("select 1").status(), Some('E'));

    client.cancel();

    assert_eq!(client.ask("select 2").code(), "25P02");
    assert_eq!(client.ask("rollback").status(), Some('I'));
    assert_eq!(client.value("select 'fine'"), "fine");
    assert_eq!(relay.cancels().len(), 0);
}

/// A statement that ends when the lock is given up that is returned.
fn begin_statement(postgres: &Postgres, client: &mut Client) -> Client {
    let mut lock = postgres.client();
    lock.value("select pg_advisory_lock(7)");
    client.send(&query("select pg_advisory_xact_lock(7)"));
    wait_for_statement(postgres, "select pg_advisory_xact_lock");
    lock
}

/// Sends a cancel that is held by the relay until its statement is done: it comes too late.
fn with_cancel_held(relay: &Relay, postgres: &Postgres, client: &mut Client) -> Client {
    let mut lock = begin_statement(postgres, client);
    relay.hold_cancels();
    let cancel = client.begin_cancel();
    wait_until("the cancel is held", || relay.cancels().len() == 1);
    lock.value("select pg_advisory_unlock(7)");
    assert_eq!(client.read_ready(1).errors(), []);
    cancel
}

/// P21, P69: the server is lent to nobody until its cancel's connection has ended, nor is the client
/// told before that its request is dealt with.
#[test]
fn a_server_is_not_lent_again_while_a_cancel_for_it_is_under_way() {
    let postgres = Postgres::start();
    let relay = Relay::before(&postgres);
    let proxy = Proxy::before(&relay.host(), ONE);
    let (mut client, mut other) = (proxy.client(), proxy.client());
    let mut cancel = with_cancel_held(&relay, &postgres, &mut client);

    other.send(&query("select pg_sleep(0.1), 'undisturbed'"));
    proxy.wait_for_pool("the server waits", |pool| {
        pool.servers.being_canceled == 1 && pool.clients_waiting == 1 && pool.cancels_active == 1
    });
    cancel.assert_silent();
    relay.release_cancels();

    assert_eq!(other.read_ready(1).errors(), []);
    assert_eq!(cancel.try_read(), None);
    assert_eq!(relay.startups().len(), 1, "the same server");
}

/// P69: one that was given up may still be heeded: its server serves nobody any more.
#[test]
fn a_server_whose_cancel_was_given_up_is_closed() {
    let postgres = Postgres::start();
    let relay = Relay::before(&postgres);
    let proxy = Proxy::before(&relay.host(), "pool = { size = 1, connect_timeout = '1s' }");
    let (mut client, mut other) = (proxy.client(), proxy.client());
    let pid = client.pid();
    let mut cancel = with_cancel_held(&relay, &postgres, &mut client);

    assert_eq!(cancel.try_read(), None);
    let new = other.pid();
    other.send(&query("select pg_sleep(1), 'undisturbed'"));
    relay.release_cancels();

    assert_eq!(other.read_ready(1).errors(), []);
    assert_ne!(new, pid);
    assert_eq!(proxy.pool().servers.total(), 1);
}

/// P69: nor does it hit what the same client sends next, which waits for the end of it.
#[test]
fn a_statement_waits_while_a_cancel_of_the_one_before_is_under_way() {
    let postgres = Postgres::start();
    for mode in ["transaction", "session"] {
        let relay = Relay::before(&postgres);
        let proxy = Proxy::before(&relay.host(), &format!("{ONE}pool.pool_mode = '{mode}'"));
        let mut client = proxy.client();
        client.ask("begin");
        let mut cancel = with_cancel_held(&relay, &postgres, &mut client);

        client.send(&query("select pg_sleep(0.3), 'undisturbed'"));
        cancel.assert_silent();
        relay.release_cancels();

        assert_eq!(client.read_ready(1).errors(), []);
        assert_eq!(cancel.try_read(), None);
        assert_eq!(client.ask("commit").status(), Some('I'));
    }
}

/// A block that is left open behind a cancel that is not over is not kept open for it: its locks are free at
/// once.
#[test]
fn a_block_that_is_left_behind_a_cancel_under_way_ends_with_its_server() {
    let postgres = Postgres::start();
    let relay = Relay::before(&postgres);
    let proxy = Proxy::before(&relay.host(), ONE);
    let mut client = proxy.client();
    client.ask("begin");
    client.ask("create table locked ()");
    let pid = client.pid();
    let _cancel = with_cancel_held(&relay, &postgres, &mut client);

    client.vanish();

    let mut free = postgres.client();
    free.ask("set lock_timeout = '3s'");
    assert_eq!(free.ask("create table locked ()").errors(), []);
    assert_ne!(proxy.client().pid(), pid);
    relay.release_cancels();
}

/// P69: nor the cancel of a `query_timeout`.
#[test]
fn what_query_timeout_stops_too_late_takes_no_later_statement_with_it() {
    let postgres = Postgres::start();
    for mode in ["transaction", "session"] {
        let relay = Relay::before(&postgres);
        let changes = format!("{ONE}pool.pool_mode = '{mode}'\npool.query_timeout = '400ms'");
        let proxy = Proxy::before(&relay.host(), &changes);
        let mut client = proxy.client();
        client.ask("begin");
        relay.hold_cancels();
        let mut lock = begin_statement(&postgres, &mut client);
        wait_until("the cancel is held", || relay.cancels().len() == 1);
        lock.value("select pg_advisory_unlock(7)");
        assert_eq!(client.read_ready(1).errors(), []);

        client.send(&query("select pg_sleep(0.2), 'undisturbed'"));
        client.assert_silent();
        relay.release_cancels();

        assert_eq!(client.read_ready(1).errors(), []);
        assert_eq!(client.ask("commit").status(), Some('I'));
    }
}

/// P21, P69: others are sent in front of it, and its statement ends meanwhile.
#[test]
fn a_cancel_that_is_not_sent_when_its_statement_ends_never_is() {
    let postgres = Postgres::start();
    let relay = Relay::before(&postgres);
    let proxy = Proxy::before(&relay.host(), "pool.size = 20");
    let mut others: Vec<_> = (0..16).map(|_| proxy.client()).collect();
    let mut client = proxy.client();
    client.ask("begin");
    for other in &mut others {
        other.send(&query("select pg_sleep(60)"));
    }
    wait_until("all run", || {
        let count = "select count(*) from pg_stat_activity \
                     where state = 'active' and query like 'select pg_sleep%'";
        postgres.client().value(count) == "16"
    });
    relay.hold_cancels();
    let _held: Vec<_> = others.iter().map(Client::begin_cancel).collect();
    wait_until("as many as may be are sent", || relay.cancels().len() == 16);
    let mut lock = begin_statement(&postgres, &mut client);
    let mut cancel = client.begin_cancel();
    wait_until("it waits", || proxy.pool().cancels_active == 17);

    lock.value("select pg_advisory_unlock(7)");

    assert_eq!(client.read_ready(1).errors(), []);
    assert_eq!(cancel.try_read(), None, "it is over at once");
    assert_eq!(client.value("select 'next'"), "next");
    client.send(&query("select pg_sleep(1), 'undisturbed'"));
    wait_for_statement(&postgres, "select pg_sleep(1)");
    relay.release_cancels();
    assert_eq!(client.read_ready(1).errors(), []);
    assert_eq!(relay.cancels().len(), 16);
}

/// P69: the next client of a pool of one has its server when the statement that was left behind is
/// over, and not before.
#[test]
fn a_statement_that_was_left_behind_keeps_its_place_until_it_is_over() {
    let postgres = Postgres::start();
    let relay = Relay::before(&postgres);
    let proxy = Proxy::before(&relay.host(), "pool = { size = 1, max_overflow = 0 }");
    let (mut client, mut next) = (proxy.client(), proxy.client());
    client.send(&query("select pg_sleep(60)"));
    wait_for_statement(&postgres, "select pg_sleep");
    relay.hold_cancels();
    client.vanish();
    wait_until("the cancel is held", || relay.cancels().len() == 1);

    next.send(&query("select count(*) from pg_stat_activity where usename = current_user"));
    assert!(next.read_within(Duration::from_millis(800)).is_err(), "it has a server already");
    relay.release_cancels();

    assert_eq!(next.read_ready(1).values(), "1");
}

/// A server that does `serve` for each session, and the cancels that have come to it.
fn counting_cancels(
    serve: impl Fn(&mut Peer, &AtomicUsize) + Send + Sync + 'static,
) -> (FakeServer, Arc<AtomicUsize>) {
    let cancels = Arc::new(AtomicUsize::new(0));
    let counted = Arc::clone(&cancels);
    let server = FakeServer::start(move |peer| {
        if peer.minor().is_none() {
            counted.fetch_add(1, Relaxed);
            return;
        }
        peer.welcome();
        serve(peer, &counted);
    });
    (server, cancels)
}

/// P22: a session that has both before it takes the query first.
#[test]
fn a_cancel_right_behind_a_query_is_passed_on() {
    let (server, _cancels) = counting_cancels(|peer, cancels| {
        let mut asked = 0;
        while peer.read_to(b'Q').is_some() {
            asked += 1;
            wait_until("it is passed on", || cancels.load(Relaxed) == asked);
            peer.error("ERROR", "57014", "canceling statement due to user request");
            peer.ready(b'I');
        }
    });
    let proxy = Proxy::before(&server.host(), ONE);
    let mut client = proxy.client();
    for round in 0..60 {
        client.send(&query("select"));

        client.cancel();

        assert_eq!(client.read_ready(1).code(), "57014", "round {round}");
    }
}

/// Where nothing was sent nothing can hit anybody: the server is as good as before.
#[test]
fn a_cancel_that_finds_no_way_to_the_host_costs_no_server() {
    let postgres = Postgres::start();
    let relay = Relay::before(&postgres);
    let proxy = Proxy::before(&relay.host(), ONE);
    let (mut client, mut other) = (proxy.client(), proxy.client());
    let pid = client.pid();
    let mut lock = begin_statement(&postgres, &mut client);
    relay.close();

    client.cancel();
    lock.value("select pg_advisory_unlock(7)");

    assert_eq!(client.read_ready(1).errors(), []);
    assert_eq!(other.pid(), pid);
}

/// However often it is asked for, one that is not sent yet does for all, and those that are sent
/// are bounded.
#[test]
fn cancels_of_one_session_do_not_pile_up() {
    let postgres = Postgres::start();
    let relay = Relay::before(&postgres);
    let proxy = Proxy::before(&relay.host(), ONE);
    let mut client = proxy.client();
    client.send(&query("select pg_sleep(60)"));
    wait_for_statement(&postgres, "select pg_sleep");
    relay.hold_cancels();

    let mut cancels: Vec<_> = (0..200).map(|_| client.begin_cancel()).collect();
    let stats = &proxy.observe().process().stats;
    wait_until("all have come", || stats.cancels.value() == 200);
    wait_until("some are held", || !relay.cancels().is_empty());
    assert!(relay.cancels().len() <= 16, "{}", relay.cancels().len());
    relay.release_cancels();

    assert_eq!(client.read_ready(1).code(), "57014");
    for cancel in &mut cancels {
        assert_eq!(cancel.try_read(), None);
    }
    assert_eq!(client.value("select 'again'"), "again");
}

/// P23: a host that is slow with 100 cancels is not hammered with them, and servers are opened there
/// and clients let in meanwhile.
#[test]
fn a_hundred_cancels_of_a_slow_host_hold_up_nobody() {
    let postgres = Postgres::start();
    let relay = Relay::before(&postgres);
    let proxy = Proxy::before(&relay.host(), "pool.size = 21\n[listen]\nmax_unauthenticated = 10");
    let mut clients: Vec<_> = (0..20).map(|_| proxy.client()).collect();
    for client in &mut clients {
        client.send(&query("select pg_sleep(60)"));
    }
    wait_until("all run", || {
        let count = "select count(*) from pg_stat_activity \
                     where state = 'active' and query like 'select pg_sleep%'";
        postgres.client().value(count) == "20"
    });
    relay.hold_cancels();

    let mut cancels = Vec::new();
    for _ in 0..5 {
        cancels.extend(clients.iter().map(Client::begin_cancel));
    }
    let stats = &proxy.observe().process().stats;
    wait_until("all have come", || stats.cancels.value() == 100);
    let opened = relay.startups().len();
    let mut newcomer = proxy.client();
    assert_eq!(newcomer.value("select 'served'"), "served");
    assert_eq!(relay.startups().len(), opened + 1, "on a server of its own");
    assert!(relay.cancels().len() <= 16, "{}", relay.cancels().len());
    relay.release_cancels();

    for client in &mut clients {
        assert_eq!(client.read_ready(1).code(), "57014");
    }
    for cancel in &mut cancels {
        assert_eq!(cancel.try_read(), None);
    }
    for client in &mut clients {
        assert_eq!(client.value("select 'again'"), "again");
    }
    let keys: BTreeSet<_> = relay.cancels().into_iter().collect();
    assert_eq!(keys.len(), 20, "each server was asked");
}

/// P23: nor does a host that never answers keep anything for longer than `connect_timeout`.
#[test]
fn cancels_that_a_host_never_heeds_come_to_an_end() {
    let postgres = Postgres::start();
    let relay = Relay::before(&postgres);
    let proxy = Proxy::before(&relay.host(), "pool = { size = 2, connect_timeout = '1s' }");
    let mut client = proxy.client();
    client.send(&query("select pg_sleep(60)"));
    wait_for_statement(&postgres, "select pg_sleep");
    relay.hold_cancels();

    let mut cancels: Vec<_> = (0..30).map(|_| client.begin_cancel()).collect();

    for cancel in &mut cancels {
        assert_eq!(cancel.try_read(), None);
    }
    proxy.wait_for_pool("none is under way", |pool| pool.cancels_active == 0);
    // It goes on waiting for its statement, and others are served.
    assert_eq!(proxy.client().value("select 'served'"), "served");
    relay.release_cancels();
    wait_until("the late ones arrive", || {
        client.read_within(Duration::from_millis(50)).is_ok_and(|message| message.is_some())
    });
}

/// P25
#[test]
fn a_server_that_dies_with_a_cancel_under_way_is_only_lost() {
    let postgres = Postgres::start();
    let relay = Relay::before(&postgres);
    let proxy = Proxy::before(&relay.host(), ONE);
    let mut client = proxy.client();
    let pid = client.pid();
    client.send(&query("select pg_sleep(60)"));
    wait_for_statement(&postgres, "select pg_sleep");
    relay.hold_cancels();
    let mut cancel = client.begin_cancel();
    wait_until("the cancel is held", || relay.cancels().len() == 1);

    postgres.client().value(&format!("select pg_terminate_backend({pid})"));

    // It was only asleep: nothing of it can have been committed.
    assert_eq!(client.read_ready(1).code(), "08006");
    assert_eq!(client.value("select 'served'"), "served");
    relay.release_cancels();
    assert_eq!(cancel.try_read(), None);
    assert_eq!(client.value("select 'undisturbed'"), "undisturbed");
    proxy.wait_for_pool("one server is left", |pool| pool.servers.total() == 1);
}

/// P24: while a command of ours runs in front of the client's statement, the cancel waits.
#[test]
fn a_cancel_does_not_hit_a_command_of_ours() {
    let (may_answer, was_asked) = (Arc::new(AtomicBool::new(false)), Arc::default());
    let cancelled = Arc::new(AtomicBool::new(false));
    let server = {
        let (may_answer, was_asked, cancelled) =
            (Arc::clone(&may_answer), Arc::<AtomicBool>::clone(&was_asked), Arc::clone(&cancelled));
        FakeServer::start(move |peer| {
            if peer.minor().is_none() {
                assert!(may_answer.load(Relaxed), "the cancel came while set_config ran");
                return cancelled.store(true, Relaxed);
            }
            peer.welcome();
            let Some(first) = peer.read_to(b'Q') else { return };
            assert!(first.texts()[0].contains("set_config"), "{first:?}");
            was_asked.store(true, Relaxed);
            wait_until("the cancel has come", || may_answer.load(Relaxed));
            peer.row("mine");
            peer.complete("SELECT 1");
            peer.ready(b'I');
            peer.read_to(b'Q');
            wait_until("it is passed on", || cancelled.load(Relaxed));
            peer.error("ERROR", "57014", "canceling statement due to user request");
            peer.ready(b'I');
            peer.read_to(b'X');
        })
    };
    let proxy = Proxy::before(&server.host(), ONE);
    // The first login opens the server.
    proxy.client();
    let mut client = proxy.client_with(&[("application_name", "mine")]);
    client.send(&query("insert"));
    wait_until("our command runs", || was_asked.load(Relaxed));

    let mut cancel = client.begin_cancel();
    let stats = &proxy.observe().process().stats;
    wait_until("the session was told", || stats.cancels.value() == 1);
    cancel.assert_silent();
    may_answer.store(true, Relaxed);

    let reply = client.read_ready(1);
    assert_eq!((reply.tags().as_str(), reply.code().as_str()), ("EZI", "57014"));
    assert_eq!(cancel.try_read(), None);
    assert!(cancelled.load(Relaxed));
}

/// What a server is closed under has not begun when the cancel comes: PostgreSQL would run it to its end.
#[test]
fn a_server_that_is_closed_is_cancelled_until_it_heeds_it() {
    let (server, cancels) = counting_cancels(|peer, cancels| {
        let Some(first) = peer.read_to(b'Q') else { return };
        if first.texts()[0] == "long" {
            // As one that had not begun when the first two came.
            wait_until("a third cancel has come", || cancels.load(Relaxed) == 3);
            return;
        }
        peer.row("next");
        peer.complete("SELECT 1");
        peer.ready(b'I');
        peer.read_to(b'X');
    });
    let proxy = Proxy::before(&server.host(), ONE);
    let (mut client, mut other) = (proxy.client(), proxy.client());
    client.send(&query("long"));
    proxy.wait_for_pool("it is under way", |pool| pool.servers.active == 1);

    client.vanish();

    assert_eq!(other.value("select 'next'"), "next");
    assert_eq!(cancels.load(Relaxed), 3);
}

/// P21, P69: the statement was done, and the server works for somebody else.
#[test]
fn a_cancel_that_comes_late_hits_nobody() {
    let postgres = Postgres::start();
    let proxy = Proxy::start(&postgres, ONE);
    let (client, mut other) = (
        {
            let mut client = proxy.client();
            client.value("select 1");
            client
        },
        proxy.client(),
    );
    other.send(&query("select pg_sleep(1), 'undisturbed'"));
    wait_for_statement(&postgres, "select pg_sleep");

    for _ in 0..5 {
        client.cancel();
    }

    assert_eq!(other.read_ready(1).errors(), []);
}

/// P22: whoever guesses gets nothing, not even an answer.
#[test]
fn a_cancel_with_a_wrong_key_is_ignored() {
    let postgres = Postgres::start();
    let proxy = Proxy::start(&postgres, ONE);
    let mut client = proxy.client();
    client.send(&query("select pg_sleep(1), 'undisturbed'"));
    wait_for_statement(&postgres, "select pg_sleep");
    let (process_id, secret) = client.key.clone();
    let wrong: Vec<u8> = secret.iter().map(|byte| byte ^ 1).collect();

    client.cancel_with(process_id, &wrong);
    client.cancel_with(process_id + 1, &secret);
    client.cancel_with(process_id, &[secret.clone(), secret].concat());
    client.cancel_with(0, &[0; 4]);

    assert_eq!(client.read_ready(1).errors(), []);
}

/// P22
#[test]
fn a_cancel_of_an_idle_client_does_nothing() {
    let postgres = Postgres::start();
    let proxy = Proxy::start(&postgres, ONE);
    let mut client = proxy.client();
    client.value("select 1");

    client.cancel();

    assert_eq!(client.value("select 2"), "2");
    client.ask("begin");
    client.cancel();
    assert_eq!(client.value("select 3"), "3");
    assert_eq!(client.ask("commit").status(), Some('I'));
}

/// P69: round after round of a statement that ends just when its cancel comes, with somebody behind
/// who gets the same server.
#[test]
fn no_cancel_ever_hits_the_next_client_of_the_server() {
    let postgres = Postgres::start();
    let proxy = Proxy::start(&postgres, ONE);
    let (mut client, mut other) = (proxy.client(), proxy.client());
    for round in 0..40_u64 {
        client.send(&query("select pg_sleep(0.004)"));
        other.send(&query("select pg_sleep(0.004), 'undisturbed'"));
        std::thread::park_timeout(Duration::from_micros(round * 150));

        client.cancel();

        client.read_ready(1);
        assert_eq!(other.read_ready(1).errors(), [], "round {round}");
    }
}

/// P21, P69: whoever waits for the end of its cancel request before it goes on, as libpq does, has no
/// statement hit that it did not mean. Many do so over few servers, in both protocols.
#[test]
fn a_statement_is_hit_by_nothing_but_its_own_cancel() {
    const CLIENTS: u64 = 8;
    const ROUNDS: u64 = 40;
    let postgres = Postgres::start();
    let proxy = Proxy::start(&postgres, "pool.size = 3");
    let hit = AtomicUsize::new(0);
    std::thread::scope(|scope| {
        for number in 0..CLIENTS {
            let mut client = proxy.client();
            let hit = &hit;
            scope.spawn(move || {
                let mut random = SmallRng::new(number);
                for _ in 0..ROUNDS {
                    let micros = random.below(4000);
                    let text = format!("select pg_sleep({}e-6), 'done'", random.below(3000));
                    let is_simple = random.below(2) == 0;
                    client.send(&if is_simple { query(&text) } else { extended(&text, &[]) });
                    let is_cancelled = random.below(2) == 0;
                    if is_cancelled {
                        std::thread::park_timeout(Duration::from_micros(micros));
                        client.cancel();
                    }
                    let codes: Vec<_> =
                        client.read_ready(1).errors().iter().map(|e| e.code().to_owned()).collect();
                    match &codes[..] {
                        [] => {}
                        [code] if code == "57014" && is_cancelled => {
                            hit.fetch_add(1, Relaxed);
                        }
                        other => panic!("client {number}: {other:?}, cancelled: {is_cancelled}"),
                    }
                }
            });
        }
    });
    assert!(hit.load(Relaxed) > 0, "no cancel has hit anything");
    assert_eq!(proxy.pool().cancels_active, 0);
}

/// Numbers that look like random ones, the same in every run.
struct SmallRng(u64);

impl SmallRng {
    fn new(seed: u64) -> Self {
        Self(seed.wrapping_mul(2).wrapping_add(1))
    }

    fn below(&mut self, bound: u64) -> u64 {
        self.0 =
            self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) % bound
    }
}
