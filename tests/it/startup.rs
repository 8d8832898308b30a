//! From the first byte to the first `ReadyForQuery`.

use std::net::TcpStream;

use crate::support::messages::{
    gssenc_request, message, packet, query, ssl_request, startup, startup_version, sync,
};
use crate::support::postgres::{DATABASE, Postgres, USER};
use crate::support::proxy::Proxy;
use crate::support::raw_client::Client;
use crate::support::socket::Address;
use crate::support::wait::wait_until;

const LOGIN: [(&str, &str); 2] = [("user", USER), ("database", "main")];

/// P11: a startup packet and the first query, each byte in a packet of its own.
#[test]
fn a_client_that_sends_one_byte_at_a_time_is_served() {
    let postgres = Postgres::start();
    let proxy = Proxy::start(&postgres, "");
    let mut client = proxy.connect();

    for byte in startup(&LOGIN) {
        client.send(&[byte]);
    }
    client.finish_login().unwrap();
    for byte in query("select 42") {
        client.send(&[byte]);
    }

    assert_eq!(client.read_ready(1).values(), "42");
}

/// P11: what is wrong with a startup packet is told.
#[test]
fn a_malformed_startup_packet_is_refused_with_its_reason() {
    let proxy = Proxy::before("127.0.0.1:1", "");
    let version = 3_u32 << 16;
    let with = |rest: &[u8]| packet(&[&version.to_be_bytes(), rest].concat());
    let cases = [
        (packet(&[0; 3]), "invalid length"),
        (u32::MAX.to_be_bytes().to_vec(), "invalid length"),
        (0x7fff_ffff_u32.to_be_bytes().to_vec(), "invalid length"),
        (packet(&[0; 10_000]), "invalid length"),
        (with(b"user\0app\0"), "terminator"),
        (with(b"user\0app\0\0more"), "terminator"),
        (with(b"\0"), "no PostgreSQL user name"),
    ];

    for (bytes, reason) in cases {
        let mut client = proxy.connect();
        client.send(&bytes);

        let error = client.read_fatal();

        assert!(error.message().contains(reason), "{error:?} does not contain {reason:?}");
        assert_eq!(error.code(), "08P01");
    }
}

#[test]
fn another_protocol_than_3_is_refused_as_postgresql_does() {
    let proxy = Proxy::before("127.0.0.1:1", "");
    for major in [1, 2, 4, 0x0fff] {
        let mut client = proxy.connect();
        client.send(&startup_version((major, 0), &LOGIN));

        let error = client.read_fatal();

        assert_eq!(error.code(), "0A000");
        let text = format!("unsupported frontend protocol {major}.0: server supports 3.0 to 3.2");
        assert_eq!(error.message(), text);
    }
}

/// P10: messages that have no place before a login.
#[test]
fn a_query_in_the_place_of_a_startup_packet_ends_the_connection() {
    let proxy = Proxy::before("127.0.0.1:1", "");
    for bytes in [query("select 1"), sync(), message(b'p', b"secret\0")] {
        let mut client = proxy.connect();
        client.send(&bytes);

        assert_eq!(client.read_fatal().code(), "08P01");
    }
}

/// P12, P78: both kinds of encryption are declined, one after the other, and the login goes on.
#[test]
fn a_client_that_asks_for_gssenc_and_then_for_ssl_is_served_in_plain() {
    let postgres = Postgres::start();
    let proxy = Proxy::start(&postgres, "");
    let mut client = proxy.connect();

    client.send(&gssenc_request());
    assert_eq!(client.read_byte(), b'N');
    client.send(&ssl_request());
    assert_eq!(client.read_byte(), b'N');
    client.send(&startup(&LOGIN));

    client.finish_login().unwrap();
    assert_eq!(client.value("select 1"), "1");
}

/// P12: a client that does nothing but ask is not answered for ever.
#[test]
fn encryption_that_is_asked_for_again_and_again_ends_the_connection() {
    let proxy = Proxy::before("127.0.0.1:1", "");
    let mut client = proxy.connect();
    for request in [ssl_request(), gssenc_request()] {
        client.send(&request);
        assert_eq!(client.read_byte(), b'N');
    }
    client.send(&ssl_request());

    assert_eq!(client.read_fatal().code(), "0A000");
}

/// P12: the second wish of a kind is a version that there is not, for PostgreSQL as for us.
#[test]
fn encryption_of_a_kind_that_was_declined_is_refused_as_postgresql_does() {
    let postgres = Postgres::start();
    let proxy = Proxy::start(&postgres, "");
    for request in [ssl_request(), gssenc_request()] {
        let [direct, through] = [postgres.address(), proxy.address.clone()].map(|address| {
            let mut client = Client::connect(&address);
            client.send(&request);
            assert_eq!(client.read_byte(), b'N');
            client.send(&request);
            let error = client.read_fatal();
            let version = error.message().split_once(':').unwrap().0.to_owned();
            (error.code().to_owned(), version)
        });

        assert_eq!(through, direct);
    }
}

/// Nobody has to wait for the end of a login that asks for nothing.
#[test]
fn a_query_right_behind_a_startup_packet_is_answered_as_by_postgresql() {
    let postgres = Postgres::start();
    let proxy = Proxy::start(&postgres, "admin.users = ['app']");
    let cases = [
        (postgres.address(), DATABASE, "select 42"),
        (proxy.address.clone(), "main", "select 42"),
        (proxy.address.clone(), "pgweir", "show version"),
    ];
    for (address, database, text) in cases {
        let mut client = Client::connect(&address);
        let login = startup(&[("user", USER), ("database", database)]);
        // The front of a second one as well, whose rest comes later.
        let mut again = query(text);
        let rest = again.split_off(3);

        client.send(&[login, query(text), again].concat());

        client.finish_login().unwrap();
        assert_eq!(client.read_ready(1).errors(), [], "{database}");
        client.send(&rest);
        assert_eq!(client.read_ready(1).status(), Some('I'), "{database}");
    }
}

/// What other programs call themselves is no reason to ask a server again.
#[test]
fn another_application_name_beside_known_settings_needs_no_server() {
    let postgres = Postgres::start();
    let proxy = Proxy::start(&postgres, "pool = { size = 1, timeout = '300ms' }");
    let named = |name| [("TimeZone", "utc"), ("application_name", name)];
    let mut holder = proxy.client_with(&named("first"));
    holder.ask("begin; select 1");

    let mut other = proxy.client_with(&named("second"));

    assert_eq!(other.parameters["application_name"], "second");
    // What has to be asked still is.
    assert_eq!(proxy.try_client_with(&[("TimeZone", "Asia/Tokyo")]).unwrap_err().code(), "53300");
    assert_eq!(proxy.try_client_with(&named("n\u{e9}")).unwrap_err().code(), "53300");
    holder.ask("commit");
    let seen = "select current_setting('application_name'), current_setting('TimeZone')";
    assert_eq!(other.ask(seen).rows(), [["second", "UTC"]]);
    assert_eq!(holder.ask(seen).rows(), [["first", "UTC"]]);
}

/// P7: somebody in between may have put it there.
#[test]
fn plain_data_behind_an_ssl_request_ends_the_connection() {
    let proxy = Proxy::before("127.0.0.1:1", "");
    for request in [ssl_request(), gssenc_request()] {
        let mut client = proxy.connect();

        client.send(&[request, startup(&LOGIN)].concat());

        let error = client.read_fatal();
        assert_eq!(error.code(), "08P01");
        assert!(error.message().contains("unencrypted data"), "{error:?}");
    }
}

/// P79: what `options` and other parameters ask for is what the server has.
#[test]
fn startup_settings_reach_the_server() {
    let postgres = Postgres::start();
    let proxy = Proxy::start(&postgres, "pool.size = 1");
    let mut other = proxy.client();
    let mut client = proxy.client_with(&[
        ("options", r"-c work_mem=3MB --search-path=a,\ b -cstatement_timeout=7s"),
        ("extra_float_digits", "2"),
        ("application_name", "my app"),
        ("DateStyle", "German"),
    ]);

    let settings = "select current_setting('work_mem'), current_setting('search_path'), \
                    current_setting('statement_timeout'), current_setting('extra_float_digits'), \
                    current_setting('application_name'), current_setting('datestyle')";
    assert_eq!(client.ask(settings).rows(), [["3MB", "a, b", "7s", "2", "my app", "German, DMY"]]);

    // Nothing of it is there for the next client of the same server.
    let theirs = other.ask(settings).rows();
    assert_eq!(theirs, [["4MB", "\"$user\", public", "0", "1", "", "ISO, MDY"]]);
    assert_eq!(client.parameters["DateStyle"], "German, DMY");
    assert_eq!(client.parameters["application_name"], "my app");
}

#[test]
fn a_startup_parameter_that_the_server_does_not_know_is_refused_in_its_words() {
    let postgres = Postgres::start();
    let proxy = Proxy::start(&postgres, "");

    let error = proxy.try_client_with(&[("no_such_setting", "1")]).unwrap_err();

    assert_eq!(error.severity(), "FATAL");
    assert_eq!(error.code(), "42704");
    assert_eq!(error.message(), "unrecognized configuration parameter \"no_such_setting\"");
    // The server that refused it is of use to others.
    assert_eq!(proxy.client().value("select 1"), "1");
}

#[test]
fn a_startup_value_that_the_server_does_not_take_is_refused_in_its_words() {
    let postgres = Postgres::start();
    let proxy = Proxy::start(&postgres, "");

    let error = proxy.try_client_with(&[("work_mem", "lots")]).unwrap_err();

    assert_eq!(error.code(), "22023");
    assert!(error.message().contains("work_mem"), "{error:?}");
}

/// What a client is told about its server is what the server said.
#[test]
fn the_greeting_has_the_parameters_of_the_server() {
    let postgres = Postgres::start();
    let proxy = Proxy::start(&postgres, "");
    let direct = postgres.client();

    let client = proxy.client();

    let mut expected = direct.parameters.clone();
    expected.insert("application_name".into(), String::new());
    expected.insert("is_superuser".into(), "off".into());
    expected.insert("session_authorization".into(), USER.into());
    assert_eq!(client.parameters, expected);
    // No backend has such a number: nobody can terminate a stranger by it.
    assert!(client.key.0 > 4_194_304, "{}", client.key.0);
}

#[test]
fn a_domain_is_found_by_its_name_by_its_database_and_by_the_catch_all() {
    let postgres = Postgres::start();
    let catch_all = format!("[domains.'*']\nhosts = ['{}']\nuser = 'app'", postgres.host());
    let proxy = Proxy::start(&postgres, &catch_all);

    for (asked, got) in [("main", DATABASE), (DATABASE, DATABASE), ("other_db", "other_db")] {
        let mut client = proxy.client_with(&[("database", asked)]);
        assert_eq!(client.value("select current_database()"), got, "{asked}");
    }
}

#[test]
fn a_database_that_is_not_there_is_refused_by_name() {
    let postgres = Postgres::start();
    let proxy = Proxy::start(&postgres, "");

    let error = proxy.try_client_with(&[("database", "nowhere")]).unwrap_err();

    assert_eq!((error.severity(), error.code()), ("FATAL", "3D000"));
    assert!(error.message().contains("no such database: nowhere"), "{error:?}");
}

/// P17: a health check of a balancer.
#[test]
fn a_client_that_connects_and_goes_leaves_nothing_behind() {
    let proxy = Proxy::before("127.0.0.1:1", "");
    for _ in 0..5 {
        drop(proxy.connect());
        proxy.connect().vanish();
    }

    wait_until("no client is left", || {
        let process = proxy.observe().process();
        process.stats.accepted.value() == 10 && process.clients_connected == 0
    });
}

/// Whoever is accepted has the options of the socket that listens.
#[test]
fn a_clients_socket_is_probed_as_the_configuration_says() {
    // The timer that runs for an idle socket (Linux, proc_net_tcp): 2 is that of the next probe.
    let timer_of = |options: &str| {
        let proxy = Proxy::before("127.0.0.1:1", options);
        let Address::Tcp(address) = &proxy.address else { panic!("no TCP address") };
        let client = TcpStream::connect(address).unwrap();
        let ports = [address.port(), client.local_addr().unwrap().port()];
        let socket = ports.map(|port| format!("0100007F:{port:04X}")).join(" ");
        let mut timer = None;
        wait_until("the client is accepted", || {
            let table = std::fs::read_to_string("/proc/net/tcp").unwrap();
            let line = table.lines().find(|line| line.contains(&socket));
            timer = line.and_then(|line| line.split_whitespace().nth(5)).map(|t| t[..2].to_owned());
            proxy.observe().process().stats.accepted.value() == 1
        });
        timer
    };

    assert_eq!(timer_of("").as_deref(), Some("02"));
    assert_eq!(timer_of("listen.tcp.keepalive = false").as_deref(), Some("00"));
    // As long as Linux takes: no reason not to start.
    let long = "listen.tcp = { keepalive_idle = \"30d\", user_timeout = \"60d\" }";
    assert_eq!(timer_of(long).as_deref(), Some("02"));
}
