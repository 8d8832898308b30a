//! The first use of a statement that others have parsed before, where tables were altered past pgweir: who has
//! only just parsed it gets what there is now, and who was told of something else hears of it (P55, P83).

use std::thread::park_timeout;
use std::time::Duration;

use crate::support::fake_server::{FakeServer, Peer, Then};
use crate::support::messages::{
    bind, close_statement, describe_portal, describe_statement, execute, flush, parse, query, run,
    sync,
};
use crate::support::postgres::Postgres;
use crate::support::proxy::Proxy;
use crate::support::raw_client::Client;

const ONE: &str = "pool.size = 1\n";
const COLUMNS: &str = "select * from t";

/// Two clients of a pool of this size, one of which has run their common statement; nobody knows of an ALTER.
fn with_two(size: usize, check: impl FnOnce(&Postgres, &Proxy, &mut Client, &mut Client)) {
    let postgres = Postgres::start();
    let proxy = Proxy::start(&postgres, &format!("pool.size = {size}"));
    postgres.client().ask("create schema here; grant all on schema here to public");
    let path = [("search_path", "here")];
    let (mut one, mut two) = (proxy.client_with(&path), proxy.client_with(&path));
    assert_eq!(one.ask("create table here.t as select 1 as a").errors(), []);
    one.prepare("s", COLUMNS);
    one.prepare("other", OTHER_COLUMNS);
    assert_eq!(one.fields_of("s"), "1");
    check(&postgres, &proxy, &mut one, &mut two);
}

fn alter(postgres: &Postgres) {
    let altered = postgres.client().ask("alter table here.t add b int default 2");
    assert_eq!(altered.errors(), []);
}

/// The same with one server, and a table that is other than it was when that got the statement.
fn behind_an_unseen_alter(check: impl FnOnce(&mut Client, &mut Client)) {
    with_two(1, |postgres, _, one, two| {
        alter(postgres);
        check(one, two);
    });
}

const OTHER_COLUMNS: &str = "select t.* from t";

/// P55: who has only just parsed a text has been told of no columns, whichever server has it from others:
/// its exchange is sent once more.
#[test]
fn a_text_that_is_parsed_behind_an_unseen_alter_gives_the_new_columns() {
    let (parse_it, run_it_all) = (parse("s", COLUMNS), [run("s", &[]), sync()].concat());
    let describe_it = describe_statement("s");
    let shown = [bind("s", &[]), describe_portal(""), execute(), sync()].concat();
    let other =
        [parse("other", OTHER_COLUMNS), describe_statement("other"), run("other", &[])].concat();
    let parse_only = [&*parse_it, &*sync()].concat();
    // What is written at once, each time waiting for its answers.
    let uses = [
        vec![([&*parse_it, &*describe_it, &*run_it_all].concat(), "1tT2DCZI")],
        vec![([&*parse_it, &*run_it_all].concat(), "12DCZI")],
        vec![(parse_only.clone(), "1ZI"), (shown, "2TDCZI")],
        vec![([&*parse_only, &*run_it_all].concat(), "1ZI2DCZI")],
        vec![
            ([&*parse_it, &*describe_it, &*sync()].concat(), "1tTZI"),
            (run_it_all.clone(), "2DCZI"),
        ],
        vec![([&*parse_it, &*describe_it, &*other, &*run_it_all].concat(), "1tT1tT2DC2DCZI")],
    ];
    for exchanges in uses {
        behind_an_unseen_alter(|one, two| {
            for (sent, tags) in &exchanges {
                two.send(sent);
                let reply = two.read_ready(tags.matches('Z').count());
                assert_eq!(reply.tags(), *tags, "{reply:?}");
                assert!(reply.rows().iter().all(|row| row.join(" ") == "1 2"), "{reply:?}");
            }
            assert_eq!(two.fields_of("s"), "1 2");
            // Who was told of one column hears that there are more.
            assert_eq!(one.use_prepared("s").code(), "0A000");
            assert_eq!(one.fields_of("s"), "1 2");
        });
    }
}

/// The same for a statement that is closed behind its one use.
#[test]
fn what_is_closed_behind_its_use_is_sent_once_more_too() {
    let once = [run("s", &[]), close_statement("s"), sync()].concat();
    behind_an_unseen_alter(|one, two| {
        let reply = two.exchange(&[&*parse("s", COLUMNS), &*once].concat());
        assert_eq!((&*reply.tags(), reply.rows().concat().join(" ")), ("12DC3ZI", "1 2".into()));
        assert_eq!(two.exchange(&once).code(), "26000");
        // Who was told of one column hears of the other once.
        assert_eq!(one.exchange(&once).code(), "0A000");
        assert_eq!(one.exchange(&once).tags(), "2DC3ZI");
    });
}

/// The same in an exchange that is kept open by a Flush.
#[test]
fn what_is_flushed_behind_an_unseen_alter_is_sent_once_more_too() {
    behind_an_unseen_alter(|_, two| {
        two.send(&[parse("s", COLUMNS), describe_statement("s"), flush()].concat());
        assert_eq!(two.read_to(b'T').tags(), "1tT");
        two.send(&[run("s", &[]), flush()].concat());
        assert_eq!(two.read_to(b'C').rows().concat(), ["1", "2"]);
        two.send(&sync());
        assert_eq!(two.read_ready(1).tags(), "ZI");
    });
}

/// What was done in front of it is not done twice, and what came behind it is not overtaken: the client
/// hears of it, and goes on.
#[test]
fn an_exchange_that_has_done_something_is_not_sent_once_more() {
    let use_it = [run("s", &[]), sync()].concat();
    let insert = [parse("", "insert into t values (7)"), run("", &[])].concat();
    for (before, sent, syncs, tags) in [
        ("", [insert, parse("s", COLUMNS), use_it.clone()].concat(), 1, "12C1EZI"),
        // A Parse that is the first of its block is not answered by us.
        ("begin", [parse("s", COLUMNS), use_it.clone()].concat(), 1, "12DCZT"),
        ("begin;select 2", [parse("s", COLUMNS), use_it.clone()].concat(), 1, "1EZE"),
        ("", [parse("s", COLUMNS), use_it, query("select 7")].concat(), 2, "1EZITDCZI"),
    ] {
        behind_an_unseen_alter(|_, two| {
            for text in before.split(';') {
                two.ask(text);
            }
            two.send(&sent);
            let reply = two.read_ready(syncs);
            assert_eq!(reply.tags(), tags);
            assert!(reply.errors().iter().all(|error| error.code() == "0A000"), "{reply:?}");
            two.ask("rollback");
            assert_eq!(two.fields_of("s"), "1 2");
        });
    }
}

/// What failed in front of it was a request of its own: the use behind that is one.
#[test]
fn a_use_behind_an_error_of_another_request_is_a_first_use() {
    let fails = [query("selec"), [parse("", "selec"), sync()].concat()];
    for fails in &fails {
        behind_an_unseen_alter(|_, two| {
            two.prepare("s", COLUMNS);
            two.send(&[&**fails, &*run("s", &[]), &*sync()].concat());
            let reply = two.read_ready(2);
            assert_eq!((&*reply.tags(), &*reply.code()), ("EZI2DCZI", "42601"));
            assert_eq!(reply.rows().concat().join(" "), "1 2");
        });
        // Who was told of the old columns there has used it.
        with_two(1, |postgres, _, _, two| {
            two.prepare("s", COLUMNS);
            two.send(&[&**fails, &*describe_statement("s"), &*sync()].concat());
            assert_eq!(two.read_ready(2).tags(), "EZItTZI");
            alter(postgres);
            assert_eq!(two.use_prepared("s").code(), "0A000");
            assert_eq!(two.fields_of("s"), "1 2");
        });
    }
}

/// Whoever has been told of columns is told that there are others: whatever else was under way, by whatever
/// spelling of the name, and by SQL.
#[test]
fn who_was_told_of_columns_hears_of_others() {
    let long = "n".repeat(70);
    let cut = &long[..63];
    let skipped = [parse("", "selec"), describe_statement("s"), sync()].concat();
    let shown = [describe_statement("s"), sync()].concat();
    for (name, told, readies, tags) in [
        ("s", [skipped, shown].concat(), 2, "EZItTZI"),
        (&*long, [describe_statement(cut), sync()].concat(), 1, "tTZI"),
        ("s", query("execute s"), 1, "TDCZI"),
    ] {
        with_two(1, |postgres, _, _, two| {
            two.prepare(name, COLUMNS);
            two.send(&told);
            assert_eq!(two.read_ready(readies).tags(), tags);
            alter(postgres);
            assert_eq!(two.use_prepared(name).code(), "0A000", "{name}");
            assert_eq!(two.fields_of(name), "1 2");
        });
    }
}

/// And whoever has not is told of nothing, though what he tried has failed, or others were told meanwhile.
#[test]
fn who_was_told_of_nothing_hears_of_nothing() {
    let insert = [parse("", "insert into t values (1 / $1::int)"), bind("", &["0"]), execute()];
    for fails in [
        // Skipped behind what was run.
        [insert.concat(), run("s", &[]), sync()].concat(),
        // A value too many.
        [bind("s", &["1"]), execute(), sync()].concat(),
    ] {
        behind_an_unseen_alter(|_, two| {
            two.prepare("s", COLUMNS);
            assert!(two.exchange(&fails).tags().ends_with("EZI"));
            assert_eq!(two.fields_of("s"), "1 2");
        });
    }
    // By a name that is cut.
    behind_an_unseen_alter(|_, two| {
        let long = "n".repeat(70);
        two.prepare(&long, COLUMNS);
        assert_eq!(two.exchange(&[bind(&long, &["1"]), execute(), sync()].concat()).tags(), "EZI");
        assert_eq!(two.fields_of(&long), "1 2");
    });
    // Altered twice, and somebody else has heard of the first.
    with_two(1, |postgres, _, one, two| {
        two.prepare("s", COLUMNS);
        alter(postgres);
        assert_eq!(one.use_prepared("s").code(), "0A000");
        assert_eq!(one.fields_of("s"), "1 2");
        let altered = postgres.client().ask("alter table here.t add c int default 3");
        assert_eq!(altered.errors(), []);
        assert_eq!(two.fields_of("s"), "1 2 3");
    });
}

/// A use that is skipped is none.
#[test]
fn what_is_skipped_is_not_used() {
    behind_an_unseen_alter(|_, two| {
        two.prepare("s", COLUMNS);
        for _ in 0..2 {
            let skipped = two.exchange(&[parse("", "selec"), run("s", &[]), sync()].concat());
            assert_eq!(skipped.tags(), "EZI");
        }
        two.send(&[parse("", "selec"), flush()].concat());
        assert_eq!(two.read_to(b'E').code(), "42601");
        assert_eq!(two.use_prepared("s").tags(), "ZI");
        assert_eq!(two.fields_of("s"), "1 2");
    });
}

/// Wherever the statement is used first, and whoever finds out before.
#[test]
fn who_has_only_just_parsed_a_text_hears_nothing_of_what_others_were_told() {
    // On a server that lacks it.
    with_two(2, |postgres, _, one, two| {
        alter(postgres);
        two.prepare("s", COLUMNS);
        let pid = two.pid();
        one.ask("begin");
        assert_eq!(one.pid(), pid);
        assert_eq!(two.fields_of("s"), "1 2");
        assert_eq!(two.fields_of("s"), "1 2");
        one.ask("rollback");
    });
    // Behind somebody else who is told.
    with_two(1, |postgres, _, one, two| {
        alter(postgres);
        two.prepare("s", COLUMNS);
        assert_eq!(one.use_prepared("s").code(), "0A000");
        assert_eq!(two.fields_of("s"), "1 2");
    });
    // Under two names at once.
    behind_an_unseen_alter(|_, two| {
        let names = ["s", "again"];
        let parses = names.map(|name| parse(name, COLUMNS)).concat();
        let describes = names.map(describe_statement).concat();
        let uses = names.map(|name| run(name, &[])).concat();
        let reply = two.exchange(&[parses, describes, uses, sync()].concat());
        assert_eq!(reply.tags(), "11tTtT2DC2DCZI", "{reply:?}");
        assert_eq!(reply.rows(), [["1", "2"], ["1", "2"]]);
    });
}

/// It is counted as what it is, and no error of a client's.
#[test]
fn an_exchange_that_is_sent_once_more_is_counted() {
    with_two(1, |postgres, proxy, _, two| {
        alter(postgres);
        let errors = || -> u64 {
            let stats = proxy.observe().process().stats;
            stats.errors.values().map(|(_, _, count)| count).sum()
        };
        let before = errors();
        two.prepare("s", COLUMNS);
        assert_eq!(two.fields_of("s"), "1 2");
        assert_eq!(proxy.pool().stats.repeats.value(), 1);
        assert_eq!(errors(), before);
    });
}

/// The columns of `s`: one, called a.
const ROW: &[u8] = b"\0\x01a\0\0\0\0\0\0\0\0\0\0\x17\0\x04\xff\xff\xff\xff\0\0";
const OUTDATED: &[u8] = b"SERROR\0VERROR\0C0A000\0Mcached plan\0RRevalidateCachedQuery\0\0";

/// A proxy before a server that describes every statement so; `second`: what it does in the place of the
/// columns at its second Describe. A client has used `s` there.
fn describing(second: impl Fn(&mut Peer) -> Then + Send + Sync + 'static) -> (Proxy, Client) {
    let server = FakeServer::start(move |peer| {
        peer.welcome();
        let mut described = 0;
        peer.answer_each(|peer, message| {
            if message.tag != b'D' {
                return peer.accept(message);
            }
            described += 1;
            peer.send(b't', b"\0\0");
            if described == 2 && peer.number == 0 {
                return second(peer);
            }
            peer.send(b'T', ROW);
            Then::GoesOn
        });
    });
    let proxy = Proxy::before(&server.host(), "pool.size = 1\npool.query_timeout = '300ms'");
    let mut one = proxy.client();
    one.prepare("s", COLUMNS);
    let client = proxy.client();
    (proxy, client)
}

/// What a statement takes is told before anybody knows whether the server goes on with it. It is kept until
/// then, and told however that ends.
#[test]
fn what_a_statement_takes_is_told_in_front_of_whatever_comes() {
    let use_it = [parse("s", COLUMNS), describe_statement("s"), run("s", &[]), sync()].concat();
    let (_proxy, mut client) = describing(|peer| {
        peer.error("ERROR", "57014", "another one");
        Then::Skips
    });
    let reply = client.exchange(&use_it);
    assert_eq!((&*reply.tags(), &*reply.code()), ("1tEZI", "57014"));

    // More than is kept comes in between.
    let (_proxy, mut client) = describing(|peer| {
        assert!(peer.read_to(b'B').is_some());
        peer.send(b'T', ROW);
        peer.send(b'2', b"");
        Then::Skips
    });
    let long = "x".repeat(300_000);
    let use_it =
        [parse("s", COLUMNS), describe_statement("s"), bind("s", &[&long]), sync()].concat();
    assert_eq!(client.exchange(&use_it).tags(), "1tT2ZI");
}

/// What goes back into the inbox is there for another server, too.
#[test]
fn a_server_that_goes_behind_its_refusal_costs_nothing() {
    let (proxy, mut client) = describing(|peer| {
        peer.send(b'E', OUTDATED);
        Then::Goes
    });
    let use_it = [parse("s", COLUMNS), describe_statement("s"), run("s", &[]), sync()].concat();

    assert_eq!(client.exchange(&use_it).tags(), "1tT2CZI");
    assert_eq!(proxy.pool().stats.repeats.value(), 1);
}

/// A cancel that is under way was meant for it.
#[test]
fn an_exchange_that_is_being_cancelled_is_not_sent_once_more() {
    let (proxy, mut client) = describing(|peer| {
        park_timeout(Duration::from_millis(600));
        peer.send(b'E', OUTDATED);
        Then::Skips
    });
    let use_it = [parse("s", COLUMNS), describe_statement("s"), run("s", &[]), sync()].concat();

    assert_eq!(client.exchange(&use_it).code(), "0A000");
    assert_eq!(proxy.pool().stats.repeats.value(), 0);
}

/// One that takes too much to be kept is told of the refusal.
#[test]
fn an_exchange_that_is_too_long_is_not_sent_once_more() {
    let (proxy, mut client) = describing(|peer| {
        assert!(peer.read_to(b'B').is_some());
        peer.send(b'E', OUTDATED);
        Then::Skips
    });
    let long = "x".repeat(300_000);
    let use_it =
        [parse("s", COLUMNS), describe_statement("s"), bind("s", &[&long]), sync()].concat();

    let reply = client.exchange(&use_it);

    assert_eq!((&*reply.tags(), &*reply.code()), ("1tEZI", "0A000"));
    assert_eq!(proxy.pool().stats.repeats.value(), 0);
}
