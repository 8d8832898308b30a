//! P95: ALTER and DROP of roles, databases and the server itself, seen through pgweir.

use std::time::Duration;

use tokio::time::Instant;

use crate::support::messages::{bind, close_statement, extended, flush, parse, query, run, sync};
use crate::support::postgres::Postgres;
use crate::support::proxy::Proxy;
use crate::support::raw_client::Client;
use crate::support::wait::wait_until;

/// Every database, each client as itself; but for `app_db`, whose one user is `app`.
fn start(postgres: &Postgres, pool: &str) -> Proxy {
    let all = format!("{pool}\n[domains.'*']\nhosts = ['{}']", postgres.host());
    Proxy::start(postgres, &all)
}

fn client(proxy: &Proxy, user: &str, database: &str) -> Client {
    proxy.client_with(&[("user", user), ("database", database)])
}

fn connections(postgres: &Postgres, database: &str) -> String {
    let text = "select count(*) from pg_stat_activity where datname = ";
    postgres.client().value(&format!("{text}'{database}'"))
}

#[test]
fn what_alter_role_sets_holds_for_the_next_transaction_of_that_role() {
    let postgres = Postgres::start();
    let proxy = start(&postgres, "");
    let mut admin = client(&proxy, "postgres", "other_db");
    let mut app = client(&proxy, "app", "other_db");
    let mut second = client(&proxy, "app", "other_db");
    second.ask("begin");
    let (before, lent) = (app.pid(), second.pid());

    admin.value("alter role App set work_mem to '7MB'");

    assert_eq!(app.value("show work_mem"), "7MB");
    assert_ne!(app.pid(), before);
    // Who is in the middle of a transaction goes on, and finds it in the next.
    assert_eq!(second.value("show work_mem"), "4MB");
    assert_eq!(second.pid(), lent);
    second.ask("commit");
    assert_eq!(second.value("show work_mem"), "7MB");
}

#[test]
fn what_others_have_is_left_alone() {
    let postgres = Postgres::start();
    let proxy = start(&postgres, "");
    let mut admin = client(&proxy, "postgres", "other_db");
    let mut app = client(&proxy, "app", "other_db");
    let before = app.pid();

    admin.value("alter role app_two set work_mem to '7MB'");
    admin.value("alter database app_db set work_mem to '7MB'");
    // Refused: nothing was altered.
    assert_eq!(admin.ask("alter role app rename to app_two").code(), "42710");
    assert_eq!(app.ask("alter role postgres set work_mem to '7MB'").code(), "42501");

    assert_eq!(app.pid(), before);
}

#[test]
fn in_a_block_it_holds_from_the_commit_on() {
    let postgres = Postgres::start();
    let proxy = start(&postgres, "");
    let mut admin = client(&proxy, "postgres", "other_db");
    let mut app = client(&proxy, "app", "other_db");
    let before = app.pid();
    admin.ask("begin");
    admin.exchange(&extended("alter database other_db set work_mem to '7MB'", &[]));
    assert_eq!(app.pid(), before);

    admin.ask("commit");

    assert_eq!(app.value("show work_mem"), "7MB");
}

/// PostgreSQL reads its files a moment after it was told to.
#[test]
fn what_alter_system_sets_holds_for_connections_after_the_reload() {
    let postgres = Postgres::start();
    let proxy = start(&postgres, "");
    let mut admin = client(&proxy, "postgres", "other_db");
    let mut app = client(&proxy, "app", "other_db");
    assert_eq!(app.value("show ignore_system_indexes"), "off");

    // Of the kind that a connection has for good from its start.
    admin.value("alter system set ignore_system_indexes to on");
    admin.value("select pg_reload_conf()");

    wait_until("the new value is there", || app.value("show ignore_system_indexes") == "on");
}

#[test]
fn a_session_of_its_own_keeps_its_server_and_the_next_gets_a_new_one() {
    let postgres = Postgres::start();
    let proxy = start(&postgres, "pool.pool_mode = 'session'");
    let mut admin = client(&proxy, "postgres", "other_db");
    let mut app = client(&proxy, "app", "other_db");
    let before = app.pid();
    let statement = "alter role app set work_mem to '7MB'";
    // Prepared first, run later.
    admin.exchange(&[parse("s", statement), sync()].concat());
    admin.use_prepared("s");
    assert_eq!(app.value("show work_mem"), "4MB");
    assert_eq!(app.pid(), before);
    drop(app);

    assert_eq!(client(&proxy, "app", "other_db").value("show work_mem"), "7MB");
}

/// Idle servers of every user are in the way of it; PostgreSQL itself would wait 5 s and give up.
#[test]
fn idle_servers_do_not_block_drop_database() {
    let postgres = Postgres::start();
    for (drop_it, is_extended) in [
        ("drop database Other_DB", false),
        ("/* all of it */ drop database if exists \"other_db\"", true),
    ] {
        postgres.client().ask("create database other_db owner app");
        let proxy = start(&postgres, "pool.min = 1");
        let mut admin = client(&proxy, "app", "app_db");
        let mut app = client(&proxy, "app", "other_db");
        app.value("select 1");
        client(&proxy, "postgres", "other_db").value("select 1");
        let begun = Instant::now();

        let reply =
            if is_extended { admin.exchange(&extended(drop_it, &[])) } else { admin.ask(drop_it) };

        assert_eq!(reply.errors(), [], "{drop_it}");
        assert!(begun.elapsed() < Duration::from_secs(4), "{:?}", begun.elapsed());
        let error = app.ask("select 1").error();
        assert_eq!((error.code(), error.severity()), ("3D000", "ERROR"));
        assert_eq!(error.message(), "database \"other_db\" does not exist");
        assert_eq!(admin.value("select 1"), "1");
    }
}

/// Nor where it waits for its turn, or settings of the session go in front of it.
#[test]
fn idle_servers_do_not_block_a_drop_in_a_pipeline() {
    const DROP: &str = "drop database other_db";
    let postgres = Postgres::start();
    let sleep = "select pg_sleep(0.2)";
    for (sent, readies) in [
        (query(DROP), 1),
        ([query(sleep), query(DROP)].concat(), 2),
        ([query(sleep), extended(DROP, &[])].concat(), 2),
        ([extended(sleep, &[]), extended(DROP, &[])].concat(), 2),
        ([parse("d", DROP), sync(), extended(sleep, &[]), run("d", &[]), sync()].concat(), 3),
    ] {
        for mode in ["transaction", "session"] {
            postgres.client().ask("create database other_db owner app");
            let proxy = start(&postgres, &format!("pool.pool_mode = '{mode}'"));
            let login = [("user", "app"), ("database", "app_db"), ("application_name", "carried")];
            let mut admin = proxy.client_with(&login);
            client(&proxy, "app", "app_db").value("select 1");
            drop(client(&proxy, "postgres", "other_db"));
            client(&proxy, "app", "other_db").value("select 1");
            wait_until("it is idle", || connections(&postgres, "other_db") != "0");

            admin.send(&sent);

            assert_eq!(admin.read_ready(readies).errors(), [], "{mode}, {readies}");
        }
    }
}

/// What is refused in its turn closes nothing, however long it waits for that.
#[test]
fn a_drop_that_is_not_allowed_closes_nothing_in_a_pipeline() {
    let postgres = Postgres::start();
    let proxy = start(&postgres, "");
    let mut anybody = client(&proxy, "app_two", "app_db");
    let mut other = client(&proxy, "postgres", "template1");
    let before = other.pid();
    let (drop_it, sleep) = ("drop database template1", "select pg_sleep(0.2)");

    for (sent, readies, code) in [
        ([query(sleep), query(drop_it)].concat(), 2, "42501"),
        ([extended(sleep, &[]), extended(drop_it, &[])].concat(), 2, "42501"),
        // "cannot be executed within a pipeline"
        ([parse("s", sleep), run("s", &[]), extended(drop_it, &[])].concat(), 1, "25001"),
        ([parse("s", sleep), run("s", &[]), query(drop_it)].concat(), 1, "25001"),
    ] {
        anybody.exchange(&[close_statement("s"), sync()].concat());
        anybody.send(&sent);
        assert_eq!(anybody.read_ready(readies).code(), code);
    }
    // Refused in an exchange that a Flush keeps open.
    for _ in 0..3 {
        anybody.send(&[parse("", drop_it), run("", &[]), flush()].concat());
        assert_eq!(anybody.read_to(b'E').code(), "42501");
        anybody.assert_silent();
        assert_eq!(anybody.exchange(&sync()).tags(), "ZI");
    }
    // Or sent by who leaves before he is told.
    for _ in 0..3 {
        let mut leaving = client(&proxy, "app_two", "app_db");
        leaving.send(&query(drop_it));
        leaving.vanish();
        anybody.assert_silent();
    }
    // Bound, and not executed.
    anybody.send(&[parse("d", drop_it), bind("d", &[]), flush()].concat());
    assert_eq!(anybody.read_to(b'2').tags(), "12");
    for _ in 0..3 {
        anybody.assert_silent();
    }

    assert_eq!(other.pid(), before);
}

/// A text that is too long to be read whole: the server's complaint tells which database is meant.
#[test]
fn a_complaint_that_a_database_is_in_use_makes_the_next_try_succeed() {
    let postgres = Postgres::start();
    let proxy = start(&postgres, "");
    let mut admin = client(&proxy, "app", "app_db");
    client(&proxy, "app", "other_db").value("select 1");
    // Of others a part of the message is the name.
    postgres.client().ask("create database other");
    postgres.client().ask("create database accessed");
    let mut others =
        ["template1", "other", "accessed"].map(|database| client(&proxy, "postgres", database));
    let before = others.each_mut().map(Client::pid);
    let drop_it = format!("/* {} */ drop database other_db", "x".repeat(200_000));

    let error = admin.ask(&drop_it).error();
    assert_eq!((error.code(), error.routine()), ("55006", "dropdb"));

    assert_eq!(admin.ask(&drop_it).errors(), []);
    assert_eq!(others.each_mut().map(Client::pid), before);
}

/// Who may not do it is told so at once, and nobody else notices.
#[test]
fn a_drop_that_is_not_allowed_closes_nothing() {
    let postgres = Postgres::start();
    let proxy = start(&postgres, "");
    let mut anybody = client(&proxy, "app_two", "app_db");
    let mut other = client(&proxy, "postgres", "template1");
    let before = other.pid();

    assert_eq!(anybody.ask("drop database template1").code(), "42501");
    anybody.ask("begin");
    assert_eq!(anybody.ask("drop database template1").code(), "25001");
    for _ in 0..3 {
        anybody.assert_silent();
    }

    assert_eq!(other.pid(), before);
}

#[test]
fn idle_servers_do_not_block_a_copy_or_a_new_name_of_their_database() {
    let postgres = Postgres::start();
    postgres.client().ask("alter role app createdb");
    let proxy = start(&postgres, "pool.min = 1");
    let mut admin = client(&proxy, "app", "app_db");
    for (statement, database) in [
        ("create database copied template other_db strategy file_copy", "other_db"),
        ("alter database other_db rename to renamed", "other_db"),
        ("create database from_template", "template1"),
    ] {
        client(&proxy, "postgres", database).value("select 1");
        assert_eq!(connections(&postgres, database), "1");
        assert_eq!(admin.ask(statement).errors(), [], "{statement}");
    }
    assert_eq!(client(&proxy, "app", "renamed").value("select 1"), "1");
}

/// A client that is at work is in the way as it would be without pgweir; the next try succeeds.
#[test]
fn who_is_at_work_in_a_database_keeps_it() {
    let postgres = Postgres::start();
    let proxy = start(&postgres, "");
    let mut admin = client(&proxy, "app", "app_db");
    let mut app = client(&proxy, "app", "other_db");
    app.ask("begin; select 1");
    let mut idle = client(&proxy, "app", "other_db");
    idle.value("select 1");

    admin.send(&query("drop database other_db"));
    // Comes back, and a new one is opened, while PostgreSQL waits for both to go.
    for _ in 0..6 {
        admin.assert_silent();
    }
    assert_eq!(admin.read_ready(1).code(), "55006");
    assert_eq!(app.value("select 1"), "1");
    app.ask("commit");

    assert_eq!(admin.ask("drop database other_db").errors(), []);
}

/// While a database is to be left alone nothing is opened ahead in it.
#[test]
fn min_does_not_reopen_what_was_closed_for_a_drop() {
    let postgres = Postgres::start();
    let proxy = start(&postgres, "pool.min = 2");
    let mut admin = client(&proxy, "app", "app_db");
    client(&proxy, "app", "other_db").value("select 1");
    wait_until("min is there", || connections(&postgres, "other_db") == "2");
    // One that PostgreSQL has to wait for.
    let login = [("user", "postgres"), ("database", "other_db")];
    let direct = Client::log_in(&postgres.address(), &login);

    assert_eq!(admin.ask("drop database other_db").code(), "55006");

    assert_eq!(connections(&postgres, "other_db"), "1");
    drop(direct);
    assert_eq!(admin.ask("drop database other_db").errors(), []);
}

/// Whatever one's own statements are called, and in whose company a drop is that is refused.
#[test]
fn who_may_alter_nothing_disturbs_nobody() {
    let postgres = Postgres::start();
    let proxy = start(&postgres, "");
    let mut app = client(&proxy, "app", "other_db");
    let mut anybody = client(&proxy, "app_two", "other_db");
    let before = app.pid();
    for (text, code) in [
        ("select pg_sleep(0.3); drop database other_db", "25001"),
        ("select pg_sleep(0.3); alter database app_db rename to x", "42501"),
        ("select 1; select pg_reload_conf()", "42501"),
        ("select 1; alter role app set work_mem to '1MB'", "42501"),
    ] {
        assert_eq!(anybody.ask(text).code(), code, "{text}");
    }
    for text in [
        "create function pg_temp.pg_reload_conf() returns int language sql as 'select 1'; \
         select pg_temp.pg_reload_conf()",
        "alter role current_user set work_mem to '1MB'",
        "do $$ begin raise sqlstate '55006'; exception when others then null; end $$",
    ] {
        assert_eq!(anybody.ask(text).errors(), [], "{text}");
    }
    anybody.send(&[query("select pg_sleep(0.3)"), query("drop database other_db")].concat());
    assert_eq!(anybody.read_ready(2).code(), "42501");

    assert_eq!(app.pid(), before);
}

#[test]
fn what_a_session_prepares_and_does_not_run_concerns_nobody() {
    let postgres = Postgres::start();
    let proxy = start(&postgres, "pool.pool_mode = 'session'\npool.size = 1");
    let mut anybody = client(&proxy, "app_two", "other_db");
    let mut app = client(&proxy, "app", "other_db");
    let before = app.pid();
    for text in ["select pg_reload_conf()", "drop database other_db"] {
        anybody.exchange(&[parse("s", text), sync()].concat());
        anybody.exchange(&extended("select pg_sleep(0.3)", &[]));
        anybody.exchange(&[close_statement("s"), sync()].concat());
    }
    drop(app);

    app = client(&proxy, "app", "other_db");
    assert_eq!(app.pid(), before);
}

/// The tag of what was sent in front of it does not count for it.
#[test]
fn what_alter_role_sets_in_a_pipeline_holds_when_it_is_done() {
    let postgres = Postgres::start();
    let proxy = start(&postgres, "");
    let mut admin = client(&proxy, "postgres", "other_db");
    let alter = "select pg_sleep(0.5); alter role app set work_mem to '7MB'";
    admin.send(&[query("select 1"), query(alter)].concat());
    assert_eq!(admin.read_ready(1).errors(), []);
    let mut app = client(&proxy, "app", "other_db");
    assert_eq!(app.value("show work_mem"), "4MB");

    assert_eq!(admin.read_ready(1).errors(), []);

    assert_eq!(app.value("show work_mem"), "7MB");
}
