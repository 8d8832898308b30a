//! What a server says unasked: to a client at work, to one that idles, to nobody.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};

use crate::support::fake_server::{FakeServer, Peer};
use crate::support::messages::query;
use crate::support::postgres::Postgres;
use crate::support::proxy::Proxy;
use crate::support::wait::wait_until;

const ONE: &str = "pool.size = 1\n";
const SESSION: &str = "pool.size = 1\npool.pool_mode = 'session'";

fn answer(peer: &mut Peer, status: u8) {
    peer.complete("DONE");
    peer.ready(status);
}

/// What a server may say at any time.
fn say_unasked(peer: &mut Peer) {
    peer.send(b'N', b"SNOTICE\0VNOTICE\0C00000\0Mby the way\0\0");
    peer.send(b'S', b"TimeZone\0Asia/Tokyo\0");
    peer.send(b'A', b"\0\0\0\x01news\0told\0");
}

/// P71: while the client idles in its block, at once.
#[test]
fn what_a_server_says_while_its_client_idles_in_a_block_reaches_it_at_once() {
    let server = FakeServer::start(|peer| {
        peer.welcome();
        while let Some(asked) = peer.read_to(b'Q') {
            answer(peer, b'T');
            if asked.body.starts_with(b"begin") {
                say_unasked(peer);
            }
        }
    });
    let proxy = Proxy::before(&server.host(), ONE);
    let mut client = proxy.client();
    client.ask("begin; select 1");

    let heard = [client.read(), client.read(), client.read()];

    assert_eq!(heard.each_ref().map(|message| message.tag), [b'N', b'S', b'A']);
    assert_eq!(client.ask("select 1").tags(), "CZT");
}

/// In session mode a client has its server to itself, and hears of what it listens for while idle.
#[test]
fn in_session_mode_a_notification_reaches_an_idle_client_at_once() {
    let postgres = Postgres::start();
    let proxy = Proxy::start(&postgres, SESSION);
    let mut client = proxy.client();
    client.value("listen news");

    for payload in ["one", "two"] {
        postgres.client().value(&format!("notify news, '{payload}'"));

        let heard = client.read();
        assert_eq!((heard.tag, &heard.body[4..]), (b'A', format!("news\0{payload}\0").as_bytes()));
    }
    assert_eq!(client.value("select 1"), "1");
}

/// In session mode an idle client hears of its server's end at once: in the server's words.
#[test]
fn in_session_mode_a_server_that_goes_while_its_client_is_idle_is_told_at_once() {
    let postgres = Postgres::start();
    let proxy = Proxy::start(&postgres, SESSION);
    for before in ["select 1", "begin"] {
        let mut client = proxy.client();
        client.ask(before);
        let pid = client.pid();
        postgres.client().value(&format!("select pg_terminate_backend({pid})"));

        let error = client.read_fatal();
        assert_eq!(error.code(), "57P01");
        assert!(error.message().contains("administrator command"), "{error:?}");
    }
}

/// What one session listens for is nothing to the next on its server, however it comes in between.
#[test]
fn a_notification_for_an_earlier_session_reaches_nobody_else() {
    let postgres = Postgres::start();
    for mode in ["transaction", "statement", "session"] {
        let proxy = Proxy::start(&postgres, &format!("{ONE}pool.pool_mode = '{mode}'"));
        let over = Arc::new(AtomicBool::new(false));
        let until = Arc::clone(&over);
        let mut notifier = postgres.client();
        let notifying = std::thread::spawn(move || {
            while !until.load(Relaxed) {
                notifier.value("notify news");
            }
        });
        for _ in 0..30 {
            let mut listener = proxy.client();
            listener.ask("listen news");
            drop(listener);

            let mut other = proxy.client();
            for _ in 0..5 {
                let reply = other.ask("select 1");
                assert_eq!(reply.tags(), "TDCZI", "{mode}");
            }
        }
        over.store(true, Relaxed);
        notifying.join().unwrap();
    }
}

/// What a server says, and how.
type Saying = (&'static str, fn(&mut Peer));

/// P30: an idle server that says something harmless is used on, one that says anything else is not.
#[test]
fn what_an_idle_server_says_decides_whether_it_is_used_again() {
    let sayings: [(Saying, bool); 6] = [
        (("a notice", |peer| peer.send(b'N', b"SNOTICE\0C00000\0Mhello\0\0")), true),
        (("a parameter", |peer| peer.send(b'S', b"in_hot_standby\0on\0")), true),
        (("an error", |peer| peer.error("ERROR", "XX000", "oops")), false),
        (("its end", |peer| peer.error("FATAL", "57P01", "going down")), false),
        // It listens for somebody, and nobody knows for whom.
        (("a notification", |peer| peer.send(b'A', b"\0\0\0\x01news\0told\0")), false),
        (("half a message", |peer| peer.send_bytes(b"N\0\0\0\x40SNOT")), false),
    ];
    for ((what, say), is_used_again) in sayings {
        let (may_speak, has_spoken) = (Arc::default(), Arc::default());
        let (may, spoken): (Arc<AtomicBool>, Arc<AtomicBool>) =
            (Arc::clone(&may_speak), Arc::clone(&has_spoken));
        let server = FakeServer::start(move |peer| {
            peer.welcome();
            while peer.read_to(b'Q').is_some() {
                answer(peer, b'I');
                if !spoken.load(Relaxed) {
                    wait_until("it is idle", || may.load(Relaxed));
                    say(peer);
                    spoken.store(true, Relaxed);
                }
            }
        });
        let proxy = Proxy::before(&server.host(), ONE);
        let mut client = proxy.client();
        client.ask("select 1");
        proxy.wait_for_pool("it is idle", |pool| pool.servers.idle == 1);
        may_speak.store(true, Relaxed);
        wait_until("it has spoken", || has_spoken.load(Relaxed));

        // The client asked for none of it, and gets none.
        let reply = proxy.client().ask("select 2");
        assert_eq!((reply.tags().as_str(), reply.notices()), ("CZI", vec![]), "{what}");
        let expected = if is_used_again { 1 } else { 2 };
        wait_until(what, || server.connections() == expected);
        client.assert_silent();
    }
}

/// P3: notices and errors that lack every field, or are none at all, at any time.
#[test]
fn notices_and_errors_without_fields_are_passed_on() {
    let server = FakeServer::start(|peer| {
        peer.welcome();
        while peer.read_to(b'Q').is_some() {
            for body in [&b"\0"[..], b"", b"Mno end", b"C1\0\0", b"\xff\xff\0\0"] {
                peer.send(b'N', body);
            }
            peer.send(b'E', b"SERROR\0\0");
            peer.ready(b'I');
        }
    });
    let proxy = Proxy::before(&server.host(), ONE);
    let mut client = proxy.client();
    for _ in 0..3 {
        client.send(&query("select 1"));
        let reply = client.read_to(b'Z');
        let tags: Vec<u8> = reply.0.iter().map(|message| message.tag).collect();
        assert_eq!(tags, *b"NNNNNEZ");
    }
}
