//! SQL that names the protocol's prepared statements finds them as on a connection of one's own
//! (pgbouncer.md, "Where it is wrong", row 4).

use crate::support::messages::{
    bind, close_statement, describe_statement, execute, extended, flush, parse, query, run, sync,
};
use crate::support::postgres::Postgres;
use crate::support::proxy::Proxy;
use crate::support::raw_client::Client;

const ONE: &str = "pool.size = 1\n";

/// Sends each of `steps` to PostgreSQL directly and through a pool in transaction mode: tags, errors and
/// rows are the same.
#[track_caller]
fn same(steps: &[Vec<u8>]) {
    let postgres = Postgres::start();
    for (size, statements) in [(1, 100), (2, 100), (1, 2)] {
        let settings = format!("pool.size = {size}\npool.prepared_statements = {statements}\n");
        let proxy = Proxy::start(&postgres, &settings);
        let (mut direct, mut through) = (postgres.client(), proxy.client());
        let mut other = proxy.client();
        for (at, step) in steps.iter().enumerate() {
            let seen = [&mut direct, &mut through].map(|client| {
                client.send(step);
                let ends = step_ends(step);
                let reply = client.read_ready(ends);
                let errors = reply.errors();
                let errors: Vec<_> = errors
                    .iter()
                    .map(|error| (error.code().to_owned(), error.message().to_owned()))
                    .collect();
                (reply.tags(), errors, reply.values(), reply.done())
            });
            assert_eq!(seen[0], seen[1], "step {at}, {settings}");
            if size == 2 && seen[0].0.ends_with('I') {
                other.ask("select 1");
            }
        }
        other.ask("select 1");
        let left = other.value("select count(*) from pg_prepared_statements where name like 'k%'");
        assert_eq!(left, "0", "what is called as clients call it is no other client's");
    }
}

/// The messages of a step that end with a `ReadyForQuery`.
fn step_ends(step: &[u8]) -> usize {
    let (mut at, mut ends) = (0, 0);
    while at < step.len() {
        ends += usize::from(matches!(step[at], b'Q' | b'S'));
        at += 1 + u32::from_be_bytes(step[at + 1..at + 5].try_into().unwrap()) as usize;
    }
    ends
}

fn prepared(name: &str, text: &str) -> Vec<u8> {
    [parse(name, text), sync()].concat()
}

fn ran(name: &str) -> Vec<u8> {
    [run(name, &[]), sync()].concat()
}

fn said(text: &str) -> Vec<u8> {
    [extended(text, &[]), sync()].concat()
}

/// pgbouncer.md row 4, P51: quoted, folded, with PREPARE, cut to 63 bytes, among others in one string.
#[test]
fn deallocate_takes_a_statement_of_the_protocol() {
    let long = format!("k{}", "x".repeat(69));
    let cut = &long[..63];
    let mut steps = Vec::new();
    for (name, text) in [
        ("k", "deallocate k".to_owned()),
        ("k", "DEALLOCATE PREPARE K".to_owned()),
        ("k 1_0", "deallocate \"k 1_0\"".to_owned()),
        ("K", "select 1; deallocate \"K\"; select 2".to_owned()),
        ("prepare", "deallocate prepare".to_owned()),
        (cut, format!("deallocate {long}")),
        (&long, format!("deallocate {cut}")),
    ] {
        for deallocate in [query(&text), said(&text)] {
            if text.contains(';') && deallocate.first() == Some(&b'P') {
                continue;
            }
            steps.extend([
                prepared(name, "select 'it is there'"),
                ran(name),
                deallocate.clone(),
                ran(name),
                deallocate,
                prepared(name, "select 'another'"),
                ran(name),
                [close_statement(name), sync()].concat(),
                ran(name),
            ]);
        }
    }
    same(&steps);
}

/// pgbouncer.md row 4: also with its columns described, planned, and into a table.
#[test]
fn execute_runs_a_statement_of_the_protocol() {
    let mut steps = vec![prepared("k", "select 5 as five, 'text' as more")];
    for text in [
        "execute k",
        "execute k2(41)",
        "explain (costs off) execute k2(1)",
        "explain (verbose, format json) execute k2(null)",
        "create temp table made as execute k2(6)",
        "drop table made",
        "execute k2",
        "execute nobody",
        "prepare k as select 6",
        "prepare \"k2\" (int) as select 6",
    ] {
        // Prepared anew, it has no plan that depends on how often it was run.
        steps.push([close_statement("k2"), prepared("k2", "select $1::int + 1 as next")].concat());
        // A temporary table is the transaction's.
        let (before, after) = match text.split_once(' ') {
            Some(("create", _)) => (query("begin"), Vec::new()),
            Some(("drop", _)) => (Vec::new(), query("commit")),
            _ => (Vec::new(), Vec::new()),
        };
        if before.is_empty() && after.is_empty() {
            steps.push(said(text));
            steps.push(
                [parse("kx", text), describe_statement("kx"), run("kx", &[]), sync()].concat(),
            );
            steps.push([run("kx", &[]), close_statement("kx"), sync()].concat());
        }
        steps.extend([[before, query(text), after].concat(), ran("k")]);
    }
    same(&steps);
}

/// P51: PREPARE and DEALLOCATE are not undone by ROLLBACK, a failed block refuses both.
#[test]
fn names_are_found_in_blocks_and_in_failed_ones() {
    same(&[
        prepared("k", "select 'first'"),
        query("begin"),
        query("deallocate k"),
        ran("k"),
        query("rollback"),
        ran("k"),
        prepared("k", "select 'second'"),
        query("begin; execute k"),
        query("select 1/0"),
        query("deallocate k"),
        query("execute k"),
        said("deallocate k"),
        said("execute k"),
        query("rollback; deallocate k"),
        ran("k"),
        prepared("k", "select 'third'"),
        query("begin"),
        query("deallocate k; prepare k as select 'of SQL'; execute k"),
        query("execute k"),
        query("deallocate k"),
        query("commit"),
        ran("k"),
        prepared("k", "select 'fourth'"),
        query("select 1/0; deallocate k"),
        ran("k"),
        query("begin; execute k; commit"),
        [close_statement("k"), sync()].concat(),
        query("execute k"),
        query("begin"),
        query("prepare k as select 'of SQL'; deallocate k"),
        query("commit"),
    ]);
}

/// P51: what comes behind in the same pipeline finds the name free or not, as the answer tells.
#[test]
fn names_in_pipelines_are_taken_and_given_in_order() {
    let again = prepared("k", "select 'again'");
    same(&[
        prepared("k", "select 'first'"),
        [query("deallocate k"), again.clone(), ran("k")].concat(),
        [said("deallocate k"), again.clone(), ran("k")].concat(),
        [extended("deallocate k", &[]), parse("k", "select 'new'"), run("k", &[]), sync()].concat(),
        [query("deallocate k; select 1/0"), again.clone(), ran("k")].concat(),
        [query("select 1/0; deallocate k"), again.clone(), ran("k")].concat(),
        [query("begin"), query("select 1/0"), query("deallocate k"), query("rollback")].concat(),
        [ran("k"), query("execute k"), query("deallocate k"), query("deallocate k")].concat(),
        [again.clone(), query("execute k"), ran("k"), query("deallocate k"), ran("k")].concat(),
        [parse("k", "select 'open'"), query("execute k"), sync()].concat(),
        [prepared("k", "select 'taken'"), query("deallocate k"), query("deallocate k")].concat(),
        [parse("kd", "deallocate k"), flush(), sync()].concat(),
        [again.clone(), bind("kd", &[]), execute(), sync(), ran("k")].concat(),
        [again, bind("kd", &[]), execute(), bind("kd", &[]), execute(), sync()].concat(),
    ]);
}

/// P51: in the same segment too.
#[test]
fn a_name_that_was_deallocated_with_all_others_is_not_found_behind_it() {
    let gone = [parse("e", "select 1"), parse("", "deallocate all"), run("", &[])].concat();
    same(
        &["deallocate e", "execute e"]
            .map(|text| [&gone[..], &parse("", text), &run("", &[]), &sync()].concat()),
    );
}

/// P64: whether there is what a text names is known before it is parsed.
#[test]
fn a_parse_that_names_a_statement_waits_for_the_one_of_that_statement() {
    same(&[
        [parse("e", "selec 1"), sync(), parse("", "execute e"), sync()].concat(),
        [parse("e", "select 1"), sync(), parse("x", "execute e"), sync()].concat(),
        [describe_statement("x"), run("x", &[]), sync()].concat(),
    ]);
}

/// P66: a notice of a Parse that the client did not send is not for it.
#[test]
fn what_is_said_of_a_text_is_said_once() {
    let postgres = Postgres::start();
    let proxy = Proxy::start(&postgres, ONE);
    let (mut client, mut other) = (proxy.client(), proxy.client());
    let text = format!("select 1 as {}", "n".repeat(70));
    assert_eq!(client.exchange(&[parse("", &text), sync()].concat()).notices().len(), 1);
    other.exchange(&said("select 2"));

    let reply = client.use_prepared("");

    assert_eq!(reply.tags(), "2DCZI");
}

/// P31: what comes behind goes into it.
#[test]
fn a_copy_that_a_name_executes_is_a_copy() {
    let postgres = Postgres::start();
    let proxy = Proxy::start(&postgres, ONE);
    postgres.client().value("create table t (a int); grant all on t to app");
    let messages = [query("execute e"), parse("c", "select 1"), sync()].concat();
    let said = [
        Client::log_in(&postgres.address(), &[("user", "app"), ("database", "app_db")]),
        proxy.client(),
    ]
    .map(|mut client| {
        client.exchange(&prepared("e", "copy t from stdin"));
        client.send(&messages);
        let reply = client.read_to_end();
        reply.errors().iter().map(|error| error.message().to_owned()).collect::<Vec<_>>()
    });

    assert_eq!(said[0], said[1]);
}

/// The client is told why what it executes cannot be prepared any more, and goes on.
#[test]
fn a_statement_whose_table_is_gone_says_so_when_it_is_executed() {
    let postgres = Postgres::start();
    let proxy = Proxy::start(&postgres, ONE);
    let mut client = proxy.client();
    client.ask("create table gone as select 1 as a");
    client.exchange(&prepared("k", "select a from gone"));
    client.ask("drop table gone");

    for (block, tags) in [("rollback", "EZI"), ("begin", "EZE"), ("rollback", "EZI")] {
        client.ask(block);
        let reply = client.ask("execute k");
        assert_eq!((reply.tags().as_str(), reply.code().as_str()), (tags, "42P01"));
        assert_eq!(reply.error().message(), "relation \"gone\" does not exist");
    }
    assert_eq!(client.ask("deallocate k").tags(), "CZI");
    assert_eq!(client.exchange(&ran("k")).code(), "26000");
}

/// P51: statements of the same text and name stay with the clients who did not give them up.
#[test]
fn what_one_client_deallocates_others_keep() {
    let postgres = Postgres::start();
    let proxy = Proxy::start(&postgres, ONE);
    let (mut one, mut two) = (proxy.client(), proxy.client());
    let ask = |client: &mut Client| client.exchange(&ran("k"));
    for client in [&mut one, &mut two] {
        client.exchange(&prepared("k", "select 'mine'"));
        client.exchange(&prepared("ke", "execute k"));
    }
    one.exchange(&[close_statement("k"), parse("k", "select 1, 2"), sync()].concat());

    assert_eq!(two.exchange(&ran("ke")).values(), "mine");
    assert_eq!(one.ask("deallocate k").errors(), []);

    assert_eq!(ask(&mut one).code(), "26000");
    assert_eq!(one.ask("execute k").code(), "26000");
    assert_eq!(ask(&mut two).values(), "mine");
    assert_eq!(two.ask("execute k").values(), "mine");
}

/// What is only known by its front is not looked through: the name is not found, and nothing breaks.
#[test]
fn a_text_longer_than_the_buffer_does_not_find_the_name() {
    let postgres = Postgres::start();
    let proxy = Proxy::start(&postgres, ONE);
    let mut client = proxy.client();
    client.exchange(&prepared("k", "select 'mine'"));

    let text = format!("deallocate k -- {}", "x".repeat(200_000));

    assert_eq!(client.ask(&text).code(), "26000");
    assert_eq!(client.exchange(&ran("k")).values(), "mine");
}

/// What an EXECUTE leaves behind is gone with its statement's name and without.
#[test]
fn what_an_executed_statement_leaves_reaches_nobody_else() {
    let postgres = Postgres::start();
    let proxy = Proxy::start(&postgres, ONE);
    let (mut one, mut two) = (proxy.client(), proxy.client());
    let held = "select count(*) from pg_locks where locktype = 'advisory'";
    let sets = "select set_config('work_mem', '1234kB', false)";
    let locks = "select pg_advisory_lock(7)";
    let in_one = vec![query("execute s; deallocate s")];
    let in_two = ["begin", "execute s", "deallocate s", "commit"].map(query).to_vec();
    let extended = ["begin", "execute s", "deallocate s", "commit"].map(|text| extended(text, &[]));
    for requests in [in_one, in_two, extended.to_vec()] {
        for (text, looks, clean) in [(sets, "show work_mem", "4MB"), (locks, held, "0")] {
            one.exchange(&prepared("s", text));

            for request in &requests {
                assert_eq!(one.exchange(request).errors(), []);
            }

            assert_eq!(two.value(looks), clean, "{text}");
        }
    }
}

/// The name that a statement has on servers is nobody's to use, whoever prepared it.
#[test]
fn anothers_statement_is_not_found_by_its_name_on_the_server() {
    let postgres = Postgres::start();
    let proxy = Proxy::start(&postgres, ONE);
    let (mut one, mut two) = (proxy.client(), proxy.client());
    one.exchange(&prepared("s", "select 'mine'"));
    let name = two.value("select name from pg_prepared_statements");
    let words = |name: &str| format!("prepared statement \"{name}\" does not exist");
    let in_numbers = name.replacen('p', "\\0070", 1);
    for (named, told) in [
        (name.clone(), name.clone()),
        (name.to_uppercase(), name.clone()),
        (format!("\"{name}\""), name.clone()),
        (format!("U&\"{in_numbers}\""), format!("U&\"{in_numbers}\"")),
    ] {
        for does in
            ["execute", "deallocate", "explain analyze execute", "create table t as execute"]
        {
            let text = format!("{does} {named}");
            for reply in [two.ask(&text), two.exchange(&extended(&text, &[]))] {
                let error = reply.error();
                assert_eq!((error.code(), error.message()), ("26000", &*words(&told)), "{text}");
            }
        }
    }
    assert_eq!(two.ask(&format!("select 1; deallocate {name}")).code(), "26000");
    two.ask("begin");
    assert_eq!(two.ask(&format!("prepare {name} as select 1")).tags(), "EZE");
    assert_eq!(two.ask(&format!("execute {name}")).code(), "25P02");
    two.ask("rollback");

    assert_eq!(one.exchange(&ran("s")).values(), "mine");
}

/// Where no text tells whose statement it was, nobody is left without.
#[test]
fn anothers_statement_that_an_unread_text_deallocates_is_prepared_anew() {
    let postgres = Postgres::start();
    let proxy = Proxy::start(&postgres, ONE);
    let (mut one, mut two) = (proxy.client(), proxy.client());
    one.exchange(&prepared("s", "select 'mine'"));
    let name = two.value("select name from pg_prepared_statements");

    assert_eq!(two.ask(&format!("deallocate {name} /* {} */", "x".repeat(200_000))).errors(), []);

    assert_eq!(one.exchange(&ran("s")).values(), "mine");
}

/// SQL's PREPARE takes a name that the protocol then finds taken, until it is closed.
#[test]
fn a_name_that_sql_has_prepared_is_taken_until_it_is_closed() {
    for how in [query("prepare foo as select 1"), extended("prepare foo as select 1", &[])] {
        same(&[
            query("begin"),
            how.clone(),
            [parse("foo", "select 2"), sync()].concat(),
            query("execute foo"),
            query("rollback"),
            query("deallocate all"),
            query("begin"),
            how,
            [close_statement("foo"), sync()].concat(),
            [parse("foo", "select 2"), run("foo", &[]), sync()].concat(),
            [parse("foo", "select 3"), sync()].concat(),
            query("rollback"),
            [run("foo", &[]), close_statement("foo"), sync()].concat(),
        ]);
    }
}

/// What a client has sent without a Sync is one transaction with its Query, whatever that names.
#[test]
fn what_a_query_executes_is_prepared_in_the_transaction_that_the_query_ends() {
    let unsynced = |text| [parse("", text), run("", &[])].concat();
    let mut steps = vec![
        prepared("k1", "select '03/04/2021'::date::text"),
        prepared("k2", "select $1::int"),
        // Parsed in the same breath.
        [parse("k3", "select 3"), query("execute k3")].concat(),
        [parse("k4", "select 4"), query("execute k5")].concat(),
        query("execute k3"),
        query("execute k4"),
        // Behind the end of a failed block, and none of a transaction.
        query("begin"),
        query("select 1/0"),
        [unsynced("commit"), query("explain execute k3")].concat(),
        query("begin"),
        query("select 1/0"),
        [unsynced("rollback"), prepared("k6", "execute k4"), query("execute k6")].concat(),
    ];
    let version = Postgres::start().client().value("show server_version_num");
    // PostgreSQL 17 and newer lose track of a transaction where a Query comes behind an Execute without a
    // Sync, and are in a block that nobody has begun.
    if version.parse::<u32>().unwrap() < 170_000 {
        steps.extend([
            [unsynced("set local datestyle to 'German'"), query("execute k1")].concat(),
            query("execute k1"),
            [unsynced("select set_config('search_path', 'x', false)"), query("execute k2")]
                .concat(),
            query("show search_path"),
            [unsynced("select 1"), query("execute k5")].concat(),
            query("execute k3"),
        ]);
    }
    same(&steps);
}

/// EXECUTE takes whatever the protocol has prepared, and that is the client's own as well.
#[test]
fn what_an_executed_statement_names_is_found() {
    same(&[
        prepared("k1", "select 1"),
        prepared("k2", "execute k1"),
        prepared("k3", "execute k2"),
        query("execute k3"),
        said("execute k3"),
        ran("k3"),
        query("explain execute k3"),
        // PostgreSQL finds out for itself that it has no end.
        prepared("k4", "execute k5"),
        prepared("k5", "execute k4"),
        query("execute k4"),
        ran("k5"),
        prepared("k6", "deallocate k1"),
        query("execute k6"),
        query("execute k3"),
        ran("k1"),
        query("execute k6"),
        prepared("k1", "select 'another'"),
        said("execute k6"),
        ran("k1"),
    ]);
}

/// What an EXECUTE gives was decided when it was parsed, by the statement that had the name then.
#[test]
fn an_execute_that_is_prepared_once_more_has_the_columns_that_it_had() {
    let postgres = Postgres::start();
    let proxy = Proxy::start(&postgres, ONE);
    let (mut direct, mut through, mut other) = (postgres.client(), proxy.client(), proxy.client());
    let describe = [describe_statement(""), sync()].concat();
    let none_yet = [
        [parse("", "execute k"), sync()].concat(),
        prepared("k", "select 1"),
        describe.clone(),
        ran(""),
    ];
    let another_by_now = [
        [parse("", "execute k"), sync()].concat(),
        [close_statement("k"), sync()].concat(),
        prepared("k", "select 'text', 2"),
        describe,
        query("execute k"),
    ];
    for step in none_yet.iter().chain(&another_by_now) {
        let seen = [&mut direct, &mut through].map(|client| {
            let reply = client.exchange(step);
            (reply.tags(), reply.rows(), reply.errors().len())
        });
        assert_eq!(seen[0], seen[1], "{}", step.escape_ascii());
        // Takes the server's unnamed statement.
        other.exchange(&extended("select 'other'", &[]));
    }
}

/// P68: a literal is read under the settings of the Parse, whoever executes it.
#[test]
fn what_a_query_executes_is_read_as_it_was_when_it_was_parsed() {
    same(&[
        prepared("k1", "select date '01/02/2020'"),
        query("set datestyle to 'German'"),
        query("execute k1"),
        query("begin"),
        query("set local datestyle to 'ISO'"),
        query("execute k1"),
        said("execute k1"),
        query("show datestyle"),
        query("rollback"),
        query("execute k1"),
        query("reset datestyle"),
    ]);
}
