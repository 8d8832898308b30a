//! A BEGIN that is answered at once, and sent with the first statement behind it.

use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};

use crate::support::fake_server::FakeServer;
use crate::support::messages::{bind, execute, parse, query, sync};
use crate::support::postgres::Postgres;
use crate::support::proxy::Proxy;

const ONE: &str = "pool.size = 1\n";

#[test]
fn a_block_holds_no_server_before_its_first_statement() {
    let postgres = Postgres::start();
    let proxy = Proxy::start(&postgres, ONE);
    let (mut one, mut two) = (proxy.client(), proxy.client());

    assert_eq!(one.ask("begin").tags(), "CZT");
    // The only server is free.
    assert_eq!(two.value("select 1"), "1");
    assert_eq!(one.ask("select 2").status(), Some('T'));
    two.send(&query("select 3"));
    proxy.wait_for_waiting(1);
    assert_eq!(one.ask("commit").tags(), "CZI");
    assert_eq!(two.read_ready(1).values(), "3");
}

#[test]
fn a_block_without_a_statement_needs_no_server() {
    let server = FakeServer::start(|peer| {
        peer.welcome();
        assert!(peer.read_to(b'Q').is_none(), "something was sent");
    });
    let proxy = Proxy::before(&server.host(), ONE);
    let mut client = proxy.client();
    for (end, tags) in [("commit", "COMMIT"), ("ROLLBACK;", "ROLLBACK"), ("abort work", "ROLLBACK")]
    {
        assert_eq!(client.ask("begin").tags(), "CZT");
        assert_eq!(client.exchange(&sync()).tags(), "ZT");
        let reply = client.ask(end);
        assert_eq!(
            (reply.tags(), reply.done()),
            ("CZI".to_owned(), vec![tags.to_owned()]),
            "{end}"
        );
    }
    assert_eq!(client.ask("start transaction read only").done(), ["START TRANSACTION"]);
}

/// The server is asked once: nobody waits for the answer to the BEGIN.
#[test]
fn the_begin_and_the_first_statement_are_sent_together() {
    let server = FakeServer::start(|peer| {
        peer.welcome();
        let begin = peer.read_to(b'Q').unwrap();
        assert_eq!(begin.body, b"BEGIN\0");
        // It says nothing before it has heard both.
        let first = peer.read_to(b'Q').unwrap();
        assert_eq!(first.body, b"select 1\0");
        for tag in ["BEGIN", "SELECT 0"] {
            peer.complete(tag);
            peer.ready(b'T');
        }
        while peer.read().is_some() {}
    });
    let proxy = Proxy::before(&server.host(), ONE);
    let mut client = proxy.client();
    client.ask("begin");
    assert_eq!(client.ask("select 1").tags(), "CZT");
}

#[test]
fn what_the_block_is_begun_with_holds_for_its_statements() {
    let postgres = Postgres::start();
    let proxy = Proxy::start(&postgres, ONE);
    let mut client = proxy.client();
    for (begin, isolation, read_only) in [
        ("begin", "read committed", "off"),
        ("begin isolation level repeatable read, read only", "repeatable read", "on"),
        // These go through: a server may refuse them.
        ("begin isolation level serializable", "serializable", "off"),
        ("begin read write", "read committed", "off"),
    ] {
        assert_eq!(client.ask(begin).tags(), "CZT", "{begin}");
        assert_eq!(client.value("show transaction_isolation"), isolation, "{begin}");
        assert_eq!(client.value("show transaction_read_only"), read_only, "{begin}");
        assert_eq!(client.ask("rollback").status(), Some('I'));
    }
}

#[test]
fn the_first_statement_may_be_of_the_extended_protocol_or_end_the_block_or_fail() {
    let postgres = Postgres::start();
    let proxy = Proxy::start(&postgres, ONE);
    let mut client = proxy.client();

    client.ask("begin");
    let run = [parse("", "select 7"), bind("", &[]), execute(), sync()].concat();
    assert_eq!(client.exchange(&run).tags(), "12DCZT");
    assert_eq!(client.ask("commit").status(), Some('I'));

    client.ask("begin");
    client.send(&run[..run.len() - 5]);
    assert_eq!(client.exchange(&sync()).tags(), "12DCZT");
    client.ask("rollback");

    client.ask("begin");
    assert_eq!(client.ask("select 1/0").tags(), "EZE");
    assert_eq!(client.ask("select 1").code(), "25P02");
    assert_eq!(client.ask("commit").done(), ["ROLLBACK"]);

    client.ask("begin");
    assert_eq!(client.ask("commit and chain").status(), Some('T'));
    assert_eq!(client.ask("commit").status(), Some('I'));
    // As PostgreSQL: a warning, and it goes on.
    client.ask("begin");
    assert_eq!(client.ask("begin").notices().len(), 1);
    client.ask("rollback");
}

/// The client believes itself in a block: what it is told fits that.
#[test]
fn an_error_of_the_checkout_is_the_first_statements_in_a_failed_block() {
    let postgres = Postgres::start();
    let proxy = Proxy::start(&postgres, &format!("{ONE}pool.timeout = '200ms'"));
    let (mut holder, mut client) = (proxy.client(), proxy.client());
    holder.ask("begin; select 1");

    client.ask("begin");
    let reply = client.ask("select 1");
    assert_eq!((reply.tags(), reply.code()), ("EZE".to_owned(), "53300".to_owned()));
    assert_eq!(client.ask("select 1").code(), "25P02");
    assert_eq!(client.ask("commit").tags(), "CZI");
    holder.ask("rollback");
    assert_eq!(client.value("select 5"), "5");
}

#[test]
fn a_server_lost_under_the_first_statement_leaves_a_failed_block() {
    let servers = AtomicUsize::new(0);
    let server = FakeServer::start(move |peer| {
        peer.welcome();
        // The BEGIN is answered, or not even that.
        let _begin = peer.read_to(b'Q');
        if servers.fetch_add(1, Relaxed) == 0 {
            peer.complete("BEGIN");
            peer.ready(b'T');
        }
    });
    let proxy = Proxy::before(&server.host(), ONE);
    let mut client = proxy.client();
    for _ in 0..2 {
        client.ask("begin");
        let reply = client.ask("insert into t values (1)");
        assert_eq!((reply.tags(), reply.code()), ("EZE".to_owned(), "08006".to_owned()));
        assert_eq!(client.ask("rollback").tags(), "CZI");
    }
}

#[test]
fn it_is_sent_at_once_where_it_is_not_to_be_deferred() {
    let postgres = Postgres::start();
    for (more, waits) in
        [("pool.defer_begin = false", true), ("pool.pool_mode = 'session'", true), ("", false)]
    {
        let proxy = Proxy::start(&postgres, &format!("{ONE}{more}"));
        let mut client = proxy.client();
        client.ask("begin");
        assert_eq!(proxy.pool().servers.active > 0, waits, "{more}");
    }
}

#[test]
fn a_client_idle_in_a_block_that_no_server_knows_of_is_idle_in_a_transaction() {
    let postgres = Postgres::start();
    let more = "pool.idle_in_transaction_timeout = '200ms'\nlisten.client_idle_timeout = '1h'";
    let proxy = Proxy::start(&postgres, &format!("{ONE}{more}"));
    let mut client = proxy.client();
    client.ask("begin");
    assert_eq!(client.read().fields().code(), "25P03");
}
