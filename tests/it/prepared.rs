//! Prepared statements of clients that share servers: each behaves as if the server were its own.

use crate::support::messages::{
    bind, bind_portal, close_statement, describe_portal, describe_statement, execute,
    execute_portal, extended, flush, message, parse, parse_typed, query, run, sync,
};
use crate::support::postgres::{DATABASE, Postgres, USER};
use crate::support::proxy::Proxy;
use crate::support::raw_client::Client;

const ONE: &str = "pool.size = 1\n";
const INT4: u32 = 23;
const TEXT: u32 = 25;

/// Prepares `text` as `name` in an exchange of its own.
#[track_caller]
fn prepare(client: &mut Client, name: &str, text: &str) {
    let reply = client.exchange(&[parse(name, text), sync()].concat());
    assert_eq!(reply.tags(), "1ZI", "{reply:?}");
}

/// Runs a statement in an exchange of its own; the first column of its rows.
#[track_caller]
fn run_it(client: &mut Client, name: &str, values: &[&str]) -> String {
    let reply = client.exchange(&[run(name, values), sync()].concat());
    assert_eq!(reply.errors(), [], "{name}");
    reply.values()
}

#[test]
fn clients_with_the_same_name_for_different_statements_get_their_own() {
    let postgres = Postgres::start();
    let proxy = Proxy::start(&postgres, ONE);
    let (mut one, mut two) = (proxy.client(), proxy.client());
    prepare(&mut one, "s", "select 'one ' || $1");
    prepare(&mut two, "s", "select 'two ' || $1");

    for _ in 0..3 {
        assert_eq!(run_it(&mut one, "s", &["a"]), "one a");
        assert_eq!(run_it(&mut two, "s", &["b"]), "two b");
    }
}

/// A statement follows its client to servers that have never seen it.
#[test]
fn a_statement_can_be_run_on_any_server_of_the_pool() {
    let postgres = Postgres::start();
    let proxy = Proxy::start(&postgres, "pool.size = 2");
    let (mut client, mut other) = (proxy.client(), proxy.client());
    prepare(&mut client, "s", "select pg_backend_pid()");
    let first = run_it(&mut client, "s", &[]);

    // Whoever takes the first server sends the client to the second.
    other.ask("begin");
    let taken = other.pid();
    let mut blocker = (taken != first).then(|| {
        let mut blocker = proxy.client();
        blocker.ask("begin");
        blocker
    });
    if let Some(blocker) = &mut blocker {
        assert_eq!(blocker.pid(), first);
        other.ask("commit");
    }

    assert_ne!(run_it(&mut client, "s", &[]), first);
}

/// P48, pgbouncer.md row 9: the unnamed statement is the session's, not the server's.
#[test]
fn unnamed_statements_of_two_clients_do_not_mix_across_round_trips() {
    let postgres = Postgres::start();
    let proxy = Proxy::start(&postgres, ONE);
    let (mut one, mut two) = (proxy.client(), proxy.client());
    prepare(&mut one, "", "select 'one'");
    prepare(&mut two, "", "select 'two'");

    for _ in 0..3 {
        assert_eq!(run_it(&mut one, "", &[]), "one");
        assert_eq!(run_it(&mut two, "", &[]), "two");
    }
}

/// A client that has no unnamed statement does not run a stranger's.
#[test]
fn an_unnamed_statement_that_was_never_parsed_is_26000() {
    let postgres = Postgres::start();
    let proxy = Proxy::start(&postgres, ONE);
    let (mut one, mut two) = (proxy.client(), proxy.client());
    prepare(&mut one, "", "select 'secret of one'");

    let reply = two.use_prepared("");

    assert_eq!(reply.tags(), "EZI");
    let error = reply.error();
    assert_eq!(
        (error.code(), error.message()),
        ("26000", "unnamed prepared statement does not exist")
    );
}

/// As PostgreSQL does: a simple query drops the unnamed statement.
#[test]
fn a_simple_query_drops_the_unnamed_statement() {
    let postgres = Postgres::start();
    let proxy = Proxy::start(&postgres, ONE);
    for mut client in [postgres.client(), proxy.client()] {
        prepare(&mut client, "", "select 1");
        client.ask("select 2");

        assert_eq!(client.use_prepared("").code(), "26000");
    }
}

/// P47, pgbouncer.md row 2: in the words and with the name that the client knows.
#[test]
fn a_name_that_is_taken_is_42p05_and_the_connection_goes_on() {
    let postgres = Postgres::start();
    let proxy = Proxy::start(&postgres, ONE);
    let mut client = proxy.client();
    prepare(&mut client, "mine", "select 'first'");

    for text in ["select 'second'", "select 'first'"] {
        let reply = client.exchange(
            &[parse("mine", text), run("mine", &[]), parse("other", "select 2"), sync()].concat(),
        );

        assert_eq!(reply.tags(), "EZI");
        let error = reply.error();
        assert_eq!(
            (error.severity(), error.code(), error.message()),
            ("ERROR", "42P05", "prepared statement \"mine\" already exists")
        );
    }
    assert_eq!(run_it(&mut client, "mine", &[]), "first");
    prepare(&mut client, "other", "select 'other'");
    assert_eq!(run_it(&mut client, "other", &[]), "other");
}

/// P47, pgbouncer.md row 3: also where another client has a statement of that name on the server.
#[test]
fn a_name_that_is_unknown_is_26000_and_the_connection_goes_on() {
    let postgres = Postgres::start();
    let proxy = Proxy::start(&postgres, ONE);
    let (mut client, mut other) = (proxy.client(), proxy.client());
    prepare(&mut other, "theirs", "select 'theirs'");

    for name in ["theirs", "pgweir_1", "nobody's"] {
        for message in [bind(name, &[]), describe_statement(name)] {
            let reply = client.exchange(&[message, execute(), sync()].concat());
            assert_eq!(reply.tags(), "EZI");
            assert_eq!(reply.code(), "26000", "{name}");
        }
    }
    assert_eq!(client.value("select 1"), "1");
}

/// P46, P64, pgbouncer.md row 1: nothing is left of a Parse that failed, at the client's name or at
/// the server.
#[test]
fn a_parse_that_fails_leaves_its_name_free() {
    let postgres = Postgres::start();
    let proxy = Proxy::start(&postgres, ONE);
    let (mut client, mut other) = (proxy.client(), proxy.client());

    let failed = client.exchange(&[parse("s", "select * from nowhere"), sync()].concat());

    assert_eq!((failed.tags().as_str(), failed.code().as_str()), ("EZI", "42P01"));
    assert_eq!(client.use_prepared("s").code(), "26000");
    // A syntax error is another way to fail: the server sees no statement at all.
    let failed = client.exchange(&[parse("s", "selec"), sync()].concat());
    assert_eq!((failed.tags().as_str(), failed.code().as_str()), ("EZI", "42601"));
    prepare(&mut client, "s", "select 'now it is there'");
    assert_eq!(run_it(&mut client, "s", &[]), "now it is there");
    // The text itself is not spoilt: once the table is there, everybody can prepare it.
    other.ask("create table nowhere as select 'here' as place");
    prepare(&mut other, "s", "select * from nowhere");
    prepare(&mut client, "t", "select * from nowhere");
    assert_eq!(run_it(&mut client, "t", &[]), "here");
}

/// P56, P66: everything behind an error is skipped up to the Sync, and was not done.
#[test]
fn an_error_in_a_pipeline_skips_to_the_sync() {
    let postgres = Postgres::start();
    let proxy = Proxy::start(&postgres, ONE);
    let mut client = proxy.client();
    prepare(&mut client, "kept", "select 'kept'");

    let reply = client.exchange(
        &[
            parse("before", "select 'before'"),
            run("before", &[]),
            parse("wrong", "select 1/0"),
            run("wrong", &[]),
            parse("after", "select 'after'"),
            run("after", &[]),
            close_statement("kept"),
            describe_statement("before"),
            sync(),
        ]
        .concat(),
    );

    // A constant is folded when the statement is bound.
    assert_eq!(reply.tags(), "12DC1EZI");
    assert_eq!(reply.code(), "22012");
    // What came before the error stays prepared, what came behind it does not.
    assert_eq!(run_it(&mut client, "before", &[]), "before");
    assert_eq!(run_it(&mut client, "kept", &[]), "kept");
    assert_eq!(client.use_prepared("after").code(), "26000");
    prepare(&mut client, "after", "select 'after'");
    assert_eq!(run_it(&mut client, "after", &[]), "after");
}

/// P56: errors leave nothing behind, however many there were.
#[test]
fn a_thousand_failed_pipelines_leave_a_session_that_works() {
    let postgres = Postgres::start();
    let proxy = Proxy::start(&postgres, ONE);
    let mut client = proxy.client();
    let failing = [parse("s", "select 1/0"), run("s", &[]), close_statement("s"), sync()].concat();
    for _ in 0..20 {
        client.send(&failing.repeat(50));
        let reply = client.read_ready(50);
        assert_eq!(reply.errors().len(), 50);
    }

    assert_eq!(client.value("select 'fine'"), "fine");
    assert_eq!(proxy.pool().servers.total(), 1);
}

/// P52, P66: answers come in the order of the requests, also those that the server never saw.
#[test]
fn closes_are_answered_in_order() {
    let postgres = Postgres::start();
    let proxy = Proxy::start(&postgres, ONE);
    let mut client = proxy.client();
    prepare(&mut client, "a", "select 'old'");

    let reply = client.exchange(
        &[
            close_statement("never there"),
            parse("b", "select 'b'"),
            run("b", &[]),
            close_statement("a"),
            parse("a", "select 'new'"),
            run("a", &[]),
            close_statement("b"),
            sync(),
        ]
        .concat(),
    );

    assert_eq!(reply.tags(), "312DC312DC3ZI");
    assert_eq!(reply.values(), "b new");
    assert_eq!(client.use_prepared("b").code(), "26000");
}

#[test]
fn a_close_alone_is_answered() {
    let postgres = Postgres::start();
    let proxy = Proxy::start(&postgres, ONE);
    let mut client = proxy.client();

    assert_eq!(client.exchange(&[close_statement("x"), sync()].concat()).tags(), "3ZI");
    assert_eq!(client.exchange(&[close_statement(""), sync()].concat()).tags(), "3ZI");
    assert_eq!(client.value("select 1"), "1");
}

/// P65: a Describe alone finds the statement on a server that lacks it.
#[test]
fn a_describe_alone_prepares_the_statement_where_it_is_missing() {
    let postgres = Postgres::start();
    let proxy = Proxy::start(&postgres, ONE);
    let mut client = proxy.client();
    prepare(&mut client, "s", "select $1::int4 as number");
    // A fresh server.
    postgres.client().value(
        "select pg_terminate_backend(pid) from pg_stat_activity \
                             where usename = 'app'",
    );
    crate::support::wait::wait_until("it is gone", || postgres.connections() == 0);

    let reply = client.exchange(&[describe_statement("s"), sync()].concat());

    assert_eq!(reply.tags(), "tTZI", "{reply:?}");
}

/// P49: the parameter types are part of what a statement is.
#[test]
fn the_same_text_with_other_parameter_types_is_another_statement() {
    let postgres = Postgres::start();
    let proxy = Proxy::start(&postgres, ONE);
    let (mut one, mut two) = (proxy.client(), proxy.client());
    let text = "select pg_typeof($1)::text";
    one.exchange(&[parse_typed("s", text, &[INT4]), sync()].concat());
    two.exchange(&[parse_typed("s", text, &[TEXT]), sync()].concat());

    assert_eq!(run_it(&mut one, "s", &["1"]), "integer");
    assert_eq!(run_it(&mut two, "s", &["1"]), "text");
}

/// A statement of the same text is prepared once per server, whoever asks.
#[test]
fn clients_share_what_is_prepared_on_a_server() {
    let postgres = Postgres::start();
    let proxy = Proxy::start(&postgres, ONE);
    let mut clients = [proxy.client(), proxy.client(), proxy.client()];
    for (number, client) in clients.iter_mut().enumerate() {
        prepare(client, &format!("s{number}"), "select 'shared'");
        assert_eq!(run_it(client, &format!("s{number}"), &[]), "shared");
    }

    let count = "select count(*) from pg_prepared_statements";
    assert_eq!(clients[0].value(count), "1");
}

/// P51, pgbouncer.md row 12: the client's names are gone; what others have is not.
#[test]
fn deallocate_all_and_discard_all_take_the_clients_statements_alone() {
    let postgres = Postgres::start();
    let proxy = Proxy::start(&postgres, ONE);
    for text in ["deallocate all", "discard all"] {
        let (mut client, mut other) = (proxy.client(), proxy.client());
        for client in [&mut client, &mut other] {
            prepare(client, "s", "select 'same text'");
        }
        prepare(&mut client, "t", "select 't'");

        assert_eq!(client.ask(text).errors(), []);

        for name in ["s", "t"] {
            let reply = client.use_prepared(name);
            assert_eq!(reply.code(), "26000", "{text}");
        }
        prepare(&mut client, "s", "select 'again'");
        assert_eq!(run_it(&mut client, "s", &[]), "again");
        assert_eq!(run_it(&mut other, "s", &[]), "same text");
    }
}

/// P51: in one pipeline, what is prepared behind it stays.
#[test]
fn a_parse_behind_a_pipelined_deallocate_all_stays() {
    let postgres = Postgres::start();
    let proxy = Proxy::start(&postgres, ONE);
    for text in ["DEALLOCATE ALL", "DISCARD ALL"] {
        let mut client = proxy.client();
        prepare(&mut client, "old", "select 'old'");
        prepare(&mut client, "same", "select 'before'");

        client.send(
            &[
                extended(text, &[]),
                parse("new", "select 'new'"),
                parse("same", "select 'behind'"),
                sync(),
            ]
            .concat(),
        );
        let reply = client.read_ready(2);

        assert_eq!(reply.tags(), "12CZI11ZI", "{text}: {reply:?}");
        assert_eq!(run_it(&mut client, "new", &[]), "new", "{text}");
        assert_eq!(run_it(&mut client, "same", &[]), "behind", "{text}");
        assert_eq!(client.use_prepared("old").code(), "26000");
    }
}

/// P51, pgbouncer.md row 10: in one segment, where a statement that the server had until then is
/// prepared again.
#[test]
fn a_parse_behind_a_deallocate_all_of_the_same_segment_is_not_made_up() {
    let postgres = Postgres::start();
    let proxy = Proxy::start(&postgres, ONE);
    let (mut client, mut other) = (proxy.client(), proxy.client());
    prepare(&mut other, "s", "select 'known'");
    prepare(&mut client, "mine", "select 'mine'");

    let reply = client.exchange(
        &[
            parse("", "DEALLOCATE ALL"),
            run("", &[]),
            parse("t", "select 'known'"),
            run("t", &[]),
            parse("mine", "select 'mine'"),
            run("mine", &[]),
            sync(),
        ]
        .concat(),
    );

    assert_eq!(reply.tags(), "12C12DC12DCZI", "{reply:?}");
    assert_eq!(run_it(&mut client, "t", &[]), "known");
    assert_eq!(run_it(&mut other, "s", &[]), "known");
}

/// P51: with simple queries in the same packet.
#[test]
fn a_parse_behind_a_simple_deallocate_all_stays() {
    let postgres = Postgres::start();
    let proxy = Proxy::start(&postgres, ONE);
    let mut client = proxy.client();
    prepare(&mut client, "s", "select 'before'");

    client.send(&[query("DEALLOCATE ALL"), parse("s", "select 'behind'"), sync()].concat());
    let reply = client.read_ready(2);

    assert_eq!(reply.tags(), "CZI1ZI", "{reply:?}");
    assert_eq!(run_it(&mut client, "s", &[]), "behind");
}

/// P54, pgbouncer.md row 6: in a failed block the server refuses a Parse, though it has the statement.
#[test]
fn a_parse_in_a_failed_block_is_refused_though_the_statement_is_there() {
    let postgres = Postgres::start();
    let proxy = Proxy::start(&postgres, ONE);
    let (mut client, mut other) = (proxy.client(), proxy.client());
    prepare(&mut other, "s", "select 'there'");
    client.ask("begin");
    client.ask("select 1/0");

    let reply = client.exchange(&[parse("s", "select 'there'"), sync()].concat());

    assert_eq!((reply.tags().as_str(), reply.code().as_str()), ("EZE", "25P02"));
    assert_eq!(client.ask("rollback").status(), Some('I'));
    assert_eq!(client.use_prepared("s").code(), "26000");
    prepare(&mut client, "s", "select 'there'");
    assert_eq!(run_it(&mut client, "s", &[]), "there");
    assert_eq!(run_it(&mut other, "s", &[]), "there");
}

/// P54: and where the block fails in the same pipeline.
#[test]
fn a_parse_behind_what_fails_the_block_is_refused() {
    let postgres = Postgres::start();
    let proxy = Proxy::start(&postgres, ONE);
    let (mut client, mut other) = (proxy.client(), proxy.client());
    prepare(&mut other, "s", "select 'there'");

    client.send(
        &[query("begin"), query("select 1/0"), parse("s", "select 'there'"), sync()].concat(),
    );
    let reply = client.read_ready(3);

    let codes: Vec<_> = reply.errors().iter().map(|error| error.code().to_owned()).collect();
    assert_eq!(codes, ["22012", "25P02"]);
    client.ask("rollback");
    assert_eq!(client.use_prepared("s").code(), "26000");
    assert_eq!(run_it(&mut other, "s", &[]), "there");
}

/// P50: one place on the server, and a pipeline that evicts, prepares and fails.
#[test]
fn an_eviction_inside_a_pipeline_that_fails_is_taken_back() {
    let postgres = Postgres::start();
    let proxy = Proxy::start(&postgres, "pool.size = 1\npool.prepared_statements = 1");
    let mut client = proxy.client();
    prepare(&mut client, "a", "select 'a'");
    prepare(&mut client, "b", "select 'b'");

    let reply = client.exchange(
        &[
            run("a", &[]),
            parse("wrong", "select * from nowhere"),
            run("b", &[]),
            parse("c", "select 'c'"),
            sync(),
        ]
        .concat(),
    );

    assert_eq!((reply.tags().as_str(), reply.code().as_str()), ("2DCEZI", "42P01"));
    for _ in 0..2 {
        assert_eq!(run_it(&mut client, "a", &[]), "a");
        assert_eq!(run_it(&mut client, "b", &[]), "b");
    }
    assert_eq!(client.use_prepared("c").code(), "26000");
    assert_eq!(client.value("select count(*) from pg_prepared_statements"), "1");
}

#[test]
fn more_statements_than_a_server_may_have_can_be_used_in_turn() {
    let postgres = Postgres::start();
    let proxy = Proxy::start(&postgres, "pool.size = 1\npool.prepared_statements = 3");
    let mut client = proxy.client();
    for number in 0..10 {
        prepare(&mut client, &format!("s{number}"), &format!("select {number}"));
    }

    for number in (0..10).rev().chain(0..10) {
        assert_eq!(run_it(&mut client, &format!("s{number}"), &[]), number.to_string());
    }
    // All of them in one pipeline.
    let all: Vec<u8> = (0..10).flat_map(|number| run(&format!("s{number}"), &[])).collect();
    let reply = client.exchange(&[all, sync()].concat());
    assert_eq!(reply.values(), "0 1 2 3 4 5 6 7 8 9");
    assert_eq!(client.value("select count(*) from pg_prepared_statements"), "3");
}

#[test]
fn one_statement_more_than_a_client_may_have_is_53400() {
    let postgres = Postgres::start();
    let proxy = Proxy::start(&postgres, "pool.size = 1\nlisten.max_statements_per_client = 2");
    let mut client = proxy.client();
    prepare(&mut client, "a", "select 'a'");
    prepare(&mut client, "b", "select 'b'");

    let reply = client.exchange(&[parse("c", "select 'c'"), run("c", &[]), sync()].concat());

    assert_eq!(reply.tags(), "EZI");
    let error = reply.error();
    assert_eq!((error.severity(), error.code()), ("ERROR", "53400"));
    assert!(error.message().contains("max_statements_per_client"), "{error:?}");
    assert_eq!(run_it(&mut client, "a", &[]), "a");
    client.exchange(&[close_statement("a"), sync()].concat());
    prepare(&mut client, "c", "select 'c'");
    assert_eq!(run_it(&mut client, "c", &[]), "c");
}

/// P51: as PostgreSQL does, a protocol statement can be dropped by its name.
#[test]
fn without_shared_statements_a_session_has_a_server_of_its_own_for_them() {
    let postgres = Postgres::start();
    let proxy = Proxy::start(&postgres, "pool.size = 1\npool.pool_mode = 'session'");
    let mut client = proxy.client();
    prepare(&mut client, "s", "select 's'");

    assert_eq!(client.value("select name from pg_prepared_statements"), "s");
    assert_eq!(client.ask("deallocate s").done(), ["DEALLOCATE"]);
    assert_eq!(client.use_prepared("s").code(), "26000");
}

/// P68: `'now'` is read when the statement is parsed.
#[test]
fn a_literal_clock_is_each_clients_own() {
    let postgres = Postgres::start();
    let proxy = Proxy::start(&postgres, ONE);
    let (mut one, mut two) = (proxy.client(), proxy.client());
    let text = "select 'now'::timestamptz(6)::text";
    prepare(&mut one, "s", text);
    prepare(&mut two, "s", text);

    let first = run_it(&mut one, "s", &[]);
    assert_ne!(run_it(&mut two, "s", &[]), first);
    assert_eq!(run_it(&mut one, "s", &[]), first);
}

/// P68: literals are folded under the settings of the session that prepares.
#[test]
fn clients_with_other_settings_do_not_share_a_statement() {
    let postgres = Postgres::start();
    let proxy = Proxy::start(&postgres, ONE);
    let mut german = proxy.client_with(&[("DateStyle", "German, DMY")]);
    let mut us = proxy.client_with(&[("DateStyle", "ISO, MDY")]);
    let text = "select extract(month from date '01/02/2020')::text";
    prepare(&mut german, "s", text);
    prepare(&mut us, "s", text);

    assert_eq!(run_it(&mut german, "s", &[]), "2");
    assert_eq!(run_it(&mut us, "s", &[]), "1");
}

/// P53: a Parse, a Bind and a statement name longer than any buffer.
#[test]
fn messages_longer_than_every_buffer_go_through() {
    let postgres = Postgres::start();
    let proxy = Proxy::start(&postgres, ONE);
    let mut client = proxy.client();
    // As long as PostgreSQL lets it be in a Close.
    let name = "n".repeat(9_990);
    for len in [4_095, 4_096, 16_384, 65_536, 300_000] {
        let padding = "x".repeat(len);
        let text = format!("select length($1) + length('{padding}')");

        client.send(
            &[parse(&name, &text), run(&name, &[&padding]), close_statement(&name), sync()]
                .concat(),
        );

        let reply = client.read_ready(1);
        assert_eq!(reply.tags(), "12DC3ZI", "{reply:?}");
        assert_eq!(reply.values(), (2 * len).to_string());
    }
}

/// P53: what PostgreSQL quotes is as long as what the client sent.
#[test]
fn an_error_longer_than_every_buffer_reaches_the_client_whole() {
    let postgres = Postgres::start();
    let proxy = Proxy::start(&postgres, ONE);
    let mut client = proxy.client();
    prepare(&mut client, "s", "select $1::int4");
    for len in [16_384, 40_000, 65_536, 300_000] {
        let padding = "x".repeat(len);

        let error = client.exchange(&[run("s", &[&padding]), sync()].concat()).error();

        let expected = format!("invalid input syntax for type integer: \"{padding}\"");
        assert!(error.message() == expected, "{len}");
        assert_eq!(error.code(), "22P02");
    }
}

/// P53: PostgreSQL tells names apart by 63 bytes, and repeats all that a message has.
#[test]
fn an_error_names_the_statement_as_its_message_did() {
    let postgres = Postgres::start();
    let proxy = Proxy::start(&postgres, ONE);
    let name = "n".repeat(63);
    let messages = [run(&format!("{name} used"), &["1"]), sync()].concat();
    let said = [postgres.client(), proxy.client()].map(|mut client| {
        prepare(&mut client, &format!("{name} given"), "select 1");
        client.exchange(&messages).error().message().to_owned()
    });

    assert_eq!(said[0], said[1]);
}

/// P53: whatever the pieces that a pipeline arrives in.
#[test]
fn a_pipeline_cut_at_any_byte_is_understood() {
    let postgres = Postgres::start();
    let proxy = Proxy::start(&postgres, ONE);
    let mut client = proxy.client();
    prepare(&mut client, "s", "select 's' || $1");
    let pipeline =
        [run("s", &["1"]), describe_statement("s"), close_statement("x"), sync()].concat();
    for cut in 1..pipeline.len() {
        client.send(&pipeline[..cut]);
        client.send(&pipeline[cut..]);

        let reply = client.read_ready(1);
        assert_eq!(reply.tags(), "2DCtT3ZI", "cut at {cut}: {reply:?}");
    }
}

/// P55, P64: what was to prepare a statement anew is skipped behind an error: the server has it still.
#[test]
fn a_preparation_that_was_skipped_leaves_the_statement_where_it_was() {
    let postgres = Postgres::start();
    let proxy = Proxy::start(&postgres, "pool.size = 1\n");
    let (mut one, mut other) = (proxy.client(), proxy.client());
    assert_eq!(one.exchange(&[parse("a", "select 7"), sync()].concat()).tags(), "1ZI");

    other
        .send(&[query("select 1"), parse("bad", "selec"), parse("b", "select 7"), sync()].concat());
    assert_eq!(other.read_ready(2).code(), "42601");

    for name in ["c", "d"] {
        assert_eq!(other.exchange(&[parse(name, "select 7"), sync()].concat()).tags(), "1ZI");
        assert_eq!(other.use_prepared(name).values(), "7");
    }
}

/// P56: a Query that a failed segment skips drops nothing.
#[test]
fn a_query_that_was_skipped_leaves_the_unnamed_statement_where_it_was() {
    let postgres = Postgres::start();
    let proxy = Proxy::start(&postgres, "pool.size = 2");
    let (mut client, mut other) = (proxy.client(), proxy.client());
    client.exchange(&[parse("", "select 'kept'"), sync()].concat());

    let failed =
        client.exchange(&[parse("bad", "selec"), query("select 'skipped'"), sync()].concat());
    assert_eq!(failed.tags(), "EZI");

    assert_eq!(client.use_prepared("").values(), "kept");
    // On another server too.
    other.ask("begin");
    assert_eq!(client.use_prepared("").values(), "kept");
}

/// P48: nor does it uncover the unnamed statement of the client that had the server before.
#[test]
fn a_query_that_was_skipped_does_not_uncover_the_statement_of_another_client() {
    let postgres = Postgres::start();
    let proxy = Proxy::start(&postgres, ONE);
    for skipped in [query("select 'skipped'"), close_statement("")] {
        let (mut other, mut client) = (proxy.client(), proxy.client());
        other.exchange(&[parse("", "select 'a secret'"), sync()].concat());

        let failed = client.exchange(&[parse("bad", "selec"), skipped, sync()].concat());
        assert_eq!(failed.tags(), "EZI");

        assert_eq!(client.use_prepared("").code(), "26000");
        assert_eq!(other.use_prepared("").values(), "a secret");
    }
}

/// It was prepared once and for all: that it cannot be prepared anew in a failed block takes nothing away.
#[test]
fn an_unnamed_statement_stays_where_it_cannot_be_prepared_anew() {
    let postgres = Postgres::start();
    let proxy = Proxy::start(&postgres, ONE);
    let (mut client, mut other) = (proxy.client(), proxy.client());
    prepare(&mut client, "begin", "begin");
    prepare(&mut client, "rollback", "rollback");
    prepare(&mut client, "", "select 'kept'");
    prepare(&mut other, "", "select 'on the server'");
    assert_eq!(client.use_prepared("begin").tags(), "2CZT");
    assert_eq!(client.exchange(&[parse("bad", "selec"), sync()].concat()).tags(), "EZE");

    for _ in 0..2 {
        assert_eq!(client.use_prepared("").code(), "25P02");
    }

    assert_eq!(client.use_prepared("rollback").tags(), "2CZI");
    assert_eq!(client.use_prepared("").values(), "kept");
}

/// To read a text PostgreSQL takes a snapshot, and refuses behind it what has to come before any query.
#[test]
fn a_text_that_others_have_parsed_counts_as_a_query_of_its_transaction() {
    let postgres = Postgres::start();
    let proxy = Proxy::start(&postgres, ONE);
    prepare(&mut proxy.client(), "x", "select 1");
    prepare(&mut proxy.client(), "y", "savepoint a");
    let (begin, set) = ("begin isolation level serializable", "set transaction read only");
    let text = parse("s", "select 1");
    for (before, sent, readies, code) in [
        ("", [&*text, &*query(begin)].concat(), 1, Some("25001")),
        ("", [&*text, &*query(&format!("{begin}; select 2"))].concat(), 1, Some("25001")),
        (
            "begin",
            [&*text, &*extended("set transaction_isolation = 'serializable'", &[])].concat(),
            1,
            Some("25001"),
        ),
        (
            "begin",
            [&*text, &*sync(), &*query("set transaction isolation level serializable")].concat(),
            2,
            Some("25001"),
        ),
        ("begin", [&*text, &*sync(), &*query(set)].concat(), 2, None),
        (
            "begin",
            [
                &*parse("s", "savepoint a"),
                &*sync(),
                &*query("set transaction isolation level serializable"),
            ]
            .concat(),
            2,
            None,
        ),
        (
            "begin;set local work_mem = '1MB'",
            [&*text, &*sync(), &*query("set transaction isolation level serializable")].concat(),
            2,
            Some("25001"),
        ),
        (
            "begin;commit and chain",
            [&*text, &*sync(), &*query("set transaction isolation level serializable")].concat(),
            2,
            Some("25001"),
        ),
        // Another transaction.
        ("", [&*text, &*sync(), &*query(begin)].concat(), 2, None),
        ("begin", [&*text, &*sync(), &*query("commit"), &*query(begin)].concat(), 3, None),
    ] {
        let login = [("user", USER), ("database", DATABASE)];
        let [direct, through] =
            [Client::log_in(&postgres.address(), &login), proxy.client()].map(|mut client| {
                for text in before.split(';') {
                    client.ask(text);
                }
                client.send(&sent);
                let reply = client.read_ready(readies);
                (reply.tags(), reply.errors().first().map(|error| error.code().to_owned()))
            });
        assert_eq!(through, direct, "{before:?} {}", String::from_utf8_lossy(&sent));
        assert_eq!(through.1.as_deref(), code, "{before:?} {}", String::from_utf8_lossy(&sent));
    }
}

/// What comes behind it is known for what it is.
#[test]
fn a_deallocate_behind_a_text_that_others_have_parsed_takes_its_statement() {
    let postgres = Postgres::start();
    let proxy = Proxy::start(&postgres, ONE);
    prepare(&mut proxy.client(), "x", "select 1");
    let mut client = proxy.client();
    prepare(&mut client, "q", "select 2");

    let reply = client.exchange(&[parse("s", "select 1"), query("deallocate q")].concat());

    assert_eq!(reply.tags(), "1CZI");
    assert_eq!(client.use_prepared("q").code(), "26000");
    prepare(&mut client, "q", "select 3");
}

/// PostgreSQL refuses such a text before anything of the Query has begun.
#[test]
fn a_query_that_is_no_text_leaves_the_unnamed_statement() {
    let postgres = Postgres::start();
    let proxy = Proxy::start(&postgres, ONE);
    let (mut client, mut other) = (proxy.client(), proxy.client());
    prepare(&mut client, "", "select 7");
    let no_text = message(b'Q', b"select '\xff'\0");

    assert_eq!(client.exchange(&no_text).code(), "22021");
    assert_eq!(run_it(&mut client, "", &[]), "7");
    assert_eq!(other.exchange(&no_text).code(), "22021");
    assert_eq!(other.use_prepared("").code(), "26000");
    assert_eq!(client.ask("select 'ü'").values(), "ü");
    assert_eq!(client.use_prepared("").code(), "26000");
}

/// A Close that is skipped is none, whatever is closed behind it.
#[test]
fn a_statement_whose_close_was_skipped_is_bound_behind_another_close() {
    let postgres = Postgres::start();
    let proxy = Proxy::start(&postgres, ONE);
    let mut client = proxy.client();
    prepare(&mut client, "a", "select 'a'");
    prepare(&mut client, "b", "select 'b'");

    let pipeline = [
        execute_portal("none", 0),
        close_statement("a"),
        sync(),
        close_statement("b"),
        run("a", &[]),
        sync(),
    ];
    client.send(&pipeline.concat());
    let reply = client.read_ready(2);
    assert_eq!((reply.tags(), reply.values()), ("EZI32DCZI".to_owned(), "a".to_owned()));
}

/// P50: what is prepared is closed to make room, and that is skipped.
#[test]
fn a_statement_that_failed_and_was_to_be_closed_is_not_there() {
    let postgres = Postgres::start();
    let proxy = Proxy::start(&postgres, "pool.size = 1\npool.prepared_statements = 2");
    let (mut client, mut other) = (proxy.client(), proxy.client());
    let pipeline = [
        parse("bad", "selec 1"),
        sync(),
        parse("one", "select 1"),
        execute_portal("none", 0),
        parse("two", "select 2"),
        sync(),
    ];
    client.send(&pipeline.concat());
    assert_eq!(client.read_ready(2).tags(), "EZI1EZI");

    assert_eq!(other.exchange(&[parse("s", "selec 1"), sync()].concat()).code(), "42601");
    assert_eq!(run_it(&mut client, "one", &[]), "1");
}

/// P83: the columns of a FETCH are those of a cursor, which may not be there when it is parsed.
#[test]
fn a_fetch_that_is_prepared_once_more_is_what_its_cursor_makes_of_it() {
    let postgres = Postgres::start();
    let proxy = Proxy::start(&postgres, "pool.size = 1\npool.prepared_statements = 1");
    let mut client = proxy.client();
    prepare(&mut client, "f", "fetch 2 from cur");
    prepare(&mut client, "other", "select 1");
    client.ask("begin");
    client.ask("declare cur cursor for values (1), (2), (3)");

    assert_eq!(run_it(&mut client, "f", &[]), "1 2");
    assert_eq!(run_it(&mut client, "other", &[]), "1");
    assert_eq!(run_it(&mut client, "f", &[]), "3");
}

/// What is skipped takes no unnamed statement along, on whatever server.
#[test]
fn a_query_that_is_skipped_leaves_the_unnamed_statement() {
    let postgres = Postgres::start();
    let proxy = Proxy::start(&postgres, ONE);
    let (mut client, mut other) = (proxy.client(), proxy.client());
    let typed = parse_typed("", "set timezone to 'Europe/Berlin'", &[TEXT]);
    assert_eq!(client.exchange(&[typed, sync()].concat()).tags(), "1ZI");
    other.ask("set datestyle to 'German'");
    client.send(&[describe_statement("none"), flush()].concat());
    assert_eq!(client.read_to(b'E').code(), "26000");

    client.send(&[query("release s"), sync(), bind("", &[]), flush()].concat());

    let reply = client.read_to(b'E');
    assert_eq!((&*reply.tags(), &*reply.code()), ("ZIE", "08P01"), "it has a parameter");
}

#[test]
fn a_name_that_discard_all_has_freed_in_the_same_segment_is_free() {
    let postgres = Postgres::start();
    let proxy = Proxy::start(&postgres, ONE);
    let mut client = proxy.client();

    let pipeline = [
        parse("d", "select 'one'"),
        sync(),
        parse("e", "discard all"),
        bind("e", &[]),
        describe_portal(""),
        execute(),
        parse("d", "select 'two'"),
        flush(),
    ];
    client.send(&pipeline.concat());
    assert_eq!(client.read_to(b'C').tags(), "1ZI12nC");
    assert_eq!(client.exchange(&sync()).tags(), "1ZI");
    assert_eq!(run_it(&mut client, "d", &[]), "two");
}

/// A portal does what it does when it is executed, which may be long after its Bind was answered.
#[test]
fn what_a_portal_does_that_was_bound_before_is_known_when_it_is_executed() {
    let postgres = Postgres::start();
    let proxy = Proxy::start(&postgres, ONE);
    let mut client = proxy.client();
    client.ask("create table t (a int)");
    prepare(&mut client, "d", "select 'one'");
    client.ask("begin");
    let text = "deallocate all";
    let bound = [parse("", text), bind_portal("q", "", &[]), sync()];
    assert_eq!(client.exchange(&bound.concat()).tags(), "12ZT");
    let pipeline = [execute_portal("q", 0), parse("d", "select 'two'"), sync()];
    assert_eq!(client.exchange(&pipeline.concat()).tags(), "C1ZT");
    assert_eq!(run_it(&mut client, "d", &[]), "two");

    let bound = [parse("", "copy t from stdin"), bind_portal("c", "", &[]), sync()];
    assert_eq!(client.exchange(&bound.concat()).tags(), "12ZT");
    client.send(&[execute_portal("c", 0), parse("e", "select 'three'"), sync()].concat());
    // It has no place in a copy, for which PostgreSQL ends the connection.
    assert_eq!(client.read_to_end().tags(), "GEE");
}

/// What PostgreSQL says of a text besides its answer, it says to each that parses it.
#[test]
fn a_notice_about_a_text_comes_with_each_parse_of_it() {
    let postgres = Postgres::start();
    let proxy = Proxy::start(&postgres, ONE);
    let (mut one, mut two) = (proxy.client(), proxy.client());
    let cut = format!("select 1 as {}", "x".repeat(64));
    let escaped = r"select 'back\slash'";
    for client in [&mut one, &mut two] {
        client.ask("set standard_conforming_strings to off");
        for (name, text) in [("a", &*cut), ("b", &cut), ("c", escaped), ("d", escaped)] {
            let reply = client.exchange(&[parse(name, text), sync()].concat());
            assert_eq!((reply.notices().len(), &*reply.tags()), (1, "1ZI"), "{name}: {text}");
        }
        assert_eq!(run_it(client, "b", &[]), "1");
    }
}

/// P48, P49: in statement mode too, where each statement may have another server.
#[test]
fn statements_follow_their_clients_in_statement_mode() {
    let postgres = Postgres::start();
    for size in [1, 2] {
        let settings = format!("pool.size = {size}\npool.pool_mode = 'statement'");
        let proxy = Proxy::start(&postgres, &settings);
        let (mut one, mut two) = (proxy.client(), proxy.client());
        for name in ["s", ""] {
            prepare(&mut one, name, "select 'one ' || $1");
            prepare(&mut two, name, "select 'two ' || $1");
            for _ in 0..3 {
                assert_eq!(run_it(&mut one, name, &["a"]), "one a");
                assert_eq!(run_it(&mut two, name, &["b"]), "two b");
            }
        }
        assert_eq!(one.exchange(&[parse("s", "select 1"), sync()].concat()).code(), "42P05");
        assert_eq!(one.use_prepared("none").code(), "26000");
        one.ask("deallocate s");
        assert_eq!(one.exchange(&[run("s", &["a"]), sync()].concat()).code(), "26000");
        assert_eq!(run_it(&mut two, "s", &["b"]), "two b");
    }
}
