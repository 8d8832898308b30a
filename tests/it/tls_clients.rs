//! TLS towards clients: who gets it, who must have it, and that nothing is lost in it.

use std::io::{Read, Write};
use std::time::Duration;

use pgweir::telemetry::snapshot::PoolSnapshot;
use rustls::version::{TLS12, TLS13};

use crate::support::authority::{Authority, Issued};
use crate::support::messages::{
    bind, copy_data, copy_done, describe_portal, execute, gssenc_request, parse, query,
    ssl_request, startup, sync,
};
use crate::support::postgres::{Postgres, USER};
use crate::support::proxy::Proxy;
use crate::support::raw_client::Client;
use crate::support::socket::Address;
use crate::support::wait::wait_until;

const LOGIN: [(&str, &str); 2] = [("user", USER), ("database", "main")];
/// Where no server is needed.
const NOWHERE: &str = "127.0.0.1:1";

/// `listen.tls` with a certificate for `localhost`, and `rest` behind it.
fn offer(authority: &Authority, mode: &str, rest: &str) -> String {
    let identity = authority.issue("localhost", &["localhost"]);
    format!("listen.tls = {{ mode = '{mode}', {}{rest} }}\n", identity.toml())
}

fn with_ca(authority: &Authority) -> String {
    format!(", ca = '{}'", authority.ca().display())
}

/// A client that is logged in through TLS.
fn log_in(proxy: &Proxy, authority: &Authority) -> Client {
    let mut client = proxy.connect().encrypted(&authority.client());
    client.send(&startup(&LOGIN));
    client.finish_login().unwrap();
    client
}

/// What `SHOW CLIENTS` says of the only client's encryption.
fn shown(proxy: &Proxy) -> Option<String> {
    proxy.observe().clients()[0].tls.as_deref().map(ToOwned::to_owned)
}

#[test]
fn a_client_that_asks_for_tls_is_served_through_it_in_both_versions() {
    let (postgres, authority) = (Postgres::start(), Authority::new());
    for mode in ["allow", "prefer", "require"] {
        let proxy = Proxy::start(&postgres, &offer(&authority, mode, ""));
        for (version, name) in [(&TLS12, "TLSv1.2/TLS_ECDHE_ECDSA"), (&TLS13, "TLSv1.3/TLS_AES")] {
            let tls = authority.client().with_version(version);
            let mut client = proxy.connect().encrypted(&tls);
            client.send(&startup(&LOGIN));
            client.finish_login().unwrap();

            assert_eq!(client.value("select 42"), "42");

            let shown = shown(&proxy).unwrap();
            assert!(shown.starts_with(name), "{mode} {shown}");
            drop(client);
            wait_until("the client is gone", || proxy.observe().clients().is_empty());
        }
    }
}

#[test]
fn a_client_that_asks_for_nothing_is_served_in_plain_unless_tls_is_demanded() {
    let (postgres, authority) = (Postgres::start(), Authority::new());
    for mode in ["allow", "prefer"] {
        let proxy = Proxy::start(&postgres, &offer(&authority, mode, ""));
        let mut client = proxy.client();
        assert_eq!(client.value("select 1"), "1");
        assert_eq!(shown(&proxy), None);
    }
    for mode in ["require", "verify-ca", "verify-full"] {
        let proxy = Proxy::start(&postgres, &offer(&authority, mode, &with_ca(&authority)));

        let error = proxy.try_client_with(&[]).unwrap_err();

        assert_eq!((error.severity(), error.code()), ("FATAL", "28000"));
        let wanted = format!("no TLS, which listen.tls.mode = \"{mode}\" demands");
        assert_eq!(error.message(), wanted);
        assert!(error.hint().contains("sslmode=require"), "{error:?}");
    }
}

/// P12, P78: GSSAPI is declined, and TLS may be asked for afterwards; inside TLS nothing is.
#[test]
fn tls_may_be_asked_for_after_gssenc_and_not_inside_itself() {
    let (postgres, authority) = (Postgres::start(), Authority::new());
    let proxy = Proxy::start(&postgres, &offer(&authority, "require", ""));
    let mut client = proxy.connect();
    client.send(&gssenc_request());
    assert_eq!(client.read_byte(), b'N');
    let mut client = client.encrypted(&authority.client());
    client.send(&startup(&LOGIN));
    client.finish_login().unwrap();

    for request in [ssl_request(), gssenc_request()] {
        let mut client = proxy.connect().encrypted(&authority.client());
        client.send(&request);
        let error = client.read_fatal();
        // As PostgreSQL has it: it stands where a version should.
        assert_eq!(error.code(), "0A000");
        assert!(error.message().starts_with("unsupported frontend protocol 1234."), "{error:?}");
    }
}

/// P7: somebody in between has put a startup packet behind the request, in the same segment.
#[test]
fn plain_data_behind_an_ssl_request_is_refused_though_tls_is_on_offer() {
    let authority = Authority::new();
    let proxy = Proxy::before(NOWHERE, &offer(&authority, "prefer", ""));
    let mut client = proxy.connect();

    client.send(&[ssl_request(), startup(&LOGIN)].concat());

    let error = client.read_fatal();
    assert_eq!(error.code(), "08P01");
    assert_eq!(error.message(), "received unencrypted data after SSL request");
}

/// P7: what comes in plain behind the `S` is no handshake, and nothing else either.
#[test]
fn plain_data_in_the_place_of_a_handshake_ends_the_connection() {
    let authority = Authority::new();
    let proxy = Proxy::before(NOWHERE, &offer(&authority, "prefer", ""));
    let mut client = proxy.connect();
    client.send(&ssl_request());
    assert_eq!(client.read_byte(), b'S');

    client.send(&startup(&LOGIN));

    let mut answer = Vec::new();
    client.socket.read_to_end(&mut answer).unwrap();
    // A TLS alert at most: no login went on.
    assert!(answer.is_empty() || answer[0] == 0x15, "{answer:?}");
    wait_until("it is gone", || proxy.observe().process().clients_connected == 0);
}

#[test]
fn a_handshake_without_a_question_has_to_name_the_protocol() {
    let (postgres, authority) = (Postgres::start(), Authority::new());
    let proxy = Proxy::start(&postgres, &offer(&authority, "require", ""));
    let tls = authority.client();

    let mut client = proxy.connect().try_encrypt(&tls.clone().with_protocol("postgresql")).unwrap();
    client.send(&startup(&LOGIN));
    client.finish_login().unwrap();
    assert_eq!(client.value("select 1"), "1");

    // None named: the handshake is over before we can know, and nothing follows it.
    let mut client = proxy.connect().try_encrypt(&tls).unwrap();
    assert_eq!(client.try_read(), None);
    // Another one.
    let error = proxy.connect().try_encrypt(&tls.with_protocol("http/1.1")).unwrap_err();
    assert!(error.to_string().contains("NoApplicationProtocol"), "{error}");
}

#[test]
fn a_client_that_asks_first_may_name_the_protocol_or_none_but_no_other() {
    let (postgres, authority) = (Postgres::start(), Authority::new());
    let proxy = Proxy::start(&postgres, &offer(&authority, "require", ""));
    let tls = authority.client().with_protocol("postgresql");
    let mut client = proxy.connect().encrypted(&tls);
    client.send(&startup(&LOGIN));
    client.finish_login().unwrap();

    let mut client = proxy.connect();
    client.send(&ssl_request());
    assert_eq!(client.read_byte(), b'S');
    let error = client.try_encrypt(&authority.client().with_protocol("http/1.1")).unwrap_err();
    assert!(error.to_string().contains("NoApplicationProtocol"), "{error}");
}

#[test]
fn a_handshake_where_no_tls_is_offered_ends_the_connection() {
    let authority = Authority::new();
    let proxy = Proxy::before(NOWHERE, "");
    let tls = authority.client().with_protocol("postgresql");

    proxy.connect().try_encrypt(&tls).unwrap_err();

    wait_until("it is gone", || proxy.observe().process().clients_connected == 0);
}

fn is_let_in(proxy: &Proxy, authority: &Authority, identity: Option<&Issued>) -> bool {
    let mut tls = authority.client();
    if let Some(identity) = identity {
        tls = tls.with_identity(identity);
    }
    let mut client = proxy.connect();
    client.send(&ssl_request());
    assert_eq!(client.read_byte(), b'S');
    // In TLS 1.3 a client hears only after its handshake that its certificate is not good.
    let Ok(mut client) = client.try_encrypt(&tls) else { return false };
    if client.try_send(&startup(&LOGIN)).is_err() {
        return false;
    }
    client.read_within(Duration::from_secs(10)).is_ok_and(|message| message.is_some())
}

#[test]
fn verify_modes_let_in_who_has_a_certificate_of_the_ca_and_nobody_else() {
    let (postgres, authority, stranger) = (Postgres::start(), Authority::new(), Authority::new());
    let good = authority.issue("app", &[]);
    let bad = stranger.issue("app", &[]);
    let expired = authority.issue_with("expired", &[], |params| {
        params.not_before = rcgen::date_time_ymd(2020, 1, 1);
        params.not_after = rcgen::date_time_ymd(2020, 1, 2);
    });
    for (mode, without) in [("require", true), ("verify-ca", false), ("verify-full", false)] {
        let proxy = Proxy::start(&postgres, &offer(&authority, mode, &with_ca(&authority)));
        assert!(is_let_in(&proxy, &authority, Some(&good)), "{mode}");
        assert_eq!(is_let_in(&proxy, &authority, None), without, "{mode}");
        // A certificate is looked at wherever there is a ca to look by.
        assert!(!is_let_in(&proxy, &authority, Some(&bad)), "{mode}");
        assert!(!is_let_in(&proxy, &authority, Some(&expired)), "{mode}");
    }
    let proxy = Proxy::start(&postgres, &offer(&authority, "require", ""));
    assert!(is_let_in(&proxy, &authority, Some(&bad)), "nobody asked for it");
}

/// As towards servers: what is no authority's is good itself, and what it has signed is not.
#[test]
fn a_client_may_show_the_very_certificate_that_was_given_and_none_that_it_has_signed() {
    let (postgres, authority) = (Postgres::start(), Authority::new());
    let (own, forged) = authority.self_signed_leaf("app", "app");
    let given = format!(", ca = '{}'", own.cert.display());
    let proxy = Proxy::start(&postgres, &offer(&authority, "verify-ca", &given));

    assert!(is_let_in(&proxy, &authority, Some(&own)));
    assert!(!is_let_in(&proxy, &authority, Some(&forged)));
    assert!(!is_let_in(&proxy, &authority, Some(&authority.issue("stranger", &[]))));
}

#[test]
fn a_unix_socket_does_without() {
    let (postgres, authority) = (Postgres::start(), Authority::new());
    let folder = tempfile::tempdir().unwrap();
    let directory = folder.path().display();
    let config = format!("listen.addresses = ['127.0.0.1:0', '{directory}:7000']\n");
    let _proxy = Proxy::start(&postgres, &(config + &offer(&authority, "require", "")));
    let mut client = Client::connect(&Address::Unix(folder.path().join(".s.PGSQL.7000")));

    client.send(&ssl_request());
    assert_eq!(client.read_byte(), b'N');
    client.send(&startup(&LOGIN));

    client.finish_login().unwrap();
}

/// P53: a record ends wherever it likes: inside a head, inside a name, after each byte.
#[test]
fn messages_may_be_cut_into_records_at_every_byte() {
    let (postgres, authority) = (Postgres::start(), Authority::new());
    let proxy = Proxy::start(&postgres, &offer(&authority, "require", ""));
    let text = format!("select $1::text || '{}'", "x".repeat(50));
    let request = [
        parse("named", &text),
        bind("named", &["a"]),
        describe_portal(""),
        execute(),
        sync(),
        query("select 42"),
    ]
    .concat();

    // Each record a segment of its own.
    let mut client = proxy.connect().encrypted(&authority.client());
    for byte in startup(&LOGIN) {
        client.send(&[byte]);
    }
    client.finish_login().unwrap();
    for byte in &request {
        client.send(&[*byte]);
    }
    assert_eq!(client.read_ready(2).values(), format!("a{} 42", "x".repeat(50)));

    // Many records in a segment, cut in two at each byte in turn.
    client.send(&query("deallocate all"));
    client.read_ready(1);
    for cut in 1..request.len() {
        client.socket.write_in_records(&request[..cut], 7).unwrap();
        client.socket.write_in_records(&request[cut..], request.len()).unwrap();
        let reply = client.read_ready(2);
        assert!(reply.values().ends_with("x 42"), "{cut} {reply:?}");
        client.ask("deallocate all");
    }
}

/// P17: probes, stray clients and clients that die leave nothing behind.
#[test]
fn whoever_breaks_off_a_handshake_leaves_nothing_behind() {
    let (postgres, authority) = (Postgres::start(), Authority::new());
    let proxy = Proxy::start(&postgres, &offer(&authority, "require", ""));
    for garbage in
        [&b""[..], b"\x16", b"\x16\x03\x01\x00\x05hello", &[0x16; 3000], b"GET / HTTP/1.1\r\n"]
    {
        for asks in [true, false] {
            let mut client = proxy.connect();
            if asks {
                client.send(&ssl_request());
                assert_eq!(client.read_byte(), b'S');
            }
            client.send(garbage);
        }
    }
    // One that was logged in, and says no goodbye.
    log_in(&proxy, &authority).vanish();

    wait_until("no client is left", || proxy.observe().process().clients_connected == 0);
    assert_eq!(log_in(&proxy, &authority).value("select 1"), "1");
}

#[test]
fn a_handshake_that_does_not_go_on_ends_with_login_timeout() {
    let authority = Authority::new();
    let config = format!("listen.login_timeout = '300ms'\n{}", offer(&authority, "require", ""));
    let proxy = Proxy::before(NOWHERE, &config);
    let mut client = proxy.connect();
    client.send(&ssl_request());
    assert_eq!(client.read_byte(), b'S');

    let mut rest = Vec::new();
    client.socket.read_to_end(&mut rest).unwrap();

    // No words in plain, which nobody would understand: an alert.
    assert!(rest.is_empty() || rest[0] == 0x15, "{rest:?}");
}

/// Whoever reads on to the end sees a goodbye: what was cut off would look otherwise.
#[test]
fn the_last_words_to_a_client_arrive_and_a_goodbye_behind_them() {
    let (postgres, authority) = (Postgres::start(), Authority::new());
    let mut proxy = Proxy::start(&postgres, &offer(&authority, "require", ""));
    let mut client = log_in(&proxy, &authority);

    let stopped = proxy.shut_down();

    // Reading fails at an end without a goodbye.
    assert_eq!(client.read_fatal().code(), "57P01");
    stopped.join().unwrap();
}

/// A result that is much larger than every buffer, to a client that takes its time; and back.
#[test]
fn megabytes_pass_through_both_ways_and_nothing_is_lost() {
    let (postgres, authority) = (Postgres::start(), Authority::new());
    let proxy = Proxy::start(&postgres, &offer(&authority, "require", ""));
    let mut client = log_in(&proxy, &authority);
    client.send(&query("select n, repeat(md5(n::text), 100) from generate_series(1, 8000) n"));
    // It does not read for a while: pgweir must stop reading, and go on when it does.
    let is_much = |pool: &PoolSnapshot| pool.traffic.bytes_sent.value() > 1_000_000;
    proxy.wait_for_pool("much is on its way", is_much);
    let rows = client.read_ready(1).rows();
    assert_eq!(rows.len(), 8000);
    assert!(rows.iter().all(|row| row[1].len() == 3200));

    client.value("create table copied (line text)");
    client.send(&query("copy copied from stdin"));
    assert_eq!(client.read().tag, b'G');
    for row in &rows {
        client.send(&copy_data(format!("{}\n", row[1]).as_bytes()));
    }
    client.send(&copy_done());
    assert_eq!(client.read_ready(1).done(), ["COPY 8000"]);
    assert_eq!(client.value("select sum(length(line)) from copied"), "25600000");
}

/// Both sides write all they can and read nothing: a pipeline of large answers to large requests.
#[test]
fn a_pipeline_that_fills_both_directions_does_not_get_stuck() {
    let (postgres, authority) = (Postgres::start(), Authority::new());
    let proxy = Proxy::start(&postgres, &offer(&authority, "require", ""));
    let mut client = log_in(&proxy, &authority);
    let text = "y".repeat(20_000);
    let one = query(&format!("select repeat('{text}', 20)"));

    // Written from here in one go, while nobody reads: the kernel's buffers hold some megabytes.
    client.socket.write_all(&one.repeat(20)).unwrap();

    let reply = client.read_ready(20);
    assert_eq!(reply.rows().len(), 20);
    assert!(reply.rows().iter().all(|row| row[0].len() == 400_000));
}

/// The other side may change its keys whenever it likes: such records hold nothing to read.
#[test]
fn a_client_may_change_its_keys() {
    let (postgres, authority) = (Postgres::start(), Authority::new());
    let proxy = Proxy::start(&postgres, &offer(&authority, "require", ""));
    let tls = authority.client().with_version(&TLS13);
    let mut client = proxy.connect().encrypted(&tls);
    client.send(&startup(&LOGIN));
    client.finish_login().unwrap();

    for n in 0..5 {
        client.socket.refresh_keys().unwrap();
        assert_eq!(client.value(&format!("select {n}")), n.to_string());
        client.socket.refresh_keys().unwrap();
    }
}

#[test]
fn a_cancel_request_comes_through_in_plain_and_through_tls() {
    let (postgres, authority) = (Postgres::start(), Authority::new());
    let proxy = Proxy::start(&postgres, &offer(&authority, "require", ""));
    let mut client = log_in(&proxy, &authority);
    for is_plain in [true, false] {
        client.send(&query("select pg_sleep(60)"));
        proxy.wait_for_pool("it runs", |pool| pool.servers.active == 1);
        wait_until("it is cancelled", || {
            let mut other = proxy.connect();
            if !is_plain {
                other = other.encrypted(&authority.client());
            }
            let (id, secret) = client.key.clone();
            other.send(&crate::support::messages::cancel_request(id, &secret));
            assert_eq!(other.try_read(), None);
            client.read_within(Duration::from_millis(200)).is_ok()
        });
        client.read_to(b'Z');
    }
}

#[test]
fn a_hundred_clients_may_shake_hands_at_once() {
    let (postgres, authority) = (Postgres::start(), Authority::new());
    let proxy = Proxy::start(&postgres, &offer(&authority, "require", ""));
    std::thread::scope(|scope| {
        let clients: Vec<_> = (0..100)
            .map(|n| {
                let (proxy, authority) = (&proxy, &authority);
                scope.spawn(move || log_in(proxy, authority).value(&format!("select {n}")))
            })
            .collect();
        for (n, client) in clients.into_iter().enumerate() {
            assert_eq!(client.join().unwrap(), n.to_string());
        }
    });
}

#[test]
fn the_console_is_reached_through_tls() {
    let (postgres, authority) = (Postgres::start(), Authority::new());
    let config = format!("admin.users = ['app']\n{}", offer(&authority, "require", ""));
    let proxy = Proxy::start(&postgres, &config);
    let other = log_in(&proxy, &authority);
    let mut console = proxy.connect().encrypted(&authority.client());
    console.send(&startup(&[("user", USER), ("database", "pgweir")]));
    console.finish_login().unwrap();

    let clients = console.ask("show clients").rows();

    assert!(clients[0].iter().any(|cell| cell.starts_with("TLSv1.3/TLS_")), "{clients:?}");
    let config = console.ask("show config").rows();
    let mode = config.iter().find(|row| row[0] == "listen.tls.mode").unwrap();
    assert_eq!(mode[1], "require");
    drop(other);
}
