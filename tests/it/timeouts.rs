//! Time limits: the right one, in the right words, and what goes on afterwards.

use std::time::Duration;

use tokio::time::Instant;

use crate::support::messages::{
    bind, describe_portal, execute, extended, flush, parse, query, startup, sync,
};
use crate::support::postgres::{Postgres, USER};
use crate::support::proxy::Proxy;
use crate::support::raw_client::Client;
use crate::support::relay::Relay;
use crate::support::reply::Fields;
use crate::support::wait::wait_until;

const ONE: &str = "pool.size = 1\n";

fn with(key: &str, value: &str) -> String {
    format!("{ONE}{key} = '{value}'")
}

#[track_caller]
fn assert_error(error: &Fields, severity: &str, code: &str, setting: &str) {
    assert_eq!((error.severity(), error.code()), (severity, code), "{error:?}");
    assert!(error.message().contains(setting), "{error:?} does not name {setting}");
}

/// P60
#[test]
fn a_query_longer_than_query_timeout_is_cancelled_and_the_session_goes_on() {
    let postgres = Postgres::start();
    let proxy = Proxy::start(&postgres, &with("pool.query_timeout", "150ms"));
    let mut client = proxy.client();
    let begun = Instant::now();

    let reply = client.ask("select pg_sleep(60)");

    assert!(begun.elapsed() < Duration::from_secs(5));
    assert_error(&reply.error(), "ERROR", "57014", "query_timeout");
    assert_eq!(reply.status(), Some('I'));
    assert_eq!(client.value("select 1"), "1");
    assert_eq!(proxy.pool().servers.total(), 1);
}

/// P60: the limit is a query's, not a transaction's.
#[test]
fn query_timeout_begins_anew_with_each_query_of_a_block() {
    let postgres = Postgres::start();
    let proxy = Proxy::start(&postgres, &with("pool.query_timeout", "400ms"));
    let mut client = proxy.client();
    client.ask("begin");

    for _ in 0..4 {
        assert_eq!(client.ask("select pg_sleep(0.15)").errors(), []);
    }

    let reply = client.ask("select pg_sleep(60)");
    assert_error(&reply.error(), "ERROR", "57014", "query_timeout");
    assert_eq!(reply.status(), Some('E'));
    assert_eq!(client.ask("rollback").status(), Some('I'));
}

/// P60: what is sent ahead has not begun.
#[test]
fn limits_begin_anew_with_each_statement_of_a_pipeline() {
    const COUNT: usize = 12;
    let postgres = Postgres::start();
    let short = "select pg_sleep(0.1)";
    for key in ["pool.query_timeout", "pool.transaction_timeout"] {
        let proxy = Proxy::start(&postgres, &with(key, "800ms"));
        let mut client = proxy.client();
        for one in [query(short), extended(short, &[])] {
            client.send(&one.repeat(COUNT));

            assert_eq!(client.read_ready(COUNT).errors(), [], "{key}");
        }
        assert_eq!(proxy.pool().servers.total(), 1);

        client.send(&[query(short).repeat(2), query("select pg_sleep(60)")].concat());
        let reply = client.read_ready(3);
        let setting = key.trim_start_matches("pool.");
        assert!(reply.error().message().contains(setting), "{:?}", reply.errors());
        assert_eq!(client.ask(short).errors(), []);
    }
}

/// P60: each is one in the statistics as well.
#[test]
fn statements_and_transactions_of_a_pipeline_are_measured_one_by_one() {
    let postgres = Postgres::start();
    let proxy = Proxy::start(&postgres, ONE);
    let mut client = proxy.client();
    let counts = || {
        let traffic = proxy.pool().traffic;
        [&traffic.query_duration, &traffic.transaction_duration]
            .map(|histogram| histogram.values().0.iter().sum::<u64>())
    };
    let before = counts();

    let block = ["begin", "select 1", "commit"].map(query).concat();
    client.send(&[query("select 1"), extended("select 2", &[]), block].concat());
    client.read_ready(5);

    let after = counts();
    assert_eq!([after[0] - before[0], after[1] - before[1]], [5, 3]);
}

/// P60: what a client thinks about behind a Flush is no time of a statement's, and it hears nothing
/// that it has not asked for.
#[test]
fn query_timeout_does_not_run_while_a_client_has_all_its_answers() {
    let postgres = Postgres::start();
    for mode in ["transaction", "session"] {
        let relay = Relay::before(&postgres);
        let changes = format!("{}\npool.pool_mode = '{mode}'", with("pool.query_timeout", "900ms"));
        let proxy = Proxy::before(&relay.host(), &changes);
        let mut client = proxy.client();
        let run = [bind("", &[]), execute(), flush()].concat();
        client.send(&[parse("", "select pg_sleep(0.3)"), run.clone()].concat());
        client.read_to(b'C');

        assert!(client.read_within(Duration::from_millis(1200)).is_err(), "something came");
        // It is each run of the segment that has the time.
        for _ in 0..3 {
            client.send(&run);
            assert_eq!(client.read_to(b'C').errors(), []);
        }
        client.send(&sync());
        assert_eq!(client.read_ready(1).tags(), "ZI");
        assert_eq!(relay.cancels(), Vec::<Vec<u8>>::new());

        client.send(&[parse("", "select pg_sleep(60)"), run, sync()].concat());
        assert_error(&client.read_ready(1).error(), "ERROR", "57014", "query_timeout");
    }
}

/// P60: PostgreSQL keeps the answers in front of the error back until it comes.
#[test]
fn query_timeout_is_named_in_either_protocol() {
    let postgres = Postgres::start();
    let text = "select pg_sleep(60)";
    let described = [parse("", text), bind("", &[]), describe_portal(""), execute(), sync()];
    for mode in ["transaction", "session"] {
        let changes = format!("{}\npool.pool_mode = '{mode}'", with("pool.query_timeout", "150ms"));
        let proxy = Proxy::start(&postgres, &changes);
        let mut client = proxy.client();
        for bytes in [query(text), extended(text, &[]), described.concat()] {
            let reply = client.exchange(&bytes);

            assert_error(&reply.error(), "ERROR", "57014", "query_timeout");
        }
        assert_eq!(client.ask("select 1 / 0").code(), "22012");
        assert_eq!(client.value("select 1"), "1");
    }
}

/// P60
#[test]
fn a_transaction_longer_than_transaction_timeout_is_ended() {
    let postgres = Postgres::start();
    let proxy = Proxy::start(&postgres, &with("pool.transaction_timeout", "200ms"));
    let (mut client, mut other) = (proxy.client(), proxy.client());
    client.ask("begin");
    client.ask("create table undone ()");

    client.send(&query("select pg_sleep(60)"));
    let error = client.read_to(b'E').error();

    assert!(error.message().contains("transaction_timeout"), "{error:?}");
    assert_eq!(error.code(), "25P04");
    assert_eq!(other.value("select to_regclass('undone') is null"), "t");
}

#[test]
fn a_client_idle_in_a_transaction_for_too_long_is_closed() {
    let postgres = Postgres::start();
    let proxy = Proxy::start(&postgres, &with("pool.idle_in_transaction_timeout", "150ms"));
    let (mut client, mut other) = (proxy.client(), proxy.client());
    client.ask("begin");
    client.ask("create table undone ()");

    assert_error(&client.read_fatal(), "FATAL", "25P03", "idle_in_transaction_timeout");

    assert_eq!(other.value("select to_regclass('undone') is null"), "t");
}

/// P60: it is the idle time that counts.
#[test]
fn a_client_at_work_in_a_transaction_is_not_idle_in_it() {
    let postgres = Postgres::start();
    let proxy = Proxy::start(&postgres, &with("pool.idle_in_transaction_timeout", "300ms"));
    let mut client = proxy.client();
    client.ask("begin");

    assert_eq!(client.ask("select pg_sleep(0.6)").errors(), []);
    assert_eq!(client.ask("commit").status(), Some('I'));
}

#[test]
fn a_client_idle_for_client_idle_timeout_is_closed() {
    let postgres = Postgres::start();
    let proxy = Proxy::start(&postgres, &with("listen.client_idle_timeout", "200ms"));
    let mut client = proxy.client();
    // At work for longer than it may be idle.
    assert_eq!(client.ask("select pg_sleep(0.4)").errors(), []);

    assert_error(&client.read_fatal(), "FATAL", "57P05", "client_idle_timeout");
}

#[test]
fn a_users_own_limits_go_before_the_domains() {
    let postgres = Postgres::start();
    let config = "pool.query_timeout = '50ms'\n[users.app]\nquery_timeout = '0s'";
    let proxy = Proxy::start(&postgres, config);

    assert_eq!(proxy.client().ask("select pg_sleep(0.3)").errors(), []);
    let mut other = proxy.client_with(&[("user", "app_two")]);
    assert_eq!(other.ask("select pg_sleep(60)").code(), "57014");
}

/// A client that waits for long hears that it waits.
#[test]
fn a_waiter_gets_a_notice_after_wait_notice() {
    let postgres = Postgres::start();
    let proxy = Proxy::start(&postgres, &with("pool.wait_notice", "100ms"));
    let (mut holder, mut waiter) = (proxy.client(), proxy.client());
    holder.ask("begin; select 1");
    waiter.send(&query("select 'at last'"));

    let notice = waiter.read();
    assert_eq!(notice.tag, b'N');
    assert_eq!(notice.fields().severity(), "NOTICE");
    let told = notice.fields().detail().trim_start_matches("waiting for ").to_owned();
    assert!(told.ends_with("ms") && !told.contains("us"), "{told}");
    holder.ask("commit");

    let reply = waiter.read_ready(1);
    assert_eq!((reply.tags().as_str(), reply.values().as_str()), ("TDCZI", "at last"));
    assert_eq!(reply.notices(), []);
}

/// `login_timeout` is for clients who have yet to prove who they are.
#[test]
fn a_login_waits_for_a_server_as_long_as_timeout_says() {
    let limits = "listen.login_timeout = '100ms'\npool.timeout = '300ms'";
    let postgres = Postgres::start();
    let proxy = Proxy::start(&postgres, &format!("{ONE}pool.pool_mode = 'session'\n{limits}"));
    let _holder = proxy.client();

    let error = proxy.try_client_with(&[]).unwrap_err();

    assert_error(&error, "FATAL", "53300", "query_wait_timeout");
    assert!(error.message().contains("within 300ms"), "{error:?}");
    let nowhere = Proxy::before("127.0.0.1:1", limits);
    let error = nowhere.try_client_with(&[]).unwrap_err();
    assert_eq!((error.severity(), error.code()), ("FATAL", "08001"), "{error:?}");
}

/// Behind the end of its authentication, as drivers expect notices there and not before.
#[test]
fn a_login_that_waits_gets_a_notice_after_wait_notice() {
    let postgres = Postgres::start();
    let session = format!("{}\npool.pool_mode = 'session'", with("pool.wait_notice", "100ms"));
    let proxy = Proxy::start(&postgres, &session);
    let holder = proxy.client();
    let mut waiter = proxy.connect();
    waiter.send(&startup(&[("user", USER), ("database", "main")]));

    let (ok, notice) = (waiter.read(), waiter.read());
    drop(holder);

    assert_eq!((ok.tag, notice.tag), (b'R', b'N'));
    assert_eq!(notice.fields().severity(), "NOTICE");
    let rest = waiter.finish_login().unwrap();
    assert!(!rest.tags().contains(['R', 'N']), "{rest:?}");
    assert_eq!(waiter.value("select 1"), "1");
}

/// P61: a server that accepts and says nothing does not hold up a client for longer than it may.
#[test]
fn a_server_that_accepts_and_says_nothing_is_given_up_after_connect_timeout() {
    use crate::support::fake_server::FakeServer;
    let server = FakeServer::start(|peer| {
        if peer.number == 0 {
            peer.read();
            return;
        }
        peer.welcome();
        while peer.read_to(b'Q').is_some() {
            peer.row("second");
            peer.complete("SELECT 1");
            peer.ready(b'I');
        }
    });
    let proxy = Proxy::before(&server.host(), "pool.size = 1\npool.connect_timeout = '100ms'");

    assert_eq!(proxy.client().value("select 1"), "second");
    wait_until("two were made", || server.connections() == 2);
}

/// P60: each state that a client idles in, counted from when it came to be in it.
#[test]
fn client_idle_timeout_counts_from_the_end_of_what_was_last_done() {
    let postgres = Postgres::start();
    let idle = Duration::from_millis(400);
    let proxy = Proxy::start(&postgres, &with("listen.client_idle_timeout", "400ms"));
    let is_timely = |client: &mut Client| {
        let since = Instant::now();
        assert_error(&client.read_fatal(), "FATAL", "57P05", "client_idle_timeout");
        // A little less, for the clock was read before the answer came.
        assert!(since.elapsed() > idle / 2, "{:?}", since.elapsed());
    };

    let mut fresh = proxy.client();
    is_timely(&mut fresh);

    let mut failed = proxy.client();
    assert_eq!(failed.ask("select pg_sleep(0.5), 1 / 0").code(), "22012");
    is_timely(&mut failed);

    // One that waits is not idle, and neither is one in a block.
    let (mut holder, mut waiter) = (proxy.client(), proxy.client());
    holder.ask("begin; select 1");
    waiter.send(&query("select 1"));
    proxy.wait_for_waiting(1);
    assert_eq!(holder.ask("select pg_sleep(0.6)").errors(), []);
    holder.ask("commit");
    assert_eq!(waiter.read_ready(1).values(), "1");
    is_timely(&mut waiter);
    holder.read_fatal();

    // Behind answers that no server gave.
    let mut bereaved = proxy.client();
    let pid = bereaved.pid();
    bereaved.ask("begin; select 1");
    assert_eq!(bereaved.ask("select pg_sleep(0.5)").errors(), []);
    postgres.client().value(&format!("select pg_terminate_backend({pid})"));
    assert_eq!(bereaved.read().tag, b'N');
    assert_eq!(bereaved.ask("rollback").status(), Some('I'));
    is_timely(&mut bereaved);
}

/// P60: whoever is answered by us is at work as well.
#[test]
fn a_client_at_work_without_a_server_is_not_idle() {
    let postgres = Postgres::start();
    let proxy = Proxy::start(&postgres, &with("listen.client_idle_timeout", "800ms"));
    let mut bereaved = proxy.client();
    let pid = bereaved.pid();
    bereaved.ask("begin; select 1");
    postgres.client().value(&format!("select pg_terminate_backend({pid})"));
    assert_eq!(bereaved.read().tag, b'N');

    for _ in 0..8 {
        assert_eq!(bereaved.ask("select 1").status(), Some('E'));
        assert!(bereaved.read_within(Duration::from_millis(150)).is_err(), "something came");
    }

    assert_error(&bereaved.read_fatal(), "FATAL", "57P05", "client_idle_timeout");
}
