//! `reuse_unnamed`: what a client parses again as its unnamed statement is not sent again, and the client
//! hears and gets what it would of a server of its own.

use std::sync::{Arc, Mutex};

use pgweir::telemetry::counters::StatementOutcome;

use crate::support::fake_server::FakeServer;
use crate::support::messages::{
    bind, bind_portal, close_statement, describe_portal, describe_statement, execute,
    execute_portal, extended, flush, parse, parse_typed, query, run, sync,
};
use crate::support::postgres::{DATABASE, Postgres, USER};
use crate::support::proxy::Proxy;
use crate::support::raw_client::Client;
use crate::support::reply::Reply;

const REUSING: &str = "pool.size = 1\npool.reuse_unnamed = true\n";
const INT4: u32 = 23;
const TEXT: u32 = 25;

/// How often something became of a statement.
fn count(proxy: &Proxy, outcome: StatementOutcome) -> u64 {
    let pool = proxy.pool();
    let mut counts = StatementOutcome::ALL.into_iter().zip(pool.traffic.statements.values());
    counts.find(|(one, _)| *one == outcome).unwrap().1
}

/// Parses that were not sent.
fn reused(proxy: &Proxy) -> u64 {
    count(proxy, StatementOutcome::Reused)
}

/// What servers have under names of ours.
fn named(client: &mut Client) -> String {
    client.value(
        "select coalesce(string_agg(statement, ';' order by name), '') from pg_prepared_statements",
    )
}

/// What one text gives by the unnamed statement: the fields of all rows, separated by blanks.
#[track_caller]
fn fields(client: &mut Client, text: &str) -> String {
    let reply = client.exchange(&extended(text, &[]));
    assert_eq!(reply.errors(), [], "{text}");
    reply.rows().concat().join(" ")
}

/// Makes a text one that is not sent again.
fn make_known(proxy: &Proxy, text: &str) {
    let mut client = proxy.client();
    for _ in 0..2 {
        client.exchange(&extended(text, &[]));
    }
}

/// Makes a table that everybody may read, past pgweir.
fn create(postgres: &Postgres, table: &str, query: &str) {
    let made = format!("create table {table} as {query}; grant select on {table} to public");
    assert_eq!(postgres.client().ask(&made).errors(), []);
}

/// Makes a function that takes all statements from its server, which its call does not show.
fn make_forget(postgres: &Postgres) {
    let forget = "create function forget() returns int language plpgsql \
                  as $$ begin execute 'deallocate all'; return 1; end $$";
    assert_eq!(postgres.client().ask(forget).errors(), []);
}

/// The messages that a server gets, each as its tag and what it names.
fn recorded(settings: &str) -> (Proxy, Arc<Mutex<Vec<String>>>) {
    let record = Arc::new(Mutex::new(Vec::new()));
    let taken = Arc::clone(&record);
    let server = FakeServer::start(move |peer| {
        peer.welcome();
        peer.answer_each(|peer, message| {
            let texts = message.texts();
            let said = match message.tag {
                // A Bind names its portal first.
                b'B' => format!("B {}", texts[1]),
                tag => format!("{} {}", char::from(tag), texts[0]),
            };
            taken.lock().unwrap().push(said.trim_end().to_owned());
            peer.accept(message)
        });
    });
    (Proxy::before(&server.host(), settings), record)
}

/// The first is as it was, the second is given a name, and the third is not sent.
#[test]
fn what_is_parsed_again_is_given_a_name_and_then_not_sent() {
    let (proxy, record) = recorded(REUSING);
    let mut client = proxy.client();
    for _ in 0..4 {
        assert_eq!(client.exchange(&extended("select 1", &[])).tags(), "12CZI");
    }

    let record = record.lock().unwrap().clone();
    let name = record[3].strip_prefix("P ").unwrap().to_owned();
    assert!(name.starts_with("pgweir_"), "{record:?}");
    let (parse, describe, bind) = (format!("P {name}"), format!("D S{name}"), format!("B {name}"));
    let named = [&*bind, "E"].repeat(2);
    let expected = [&["P", "B", "E", &parse, &describe, &bind, "E"][..], &named].concat();
    assert_eq!(record, expected);
    assert_eq!((reused(&proxy), count(&proxy, StatementOutcome::Miss)), (2, 1));
}

/// The same with a server that says what it has.
#[test]
fn clients_share_what_one_of_them_has_parsed_before() {
    let postgres = Postgres::start();
    let proxy = Proxy::start(&postgres, REUSING);
    let (mut one, mut two) = (proxy.client(), proxy.client());
    assert_eq!(fields(&mut one, "select 'a'"), "a");
    assert_eq!(named(&mut one), "");
    assert_eq!(fields(&mut two, "select 'a'"), "a");
    assert_eq!(named(&mut one), "select 'a'");
    for _ in 0..3 {
        assert_eq!(fields(&mut one, "select 'a'"), "a");
        assert_eq!(fields(&mut two, "select 'a'"), "a");
    }
    assert_eq!((named(&mut one), reused(&proxy)), ("select 'a'".to_owned(), 6));
    let traffic = proxy.pool().traffic;
    assert_eq!((traffic.client_parses.value(), traffic.server_parses.value()), (8, 2));
}

/// What a client has given a name is known as well, and the other way round.
#[test]
fn named_and_unnamed_statements_are_the_same_to_a_server() {
    let postgres = Postgres::start();
    let proxy = Proxy::start(&postgres, REUSING);
    let (mut one, mut two) = (proxy.client(), proxy.client());
    one.prepare("s", "select 'a'");
    assert_eq!(fields(&mut two, "select 'a'"), "a");
    assert_eq!(reused(&proxy), 1);
    make_known(&proxy, "select 'b'");
    two.prepare("s", "select 'b'");
    assert_eq!(two.fields_of("s"), "b");
    assert_eq!(named(&mut one), "select 'a';select 'b'");
}

#[test]
fn nothing_is_reused_unless_it_is_asked_for() {
    let postgres = Postgres::start();
    let session = format!("{REUSING}pool.pool_mode = 'session'");
    for settings in ["pool.size = 1", &session] {
        let proxy = Proxy::start(&postgres, settings);
        let mut client = proxy.client();
        for _ in 0..3 {
            assert_eq!(fields(&mut client, "select 'a'"), "a");
        }
        assert_eq!((named(&mut client), reused(&proxy)), (String::new(), 0), "{settings}");
    }
}

#[test]
fn statements_are_reused_in_statement_mode_and_on_several_servers() {
    let postgres = Postgres::start();
    for settings in ["pool.pool_mode = 'statement'", "pool.size = 3"] {
        let proxy = Proxy::start(&postgres, &format!("pool.reuse_unnamed = true\n{settings}"));
        let mut clients = [proxy.client(), proxy.client(), proxy.client()];
        for round in 0..4 {
            for client in &mut clients {
                client.send(&extended("select pg_backend_pid() > $1::int, $1", &["7"]));
            }
            for client in &mut clients {
                let reply = client.read_ready(1);
                assert_eq!(reply.rows(), [["t", "7"]], "{settings} {round}: {reply:?}");
            }
        }
        assert!(reused(&proxy) > 0, "{settings}");
    }
}

/// P49: the same text with other parameter types is another statement.
#[test]
fn types_of_parameters_make_another_statement() {
    let postgres = Postgres::start();
    let proxy = Proxy::start(&postgres, REUSING);
    let mut client = proxy.client();
    for _ in 0..3 {
        for (kind, name) in [(INT4, "integer"), (TEXT, "text")] {
            let parse = parse_typed("", "select pg_typeof($1)::text", &[kind]);
            let reply = client.exchange(&[parse, run("", &["1"]), sync()].concat());
            assert_eq!(reply.values(), name);
        }
    }
    assert_eq!(reused(&proxy), 2);
}

/// A client that writes its values into its texts leaves nothing on servers.
#[test]
fn texts_that_never_come_again_push_nothing_out() {
    let postgres = Postgres::start();
    let proxy = Proxy::start(&postgres, &format!("{REUSING}pool.prepared_statements = 2"));
    let (mut one, mut two) = (proxy.client(), proxy.client());
    for name in ["a", "b"] {
        one.prepare(name, &format!("select '{name}'"));
    }
    for number in 0..100 {
        assert_eq!(fields(&mut two, &format!("select {number}")), number.to_string());
    }

    assert_eq!(named(&mut one), "select 'a';select 'b'");
    assert_eq!((reused(&proxy), count(&proxy, StatementOutcome::Evicted)), (0, 0));
}

/// A text that servers have no plan of, or of which each Parse says more than that it is done.
#[test]
fn what_is_no_query_or_says_more_is_sent_each_time() {
    let postgres = Postgres::start();
    let proxy = Proxy::start(&postgres, REUSING);
    let mut client = proxy.client();
    let long = "x".repeat(64);
    for text in [
        "begin",
        "commit",
        "set datestyle to 'German'",
        "reset datestyle",
        "show datestyle",
        "create table if not exists t (a int)",
        "explain select 1",
        "",
        "deallocate all",
        "select set_config('work_mem', '1MB', false)",
        "select 'now'::timestamptz",
        "select pg_advisory_lock(1)",
        &format!("select 1 as {long}"),
    ] {
        for _ in 0..3 {
            assert_eq!(client.exchange(&extended(text, &[])).errors(), [], "{text}");
        }
    }
    assert_eq!((named(&mut client), reused(&proxy)), (String::new(), 0));
    let cut = client.exchange(&extended(&format!("select 1 as {long}"), &[]));
    assert_eq!(cut.notices().len(), 1);
}

/// A text that others have parsed as well, and another one.
const A: &str = "select 'a ' || $1";
const B: &str = "select 'b ' || $1";

/// Requests one behind another, each with its Sync: how the unnamed statement comes and goes.
fn comes_and_goes() -> Vec<Vec<Vec<u8>>> {
    let (a, b, use_it) = (A, B, run("", &["x"]));
    vec![
        // Each takes the place of the one before, and each Bind is of the last.
        vec![[parse("", a), use_it.clone(), parse("", b), use_it.clone(), sync()].concat()],
        vec![
            [parse("", a), parse("", b), use_it.clone(), parse("", a), use_it.clone(), sync()]
                .concat(),
            [use_it.clone(), sync()].concat(),
        ],
        // A Query ends it, and so does a Close.
        vec![[parse("", a), sync()].concat(), query("select 1"), [use_it.clone(), sync()].concat()],
        vec![[parse("", a), close_statement(""), use_it.clone(), sync()].concat()],
        // One that cannot be parsed leaves none, in its own words.
        vec![
            [parse("", a), sync()].concat(),
            [parse("", "select nowhere"), use_it.clone(), sync()].concat(),
            [use_it.clone(), sync()].concat(),
        ],
        vec![
            [parse("", a), sync()].concat(),
            [parse("", "select * from nowhere"), sync()].concat(),
            [parse("", "selec"), describe_statement(""), sync()].concat(),
            [describe_statement(""), sync()].concat(),
        ],
        // One that is skipped leaves the one before.
        vec![
            [parse("", a), sync()].concat(),
            [parse("", "selec"), parse("", b), sync()].concat(),
            [parse("", a), bind("none", &[]), parse("", b), sync()].concat(),
            [use_it.clone(), sync()].concat(),
        ],
    ]
}

/// What is done with it.
fn is_used() -> Vec<Vec<Vec<u8>>> {
    let (a, b, use_it) = (A, B, run("", &["x"]));
    vec![
        // What it takes and gives, and an error of it that tells its name.
        vec![[parse("", a), describe_statement(""), use_it.clone(), sync()].concat()],
        vec![[parse("", a), bind("", &[]), sync()].concat(), [use_it.clone(), sync()].concat()],
        // The statement of a portal may be another by then.
        vec![
            [
                parse("", "select generate_series(1, 3)"),
                bind_portal("p", "", &[]),
                parse("", b),
                execute_portal("p", 2),
                use_it.clone(),
                execute_portal("p", 2),
                describe_portal("p"),
                sync(),
            ]
            .concat(),
        ],
        // In a block, also in one that has failed.
        vec![
            query("begin"),
            [parse("", a), use_it.clone(), sync()].concat(),
            [parse("", b), use_it.clone(), sync()].concat(),
            [parse("", "select 1/0"), run("", &[]), sync()].concat(),
            [parse("", a), use_it.clone(), sync()].concat(),
            query("rollback"),
        ],
        // Statements that are given up are those with names.
        vec![
            [parse("s", "deallocate all"), parse("", a), run("s", &[]), use_it.clone(), sync()]
                .concat(),
            [use_it.clone(), close_statement("s"), sync()].concat(),
            query("discard all"),
            [use_it.clone(), sync()].concat(),
        ],
    ]
}

/// What becomes of an unnamed statement, in the words that PostgreSQL has for it.
#[test]
fn the_unnamed_statement_is_what_it_is_on_a_server_of_ones_own() {
    let postgres = Postgres::start();
    let conversations = [comes_and_goes(), is_used()].concat();
    for (number, conversation) in conversations.iter().enumerate() {
        let proxy = Proxy::start(&postgres, REUSING);
        for text in [A, B, "select generate_series(1, 3)", "select 1/0"] {
            make_known(&proxy, text);
        }
        let login = [("user", USER), ("database", DATABASE)];
        let mut direct = Client::log_in(&postgres.address(), &login);
        let mut through = proxy.client();
        let before = reused(&proxy);
        for round in 0..3 {
            for sent in conversation {
                let [expected, said] =
                    [&mut direct, &mut through].map(|client| client.exchange(sent));
                assert_eq!(said, expected, "{number}, {round}: {}", sent.escape_ascii());
            }
        }
        assert!(reused(&proxy) > before, "{number}");
    }
}

/// In a pipeline of several requests each Bind is of the Parse in front of it.
#[test]
fn a_pipeline_of_several_requests_gets_what_each_has_parsed() {
    let postgres = Postgres::start();
    let proxy = Proxy::start(&postgres, REUSING);
    let mut client = proxy.client();
    let all = ["a", "b", "a"].map(|value| extended(&format!("select '{value}'"), &[])).concat();
    for _ in 0..3 {
        client.send(&all);
        let reply = client.read_ready(3);
        assert_eq!((&*reply.tags(), &*reply.values()), ("12DCZI12DCZI12DCZI", "a b a"));
    }
    assert!(reused(&proxy) > 0);
}

/// The same where something is put in front of its Parse, so that it is not the next request: settings of
/// two clients, and a Close in case one that was sent before is skipped.
#[test]
fn a_query_that_cannot_be_parsed_behind_settings_leaves_nothing_behind() {
    let postgres = Postgres::start();
    let proxy = Proxy::start(&postgres, REUSING);
    let mut clients = ["iso", "german"].map(|style| {
        let mut client = proxy.client();
        client.ask(&format!("set datestyle = {style}"));
        client
    });
    for _ in 0..3 {
        for client in &mut clients {
            let reply = client.exchange(&extended("select * from later", &[]));
            assert_eq!((&*reply.tags(), &*reply.code()), ("EZI", "42P01"));
        }
    }
    assert_eq!((named(&mut clients[0]), reused(&proxy)), (String::new(), 0));
}

/// A server that has been given a statement is known to have it only when it has.
#[test]
fn a_query_that_cannot_be_parsed_leaves_nothing_behind() {
    let postgres = Postgres::start();
    let proxy = Proxy::start(&postgres, REUSING);
    let mut client = proxy.client();
    for _ in 0..3 {
        let reply = client.exchange(&extended("select * from later", &[]));
        assert_eq!((&*reply.tags(), &*reply.code()), ("EZI", "42P01"));
    }
    assert_eq!((named(&mut client), reused(&proxy)), (String::new(), 0));
    create(&postgres, "later", "select 'here' as a");
    for _ in 0..3 {
        assert_eq!(fields(&mut client, "select * from later"), "here");
    }
    assert_eq!(reused(&proxy), 2);
}

/// A Flush with nothing but what is ours in front of it is answered, as is whatever else comes.
#[test]
fn a_parse_that_is_not_sent_is_answered_by_itself_where_nothing_comes_behind_it() {
    let postgres = Postgres::start();
    let proxy = Proxy::start(&postgres, REUSING);
    make_known(&proxy, "select 'a'");
    let mut client = proxy.client();
    client.send(&[parse("", "select 'a'"), flush()].concat());
    assert_eq!(client.read().tag, b'1');
    client.send(&[describe_statement(""), flush()].concat());
    assert_eq!(client.read_to(b'T').tags(), "tT");
    client.send(&[run("", &[]), sync()].concat());
    assert_eq!(client.read_ready(1).tags(), "2DCZI");
    assert_eq!(client.exchange(&[parse("", "select 'a'"), sync()].concat()).tags(), "1ZI");
    assert_eq!(reused(&proxy), 2);
}

/// P55: who parses a text gets the columns of now, whoever has altered its table.
#[test]
fn a_text_that_is_parsed_behind_an_alter_gives_the_new_columns() {
    let postgres = Postgres::start();
    let proxy = Proxy::start(&postgres, "pool.size = 2\npool.reuse_unnamed = true");
    postgres.client().ask("create schema here; grant all on schema here to public");
    let path = [("search_path", "here")];
    let (mut one, mut two) = (proxy.client_with(&path), proxy.client_with(&path));
    one.ask("create table here.t as select 1 as a");
    for round in 2..6 {
        let columns: Vec<_> = (1..round).map(|number| number.to_string()).collect();
        for _ in 0..3 {
            assert_eq!(fields(&mut one, "select * from t"), columns.join(" "));
            two.ask("begin");
            assert_eq!(fields(&mut two, "select * from t"), columns.join(" "));
            assert_eq!(fields(&mut two, "select * from t"), columns.join(" "));
            two.ask("commit");
        }
        let alter = format!("alter table here.t add c{round} int default {round}");
        let altered = if round % 2 == 0 { one.ask(&alter) } else { postgres.client().ask(&alter) };
        assert_eq!(altered.errors(), []);
    }
    assert!(reused(&proxy) > 0);
    // What went past pgweir was seen by the refusal of a server, of which no client has heard.
    assert!(proxy.pool().stats.repeats.value() > 0);
}

/// P83: the same by each way to use it, however much is sent at once.
#[test]
fn a_text_that_is_parsed_behind_an_unseen_alter_is_sent_once_more() {
    let text = "select * from t";
    let (parse_it, run_it) = (parse("", text), run("", &[]));
    let shown = [bind("", &[]), describe_portal(""), execute()].concat();
    for (sent, tags) in [
        (vec![[&*parse_it, &*run_it, &*sync()].concat()], "12DCZI"),
        (vec![[&*parse_it, &*shown, &*sync()].concat()], "12TDCZI"),
        (vec![[&*parse_it, &*describe_statement(""), &*run_it, &*sync()].concat()], "1tT2DCZI"),
        (
            vec![
                [&*parse_it, &*describe_statement(""), &*sync()].concat(),
                [&*run_it, &*sync()].concat(),
            ],
            "1tTZI2DCZI",
        ),
        (vec![[&*parse_it, &*sync()].concat(), [&*run_it, &*sync()].concat()], "1ZI2DCZI"),
    ] {
        let postgres = Postgres::start();
        let proxy = Proxy::start(&postgres, REUSING);
        create(&postgres, "t", "select 1 as a");
        make_known(&proxy, text);
        let altered = postgres.client().ask("alter table t add b int default 2");
        assert_eq!(altered.errors(), []);

        let mut client = proxy.client();
        let replies: Vec<_> = sent.iter().map(|sent| client.exchange(sent)).collect();

        assert_eq!(replies.iter().map(Reply::tags).collect::<String>(), tags);
        assert_eq!(replies.last().unwrap().rows(), [["1", "2"]]);
        assert_eq!((reused(&proxy), proxy.pool().stats.repeats.value()), (1, 1));
        // Who was told of two columns hears of a third, as from a server of its own.
        let altered = postgres.client().ask("alter table t add c int default 3");
        assert_eq!(altered.errors(), []);
        assert_eq!(client.use_prepared("").code(), "0A000");
        assert_eq!(client.fields_of(""), "1 2 3");
    }
}

/// A block that has made other tables or settings has its texts read there.
#[test]
fn nothing_is_reused_behind_what_changes_the_meaning_of_a_text_in_its_block() {
    let postgres = Postgres::start();
    let proxy = Proxy::start(&postgres, REUSING);
    postgres.client().ask("create schema other; grant all on schema other to public");
    postgres.client().ask("create schema here; grant all on schema here to public");
    create(&postgres, "other.t", "select 'other' as a");
    let mut client = proxy.client_with(&[("search_path", "here")]);
    client.ask("create table here.t as select 'first' as a");
    // A server that has had such tables looks among them first, and does not see that there is one more.
    client.ask("create temp table u (a int)");
    for _ in 0..2 {
        assert_eq!(fields(&mut client, "select a from t"), "first");
    }
    for (change, expected) in [
        ("select 1", "first"),
        ("create temp table t as select 'temporary' as a", "temporary"),
        ("select 'temporary' as a into temp t", "temporary"),
        ("set local search_path to other", "other"),
        ("update t set a = 'second'", "second"),
        ("alter table t rename to gone; create table t as select 'new' as a", "new"),
    ] {
        client.ask("begin");
        assert_eq!(fields(&mut client, "select a from t"), "first");
        assert_eq!(client.ask(change).errors(), [], "{change}");
        for _ in 0..2 {
            assert_eq!(fields(&mut client, "select a from t"), expected, "{change}");
        }
        client.ask("rollback");
        assert_eq!(fields(&mut client, "select a from t"), "first", "{change}");
    }
    assert!(reused(&proxy) > 0);
}

/// Literals are read when a text is parsed.
#[test]
fn a_literal_is_read_under_the_settings_of_its_transaction() {
    let postgres = Postgres::start();
    let proxy = Proxy::start(&postgres, REUSING);
    let (text, usual) = ("select '2.1.2020'::date - '2020-01-01'", "31");
    make_known(&proxy, text);
    let mut client = proxy.client();
    client.ask("begin");
    assert_eq!(fields(&mut client, text), usual);

    client.ask("set local datestyle to 'German'");
    for _ in 0..3 {
        assert_eq!(fields(&mut client, text), "1");
    }
    client.ask("commit");
    for _ in 0..3 {
        assert_eq!(fields(&mut client, text), usual);
    }
    assert!(reused(&proxy) > 0);
}

/// Whether a server has got it again is known when what was in front of it is answered.
#[test]
fn a_statement_whose_preparation_may_be_skipped_is_bound_behind_the_answer() {
    let postgres = Postgres::start();
    let proxy = Proxy::start(&postgres, &format!("{REUSING}pool.prepared_statements = 1"));
    make_known(&proxy, "select 'a'");
    let (mut one, mut two) = (proxy.client(), proxy.client());
    one.prepare("", "select 'a'");
    assert_eq!(reused(&proxy), 1);
    two.prepare("other", "select 'b'");
    let use_it = [run("", &[]), sync()].concat();

    one.send(&[&*bind("none", &[]), &*use_it, &*use_it].concat());

    let reply = one.read_ready(2);
    assert_eq!((&*reply.tags(), &*reply.values()), ("EZI2DCZI", "a"));
}

/// Clients with other settings do not share what their texts mean.
#[test]
fn a_client_with_other_settings_gets_what_its_text_means_there() {
    let postgres = Postgres::start();
    let proxy = Proxy::start(&postgres, REUSING);
    let mut german = proxy.client_with(&[("DateStyle", "German, DMY")]);
    let mut other = proxy.client();
    for _ in 0..3 {
        assert_eq!(fields(&mut german, "select '2.1.2020'::date"), "02.01.2020");
        assert_eq!(fields(&mut other, "select '2.1.2020'::date"), "2020-02-01");
    }
    other.ask("set datestyle to 'German'");
    assert_eq!(fields(&mut other, "select '2.1.2020'::date"), "02.01.2020");
    assert!(reused(&proxy) > 0);
}

/// To read a text PostgreSQL takes a snapshot: a Parse that is not sent counts as a query of its block.
#[test]
fn a_parse_that_is_not_sent_counts_as_a_query_of_its_block() {
    let postgres = Postgres::start();
    let proxy = Proxy::start(&postgres, REUSING);
    let serializable = "set transaction isolation level serializable";
    make_known(&proxy, "select 1");
    for sent in [
        [parse("", "select 1"), sync(), query(serializable)].concat(),
        [extended("select 1", &[]), query(serializable)].concat(),
    ] {
        let mut client = proxy.client();
        client.ask("begin; select 1");
        client.send(&sent);
        let reply = client.read_ready(2);
        assert_eq!(reply.code(), "25001", "{reply:?}");
        client.ask("rollback");
    }
    // The second brought its Bind along.
    assert_eq!(reused(&proxy), 1);
    let begin = query("begin isolation level serializable");
    let mut client = proxy.client();
    assert_eq!(client.exchange(&[parse("", "select 1"), begin].concat()).code(), "25001");
}

/// What a server had to give up for others is prepared there anew.
#[test]
fn a_statement_that_was_pushed_out_comes_back() {
    let postgres = Postgres::start();
    let proxy = Proxy::start(&postgres, &format!("{REUSING}pool.prepared_statements = 1"));
    let (mut one, mut two) = (proxy.client(), proxy.client());
    for _ in 0..3 {
        assert_eq!(fields(&mut one, "select 'a'"), "a");
        one.send(&[parse("", "select 'a'"), sync()].concat());
        assert_eq!(one.read_ready(1).tags(), "1ZI");
        assert_eq!(fields(&mut two, "select 'b'"), "b");
        assert_eq!(one.fields_of(""), "a");
    }
    assert!(count(&proxy, StatementOutcome::Evicted) > 0);
}

/// Something that no text shows has taken it from its server: who has only just parsed it hears nothing of
/// that.
#[test]
fn a_statement_that_a_server_has_lost_is_prepared_there_anew() {
    let postgres = Postgres::start();
    let proxy = Proxy::start(&postgres, REUSING);
    make_forget(&postgres);
    let mut client = proxy.client();
    for _ in 0..3 {
        assert_eq!(fields(&mut client, "select 'a'"), "a");
        client.ask("select forget()");
    }
    assert_eq!(fields(&mut client, "select 'a'"), "a");
    assert_eq!((reused(&proxy), proxy.pool().stats.repeats.value()), (2, 2));
}

/// In a block nothing is tried again: the client hears what it would of a server of its own, but for the
/// Parse that had prepared it there.
#[test]
fn a_statement_that_is_lost_in_a_block_is_unnamed_to_its_client() {
    let postgres = Postgres::start();
    let proxy = Proxy::start(&postgres, REUSING);
    make_forget(&postgres);
    let mut client = proxy.client();
    for _ in 0..3 {
        assert_eq!(fields(&mut client, "select 'a'"), "a");
    }
    client.ask("begin");
    client.ask("select forget()");

    let reply = client.exchange(&extended("select 'a'", &[]));

    let expected = "unnamed prepared statement does not exist";
    assert_eq!((reply.error().code(), reply.error().message()), ("26000", expected));
}

/// Each server keeps the text, and more that is made of it.
#[test]
fn a_long_text_is_sent_each_time() {
    let postgres = Postgres::start();
    let proxy = Proxy::start(&postgres, REUSING);
    let mut client = proxy.client();
    for (length, expected) in [(1000, 1), (20_000, 0)] {
        let text = format!("select 1 /* {} */", "x".repeat(length));
        let before = reused(&proxy);
        for _ in 0..3 {
            assert_eq!(fields(&mut client, &text), "1");
        }
        assert_eq!(reused(&proxy) - before, expected, "{length}");
    }
}
