//! TLS towards servers: each step of the ladder against real servers that have TLS, or insist on it,
//! or do without.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};

use crate::support::authority::{Authority, Issued};
use crate::support::fake_server::FakeServer;
use crate::support::messages::query;
use crate::support::postgres::{Postgres, loopback};
use crate::support::proxy::Proxy;
use crate::support::reply::Fields;
use crate::support::wait::wait_until;

/// Lets everybody in, with TLS or without.
const ANY: &str = "host all all 127.0.0.0/8 trust";
const ONLY_TLS: &str = "hostssl all all 127.0.0.0/8 trust";
const ONLY_PLAIN: &str = "hostnossl all all 127.0.0.0/8 trust";

const IS_ENCRYPTED: &str = "select ssl from pg_stat_ssl where pid = pg_backend_pid()";

fn identity(authority: &Authority) -> Issued {
    authority.issue("the server", &[&loopback().to_string()])
}

fn postgres(authority: &Authority, hba: &str) -> Postgres {
    Postgres::start_with_tls(&identity(authority), &authority.ca(), hba)
}

/// A proxy that speaks to `postgres` through TCP.
fn proxy(postgres: &Postgres, tls: &str) -> Proxy {
    before(&postgres.tcp_host(), tls)
}

fn before(host: &str, tls: &str) -> Proxy {
    // One attempt, so that what is hopeful in general is told at once.
    Proxy::before(host, &format!("pool.connect_attempts = 1\ndomains.main.tls = {{ {tls} }}"))
}

/// `ca = …` of a configuration.
fn ca(path: &Path) -> String {
    format!("ca = '{}'", path.display())
}

/// Whether the server says that it is spoken to through TLS, or why nobody may speak to it.
fn outcome(proxy: &Proxy) -> Result<bool, Fields> {
    let mut client = proxy.try_client_with(&[])?;
    let is_encrypted = client.value(IS_ENCRYPTED) == "t";
    let shown = proxy.observe().servers()[0].tls.clone();
    assert_eq!(shown.is_some_and(|tls| tls.starts_with("TLSv1.3/")), is_encrypted);
    Ok(is_encrypted)
}

#[track_caller]
fn assert_refused(proxy: &Proxy, detail: &str) {
    let error = outcome(proxy).unwrap_err();
    assert_eq!(error.code(), "08001", "{error:?}");
    assert!(error.detail().contains(detail), "{error:?} says nothing of {detail:?}");
}

/// Its socket is polled by whichever worker uses it: each has half of the clients.
#[test]
fn one_server_is_used_by_several_workers_in_turn() {
    let authority = Authority::new();
    let postgres = postgres(&authority, ANY);
    for (host, mode) in [
        (postgres.tcp_host(), "require"),
        (postgres.tcp_host(), "disable"),
        (postgres.host(), "disable"),
    ] {
        let settings = format!("pool.size = 1\ndomains.main.tls = {{ mode = '{mode}' }}");
        // Nobody waits for it, so it moves each time.
        let proxy = Proxy::before(&host, &settings);
        let mut clients = [(); 4].map(|()| proxy.client());
        let server = clients[0].pid();
        for round in 0..5 {
            for client in &mut clients {
                let long = client.value("select repeat('x', 300000)");
                assert_eq!(long.len(), 300_000, "{mode}");
                assert_eq!(client.value(&format!("select {round}")), round.to_string());
            }
        }
        assert!(clients.iter_mut().all(|client| client.pid() == server), "{mode}");
    }
}

#[test]
fn each_mode_gets_what_a_server_gives_it() {
    let authority = Authority::new();
    let ca = ca(&authority.ca());
    // Disable, allow, prefer, require, verify-ca, verify-full; `None`: refused.
    for (hba, expected) in [
        (ANY, [Some(false), Some(false), Some(true), Some(true), Some(true), Some(true)]),
        (ONLY_TLS, [None, Some(true), Some(true), Some(true), Some(true), Some(true)]),
        (ONLY_PLAIN, [Some(false), Some(false), Some(false), None, None, None]),
    ] {
        let postgres = postgres(&authority, hba);
        let modes = ["disable", "allow", "prefer", "require", "verify-ca", "verify-full"];
        for (mode, expected) in modes.into_iter().zip(expected) {
            let ca = if mode.starts_with("verify") { format!(", {ca}") } else { String::new() };
            let proxy = proxy(&postgres, &format!("mode = '{mode}'{ca}"));
            match (outcome(&proxy), expected) {
                (Ok(is_encrypted), Some(expected)) => {
                    assert_eq!(is_encrypted, expected, "{mode} {hba}");
                }
                (Err(error), None) => {
                    assert_eq!(error.code(), "28000", "{mode} {hba} {error:?}");
                    assert!(error.message().contains("no pg_hba.conf entry"), "{error:?}");
                }
                (outcome, expected) => panic!("{mode} {hba}: {outcome:?}, not {expected:?}"),
            }
        }
    }
}

#[test]
fn prefer_is_the_default_and_does_without_where_there_is_none() {
    let authority = Authority::new();
    let with = postgres(&authority, ANY);
    let default = Proxy::before(&with.tcp_host(), "");
    assert_eq!(outcome(&default), Ok(true));
    drop(default);

    let without = FakeServer::start(|peer| {
        peer.welcome();
        while peer.read_to(b'Q').is_some() {
            peer.row("f");
            peer.complete("SELECT 1");
            peer.ready(b'I');
        }
    });
    assert_eq!(outcome(&Proxy::before(&without.host(), "")), Ok(false));
    assert_refused(
        &before(&without.host(), "mode = 'require'"),
        "the server has no TLS, and tls.mode is \"require\"",
    );
}

#[test]
fn a_server_of_another_authority_is_refused_where_there_is_a_ca_to_look_by() {
    let (authority, stranger) = (Authority::new(), Authority::new());
    let postgres = postgres(&stranger, ANY);
    let ca = ca(&authority.ca());
    // libpq checks under "require" too if it has a root certificate.
    for mode in ["require", "verify-ca", "verify-full"] {
        let proxy = proxy(&postgres, &format!("mode = '{mode}', {ca}"));
        assert_refused(&proxy, "no TLS with the server: invalid peer certificate: UnknownIssuer");
    }
    assert_eq!(outcome(&proxy(&postgres, &format!("mode = 'prefer', {ca}"))), Ok(false));
    assert_eq!(outcome(&proxy(&postgres, "mode = 'require'")), Ok(true));
}

#[test]
fn a_server_of_another_name_is_refused_by_verify_full_alone() {
    let authority = Authority::new();
    let other = authority.issue("db.example.com", &["db.example.com", "127.0.0.9"]);
    let postgres = Postgres::start_with_tls(&other, &authority.ca(), ANY);
    let ca = ca(&authority.ca());

    assert_refused(
        &proxy(&postgres, &format!("mode = 'verify-full', {ca}")),
        "certificate not valid for name",
    );
    assert_eq!(outcome(&proxy(&postgres, &format!("mode = 'verify-ca', {ca}"))), Ok(true));
}

#[test]
fn an_expired_server_is_refused_where_anybody_looks() {
    let authority = Authority::new();
    let expired = authority.issue_with("expired", &[&loopback().to_string()], |params| {
        params.not_before = rcgen::date_time_ymd(2020, 1, 1);
        params.not_after = rcgen::date_time_ymd(2020, 1, 2);
    });
    let postgres = Postgres::start_with_tls(&expired, &authority.ca(), ANY);

    let ca = ca(&authority.ca());
    assert_refused(&proxy(&postgres, &format!("mode = 'verify-ca', {ca}")), "certificate expired");
    assert_eq!(outcome(&proxy(&postgres, "mode = 'require'")), Ok(true));
}

/// As PostgreSQL's documentation makes one: its own authority, with a common name and no others.
#[test]
fn a_self_signed_certificate_is_believed_where_it_was_given() {
    let (authority, stranger) = (Authority::new(), Authority::new());
    let name = loopback().to_string();
    let own = authority.self_signed(&name);
    let postgres = Postgres::start_with_tls(&own, &authority.ca(), ANY);

    for mode in ["verify-ca", "verify-full"] {
        let proxy = proxy(&postgres, &format!("mode = '{mode}', {}", ca(&own.cert)));
        assert_eq!(outcome(&proxy), Ok(true), "{mode}");
    }
    let same_name = stranger.self_signed(&name);
    let proxy = proxy(&postgres, &format!("mode = 'verify-ca', {}", ca(&same_name.cert)));
    assert_eq!(outcome(&proxy).unwrap_err().code(), "08001");
}

/// Who has the key of a server whose certificate was given must not speak for another.
#[test]
fn a_certificate_that_is_no_authoritys_is_believed_itself_and_nothing_that_it_has_signed() {
    let authority = Authority::new();
    let name = loopback().to_string();
    let (own, forged) = authority.self_signed_leaf("other.example.com", &name);
    let mode = format!("mode = 'verify-full', {}", ca(&own.cert));
    let postgres = Postgres::start_with_tls(&forged, &authority.ca(), ANY);
    assert_refused(&proxy(&postgres, &mode), "UnknownIssuer");
    drop(postgres);

    let (own, _forged) = authority.self_signed_leaf(&name, "another");
    let postgres = Postgres::start_with_tls(&own, &authority.ca(), ANY);
    let mode = format!("mode = 'verify-full', {}", ca(&own.cert));
    assert_eq!(outcome(&proxy(&postgres, &mode)), Ok(true));
}

/// What `openssl req -x509 -CA` makes: an authority of its own, though another one has signed it.
#[test]
fn a_server_that_shows_an_authority_is_believed_only_where_that_one_was_given() {
    let authority = Authority::new();
    let own = authority.issue_with("server", &[], |params| {
        params.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
    });
    let postgres = Postgres::start_with_tls(&own, &authority.ca(), ANY);

    assert_refused(
        &proxy(&postgres, &format!("mode = 'verify-ca', {}", ca(&authority.ca()))),
        "CaUsedAsEndEntity",
    );
    let proxy = proxy(&postgres, &format!("mode = 'verify-ca', {}", ca(&own.cert)));
    assert_eq!(outcome(&proxy), Ok(true));
}

#[test]
fn a_server_that_wants_a_certificate_gets_ours() {
    let (authority, stranger) = (Authority::new(), Authority::new());
    let postgres = postgres(&authority, "hostssl all all 127.0.0.0/8 trust clientcert=verify-ca");
    let ours = authority.issue("pgweir", &[]);

    assert_eq!(outcome(&proxy(&postgres, &format!("mode = 'require', {}", ours.toml()))), Ok(true));

    let error = outcome(&proxy(&postgres, "mode = 'require'")).unwrap_err();
    assert_eq!(error.code(), "28000");
    assert!(error.message().contains("valid client certificate"), "{error:?}");
    let theirs = stranger.issue("pgweir", &[]);
    let proxy = proxy(&postgres, &format!("mode = 'require', {}", theirs.toml()));
    let error = outcome(&proxy).unwrap_err();
    assert_eq!(error.code(), "08001", "{error:?}");
    assert!(error.detail().contains("UnknownCA"), "{error:?}");
}

/// The host's own keys go before the domain's, one by one.
#[test]
fn a_host_may_have_a_mode_of_its_own() {
    let (authority, stranger) = (Authority::new(), Authority::new());
    let postgres = postgres(&authority, ANY);
    let host = postgres.tcp_host();
    let stranger = stranger.ca();
    let config = |tls: &str| {
        format!(
            "pool.connect_attempts = 1\ndomains.main.tls = {{ mode = 'verify-ca', ca = '{}' }}\n\
             hosts.'{host}'.tls = {{ {tls} }}",
            stranger.display()
        )
    };

    let own_ca = Proxy::before(&host, &config(&ca(&authority.ca())));
    assert_eq!(outcome(&own_ca), Ok(true));
    drop(own_ca);
    let own_mode = Proxy::before(&host, &config("mode = 'disable'"));
    assert_eq!(outcome(&own_mode), Ok(false));
    drop(own_mode);
    let nothing_own = Proxy::before(&host, &config(""));
    assert_eq!(outcome(&nothing_own).unwrap_err().code(), "08001");
}

/// P7, P78: what comes with the `S` was not sent by who has the key. No step of the ladder goes on
/// from there, nor is anything said in plain.
#[test]
fn plain_data_behind_the_answer_of_a_server_ends_the_connection() {
    for answer in [&b"SE\0\0\0\x0a"[..], b"N\0", b"SR\0\0\0\x08\0\0\0\0"] {
        let said = Arc::new(AtomicUsize::new(0));
        let heard = Arc::clone(&said);
        let server = FakeServer::start_raw(move |mut peer| {
            assert!(peer.take(8).is_some());
            peer.send_bytes(answer);
            if peer.take(1).is_some() {
                heard.fetch_add(1, Relaxed);
            }
        });

        assert_refused(
            &before(&server.host(), "mode = 'prefer'"),
            "unencrypted data behind its answer on TLS",
        );

        assert_eq!(said.load(Relaxed), 0, "{answer:?}");
    }
}

#[test]
fn a_server_that_answers_something_else_or_nothing_is_an_error() {
    for (answer, detail) in [
        (&b"E\0\0\0\x05\0"[..], "no answer to the question for TLS"),
        (b"HTTP/1.1 400", "no answer to the question for TLS"),
        (b"", "closed the connection during login"),
    ] {
        let server = FakeServer::start_raw(move |mut peer| {
            assert!(peer.take(8).is_some());
            peer.send_bytes(answer);
        });
        assert_refused(&before(&server.host(), "mode = 'require'"), detail);
    }
}

/// A handshake that comes to nothing: "prefer" goes on in plain, on a connection of its own.
#[test]
fn a_server_whose_tls_is_broken_is_spoken_to_in_plain_by_prefer_alone() {
    let server = || {
        FakeServer::start_raw(|mut peer| {
            let first = peer.take(8).unwrap();
            if first == [0, 0, 0, 8, 4, 210, 22, 47] {
                peer.send_bytes(b"S");
                // The handshake has begun.
                assert!(peer.take(1).is_some());
                peer.send_bytes(b"this is no TLS");
                return;
            }
            let rest = u32::from_be_bytes(first[..4].try_into().unwrap()) as usize - 8;
            assert!(peer.take(rest).is_some());
            peer.welcome();
            while peer.read_to(b'Q').is_some() {
                peer.row("f");
                peer.complete("SELECT 1");
                peer.ready(b'I');
            }
        })
    };
    let plain = server();
    assert_eq!(outcome(&before(&plain.host(), "mode = 'prefer'")), Ok(false));
    assert_eq!(plain.connections(), 2);
    assert_refused(&before(&server().host(), "mode = 'require'"), "no TLS with the server");
}

/// A cancel request holds the key to somebody's statement.
#[test]
fn a_cancel_request_to_an_encrypted_server_is_encrypted() {
    let authority = Authority::new();
    let postgres = postgres(&authority, ONLY_TLS);
    let proxy = proxy(&postgres, &format!("mode = 'verify-full', {}", ca(&authority.ca())));
    let mut client = proxy.client();
    client.send(&query("select pg_sleep(60)"));
    proxy.wait_for_pool("it runs", |pool| pool.servers.active == 1);

    wait_until("it is cancelled", || {
        client.cancel();
        client.read_within(std::time::Duration::from_millis(200)).is_ok()
    });
    client.read_to(b'Z');
    assert_eq!(client.value("select 1"), "1");

    // To a server that has the key of its session come only handshakes.
    let packets = Arc::new(AtomicUsize::new(0));
    let counted = Arc::clone(&packets);
    let config = identity(&authority).server_config();
    let server = FakeServer::start_raw(move |mut peer| {
        let first = peer.take(8).unwrap();
        assert_eq!(first, [0, 0, 0, 8, 4, 210, 22, 47], "a packet in plain");
        counted.fetch_add(1, Relaxed);
        peer.send_bytes(b"S");
        let Some(mut peer) = peer.encrypt(Arc::clone(&config)) else { return };
        if peer.number > 0 {
            // The cancel: its connection is closed, and the statement fails.
            assert_eq!(peer.take(8).unwrap()[4..8], [4, 210, 22, 46]);
            return;
        }
        assert!(peer.take_startup().is_some());
        peer.welcome();
        peer.read_to(b'Q');
        peer.read_to(b'X');
    });
    let proxy = before(&server.host(), "mode = 'require'");
    let mut client = proxy.client();
    client.send(&query("select pg_sleep(60)"));
    proxy.wait_for_pool("it runs", |pool| pool.servers.active == 1);
    client.cancel();
    wait_until("the cancel has come", || packets.load(Relaxed) == 2);
}

/// P30: an idle server is looked at without waiting. A record that holds nothing to read (a ticket, a
/// change of keys) is no sign of death, and the next client gets the same server.
#[test]
fn an_idle_server_that_changes_its_keys_is_alive() {
    let authority = Authority::new();
    let held = Arc::new((std::sync::Mutex::new(false), std::sync::Condvar::new()));
    let told = Arc::clone(&held);
    let server = FakeServer::start_tls(identity(&authority).server_config(), move |peer| {
        peer.welcome();
        while peer.read_to(b'Q').is_some() {
            peer.row(&peer.number.to_string());
            peer.complete("SELECT 1");
            peer.ready(b'I');
            peer.stream.refresh_keys().unwrap();
            *told.0.lock().unwrap() = true;
            told.1.notify_all();
        }
    });
    let proxy = before(&server.host(), "mode = 'require'");
    let mut client = proxy.client();
    for _ in 0..5 {
        assert_eq!(client.value("select 1"), "0");
        let refreshed = held.0.lock().unwrap();
        *held.1.wait_while(refreshed, |refreshed| !*refreshed).unwrap() = false;
    }
    assert_eq!(server.connections(), 1);
}

/// P30: one that died while it idled is not lent.
#[test]
fn an_idle_server_that_died_behind_its_encryption_is_replaced() {
    let authority = Authority::new();
    let postgres = postgres(&authority, ONLY_TLS);
    let proxy = proxy(&postgres, "mode = 'require'");
    let mut client = proxy.client();
    let first = client.pid();

    postgres.client().value(&format!("select pg_terminate_backend({first})"));
    wait_until("it is gone", || postgres.connections() == 0);

    assert_ne!(client.pid(), first);
}

#[test]
fn both_sides_may_be_encrypted_at_once_and_large_results_pass() {
    let authority = Authority::new();
    let postgres = postgres(&authority, ONLY_TLS);
    let own = authority.issue("localhost", &["localhost"]);
    let config = format!(
        "listen.tls = {{ mode = 'require', {} }}\n\
         domains.main.tls = {{ mode = 'verify-full', {} }}",
        own.toml(),
        ca(&authority.ca())
    );
    let proxy = Proxy::before(&postgres.tcp_host(), &config);
    let mut client = proxy.connect().encrypted(&authority.client());
    let login = [("user", "app"), ("database", "main")];
    client.send(&crate::support::messages::startup(&login));
    client.finish_login().unwrap();

    let rows = client.ask("select n, repeat('z', 5000) from generate_series(1, 5000) n").rows();

    assert_eq!(rows.len(), 5000);
    assert!(rows.iter().all(|row| row[1].len() == 5000));
    assert_eq!(client.value(IS_ENCRYPTED), "t");
}
