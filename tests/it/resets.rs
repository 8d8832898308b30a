//! RESET on a server that is shared goes back to what its client asked for at startup, as it does on
//! a connection of its own: shown by doing the same with and without pgweir.

use crate::support::messages::{bind, copy_data, copy_done, execute, extended, parse, query, sync};
use crate::support::postgres::{DATABASE, Postgres, USER};
use crate::support::proxy::Proxy;
use crate::support::random::Random;
use crate::support::raw_client::Client;
use crate::support::reply::Reply;

const ONE: &str = "pool.size = 1\npool.max_overflow = 0\n";

/// What the two clients ask for: lists, quotes, a spelling that is not the server's, a name of the
/// client's own.
const STARTUP: [(&str, &str); 6] = [
    ("TimeZone", "Asia/Tokyo"),
    ("DateStyle", "german"),
    ("application_name", "it's mine"),
    (
        "options",
        r#"-c work_mem=3MB -c search_path="A\ b",public -c statement_timeout=7s -c my.own=x"#,
    ),
    ("client_encoding", "latin1"),
    ("IntervalStyle", "ISO_8601"),
];

/// What is looked at: reported or not, asked for at startup or not. A name of a client's own that others never used is empty on a server where one did.
const SHOWN: [&str; 10] = [
    "timezone",
    "datestyle",
    "application_name",
    "work_mem",
    "search_path",
    "statement_timeout",
    "my.own",
    "client_encoding",
    "intervalstyle",
    "standard_conforming_strings",
];

fn show() -> String {
    let values: Vec<_> =
        SHOWN.iter().map(|name| format!("coalesce(current_setting('{name}', true), '')")).collect();
    format!("select concat_ws(' | ', {})", values.join(", "))
}

struct Pair {
    direct: Client,
    through: Client,
    /// Shares the server with `through`, and asks for other things.
    other: Client,
    done: Vec<String>,
}

impl Pair {
    fn new(postgres: &Postgres, proxy: &Proxy, startup: &[(&str, &str)]) -> Self {
        let mut all = vec![("user", USER), ("database", DATABASE)];
        all.extend_from_slice(startup);
        let direct = Client::log_in(&postgres.address(), &all);
        let through = proxy.client_with(startup);
        assert_eq!(direct.parameters, through.parameters);
        let theirs = [("TimeZone", "Europe/Rome"), ("options", "-c work_mem=9MB")];
        Self { direct, through, other: proxy.client_with(&theirs), done: Vec::new() }
    }

    /// Does the same on both, and expects the same messages.
    #[track_caller]
    fn both(&mut self, what: &str, bytes: &[u8], ready: usize) -> Reply {
        self.done.push(what.to_owned());
        self.direct.send(bytes);
        self.through.send(bytes);
        let expected = self.direct.read_ready(ready);
        let got = self.through.read_ready(ready);
        assert_eq!(plain(&got), plain(&expected), "behind {:#?}", self.done);
        got
    }

    #[track_caller]
    fn ask(&mut self, text: &str) -> Reply {
        self.both(text, &query(text), 1)
    }

    #[track_caller]
    fn check(&mut self) {
        self.ask(&show());
    }

    /// The other client has the server for a moment.
    #[track_caller]
    fn disturb(&mut self) {
        assert_eq!(self.other.value("show timezone"), "Europe/Rome", "behind {:#?}", self.done);
        assert_eq!(self.other.value("show work_mem"), "9MB", "behind {:#?}", self.done);
        self.done.push("(the other)".into());
    }
}

/// Every message in its order, as text; without the place in the source of an error.
fn plain(reply: &Reply) -> Vec<String> {
    let text = |message: &crate::support::reply::Message| match message.tag {
        b'E' | b'N' => format!("{} {}", message.fields().code(), message.fields().message()),
        b'D' => format!("{:?}", message.row()),
        _ => message.texts().join(" "),
    };
    let mut lines: Vec<_> =
        reply.0.iter().map(|m| format!("{} {}", char::from(m.tag), text(m))).collect();
    // In which order several are reported depends, from 16 on, on what was set in the past.
    for reports in lines.chunk_by_mut(|a, b| a.starts_with("S ") && b.starts_with("S ")) {
        reports.sort_unstable();
    }
    lines
}

/// In a block the next message finds the startup value, in whatever way it was reset.
#[test]
fn a_reset_in_a_block_goes_back_to_the_startup_value_at_once() {
    let postgres = Postgres::start();
    let proxy = Proxy::start(&postgres, ONE);
    for reset in [
        "reset timezone",
        "reset work_mem",
        "reset search_path",
        "reset \"my\".own",
        "reset all",
        "set work_mem to default",
        "set local work_mem = default",
        "set time zone default",
        "set names",
        "/* a comment */ RESET application_name;",
        "reset role",
    ] {
        for is_extended in [false, true] {
            let mut pair = Pair::new(&postgres, &proxy, &STARTUP);
            pair.ask("set timezone to 'Europe/Rome'");
            pair.ask("begin");
            for text in ["set work_mem to '5MB'", "set search_path to here", "set names 'utf8'"] {
                pair.ask(text);
            }
            let bytes = if is_extended { extended(reset, &[]) } else { query(reset) };
            pair.both(reset, &bytes, 1);
            pair.check();
            pair.ask("rollback");
            pair.check();
            pair.disturb();
            pair.check();
        }
    }
}

/// What comes behind it in the same packet finds the startup value too.
#[test]
fn a_reset_that_others_follow_without_waiting_is_put_back_in_front_of_them() {
    let postgres = Postgres::start();
    let proxy = Proxy::start(&postgres, ONE);
    let show = show();
    for reset in ["reset timezone", "reset all", "discard all", "set timezone to default"] {
        let mut pair = Pair::new(&postgres, &proxy, &STARTUP);
        pair.ask("set timezone to 'Europe/Rome'");
        let simple = [query(reset), query(&show), query("reset all"), extended(&show, &[])];
        pair.both(reset, &simple.concat(), 4);
        pair.ask("set timezone to 'Europe/Rome'");
        pair.both(reset, &[extended(reset, &[]), extended(&show, &[])].concat(), 2);
        pair.disturb();
        pair.check();
    }
}

/// P31: nothing comes between a COPY and its data.
#[test]
fn a_reset_in_front_of_a_copy_leaves_the_copy_alone() {
    let postgres = Postgres::start();
    let proxy = Proxy::start(&postgres, ONE);
    let mut pair = Pair::new(&postgres, &proxy, &STARTUP);
    pair.direct.ask("create table spare (n int)");
    let text = "set work_mem to '5MB'; reset timezone; reset work_mem; copy spare from stdin";
    let copy = [query(text), copy_data(b"1\n"), copy_done()];
    pair.both(text, &copy.concat(), 1);
    pair.check();
    pair.disturb();
    pair.check();
    assert_eq!(pair.direct.value("select count(*) from spare"), "2");
}

/// P31: not in a pipeline either, wherever its Sync comes; and what is sent behind the copy without
/// waiting finds the startup value.
#[test]
fn a_reset_and_a_copy_in_one_pipeline_are_both_done() {
    let postgres = Postgres::start();
    let show = show();
    for statements in ["", "pool.prepared_statements = 0\n"] {
        let proxy = Proxy::start(&postgres, &format!("{ONE}{statements}"));
        let mut pair = Pair::new(&postgres, &proxy, &STARTUP);
        pair.direct.ask("create table if not exists spare (n int); truncate spare");
        let run = |text: &str| [parse("", text), bind("", &[]), execute()].concat();
        let both = [run("reset timezone"), run("reset work_mem"), run("copy spare from stdin")];
        let both = both.concat();
        let data = [copy_data(b"1\n"), copy_done()].concat();
        let simple = query("reset timezone; reset work_mem; copy spare from stdin");
        let copies = [
            [both.clone(), data.clone(), sync()].concat(),
            [both.clone(), sync(), data.clone(), sync()].concat(),
            [both, sync(), sync(), data.clone(), sync()].concat(),
            [simple, data].concat(),
        ];
        for (at, copy) in copies.iter().enumerate() {
            for behind in [Vec::new(), query(&show), extended(&show, &[])] {
                let ready = 1 + usize::from(!behind.is_empty());
                for is_in_block in [false, true] {
                    pair.ask("set timezone to 'Europe/Rome'");
                    pair.ask(if is_in_block { "begin" } else { "select 1" });
                    pair.ask("set work_mem to '5MB'");
                    let what = format!("copy {at}, then {} bytes", behind.len());
                    pair.both(&what, &[copy.clone(), behind.clone()].concat(), ready);
                    pair.check();
                    pair.ask("rollback");
                    pair.check();
                    pair.disturb();
                    pair.check();
                }
            }
        }
    }
}

/// However many of them are sent in one go, those behind wait for the answers to those in front.
#[test]
fn a_thousand_resets_in_one_packet_are_all_put_back() {
    let postgres = Postgres::start();
    let proxy = Proxy::start(&postgres, ONE);
    let mut pair = Pair::new(&postgres, &proxy, &STARTUP);
    let one = [query("reset all"), extended("reset timezone", &[]), query("show timezone")];
    pair.both("a thousand", &one.concat().repeat(350), 1050);
    pair.check();
    pair.disturb();
    pair.check();
}

/// P86
#[test]
fn a_string_of_several_statements_resets_what_it_resets_and_no_more() {
    let postgres = Postgres::start();
    let proxy = Proxy::start(&postgres, ONE);
    for text in [
        "begin; set timezone to 'Europe/Rome'; reset datestyle; commit",
        "begin; reset timezone; set timezone to 'UTC'; commit",
        "set timezone to 'UTC'; reset work_mem; select 1",
        "begin; reset timezone; rollback",
        "begin; savepoint a; reset all; rollback to a; commit",
        "reset timezone; select 1/0",
        "discard all; select 1",
        "begin; reset work_mem; select 1/0",
        "select 1/0; reset all",
        "select pg_advisory_unlock_all(); close all; unlisten *; reset all;",
        "set datestyle to 'ISO'; reset all; set timezone to 'UTC'",
        "reset datestyle; select set_config('datestyle', 'SQL, DMY', false)",
    ] {
        let mut pair = Pair::new(&postgres, &proxy, &STARTUP);
        pair.ask("set timezone to 'Asia/Kathmandu'");
        // What comes behind does not wait for it.
        pair.both(text, &[query(text), query(&show())].concat(), 2);
        pair.ask("rollback");
        pair.check();
        pair.disturb();
        pair.check();
    }
}

/// P88: a block that has failed takes a RESET back, or not, by where its savepoint stood.
#[test]
fn what_is_rolled_back_to_a_savepoint_was_never_reset() {
    let postgres = Postgres::start();
    let proxy = Proxy::start(&postgres, ONE);
    for (first, second) in
        [("reset all", "savepoint a"), ("savepoint a", "reset all"), ("select 1", "reset work_mem")]
    {
        for end in ["rollback to a", "rollback", "commit"] {
            let mut pair = Pair::new(&postgres, &proxy, &STARTUP);
            pair.ask("begin; set work_mem to '6MB'; savepoint a; set timezone to 'Europe/Rome'");
            pair.ask(first);
            pair.ask(second);
            pair.check();
            pair.ask("select 1/0");
            pair.ask("reset all");
            pair.ask("reset all; savepoint a");
            pair.ask(end);
            pair.check();
            pair.ask("rollback");
            pair.check();
        }
    }
    let mut pair = Pair::new(&postgres, &proxy, &STARTUP);
    pair.ask("begin");
    pair.ask("reset work_mem; savepoint b; select 1/0");
    pair.ask("rollback to b");
    pair.check();
    pair.ask("rollback");
    pair.check();
}

/// What the call itself answers is the server's own value: that cannot be told from its text.
#[test]
fn a_null_for_set_config_is_put_back_behind_it() {
    let postgres = Postgres::start();
    let proxy = Proxy::start(&postgres, ONE);
    let mut client = proxy.client_with(&STARTUP);
    client.ask("begin");
    client.ask("set work_mem to '5MB'; set timezone to 'Europe/Rome'");
    assert_eq!(client.value("select set_config('work_mem', null, false)"), "4MB");
    assert_eq!(client.value("show work_mem"), "3MB");
    assert_eq!(client.value("show timezone"), "Europe/Rome");
}

/// SET TRANSACTION must come before any query: what puts values back is none.
#[test]
fn a_reset_is_no_query_to_the_transaction() {
    let postgres = Postgres::start();
    let proxy = Proxy::start(&postgres, ONE);
    let startup = [("TimeZone", "Asia/Tokyo"), ("options", r#"-c search_path="$user",\ here"#)];
    let mut pair = Pair::new(&postgres, &proxy, &startup);
    for reset in ["reset all", "reset search_path", "set timezone to default"] {
        pair.ask("begin");
        pair.ask(reset);
        pair.ask("set transaction isolation level serializable");
        pair.check();
        pair.ask("show transaction_isolation");
        pair.ask("commit");
    }
}

/// The statement that resets may have been prepared long before.
#[test]
fn a_prepared_reset_is_put_back_each_time() {
    let postgres = Postgres::start();
    let proxy = Proxy::start(&postgres, ONE);
    let mut pair = Pair::new(&postgres, &proxy, &STARTUP);
    pair.both("parse", &[parse("r", "reset timezone"), sync()].concat(), 1);
    for _ in 0..2 {
        pair.ask("begin");
        pair.ask("set timezone to 'UTC'");
        pair.both("run", &[bind("r", &[]), execute(), sync()].concat(), 1);
        pair.check();
        pair.ask("commit");
        pair.disturb();
        pair.check();
    }
    // Bound and never run: nothing was reset.
    pair.ask("set timezone to 'Asia/Kathmandu'");
    pair.both("bind", &[bind("r", &[]), sync()].concat(), 1);
    pair.check();
}

/// Random sequences, the same each time.
#[test]
fn settings_are_those_of_a_direct_connection_after_any_sequence() {
    let postgres = Postgres::start();
    let proxy = Proxy::start(&postgres, ONE);
    for seed in 0..SEQUENCES {
        let mut random = Random::new(seed);
        let startup = &STARTUP[..random.below(STARTUP.len() + 1)];
        let mut pair = Pair::new(&postgres, &proxy, startup);
        pair.done.push(format!("seed {seed}"));
        for _ in 0..6 {
            if random.below(3) == 0 {
                let text = *random.one(&OUTSIDE);
                step(&mut pair, &mut random, text);
            } else {
                block(&mut pair, &mut random);
            }
            if random.below(2) == 0 {
                pair.disturb();
            }
            pair.check();
        }
    }
}

const SEQUENCES: u64 = 60;

/// Outside a block: what is not reported would not outlive the statement.
const OUTSIDE: [&str; 9] = [
    "set timezone to 'Europe/Rome'",
    "set datestyle to 'SQL, DMY'",
    "set application_name to ''",
    "set intervalstyle to default",
    "reset all",
    "discard all",
    "reset datestyle",
    "set session time zone local",
    "set client_encoding to 'utf8'",
];

const INSIDE: [&str; 17] = [
    "set timezone to 'UTC'",
    "set local timezone to 'Asia/Kathmandu'",
    "set datestyle to 'ISO'",
    "set search_path to a, b",
    "set local work_mem to '8MB'",
    "set work_mem to '2MB'",
    "reset work_mem",
    "reset timezone",
    "set local search_path to default",
    "reset all",
    "savepoint a",
    "rollback to a",
    "release a",
    "select 1/0",
    "reset search_path; reset datestyle",
    "select 1/0; reset all",
    "discard all",
];

fn block(pair: &mut Pair, random: &mut Random) {
    pair.ask("begin");
    for _ in 0..random.below(7) {
        let text = *random.one(&INSIDE);
        step(pair, random, text);
        if random.below(3) == 0 {
            pair.check();
        }
    }
    // A commit would keep on one side what does not follow a client on the other.
    pair.ask("rollback");
}

fn step(pair: &mut Pair, random: &mut Random, text: &str) {
    match random.below(4) {
        0 if !text.contains(';') => drop(pair.both(text, &extended(text, &[]), 1)),
        1 => drop(pair.both(text, &[query(text), query(&show())].concat(), 2)),
        _ => drop(pair.ask(text)),
    }
}

/// P44, P79: what a login is told, in this order, is what PostgreSQL tells; and so is what is refused.
#[test]
fn a_login_is_told_what_a_direct_connection_is_told() {
    let postgres = Postgres::start();
    let proxy = Proxy::start(&postgres, ONE);
    let long = "x, ".repeat(60) + "y";
    for startup in [
        vec![],
        vec![("application_name", "")],
        vec![("application_name", "naïve ☃\t")],
        vec![("application_name", long.as_str())],
        vec![("client_encoding", "utf8"), ("application_name", "it's \\ \"it\"")],
        vec![("client_encoding", "UNICODE"), ("DateStyle", "iso")],
        vec![("datestyle", "GERMAN"), ("TIMEZONE", "utc")],
        vec![("TimeZone", "Asia/Tokyo"), ("options", "-c timezone=UTC -c TimeZone=Europe/Rome")],
        vec![("options", "-c datestyle=sql,dmy"), ("DateStyle", "postgres, ymd")],
        vec![(
            "options",
            r"--date-style=iso,\ ymd -c client_encoding=sql_ascii --intervalstyle=iso_8601",
        )],
        vec![("options", r"-c application_name=a\ b\\c -cstandard-conforming-strings=off")],
        vec![("search_path", long.as_str()), ("work_mem", "1MB")],
        vec![("search_path", r#""", "a,b", "$user""#), ("default_transaction_read_only", "1")],
        vec![("TimeZone", "+3"), ("extra_float_digits", "3"), ("IntervalStyle", "SQL_standard")],
        vec![("TimeZone", "<+05>-05"), ("lc_messages", "C"), ("my.own", "")],
        vec![("TimeZone", "nowhere")],
        vec![("client_encoding", "no such")],
        vec![("DateStyle", "iso, german, dmy")],
        vec![("no_such", "1")],
    ] {
        let mut all = vec![("user", USER), ("database", DATABASE)];
        all.extend_from_slice(&startup);
        let greet = |address: &crate::support::socket::Address| {
            let mut client = Client::connect(address);
            client.send(&crate::support::messages::startup(&all));
            let told = client.finish_login().map(|reply| reply.parameters());
            told.map_err(|error| (error.code().to_owned(), error.message().to_owned()))
        };

        let expected = greet(&postgres.address());

        // The second is told what is known by then.
        for _ in 0..2 {
            assert_eq!(greet(&proxy.address), expected, "{startup:?}");
        }
    }
}

/// Of a long text only the front is known: what it did is seen by its tag.
#[test]
fn a_reset_in_a_very_long_text_is_put_back_in_front_of_the_next_message() {
    let postgres = Postgres::start();
    let proxy = Proxy::start(&postgres, ONE);
    let mut pair = Pair::new(&postgres, &proxy, &STARTUP);
    let long = format!("/* {} */ reset all", "x".repeat(200_000));
    pair.ask("set timezone to 'Asia/Kathmandu'");
    pair.ask("begin");
    pair.ask("set work_mem to '5MB'");
    pair.ask(&long);
    pair.check();
    pair.ask("rollback");
    pair.check();
    pair.ask(&long);
    pair.check();
}
