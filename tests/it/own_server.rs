//! Session mode: a server of one's own, opened with what the client asked for when it connected.

use crate::support::fake_server::FakeServer;
use crate::support::messages::{query, startup};
use crate::support::postgres::{DATABASE, Postgres, USER};
use crate::support::proxy::Proxy;
use crate::support::raw_client::Client;
use crate::support::reply::Fields;
use crate::support::socket::Address;
use crate::support::wait::wait_until;

const SESSION: &str = "pool.pool_mode = 'session'";
const ONE: &str = "pool.pool_mode = 'session'\npool.size = 1";

/// What a client of PostgreSQL itself gets.
fn directly(postgres: &Postgres, parameters: &[(&str, &str)]) -> Result<Client, Fields> {
    let mut all = vec![("user", USER), ("database", DATABASE)];
    all.extend_from_slice(parameters);
    Client::try_log_in(&postgres.address(), &all)
}

fn source(client: &mut Client, name: &str) -> String {
    client.value(&format!("select source from pg_settings where name = '{name}'"))
}

/// Startup parameters are those of the connection, as PostgreSQL sees it.
#[test]
fn startup_values_are_what_a_reset_goes_back_to() {
    let postgres = Postgres::start();
    let proxy = Proxy::start(&postgres, SESSION);
    let mut client = proxy.client_with(&[
        ("options", r"-c work_mem=3MB --search-path=a,\ b -c extra_float_digits=0"),
        ("extra_float_digits", "2"),
        ("datestyle", "German"),
    ]);

    let names = ["work_mem", "search_path", "extra_float_digits", "DateStyle"];
    let values = ["3MB", "a, b", "2", "German, DMY"];
    for name in names {
        assert_eq!(source(&mut client, name), "client", "{name}");
    }
    for reset in ["reset all", "discard all", "reset work_mem"] {
        client.value("set work_mem = '1MB'");
        client.value(reset);
        for (name, value) in names.iter().zip(values) {
            assert_eq!(client.value(&format!("show {name}")), value, "{name} after {reset}");
        }
    }
}

/// What can only be said when a connection begins.
#[test]
fn a_parameter_of_the_connections_start_is_taken() {
    let postgres = Postgres::start();
    let proxy = Proxy::start(&postgres, SESSION);

    let mut client = proxy.client_with(&[("options", "-c ignore_system_indexes=on")]);

    assert_eq!(client.value("show ignore_system_indexes"), "on");
    assert_eq!(client.ask("set ignore_system_indexes = off").code(), "55P02");
}

/// P79: every field of the error is PostgreSQL's own.
#[test]
fn what_is_wrong_with_startup_parameters_is_told_in_the_servers_words() {
    let postgres = Postgres::start();
    let proxy = Proxy::start(&postgres, SESSION);
    let cases: [&[(&str, &str)]; 6] = [
        &[("no_such_setting", "1")],
        &[("work_mem", "lots")],
        &[("options", "-c work_mem=lots")],
        &[("options", "--no-equals-sign")],
        &[("options", "-c log_disconnections=on")],
        &[("TimeZone", "Nowhere/At All")],
    ];
    for parameters in cases {
        let expected = directly(&postgres, parameters).unwrap_err();

        assert_eq!(proxy.try_client_with(parameters).unwrap_err(), expected, "{parameters:?}");
    }
    assert_eq!(proxy.pool().servers.total(), 0);
}

/// One client's mistake is nobody else's business.
#[test]
fn a_refused_startup_parameter_refuses_nobody_else() {
    let postgres = Postgres::start();
    let proxy = Proxy::start(&postgres, ONE);
    let holder = proxy.client();
    let mut bad = proxy.connect();
    bad.send(&startup(&[("user", USER), ("database", "main"), ("work_mem", "lots")]));
    proxy.wait_for_waiting(1);
    let mut good = proxy.connect();
    good.send(&startup(&[("user", USER), ("database", "main"), ("work_mem", "1MB")]));
    proxy.wait_for_waiting(2);

    drop(holder);

    assert_eq!(bad.read_fatal().code(), "22023");
    good.finish_login().unwrap();
    assert_eq!(good.value("show work_mem"), "1MB");
    drop(good);
    // And at once: nothing is remembered of it.
    assert_eq!(proxy.try_client_with(&[("work_mem", "lots")]).unwrap_err().code(), "22023");
    assert_eq!(proxy.client().value("select 1"), "1");
}

#[test]
fn the_greeting_is_what_the_server_itself_reported() {
    let postgres = Postgres::start();
    let proxy = Proxy::start(&postgres, SESSION);
    for parameters in [
        &[][..],
        &[("application_name", "app"), ("DateStyle", "german"), ("client_encoding", "latin1")],
        &[("options", "-c intervalstyle=iso_8601 -c TimeZone=Asia/Tokyo")],
    ] {
        let direct = directly(&postgres, parameters).unwrap();

        let mut client = proxy.client_with(parameters);

        assert_eq!(client.parameters, direct.parameters);
        assert_eq!(client.key.0.to_string(), client.pid());
        assert_ne!(client.key.1, direct.key.1);
    }
}

#[test]
fn the_next_who_asks_for_the_same_gets_the_server_and_nobody_else() {
    let postgres = Postgres::start();
    let proxy = Proxy::start(&postgres, "pool.pool_mode = 'session'\npool.size = 5");
    let german = [("DateStyle", "German"), ("application_name", "one")];
    let mut client = proxy.client_with(&german);
    let pid = client.pid();
    client.value("set application_name = 'another'");
    client.value("set work_mem = '1MB'");
    drop(client);
    proxy.wait_for_pool("it is back", |pool| pool.servers.idle == 1);

    for other in [&[][..], &german[..1], &[german[1], german[0]]] {
        assert_ne!(proxy.client_with(other).pid(), pid, "{other:?}");
    }
    let mut same = proxy.client_with(&german);

    assert_eq!(same.pid(), pid);
    assert_eq!(same.parameters["application_name"], "one");
    assert_eq!(same.value("show work_mem"), "4MB");
}

#[test]
fn an_idle_server_that_does_not_fit_makes_room_in_a_full_pool() {
    let postgres = Postgres::start();
    let proxy = Proxy::start(&postgres, ONE);
    for name in ["one", "two", "one", ""] {
        let mut client = proxy.client_with(&[("application_name", name)]);
        assert_eq!(client.value("show application_name"), name);
        assert_eq!(proxy.pool().servers.total(), 1);
    }
}

/// Who waits longest is next, whatever kind of server it waits for.
#[test]
fn waiters_for_servers_of_their_own_are_served_in_order() {
    let postgres = Postgres::start();
    let proxy = Proxy::start(&postgres, ONE);
    let holder = proxy.client_with(&[("application_name", "holder")]);
    let mut waiters = Vec::new();
    for (index, name) in ["a", "holder", "b", "a"].iter().enumerate() {
        let mut waiter = proxy.connect();
        let login = [("user", USER), ("database", "main"), ("application_name", *name)];
        waiter.send(&startup(&login));
        proxy.wait_for_waiting(index + 1);
        waiters.push((name, waiter));
    }

    drop(holder);

    let count = waiters.len();
    for (index, (name, mut waiter)) in waiters.into_iter().enumerate() {
        waiter.finish_login().unwrap();
        assert_eq!(waiter.value("show application_name"), **name);
        assert_eq!(proxy.pool().clients_waiting, count - index - 1);
    }
}

/// Sessions that share servers, and sessions that have one, in one pool.
#[test]
fn what_sharing_sessions_left_is_not_met_by_one_with_a_server_of_its_own() {
    let postgres = Postgres::start();
    postgres.client().value(
        "create function leave() returns text language sql as \
         $$ select set_config('app.secret', 'mine', false) $$",
    );
    let proxy = Proxy::start(&postgres, "pool.size = 1\n[users.app_two]\npool_mode = 'session'");
    let mut sharing = proxy.client();
    let pid = sharing.value("select pg_backend_pid() from leave()");

    let mut own = proxy.client_with(&[("user", "app_two")]);

    assert_eq!(own.pid(), pid);
    assert_eq!(own.value("select coalesce(current_setting('app.secret', true), '')"), "");
    own.value("set work_mem = '1MB'");
    drop(own);
    assert_eq!(sharing.value("show work_mem"), "4MB");
    // With a wish, the only place goes from one kind to the other and back.
    let mut own = proxy.client_with(&[("user", "app_two"), ("work_mem", "2MB")]);
    assert_eq!(own.value("show work_mem"), "2MB");
    drop(own);
    assert_eq!(sharing.value("show work_mem"), "4MB");
    assert_eq!(proxy.pool().servers.total(), 1);
}

/// P84: whatever PostgreSQL says last is what the client hears, in all its fields.
#[test]
fn the_servers_last_words_reach_the_client_as_they_are() {
    let postgres = Postgres::start();
    let proxy = Proxy::start(&postgres, SESSION);
    let cases: [(&[(&str, &str)], &str); 3] = [
        (&[], "select pg_terminate_backend(pg_backend_pid())"),
        (&[("options", "-c idle_session_timeout=100")], ""),
        (&[("options", "-c idle_in_transaction_session_timeout=100")], "begin"),
    ];
    for (parameters, text) in cases {
        let last = |mut client: Client| {
            client.send(&query(text));
            client.read_fatal()
        };
        let expected = last(directly(&postgres, parameters).unwrap());

        assert_eq!(last(proxy.client_with(parameters)), expected);
    }
    proxy.wait_for_pool("nothing is left of them", |pool| pool.servers.total() == 0);
}

/// The domain's options are the ground that a client's own stand on.
#[test]
fn what_the_client_says_goes_over_what_the_domain_says() {
    let postgres = Postgres::start();
    let changes = "pool.pool_mode = 'session'\npool.statement_timeout = '7s'\n\
                   domains.main.server_options = { work_mem = '64MB', search_path = 'a, b' }";
    let proxy = Proxy::start(&postgres, changes);
    let values = "select current_setting('work_mem'), current_setting('search_path'), \
                  current_setting('statement_timeout')";

    assert_eq!(proxy.client().ask(values).rows(), [["64MB", "a, b", "7s"]]);
    let mut client = proxy.client_with(&[("options", "-c WORK_MEM=1MB -c statement-timeout=0")]);
    assert_eq!(client.ask(values).rows(), [["1MB", "a, b", "0"]]);
}

/// A database that nobody has is refused before anything is asked of a server.
#[test]
fn an_unknown_database_costs_no_server() {
    let proxy = Proxy::before("127.0.0.1:1", SESSION);

    let error = proxy.try_client_with(&[("database", "nowhere")]).unwrap_err();

    assert_eq!((error.severity(), error.code()), ("FATAL", "3D000"));
}

/// In every mode: what cannot be put on a server later is a reason to open one with it.
#[test]
fn in_transaction_mode_a_parameter_of_the_connections_start_is_taken_too() {
    let postgres = Postgres::start();
    let proxy = Proxy::start(&postgres, "pool.size = 1");
    let mut other = proxy.client();
    let options = "-c ignore_system_indexes=on -c work_mem=3MB";
    let mut client = proxy.client_with(&[("options", options), ("DateStyle", "German")]);
    let both = "select current_setting('ignore_system_indexes'), current_setting('work_mem')";

    for _ in 0..2 {
        assert_eq!(client.ask(both).rows(), [["on", "3MB"]]);
        assert_eq!(other.ask(both).rows(), [["off", "4MB"]]);
    }
    assert_eq!(client.parameters["DateStyle"], "German, DMY");
    assert_eq!(client.parameters["server_encoding"], "UTF8");
    let bad = [("options", "-c ignore_system_indexes=perhaps")];
    assert_eq!(proxy.try_client_with(&bad).unwrap_err(), directly(&postgres, &bad).unwrap_err());
}

/// P74: the end of an answer, and what the server says behind it, wait for a client that is slow. A
/// Unix socket takes little: some of these answers end where it is full.
#[test]
fn the_servers_last_words_wait_for_a_slow_reader() {
    const SIZES: std::ops::Range<usize> = 1..40;
    let server = FakeServer::start(|peer| {
        peer.welcome();
        if peer.read_to(b'Q').is_some() {
            for _ in 0..peer.number {
                peer.row(&"x".repeat(10_000));
            }
            peer.error("FATAL", "57P01", "these are my last words");
        }
    });
    let folder = tempfile::tempdir().unwrap();
    let changes = format!(
        "pool.pool_mode = 'session'\npool.size = 50\nlisten.addresses = ['127.0.0.1:0', '{}:6432']",
        folder.path().display()
    );
    let proxy = Proxy::before(&server.host(), &changes);
    let address = Address::Unix(folder.path().join(".s.PGSQL.6432"));
    let mut pause = proxy.client();
    let mut clients = Vec::new();
    for _ in SIZES {
        let mut client = Client::log_in(&address, &[("user", USER), ("database", "main")]);
        client.send(&query("select"));
        clients.push(client);
    }
    // Nobody reads meanwhile.
    for _ in 0..6 {
        pause.assert_silent();
    }

    for (rows, mut client) in SIZES.zip(clients) {
        let reply = client.read_to_end();
        assert_eq!(reply.rows().len(), rows);
        assert_eq!(reply.error().message(), "these are my last words");
    }
}

/// P20: what a server says against the login itself concerns all, and is not asked for twice at once.
#[test]
fn a_refused_login_is_remembered_for_clients_with_parameters_too() {
    let server = FakeServer::start(|peer| {
        peer.error("FATAL", "28P01", "password authentication failed");
    });
    let proxy = Proxy::before(&server.host(), "pool.pool_mode = 'session'\npool.size = 1");
    let mut waiters = Vec::new();
    for name in ["one", "two", "three"] {
        let mut waiter = proxy.connect();
        let login = [("user", USER), ("database", "main"), ("application_name", name)];
        waiter.send(&startup(&login));
        waiters.push(waiter);
    }

    for waiter in &mut waiters {
        let error = waiter.read_fatal();
        assert_eq!(error.code(), "28P01");
        assert!(error.detail().contains("host"), "{error:?}");
    }
    assert!(server.connections() <= 2, "{}", server.connections());
}

/// A server that keeps its empty schema for temporary objects can be told from a new one.
#[test]
fn a_session_gets_no_server_that_others_have_left_a_temporary_schema_on() {
    let postgres = Postgres::start();
    let proxy = Proxy::start(&postgres, "pool.size = 1\nusers.app_two.pool_mode = 'session'");
    let mut sharing = proxy.client();
    sharing.value("create temp table t (n int)");
    assert_ne!(sharing.value("select pg_my_temp_schema()"), "0");
    proxy.wait_for_pool("it is back", |pool| pool.servers.idle == 1);

    let mut own = proxy.client_with(&[("user", "app_two")]);

    assert_eq!(own.value("select pg_my_temp_schema()"), "0");
}

/// Nobody waits for a server whose client has given up its login.
#[test]
fn a_client_that_leaves_before_it_has_a_server_leaves_the_queue() {
    let postgres = Postgres::start();
    // No deadline of ours may end the wait before the test has looked.
    let patient = format!("{ONE}\npool.timeout = '120s'");
    let proxy = Proxy::start(&postgres, &patient);
    let holder = proxy.client();
    for leave in [drop, Client::vanish] {
        let mut waiter = proxy.connect();
        waiter.send(&startup(&[("user", USER), ("database", "main"), ("work_mem", "1MB")]));
        proxy.wait_for_waiting(1);

        leave(waiter);

        proxy.wait_for_waiting(0);
    }
    drop(holder);
    assert_eq!(proxy.client().value("select 1"), "1");
}

/// A client that makes its own login slow says nothing about the host: others get in, and it is told.
#[test]
fn a_server_that_begins_slowly_for_one_client_is_held_against_nobody_else() {
    let postgres = Postgres::start();
    for mode in ["session", "transaction"] {
        let changes = format!("pool.pool_mode = '{mode}'\npool.connect_timeout = '2s'");
        let proxy = Proxy::start(&postgres, &changes);
        let slow = [("options", "-c post_auth_delay=30")];

        let error = proxy.try_client_with(&slow).unwrap_err();

        assert_eq!(error.code(), "08001", "{error:?}");
        assert!(error.message().contains("takes too long to begin"), "{error:?}");
        assert_eq!(proxy.pool().stats.retries.value(), 0);
        assert_eq!(proxy.client().value("select 1"), "1");
    }
}

/// Nor does it take the turns of others, however many of the kind are being opened.
#[test]
fn servers_that_are_asked_to_begin_slowly_hold_up_nobody_elses() {
    let is_slow = |startup: &[u8]| startup.windows(15).any(|part| part == b"post_auth_delay");
    let server = FakeServer::start(move |peer| {
        if is_slow(&peer.startup) {
            peer.send(b'R', &[0; 4]);
            peer.read();
            return;
        }
        peer.welcome();
        while peer.read_to(b'Q').is_some() {
            peer.complete("SELECT 0");
            peer.ready(b'I');
        }
    });
    for mode in ["session", "transaction"] {
        let limits = "pool.size = 3\npool.connects_per_host = 1\npool.connect_timeout = '60s'";
        let proxy = Proxy::before(&server.host(), &format!("pool.pool_mode = '{mode}'\n{limits}"));
        let seen = server.connections();
        let slow: Vec<_> = ["1", "2"]
            .map(|seconds| {
                let mut client = proxy.connect();
                let options = format!("-c post_auth_delay={seconds}");
                let parameters = [("user", USER), ("database", "main"), ("options", &options)];
                client.send(&startup(&parameters));
                client
            })
            .into_iter()
            .collect();
        proxy.wait_for_waiting(2);
        wait_until("one of them is being opened", || server.connections() == seen + 1);

        assert_eq!(proxy.client().ask("select 1").errors(), []);

        assert_eq!(server.connections(), seen + 2);
        drop(slow);
    }
}

/// PostgreSQL closes such a connection without a word.
#[test]
fn startup_parameters_that_are_too_long_together_are_refused_at_once() {
    let postgres = Postgres::start();
    let changes =
        format!("{SESSION}\ndomains.main.server_options = {{ 'my.own' = '{}' }}", "x".repeat(500));
    let proxy = Proxy::start(&postgres, &changes);
    let long = "y".repeat(9700);

    let error = proxy.try_client_with(&[("my.other", &long)]).unwrap_err();

    assert_eq!(error.code(), "54000", "{error:?}");
    let mut fits = proxy.client_with(&[("my.other", &long[..9000])]);
    assert_eq!(fits.value("show my.other"), &long[..9000]);
    assert_eq!(proxy.pool().servers.total(), 1);
}

/// P34: a server that is full for the moment is waited for.
#[test]
fn a_full_server_is_waited_for() {
    let server = FakeServer::start(|peer| {
        if peer.number < 2 {
            return peer.error("FATAL", "53300", "sorry, too many clients already");
        }
        peer.welcome();
        peer.read();
    });
    let proxy = Proxy::before(&server.host(), SESSION);

    let _client = proxy.client_with(&[("application_name", "one")]);

    assert_eq!(server.connections(), 3);
}

/// P36: under a cap, one that waits for a server of its own is not passed by for ever by those who
/// share theirs.
#[test]
fn under_a_cap_who_waits_for_a_server_of_its_own_has_its_turn() {
    let postgres = Postgres::start();
    let changes = "pool.size = 5\npool.timeout = '5s'\ndomains.main.max_connections = 2\n\
                   [users.app_two]\npool_mode = 'session'";
    let proxy = Proxy::start(&postgres, changes);
    let over = std::sync::atomic::AtomicBool::new(false);
    let is_over = || over.load(std::sync::atomic::Ordering::Relaxed);
    std::thread::scope(|scope| {
        for _ in 0..6 {
            scope.spawn(|| {
                let mut client = proxy.client();
                while !is_over() {
                    client.value("select pg_sleep(0.01)");
                }
            });
        }
        proxy.wait_for_pool("they queue", |pool| pool.clients_waiting > 2);
        let outcome = proxy.try_client_with(&[("user", "app_two"), ("application_name", "own")]);

        over.store(true, std::sync::atomic::Ordering::Relaxed);
        outcome.unwrap();
    });
}
