//! COPY in both directions, and what goes wrong in the middle of it.

use crate::support::messages::{copy_data, copy_done, copy_fail, parse, query, run, sync};
use crate::support::postgres::Postgres;
use crate::support::proxy::Proxy;
use crate::support::raw_client::Client;
use crate::support::wait::wait_until;

const ONE: &str = "pool.size = 1\n";

fn with_table(proxy: &Proxy) -> Client {
    let mut client = proxy.client();
    client.value("create table numbers (n int)");
    client
}

#[test]
fn rows_are_copied_in_and_out() {
    let postgres = Postgres::start();
    let proxy = Proxy::start(&postgres, ONE);
    let mut client = with_table(&proxy);

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
    assert_eq!(proxy.pool().servers.total(), 1);
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
    other.ask("begin");
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
