//! Lending servers: who gets one, when, and what becomes of it.

use std::time::Duration;

use tokio::time::Instant;

use crate::support::fake_server::FakeServer;
use crate::support::messages::{extended, query, startup};
use crate::support::postgres::Postgres;
use crate::support::proxy::Proxy;
use crate::support::raw_client::Client;
use crate::support::wait::wait_until;

const ONE: &str = "pool.size = 1\n";

/// A client that holds a server in an open block.
fn holder(proxy: &Proxy) -> Client {
    let mut client = proxy.client();
    assert_eq!(client.ask("begin; select 1").status(), Some('T'));
    client
}

#[test]
fn servers_are_shared_and_never_more_than_size_and_overflow() {
    let postgres = Postgres::start();
    let proxy = Proxy::start(&postgres, "pool.size = 2\npool.max_overflow = 1");
    let mut clients: Vec<_> = (0..12).map(|_| proxy.client()).collect();

    for client in &mut clients {
        client.send(&query("select pg_sleep(0.05), pg_backend_pid()"));
    }
    wait_until("three servers are at work", || proxy.pool().servers.active == 3);
    assert_eq!(postgres.connections(), 3);
    for client in &mut clients {
        assert_eq!(client.read_ready(1).tags(), "TDCZI");
    }

    assert_eq!(proxy.pool().servers.total(), 3);
}

/// P36: strict order of arrival, however many wait.
#[test]
fn a_hundred_waiters_are_served_in_the_order_of_their_arrival() {
    let postgres = Postgres::start();
    let proxy = Proxy::start(&postgres, ONE);
    postgres.client().value("create table arrivals (at serial, who int)");
    postgres.client().value("grant all on arrivals, arrivals_at_seq to app");
    let mut holder = holder(&proxy);
    let mut waiters: Vec<_> = (0..100).map(|_| proxy.client()).collect();

    for (number, client) in waiters.iter_mut().enumerate() {
        client.send(&query(&format!("insert into arrivals (who) values ({number})")));
        proxy.wait_for_waiting(number + 1);
    }
    holder.ask("commit");
    for client in &mut waiters {
        assert_eq!(client.read_ready(1).tags(), "CZI");
    }

    let served = holder.value("select who from arrivals order by at");
    let expected: Vec<_> = (0..100).map(|number: u32| number.to_string()).collect();
    assert_eq!(served, expected.join(" "));
}

#[test]
fn a_waiter_that_goes_away_leaves_the_queue_to_those_behind() {
    let postgres = Postgres::start();
    let proxy = Proxy::start(&postgres, ONE);
    let mut holder = holder(&proxy);
    let (mut gone, mut stays) = (proxy.client(), proxy.client());
    gone.send(&query("select 'gone'"));
    proxy.wait_for_waiting(1);
    stays.send(&query("select 'stays'"));
    proxy.wait_for_waiting(2);

    gone.vanish();
    proxy.wait_for_waiting(1);
    holder.ask("commit");

    assert_eq!(stays.read_ready(1).values(), "stays");
    assert_eq!(proxy.pool().traffic.queries.value(), 4);
}

/// P84, P85: an error that says why, with numbers and with what to do, and the session goes on.
#[test]
fn a_wait_that_is_too_long_is_an_error_with_its_reason() {
    let postgres = Postgres::start();
    let proxy = Proxy::start(&postgres, "pool.size = 1\npool.timeout = '200ms'");
    let mut holder = holder(&proxy);
    let mut waiter = proxy.client();

    let begun = Instant::now();
    let reply = waiter.ask("select 1");

    let took = begun.elapsed();
    assert!(took >= Duration::from_millis(200) && took < Duration::from_secs(2), "{took:?}");
    assert_eq!(reply.tags(), "EZI");
    let error = reply.error();
    assert_eq!((error.severity(), error.code()), ("ERROR", "53300"));
    assert_eq!(
        error.message(),
        "query_wait_timeout: no server of domain \"main\" (read_write) became free within 200ms"
    );
    for number in ["size 1", "max_overflow 0", "in use 1", "waiting 1", "longest loan"] {
        assert!(error.detail().contains(number), "{error:?} lacks {number:?}");
    }
    assert!(error.hint().contains("pool.size"), "{error:?}");
    holder.ask("commit");
    assert_eq!(waiter.value("select 1"), "1");
}

/// What one role has reached is no trouble of the host: others log in there at once.
#[test]
fn a_role_at_its_connection_limit_holds_up_nobody_else_on_its_host() {
    let postgres = Postgres::start();
    postgres.client().ask("alter role app connection limit 0");
    let host = postgres.host();
    let changes = format!(
        "pool = {{ size = 10, timeout = '60s', connects_per_host = 1 }}\n\
         [domains.second]\ndatabase = 'other_db'\nhosts = ['{host}']\nuser = 'app_two'"
    );
    let proxy = Proxy::start(&postgres, &changes);
    let mut waiters: Vec<_> = (0..10).map(|_| proxy.connect()).collect();
    for waiter in &mut waiters {
        waiter.send(&startup(&[("user", "app"), ("database", "main")]));
    }
    wait_until("they are refused again and again", || {
        proxy.observe().pools().iter().any(|pool| pool.stats.connects_failed.value() >= 4)
    });

    let domains = proxy.observe().domains();

    let usable = |name: &str| {
        domains.iter().find(|domain| &*domain.config.name == name).unwrap().usable.clone()
    };
    assert!(usable("main").unwrap_err().contains("too many connections for role"), "{domains:?}");
    assert_eq!(usable("second"), Ok(()));
    assert_eq!(proxy.client_with(&[("database", "second")]).value("select 1"), "1");
    let pools = proxy.observe().pools();
    let second = pools.iter().find(|pool| &*pool.domain == "second").unwrap();
    assert_eq!((second.stats.connects_failed.value(), second.stats.retries.value()), (0, 0));
}

/// A refusal is over when clients have their servers, be it those that were there before.
#[test]
fn a_domain_whose_servers_are_lent_is_usable_though_one_more_was_refused() {
    let postgres = Postgres::start();
    postgres.client().ask("alter role app connection limit 1");
    let proxy = Proxy::start(&postgres, "pool = { size = 2, timeout = '300ms' }");
    let (mut one, mut two) = (proxy.client(), proxy.client());
    one.ask("begin; select 1");

    assert_eq!(two.ask("select 1").code(), "53300");

    assert!(proxy.observe().domains()[0].usable.is_err());
    one.ask("commit");
    wait_until("the server is idle", || proxy.observe().domains()[0].usable.is_ok());
    two.ask("begin; select 1");
    assert_eq!(proxy.observe().domains()[0].usable, Ok(()));
}

/// P85: no server because the host is not there is another error than a full pool.
#[test]
fn a_host_that_cannot_be_reached_is_not_reported_as_a_full_pool() {
    let proxy = Proxy::before("127.0.0.1:1", "pool.timeout = '400ms'");

    let error = proxy.try_client_with(&[]).unwrap_err();

    assert_eq!((error.severity(), error.code()), ("FATAL", "08001"));
    assert!(error.message().contains("no primary of domain \"main\""), "{error:?}");
    assert!(error.detail().contains("127.0.0.1:1"), "{error:?}");
}

#[test]
fn a_queue_that_is_full_refuses_one_more() {
    let postgres = Postgres::start();
    let proxy = Proxy::start(&postgres, "pool.size = 1\npool.max_waiting = 1");
    let mut holder = holder(&proxy);
    let (mut first, mut second) = (proxy.client(), proxy.client());
    first.send(&query("select 'first'"));
    proxy.wait_for_waiting(1);

    let refused = second.ask("select 'second'");

    assert_eq!(refused.code(), "53300");
    assert!(refused.error().message().contains("max_waiting"), "{refused:?}");
    holder.ask("commit");
    assert_eq!(first.read_ready(1).values(), "first");
    assert_eq!(second.value("select 'second'"), "second");
}

#[test]
fn servers_beyond_size_are_closed_when_they_have_been_idle_for_overflow_linger() {
    let postgres = Postgres::start();
    let config = "pool.size = 1\npool.max_overflow = 2\npool.overflow_linger = '100ms'";
    let proxy = Proxy::start(&postgres, config);
    let mut holders = [holder(&proxy), holder(&proxy), holder(&proxy)];
    assert_eq!(postgres.connections(), 3);

    for holder in &mut holders {
        holder.ask("commit");
    }

    proxy.wait_for_pool("one server is left", |pool| pool.servers.total() == 1);
    wait_until("PostgreSQL sees it", || postgres.connections() == 1);
}

#[test]
fn min_servers_are_there_before_a_client_is() {
    let postgres = Postgres::start();
    let proxy = Proxy::start(&postgres, "pool.size = 4\npool.min = 3");

    proxy.wait_for_pool("three are idle", |pool| pool.servers.idle == 3);

    assert_eq!(postgres.connections(), 3);
}

#[test]
fn min_servers_that_die_are_replaced() {
    let postgres = Postgres::start();
    let proxy = Proxy::start(&postgres, "pool.min = 1");
    proxy.wait_for_pool("one is idle", |pool| pool.servers.idle == 1);
    let before = proxy.observe().servers()[0].remote_pid;

    postgres.client().value(&format!("select pg_terminate_backend({before})"));

    wait_until("another is idle", || {
        let servers = proxy.observe().servers();
        servers.len() == 1 && servers[0].remote_pid != before
    });
}

#[test]
fn a_server_idle_for_idle_timeout_is_closed_down_to_min() {
    let postgres = Postgres::start();
    let config = "pool.size = 3\npool.min = 1\npool.idle_timeout = '100ms'";
    let proxy = Proxy::start(&postgres, config);
    let mut holders = [holder(&proxy), holder(&proxy), holder(&proxy)];
    for holder in &mut holders {
        holder.ask("commit");
    }

    proxy.wait_for_pool("one is left", |pool| pool.servers.total() == 1);
}

#[test]
fn a_server_older_than_recycle_is_replaced() {
    let postgres = Postgres::start();
    let proxy = Proxy::start(&postgres, "pool.size = 1\npool.recycle = '300ms'");
    let mut client = proxy.client();
    let first = client.pid();

    wait_until("another one answers", || client.pid() != first);

    assert_eq!(postgres.connections(), 1);
}

/// P33: the next client notices nothing, and all that died are gone.
#[test]
fn servers_that_died_idle_are_replaced_unseen() {
    let postgres = Postgres::start();
    let proxy = Proxy::start(&postgres, "pool.size = 3");
    let mut holders = [holder(&proxy), holder(&proxy), holder(&proxy)];
    for holder in &mut holders {
        holder.ask("commit");
    }
    postgres
        .client()
        .value("select pg_terminate_backend(pid) from pg_stat_activity where usename = 'app'");
    wait_until("they are gone", || postgres.connections() == 0);
    // A backend leaves the view a moment before its socket is closed. Nobody hears of it.
    for holder in &mut holders {
        holder.assert_silent();
    }

    for holder in &mut holders {
        assert_eq!(holder.value("select 1"), "1");
    }
}

/// A server that neither closes nor answers is found out before it is lent.
#[test]
fn pre_ping_replaces_a_server_that_no_longer_answers() {
    use crate::support::fake_server::FakeServer;
    let server = FakeServer::start(|peer| {
        peer.welcome();
        let mut is_dumb = false;
        while let Some(message) = peer.read_to(b'Q').filter(|_| !is_dumb) {
            if message.body == b"\0" {
                peer.send(b'I', b"");
            } else {
                peer.row(&peer.number.to_string());
                peer.complete("SELECT 1");
                // The first connection says nothing after its first statement.
                is_dumb = peer.number == 0;
            }
            peer.ready(b'I');
        }
        peer.read();
    });
    let config = "pool.size = 1\npool.pre_ping_idle = '0s'\npool.connect_timeout = '300ms'";
    let proxy = Proxy::before(&server.host(), config);
    let mut client = proxy.client();
    assert_eq!(client.value("select 1"), "0");

    // The cancel of the unanswered proof is a connection as well, and has a number.
    assert_ne!(client.value("select 1"), "0");
}

/// Many servers that say nothing any more are not tried one after the other for as long as that takes.
#[test]
fn proofs_that_come_to_nothing_are_waited_for_no_longer_than_any_server() {
    use crate::support::fake_server::FakeServer;
    let server = FakeServer::start(|peer| {
        peer.welcome();
        let mut is_dumb = false;
        while let Some(message) = peer.read_to(b'Q').filter(|_| !is_dumb) {
            is_dumb = message.body != b"\0";
            if is_dumb {
                peer.row("1");
                peer.complete("SELECT 1");
            } else {
                peer.send(b'I', b"");
            }
            peer.ready(b'I');
        }
        while peer.read().is_some() {}
    });
    let config = "pool.size = 1\npool.pre_ping_idle = '0s'\npool.connect_timeout = '60s'\npool.timeout = '300ms'";
    let proxy = Proxy::before(&server.host(), config);
    let mut client = proxy.client();
    assert_eq!(client.value("select 1"), "1");

    let reply = client.ask("select 1");

    assert_eq!((reply.tags().as_str(), reply.code().as_str()), ("EZI", "08001"));
}

const TWO_POOLS: &str = "\
    pool.size = 2\n\
    [domains.second]\n\
    database = 'other_db'\n\
    user = 'app_two'\n";

fn two_pools(postgres: &Postgres, more: &str) -> Proxy {
    let host = postgres.host();
    Proxy::start(postgres, &format!("{TWO_POOLS}hosts = ['{host}']\n{more}"))
}

fn second(proxy: &Proxy) -> Client {
    proxy.client_with(&[("database", "second")])
}

/// P36: a cap over a host holds for all its pools, and an idle server makes way.
#[test]
fn under_a_cap_of_the_host_an_idle_server_makes_way_for_another_pool() {
    let postgres = Postgres::start();
    let cap = format!("[hosts.'{}']\nmax_connections = 1", postgres.host());
    let proxy = two_pools(&postgres, &cap);
    let mut first = proxy.client();
    let mut other = second(&proxy);

    for _ in 0..3 {
        assert_eq!(first.value("select current_user"), "app");
        assert_eq!(other.value("select current_user"), "app_two");
        assert_eq!(postgres.connections(), 1);
    }
}

#[test]
fn under_a_cap_a_pool_that_is_at_work_makes_way_for_an_older_waiter() {
    let postgres = Postgres::start();
    let cap = format!("[hosts.'{}']\nmax_connections = 1", postgres.host());
    let proxy = two_pools(&postgres, &cap);
    let mut other = second(&proxy);
    let mut busy = holder(&proxy);

    other.send(&query("select 'served'"));
    wait_until("it waits", || proxy.observe().pools().iter().any(|pool| pool.clients_waiting == 1));
    busy.ask("commit");

    assert_eq!(other.read_ready(1).values(), "served");
}

/// P35: what `min` lacks under a full cap is no reason to take a server from others, however long it
/// has been idle.
#[test]
fn min_takes_no_place_from_others_under_a_full_cap() {
    let postgres = Postgres::start();
    let cap = format!("pool.min = 1\n[hosts.'{}']\nmax_connections = 1", postgres.host());
    let proxy = two_pools(&postgres, &cap);
    let min = "select pid from pg_stat_activity where usename = 'app_two'";
    let mut direct = postgres.client();
    wait_until("min is there", || !direct.ask(min).values().is_empty());
    // The server that `min` wants goes, and its place goes to the client that waits for one.
    let mut first = proxy.connect();
    first.send(&startup(&[("user", "app"), ("database", "main")]));
    proxy.wait_for_waiting(1);
    direct
        .value("select pg_terminate_backend(pid) from pg_stat_activity where usename = 'app_two'");
    first.finish_login().unwrap();
    let pid = first.pid();

    // Longer than two rounds of maintenance, at which `min` asks for a place.
    direct.ask("select pg_sleep(1.2)");

    assert_eq!(first.pid(), pid);
    // And a client of that pool is no worse off for it.
    assert_eq!(second(&proxy).value("select current_user"), "app_two");
}

#[test]
fn a_cap_of_the_domain_holds_over_its_users() {
    let postgres = Postgres::start();
    let host = postgres.host();
    let config =
        format!("[domains.own]\nhosts = ['{host}']\ndatabase = 'other_db'\nmax_connections = 2\n");
    let proxy = Proxy::start(&postgres, &config);
    let user = |user: &str| proxy.client_with(&[("database", "own"), ("user", user)]);
    let mut clients = [user("app"), user("app_two"), user("app"), user("app_two")];

    for client in &mut clients {
        client.send(&query("select pg_sleep(0.1)"));
    }
    wait_until("two are at work", || {
        let pools = proxy.observe().pools();
        pools.iter().map(|pool| pool.servers.active).sum::<usize>() == 2
    });
    assert_eq!(postgres.connections(), 2);
    for client in &mut clients {
        assert_eq!(client.read_ready(1).tags(), "TDCZI");
        assert!(postgres.connections() <= 2);
    }
}

#[test]
fn a_cap_of_a_user_holds_over_domains() {
    let postgres = Postgres::start();
    let more = "[domains.second.pool]\nsize = 1\n[users.app]\nmax_connections = 1";
    let host = postgres.host();
    let config = format!(
        "[domains.second]\nhosts = ['{host}']\ndatabase = 'other_db'\nuser = 'app'\n{more}"
    );
    let proxy = Proxy::start(&postgres, &config);
    let mut first = holder(&proxy);
    let mut waiter = proxy.connect();
    waiter.send(&startup(&[("user", "app"), ("database", "second")]));
    wait_until("it waits", || {
        proxy
            .observe()
            .pools()
            .iter()
            .any(|pool| pool.clients_waiting == 1 || pool.servers.login == 1)
    });
    assert_eq!(postgres.connections(), 1);

    first.ask("commit");

    waiter.finish_login().unwrap();
    assert_eq!(waiter.value("select current_database()"), "other_db");
    assert_eq!(postgres.connections(), 1);
}

/// P29, P70, pgbouncer.md row 13: what a client left open is gone, and the next one sees nothing of it.
#[test]
fn a_client_that_vanishes_in_a_block_leaves_nothing_behind() {
    let postgres = Postgres::start();
    let proxy = Proxy::start(&postgres, ONE);
    let mut gone = proxy.client();
    gone.ask("begin; select 1");
    gone.ask("create table left_behind ()");

    gone.vanish();

    let mut next = proxy.client();
    assert_eq!(next.value("select to_regclass('left_behind') is null"), "t");
    wait_until("one connection is left", || postgres.connections() == 1);
}

/// psycopg2 begins a block with the first statement: who closes its connection without a commit would have a server
/// opened for each.
#[test]
fn a_block_that_is_left_open_is_rolled_back_and_its_server_kept() {
    let postgres = Postgres::start();
    for mode in ["transaction", "session"] {
        let proxy = Proxy::start(&postgres, &format!("{ONE}pool.pool_mode = '{mode}'"));
        assert_rolled_back(&proxy, mode);
    }
}

fn assert_rolled_back(proxy: &Proxy, mode: &str) {
    let server = proxy.client().pid();
    let left = [
        "create table left_behind ()",
        "set work_mem = '1MB'",
        "listen something",
        "prepare s as select 1",
        "select pg_advisory_lock(1)",
        "declare c cursor with hold for select 1",
        "create temporary table t ()",
    ];
    for end in ["savepoint a", "no statement at all"] {
        let said = format!("{mode}, {end}");
        let mut gone = proxy.client();
        gone.ask("begin; select 1");
        for text in left {
            assert_eq!(gone.ask(text).errors(), [], "{text}");
        }
        gone.prepare("mine", "select 'mine'");
        gone.ask(end);

        gone.vanish();

        let mut next = proxy.client();
        assert_eq!(next.pid(), server, "{said}");
        let is_left = "select to_regclass('left_behind') is null and to_regclass('t') is null \
                       and current_setting('work_mem') = '4MB' \
                       and not exists (select from pg_listening_channels()) \
                       and not exists (select from pg_prepared_statements) \
                       and not exists (select from pg_cursors) \
                       and not exists (select from pg_locks where locktype = 'advisory')";
        assert_eq!(next.value(is_left), "t", "{said}");
        assert_eq!(next.ask("select 1").status(), Some('I'), "{said}");
    }
}

/// One that says of its block what it said before, or that it did not roll back, is no server for anybody.
#[test]
fn a_server_that_does_not_roll_back_is_closed() {
    for refuses in [true, false] {
        let server = FakeServer::start(move |peer| {
            peer.welcome();
            while let Some(message) = peer.read_to(b'Q') {
                if message.texts()[0] != "ROLLBACK" {
                    peer.complete("BEGIN");
                } else if refuses {
                    peer.error("ERROR", "XX000", "it will not");
                } else {
                    peer.complete("ROLLBACK");
                }
                peer.ready(b'T');
            }
        });
        let proxy = Proxy::before(&server.host(), ONE);

        proxy.client().ask("begin; select 1");

        assert_eq!(proxy.client().ask("begin; select 1").status(), Some('T'), "refuses: {refuses}");
        assert_eq!(server.connections(), 2, "refuses: {refuses}");
    }
}

#[test]
fn a_client_that_vanishes_in_the_middle_of_a_result_leaves_nothing_behind() {
    let postgres = Postgres::start();
    let proxy = Proxy::start(&postgres, ONE);
    let mut gone = proxy.client();
    gone.send(&query("select repeat('x', 1000) from generate_series(1, 1000000)"));
    assert_eq!(gone.read().tag, b'T');

    gone.vanish();

    assert_eq!(proxy.client().ask("select 'mine'").tags(), "TDCZI");
    proxy.wait_for_pool("one server", |pool| pool.servers.total() == 1);
}

/// A session that comes back gets the server it had, if that is idle.
#[test]
fn a_session_prefers_the_server_that_it_had_last() {
    let postgres = Postgres::start();
    let proxy = Proxy::start(&postgres, "runtime.workers = 1\npool.size = 2");
    let (mut one, mut two) = (proxy.client(), proxy.client());
    one.ask("begin; select 1");
    let servers = [one.pid(), two.pid()];
    one.ask("commit");
    assert_ne!(servers[0], servers[1]);

    for _ in 0..5 {
        assert_eq!([one.pid(), two.pid()], servers);
    }
}

/// The same for who waits with a pipeline: an error for each of its segments, and the session goes on.
#[test]
fn a_pipeline_that_waits_for_too_long_is_refused_segment_by_segment() {
    let postgres = Postgres::start();
    let proxy = Proxy::start(&postgres, "pool.size = 1\npool.timeout = '200ms'");
    let mut holder = holder(&proxy);
    let mut waiter = proxy.client();

    waiter.send(&[extended("select 1", &[]), extended("select 2", &[])].concat());
    let reply = waiter.read_ready(2);

    assert_eq!(reply.tags(), "EZIEZI");
    assert!(reply.errors().iter().all(|error| error.code() == "53300"), "{reply:?}");
    holder.ask("commit");
    assert_eq!(waiter.exchange(&extended("select 'next'", &[])).values(), "next");
}
