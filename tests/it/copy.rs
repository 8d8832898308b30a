//! COPY in both directions, and what goes wrong in the middle of it.

use std::thread::park_timeout;
use std::time::Duration;

use crate::support::fake_server::FakeServer;
use crate::support::messages::{
    bind, close_statement, copy_data, copy_done, copy_fail, describe_portal, describe_statement,
    execute, extended, flush, message, parse, query, run, sync, terminate,
};
use crate::support::postgres::{DATABASE, Postgres, USER};
use crate::support::proxy::Proxy;
use crate::support::raw_client::Client;
use crate::support::reply::Message;
use crate::support::wait::wait_until;

const ONE: &str = "pool.size = 1\n";

fn with_table(proxy: &Proxy) -> Client {
    let mut client = proxy.client();
    client.value("create table numbers (n int)");
    client
}

/// P29, P70: a copy that will get no data is given up, and the next client has a server.
#[test]
fn a_goodbye_in_one_packet_with_a_copy_ends_both() {
    let postgres = Postgres::start();
    let proxy = Proxy::start(&postgres, ONE);
    let mut other = with_table(&proxy);
    for begin in [query("copy numbers from stdin"), extended("copy numbers from stdin", &[])] {
        let mut client = proxy.client();

        client.send(&[begin, terminate()].concat());

        client.read_to_end();
        assert_eq!(other.value("select count(*) from numbers"), "0");
    }
}

/// What PostgreSQL finds wrong with the data is told in front of what is wrong with the message behind it.
#[test]
fn a_message_of_an_impossible_length_ends_a_copy_behind_the_copys_own_error() {
    let postgres = Postgres::start();
    let proxy = Proxy::start(&postgres, ONE);
    let mut other = with_table(&proxy);
    for begin in [query("copy numbers from stdin"), extended("copy numbers from stdin", &[])] {
        for (data, of_the_data) in [("1\n", None), ("no number\n", Some("22P02"))] {
            for stepwise in [false, true] {
                let mut client = proxy.client();
                let rest = [copy_data(data.as_bytes()), b"c\0\0\0\x03".to_vec()].concat();
                if stepwise {
                    client.send(&begin);
                    while client.read().tag != b'G' {}
                    client.send(&rest);
                } else {
                    client.send(&[begin.clone(), rest].concat());
                }

                let told = client.read_to_end();

                let errors: Vec<_> =
                    told.errors().iter().map(|error| error.code().to_owned()).collect();
                let expected: Vec<_> = of_the_data.into_iter().chain(["08P01"]).collect();
                assert_eq!(errors, expected, "{data:?}, stepwise: {stepwise}");
                assert_eq!(other.value("select count(*) from numbers"), "0");
            }
        }
    }
}

#[test]
fn rows_are_copied_in_and_out() {
    for mode in ["transaction", "statement", "session"] {
        let postgres = Postgres::start();
        let proxy = Proxy::start(&postgres, &format!("{ONE}pool.pool_mode = '{mode}'"));
        copy_in_and_out(&proxy);
        assert_eq!(proxy.pool().servers.total(), 1, "{mode}");
    }
}

fn copy_in_and_out(proxy: &Proxy) {
    let mut client = with_table(proxy);

    client.send(&query("copy numbers from stdin"));
    assert_eq!(client.read().tag, b'G');
    for n in 0..1000 {
        client.send(&copy_data(format!("{n}\n").as_bytes()));
    }
    client.send(&copy_done());
    assert_eq!(client.read_ready(1).done(), ["COPY 1000"]);

    let out = client.ask("copy (select n from numbers order by n) to stdout");
    let data: Vec<u8> =
        out.0.iter().filter(|m| m.tag == b'd').flat_map(|m| m.body.clone()).collect();
    let expected: String = (0..1000).flat_map(|n: u32| [n.to_string(), "\n".to_owned()]).collect();
    assert_eq!(String::from_utf8(data).unwrap(), expected);
    assert_eq!(out.status(), Some('I'));
}

#[test]
fn a_copy_that_the_client_gives_up_is_its_error_and_the_session_goes_on() {
    let postgres = Postgres::start();
    let proxy = Proxy::start(&postgres, ONE);
    let mut client = with_table(&proxy);
    client.send(&query("copy numbers from stdin"));
    assert_eq!(client.read().tag, b'G');

    client.send(&[copy_data(b"1\n"), copy_fail("no more")].concat());

    assert_eq!(client.read_ready(1).code(), "57014");
    assert_eq!(client.value("select count(*) from numbers"), "0");
}

/// P31: the server gives up while the client streams on.
#[test]
fn a_flush_that_breaks_the_protocol_is_ignored_by_a_copy() {
    let postgres = Postgres::start();
    let proxy = Proxy::start(&postgres, ONE);
    let mut client = with_table(&proxy);
    let malformed = message(b'H', b"more");
    // Behind the Query, where nobody knows yet whether it copies, and in the midst of the data.
    let data = copy_data(b"1\n");
    let begin = [query("copy numbers from stdin"), malformed.clone()].concat();
    client.send(&[begin, data.clone(), malformed, data, copy_done()].concat());
    assert_eq!(client.read_ready(1).done(), ["COPY 2"]);
    assert_eq!(client.value("select count(*) from numbers"), "2");
    assert_eq!(proxy.pool().servers.total(), 1);
}

#[test]
fn data_behind_a_copy_that_failed_is_swallowed() {
    let postgres = Postgres::start();
    let proxy = Proxy::start(&postgres, ONE);
    let (mut client, mut other) = (with_table(&proxy), proxy.client());
    client.send(&query("copy numbers from stdin"));
    assert_eq!(client.read().tag, b'G');
    client.send(&copy_data(b"not a number\n"));
    let failed = client.read_ready(1);
    assert_eq!((failed.tags().as_str(), failed.code().as_str()), ("EZI", "22P02"));

    // The server is somebody else's by now; what comes late must not reach it.
    other.ask("begin; select 1");
    client.send(&[copy_data(b"2\n"), copy_data(&vec![b'3'; 100_000]), copy_done()].concat());
    client.send(&query("select 'after'"));
    proxy.wait_for_waiting(1);
    assert_eq!(other.value("select 'undisturbed'"), "undisturbed");
    other.ask("commit");

    assert_eq!(client.read_ready(1).values(), "after");
    assert_eq!(proxy.pool().servers.total(), 1);
}

/// P31: the server fails while half a message is on its way to it: it waits for the other half, and
/// must not get another client's bytes for it.
#[test]
fn a_server_that_waits_for_the_rest_of_a_message_is_lent_to_nobody() {
    let postgres = Postgres::start();
    let proxy = Proxy::start(&postgres, ONE);
    let (mut client, mut other) = (with_table(&proxy), proxy.client());
    client.send(&query("copy numbers from stdin"));
    assert_eq!(client.read().tag, b'G');
    let late = copy_data(&vec![b'3'; 50_000]);
    let (front, rest) = late.split_at(20_000);

    client.send(&[&copy_data(b"not a number\n"), front].concat());
    assert_eq!(client.read_ready(1).code(), "22P02");

    assert_eq!(other.value("select 'undisturbed'"), "undisturbed");
    client.send(&[rest, &copy_done(), &query("select 'after'")].concat());
    assert_eq!(client.read_ready(1).values(), "after");
}

/// P31: the same where the end of the data is in the same packet as what fails.
#[test]
fn a_copy_done_in_the_same_packet_as_the_data_that_fails_is_swallowed() {
    let postgres = Postgres::start();
    let proxy = Proxy::start(&postgres, ONE);
    let mut client = with_table(&proxy);
    for end in [copy_done(), copy_fail("late")] {
        client.send(&query("copy numbers from stdin"));
        assert_eq!(client.read().tag, b'G');

        client.send(&[copy_data(b"x\n"), copy_data(b"1\n"), end, query("select 'after'")].concat());
        let reply = client.read_ready(2);

        assert_eq!(reply.tags(), "EZITDCZI", "{reply:?}");
        assert_eq!(reply.values(), "after");
    }
    assert_eq!(proxy.pool().servers.total(), 1);
}

/// P32: a Sync inside the copy is none, the one behind it is.
#[test]
fn a_copy_in_the_extended_protocol_is_answered_once_for_each_real_sync() {
    let postgres = Postgres::start();
    let proxy = Proxy::start(&postgres, ONE);
    let mut client = with_table(&proxy);
    let copy = [parse("", "copy numbers from stdin"), run("", &[])].concat();

    client.send(&[copy.clone(), sync()].concat());
    assert_eq!(client.read_to(b'G').tags(), "12G");
    client.send(&[copy_data(b"1\n"), copy_done(), sync()].concat());
    assert_eq!(client.read_ready(1).tags(), "CZI");

    // All of it before the first answer.
    client
        .send(&[copy, copy_data(b"2\n"), sync(), copy_data(b"3\n"), copy_done(), sync()].concat());
    assert_eq!(client.read_ready(1).tags(), "12GCZI");

    assert_eq!(client.value("select count(*) from numbers"), "3");
    assert_eq!(proxy.pool().servers.total(), 1);
}

/// P29, P70: the next client sees nothing of it.
#[test]
fn a_client_that_vanishes_in_the_middle_of_a_copy_leaves_nothing_behind() {
    let postgres = Postgres::start();
    let proxy = Proxy::start(&postgres, ONE);
    let mut client = with_table(&proxy);
    client.send(&query("copy numbers from stdin"));
    assert_eq!(client.read().tag, b'G');
    client.send(&copy_data(b"1\n"));

    client.vanish();

    assert_eq!(proxy.client().value("select count(*) from numbers"), "0");
    wait_until("one connection is left", || postgres.connections() == 1);
}

#[test]
fn a_client_that_vanishes_while_data_is_copied_out_leaves_nothing_behind() {
    let postgres = Postgres::start();
    let proxy = Proxy::start(&postgres, ONE);
    let mut client = proxy.client();
    client
        .send(&query("copy (select repeat('x', 1000) from generate_series(1, 1000000)) to stdout"));
    assert_eq!(client.read().tag, b'H');

    client.vanish();

    assert_eq!(proxy.client().ask("select 'mine'").tags(), "TDCZI");
    proxy.wait_for_pool("one server", |pool| pool.servers.total() == 1);
}

/// A piece of data longer than every buffer.
#[test]
fn a_copy_message_longer_than_every_buffer_goes_through() {
    let postgres = Postgres::start();
    let proxy = Proxy::start(&postgres, ONE);
    let mut client = proxy.client();
    client.value("create table texts (t text)");
    client.send(&query("copy texts from stdin"));
    assert_eq!(client.read().tag, b'G');

    client.send(&[copy_data(&[&vec![b'y'; 8 << 20][..], b"\n"].concat()), copy_done()].concat());

    assert_eq!(client.read_ready(1).done(), ["COPY 1"]);
    assert_eq!(client.value("select length(t) from texts"), (8 << 20).to_string());
}

/// Sends `begin` and `rest`, in one piece or the second when the copy has begun, and tells what came
/// back up to the end of everything: tags, codes, states.
fn transcript(client: &mut Client, begin: &[u8], rest: &[u8], stepwise: bool) -> String {
    let mut told = String::new();
    client.send(begin);
    if stepwise {
        for message in client.read_to(b'G').0 {
            note(&mut told, &message);
        }
    }
    // Whatever is still open ends with the first of these: the last is always answered.
    let end = ["rollback", "select 'end'"].map(query).concat();
    client.send(&[rest, &sync(), &query("select 'first'"), &sync(), &end].concat());
    loop {
        // A message that has no place in a copy ends the connection.
        let Some(message) = client.try_read() else { return told + "closed" };
        let is_end = message.tag == b'D' && message.row() == [Some("end".to_owned())];
        note(&mut told, &message);
        if is_end {
            for message in client.read_to(b'Z').0 {
                note(&mut told, &message);
            }
            return told;
        }
    }
}

fn note(told: &mut String, message: &Message) {
    let note = match message.tag {
        b'N' | b'S' => return,
        b'E' => format!("[{} {}]", message.fields().code(), message.fields().message()),
        b'Z' => format!("Z{} ", char::from(message.body[0])),
        b'C' => format!("({})", message.texts()[0]),
        tag => char::from(tag).to_string(),
    };
    told.push_str(&note);
}

/// What begins a copy, what comes behind it, and whether the copy does begin.
type Conversation = (Vec<u8>, Vec<Vec<u8>>, bool);

fn conversations() -> Vec<Conversation> {
    let (good, bad) = (copy_data(b"1\n"), copy_data(b"not a number\n"));
    let (done, fail) = (copy_done(), copy_fail("no more"));
    let select = [parse("", "select 2"), run("", &[])].concat();
    let function_call = message(b'F', &[0, 0, 0, 1, 0, 0, 0, 0, 0, 0]);
    let mut all: Vec<Conversation> = Vec::new();
    let disturbing = [
        query("select 1"),
        parse("", "select 1"),
        parse("name", "select 1"),
        bind("", &[]),
        bind("unknown", &[]),
        describe_statement(""),
        describe_portal(""),
        execute(),
        close_statement(""),
        function_call,
    ];
    let begins = [
        (query("copy t from stdin"), vec![]),
        ([parse("", "copy t from stdin"), run("", &[])].concat(), sync()),
        (
            [parse("", "copy t from stdin"), bind("", &[]), describe_portal(""), execute()]
                .concat(),
            sync(),
        ),
        ([parse("", "copy t from stdin"), run("", &[]), sync()].concat(), sync()),
        ([parse("", "copy t from stdin"), run("", &[]), flush()].concat(), sync()),
    ];
    for (begin, end) in &begins {
        for rest in [
            vec![good.clone(), done.clone()],
            vec![done.clone()],
            vec![good.clone(), fail.clone()],
            vec![bad.clone(), done.clone()],
            vec![bad.clone(), good.clone(), fail.clone()],
            vec![flush(), good.clone(), flush(), done.clone()],
            vec![good.clone(), done.clone(), done.clone(), fail.clone(), good.clone()],
            vec![good.clone(), done.clone(), select.clone()],
        ] {
            all.push((begin.clone(), [rest, vec![end.clone()]].concat(), true));
        }
        for message in &disturbing {
            all.push((begin.clone(), vec![good.clone(), message.clone(), done.clone()], true));
            all.push((begin.clone(), vec![message.clone(), end.clone()], true));
        }
    }
    all
}

fn other_conversations() -> Vec<Conversation> {
    let (good, bad) = (copy_data(b"1\n"), copy_data(b"not a number\n"));
    let (done, fail) = (copy_done(), copy_fail("no more"));
    let select = [parse("", "select 2"), run("", &[])].concat();
    let mut all: Vec<Conversation> = Vec::new();
    // Syncs inside the data, which are ignored (P32).
    let into = query("copy t from stdin");
    all.push((into.clone(), vec![sync(), good.clone(), sync(), sync(), done.clone()], true));
    all.push((into.clone(), vec![sync(), good.clone(), sync(), fail.clone()], true));
    all.push((into.clone(), vec![sync(), good.clone(), sync(), query("select 1")], true));
    // A query behind data that fails is one like any other.
    all.push((into, vec![bad.clone(), query("select 3")], true));
    for text in [
        "insert into t values (7); copy t from stdin; select count(*) > 0 from t",
        "copy t from stdin; copy t from stdin",
        "copy t from stdin; select 1 / 0",
        "copy (select 1) to stdout; copy t from stdin",
        "copy t from stdin; copy (select 1) to stdout; copy t from stdin",
        "begin; copy t from stdin; rollback",
    ] {
        let twice = [good.clone(), done.clone(), good.clone(), done.clone()];
        all.push((query(text), twice.to_vec(), true));
        all.push((query(text), vec![good.clone(), fail.clone()], true));
        all.push((query(text), vec![bad.clone(), done.clone(), good.clone(), done.clone()], true));
    }
    // It fails behind the end of the data.
    all.push((query("copy checked from stdin"), vec![good.clone(), done.clone()], true));
    let checked = [parse("", "copy checked from stdin"), run("", &[])].concat();
    all.push((checked, vec![good.clone(), done.clone(), sync()], true));
    // It never begins.
    for text in ["copy nowhere from stdin", "copy t from nowhere"] {
        all.push((query(text), vec![good.clone(), done.clone()], false));
        let extended = [parse("", text), run("", &[])].concat();
        all.push((extended, vec![good.clone(), done.clone(), sync()], false));
    }
    all.push((vec![], vec![good.clone(), done.clone(), fail.clone()], false));
    // The other direction, and what comes behind it.
    let out = "copy (select n from generate_series(1, 3) n) to stdout";
    all.push((query(out), vec![], false));
    all.push((extended(out, &[]), vec![select.clone(), sync()], false));
    all.push(([parse("", out), run("", &[])].concat(), vec![select, sync()], false));
    all.push((
        query("copy (select 1 / (3 - n) from generate_series(1, 9) n) to stdout"),
        vec![],
        false,
    ));
    all
}

/// P31, P32: whatever is sent into a copy, behind it and around it, has PostgreSQL's own answer.
#[test]
fn every_conversation_about_a_copy_is_the_same_as_without_a_proxy() {
    let postgres = Postgres::start();
    let proxy = Proxy::start(&postgres, ONE);
    let mut client = proxy.client();
    client.value("create table t (n int)");
    client.value("create table checked (n int)");
    client.value(
        "create function refuse() returns trigger language plpgsql as
         $$begin raise exception 'refused at the end'; end$$",
    );
    client.value("create trigger refuse after insert on checked execute function refuse()");
    for (begin, rest, begins) in conversations().into_iter().chain(other_conversations()) {
        for in_block in [false, true] {
            for stepwise in [false, true] {
                if stepwise && !begins {
                    continue;
                }
                let mut direct = Client::log_in(
                    &postgres.address(),
                    &[("user", USER), ("database", DATABASE), ("application_name", "observer")],
                );
                let mut through = proxy.client();
                let told = [&mut direct, &mut through].map(|client| {
                    if in_block {
                        client.ask("begin");
                    }
                    transcript(client, &begin, &rest.concat(), stepwise)
                });
                let what = String::from_utf8_lossy(&[begin.clone(), rest.concat()].concat())
                    .replace('\0', "");
                assert_eq!(told[1], told[0], "{what:?} in a block: {in_block}, {stepwise}");
            }
        }
    }
    // None of them has left anything behind.
    assert_eq!(proxy.client().ask("select 'clean'").tags(), "TDCZI");
    wait_until("one connection is left", || postgres.connections() == 1);
}

/// P31: an answer to what a client sent into a copy that had failed reaches nobody else.
#[test]
fn syncs_sent_into_a_copy_that_fails_disturb_nobody_else() {
    let postgres = Postgres::start();
    let proxy = Proxy::start(&postgres, ONE);
    let mut other = proxy.client();
    with_table(&proxy);
    for _ in 0..20 {
        let mut client = proxy.client();
        client.send(&query("copy numbers from stdin"));
        assert_eq!(client.read().tag, b'G');

        client.send(&[copy_data(b"not a number\n"), sync().repeat(5)].concat());
        assert_eq!(client.read_to(b'Z').code(), "22P02");

        assert_eq!(other.ask("select 'undisturbed'").tags(), "TDCZI");
    }
}

/// What ends the connection behind the copy's own error is told to who is leaving, however late it comes.
#[test]
fn who_breaks_off_a_copy_and_leaves_is_told_both_of_it() {
    let server = FakeServer::start(|peer| {
        peer.welcome();
        peer.read_to(b'E');
        peer.send_bytes(b"1\0\0\0\x042\0\0\0\x04");
        peer.send(b'G', &[0, 0, 0]);
        peer.read_to(b'Q');
        let text = "unexpected message type 0x51 during COPY from stdin";
        let error = format!("SERROR\0VERROR\0C08P01\0M{text}\0RCopyGetData\0\0");
        peer.send(b'E', error.as_bytes());
        park_timeout(Duration::from_millis(200));
        peer.error(
            "FATAL",
            "08P01",
            "terminating connection because protocol synchronization was lost",
        );
    });
    let proxy = Proxy::before(&server.host(), ONE);
    let mut client = proxy.client();

    let copy = extended("copy t from stdin", &[]);
    client.send(&[copy, query("select 1"), terminate()].concat());

    let errors = client.read_to_end().errors();
    let told: Vec<_> = errors.iter().map(|error| (error.severity(), error.code())).collect();
    assert_eq!(told, [("ERROR", "08P01"), ("FATAL", "08P01")]);
}

/// Bytes that are no text, in both directions and both protocols.
#[test]
fn binary_copies_are_the_same_bytes_in_and_out() {
    let postgres = Postgres::start();
    let proxy = Proxy::start(&postgres, ONE);
    let mut client = proxy.client();
    client.value("create table bytes (id int, content bytea)");
    client.value(
        "insert into bytes select n, sha256(int4send(n)) || decode(repeat('00ff0a5c', n * 100), 'hex')
         from generate_series(1, 300) n",
    );
    let out = client.ask("copy (select * from bytes order by id) to stdout (format binary)");
    let data: Vec<u8> =
        out.0.iter().filter(|m| m.tag == b'd').flat_map(|m| m.body.clone()).collect();

    let begins = [
        query("copy bytes from stdin (format binary)"),
        [parse("", "copy bytes from stdin (format binary)"), run("", &[]), sync()].concat(),
    ];
    for (begin, end) in begins.into_iter().zip([vec![], sync()]) {
        client.value("truncate bytes");
        client.send(&begin);
        client.read_to(b'G');
        // Cut where no row ends.
        for piece in data.chunks(7777) {
            client.send(&copy_data(piece));
        }
        client.send(&[copy_done(), end].concat());
        assert_eq!(client.read_ready(1).done(), ["COPY 300"]);
        let again = client.exchange(&extended(
            "copy (select * from bytes order by id) to stdout (format binary)",
            &[],
        ));
        let same: Vec<u8> =
            again.0.iter().filter(|m| m.tag == b'd').flat_map(|m| m.body.clone()).collect();
        assert!(same == data);
    }
}

/// P29, P70: in the extended protocol, with a Sync under way, inside a block.
#[test]
fn a_client_that_vanishes_in_the_middle_of_an_extended_copy_leaves_nothing_behind() {
    let postgres = Postgres::start();
    let proxy = Proxy::start(&postgres, ONE);
    with_table(&proxy);
    for before in ["select 1", "begin"] {
        let mut client = proxy.client();
        client.ask(before);
        client.send(&[parse("", "copy numbers from stdin"), run("", &[]), sync()].concat());
        client.read_to(b'G');
        client.send(&copy_data(&b"1\n".repeat(30_000))[..50_000]);

        client.vanish();

        let mut next = proxy.client();
        assert_eq!(next.ask("select count(*) from numbers").values(), "0");
        assert_eq!(next.ask("select 1").tags(), "TDCZI");
    }
}
