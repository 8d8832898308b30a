//! `pgweir.mode` and its likes: set and shown by the proxy, and never sent to a server.

use crate::support::fake_server::FakeServer;
use crate::support::messages::{
    bind, bind_portal, close_statement, describe_portal, describe_statement, execute, flush, parse,
    query, sync,
};
use crate::support::postgres::{DATABASE, Postgres, USER};
use crate::support::proxy::Proxy;
use crate::support::raw_client::Client;

const MODES: &str = "pool.size = 2\n";

fn mode(client: &mut Client) -> String {
    client.value("SHOW pgweir.mode")
}

/// The mode whose servers the session has.
fn mode_in_use(client: &mut Client) -> &'static str {
    match client.value("SHOW default_transaction_read_only").as_str() {
        "on" => "read_only",
        _ => "read_write",
    }
}

#[test]
fn a_mode_is_set_between_transactions_and_holds_from_then_on() {
    let postgres = Postgres::start();
    let proxy = Proxy::start(&postgres, MODES);
    let mut client = proxy.client();
    assert_eq!(
        (mode(&mut client).as_str(), mode_in_use(&mut client)),
        ("read_write", "read_write")
    );

    let reply = client.ask("SET pgweir.mode = 'read_only'");
    assert_eq!((reply.tags(), reply.done()), ("CZI".to_owned(), vec!["SET".to_owned()]));
    assert_eq!((mode(&mut client).as_str(), mode_in_use(&mut client)), ("read_only", "read_only"));
    assert_eq!(client.ask("create table t (id int)").code(), "25006");

    assert_eq!(client.ask("RESET pgweir.mode").done(), ["RESET"]);
    assert_eq!(
        (mode(&mut client).as_str(), mode_in_use(&mut client)),
        ("read_write", "read_write")
    );

    // Settings and statements go with the session.
    client.ask("set datestyle = 'German, DMY'");
    client.exchange(&[parse("s", "select 7"), sync()].concat());
    client.ask("set pgweir.mode to BATCH");
    assert_eq!(client.value("show datestyle"), "German, DMY");
    assert_eq!(client.exchange(&[bind("s", &[]), execute(), sync()].concat()).values(), "7");
    assert_eq!(client.ask("RESET ALL").done(), ["RESET"]);
    assert_eq!(mode(&mut client), "read_write");
}

#[test]
fn the_extended_protocol_sets_and_shows_as_well() {
    let postgres = Postgres::start();
    let proxy = Proxy::start(&postgres, MODES);
    let mut client = proxy.client();
    let run = |text: &str| {
        [parse("", text), bind("", &[]), describe_portal(""), execute(), sync()].concat()
    };

    let reply = client.exchange(&run("SHOW pgweir.mode"));
    assert_eq!((reply.tags(), reply.values()), ("12TDCZI".to_owned(), "read_write".to_owned()));
    let reply = client.exchange(&run("SET pgweir.mode = 'read_only'"));
    assert_eq!((reply.tags(), reply.done()), ("12nCZI".to_owned(), vec!["SET".to_owned()]));
    assert_eq!(mode_in_use(&mut client), "read_only");

    // A statement is asked again and again, and tells what is true then.
    client.exchange(&[parse("m", "SHOW pgweir.mode"), describe_statement("m"), sync()].concat());
    for wanted in ["batch", "read_only"] {
        client.ask(&format!("SET pgweir.mode = {wanted}"));
        let reply = client.exchange(&[bind("m", &[]), execute(), sync()].concat());
        assert_eq!((reply.tags(), reply.values()), ("2DCZI".to_owned(), wanted.to_owned()));
    }
    // Under the same name another statement takes its place.
    client.exchange(&[close_statement("m"), parse("m", "select 5"), sync()].concat());
    assert_eq!(client.exchange(&[bind("m", &[]), execute(), sync()].concat()).values(), "5");
}

#[test]
fn in_a_pipeline_each_answer_comes_in_its_turn() {
    let postgres = Postgres::start();
    let proxy = Proxy::start(&postgres, MODES);
    let mut client = proxy.client();
    let run = |text: &str| [parse("", text), bind("", &[]), execute()].concat();

    let one = [run("select 1"), run("SHOW pgweir.mode"), run("select 2"), sync()].concat();
    let reply = client.exchange(&one);
    assert_eq!(
        (reply.tags().as_str(), reply.values().as_str()),
        ("12DC12DC12DCZI", "1 read_write 2")
    );

    // Behind an error nothing is done up to the Sync.
    let failed = [run("select 1/0"), run("SET pgweir.mode = batch"), sync()].concat();
    assert_eq!(client.exchange(&failed).tags(), "1EZI");
    assert_eq!(mode(&mut client), "read_write");
    // What fails behind it takes it back.
    let undone = [run("SET pgweir.mode = batch"), run("select 1/0"), sync()].concat();
    assert_eq!(client.exchange(&undone).tags(), "12C1EZI");
    assert_eq!(mode(&mut client), "read_write");
    let refused =
        [run("select 1"), run("SET pgweir.mode = fast"), run("select 2"), sync()].concat();
    let reply = client.exchange(&refused);
    assert_eq!((reply.tags().as_str(), reply.code()), ("12DCEZI", "22023".to_owned()));

    // A Flush is enough.
    client.send(&[run("SHOW pgweir.mode"), flush()].concat());
    assert_eq!(client.read_to(b'C').values(), "read_write");
    assert_eq!(client.exchange(&[run("select 3"), sync()].concat()).values(), "3");

    // What is behind the change is done in the new mode, however it comes.
    let writes =
        ["select 1", "SET pgweir.mode = read_only", "SHOW pgweir.mode", "create table t (id int)"];
    client.send(&writes.map(query).concat());
    let reply = client.read_ready(4);
    assert_eq!((reply.values().as_str(), reply.code()), ("1 read_only", "25006".to_owned()));
    let back = ["select 1", "RESET pgweir.mode", "create table t (id int)"];
    client.send(&back.map(query).concat());
    assert_eq!(client.read_ready(3).tags(), "TDCZICZICZI");
    let segments = ["SET pgweir.mode = read_only", "insert into t values (1)"];
    client.send(&segments.map(|text| [run(text), sync()].concat()).concat());
    assert_eq!(client.read_ready(2).code(), "25006");
}

#[test]
fn what_resets_everything_resets_the_mode_in_every_protocol_and_with_every_startup() {
    let postgres = Postgres::start();
    let proxy = Proxy::start(&postgres, MODES);
    let parameters =
        [("user", USER), ("database", DATABASE), ("application_name", "app"), ("timezone", "UTC")];
    for extended in [false, true] {
        let mut client = Client::log_in(&proxy.address, &parameters);
        for text in ["RESET ALL", "DISCARD ALL"] {
            client.ask("SET pgweir.mode = read_only");
            assert_eq!(mode_in_use(&mut client), "read_only");
            if extended {
                let run = [parse("", text), bind("", &[]), execute(), sync()].concat();
                client.exchange(&run);
            } else {
                client.ask(text);
            }
            let now = (mode(&mut client), mode_in_use(&mut client));
            assert_eq!(
                now,
                ("read_write".to_owned(), "read_write"),
                "{text}, extended: {extended}"
            );
        }
        client.ask("SET pgweir.mode = read_only");
        client.ask("begin");
        client.ask("RESET ALL");
        client.ask("rollback");
        assert_eq!(mode(&mut client), "read_only");
    }
}

#[test]
fn a_name_is_one_statements_only() {
    let postgres = Postgres::start();
    let proxy = Proxy::start(&postgres, MODES);
    let mut client = proxy.client();
    client.exchange(&[parse("s", "select 1"), sync()].concat());
    assert_eq!(client.exchange(&[parse("s", "SHOW pgweir.mode"), sync()].concat()).code(), "42P05");
    client.exchange(&[parse("m", "SHOW pgweir.mode"), sync()].concat());
    assert_eq!(client.exchange(&[parse("m", "SHOW pgweir.mode"), sync()].concat()).code(), "42P05");
    // One that is skipped takes no place.
    client.exchange(&[parse("", "select nothing"), parse("m", "select 1"), sync()].concat());
    assert_eq!(
        client.exchange(&[bind("m", &[]), execute(), sync()].concat()).values(),
        "read_write"
    );
    client.ask("DEALLOCATE ALL");
    assert_eq!(client.exchange(&[bind("m", &[]), execute(), sync()].concat()).code(), "26000");
}

#[test]
fn a_mode_is_set_by_the_first_statement_of_a_transaction_or_not_at_all() {
    let postgres = Postgres::start();
    let proxy = Proxy::start(&postgres, MODES);
    let mut client = proxy.client();
    let run = |text: &str| [parse("", text), bind("", &[]), execute()].concat();
    let behind = [run("select 1"), run("SET pgweir.mode = batch"), sync()].concat();
    assert_eq!(client.exchange(&behind).code(), "25001");
    let in_block = [run("begin"), run("SET pgweir.mode = batch"), sync()].concat();
    assert_eq!(client.exchange(&in_block).code(), "25001");
    client.ask("rollback");
    assert_eq!(mode(&mut client), "read_write");
    let portals = (0..200).map(|n| bind_portal(&format!("p{n}"), "m", &[]));
    let many = [vec![parse("m", "SHOW pgweir.mode")], portals.collect(), vec![sync()]].concat();
    assert_eq!(client.exchange(&many.concat()).code(), "53400");
}

#[test]
fn inside_a_block_a_mode_is_shown_and_not_set() {
    let postgres = Postgres::start();
    let proxy = Proxy::start(&postgres, MODES);
    let mut client = proxy.client();
    let extended = |text: &str| [parse("", text), bind("", &[]), execute(), sync()].concat();
    for is_begun_there in [false, true] {
        let begin = |client: &mut Client| {
            client.ask("begin");
            if is_begun_there {
                client.ask("select 1");
            }
        };
        begin(&mut client);
        let reply = client.ask("SHOW pgweir.mode");
        assert_eq!((reply.tags(), reply.values()), ("TDCZT".to_owned(), "read_write".to_owned()));
        assert_eq!(client.ask("SET pgweir.mode = batch").code(), "25001");
        assert_eq!(client.ask("SHOW pgweir.mode").code(), "25P02");
        assert_eq!(client.exchange(&extended("SHOW pgweir.mode")).code(), "25P02");
        assert_eq!(client.ask("commit").done(), ["ROLLBACK"]);

        begin(&mut client);
        assert_eq!(client.exchange(&extended("SHOW pgweir.mode")).tags(), "12DCZT");
        let reply = client.exchange(&extended("RESET pgweir.mode"));
        assert_eq!((reply.code(), reply.status()), ("25001".to_owned(), Some('E')));
        assert_eq!(client.ask("rollback").status(), Some('I'));
        assert_eq!(mode(&mut client), "read_write");
    }
}

#[test]
fn what_there_is_not_is_refused_and_nothing_reaches_a_server() {
    let postgres = Postgres::start();
    for pool_mode in ["transaction", "session"] {
        let rows = format!("pool.pool_mode = \"{pool_mode}\"\npool.prepared_statements = 0\n");
        let proxy = Proxy::start(&postgres, &rows);
        let mut client = proxy.client();
        for (text, code) in [
            ("SHOW pgweir.x", "42704"),
            ("SET pgweir.x = 1", "42704"),
            ("SET pgweir.host = 'db1'", "55P02"),
            ("SET pgweir.mode = 'fast'", "22023"),
            ("SET LOCAL pgweir.mode = 'batch'", "0A000"),
            ("SET pgweir.mode = 'transactional'", "0A000"),
            ("SELECT set_config('pgweir.mode', 'batch', false)", "0A000"),
            ("SELECT 1; SET pgweir.mode = 'batch'", "0A000"),
            ("/* x */ SET pgweir.x = 1", "42704"),
        ] {
            assert_eq!(client.ask(text).code(), code, "{pool_mode}: {text}");
            if !text.contains(';') {
                let reply =
                    client.exchange(&[parse("", text), bind("", &[]), execute(), sync()].concat());
                assert_eq!(
                    (reply.code().as_str(), reply.status()),
                    (code, Some('I')),
                    "{pool_mode}: {text}"
                );
            }
        }
        for name in ["mode", "x", "host"] {
            let there =
                client.value(&format!("select current_setting('pgweir.{name}', true) is null"));
            assert_eq!(there, "t", "{pool_mode}: {name} is on the server");
        }
        assert_eq!(mode(&mut client), "read_write");
    }
}

#[test]
fn the_session_tells_its_domain_host_and_pin() {
    let postgres = Postgres::start();
    let proxy = Proxy::start(&postgres, MODES);
    let mut client = proxy.client();
    assert_eq!(client.value("SHOW pgweir.domain"), "main");
    assert_eq!(client.value("SHOW pgweir.pin"), "");
    client.ask("begin");
    let host = client.value("SHOW pgweir.host");
    assert_eq!(host, postgres.host());
    client.ask("commit");
    assert_eq!(client.value("SHOW pgweir.host"), host);

    let own = Proxy::start(&postgres, "pool.pool_mode = \"session\"\n");
    let mut client = own.client();
    assert_eq!(
        (client.value("SHOW pgweir.pin"), client.value("SHOW pgweir.host")),
        ("session".into(), host)
    );
    let reply = client.ask("SET pgweir.mode = batch");
    assert_eq!(reply.code(), "0A000");
    assert!(reply.error().hint().contains("pgweir.mode=batch"), "{:?}", reply.error());
}

/// The mode can be set while there is no server.
#[test]
fn no_server_is_needed_to_set_a_mode() {
    let server = FakeServer::start(|peer| {
        peer.welcome();
        assert!(peer.read_to(b'Q').is_none(), "something was sent");
    });
    let proxy = Proxy::before(&server.host(), MODES);
    let mut client = proxy.client();
    for text in
        ["SET pgweir.mode = batch", "SHOW pgweir.mode", "SHOW pgweir.host", "RESET pgweir.mode"]
    {
        assert_eq!(client.ask(text).status(), Some('I'), "{text}");
        let extended = [parse("", text), bind_portal("p", "", &[]), describe_portal("p")].concat();
        assert_eq!(client.exchange(&[extended, sync()].concat()).status(), Some('I'), "{text}");
    }
}
