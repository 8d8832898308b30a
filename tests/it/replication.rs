//! Replication connections: a server of one's own, whatever the pool mode (P59, P77).

use crate::support::messages::{message, query, startup};
use crate::support::postgres::{DATABASE, Postgres, USER};
use crate::support::proxy::Proxy;
use crate::support::raw_client::Client;
use crate::support::reply::Fields;
use crate::support::wait::wait_until;

const ONE: &str = "pool.size = 1";

fn logical(proxy: &Proxy) -> Client {
    proxy.client_with(&[("replication", "database")])
}

fn physical(proxy: &Proxy) -> Result<Client, Fields> {
    proxy.try_client_with(&[("replication", "true"), ("database", "replication")])
}

/// Where the log ends, as a replication connection says it.
fn end_of_log(client: &mut Client) -> String {
    client.ask("IDENTIFY_SYSTEM").rows()[0][2].clone()
}

/// Begins to stream, and reads up to the first message of the stream.
fn stream(client: &mut Client) {
    let at = end_of_log(client);
    client.send(&query(&format!("START_REPLICATION PHYSICAL {at}")));
    assert_eq!(client.read().tag, b'W');
}

/// A standby's word on how far it has come, with the wish for an answer.
fn status_update() -> Vec<u8> {
    let mut body = vec![b'r'];
    body.extend_from_slice(&[0; 32]);
    body.push(1);
    message(b'd', &body)
}

/// The kinds of what the console lists as replication connections.
fn kinds(proxy: &Proxy) -> (Vec<&'static str>, Vec<&'static str>) {
    let clients = proxy.observe().clients().iter().filter_map(|c| c.replication).collect();
    let servers = proxy.observe().servers().iter().filter_map(|s| s.replication).collect();
    (clients, servers)
}

/// P59: nobody else gets the server, and it is gone with its client.
#[test]
fn a_replication_connection_has_a_server_that_nobody_gets_after_it() {
    let postgres = Postgres::start_replicated();
    let proxy = Proxy::start(&postgres, "pool.size = 3");
    let mut client = logical(&proxy);
    let pid = client.pid();
    assert_eq!(client.key.0.to_string(), pid);
    assert_eq!(client.value("select current_database()"), DATABASE);
    let kind = "select backend_type from pg_stat_activity where pid = pg_backend_pid()";
    assert_eq!(client.value(kind), "walsender");
    assert_eq!(kinds(&proxy), (vec!["logical"], vec!["logical"]));

    assert_ne!(logical(&proxy).pid(), pid);
    assert_ne!(proxy.client().pid(), pid);
    drop(client);

    proxy.wait_for_pool("only the plain one is left", |pool| {
        pool.servers.total() == 1 && pool.servers.idle == 1
    });
    wait_until("no client is left", || proxy.observe().process().clients_connected == 0);
}

/// P59: it takes a place in the pool like every other.
#[test]
fn a_replication_connection_counts_in_the_pool() {
    let postgres = Postgres::start_replicated();
    let proxy = Proxy::start(&postgres, "pool.size = 1\npool.timeout = '500ms'");
    let mut client = proxy.client();
    client.value("select 1");
    proxy.wait_for_pool("it is idle", |pool| pool.servers.idle == 1);

    // The idle one makes room.
    let mut replicating = logical(&proxy);

    assert_eq!(proxy.pool().servers.total(), 1);
    assert_eq!(client.ask("select 1").code(), "53300");
    let full = proxy.try_client_with(&[("replication", "database")]).unwrap_err();
    assert_eq!((full.severity(), full.code()), ("FATAL", "53300"));
    assert!(full.message().starts_with("query_wait_timeout"), "{full:?}");
    assert_eq!(replicating.value("select 1"), "1");
    drop(replicating);
    assert_eq!(client.value("select 1"), "1");
}

/// A cap over all pools holds for it as well, and an idle server of the same pool makes room.
#[test]
fn a_replication_connection_counts_in_the_caps() {
    let postgres = Postgres::start_replicated();
    let proxy = Proxy::start(
        &postgres,
        "pool.size = 3\npool.min = 1\npool.timeout = '5s'\ndomains.main.max_connections = 1",
    );
    proxy.client().value("select 1");

    let mut client = logical(&proxy);

    assert_eq!(client.value("select 1"), "1");
    assert_eq!(proxy.pool().servers.total() - proxy.pool().servers.login, 1);
}

/// So do the caps over a host and over a user: there is room for one, and it goes to who comes first.
#[test]
fn a_replication_connection_counts_in_the_caps_of_hosts_and_users() {
    let postgres = Postgres::start_replicated();
    let host = postgres.host();
    for cap in [
        format!("[hosts.'{host}']\nmax_connections = 1"),
        format!("[users.{USER}]\nmax_connections = 1"),
    ] {
        let config = format!("pool.size = 3\npool.timeout = '500ms'\n{cap}");
        let proxy = Proxy::start(&postgres, &config);
        let mut client = proxy.client();
        client.value("select 1");
        // An idle server makes room.
        let replicating = logical(&proxy);

        let refused = client.ask("select 1");
        assert_eq!(refused.code(), "53300", "{cap}: {refused:?}");

        drop(replicating);
        assert_eq!(client.value("select 1"), "1", "{cap}");
        // One at work does not.
        client.ask("begin; select 1");
        let error = physical(&proxy).map(drop).unwrap_err();
        assert_eq!((error.severity(), error.code()), ("FATAL", "53300"), "{cap}: {error:?}");
        client.ask("commit");
        assert_eq!(logical(&proxy).value("select 1"), "1", "{cap}");
    }
}

/// It is a client among clients.
#[test]
fn a_replication_connection_counts_among_the_clients() {
    let postgres = Postgres::start_replicated();
    for limit in ["listen.max_clients = 1".to_owned(), format!("[users.{USER}]\nmax_clients = 1")] {
        let proxy = Proxy::start(&postgres, &limit);
        let replicating = logical(&proxy);

        let error = proxy.try_client_with(&[]).map(drop).unwrap_err();
        assert_eq!((error.severity(), error.code()), ("FATAL", "53300"), "{limit}");
        assert_eq!(physical(&proxy).map(drop).unwrap_err().code(), "53300", "{limit}");

        drop(replicating);
        wait_until("there is room again", || proxy.try_client_with(&[]).is_ok());
    }
}

/// Both sides talk at once, and either may end it.
#[test]
fn a_stream_flows_both_ways_at_once() {
    let postgres = Postgres::start_replicated();
    let proxy = Proxy::start(&postgres, ONE);
    let mut client = physical(&proxy).unwrap();
    assert_eq!(kinds(&proxy), (vec!["physical"], vec!["physical"]));
    stream(&mut client);
    let mut observer = postgres.client();
    observer.value("create table grows (text text)");

    for _ in 0..50 {
        client.send(&status_update());
        observer.value("insert into grows values (repeat('x', 1000)) returning 1");
    }
    // Each wish for an answer gets a keepalive, among the log's own messages.
    let (mut keepalives, mut log) = (0, 0);
    while keepalives < 50 || log < 50_000 {
        let message = client.read();
        assert_eq!(message.tag, b'd', "{message:?}");
        match message.body[0] {
            b'k' => keepalives += 1,
            _ => log += message.body.len(),
        }
    }
    client.send(&message(b'c', b""));

    let end = client.read_ready(1);
    let done: String = end.tags().chars().filter(|tag| *tag != 'd').collect();
    assert_eq!(done, "cCCZI", "{end:?}");
    // And the connection goes on.
    assert!(end_of_log(&mut client).contains('/'));
}

/// A stream that is read by nobody holds up nothing but itself.
#[test]
fn a_stream_that_nobody_reads_leaves_others_alone() {
    let postgres = Postgres::start_replicated();
    let proxy = Proxy::start(&postgres, "pool.size = 2");
    let mut stuck = physical(&proxy).unwrap();
    stream(&mut stuck);
    let mut client = proxy.client();
    client.value("create table grows (text text)");

    for _ in 0..20 {
        client.ask("insert into grows select repeat('x', 1000) from generate_series(1, 1000)");
        stuck.send(&status_update());
    }

    assert_eq!(client.value("select count(*) from grows"), "20000");
    stuck.vanish();
    proxy.wait_for_pool("its server is gone", |pool| pool.servers.total() == 1);
}

/// PostgreSQL has time limits of its own for a stream; ours are for clients that share.
#[test]
fn no_time_limit_of_ours_ends_a_stream() {
    let postgres = Postgres::start_replicated();
    let proxy = Proxy::start(
        &postgres,
        "listen.client_idle_timeout = '100ms'\npool.query_timeout = '100ms'\n\
         pool.transaction_timeout = '100ms'\npool.idle_in_transaction_timeout = '100ms'\n\
         pool.statement_timeout = '100ms'",
    );
    let mut idle = logical(&proxy);
    idle.value("show server_version");
    idle.ask("begin");
    let mut client = physical(&proxy).unwrap();
    stream(&mut client);

    postgres.client().value("select pg_sleep(0.7)");

    client.send(&status_update());
    assert_eq!(client.read().tag, b'd');
    assert_eq!(idle.value("select 1"), "1");
    idle.value("select pg_sleep(0.3)");
}

/// Only the stream of a physical replication connection belongs to no database.
#[test]
fn a_physical_replication_connection_finds_its_domain() {
    let postgres = Postgres::start_replicated();
    let host = postgres.host();
    let more = format!("[domains.second]\ndatabase = 'other_db'\nhosts = ['{host}']\nuser = 'app'");
    let (one, two) = (Proxy::start(&postgres, ""), Proxy::start(&postgres, &more));
    let domain_of = |proxy: &Proxy, parameters: &[(&str, &str)]| {
        let mut all = vec![("replication", "on"), ("database", "replication")];
        all.retain(|(name, _)| !parameters.iter().any(|(other, _)| other == name));
        all.extend_from_slice(parameters);
        let client = proxy.try_client_with(&all)?;
        let domain = proxy.observe().clients()[0].domain.to_string();
        drop(client);
        wait_until("it is gone", || proxy.observe().clients().is_empty());
        Ok(domain)
    };
    let refused = |outcome: Result<String, Fields>| {
        let error = outcome.unwrap_err();
        assert_eq!((error.severity(), error.code()), ("FATAL", "3D000"));
        error.hint().to_owned()
    };

    assert_eq!(domain_of(&one, &[]).unwrap(), "main");
    assert_eq!(domain_of(&one, &[("database", "")]).unwrap(), "main");
    assert_eq!(domain_of(&two, &[("database", "other_db")]).unwrap(), "second");
    let option = [("options", "-c pgweir.domain=second")];
    assert_eq!(domain_of(&two, &option).unwrap(), "second");
    assert!(refused(domain_of(&two, &[])).contains("pgweir.domain"));
    refused(domain_of(&two, &[("options", "-c pgweir.domain=third")]));
    // A logical one belongs to a database, and names it.
    let logical = [("replication", "database"), ("database", "nowhere")];
    refused(domain_of(&one, &logical));
}

/// Settings of ours are for us: no server has heard of them.
#[test]
fn a_setting_of_ours_that_is_unknown_is_refused() {
    let postgres = Postgres::start();
    for mode in ["transaction", "session"] {
        let proxy = Proxy::start(&postgres, &format!("pool.pool_mode = '{mode}'"));
        for name in ["pgweir.no_such", "pgweir.domain"] {
            let options = format!("-c {name}=main");

            let error = proxy.try_client_with(&[("options", &options)]).unwrap_err();

            assert_eq!((error.severity(), error.code()), ("FATAL", "42704"));
            assert!(error.message().contains(name), "{error:?}");
        }
    }
}

/// PostgreSQL's rule for what a replication connection is, and its words.
#[test]
fn a_value_that_is_no_kind_of_replication_is_refused_as_postgresql_does() {
    let postgres = Postgres::start_replicated();
    let proxy = Proxy::start(&postgres, "");
    let login = [("user", USER), ("database", DATABASE), ("replication", "maybe")];
    let text = |error: Fields| {
        let fields = [error.severity(), error.code(), error.message(), error.hint()];
        fields.map(str::to_owned)
    };
    let expected = text(Client::try_log_in(&postgres.address(), &login).unwrap_err());

    assert_eq!(text(proxy.try_client_with(&login).unwrap_err()), expected);
    let kind = "select backend_type from pg_stat_activity where pid = pg_backend_pid()";
    for no in ["off", "0", "f"] {
        let mut client = proxy.client_with(&[("replication", no)]);
        assert_eq!(client.value(kind), "client backend");
    }
}

/// What PostgreSQL has against it is told to it at once, and to nobody else.
#[test]
fn a_role_that_may_not_replicate_is_refused_in_the_servers_words() {
    let postgres = Postgres::start_replicated();
    postgres.client().value("alter role app noreplication");
    let proxy = Proxy::start(&postgres, "");
    let login = [("user", USER), ("database", DATABASE), ("replication", "database")];
    let expected = Client::try_log_in(&postgres.address(), &login).unwrap_err();

    assert_eq!(proxy.try_client_with(&login).unwrap_err(), expected);
    assert_eq!(proxy.client().value("select 1"), "1");
}

/// P59: in a session pool, and with parameters of its own.
#[test]
fn startup_parameters_and_the_domains_options_reach_the_connection() {
    let postgres = Postgres::start_replicated();
    let changes = "pool.pool_mode = 'session'\npool.statement_timeout = '3s'\n\
                   domains.main.connect_query = 'set search_path = x'\n\
                   domains.main.server_options = { work_mem = '3MB' }";
    let proxy = Proxy::start(&postgres, changes);
    let mut client = proxy.client_with(&[
        ("replication", "database"),
        ("application_name", "a standby"),
        ("options", "-c datestyle=german"),
    ]);

    assert_eq!(client.value("show work_mem"), "3MB");
    assert_eq!(client.value("show datestyle"), "German, DMY");
    assert_eq!(client.value("show application_name"), "a standby");
    assert_eq!(client.value("show statement_timeout"), "0");
    assert_eq!(&*proxy.observe().clients()[0].application_name, "a standby");
}

/// P80: one at rest goes at once, one that streams when the time is over.
#[test]
fn a_drain_ends_replication_connections() {
    let postgres = Postgres::start_replicated();
    let mut proxy = Proxy::start(&postgres, "runtime.shutdown_timeout = '1s'");
    let (mut idle, mut client) = (logical(&proxy), physical(&proxy).unwrap());
    idle.value("select 1");
    stream(&mut client);

    let drained = proxy.shut_down();

    assert_eq!(idle.read_fatal().code(), "57P01");
    client.send(&status_update());
    assert_eq!(client.read_fatal().code(), "57P01");
    drained.join().unwrap();
}

/// P21: a cancel reaches the replication command that it was meant for.
#[test]
fn a_cancel_stops_what_a_replication_connection_does() {
    let postgres = Postgres::start_replicated();
    let proxy = Proxy::start(&postgres, "");
    let mut client = logical(&proxy);
    client.send(&query("select pg_sleep(60)"));
    wait_until("it sleeps", || {
        postgres
            .client()
            .value("select count(*) from pg_stat_activity where wait_event = 'PgSleep'")
            == "1"
    });

    client.cancel();

    assert_eq!(client.read_ready(1).code(), "57014");
}

/// One that waits for a place and goes leaves nothing behind.
#[test]
fn who_leaves_the_queue_for_a_replication_connection_leaves_it_to_the_others() {
    let postgres = Postgres::start_replicated();
    let proxy = Proxy::start(&postgres, ONE);
    let holder = logical(&proxy);
    let login = startup(&[("user", USER), ("database", "main"), ("replication", "database")]);
    let (mut gone, mut stays) = (proxy.connect(), proxy.connect());
    gone.send(&login);
    proxy.wait_for_waiting(1);
    stays.send(&login);
    proxy.wait_for_waiting(2);

    gone.vanish();
    drop(holder);

    stays.finish_login().unwrap();
    drop(stays);
    proxy.wait_for_pool("nothing is left", |pool| pool.servers.total() == 0);
}
