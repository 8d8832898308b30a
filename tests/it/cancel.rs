//! Cancel requests: they reach what they are meant for, or nothing.

use crate::support::messages::query;
use crate::support::postgres::Postgres;
use crate::support::proxy::Proxy;
use crate::support::wait::wait_until;

const ONE: &str = "pool.size = 1\n";

/// Waits until PostgreSQL runs a statement with this text.
fn wait_for_statement(postgres: &Postgres, text: &str) {
    let mut observer = postgres.client();
    let count = format!(
        "select count(*) from pg_stat_activity where state = 'active' and query like '{text}%' \
         and pid <> pg_backend_pid()"
    );
    wait_until("the statement runs", || observer.value(&count) == "1");
}

#[test]
fn a_cancel_ends_the_statement_that_is_running() {
    let postgres = Postgres::start();
    let proxy = Proxy::start(&postgres, ONE);
    let mut client = proxy.client();
    client.send(&query("select pg_sleep(60)"));
    wait_for_statement(&postgres, "select pg_sleep");

    client.cancel();

    let reply = client.read_ready(1);
    assert_eq!((reply.code().as_str(), reply.status()), ("57014", Some('I')));
    assert_eq!(client.value("select 1"), "1");
    assert_eq!(proxy.pool().servers.total(), 1);
}

#[test]
fn a_cancel_in_a_block_leaves_a_failed_block() {
    let postgres = Postgres::start();
    let proxy = Proxy::start(&postgres, ONE);
    let mut client = proxy.client();
    client.ask("begin");
    client.send(&query("select pg_sleep(60)"));
    wait_for_statement(&postgres, "select pg_sleep");

    client.cancel();

    assert_eq!(client.read_ready(1).status(), Some('E'));
    assert_eq!(client.ask("rollback").status(), Some('I'));
}

/// P22: a client that waits for a server is told itself; nobody else notices.
#[test]
fn a_cancel_of_a_client_in_the_queue_is_57014_and_disturbs_nobody() {
    let postgres = Postgres::start();
    let proxy = Proxy::start(&postgres, ONE);
    let (mut holder, mut waiter) = (proxy.client(), proxy.client());
    holder.ask("begin");
    waiter.send(&query("select 'never run'"));
    proxy.wait_for_waiting(1);

    waiter.cancel();

    let reply = waiter.read_ready(1);
    assert_eq!((reply.tags().as_str(), reply.code().as_str()), ("EZI", "57014"));
    assert_eq!(reply.error().message(), "canceling statement due to user request");
    assert_eq!(holder.value("select 'fine'"), "fine");
    holder.ask("commit");
    assert_eq!(waiter.value("select 'again'"), "again");
}

/// P21, P69: the statement was done, and the server works for somebody else.
#[test]
fn a_cancel_that_comes_late_hits_nobody() {
    let postgres = Postgres::start();
    let proxy = Proxy::start(&postgres, ONE);
    let (client, mut other) = (
        {
            let mut client = proxy.client();
            client.value("select 1");
            client
        },
        proxy.client(),
    );
    other.send(&query("select pg_sleep(0.3), 'undisturbed'"));
    wait_for_statement(&postgres, "select pg_sleep");

    for _ in 0..5 {
        client.cancel();
    }

    assert_eq!(other.read_ready(1).errors(), []);
}

/// P22: whoever guesses gets nothing, not even an answer.
#[test]
fn a_cancel_with_a_wrong_key_is_ignored() {
    let postgres = Postgres::start();
    let proxy = Proxy::start(&postgres, ONE);
    let mut client = proxy.client();
    client.send(&query("select pg_sleep(0.3), 'undisturbed'"));
    wait_for_statement(&postgres, "select pg_sleep");
    let (process_id, secret) = client.key.clone();
    let wrong: Vec<u8> = secret.iter().map(|byte| byte ^ 1).collect();

    client.cancel_with(process_id, &wrong);
    client.cancel_with(process_id + 1, &secret);
    client.cancel_with(process_id, &[secret.clone(), secret].concat());
    client.cancel_with(0, &[0; 4]);

    assert_eq!(client.read_ready(1).errors(), []);
}

/// P22
#[test]
fn a_cancel_of_an_idle_client_does_nothing() {
    let postgres = Postgres::start();
    let proxy = Proxy::start(&postgres, ONE);
    let mut client = proxy.client();
    client.value("select 1");

    client.cancel();

    assert_eq!(client.value("select 2"), "2");
    client.ask("begin");
    client.cancel();
    assert_eq!(client.value("select 3"), "3");
    assert_eq!(client.ask("commit").status(), Some('I'));
}

/// P69: round after round of a statement that ends just when its cancel comes, with somebody behind
/// who gets the same server.
#[test]
fn no_cancel_ever_hits_the_next_client_of_the_server() {
    let postgres = Postgres::start();
    let proxy = Proxy::start(&postgres, ONE);
    let (mut client, mut other) = (proxy.client(), proxy.client());
    for round in 0..40_u64 {
        client.send(&query("select pg_sleep(0.004)"));
        other.send(&query("select pg_sleep(0.004), 'undisturbed'"));
        std::thread::park_timeout(std::time::Duration::from_micros(round * 150));

        client.cancel();

        client.read_ready(1);
        assert_eq!(other.read_ready(1).errors(), [], "round {round}");
    }
}
