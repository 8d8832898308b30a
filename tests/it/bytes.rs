//! Messages that are cut wherever they can be, and messages of every length that matters.

use crate::support::messages::{
    bind_portal, close_statement, copy_data, copy_done, copy_fail, describe_portal,
    describe_statement, execute_portal, extended, flush, message, parse, query, run, sync,
};
use crate::support::postgres::{DATABASE, Postgres, USER};
use crate::support::proxy::Proxy;
use crate::support::raw_client::Client;
use crate::support::reply::Message;
use crate::support::splitter::Splitter;

const ONE: &str = "pool.size = 1\n";

/// A step of a conversation that has every kind of message: what is sent, and the tag of the last
/// message of the answer.
fn conversation() -> Vec<(Vec<u8>, u8)> {
    let function_call = message(b'F', &[0, 0, 5, 35, 0, 0, 0, 0, 0, 0]);
    let portal = [
        query("begin"),
        parse("many", "select n, 'row ' || n from generate_series(1, 3) n where n <> $1"),
        describe_statement("many"),
        bind_portal("p", "many", &["7"]),
        describe_portal("p"),
        execute_portal("p", 2),
        sync(),
    ];
    vec![
        (query("select 1, null, 'text'"), b'Z'),
        (query(""), b'Z'),
        (query("select 1 / 0"), b'Z'),
        (query("set application_name = 'cut'"), b'Z'),
        (query("do $$begin raise notice 'noticed'; end$$"), b'Z'),
        (query("listen news; notify news, 'told'"), b'Z'),
        (query("create temp table cut (n int); select 1; drop table cut"), b'Z'),
        (portal.concat(), b'Z'),
        (sync(), b'Z'),
        ([execute_portal("p", 0), close_statement("many"), flush()].concat(), b'3'),
        ([sync(), query("commit")].concat(), b'Z'),
        (query("commit"), b'Z'),
        (function_call, b'Z'),
        (extended("select $1 || $2", &["a", "b"]), b'Z'),
        ([parse("", "selec"), run("", &[]), sync()].concat(), b'Z'),
        (query("create table if not exists copied (n int)"), b'Z'),
        (query("copy copied from stdin"), b'G'),
        ([copy_data(b"1\n"), copy_data(b"2\n"), copy_done()].concat(), b'Z'),
        (query("copy copied from stdin"), b'G'),
        ([copy_data(b"3\n"), copy_fail("enough")].concat(), b'Z'),
        (query("copy (select * from copied order by n limit 2) to stdout"), b'Z'),
        (query("drop table copied"), b'Z'),
        // P51: a tag that takes names along, cut as well.
        ([parse("k", "select 'old'"), sync()].concat(), b'Z'),
        (
            [query("deallocate all"), parse("k", "select 'new'"), run("k", &[]), sync()].concat(),
            b'D',
        ),
        ([sync()].concat(), b'Z'),
        (query("discard all"), b'Z'),
        ([parse("k", "select 'newer'"), run("k", &[]), sync()].concat(), b'D'),
    ]
}

/// What was said, but for what is each connection's own.
fn transcript(client: &mut Client, mut send: impl FnMut(&mut Client, &[u8])) -> Vec<Message> {
    let mut all = Vec::new();
    for (bytes, last) in conversation() {
        send(client, &bytes);
        all.extend(client.read_to(last).0);
    }
    // Steps of two ends leave an answer over.
    all.extend(client.ask("select 'end'").0);
    while all.last().is_none_or(|message| message.tag != b'Z') {
        all.push(client.read());
    }
    // A notification tells who sent it.
    all.iter_mut().filter(|message| message.tag == b'A').for_each(|a| drop(a.body.drain(..4)));
    all
}

fn direct(postgres: &Postgres) -> Client {
    Client::log_in(&postgres.address(), &[("user", USER), ("database", DATABASE)])
}

/// P53: every message of a client, cut at every byte.
#[test]
fn a_client_whose_bytes_come_one_by_one_is_answered_like_any_other() {
    let postgres = Postgres::start();
    let proxy = Proxy::start(&postgres, ONE);
    let expected = transcript(&mut direct(&postgres), Client::send);

    let heard = transcript(&mut proxy.client(), |client, bytes| {
        for byte in bytes {
            client.send(&[*byte]);
        }
    });

    assert_eq!(heard, expected);
}

/// P53: every message of a server, cut at every byte.
#[test]
fn a_server_whose_bytes_come_one_by_one_is_understood_like_any_other() {
    let postgres = Postgres::start();
    let splitter = Splitter::before(&postgres.address());
    let proxy = Proxy::before(&splitter.host(), ONE);
    let expected = transcript(&mut direct(&postgres), Client::send);

    let heard = transcript(&mut proxy.client(), Client::send);

    assert_eq!(heard, expected);
    assert_eq!(proxy.pool().servers.total(), 1);
}

/// P53: one less, exactly, one more than each buffer, and several times as much. 32 KB is what is
/// held back whole, 64 KB what one read takes.
fn lengths() -> Vec<usize> {
    let buffers = [32 * 1024, 64 * 1024];
    let near = buffers.iter().flat_map(|len| [len - 1, *len, len + 1]);
    let far = buffers.iter().flat_map(|len| [len * 2 - 1, len * 2 + 1, len * 10]);
    near.chain(far).collect()
}

/// Text that makes `around(text)` exactly `len` bytes long.
fn filled(len: usize, around: impl Fn(&str) -> Vec<u8>) -> Vec<u8> {
    let message = around(&"x".repeat(len - around("").len()));
    assert_eq!(message.len(), len);
    message
}

/// P53
#[test]
fn messages_of_a_client_of_every_length_go_through() {
    let postgres = Postgres::start();
    let proxy = Proxy::start(&postgres, ONE);
    let mut client = proxy.client();
    for len in lengths() {
        let simple = filled(len, |x| query(&format!("select length('{x}')")));
        let parsed = filled(len, |x| parse("p", &format!("select length('{x}')")));
        let bound = filled(len, |x| bind_portal("", "b", &[x]));
        let prepare = parse("b", "select length($1)");
        let messages = [
            simple,
            [parsed, run("p", &[]), close_statement("p"), sync()].concat(),
            [prepare, bound, execute_portal("", 0), close_statement("b"), sync()].concat(),
        ];
        for message in messages {
            // Behind others, so that it is cut somewhere else each time.
            for front in [0, 1, 7] {
                client.send(&[query("select 1").repeat(front), message.clone()].concat());
                let reply = client.read_ready(front + 1);
                let values = reply.rows().last().unwrap()[0].clone();
                let told: usize = values.parse().unwrap();
                assert!(told.abs_diff(len) < 60, "{len}: {told}");
            }
        }
    }
    assert_eq!(proxy.pool().servers.total(), 1);
}

/// P53: rows, notices, errors and copied data, which are dealt with in different ways.
#[test]
fn messages_of_a_server_of_every_length_go_through() {
    let postgres = Postgres::start();
    let proxy = Proxy::start(&postgres, ONE);
    let mut client = proxy.client();
    client.value(
        "create function say(n int, loud bool) returns void language plpgsql as
         $$begin if loud then raise exception '%', repeat('e', n); end if;
         raise notice '%', repeat('n', n); end$$",
    );
    for len in lengths() {
        let row = client.value(&format!("select repeat('r', {})", len - 11));
        assert_eq!(row.len(), len - 11);
        // The text comes alone, among a hundred bytes of fields.
        for less in [100, 130, 160] {
            let len = len - less;
            let notice = client.ask(&format!("select say({len}, false)"));
            assert_eq!(notice.notices()[0].message().len(), len);
            let error = client.ask(&format!("select say({len}, true)")).error();
            assert_eq!((error.message().len(), error.code()), (len, "P0001"));
        }
        let copied = client.ask(&format!("copy (select repeat('c', {})) to stdout", len - 6));
        let data = copied.0.iter().find(|message| message.tag == b'd').unwrap();
        assert_eq!(data.body.len(), len - 5);
    }
    assert_eq!(proxy.pool().servers.total(), 1);
}

/// P53: a name of 16 kB, which PostgreSQL takes in a Parse and a Bind. A Describe or a Close of more than
/// 10,000 bytes ends the connection.
#[test]
fn a_statement_name_of_16_kilobytes_is_a_name() {
    let postgres = Postgres::start();
    let proxy = Proxy::start(&postgres, "pool.size = 2");
    let (mut client, mut other) = (proxy.client(), proxy.client());
    let (long, name) = ("n".repeat(16 * 1024), "m".repeat(9_990));
    let parsed = [parse(&long, "select 'longer'"), parse(&name, "select 'long'"), sync()];
    client.exchange(&parsed.concat());
    // On another server as well.
    other.ask("begin");

    for _ in 0..2 {
        let reply = client.exchange(&[run(&long, &[]), sync()].concat());
        assert_eq!((reply.tags().as_str(), reply.values().as_str()), ("2DCZI", "longer"));
        let reply = client.exchange(&[describe_statement(&name), run(&name, &[]), sync()].concat());
        assert_eq!((reply.tags().as_str(), reply.values().as_str()), ("tT2DCZI", "long"));
    }
    let closed = client.exchange(&[close_statement(&name), run(&name, &[]), sync()].concat());
    assert_eq!((closed.tags().as_str(), closed.code().as_str()), ("3EZI", "26000"));
    let mut direct = postgres.client();
    direct.send(&describe_statement(&long));
    client.send(&describe_statement(&long));
    assert!(direct.try_read().is_none());
    assert_eq!(client.read_fatal().code(), "08P01");
}
