//! What a client was told that a statement takes and gives holds wherever the statement is run: where
//! it is something else by now, the client hears so, and never gets rows that it would misread.
//!
//! Each case is played to PostgreSQL by a connection of its own as well. There the error is repeated
//! until the client prepares anew; pgweir tells it once and goes on with what there is now.

use crate::support::fake_server::{FakeServer, Then};
use crate::support::messages::{describe_statement, execute, extended, parse, query, run, sync};
use crate::support::postgres::{DATABASE, Postgres, USER};
use crate::support::proxy::Proxy;
use crate::support::raw_client::Client;
use crate::support::reply::Reply;

const COLUMNS: &str = "select * from here.t";
const OUTDATED: (&str, &str) = ("0A000", "cached plan must not change result type");

/// A server of its own for every statement that a client holds open, and one more.
const TWO: &str = "pool.size = 2";

/// A table that the clients own, made past pgweir, so that nothing was altered as far as it knows.
fn set_up(postgres: &Postgres) {
    let mut admin = postgres.client();
    for text in [
        "set client_min_messages = error; drop schema if exists here cascade",
        &format!("create schema here authorization {USER}; set role {USER}"),
        "create table here.t as select 1 as a, 'x'::text as b",
    ] {
        assert_eq!(admin.ask(text).errors(), []);
    }
}

/// Parses a statement and hears of its columns.
#[track_caller]
fn prepare(client: &mut Client, name: &str, text: &str) {
    let reply = client.exchange(&[parse(name, text), describe_statement(name), sync()].concat());
    assert!(reply.tags().starts_with("1t"), "{reply:?}");
}

#[track_caller]
fn assert_outdated(reply: &Reply, status: char) {
    assert_eq!(reply.tags(), format!("EZ{status}"));
    let error = reply.error();
    assert_eq!((error.code(), error.message()), OUTDATED);
    assert_eq!(error.routine(), "RevalidateCachedQuery");
}

/// A client that keeps the server with this process id, so that all others are sent to the other one.
fn keep(proxy: &Proxy, pid: &str) -> Client {
    let (mut one, mut two) = (proxy.client(), proxy.client());
    one.ask("begin");
    two.ask("begin");
    let (mut kept, mut free) = if one.pid() == pid { (one, two) } else { (two, one) };
    assert_eq!(kept.pid(), pid);
    free.ask("rollback");
    kept
}

/// How the table becomes another, and what is then in its only row.
const CHANGES: [(&str, &str); 5] = [
    ("alter table here.t add c int default 3", "1 x 3"),
    ("alter table here.t drop b", "1"),
    ("alter table here.t alter a type text using 'one'", "one x"),
    ("alter table here.t alter b type varchar(7)", "1 x"),
    ("alter table here.t rename b to c", "1 x"),
];

/// Ways in which a change reaches PostgreSQL.
type Change = fn(&Postgres, &Proxy, &str);

const WAYS: [(&str, Change); 4] = [
    ("a query", |_, proxy, text| {
        assert_eq!(proxy.client().ask(text).errors(), []);
    }),
    ("the extended protocol", |_, proxy, text| {
        assert_eq!(proxy.client().exchange(&extended(text, &[])).errors(), []);
    }),
    ("a block", |_, proxy, text| {
        let mut client = proxy.client();
        for text in ["begin", text, "commit"] {
            assert_eq!(client.ask(text).errors(), []);
        }
    }),
    ("past pgweir", |postgres, _, text| {
        let mut admin = postgres.client();
        admin.ask(&format!("set role {USER}"));
        assert_eq!(admin.ask(text).errors(), []);
    }),
];

/// P55, P83: on a server that never had the statement nobody but pgweir can tell.
#[test]
fn a_server_that_never_had_a_statement_does_not_give_other_columns_without_a_word() {
    let postgres = Postgres::start();
    for (alter, row) in CHANGES {
        for (way, change) in WAYS {
            set_up(&postgres);
            let proxy = Proxy::start(&postgres, TWO);
            let mut client = proxy.client();
            prepare(&mut client, "s", COLUMNS);
            assert_eq!(client.fields_of("s"), "1 x");
            let first = client.pid();
            let mut direct = postgres.client();
            prepare(&mut direct, "s", COLUMNS);
            change(&postgres, &proxy, alter);
            let _kept = keep(&proxy, &first);

            for client in [&mut direct, &mut client] {
                let reply = client.use_prepared("s");
                assert_outdated(&reply, 'I');
            }
            assert_ne!(client.pid(), first);
            assert_eq!(client.fields_of("s"), row, "{alter} by {way}");
        }
    }
}

/// The same by Describe, as PostgreSQL has it too.
#[test]
fn a_describe_tells_of_other_columns_as_well() {
    let postgres = Postgres::start();
    set_up(&postgres);
    let proxy = Proxy::start(&postgres, TWO);
    let mut client = proxy.client();
    prepare(&mut client, "s", COLUMNS);
    let first = client.pid();
    let mut direct = postgres.client();
    prepare(&mut direct, "s", COLUMNS);
    postgres.client().ask("alter table here.t add c int default 3");
    let _kept = keep(&proxy, &first);

    for client in [&mut direct, &mut client] {
        // PostgreSQL has told of the parameters by then.
        let reply = client.exchange(&[describe_statement("s"), sync()].concat());
        assert_eq!((reply.error().code(), reply.error().message()), OUTDATED);
    }
    assert_eq!(client.exchange(&[describe_statement("s"), sync()].concat()).tags(), "tTZI");
    assert_eq!(client.fields_of("s"), "1 x 3");
}

/// P50, P55: nor does a server that had it and was told to close it.
#[test]
fn a_statement_that_was_evicted_does_not_come_back_with_other_columns() {
    let postgres = Postgres::start();
    for (way, change) in WAYS {
        set_up(&postgres);
        let proxy = Proxy::start(&postgres, "pool.size = 1\npool.prepared_statements = 1");
        let (mut one, mut two) = (proxy.client(), proxy.client());
        for client in [&mut one, &mut two] {
            prepare(client, "s", COLUMNS);
            assert_eq!(client.fields_of("s"), "1 x");
        }
        prepare(&mut two, "other", "select 'other'");
        assert_eq!(two.fields_of("other"), "other");

        change(&postgres, &proxy, "alter table here.t drop b");

        for client in [&mut one, &mut two] {
            assert_outdated(&client.use_prepared("s"), 'I');
            assert_eq!(client.fields_of("s"), "1", "by {way}");
            assert_eq!(proxy_other(&proxy).fields_of("other"), "other");
            assert_eq!(client.fields_of("s"), "1", "by {way}");
        }
    }
}

/// A client with another statement, which takes the only place.
fn proxy_other(proxy: &Proxy) -> Client {
    let mut client = proxy.client();
    prepare(&mut client, "other", "select 'other'");
    client
}

/// Nor one that was opened since.
#[test]
fn a_new_server_does_not_give_other_columns_without_a_word() {
    let postgres = Postgres::start();
    set_up(&postgres);
    let proxy = Proxy::start(&postgres, "pool.size = 1");
    let mut client = proxy.client();
    prepare(&mut client, "s", COLUMNS);
    let first = client.pid();
    let mut admin = postgres.client();
    admin.ask("alter table here.t add c int default 3");
    admin.ask(&format!("select pg_terminate_backend({first}, 10000)"));

    assert_outdated(&client.use_prepared("s"), 'I');
    assert_eq!(client.fields_of("s"), "1 x 3");
    assert_ne!(client.pid(), first);
}

/// What is altered so that a client would read it as before is no change, and no reason for an error.
#[test]
fn a_table_that_is_made_again_alike_is_the_same() {
    let postgres = Postgres::start();
    for (way, change) in WAYS {
        set_up(&postgres);
        let proxy = Proxy::start(&postgres, TWO);
        let (mut one, mut two) = (proxy.client(), proxy.client());
        for client in [&mut one, &mut two] {
            prepare(client, "s", COLUMNS);
        }
        let first = one.pid();
        let mut direct = postgres.client();
        prepare(&mut direct, "s", COLUMNS);
        change(&postgres, &proxy, "drop table here.t");
        change(&postgres, &proxy, "create table here.t as select 2 as a, 'y'::text as b");
        let _kept = keep(&proxy, &first);

        for client in [&mut direct, &mut one, &mut two] {
            assert_eq!(client.fields_of("s"), "2 y", "by {way}");
        }
    }
}

/// Who has just parsed a text has been told of nothing else, whatever others were.
#[test]
fn who_has_just_parsed_a_text_gets_the_columns_of_now() {
    let postgres = Postgres::start();
    for (way, change) in WAYS {
        set_up(&postgres);
        let proxy = Proxy::start(&postgres, TWO);
        let (mut one, mut two) = (proxy.client(), proxy.client());
        prepare(&mut one, "s", COLUMNS);
        let first = one.pid();
        change(&postgres, &proxy, "alter table here.t add c int default 3");
        let mut kept = keep(&proxy, &first);

        let messages =
            [parse("s", COLUMNS), describe_statement("s"), run("s", &[]), sync()].concat();
        let reply = two.exchange(&messages);
        assert_eq!((reply.tags().as_str(), reply.values().as_str()), ("1tT2DCZI", "1"), "{way}");
        assert_eq!(two.fields_of("s"), "1 x 3", "{way}");
        assert_outdated(&one.use_prepared("s"), 'I');
        assert_eq!(one.fields_of("s"), "1 x 3", "{way}");
        kept.ask("rollback");
        let _kept = keep(&proxy, &one.pid());
        for client in [&mut one, &mut two] {
            assert_eq!(client.fields_of("s"), "1 x 3", "{way}");
        }
    }
}

/// Each name is told of, for a driver may know the columns of each.
#[test]
fn every_name_and_every_client_is_told_once() {
    let postgres = Postgres::start();
    for (way, change) in WAYS {
        set_up(&postgres);
        let proxy = Proxy::start(&postgres, TWO);
        let mut clients = [proxy.client(), proxy.client(), proxy.client()];
        for client in &mut clients {
            prepare(client, "s", COLUMNS);
            prepare(client, "t", COLUMNS);
        }
        let first = clients[0].pid();
        change(&postgres, &proxy, "alter table here.t add c int default 3");
        let _kept = keep(&proxy, &first);

        for client in &mut clients {
            for name in ["s", "t"] {
                assert_outdated(&client.use_prepared(name), 'I');
                assert_eq!(client.fields_of(name), "1 x 3", "{way}");
            }
        }
    }
}

/// In a block the error fails it, as PostgreSQL has it.
#[test]
fn in_a_block_other_columns_fail_it() {
    let postgres = Postgres::start();
    for (way, change) in WAYS {
        set_up(&postgres);
        let proxy = Proxy::start(&postgres, TWO);
        let mut client = proxy.client();
        prepare(&mut client, "s", COLUMNS);
        let first = client.pid();
        let mut direct = postgres.client();
        prepare(&mut direct, "s", COLUMNS);
        change(&postgres, &proxy, "alter table here.t add c int default 3");
        let _kept = keep(&proxy, &first);

        for client in [&mut direct, &mut client] {
            client.ask("begin");
            assert_outdated(&client.use_prepared("s"), 'E');
            assert_eq!(client.use_prepared("s").code(), "25P02", "{way}");
            assert_eq!(client.ask("commit").done(), ["ROLLBACK"], "{way}");
        }
        assert_eq!(client.fields_of("s"), "1 x 3", "{way}");
    }
}

/// What a client's own transaction changes concerns nobody else, and not even it once it is undone.
#[test]
fn columns_that_are_rolled_back_were_never_others() {
    let postgres = Postgres::start();
    set_up(&postgres);
    let proxy = Proxy::start(&postgres, TWO);
    let (mut client, mut other) = (proxy.client(), proxy.client());
    for client in [&mut client, &mut other] {
        prepare(client, "s", COLUMNS);
    }
    let first = client.pid();
    let mut direct = postgres.client();
    prepare(&mut direct, "s", COLUMNS);
    let mut kept = keep(&proxy, &first);

    for client in [&mut direct, &mut client] {
        for _ in 0..2 {
            client.ask("begin");
            client.ask("alter table here.t add c int default 3");
            assert_outdated(&client.use_prepared("s"), 'E');
            client.ask("rollback");
            assert_eq!(client.fields_of("s"), "1 x");
        }
    }
    kept.ask("rollback");
    for client in [&mut client, &mut other] {
        assert_eq!(client.fields_of("s"), "1 x");
    }
}

/// Behind a savepoint too, and by a pipeline.
#[test]
fn a_pipeline_behind_an_alter_of_its_own_fails_where_postgresql_has_it_fail() {
    let postgres = Postgres::start();
    set_up(&postgres);
    let proxy = Proxy::start(&postgres, TWO);
    let mut client = proxy.client();
    prepare(&mut client, "s", COLUMNS);
    let first = client.pid();
    let mut direct = postgres.client();
    prepare(&mut direct, "s", COLUMNS);
    let _kept = keep(&proxy, &first);
    let messages = [
        query("begin; savepoint p; alter table here.t add c int default 3"),
        run("s", &[]),
        execute(),
        sync(),
        query("rollback to p"),
        run("s", &[]),
        sync(),
        query("rollback"),
    ]
    .concat();

    for client in [&mut direct, &mut client] {
        client.send(&messages);
        let reply = client.read_ready(5);
        assert_eq!(reply.tags(), "CCCZTEZECZT2DCZTCZI");
        assert_eq!(reply.values(), "1");
    }
}

/// A value in binary would be read as something else where its parameter has another type.
#[test]
fn parameters_of_another_type_are_told_of_too() {
    let postgres = Postgres::start();
    for (way, change) in WAYS {
        set_up(&postgres);
        let proxy = Proxy::start(&postgres, TWO);
        let mut client = proxy.client();
        prepare(&mut client, "s", "insert into here.t values ($1, 'new')");
        let first = client.pid();
        change(&postgres, &proxy, "alter table here.t alter a type text");
        let _kept = keep(&proxy, &first);

        assert_outdated(&client.exchange(&[run("s", &["5"]), sync()].concat()), 'I');
        assert_eq!(postgres.client().value("select count(*) from here.t"), "1", "{way}");
        let reply = client.exchange(&[run("s", &["5"]), sync()].concat());
        assert_eq!(reply.done(), ["INSERT 0 1"], "{way}");
    }
}

/// What cannot be undone is not run before it is known what it gives.
#[test]
fn what_writes_outside_of_a_block_is_not_run_for_a_client_that_would_misread_it() {
    let postgres = Postgres::start();
    for (way, change) in WAYS {
        set_up(&postgres);
        let proxy = Proxy::start(&postgres, TWO);
        let mut client = proxy.client();
        prepare(&mut client, "s", "update here.t set a = a + 1 returning *");
        let first = client.pid();
        change(&postgres, &proxy, "alter table here.t add c int default 3");
        let _kept = keep(&proxy, &first);

        assert_outdated(&client.use_prepared("s"), 'I');
        assert_eq!(postgres.client().value("select a from here.t"), "1", "{way}");
        assert_eq!(client.fields_of("s"), "2 x 3", "{way}");
    }
}

/// What was altered past pgweir turns up behind the fact: where something else has run by then that may
/// last, nobody can say that it has not.
#[test]
fn what_ran_behind_other_columns_is_not_said_to_have_failed() {
    let postgres = Postgres::start();
    set_up(&postgres);
    let proxy = Proxy::start(&postgres, TWO);
    let (mut client, mut other) = (proxy.client(), proxy.client());
    let insert = "insert into here.log values (1)";
    let mut admin = postgres.client();
    admin.ask(&format!("set role {USER}"));
    admin.ask("create table here.log (a int)");
    prepare(&mut client, "s", COLUMNS);
    prepare(&mut client, "i", insert);
    let first = client.pid();
    let _kept = keep(&proxy, &first);
    prepare(&mut other, "i", insert);
    admin.ask("alter table here.t add c int default 3");

    let reply = client.exchange(&[run("s", &[]), run("i", &[]), sync()].concat());
    assert_eq!((reply.tags().as_str(), reply.code().as_str()), ("EZI", "08007"));
    assert_outdated(&client.use_prepared("s"), 'I');
    assert_eq!(client.fields_of("s"), "1 x 3");
}

/// P48: the unnamed statement follows its client likewise.
#[test]
fn the_unnamed_statement_does_not_give_other_columns_without_a_word() {
    let postgres = Postgres::start();
    for (way, change) in WAYS {
        set_up(&postgres);
        let proxy = Proxy::start(&postgres, TWO);
        let mut client = proxy.client();
        let mut direct = postgres.client();
        // A query would drop it.
        prepare(&mut client, "pid", "select pg_backend_pid()");
        let first = client.fields_of("pid");
        for client in [&mut direct, &mut client] {
            prepare(client, "", COLUMNS);
        }
        change(&postgres, &proxy, "alter table here.t add c int default 3");
        let _kept = keep(&proxy, &first);

        for client in [&mut direct, &mut client] {
            assert_outdated(&client.use_prepared(""), 'I');
        }
        assert_eq!(client.fields_of(""), "1 x 3", "{way}");
        for client in [&mut direct, &mut client] {
            prepare(client, "", COLUMNS);
            assert_eq!(client.fields_of(""), "1 x 3", "{way}");
        }
    }
}

/// A description of more columns than one read brings is taken in as well.
#[test]
fn a_row_of_1600_columns_is_compared_whole() {
    let postgres = Postgres::start();
    set_up(&postgres);
    let columns: Vec<String> =
        (0..1600).map(|n| format!("{n} as a_column_with_quite_a_long_name_{n}")).collect();
    let table = format!("create table here.wide as select {}", columns.join(", "));
    let proxy = Proxy::start(&postgres, TWO);
    let mut client = proxy.client();
    assert_eq!(client.ask(&table).errors(), []);
    prepare(&mut client, "s", "select * from here.wide");
    let first = client.pid();
    let mut kept = keep(&proxy, &first);
    let row = client.fields_of("s");
    assert!(row.ends_with(" 1599"), "{row}");
    kept.ask("rollback");
    proxy
        .client()
        .ask("alter table here.wide alter a_column_with_quite_a_long_name_1599 type text");

    assert_outdated(&client.use_prepared("s"), 'I');
    assert_eq!(client.fields_of("s"), row);
}

/// Domains of one name in two databases share nothing, nor do users that find other tables.
#[test]
fn users_who_find_other_tables_by_the_same_name_do_not_hear_of_each_other() {
    let postgres = Postgres::start();
    set_up(&postgres);
    let mut admin = postgres.client();
    for text in [
        "create role one login; create role two login",
        "create schema one authorization one; create schema two authorization two",
        "create table one.mine as select 1 as a; create table two.mine as select 'x'::text as b",
        "grant select on one.mine to one; grant select on two.mine to two",
    ] {
        assert_eq!(admin.ask(text).errors(), []);
    }
    let domains = format!(
        "domains.main.user = \"one\"\n[domains.{DATABASE}]\nhosts = [\"{}\"]\nuser = \"two\"\n",
        postgres.host()
    );
    let proxy = Proxy::start(&postgres, &domains);
    let (mut one, mut two) = (proxy.client(), proxy.client_with(&[("database", DATABASE)]));

    for (client, row) in [(&mut one, "1"), (&mut two, "x")] {
        prepare(client, "s", "select * from mine");
        assert_eq!(client.fields_of("s"), row);
    }
    for (client, row) in [(&mut one, "1"), (&mut two, "x")] {
        assert_eq!(client.fields_of("s"), row);
    }
}

/// PostgreSQL says it in the language of the server: it is known by where it comes from. Any function may
/// raise the same code.
#[test]
fn the_refusal_of_a_plan_is_known_by_its_routine() {
    for (routine, is_prepared_anew) in [("RevalidateCachedQuery", true), ("heap_getattr", false)] {
        let server = FakeServer::start(move |peer| {
            peer.welcome();
            let mut parses = 0;
            peer.answer_each(|peer, message| match message.tag {
                b'D' => {
                    peer.send_bytes(b"t\0\0\0\x06\0\0n\0\0\0\x04");
                    Then::GoesOn
                }
                b'B' if parses == 1 => {
                    let text = "der gecachte Plan darf den Ergebnistyp nicht \u{e4}ndern";
                    let fields = format!("SFEHLER\0VERROR\0C0A000\0M{text}\0R{routine}\0\0");
                    peer.send(b'E', fields.as_bytes());
                    Then::Skips
                }
                tag => {
                    parses += usize::from(tag == b'P');
                    peer.accept(message)
                }
            });
        });
        let proxy = Proxy::before(&server.host(), "pool.size = 1");
        let mut client = proxy.client();
        prepare(&mut client, "s", COLUMNS);

        let error = client.use_prepared("s").error();
        assert_eq!((error.severity(), error.code(), error.routine()), ("FEHLER", "0A000", routine));
        assert!(error.message().starts_with("der gecachte Plan"), "{error:?}");

        let again = client.use_prepared("s");
        assert_eq!(again.tags(), if is_prepared_anew { "2CZI" } else { "EZI" }, "{routine}");
    }
}
