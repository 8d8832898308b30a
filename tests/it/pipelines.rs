//! Requests that do not wait for answers: who keeps the server, and for how long.

use crate::support::fake_server::FakeServer;
use crate::support::messages::{
    bind, bind_portal, close_statement, describe_portal, describe_statement, execute,
    execute_portal, extended, flush, message, parse, query, run, sync,
};
use crate::support::postgres::Postgres;
use crate::support::proxy::Proxy;
use crate::support::wait::wait_until;

const ONE: &str = "pool.size = 1\n";

/// P27: the server stays linked until everything is answered.
#[test]
fn queries_that_are_sent_before_their_answers_are_all_answered_in_order() {
    let postgres = Postgres::start();
    let proxy = Proxy::start(&postgres, ONE);
    let (mut client, mut other) = (proxy.client(), proxy.client());
    let queries: Vec<u8> = (0..200).flat_map(|n| query(&format!("select {n}"))).collect();

    client.send(&queries);
    other.send(&query("select 'other'"));
    let reply = client.read_ready(200);

    let expected: Vec<_> = (0..200).map(|n: u32| n.to_string()).collect();
    assert_eq!(reply.values(), expected.join(" "));
    assert_eq!(other.read_ready(1).values(), "other");
}

#[test]
fn extended_segments_that_are_sent_before_their_answers_are_all_answered_in_order() {
    let postgres = Postgres::start();
    let proxy = Proxy::start(&postgres, ONE);
    let mut client = proxy.client();
    let segments: Vec<u8> = (0..100)
        .flat_map(|n| {
            if n % 10 == 3 {
                extended("select 1/0", &[])
            } else {
                extended("select $1::text", &[&n.to_string()])
            }
        })
        .collect();

    client.send(&segments);
    let reply = client.read_ready(100);

    assert_eq!(reply.errors().len(), 10);
    assert_eq!(reply.rows().len(), 90);
    assert_eq!(client.value("select 1"), "1");
}

/// P28, P67, P89, pgbouncer.md row 14: what asyncpg does.
#[test]
fn a_flush_without_a_sync_keeps_the_server() {
    let postgres = Postgres::start();
    let proxy = Proxy::start(&postgres, ONE);
    let (mut client, mut other) = (proxy.client(), proxy.client());

    client.send(&[parse("s", "select 1"), bind("s", &[]), flush()].concat());
    assert_eq!(client.read_to(b'2').tags(), "12");
    other.send(&query("select 'other'"));
    proxy.wait_for_waiting(1);
    client.send(&[execute(), sync()].concat());

    assert_eq!(client.read_ready(1).tags(), "DCZI");
    assert_eq!(other.read_ready(1).values(), "other");
}

/// P28, P89: a driver that prepares ahead holds nothing that it needs.
#[test]
fn a_flush_behind_a_parse_alone_gives_the_server_to_others() {
    let postgres = Postgres::start();
    let proxy = Proxy::start(&postgres, ONE);
    let (mut client, mut other) = (proxy.client(), proxy.client());
    client.send(&[parse("s", "select 's'"), describe_statement("s"), flush()].concat());
    assert_eq!(client.read_to(b'T').tags(), "1tT");

    assert_eq!(other.value("select 'other'"), "other");

    client.send(&[run("s", &[]), sync()].concat());
    assert_eq!(client.read_ready(1).tags(), "2DCZI");
}

/// Where the Parse failed, what follows is skipped up to the Sync.
#[test]
fn a_flush_behind_a_parse_that_failed_is_skipped_to_its_sync() {
    let postgres = Postgres::start();
    let proxy = Proxy::start(&postgres, ONE);
    let mut client = proxy.client();
    client.send(&[parse("s", "select * from nowhere"), flush()].concat());
    assert_eq!(client.read_to(b'E').code(), "42P01");
    // Longer than a server waits that has only prepared something.
    client.assert_silent();

    client.send(&[parse("t", "select 't'"), run("t", &[]), sync()].concat());
    assert_eq!(client.read_ready(1).tags(), "ZI");
    assert_eq!(client.value("select 1"), "1");
}

/// P28: a client that flushes and then idles for ever.
#[test]
fn a_server_that_is_kept_by_a_flush_is_taken_away_after_flush_timeout() {
    let postgres = Postgres::start();
    let proxy = Proxy::start(&postgres, "pool.size = 1\nlisten.flush_timeout = '150ms'");
    let (mut client, mut other) = (proxy.client(), proxy.client());
    client.send(&[parse("s", "select 1"), bind("s", &[]), flush()].concat());
    assert_eq!(client.read_to(b'2').tags(), "12");

    other.send(&query("select 'other'"));

    assert_eq!(other.read_ready(1).values(), "other");
    let error = client.read_to(b'E').error();
    assert!(error.message().contains("flush_timeout"), "{error:?}");
    assert_eq!(client.exchange(&sync()).tags(), "ZI");
    assert_eq!(client.value("select 1"), "1");
}

/// P67: a client that dies there.
#[test]
fn a_client_that_vanishes_behind_a_flush_does_not_keep_its_server() {
    let postgres = Postgres::start();
    let proxy = Proxy::start(&postgres, ONE);
    let mut client = proxy.client();
    client.send(&[parse("s", "select 1"), flush()].concat());
    assert_eq!(client.read().tag, b'1');

    client.vanish();

    assert_eq!(proxy.client().value("select 1"), "1");
    wait_until("one connection is left", || postgres.connections() == 1);
}

/// P58: each kind of request ends where PostgreSQL says.
#[test]
fn every_kind_of_request_ends_at_its_ready_for_query() {
    let postgres = Postgres::start();
    let proxy = Proxy::start(&postgres, ONE);
    let cases = [
        (query("select 1; select 2; select 3"), 1),
        (query("select 1; select 1/0; select 3"), 1),
        (query(""), 1),
        (query(" ;; "), 1),
        (query("begin; select 1; commit"), 1),
        (extended("", &[]), 1),
        (sync(), 1),
        ([sync(), sync()].concat(), 2),
        ([bind("", &[]), sync()].concat(), 1),
        // FunctionCall: int4pl(1, 2), in text.
        (function_call(177, &["1", "2"]), 1),
        (function_call(0, &[]), 1),
        (
            [
                parse("", "select generate_series(1, 5)"),
                bind("", &[]),
                execute_portal("", 2),
                execute_portal("", 2),
                execute_portal("", 2),
                sync(),
            ]
            .concat(),
            1,
        ),
        (
            [
                parse("", "select 1"),
                describe_statement(""),
                bind_portal("p", "", &[]),
                describe_portal("p"),
                execute_portal("p", 0),
                message(b'C', b"Pp\0"),
                sync(),
            ]
            .concat(),
            1,
        ),
        ([describe_portal("nowhere"), sync()].concat(), 1),
        ([execute(), sync()].concat(), 1),
        ([close_statement("nowhere"), sync()].concat(), 1),
    ];
    let mut direct = postgres.client();
    let mut client = proxy.client();
    for (bytes, count) in cases {
        direct.send(&bytes);
        client.send(&bytes);

        let expected = direct.read_ready(count);
        let reply = client.read_ready(count);

        assert_eq!(reply.tags(), expected.tags());
        assert_eq!(reply.rows(), expected.rows());
        let codes = |reply: &crate::support::reply::Reply| {
            reply
                .errors()
                .iter()
                .map(|e| (e.code().to_owned(), e.message().to_owned()))
                .collect::<Vec<_>>()
        };
        assert_eq!(codes(&reply), codes(&expected));
    }
    assert_eq!(proxy.pool().servers.total(), 1);
    assert_eq!(client.value("select 1"), "1");
}

fn function_call(oid: u32, values: &[&str]) -> Vec<u8> {
    let count = u16::try_from(values.len()).unwrap().to_be_bytes();
    let mut body = [&oid.to_be_bytes()[..], &[0, 0], &count].concat();
    for value in values {
        body.extend_from_slice(&u32::try_from(value.len()).unwrap().to_be_bytes());
        body.extend_from_slice(value.as_bytes());
    }
    body.extend_from_slice(&[0, 0]);
    message(b'F', &body)
}

/// A portal lives as long as its transaction, through the same server.
#[test]
fn a_portal_in_a_block_can_be_fetched_from_again_and_again() {
    let postgres = Postgres::start();
    let proxy = Proxy::start(&postgres, "pool.size = 2");
    let (mut client, mut other) = (proxy.client(), proxy.client());
    client.ask("begin");
    let open = [
        parse("", "select generate_series(1, 5)"),
        bind_portal("p", "", &[]),
        execute_portal("p", 2),
        sync(),
    ];
    assert_eq!(client.exchange(&open.concat()).tags(), "12DDsZT");

    other.value("select 1");

    assert_eq!(client.exchange(&[execute_portal("p", 2), sync()].concat()).values(), "3 4");
    assert_eq!(client.exchange(&[execute_portal("p", 2), sync()].concat()).tags(), "DCZT");
    client.ask("commit");
}

/// A client that sends on while it leaves its answers unread.
#[test]
fn a_client_that_sends_before_it_takes_a_large_answer_is_answered() {
    let postgres = Postgres::start();
    let proxy = Proxy::start(&postgres, ONE);
    let mut client = proxy.client();
    client.send(&query("select repeat('x', 1000) from generate_series(1, 20000)"));
    // The server is through with it, as far as its own buffers tell.
    proxy.wait_for_pool("the first is under way", |pool| pool.servers.active == 1);
    client.send(&query("select 'second'"));
    client.send(&query("select 'third'"));

    assert_eq!(client.read_ready(1).rows().len(), 20_000);
    assert_eq!(client.read_ready(1).values(), "second");
    assert_eq!(client.read_ready(1).values(), "third");
    assert_eq!(proxy.pool().servers.total(), 1);
}

/// The same where all of the answer is read from the server before the client takes any of it.
#[test]
fn a_client_that_sends_while_the_end_of_its_answer_waits_is_answered() {
    let server = FakeServer::start(|peer| {
        peer.welcome();
        let big = "x".repeat(100_000);
        while let Some(asked) = peer.read_to(b'Q') {
            if asked.body.starts_with(b"big") {
                for _ in 0..200 {
                    peer.row(&big);
                }
            } else {
                peer.row("small");
            }
            peer.complete("SELECT");
            peer.ready(b'I');
        }
    });
    let proxy = Proxy::before(&server.host(), ONE);
    let mut client = proxy.client();
    client.send(&query("big"));
    assert_eq!(client.read().tag, b'D');
    client.send(&query("small"));

    assert_eq!(client.read_ready(1).rows().len(), 199);
    assert_eq!(client.read_ready(1).values(), "small");
    assert_eq!(server.connections(), 1);
}

/// P94: a pipeline deeper than every buffer between the two ends.
#[test]
fn a_pipeline_deeper_than_every_buffer_does_not_stall() {
    let postgres = Postgres::start();
    let proxy = Proxy::start(&postgres, ONE);
    let mut client = proxy.client();
    let count = 20_000;
    let mut sender = client.socket.try_clone().unwrap();
    let segments = extended("select $1::text", &["some text that is long enough"]).repeat(count);

    let sent = std::thread::spawn(move || std::io::Write::write_all(&mut sender, &segments));
    let reply = client.read_ready(count);

    sent.join().unwrap().unwrap();
    assert_eq!(reply.rows().len(), count);
}

/// P30: what a server says unasked reaches the client that has it.
#[test]
fn notices_and_notifications_reach_the_client_that_holds_the_server() {
    let postgres = Postgres::start();
    let proxy = Proxy::start(&postgres, ONE);
    let mut client = proxy.client();

    let reply = client.ask("do $$ begin raise notice 'psst'; end $$");
    assert_eq!(reply.notices()[0].message(), "psst");

    client.ask("begin");
    client.ask("listen here");
    client.ask("notify here, 'a word'");
    let reply = client.ask("commit");
    assert!(reply.tags().contains('A'), "{reply:?}");
}
