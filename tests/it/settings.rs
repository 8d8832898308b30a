//! A client's settings, as it is told them and as it finds them: shown by doing the same with and
//! without pgweir.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};

use crate::support::fake_server::FakeServer;
use crate::support::messages::{message, parse, query, run, sync};
use crate::support::postgres::{DATABASE, Postgres, USER};
use crate::support::proxy::Proxy;
use crate::support::random::Random;
use crate::support::raw_client::Client;
use crate::support::wait::wait_until;

const ONE: &str = "pool.size = 1\npool.max_overflow = 0\n";

type Startup<'a> = &'a [(&'a str, &'a str)];

const TOKYO: Startup<'_> = &[("TimeZone", "Asia/Tokyo")];

fn direct(postgres: &Postgres, startup: Startup<'_>) -> Client {
    let all = [&[("user", USER), ("database", DATABASE)], startup].concat();
    Client::log_in(&postgres.address(), &all)
}

fn terminate(postgres: &Postgres, pid: &str) {
    let mut observer = postgres.client();
    observer.value(&format!("select pg_terminate_backend({pid})"));
    let count = format!("select count(*) from pg_stat_activity where pid = {pid}");
    wait_until("the server is gone", || observer.value(&count) == "0");
}

/// One pipeline of these statements.
fn extended(texts: &[&str]) -> Vec<u8> {
    let each = texts.iter().map(|text| [parse("", text), run("", &[])].concat());
    [each.collect::<Vec<_>>().concat(), sync()].concat()
}

/// What a client sees of one round.
#[derive(Debug, PartialEq)]
struct Seen {
    codes: Vec<String>,
    tags: String,
    told: BTreeMap<String, String>,
    settings: Vec<String>,
}

/// Sends `bytes`, and looks at what is in force behind them, unless nothing can be looked at.
fn round(client: &mut Client, bytes: &[u8], ready: usize) -> Seen {
    client.send(bytes);
    let reply = client.read_ready(ready);
    let has_failed = reply.status() == Some('E');
    let names = ["timezone", "datestyle", "application_name", "intervalstyle"];
    let shown = names.iter().filter(|_| !has_failed);
    Seen {
        codes: reply.errors().iter().map(|error| error.code().to_owned()).collect(),
        tags: reply.tags().chars().filter(|tag| "ECZITE".contains(*tag)).collect(),
        told: reply.parameters().into_iter().collect(),
        settings: shown.map(|name| client.value(&format!("show {name}"))).collect(),
    }
}

/// P86, P88: what a text says, and what it leads to.
#[test]
fn settings_are_those_of_a_direct_connection_whatever_a_text_resets() {
    let postgres = Postgres::start();
    let proxy = Proxy::start(&postgres, ONE);
    let tokyo = query("set timezone to 'Asia/Tokyo'");
    let begin = query("begin");
    let berlin = "reset timezone; set local timezone to 'Europe/Berlin'";
    let cases: &[(Startup<'_>, &[Vec<u8>])] = &[
        // A tag is no proof: what it was about is undone.
        (&[], &[tokyo.clone(), query("reset all; select 1/0")]),
        (&[], &[tokyo.clone(), begin.clone(), query("savepoint a; reset all; rollback to a")]),
        // What one statement resets, another does not.
        (&[], &[tokyo, [query("reset work_mem"), query("select 1/0; reset all")].concat()]),
        (
            &[],
            &[
                query("set datestyle to german"),
                [query("reset timezone"), query("select 1; discard all")].concat(),
            ],
        ),
        // Outside of a block there is no transaction to be local to.
        (TOKYO, &[query("set timezone to 'UTC'"), query("set local timezone to default")]),
        (TOKYO, &[query("set timezone to 'UTC'; set local timezone to default")]),
        (TOKYO, &[query("set timezone to default; set local timezone to default")]),
        // What holds until the transaction ends hides what is reset for the session.
        (TOKYO, &[query(berlin)]),
        (TOKYO, &[begin.clone(), query(berlin), query("commit")]),
        (TOKYO, &[query(&format!("begin; {berlin}")), query("commit")]),
        (TOKYO, &[query(&format!("begin; {berlin}; commit"))]),
        (TOKYO, &[query(&format!("begin; savepoint a; {berlin}")), query("commit")]),
        (TOKYO, &[begin.clone(), query("reset timezone"), query(berlin), query("rollback")]),
        (
            &[("DateStyle", "German")],
            &[
                begin.clone(),
                extended(&["reset datestyle", "set local datestyle to 'ISO, MDY'"]),
                query("commit"),
            ],
        ),
        // A value that is the server's own may have been set.
        (TOKYO, &[query("reset timezone; set timezone to 'UTC'")]),
        (
            TOKYO,
            &[
                begin.clone(),
                query("reset timezone"),
                query("set timezone to 'UTC'"),
                query("commit"),
            ],
        ),
        (TOKYO, &[[query("reset timezone"), query("set timezone to 'UTC'")].concat()]),
        (TOKYO, &[extended(&["reset timezone", "set timezone to 'UTC'"])]),
        // A pipeline is one transaction.
        (TOKYO, &[extended(&["reset all", "set local timezone to default"])]),
        (TOKYO, &[extended(&["set timezone to default", "set local timezone to default"])]),
        (
            TOKYO,
            &[
                query("set timezone to 'Europe/Rome'"),
                begin,
                extended(&["set local timezone to default", "select 1"]),
                query("commit"),
            ],
        ),
        (TOKYO, &[query("select set_config('timezone', null, false)")]),
    ];
    for (startup, rounds) in cases {
        let mut plain = direct(&postgres, startup);
        let mut through = proxy.client_with(startup);
        for bytes in *rounds {
            let text = String::from_utf8_lossy(bytes).into_owned();
            let ready = boundaries(bytes);
            let expected = round(&mut plain, bytes, ready);
            let got = round(&mut through, bytes, ready);
            assert_eq!(got, expected, "{startup:?} {text:?}");
        }
    }
}

/// Messages that are answered by a `ReadyForQuery`.
fn boundaries(mut bytes: &[u8]) -> usize {
    let mut count = 0;
    while let [tag, a, b, c, d, ..] = *bytes {
        count += usize::from(matches!(tag, b'Q' | b'S'));
        let len = usize::try_from(u32::from_be_bytes([a, b, c, d])).unwrap();
        bytes = &bytes[len + 1..];
    }
    count
}

const STATEMENTS: [&str; 27] = [
    "set timezone to 'Asia/Tokyo'",
    "set timezone to 'UTC'",
    "set local timezone to 'Europe/Berlin'",
    "reset timezone",
    "set timezone to default",
    "set local timezone to default",
    "reset all",
    "set datestyle to german",
    "set datestyle to 'SQL, DMY'",
    "reset datestyle",
    "set local datestyle to 'ISO, MDY'",
    "begin",
    "commit",
    "rollback",
    "savepoint a",
    "rollback to a",
    "release a",
    "commit and chain",
    "rollback and chain",
    "select 1/0",
    "select 1",
    "set intervalstyle to 'iso_8601'",
    "select set_config('timezone', 'Asia/Tokyo', false)",
    "set application_name to 'zz'",
    "reset application_name",
    "set session characteristics as transaction read write",
    "discard all",
];

const STARTUPS: [Startup<'_>; 3] =
    [&[], &[("DateStyle", "German")], &[("TimeZone", "Asia/Tokyo"), ("application_name", "me")]];

/// Random sequences, the same each time. `SETTINGS_SEEDS=1000` plays more of them.
#[test]
fn settings_are_those_of_a_direct_connection_after_any_strings_and_pipelines() {
    let postgres = Postgres::start();
    let seeds = std::env::var("SETTINGS_SEEDS").map_or(40, |seeds| seeds.parse().unwrap());
    let mut wrong = Vec::new();
    for size in [1, 2] {
        let proxy =
            Proxy::start(&postgres, &format!("pool.size = {size}\npool.max_overflow = 0\n"));
        for seed in 0..seeds {
            wrong.extend(play(&postgres, &proxy, seed * 2 + size));
        }
    }
    assert!(wrong.is_empty(), "{} wrong:\n{}", wrong.len(), wrong.join("\n"));
}

/// Plays one sequence; what was other than on a direct connection.
fn play(postgres: &Postgres, proxy: &Proxy, seed: u64) -> Option<String> {
    let mut random = Random::new(seed);
    let startup = *random.one(&STARTUPS);
    let mut plain = direct(postgres, startup);
    let mut through = proxy.client_with(startup);
    let theirs = *random.one(&STARTUPS);
    let mut other = proxy.client_with(theirs);
    let mut done = vec![format!("seed {seed} {startup:?}")];
    for _ in 0..6 {
        let requests = 1 + random.below(2);
        let mut bytes = Vec::new();
        for _ in 0..requests {
            let texts: Vec<_> = (0..=random.below(3)).map(|_| *random.one(&STATEMENTS)).collect();
            if random.below(3) == 0 {
                bytes.extend(extended(&texts));
                done.push(format!("X[{}]", texts.join(" | ")));
            } else {
                bytes.extend(query(&texts.join("; ")));
                done.push(format!("Q[{}]", texts.join("; ")));
            }
        }
        let expected = round(&mut plain, &bytes, requests);
        let got = round(&mut through, &bytes, requests);
        if got != expected {
            return Some(format!("{}\n  expected {expected:?}\n  got {got:?}", done.join(" ")));
        }
        if !expected.tags.ends_with(['T', 'E']) {
            other.ask("select 1");
        }
    }
    None
}

/// P88: what is rolled back with its server was never set, and the client hears so.
#[test]
fn settings_of_a_transaction_end_with_the_server_that_it_is_lost_with() {
    let postgres = Postgres::start();
    let proxy = Proxy::start(&postgres, ONE);
    for text in [
        "set local timezone to 'Asia/Tokyo'",
        "set timezone to 'Asia/Tokyo'",
        "reset timezone",
        "set application_name to 'x'",
    ] {
        let mut client = proxy.client();
        client.ask("set timezone to 'Europe/Rome'");
        client.ask("begin");
        let name = client.ask(text).parameters().remove(0).0;
        let pid = client.pid();

        terminate(&postgres, &pid);

        let told = client.read();
        assert_eq!((told.tag, told.texts()[0].as_str()), (b'S', name.as_str()), "{text}");
        assert_eq!(client.read().tag, b'N', "{text}");
        client.ask("rollback");
        assert_eq!(client.value("show timezone"), "Europe/Rome", "{text}");
        assert_eq!(client.value("show application_name"), "", "{text}");
    }
}

/// P88
#[test]
fn settings_of_a_transaction_that_took_too_long_end_with_it() {
    let postgres = Postgres::start();
    let proxy = Proxy::start(&postgres, &format!("{ONE}pool.transaction_timeout = \"300ms\"\n"));
    let mut client = proxy.client();
    client.ask("begin; set local timezone to 'Asia/Tokyo'");

    let told = client.read();

    assert_eq!((told.tag, told.texts()), (b'S', vec!["TimeZone".to_owned(), "UTC".to_owned()]));
    assert_eq!(client.read().tag, b'N');
    client.ask("rollback");
    assert_eq!(client.value("show timezone"), "UTC");
}

/// P88
#[test]
fn in_statement_mode_settings_of_a_refused_block_were_never_set() {
    let postgres = Postgres::start();
    let proxy = Proxy::start(&postgres, &format!("{ONE}pool.pool_mode = 'statement'\n"));
    let mut client = proxy.client();

    let reply = client.ask("begin; set timezone to 'Asia/Tokyo'");

    assert_eq!(reply.code(), "0A000");
    let told = ("TimeZone".to_owned(), "UTC".to_owned());
    assert_eq!(reply.parameters().last(), Some(&told));
    assert_eq!(client.value("show timezone"), "UTC");
}

/// P44: bytes of a startup packet are no matter of anybody's encoding.
#[test]
fn startup_values_are_the_same_whoever_had_the_server_before() {
    let postgres = Postgres::start();
    let proxy = Proxy::start(&postgres, ONE);
    let options = [("options", "-c my.name=sch\u{f6}ma -c search_path=sch\u{f6}ma,public")];
    let seen = |client: &mut Client| {
        ["my.name", "search_path"].map(|n| client.value(&format!("show {n}")))
    };
    let expected = seen(&mut direct(&postgres, &options));
    let mut client = proxy.client_with(&options);
    for encoding in ["LATIN1", "GBK", "UTF8"] {
        proxy.client_with(&[("client_encoding", encoding)]).ask("select 1");
        assert_eq!(seen(&mut client), expected, "{encoding}");
        client.ask("begin");
        client.ask("reset search_path; reset my.name");
        client.ask("reset search_path; select 1; reset my.name");
        assert_eq!(seen(&mut client), expected, "{encoding}");
        client.ask("rollback");
    }
}

/// However much a server reports, little of it is kept.
#[test]
fn a_server_that_reports_without_end_costs_a_client_no_settings() {
    let longest = Arc::new(AtomicUsize::new(0));
    let seen = Arc::clone(&longest);
    let server = FakeServer::start(move |peer| {
        peer.welcome();
        while let Some(asked) = peer.read_to(b'Q') {
            seen.fetch_max(asked.body.len(), Relaxed);
            let reports = (0..5_000).map(|n| message(b'S', format!("p{n}\0{n}\0").as_bytes()));
            peer.send_bytes(&reports.collect::<Vec<_>>().concat());
            peer.complete("DONE");
            peer.ready(b'I');
        }
    });
    let proxy = Proxy::before(&server.host(), ONE);
    let (mut client, mut other) = (proxy.client(), proxy.client());

    client.ask("select 1");
    // What is put on a server for the one is taken off it for the other.
    other.ask("select 1");

    assert!(longest.load(Relaxed) < 20_000, "{longest:?}");
}

/// P91: what of ours is not answered is no request of the client's.
#[test]
fn a_client_whose_server_is_lost_while_ours_is_done_is_warned() {
    let server = FakeServer::start(|peer| {
        peer.welcome();
        let mut status = b'I';
        while let Some(asked) = peer.read_to(b'Q') {
            let text = String::from_utf8_lossy(&asked.body).into_owned();
            if text.starts_with("SET \"") {
                return;
            }
            if text.starts_with("BEGIN") {
                status = b'T';
            }
            peer.complete(if text.starts_with("reset") { "RESET" } else { "DONE" });
            peer.ready(status);
        }
    });
    let proxy = Proxy::before(&server.host(), ONE);
    let mut client = proxy.client_with(TOKYO);
    client.ask("begin");

    let reply = client.ask("reset timezone");

    assert_eq!(reply.tags(), "CZT");
    let warning = client.read();
    assert_eq!((warning.tag, warning.fields().severity()), (b'N', "WARNING"));
    assert_eq!(client.ask("select 1").code(), "08006");
    assert_eq!(client.ask("rollback").tags(), "CZI");
}

/// A configuration that is read anew changes what servers report as a SET does, and goes away again.
#[test]
fn what_the_configuration_sets_is_not_the_sessions_own() {
    let postgres = Postgres::start();
    let proxy = Proxy::start(&postgres, "pool.size = 2\n");
    let mut admin = postgres.client();
    let (mut one, mut two) = (proxy.client(), proxy.client());
    two.ask("set timezone = 'Asia/Tokyo'");
    let first = admin.value("show timezone");
    admin.ask("create table written (id int)");
    for zone in ["Europe/Rome", "America/Lima"] {
        admin.ask(&format!("alter system set timezone = '{zone}'"));
        admin.ask("select pg_reload_conf()");
        wait_until("the configuration is read", || {
            // Any statement may be the one in front of which it is.
            one.ask("insert into written values (1)");
            one.value("show timezone") == zone
        });
        assert_eq!(two.value("show timezone"), "Asia/Tokyo");
    }
    admin.ask("alter system reset timezone");
    admin.ask("select pg_reload_conf()");
    wait_until("it is what it was", || one.value("show timezone") == first);
    let mut three = proxy.client();
    assert_eq!(three.value("show timezone"), first);
}

/// What a function sets for the session is its own, though no text of the client's says so.
#[test]
fn what_a_function_sets_stays_with_the_session() {
    let postgres = Postgres::start();
    let proxy = Proxy::start(&postgres, "pool.size = 2\n");
    let mut admin = postgres.client();
    admin.ask(
        "create function here() returns text language sql as \
         $$ select set_config('timezone', 'Asia/Tokyo', false) $$",
    );
    let mut clients = [proxy.client(), proxy.client(), proxy.client()];
    for _ in 0..3 {
        clients[0].ask("select here()");
        for client in &mut clients[1..] {
            assert_ne!(client.value("show timezone"), "Asia/Tokyo");
        }
        assert_eq!(clients[0].value("show timezone"), "Asia/Tokyo");
    }
}
