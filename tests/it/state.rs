//! What a session sets on a server: carried with it, or gone; never another session's.

use crate::support::fake_server::FakeServer;
use crate::support::messages::{extended, message, query};
use crate::support::postgres::{Postgres, USER};
use crate::support::proxy::Proxy;
use crate::support::raw_client::Client;
use crate::support::reply::Reply;
use crate::support::wait::wait_until;

const ONE: &str = "pool.size = 1\n";

fn show(client: &mut Client, name: &str) -> String {
    client.value(&format!("show {name}"))
}

/// What PostgreSQL reports follows its session to any server.
#[test]
fn reported_settings_follow_the_session_from_server_to_server() {
    let postgres = Postgres::start();
    let proxy = Proxy::start(&postgres, "pool.size = 2");
    let (mut client, mut other) = (proxy.client(), proxy.client());
    client.value("set timezone to 'Asia/Tokyo'");
    client.value("set datestyle to 'SQL, DMY'");
    client.value("set application_name to 'it''s \\ mine'");
    let first = client.pid();

    let mut blockers: Vec<_> = (0..2).map(|_| proxy.client()).collect();
    for blocker in &mut blockers {
        blocker.ask("begin");
    }
    let at = blockers.iter_mut().position(|blocker| blocker.pid() != first).unwrap();
    blockers[at].ask("rollback");

    assert_ne!(client.pid(), first);
    assert_eq!(show(&mut client, "timezone"), "Asia/Tokyo");
    assert_eq!(show(&mut client, "datestyle"), "SQL, DMY");
    assert_eq!(show(&mut client, "application_name"), "it's \\ mine");
    assert_eq!(show(&mut other, "timezone"), "UTC");
    assert_eq!(show(&mut other, "datestyle"), "ISO, MDY");
    assert_eq!(show(&mut other, "application_name"), "");
}

/// Which parameters are reported is the server's version's to say: `search_path` since 18.
#[test]
fn whatever_the_server_reports_follows_the_session() {
    let postgres = Postgres::start();
    let proxy = Proxy::start(&postgres, ONE);
    let (mut client, mut other) = (proxy.client(), proxy.client());
    let settings = [
        ("search_path", "here, public"),
        ("default_transaction_read_only", "on"),
        ("scram_iterations", "5000"),
        ("IntervalStyle", "iso_8601"),
    ];
    let is_reported = |name: &str| client.parameters.contains_key(name);
    let reported: Vec<_> = settings.into_iter().filter(|(name, _)| is_reported(name)).collect();
    assert!(reported.len() >= 2, "{reported:?}");

    for (name, value) in &reported {
        let told = client.ask(&format!("set {name} to {value}")).parameters();
        assert_eq!(told, [((*name).to_owned(), (*value).to_owned())]);
    }

    for (name, value) in &reported {
        assert_eq!(show(&mut other, name), other.parameters[*name]);
        assert_eq!(show(&mut client, name), *value);
    }
    for (name, _) in &reported {
        let told = client.ask(&format!("reset {name}")).parameters();
        assert_eq!(told, [((*name).to_owned(), other.parameters[*name].clone())]);
        assert_eq!(show(&mut client, name), other.parameters[*name]);
    }
}

/// A startup option of such a name is told in the greeting as the server would tell it.
#[test]
fn the_greeting_tells_what_the_client_asked_for_itself() {
    let postgres = Postgres::start();
    let proxy = Proxy::start(&postgres, ONE);
    let direct = postgres.client();
    proxy.client();

    let client = proxy.client_with(&[("options", "-c search_path=here -c work_mem=3MB")]);

    let names = |client: &Client| client.parameters.keys().cloned().collect::<Vec<_>>();
    assert_eq!(names(&client), names(&direct));
    if direct.parameters.contains_key("search_path") {
        assert_eq!(client.parameters["search_path"], "here");
    }
}

/// P45, P88: what is rolled back was never set.
#[test]
fn a_set_that_is_rolled_back_is_not_carried() {
    let postgres = Postgres::start();
    let proxy = Proxy::start(&postgres, ONE);
    let (mut client, mut other) = (proxy.client(), proxy.client());
    client.value("set timezone to 'Asia/Tokyo'");
    for text in [
        "begin; set timezone to 'Europe/Rome'; rollback",
        "begin; set local timezone to 'Europe/Rome'; commit",
        "begin; savepoint a; set timezone to 'Europe/Rome'; rollback to a; commit",
        "begin; set timezone to 'Europe/Rome'; select 1/0",
        "rollback",
    ] {
        client.ask(text);
    }

    assert_eq!(show(&mut other, "timezone"), "UTC");
    assert_eq!(show(&mut client, "timezone"), "Asia/Tokyo");
}

/// P86: the RESET of one setting does not forget another.
#[test]
fn a_reset_of_one_setting_keeps_the_others() {
    let postgres = Postgres::start();
    let proxy = Proxy::start(&postgres, ONE);
    let (mut client, mut other) = (proxy.client(), proxy.client());
    client.value("set timezone to 'Asia/Tokyo'; set datestyle to 'SQL, DMY'");

    client.value("begin; set timezone to 'Europe/Rome'; reset datestyle; commit");

    assert_eq!(show(&mut other, "timezone"), "UTC");
    assert_eq!(show(&mut client, "timezone"), "Europe/Rome");
    assert_eq!(show(&mut client, "datestyle"), "ISO, MDY");
}

/// RESET goes back to what the client asked for at startup, as it does without a pooler: in every mode.
#[test]
fn resets_go_back_to_the_startup_values() {
    let postgres = Postgres::start();
    let startup = [
        ("TimeZone", "Asia/Tokyo"),
        ("application_name", "mine"),
        ("options", "-c work_mem=3MB -c search_path=here"),
    ];
    for mode in ["transaction", "statement", "session"] {
        let size = if mode == "session" { 2 } else { 1 };
        let config = format!("pool.size = {size}\npool.pool_mode = '{mode}'");
        let proxy = Proxy::start(&postgres, &config);
        for reset in ["reset all", "discard all", "reset timezone; reset application_name"] {
            let (mut client, mut other) = (proxy.client_with(&startup), proxy.client());
            client.value("set timezone to 'Europe/Rome'; set application_name to 'other'");

            client.value(reset);

            for _ in 0..2 {
                assert_eq!(show(&mut client, "timezone"), "Asia/Tokyo", "{mode}, {reset}");
                assert_eq!(show(&mut client, "application_name"), "mine", "{mode}, {reset}");
                assert_eq!(show(&mut client, "work_mem"), "3MB", "{mode}, {reset}");
                assert_eq!(show(&mut client, "search_path"), "here", "{mode}, {reset}");
                assert_eq!(show(&mut other, "timezone"), "UTC", "{mode}, {reset}");
                assert_eq!(show(&mut other, "work_mem"), "4MB", "{mode}, {reset}");
            }
        }
    }
}

/// Whatever a client calls an encoding, it is told the name that PostgreSQL has for it: at login, at a SET
/// and at a RESET.
#[test]
fn an_encoding_is_reported_as_the_server_names_it() {
    let postgres = Postgres::start();
    let told = |reply: &Reply| {
        let mut all = reply.parameters().into_iter();
        all.rfind(|(name, _)| name == "client_encoding").map(|(_, value)| value)
    };
    for mode in ["transaction", "statement", "session"] {
        let proxy = Proxy::start(&postgres, &format!("pool.pool_mode = '{mode}'"));
        for (asked, named) in [("utf-8", "UTF8"), ("Unicode", "UTF8"), ("iso8859-1", "LATIN1")] {
            let login = [("user", USER), ("database", "main"), ("client_encoding", asked)];
            let (mut client, reply) = Client::log_in_as(&proxy.address, 0, &login);
            assert_eq!(told(&reply).as_deref(), Some(named), "{mode}, {asked}");

            let set = client.ask("set client_encoding to 'latin-9'");
            assert_eq!(told(&set).as_deref(), Some("LATIN9"), "{mode}, {asked}");
            let reset = client.ask("reset client_encoding");
            assert_eq!(told(&reset).as_deref(), Some(named), "{mode}, {asked}");
            assert_eq!(show(&mut client, "client_encoding"), named, "{mode}, {asked}");
        }
    }
}

/// The client is told what it has, not what the server fell back to.
#[test]
fn a_reset_reports_the_startup_value_to_the_client() {
    let postgres = Postgres::start();
    let proxy = Proxy::start(&postgres, ONE);
    let mut client = proxy.client_with(&[("TimeZone", "Asia/Tokyo")]);
    client.value("set timezone to 'Europe/Rome'");

    let reply = client.ask("reset timezone");

    let told = reply.parameters().into_iter().rfind(|(name, _)| name == "TimeZone");
    assert_eq!(told.unwrap().1, "Asia/Tokyo");
    assert_eq!(show(&mut client, "timezone"), "Asia/Tokyo");
}

/// P73: a client is told what changes for it, and only that.
#[test]
fn a_client_hears_of_its_own_settings_alone() {
    let postgres = Postgres::start();
    let proxy = Proxy::start(&postgres, ONE);
    let (mut client, mut other) = (proxy.client(), proxy.client());

    let told = client.ask("set timezone to 'Asia/Tokyo'").parameters();
    assert_eq!(told, [("TimeZone".to_owned(), "Asia/Tokyo".to_owned())]);
    assert_eq!(other.ask("select 1").parameters(), []);
    assert_eq!(client.ask("select 1").parameters(), []);
}

/// P44: the server's own spelling is taken over once, and costs nothing from then on.
#[test]
fn a_setting_that_the_server_spells_otherwise_is_not_set_again_and_again() {
    let postgres = Postgres::start();
    let proxy = Proxy::start(&postgres, ONE);
    let mut client = proxy.client_with(&[("DateStyle", "iso"), ("TimeZone", "utc")]);
    assert_eq!(client.parameters["DateStyle"], "ISO, MDY");
    client.value("select 1");
    let before = proxy.pool().traffic.bytes_sent.value();
    let reply = client.ask("select 1");

    // T, D, C and Z of one row of one column, and nothing swallowed that would have been read.
    let size: usize = reply.0.iter().map(|message| message.body.len() + 5).sum();
    assert_eq!(proxy.pool().traffic.bytes_sent.value() - before, size as u64);
    assert_eq!(reply.parameters(), []);
    assert_eq!(show(&mut client, "datestyle"), "ISO, MDY");
}

/// P44: values that have to be quoted, empty ones, and a list.
#[test]
fn startup_values_of_any_kind_reach_the_server_unmangled() {
    let postgres = Postgres::start();
    let proxy = Proxy::start(&postgres, ONE);
    let long = "x".repeat(60);
    for (name, value, shown) in [
        ("search_path", r#""a,b", "", c"#, r#""a,b", "", c"#),
        ("application_name", "", ""),
        ("application_name", "it's a \\ \"name\"", "it's a \\ \"name\""),
        ("application_name", long.as_str(), long.as_str()),
    ] {
        let (mut client, mut other) =
            (proxy.client_with(&[(name, value)]), proxy.client_with(&[("TimeZone", "Asia/Tokyo")]));
        for _ in 0..2 {
            assert_eq!(show(&mut client, name), shown);
            assert_eq!(show(&mut other, "timezone"), "Asia/Tokyo");
        }
    }
}

/// What leaves state behind that PostgreSQL does not report, and how to look for it.
const LEAVES: [(&str, &str, &str); 15] = [
    // pgbouncer.md row 7.
    ("set statement_timeout to '1h'", "show statement_timeout", "0"),
    ("set search_path to here", "show search_path", "\"$user\", public"),
    ("set work_mem to '1MB'", "show work_mem", "4MB"),
    ("select set_config('work_mem', '1MB', false)", "show work_mem", "4MB"),
    ("set role app_two", "select current_user", "app"),
    ("set my.own to 'x'", "select coalesce(current_setting('my.own', true), '')", ""),
    // pgbouncer.md row 8, with the advisory lock below.
    ("create temp table t ()", "select to_regclass('pg_temp.t') is null", "t"),
    ("create temporary view v as select 1", "select to_regclass('v') is null", "t"),
    ("select 1 as n into temp t", "select to_regclass('pg_temp.t') is null", "t"),
    // pgbouncer.md row 5: and the name is free for another session's PREPARE.
    ("prepare p as select 1", "select count(*) from pg_prepared_statements", "0"),
    ("listen here", "select count(*) from pg_listening_channels()", "0"),
    (
        "select pg_advisory_lock(42)",
        "select count(*) from pg_locks where locktype = 'advisory'",
        "0",
    ),
    ("declare c cursor with hold for select 1", "select count(*) from pg_cursors", "0"),
    ("do $$ begin perform set_config('work_mem', '1MB', false); end $$", "show work_mem", "4MB"),
    ("begin; set session work_mem to '1MB'; commit", "show work_mem", "4MB"),
];

/// Leaves each kind of state behind in one session, and looks for it in another.
fn assert_isolated(mode: &str) {
    let postgres = Postgres::start();
    postgres.client().value("grant app_two to app");
    let proxy = Proxy::start(&postgres, &format!("pool.size = 1\npool.pool_mode = '{mode}'"));
    for (leave, look, clean) in LEAVES {
        if mode == "statement" && leave.starts_with("begin") {
            continue;
        }
        for extended_protocol in [false, true] {
            let mut client = proxy.client();
            let reply = if extended_protocol && !leave.starts_with("begin") {
                client.exchange(&extended(leave, &[]))
            } else {
                client.ask(leave)
            };
            assert_eq!(reply.errors(), [], "{leave}");
            if mode == "session" {
                // The server is free for another only when its session is over.
                client.send(&crate::support::messages::terminate());
            }

            assert_eq!(proxy.client().value(look), clean, "{mode}: {leave}");
        }
    }
    proxy.wait_for_pool("one server is left", |pool| pool.servers.total() == 1);
}

/// P87
#[test]
fn in_transaction_mode_no_session_sees_what_another_left() {
    assert_isolated("transaction");
}

#[test]
fn in_statement_mode_no_session_sees_what_another_left() {
    assert_isolated("statement");
}

#[test]
fn in_session_mode_no_session_sees_what_another_left() {
    assert_isolated("session");
}

#[test]
fn in_session_mode_a_session_keeps_its_server_and_its_state() {
    let postgres = Postgres::start();
    let proxy = Proxy::start(&postgres, "pool.size = 2\npool.pool_mode = 'session'");
    let (mut client, mut other) = (proxy.client(), proxy.client());
    let pid = client.pid();
    // BackendKeyData names the server itself here.
    assert_eq!(client.key.0.to_string(), pid);
    client.value("create temp table mine as select 7 as n");
    client.value("set work_mem to '1MB'");
    client.value("prepare p as select 'prepared'");
    other.value("select 1");

    assert_eq!(client.pid(), pid);
    assert_eq!(client.value("select n from mine"), "7");
    assert_eq!(client.value("execute p"), "prepared");
    assert_eq!(show(&mut client, "work_mem"), "1MB");
}

#[test]
fn in_session_mode_a_third_client_of_two_servers_waits_at_login() {
    let postgres = Postgres::start();
    let proxy = Proxy::start(&postgres, "pool.size = 1\npool.pool_mode = 'session'");
    let client = proxy.client();
    let mut waiter = proxy.connect();
    waiter.send(&crate::support::messages::startup(&[("user", "app"), ("database", "main")]));
    proxy.wait_for_waiting(1);

    drop(client);

    waiter.finish_login().unwrap();
    assert_eq!(waiter.value("select 1"), "1");
}

#[test]
fn in_statement_mode_a_block_is_refused_and_undone() {
    let postgres = Postgres::start();
    let proxy = Proxy::start(&postgres, "pool.size = 1\npool.pool_mode = 'statement'");
    let mut client = proxy.client();

    let reply = client.ask("begin");

    assert_eq!(reply.status(), Some('I'));
    assert_eq!(reply.errors()[0].code(), "0A000");
    assert_eq!(client.value("select 1"), "1");
    // A block that begins and ends in one message never was open between statements.
    assert_eq!(client.ask("begin; create table t (); commit").errors(), []);
    assert_eq!(client.value("select count(*) from t"), "0");
}

/// An advisory lock of a transaction ends with it and needs no cleaning.
#[test]
fn what_ends_with_the_transaction_costs_no_reset() {
    let postgres = Postgres::start();
    let proxy = Proxy::start(&postgres, ONE);
    let mut client = proxy.client();
    let first = client.pid();
    for text in [
        "begin; set local work_mem to '1MB'; commit",
        "select pg_advisory_xact_lock(1)",
        "begin; declare c cursor for select 1; fetch c; commit",
        "begin; create temp table t () on commit drop; commit",
    ] {
        assert_eq!(client.ask(text).errors(), [], "{text}");
    }

    assert_eq!(client.pid(), first);
    assert_eq!(show(&mut client, "work_mem"), "4MB");
}

/// P73: also on a server that was waited for.
#[test]
fn settings_are_carried_to_a_server_that_was_waited_for() {
    let postgres = Postgres::start();
    let proxy = Proxy::start(&postgres, ONE);
    let mut holder = proxy.client_with(&[("TimeZone", "Europe/Rome")]);
    let mut waiter = proxy.client_with(&[("TimeZone", "Asia/Tokyo")]);
    holder.ask("begin; select 1");
    waiter.send(&query("show timezone"));
    proxy.wait_for_waiting(1);

    holder.ask("commit");

    assert_eq!(waiter.read_ready(1).values(), "Asia/Tokyo");
}

/// What DISCARD ALL does not take back, and what another session that asks for it must deny.
fn what_lasts(postgres: &Postgres) -> Vec<(String, String)> {
    let mut direct = postgres.client();
    let host = postgres.host();
    let folder = host.strip_suffix(":5432").unwrap();
    for text in [
        "create extension dblink",
        "select pg_replication_origin_create('elsewhere')",
        "create function seeds() returns void language sql as 'select setseed(0.25)'",
        "create function slots() returns text language sql as \
         $$ select slot_name::text from \
         pg_create_physical_replication_slot('a_' || pg_backend_pid(), true, true) $$",
        "create function origin() returns void language sql as \
         $$ select pg_replication_origin_session_setup('elsewhere') $$",
    ] {
        assert_eq!(direct.ask(text).errors(), [], "{text}");
    }
    let is_seeded = |seed: &str| {
        let value = postgres.client().ask(&format!("select setseed({seed}); select random()"));
        format!("select random()::text = '{}'", value.values().trim())
    };
    let has_origin = "select pg_replication_origin_session_is_setup()";
    let has_slot = "select pg_backend_pid() in (select active_pid from pg_replication_slots)";
    let slot = "select pg_create_physical_replication_slot('b_' || pg_backend_pid(), true, true)";
    let text = |leaves: &str, looks: &str| (leaves.to_owned(), looks.to_owned());
    vec![
        text("select setseed(0.5)", &is_seeded("0.5")),
        text("set seed to 0.5", &is_seeded("0.5")),
        text("select set_config('seed', '0.5', true)", &is_seeded("0.5")),
        text(
            "load 'auto_explain'",
            "select count(*) > 0 from pg_settings where name ~ '^auto_explain'",
        ),
        text("select seeds() as hidden", &is_seeded("0.25")),
        text("select pg_replication_origin_session_setup('elsewhere')", has_origin),
        text("select origin() as hidden", has_origin),
        text(slot, has_slot),
        text("select slots() as hidden", has_slot),
        text(
            &format!("select dblink_connect('mine', 'host={folder} dbname=app_db user=app')"),
            "select dblink_get_connections() is not null",
        ),
        // A session that has begun one may not begin another.
        text("select pg_backup_start('mine', true)", "select pg_backup_start('b', true) is null"),
    ]
}

/// P87: where a function hides it, in session mode alone.
#[test]
fn what_discard_all_leaves_is_not_left_to_another_session() {
    let postgres = Postgres::start_replicated();
    let lasting = what_lasts(&postgres);
    for mode in ["transaction", "statement", "session"] {
        let changes = format!("pool.size = 1\npool.pool_mode = '{mode}'");
        let proxy = Proxy::start(&postgres, &format!("{changes}\ndomains.main.user = 'postgres'"));
        for (leaves, looks) in &lasting {
            if leaves.ends_with("as hidden") && mode != "session" {
                continue;
            }
            let mut client = proxy.client();
            assert_eq!(client.ask(leaves).errors(), [], "{leaves}");
            client.send(&crate::support::messages::terminate());

            let found = proxy.client().ask(looks);

            assert_eq!(found.errors(), [], "{mode}: {leaves}");
            assert_eq!(found.values(), "f", "{mode}: {leaves}");
        }
    }
}

/// Who may not set an origin is not asked for one, and keeps its server.
#[test]
fn a_session_that_left_nothing_lasting_leaves_its_server() {
    let postgres = Postgres::start();
    for user in ["app", "postgres"] {
        let changes = format!("{ONE}pool.pool_mode = 'session'\ndomains.main.user = '{user}'");
        let proxy = Proxy::start(&postgres, &changes);
        let mut client = proxy.client();
        let pid = client.pid();
        client.send(&crate::support::messages::terminate());

        assert_eq!(proxy.client().pid(), pid, "{user}");
    }
}

/// What no word tells of is discarded with the session all the same.
#[test]
fn in_session_mode_a_server_is_cleaned_whatever_was_seen() {
    let postgres = Postgres::start();
    let proxy = Proxy::start(&postgres, "pool.size = 1\npool.pool_mode = 'session'");
    postgres.client().value(
        "create function hidden() returns void language plpgsql as \
         $$ begin create temp table unseen (); end $$",
    );
    let mut client = proxy.client();
    client.value("select hidden()");
    client.send(&crate::support::messages::terminate());

    assert_eq!(proxy.client().value("select to_regclass('unseen') is null"), "t");
}

/// Settings are put in front of the first statement, in the same exchange.
#[test]
fn settings_are_carried_in_front_of_a_pipeline_too() {
    let postgres = Postgres::start();
    let proxy = Proxy::start(&postgres, ONE);
    let mut client = proxy.client_with(&[("TimeZone", "Asia/Tokyo")]);
    let mut other = proxy.client_with(&[("TimeZone", "Europe/Rome")]);
    let show = "select current_setting('timezone')";
    for _ in 0..3 {
        client.send(&[extended(show, &[]), query(show), extended(show, &[])].concat());
        other.send(&[query(show), extended(show, &[])].concat());
        assert_eq!(client.read_ready(3).values(), "Asia/Tokyo Asia/Tokyo Asia/Tokyo");
        let reply = other.read_ready(2);
        assert_eq!(reply.values(), "Europe/Rome Europe/Rome");
        assert_eq!(reply.tags(), "TDCZI12DCZI");
    }
}

/// P73: what a client has not set itself is the server's, of which it hears when it changes. What it
/// has set it keeps.
#[test]
fn what_the_servers_own_configuration_changes_is_told_to_who_has_not_set_it() {
    let postgres = Postgres::start();
    let proxy = Proxy::start(&postgres, ONE);
    let mut keeps = proxy.client_with(&[("TimeZone", "Asia/Tokyo")]);
    let mut hears = proxy.client_with(&[("application_name", "hears")]);
    assert_eq!(show(&mut hears, "timezone"), "UTC");
    // Behind our back, and on a server that stays.
    let mut direct = postgres.client();
    assert_eq!(direct.ask("alter system set timezone to 'Europe/Rome'").errors(), []);
    direct.value("select pg_reload_conf()");

    // Taken in while `keeps` has the server, whose own value it does not touch.
    let own = "select reset_val from pg_settings where name = 'TimeZone'";
    wait_until("the server has read its files", || keeps.value(own) == "Europe/Rome");

    let reply = hears.ask("show timezone");

    assert_eq!(reply.values(), "Europe/Rome");
    assert_eq!(reply.parameters(), [("TimeZone".to_owned(), "Europe/Rome".to_owned())]);
    assert_eq!(show(&mut keeps, "timezone"), "Asia/Tokyo");
    assert_eq!(keeps.ask("select 1").parameters(), []);
    assert_eq!(proxy.client().parameters["TimeZone"], "Europe/Rome");
}

/// P73: what the server reports inside a client's own exchange cannot be told from what the client
/// does there, and is taken for that; who comes next puts it right for all.
#[test]
fn what_changes_in_the_midst_of_a_clients_statement_is_found_out_by_the_next() {
    let postgres = Postgres::start();
    let proxy = Proxy::start(&postgres, ONE);
    let (mut first, mut next) = (proxy.client(), proxy.client());
    assert_eq!(show(&mut first, "timezone"), "UTC");
    let mut direct = postgres.client();
    assert_eq!(direct.ask("alter system set timezone to 'Europe/Rome'").errors(), []);
    direct.value("select pg_reload_conf()");
    let mut told = Vec::new();
    wait_until("the server has read its files", || {
        let reply = first.ask("show timezone");
        told.extend(reply.parameters());
        reply.values() == "Europe/Rome"
    });
    assert_eq!(told, [("TimeZone".to_owned(), "Europe/Rome".to_owned())]);

    let reply = next.ask("show timezone");

    assert_eq!(reply.values(), "Europe/Rome");
    assert_eq!(reply.parameters(), told);
    assert_eq!(proxy.client().parameters["TimeZone"], "Europe/Rome");
}

/// P73: also where a server that was opened later reports something else.
#[test]
fn what_a_new_server_reports_otherwise_is_told() {
    let postgres = Postgres::start();
    // Nothing else calls the session that waits.
    let proxy = Proxy::start(
        &postgres,
        &format!("{ONE}\npool.wait_notice = \"0s\"\npool.timeout = \"60s\""),
    );
    let (mut keeps, mut hears) = (proxy.client_with(&[("TimeZone", "Asia/Tokyo")]), proxy.client());
    hears.value("select 1");
    let mut direct = postgres.client();
    direct.value("alter role app set timezone to 'Europe/Rome'");
    direct.value("select pg_terminate_backend(pid) from pg_stat_activity where usename = 'app'");
    wait_until("the server is gone", || postgres.connections() == 0);

    let reply = hears.ask("show timezone");

    assert_eq!(reply.values(), "Europe/Rome");
    assert_eq!(reply.parameters(), [("TimeZone".to_owned(), "Europe/Rome".to_owned())]);
    assert_eq!(hears.ask("select 1").parameters(), []);
    let reply = keeps.ask("show timezone");
    assert_eq!((reply.values().as_str(), reply.parameters()), ("Asia/Tokyo", Vec::new()));
}

/// P72: what carries the settings over is not waited for. Here it is not even answered before what
/// comes behind it has arrived.
#[test]
fn carrying_settings_over_costs_no_round_trip() {
    let server = FakeServer::start(|peer| {
        peer.welcome();
        let mut zone = "UTC";
        while let Some(mut asked) = peer.read_to(b'Q') {
            let text = String::from_utf8_lossy(&asked.body).into_owned();
            if text.contains("set_config") || text.starts_with("set ") {
                zone = if text.contains("Asia/Tokyo") { "Asia/Tokyo" } else { "UTC" };
            }
            if text.contains("set_config") {
                let Some(behind) = peer.read_to(b'Q') else { return };
                asked = behind;
                peer.send(b'S', format!("TimeZone\0{zone}\0").as_bytes());
                peer.row(zone);
                peer.complete("SELECT 1");
                peer.ready(b'I');
            } else if text.starts_with("set ") {
                peer.send(b'S', format!("TimeZone\0{zone}\0").as_bytes());
            }
            let is_show = asked.body.starts_with(b"show");
            if is_show {
                peer.row(zone);
            }
            peer.complete("DONE");
            peer.ready(b'I');
        }
    });
    let proxy = Proxy::before(&server.host(), ONE);
    let (mut client, mut other) = (proxy.client(), proxy.client());
    client.value("set timezone to 'Asia/Tokyo'");

    for _ in 0..2 {
        assert_eq!(other.ask("show timezone").values(), "UTC");
        let reply = client.ask("show timezone");
        assert_eq!((reply.tags().as_str(), reply.values().as_str()), ("DCZI", "Asia/Tokyo"));
    }
    assert_eq!(server.connections(), 1);
}

/// A session that keeps its server is reset to what it asked for, not to what the server began with.
#[test]
fn reset_all_in_session_mode_returns_to_the_startup_values() {
    let postgres = Postgres::start();
    let proxy = Proxy::start(&postgres, "pool.pool_mode = 'session'\n");
    let asked = [("TimeZone", "Asia/Tokyo"), ("options", "-c search_path=pg_catalog")];
    let mut client = proxy.client_with(&asked);

    for reset in ["reset all", "discard all"] {
        client.ask("set timezone = 'UTC'");
        client.ask(reset);
        assert_eq!(client.value("show timezone"), "Asia/Tokyo", "{reset}");
        assert_eq!(client.value("show search_path"), "pg_catalog", "{reset}");
    }
}

/// P87: there are ways to set something in which no SET is to be read.
#[test]
fn what_is_set_without_a_set_reaches_nobody_else() {
    let postgres = Postgres::start();
    let proxy = Proxy::start(&postgres, ONE);
    let (mut one, mut two) = (proxy.client(), proxy.client());
    let sets = "set_config(''work_mem'', ''1234kB'', false)";
    for text in [
        "update pg_settings set setting = 1234 where name = 'work_mem'".to_owned(),
        "with x as (select 1) update pg_catalog.pg_settings set setting = 1234 \
         where name = 'work_mem'"
            .into(),
        format!("select query_to_xml('select {sets}', true, true, '')"),
        format!("select ts_stat('select {sets}::tsvector')"),
        format!("select * from ts_rewrite('a', 'select {sets}::tsquery, ''b''::tsquery')"),
    ] {
        for bytes in [query(&text), extended(&text, &[])] {
            let _reply = one.exchange(&bytes);

            assert_eq!(two.value("show work_mem"), "4MB", "{text}");
        }
    }
}

/// The name of the schema stands in a string, or nowhere.
#[test]
fn a_table_that_is_temporary_without_a_word_reaches_nobody_else() {
    let postgres = Postgres::start();
    let proxy = Proxy::start(&postgres, ONE);
    postgres.client().ask("create table t (n int); insert into t values (42)");
    postgres.client().ask("grant select on t to public");
    for (options, text) in [
        ("", "begin; set local search_path to 'pg_temp'; create table t (n int); commit"),
        ("", "begin; set local schema 'pg_temp'; select 1 as n into t; commit"),
        (
            "",
            "begin; select set_config('search_path', 'pg_' || 'temp', true); \
              create table t (n int); commit",
        ),
        ("-c search_path=pg_temp,public", "create table t (n int)"),
        ("-c search_path=pg_temp,public", "select 1 as n into t"),
    ] {
        let mut one = proxy.client_with(&[("options", options)]);
        assert_eq!(one.ask(text).errors(), [], "{text}");

        assert_eq!(proxy.client().ask("select n from t").values(), "42", "{text}");
    }
}

/// In these encodings the second half of a letter may look like a backslash.
#[test]
fn a_letter_that_looks_like_a_backslash_hides_no_set() {
    let postgres = Postgres::start();
    let proxy = Proxy::start(&postgres, ONE);
    let mut two = proxy.client();
    for (encoding, letter) in [("SJIS", b"\x95\x5c"), ("BIG5", b"\xa5\x5c"), ("GBK", b"\x81\x5c")] {
        let mut one = proxy.client_with(&[("client_encoding", encoding)]);
        let text =
            [b"select E'", &letter[..], b"'; set work_mem to '1234kB'; select ''\0"].concat();
        assert_eq!(one.exchange(&message(b'Q', &text)).errors(), [], "{encoding}");

        assert_eq!(two.value("show work_mem"), "4MB", "{encoding}");
    }
}
