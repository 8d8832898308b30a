//! A server that is lost under a client: what the client is told, and that it goes on.

use crate::support::fake_server::FakeServer;
use crate::support::messages::{bind, execute, extended, parse, query, run, sync};
use crate::support::postgres::Postgres;
use crate::support::proxy::Proxy;
use crate::support::raw_client::Client;
use crate::support::wait::wait_until;

const ONE: &str = "pool.size = 1\n";

fn terminate(postgres: &Postgres, pid: &str) {
    let mut observer = postgres.client();
    observer.value(&format!("select pg_terminate_backend({pid})"));
    let count = format!("select count(*) from pg_stat_activity where pid = {pid}");
    wait_until("the server is gone", || observer.value(&count) == "0");
}

/// A client in an open block, whose server has been terminated.
fn bereaved(postgres: &Postgres, proxy: &Proxy) -> Client {
    let mut client = proxy.client();
    client.value("create table if not exists kept (n int)");
    client.ask("begin");
    client.ask("insert into kept values (1)");
    let pid = client.pid();
    terminate(postgres, &pid);
    client
}

/// P91: section 7, case 2, of a client that is idle in its block.
#[test]
fn a_client_idle_in_a_block_is_warned_and_gets_the_error_with_its_next_request() {
    let postgres = Postgres::start();
    let proxy = Proxy::start(&postgres, ONE);
    let mut client = bereaved(&postgres, &proxy);

    let warning = client.read();
    assert_eq!(warning.tag, b'N');
    assert_eq!(warning.fields().severity(), "WARNING");
    assert!(warning.fields().detail().contains("terminating connection"), "{warning:?}");

    let reply = client.ask("insert into kept values (2)");
    assert_eq!(reply.tags(), "EZE");
    let error = reply.error();
    assert_eq!((error.severity(), error.code()), ("ERROR", "08006"));
    assert_eq!(error.message(), "the server connection was lost; the transaction is rolled back");
    // Then as in any failed block.
    let refused = client.ask("select 1");
    assert_eq!((refused.tags().as_str(), refused.code().as_str()), ("EZE", "25P02"));
    assert_eq!(client.ask("rollback to a").code(), "25P02");
    let ended = client.ask("rollback");
    assert_eq!((ended.tags().as_str(), ended.done()), ("CZI", vec!["ROLLBACK".to_owned()]));
    assert_eq!(client.value("select count(*) from kept"), "0");
}

/// A commit of what was lost must not look like one, and ends the block all the same.
#[test]
fn a_commit_after_the_loss_of_a_block_is_an_error_and_the_end_of_it() {
    let postgres = Postgres::start();
    let proxy = Proxy::start(&postgres, ONE);
    let mut client = bereaved(&postgres, &proxy);

    let reply = client.ask("commit");

    assert_eq!((reply.tags().as_str(), reply.code().as_str()), ("EZI", "08006"));
    assert_eq!(client.value("select count(*) from kept"), "0");
}

/// A rollback gets what it wants.
#[test]
fn a_rollback_after_the_loss_of_a_block_is_one() {
    let postgres = Postgres::start();
    let proxy = Proxy::start(&postgres, ONE);
    for extended_protocol in [false, true] {
        let mut client = bereaved(&postgres, &proxy);

        let reply = if extended_protocol {
            client.exchange(&extended("rollback", &[]))
        } else {
            client.ask("rollback")
        };

        assert_eq!((reply.errors(), reply.done()), (vec![], vec!["ROLLBACK".to_owned()]));
        assert_eq!(reply.status(), Some('I'));
        assert_eq!(client.value("select count(*) from kept"), "0");
    }
}

#[test]
fn a_lost_block_is_left_in_the_extended_protocol_too() {
    let postgres = Postgres::start();
    let proxy = Proxy::start(&postgres, ONE);
    let mut client = bereaved(&postgres, &proxy);

    let reply = client.exchange(&extended("select 1", &[]));
    assert_eq!((reply.tags().as_str(), reply.code().as_str()), ("EZE", "08006"));
    assert_eq!(client.exchange(&extended("select 1", &[])).code(), "25P02");
    let ended = client.exchange(&extended("rollback", &[]));

    assert_eq!((ended.tags().as_str(), ended.done()), ("12CZI", vec!["ROLLBACK".to_owned()]));
    assert_eq!(client.value("select 1"), "1");
}

/// `AND CHAIN` opens a new block, which has not failed.
#[test]
fn a_rollback_and_chain_of_a_lost_block_goes_on_in_a_new_one() {
    let postgres = Postgres::start();
    let proxy = Proxy::start(&postgres, ONE);
    let mut client = bereaved(&postgres, &proxy);
    assert_eq!(client.ask("select 1").code(), "08006");

    let reply = client.ask("rollback and chain");

    // Either a block again, or none and the truth about it; never a block that is none.
    assert_eq!(reply.done(), ["ROLLBACK"]);
    if reply.status() == Some('T') {
        client.ask("insert into kept values (3)");
        client.ask("rollback");
        assert_eq!(client.value("select count(*) from kept"), "0");
    } else {
        assert_eq!(reply.status(), Some('I'));
    }
}

/// P92: section 7, case 3. Whether it was done nobody knows.
#[test]
fn a_loss_during_a_statement_outside_a_block_is_08007() {
    let postgres = Postgres::start();
    let proxy = Proxy::start(&postgres, ONE);
    let mut client = proxy.client();
    client.value("create table kept (n int)");
    let pid = client.pid();
    client.send(&query("insert into kept select 1 from pg_sleep(60)"));
    proxy.wait_for_pool("it runs", |pool| pool.servers.active == 1);

    terminate(&postgres, &pid);

    let reply = client.read_ready(1);
    assert_eq!(reply.tags(), "EZI");
    let error = reply.error();
    assert_eq!((error.severity(), error.code()), ("ERROR", "08007"));
    assert!(error.message().contains("whether the statement took effect is unknown"), "{error:?}");
    assert!(error.detail().contains("terminating connection"), "{error:?}");
    assert_eq!(client.value("select count(*) from kept"), "0");
}

/// A statement that can only read cannot have committed anything.
#[test]
fn a_loss_during_a_read_outside_a_block_is_08006() {
    let postgres = Postgres::start();
    let proxy = Proxy::start(&postgres, ONE);
    let mut client = proxy.client();
    let pid = client.pid();
    client.send(&query("select count(*) from pg_class a, pg_class b, pg_class c, pg_class d"));
    proxy.wait_for_pool("it runs", |pool| pool.servers.active == 1);

    terminate(&postgres, &pid);

    let reply = client.read_ready(1);
    assert_eq!((reply.code().as_str(), reply.status()), ("08006", Some('I')));
    assert_eq!(client.value("select 1"), "1");
}

#[test]
fn a_loss_during_a_statement_inside_a_block_leaves_a_failed_block() {
    let postgres = Postgres::start();
    let proxy = Proxy::start(&postgres, ONE);
    let mut client = proxy.client();
    client.value("create table kept (n int)");
    client.ask("begin");
    let pid = client.pid();
    client.send(&query("insert into kept select 1 from pg_sleep(60)"));
    proxy.wait_for_pool("it runs", |pool| pool.servers.active == 1);

    terminate(&postgres, &pid);

    let reply = client.read_ready(1);
    assert_eq!((reply.tags().as_str(), reply.code().as_str()), ("EZE", "08006"));
    assert_eq!(client.ask("select 1").code(), "25P02");
    assert_eq!(client.ask("rollback").status(), Some('I'));
    assert_eq!(client.value("select count(*) from kept"), "0");
}

/// A server that answers the first `answered` simple queries and goes.
fn fickle(answered: usize, status: u8) -> FakeServer {
    FakeServer::start(move |peer| {
        peer.welcome();
        if peer.number > 0 {
            while peer.read_to(b'Q').is_some() {
                peer.row("recovered");
                peer.complete("SELECT 1");
                peer.ready(b'I');
            }
            return;
        }
        for _ in 0..answered {
            if peer.read_to(b'Q').is_none() {
                return;
            }
            peer.complete("DONE");
            peer.ready(status);
        }
        // What makes it go.
        peer.read_to(b'Q');
    })
}

/// Section 7, case 3: a COMMIT whose answer never came.
#[test]
fn a_loss_during_a_commit_is_08007() {
    let server = fickle(1, b'T');
    let proxy = Proxy::before(&server.host(), ONE);
    let mut client = proxy.client();
    assert_eq!(client.ask("begin").status(), Some('T'));

    let reply = client.ask("commit");

    assert_eq!((reply.tags().as_str(), reply.code().as_str()), ("EZI", "08007"));
    assert_eq!(client.value("select 1"), "recovered");
}

/// Section 7, case 4: every request that was sent has its own end.
#[test]
fn each_request_of_a_lost_pipeline_gets_its_own_ready_for_query() {
    let server = fickle(1, b'I');
    let proxy = Proxy::before(&server.host(), ONE);
    let mut client = proxy.client();

    client.send(&query("insert into t values (0)").repeat(4));
    let reply = client.read_ready(4);

    assert_eq!(reply.tags(), "CZIEZIEZIEZI");
    for error in reply.errors() {
        // The first answer does not make the others harmless.
        assert_eq!(error.code(), "08007");
    }
    assert_eq!(client.value("select 1"), "recovered");
}

#[test]
fn each_segment_of_a_lost_pipeline_gets_its_own_ready_for_query() {
    let server = FakeServer::start(|peer| {
        peer.welcome();
        if peer.number == 0 {
            peer.read_to(b'S');
            peer.send(b'1', b"");
            peer.send(b'2', b"");
            return;
        }
        while let Some(message) = peer.read() {
            match message.tag {
                b'Q' => {
                    peer.row("recovered");
                    peer.complete("SELECT 1");
                    peer.ready(b'I');
                }
                b'B' => peer.error("ERROR", "26000", "no such statement"),
                b'S' => peer.ready(b'I'),
                _ => {}
            }
        }
    });
    let proxy = Proxy::before(&server.host(), ONE);
    let mut client = proxy.client();

    client.send(&[extended("insert into t values (1)", &[]).repeat(3), parse("s", "x")].concat());
    let reply = client.read_ready(3);
    assert_eq!(reply.tags(), "12EZIEZIEZI");

    // The segment that had no Sync yet has failed too, and is skipped up to it.
    client.send(&[run("s", &[]), sync()].concat());
    assert_eq!(client.read_ready(1).tags(), "EZI");
    // Its statement was never prepared.
    client.send(&[run("s", &[]), sync()].concat());
    assert_eq!(client.read_ready(1).code(), "26000");
    assert_eq!(client.value("select 1"), "recovered");
}

/// What pgweir sends of its own is nothing that the client is owed an answer to.
#[test]
fn a_server_lost_before_it_took_the_settings_is_one_error_for_one_request() {
    let server = FakeServer::start(|peer| {
        peer.welcome();
        while let Some(asked) = peer.read_to(b'Q') {
            let is_settings = asked.body.starts_with(b"SELECT pg_catalog.set_config");
            if peer.number == 0 && is_settings && asked.body.windows(4).any(|w| w == b"Rome") {
                return;
            }
            peer.row("fine");
            peer.complete("SELECT 1");
            peer.ready(b'I');
        }
    });
    let proxy = Proxy::before(&server.host(), ONE);
    let mut other = proxy.client();
    let mut client = proxy.client_with(&[("application_name", "Rome")]);
    other.value("select 1");

    assert_eq!(client.ask("select 1").tags(), "EZI");
    assert_eq!(client.ask("select 2").values(), "fine");
}

/// Section 7, case 4: nothing can be said any more in the middle of a message.
#[test]
fn a_loss_in_the_middle_of_a_row_that_was_forwarded_closes_the_connection() {
    let server = FakeServer::start(|peer| {
        peer.welcome();
        peer.read_to(b'Q');
        let mut row = vec![b'D'];
        row.extend_from_slice(&1_000_000_u32.to_be_bytes());
        row.extend_from_slice(&vec![0; 200_000]);
        peer.send_bytes(&row);
    });
    let proxy = Proxy::before(&server.host(), ONE);
    let mut client = proxy.client();
    client.send(&query("select big"));

    let mut all = Vec::new();
    std::io::Read::read_to_end(&mut client.socket, &mut all).unwrap();

    // Nothing was put behind it that would be taken for a part of the row.
    assert_eq!(all.len(), 5 + 200_000);
}

/// In session mode the state of the session is gone with its server.
#[test]
fn in_session_mode_a_lost_server_ends_the_session() {
    let postgres = Postgres::start();
    let proxy = Proxy::start(&postgres, "pool.pool_mode = 'session'");
    let mut client = proxy.client();
    let pid = client.pid();

    terminate(&postgres, &pid);

    assert_eq!(client.read_fatal().code(), "57P01");
    assert_eq!(proxy.client().value("select 1"), "1");
}

/// Prepared statements are the session's and outlive the server.
#[test]
fn statements_outlive_the_server_that_they_were_prepared_on() {
    let postgres = Postgres::start();
    let proxy = Proxy::start(&postgres, ONE);
    let mut client = proxy.client();
    client.exchange(
        &[parse("s", "select 'still here'"), parse("", "select 'unnamed'"), sync()].concat(),
    );
    let pid = client.exchange(&extended("select pg_backend_pid()", &[])).values();
    client.exchange(&[parse("", "select 'unnamed'"), sync()].concat());

    terminate(&postgres, &pid);

    let reply = client.exchange(&[run("s", &[]), bind("", &[]), execute(), sync()].concat());
    assert_eq!(reply.values(), "still here unnamed");
}

/// PostgreSQL stopped and started again: errors that say why, then service without a restart.
#[test]
fn after_a_restart_of_postgresql_clients_are_served_again() {
    let mut postgres = Postgres::start();
    let proxy = Proxy::start(&postgres, "pool.size = 2\npool.timeout = '500ms'");
    let mut client = proxy.client();
    client.value("select 1");

    postgres.stop();
    let error = client.ask("select 1").error();
    assert_eq!(error.code(), "08001", "{error:?}");
    assert!(error.message().contains("no primary of domain \"main\""), "{error:?}");
    // A client that comes now is greeted by what is known of the server.
    let mut late = proxy.client();
    assert_eq!(late.ask("select 1").code(), "08001");

    postgres.resume();
    wait_until("it is served", || client.ask("select 1").errors().is_empty());
    assert_eq!(late.value("select 1"), "1");
}

/// P34: a server that starts up is waited for.
#[test]
fn a_server_that_is_starting_up_is_waited_for() {
    let server = FakeServer::start(|peer| {
        if peer.number < 2 {
            peer.error("FATAL", "57P03", "the database system is starting up");
            return;
        }
        peer.welcome();
        while peer.read_to(b'Q').is_some() {
            peer.row("up");
            peer.complete("SELECT 1");
            peer.ready(b'I');
        }
    });
    let proxy = Proxy::before(&server.host(), ONE);

    assert_eq!(proxy.client().value("select 1"), "up");
}

/// P3: an error that lacks every field.
#[test]
fn an_error_without_fields_is_passed_on() {
    let server = FakeServer::start(|peer| {
        peer.welcome();
        while peer.read_to(b'Q').is_some() {
            peer.send(b'E', b"\0");
            peer.ready(b'I');
        }
    });
    let proxy = Proxy::before(&server.host(), ONE);
    let mut client = proxy.client();

    assert_eq!(client.ask("select 1").tags(), "EZI");
    assert_eq!(client.ask("select 1").tags(), "EZI");
}

/// A server that says what nobody asked for is not lent again.
#[test]
fn a_server_that_breaks_the_protocol_is_closed() {
    let server = FakeServer::start(|peer| {
        peer.welcome();
        peer.read_to(b'Q');
        if peer.number == 0 {
            peer.send(b'2', b"");
            peer.ready(b'I');
            peer.ready(b'I');
        } else {
            peer.row("fine");
            peer.complete("SELECT 1");
            peer.ready(b'I');
        }
        peer.read();
    });
    let proxy = Proxy::before(&server.host(), ONE);
    let mut client = proxy.client();
    client.send(&query("select 1"));

    // However the first one fares, the next gets a server that knows what it does.
    drop(client);
    let mut next = proxy.client();
    wait_until("it is served", || next.ask("select 1").values() == "fine");
}
