//! Protocol 3.0 and 3.2, towards clients and towards servers.

use std::sync::{Arc, Mutex};

use crate::support::fake_server::{FakeServer, Peer};
use crate::support::messages::{query, startup_version};
use crate::support::postgres::{Postgres, USER};
use crate::support::proxy::Proxy;
use crate::support::raw_client::Client;
use crate::support::relay::Relay;
use crate::support::reply::Reply;
use crate::support::wait::wait_until;

const LOGIN: [(&str, &str); 2] = [("user", USER), ("database", "main")];

/// The bodies of all `NegotiateProtocolVersion` messages, and the length of the cancel key's secret.
fn agreed(client: &Client, reply: &Reply) -> (Vec<Vec<u8>>, usize) {
    let negotiated = reply.0.iter().filter(|message| message.tag == b'v');
    (negotiated.map(|message| message.body.clone()).collect(), client.key.1.len())
}

/// A minor version, protocol options, and what is answered: a negotiation, and a secret so long.
type Asked = (u16, &'static [&'static str], Option<&'static [u8]>, usize);

/// What to ask for, and what PostgreSQL 18 answers.
const ASKED: [Asked; 10] = [
    (0, &[], None, 4),
    // Reserved, and spoken as 3.0 under its name.
    (1, &[], None, 4),
    (2, &[], None, 32),
    (3, &[], Some(b"\0\x03\0\x02\0\0\0\0"), 32),
    // What libpq asks for to see whether servers bear it.
    (9999, &["_pq_.test"], Some(b"\0\x03\0\x02\0\0\0\x01_pq_.test\0"), 32),
    (2, &["_pq_.b", "_pq_.a"], Some(b"\0\x03\0\x02\0\0\0\x02_pq_.b\0_pq_.a\0"), 32),
    (1, &["_pq_.x"], Some(b"\0\x03\0\x01\0\0\0\x01_pq_.x\0"), 4),
    (0, &["_pq_.x"], Some(b"\0\x03\0\0\0\0\0\x01_pq_.x\0"), 4),
    (0, &["_pq_.x", "_pq_.x"], Some(b"\0\x03\0\0\0\0\0\x02_pq_.x\0_pq_.x\0"), 4),
    (0, &["_pq_."], Some(b"\0\x03\0\0\0\0\0\x01_pq_.\0"), 4),
];

/// P16: one negotiation where something is not given as it was asked for, and none else.
#[test]
fn clients_of_every_version_are_answered_as_postgresql_18_does() {
    let postgres = Postgres::start();
    let proxy = Proxy::start(&postgres, "");
    let version = postgres.client().parameters["server_version"].clone();
    let major: u32 = version.split('.').next().unwrap().parse().unwrap();
    for (minor, options, negotiated, secret_len) in ASKED {
        let options = options.iter().map(|name| (*name, "1"));
        let login: Vec<_> = LOGIN.into_iter().chain(options.clone()).collect();

        let (mut client, reply) = Client::log_in_as(&proxy.address, minor, &login);

        let expected = (negotiated.map(<[u8]>::to_vec).into_iter().collect(), secret_len);
        assert_eq!(agreed(&client, &reply), expected, "3.{minor}");
        assert_eq!(client.value("select 1"), "1");
        if major >= 18 {
            let own = [("user", "postgres"), ("database", "app_db")];
            let login: Vec<_> = own.into_iter().chain(options).collect();
            let (client, reply) = Client::log_in_as(&postgres.address(), minor, &login);
            assert_eq!(agreed(&client, &reply), expected, "3.{minor} directly");
        }
    }
}

/// P16: the negotiation comes in front of the question for a password, once.
#[test]
fn a_login_with_a_password_negotiates_before_it_and_once() {
    let postgres = Postgres::start();
    let users = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(users.path(), "\"app\" \"secret\"\n").unwrap();
    let auth = format!("[auth]\nmethod = 'plain'\nusers_file = '{}'", users.path().display());
    let proxy = Proxy::start(&postgres, &auth);
    let mut client = proxy.connect();

    client.send(&startup_version((3, 7), &LOGIN));
    assert_eq!(client.read().tag, b'v');
    assert_eq!(client.read().tag, b'R');
    client.send(b"p\0\0\0\x0bsecret\0");

    let reply = client.finish_login().unwrap();
    assert_eq!(agreed(&client, &reply), (Vec::new(), 32));
}

/// Nor once more where the login has to wait for a server of its own.
#[test]
fn a_login_that_waits_for_its_server_negotiates_once() {
    let postgres = Postgres::start();
    let proxy = Proxy::start(&postgres, "pool.size = 1\npool.pool_mode = 'session'");
    let first = proxy.client();
    let mut client = proxy.connect();

    client.send(&startup_version((3, 7), &LOGIN));
    assert_eq!(client.read().tag, b'v');
    proxy.wait_for_waiting(1);
    drop(first);

    let reply = client.finish_login().unwrap();
    assert!(!reply.tags().contains('v'), "{reply:?}");
    assert_eq!(agreed(&client, &reply), (Vec::new(), 32));
    assert_eq!(client.value("select 1"), "1");
}

#[test]
fn the_console_negotiates_too() {
    let proxy = Proxy::before("127.0.0.1:1", "[admin]\nusers = ['app']");
    let login = [("user", USER), ("database", "pgweir"), ("_pq_.x", "1")];

    let (_client, reply) = Client::log_in_as(&proxy.address, 9999, &login);

    assert_eq!(reply.tags(), "vRKZI");
}

/// Both versions of the client over both versions of the server, through the relay's TCP.
#[test]
fn a_cancel_works_whichever_versions_client_and_server_speak() {
    let postgres = Postgres::start();
    let relay = Relay::before(&postgres);
    let config = "pool.size = 1\ndomains.main.tls.mode = 'disable'";
    let proxy = Proxy::before(&relay.host(), config);
    // The server's own secret is as long as its version has it.
    let (own, _) =
        Client::log_in_as(&postgres.address(), 2, &[("user", "postgres"), ("database", "app_db")]);
    for minor in [0, 2] {
        let (mut client, _reply) = Client::log_in_as(&proxy.address, minor, &LOGIN);
        client.send(&query("select pg_sleep(60)"));
        wait_until("the statement runs", || {
            let count = "select count(*) from pg_stat_activity where query like '%pg_sleep(60)' \
                         and state = 'active'";
            postgres.client().value(count) == "1"
        });

        client.cancel();

        assert_eq!(client.read_ready(1).code(), "57014");
    }
    let startups = relay.startups();
    assert_eq!(startups.len(), 1, "one server, asked for the newest version at once");
    assert_eq!(startups[0][4..8], [0, 3, 0, 2]);
    let lengths: Vec<_> = relay.cancels().iter().map(Vec::len).collect();
    assert_eq!(lengths, [12 + own.key.1.len(); 2]);
}

/// A server of which each connection is noted by the version it asks for.
fn noting(
    script: impl Fn(&mut Peer) + Send + Sync + 'static,
) -> (FakeServer, Arc<Mutex<Vec<u16>>>) {
    let asked = Arc::new(Mutex::new(Vec::new()));
    let noted = Arc::clone(&asked);
    let server = FakeServer::start(move |peer| {
        if let Some(minor) = peer.minor() {
            noted.lock().unwrap().push(minor);
        }
        script(peer);
    });
    (server, asked)
}

fn serve(peer: &mut Peer) {
    while peer.read_to(b'Q').is_some() {
        peer.row("served");
        peer.complete("SELECT 1");
        peer.ready(b'I');
    }
}

/// PostgreSQL before 18, and servers that took the documentation by its word: a bare minor version.
#[test]
fn a_server_that_negotiates_an_older_version_is_spoken_to_in_that() {
    for answer in [&b"\0\x03\0\0\0\0\0\0"[..], b"\0\0\0\0\0\0\0\0", b"\0\x03\0\x01\0\0\0\0"] {
        let (server, asked) = noting(move |peer| {
            peer.send(b'v', answer);
            peer.welcome();
            serve(peer);
        });
        let proxy = Proxy::before(&server.host(), "");

        assert_eq!(proxy.client().value("select 1"), "served");
        assert_eq!(*asked.lock().unwrap(), [2], "a login of its own for nothing");
    }
}

#[test]
fn a_server_that_negotiates_what_it_was_not_asked_for_is_not_used() {
    let answers: [&[&[u8]]; 6] = [
        // Newer than asked for, another major version, an option, counted wrongly, too short, twice.
        &[b"\0\x03\0\x03\0\0\0\0"],
        &[b"\0\x02\0\0\0\0\0\0"],
        &[b"\0\x03\0\x02\0\0\0\x01_pq_.a\0"],
        &[b"\0\x03\0\0\0\0\0\x01"],
        &[b"\0\x03\0\0"],
        &[b"\0\x03\0\0\0\0\0\0", b"\0\x03\0\0\0\0\0\0"],
    ];
    for answer in answers {
        let (server, asked) = noting(move |peer| {
            for body in answer {
                peer.send(b'v', body);
            }
            peer.welcome();
            serve(peer);
        });
        let proxy = Proxy::before(&server.host(), "pool.timeout = '300ms'");

        let error = proxy.try_client_with(&[]).unwrap_err();

        assert_eq!(error.code(), "08001", "{answer:?}");
        assert!(asked.lock().unwrap().iter().all(|minor| *minor == 2), "{asked:?}");
    }
}

/// Older proxies and servers refuse the version; some only close. Nobody who waits notices, and the
/// next server is asked for 3.0 at once.
#[test]
fn a_server_that_refuses_the_version_outright_is_asked_for_3_0_at_once() {
    let refusals: [fn(&mut Peer); 4] = [
        |peer| peer.error("FATAL", "0A000", "unsupported frontend protocol 3.2"),
        |peer| peer.error("FATAL", "08P01", "unsupported startup packet"),
        |_peer| {},
        |peer| peer.send_bytes(b"E"),
    ];
    for (at, refuse) in refusals.into_iter().enumerate() {
        let (server, asked) = noting(move |peer| {
            if peer.minor() == Some(0) {
                peer.welcome();
                serve(peer);
            } else {
                refuse(peer);
            }
        });
        let proxy = Proxy::before(&server.host(), "pool.size = 2");
        let (mut one, mut two) = (proxy.client(), proxy.client());
        one.send(&query("one"));
        assert_eq!(one.read_ready(1).values(), "served");
        // Both at once, so that the pool opens its second server.
        one.send(&query("one"));
        two.send(&query("two"));
        assert_eq!(one.read_ready(1).errors(), []);
        assert_eq!(two.read_ready(1).values(), "served");

        let asked = asked.lock().unwrap();
        assert_eq!(asked[..2], [2, 0], "refusal {at}");
        assert!(asked[2..].iter().all(|minor| *minor == 0), "refusal {at}: {asked:?}");
        assert_eq!(proxy.observe().pools()[0].stats.connects_failed.value(), 0);
    }
}

/// A refusal that has nothing to do with the version is told as it is, and not asked for again.
#[test]
fn other_refusals_are_not_taken_for_one_of_the_version() {
    for code in ["28000", "3D000", "28P01"] {
        let (server, asked) = noting(move |peer| peer.error("FATAL", code, "go away"));
        let proxy = Proxy::before(&server.host(), "");

        assert_eq!(proxy.try_client_with(&[]).unwrap_err().code(), code);
        assert_eq!(*asked.lock().unwrap(), [2]);
    }
}

/// Keys of 4 to 256 bytes come back in a cancel as they were given.
#[test]
fn a_cancel_key_of_any_length_is_given_back_unchanged() {
    for len in [4, 5, 32, 256] {
        let cancels = Arc::new(Mutex::new(Vec::new()));
        let noted = Arc::clone(&cancels);
        let server = FakeServer::start(move |peer| {
            if peer.minor().is_none() {
                noted.lock().unwrap().push(peer.startup.clone());
                return;
            }
            peer.welcome_with_key(&vec![7; len]);
            peer.read_to(b'Q');
            wait_until("the cancel came", || !noted.lock().unwrap().is_empty());
            peer.error("ERROR", "57014", "canceling statement due to user request");
            peer.ready(b'I');
            serve(peer);
        });
        let proxy = Proxy::before(&server.host(), "pool.size = 1");
        let mut client = proxy.client();
        client.send(&query("select"));
        proxy.wait_for_pool("it runs", |pool| pool.servers.active == 1);

        client.cancel();

        assert_eq!(client.read_ready(1).code(), "57014");
        let cancels = cancels.lock().unwrap();
        assert_eq!(cancels.len(), 1);
        assert_eq!(cancels[0][8..], vec![7; len]);
    }
}
