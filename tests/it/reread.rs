//! Statements that a server has to prepare once more, behind a change of their client's settings.

use crate::support::messages::{
    bind, close_statement, describe_statement, execute, parse, query, run, sync,
};
use crate::support::postgres::Postgres;
use crate::support::proxy::Proxy;
use crate::support::raw_client::Client;

const ONE: &str = "pool.size = 1\n";

/// A setting, changed behind a Parse, and a text that reads otherwise under it.
const READINGS: [(&str, &str); 5] = [
    ("set datestyle to 'ISO, DMY'", "select extract(month from date '01/02/2020')::text"),
    ("set timezone to 'Asia/Tokyo'", "select extract(epoch from timestamptz '2020-01-01')::text"),
    (
        "set intervalstyle to 'sql_standard'",
        "select extract(epoch from interval '-1 2:03:04')::text",
    ),
    ("set standard_conforming_strings to off", r"select octet_length('a\\b')::text"),
    ("set client_encoding to 'LATIN1'", "select octet_length('Größe')::text"),
];

/// Uses the statement `s` of that text, which the server has not; what the client is told.
type Use = fn(&mut Client, &str) -> String;

/// Every state in which a server may be when it has to prepare the statement.
const USES: [(&str, Use); 7] = [
    ("at rest", |client, set| {
        client.ask(set);
        told(client, &[run("s", &[]), sync()])
    }),
    ("described", |client, set| {
        client.ask(set);
        told(client, &[describe_statement("s"), run("s", &[]), sync()])
    }),
    ("in a block", |client, set| {
        client.ask("begin");
        client.ask(set);
        told(client, &[run("s", &[]), sync()])
    }),
    ("in a block that undoes it", |client, set| {
        client.ask("begin");
        client.ask(set);
        let first = told(client, &[run("s", &[]), sync()]);
        client.ask("rollback");
        first + &told(client, &[run("s", &[]), sync()])
    }),
    ("behind something else in a pipeline", |client, set| {
        client.ask(set);
        told(client, &[parse("o", "select 1"), run("o", &[]), run("s", &[]), sync()])
    }),
    ("in a pipeline that begins a block", |client, set| {
        client.ask(set);
        told(client, &[parse("o", "begin"), run("o", &[]), run("s", &[]), run("s", &[]), sync()])
    }),
    ("without waiting for the SET", |client, set| {
        client.send(&[query(set), run("s", &[]), sync()].concat());
        let reply = client.read_ready(2);
        format!("{} {:?} {:?}", reply.tags(), reply.rows(), reply.errors())
    }),
];

fn told(client: &mut Client, messages: &[Vec<u8>]) -> String {
    let reply = client.exchange(&messages.concat());
    format!("{} {:?} {:?}", reply.tags(), reply.rows(), reply.errors())
}

/// What is in force, as the client can see it.
fn in_force(client: &mut Client) -> String {
    let names =
        ["datestyle", "timezone", "intervalstyle", "client_encoding", "search_path", "role"];
    let shown: Vec<_> = names.iter().map(|name| client.value(&format!("show {name}"))).collect();
    shown.join(", ")
}

/// P68: what a text means was decided when its client parsed it.
#[test]
fn a_statement_is_prepared_elsewhere_under_the_settings_of_its_parse() {
    let postgres = Postgres::start();
    let proxy = Proxy::start(&postgres, ONE);
    for (set, text) in READINGS {
        for (what, used) in USES {
            let both = [postgres.client(), proxy.client()].map(|mut client| {
                client.exchange(&[parse("s", text), sync()].concat());
                // The pool's only server forgets all statements.
                proxy.client().ask("listen forget");

                let said = used(&mut client, set);

                let mut after = in_force(&mut client);
                client.ask("rollback");
                after += &in_force(&mut client);
                (said, after, told(&mut client, &[run("s", &[]), sync()]))
            });
            assert_eq!(both[0], both[1], "{set}: {text}: {what}");
        }
    }
}

/// P48, P68: the unnamed statement too, which another client's has taken the place of.
#[test]
fn an_unnamed_statement_is_prepared_again_under_the_settings_of_its_parse() {
    let postgres = Postgres::start();
    let proxy = Proxy::start(&postgres, ONE);
    for (set, text) in READINGS {
        for block in ["rollback", "begin"] {
            let both = [postgres.client(), proxy.client()].map(|mut client| {
                // A Query would end the unnamed statement.
                client.exchange(&[parse("block", block), parse("set", set), sync()].concat());
                client.exchange(&[parse("", text), sync()].concat());
                proxy.client().exchange(&[parse("", "select 'mine'"), sync()].concat());
                client.use_prepared("block");
                client.use_prepared("set");

                told(&mut client, &[bind("", &[]), execute(), sync()])
            });
            assert_eq!(both[0], both[1], "{set}: {text}: {block}");
        }
    }
}

/// What is in front of a statement inside a block takes no snapshot where that would be seen.
#[test]
fn a_transaction_may_still_be_set_by_a_statement_that_is_prepared_again() {
    let postgres = Postgres::start();
    let proxy = Proxy::start(&postgres, ONE);
    let mut client = proxy.client();
    let text = "set transaction isolation level serializable";
    client.exchange(&[parse("s", text), sync()].concat());
    client.ask("set datestyle to 'German'");
    proxy.client().ask("listen forget");
    client.ask("begin");

    assert_eq!(told(&mut client, &[run("s", &[]), sync()]), "2CZT [] []");
    assert_eq!(client.value("show transaction_isolation"), "serializable");
}

/// A text that cannot be parsed any more fails in the server's words, and the session goes on.
#[test]
fn a_statement_that_cannot_be_prepared_again_fails_where_it_is_used() {
    let postgres = Postgres::start();
    let proxy = Proxy::start(&postgres, ONE);
    let mut client = proxy.client();
    for block in ["rollback", "begin"] {
        postgres.client().ask("create table gone (a int)");
        client.ask("reset datestyle");
        client.exchange(&[parse("s", "select * from gone"), sync()].concat());
        client.exchange(&[parse("", "select * from gone"), sync()].concat());
        postgres.client().ask("drop table gone");
        proxy.client().ask("listen forget");
        client.exchange(
            &[parse("set", "set datestyle to 'German'"), run("set", &[]), sync()].concat(),
        );

        for name in ["", "s"] {
            client.exchange(&[parse("block", block), run("block", &[]), sync()].concat());
            let reply = client.use_prepared(name);
            assert_eq!(reply.code(), "42P01", "{block}: {name:?}");
            assert_eq!(reply.error().message(), "relation \"gone\" does not exist");
            client.ask("rollback");
            assert_eq!(client.value("select 1"), "1");
        }
        client.ask("deallocate all");
    }
}

/// A text parsed anew as the unnamed statement is not what it was on another server.
#[test]
fn an_unnamed_text_with_a_clock_in_it_is_read_each_time_that_it_is_parsed() {
    let postgres = Postgres::start();
    let proxy = Proxy::start(&postgres, "pool.size = 2");
    let (mut client, mut first, mut second) = (proxy.client(), proxy.client(), proxy.client());
    let text = "select 'now'::timestamptz::text";
    let parsed = [parse("", text), sync()].concat();
    first.ask("begin");
    client.exchange(&parsed);
    second.ask("begin");
    first.ask("rollback");
    let between = postgres.client().value("select clock_timestamp()::text");
    client.exchange(&parsed);
    first.ask("begin");
    second.ask("rollback");

    let reply = client.use_prepared("");

    assert!(reply.values() > between, "{} is of before {between}", reply.values());
}

/// P68: whatever was sent in front of it in the same breath.
#[test]
fn a_statement_parsed_behind_a_setting_in_a_pipeline_is_read_under_it_for_good() {
    let postgres = Postgres::start();
    let proxy = Proxy::start(&postgres, "pool.size = 1\npool.prepared_statements = 1");
    let mut client = proxy.client();
    let pipeline = [
        query("set datestyle to 'ISO, DMY'"),
        close_statement("none"),
        parse("d", "select date '01/02/2020'"),
        sync(),
    ];
    client.send(&pipeline.concat());
    assert_eq!(client.read_ready(2).tags(), "CZI31ZI");

    client.ask("set datestyle to 'ISO, MDY'");
    client.exchange(&[parse("other", "select 1"), sync()].concat());
    let reply = client.use_prepared("d");
    assert_eq!(reply.values(), "2020-02-01");
}

/// A text without a literal reads alike under other settings: nothing of ours runs in front of it.
#[test]
fn a_text_without_a_literal_needs_no_settings_of_its_parse() {
    let postgres = Postgres::start();
    let proxy = Proxy::start(&postgres, "pool.size = 1\npool.prepared_statements = 1");
    let mut client = proxy.client();
    client.ask("create table t (a int)");
    for (name, text) in [("s", "table t"), ("o", "select 1")] {
        assert_eq!(told(&mut client, &[parse(name, text), sync()]), "1ZI [] []");
    }
    client.ask("set timezone to 'Asia/Tokyo'");

    // PostgreSQL refuses it behind an Execute.
    let pipeline = [close_statement("none"), bind("s", &[]), query("discard all")];
    assert_eq!(told(&mut client, &pipeline), "32CZI [] []");
}
