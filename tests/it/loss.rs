//! A server that is lost under a client: what the client is told, and that it goes on.

use std::collections::BTreeSet;
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::time::Duration;

use crate::support::fake_server::{FakeServer, Peer, Then};
use crate::support::messages::{
    bind, bind_portal, close_statement, copy_data, copy_done, execute, execute_portal, extended,
    flush, message, parse, query, run, sync,
};
use crate::support::postgres::Postgres;
use crate::support::proxy::Proxy;
use crate::support::raw_client::Client;
use crate::support::reply::Fields;
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

/// PostgreSQL ends all sessions when the process of one crashes, and says so to each in a warning.
#[test]
fn a_client_whose_server_goes_for_the_crash_of_another_is_told_so_once() {
    let postgres = Postgres::start();
    let proxy = Proxy::start(&postgres, "pool.size = 2\n");
    let mut other = proxy.client();
    other.ask("begin");
    let pid = other.pid();
    let mut client = proxy.client();
    client.ask("begin");
    client.ask("select 1");

    let killed = Command::new("kill").args(["-9", &pid]).status();
    assert!(killed.is_ok_and(|status| status.success()));

    let warning = client.read();
    let fields = warning.fields();
    assert_eq!((warning.tag, fields.severity(), fields.code()), (b'N', "WARNING", "08006"));
    let detail = fields.detail();
    assert!(detail.contains("crash of another server process (57P02)"), "{detail}");
    assert_eq!(client.ask("select 1").tags(), "EZE");
    client.ask("rollback");
    wait_until("PostgreSQL is back", || client.ask("select 1").tags() == "TDCZI");
}

/// Whatever a function calls it.
#[test]
fn a_warning_that_a_function_raises_is_not_the_end_of_its_server() {
    let postgres = Postgres::start();
    let proxy = Proxy::start(&postgres, ONE);
    let mut client = proxy.client();
    let pid = client.pid();

    let raise =
        "do $$ begin raise warning 'terminating connection' using errcode = '57P02'; end $$";
    let reply = client.ask(raise);

    assert_eq!(reply.tags(), "CZI");
    let codes: Vec<_> = reply.notices().iter().map(|notice| notice.code().to_owned()).collect();
    assert_eq!(codes, ["57P02"]);
    assert_eq!(client.pid(), pid);
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

/// A query is read when it is there whole, however it comes.
#[test]
fn what_ends_a_lost_block_may_come_in_two_reads() {
    let postgres = Postgres::start();
    let proxy = Proxy::start(&postgres, ONE);
    for (text, at, tags) in [("rollback", 4, "CZI"), ("rollback to savepoint a", 9, "EZE")] {
        let mut client = bereaved(&postgres, &proxy);
        assert_eq!(client.read().tag, b'N');
        let mut front = query(text);
        let rest = front.split_off(5 + at);
        let received = || proxy.pool().traffic.bytes_received.value();
        let before = received();

        client.send(&front);
        wait_until("the front is read", || received() > before);
        client.send(&rest);

        assert_eq!(client.read_ready(1).tags(), tags, "{text}");
    }
}

#[test]
fn statements_prepared_in_a_lost_block_count_for_max_statements_per_client() {
    let postgres = Postgres::start();
    let config = format!("{ONE}listen.max_statements_per_client = 2");
    let proxy = Proxy::start(&postgres, &config);
    let mut client = bereaved(&postgres, &proxy);
    assert_eq!(client.read().tag, b'N');
    assert_eq!(client.ask("select 1").code(), "08006");
    for name in ["a", "b"] {
        assert_eq!(client.exchange(&[parse(name, "rollback"), sync()].concat()).tags(), "1ZE");
    }

    let refused = client.exchange(&[parse("c", "rollback"), sync()].concat());

    assert_eq!((refused.tags().as_str(), refused.code().as_str()), ("EZE", "53400"));
    assert_eq!(client.use_prepared("a").tags(), "2CZI");
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

/// Section 7, case 2: as PostgreSQL has it for a block that has failed.
#[test]
fn whatever_ends_a_block_ends_a_lost_one_with_a_rollback() {
    let postgres = Postgres::start();
    let proxy = Proxy::start(&postgres, ONE);
    let ends =
        ["rollback", "abort", "commit", "end", "commit and no chain", "prepare transaction 'it'"];
    for text in ends {
        for sent in [query(text), extended(text, &[])] {
            let mut client = bereaved(&postgres, &proxy);
            assert_eq!(client.read().tag, b'N');
            assert_eq!(client.ask("select 1").code(), "08006");

            let ended = client.exchange(&sent);

            assert_eq!((ended.errors(), ended.done()), (vec![], vec!["ROLLBACK".to_owned()]));
            assert_eq!(ended.status(), Some('I'), "{text}");
            assert_eq!(client.value("select count(*) from kept"), "0");
        }
    }
}

/// `AND CHAIN` would have to open a block like the one that was lost. What comes behind it expects one, and
/// must not be run on its own: it is an error, and no block.
#[test]
fn no_block_is_chained_to_one_that_was_lost() {
    let postgres = Postgres::start();
    let proxy = Proxy::start(&postgres, ONE);
    for text in ["rollback and chain", "commit and chain", "abort and chain", "end and chain"] {
        for sent in [query(text), extended(text, &[])] {
            for hears_first in [false, true] {
                let mut client = bereaved(&postgres, &proxy);
                assert_eq!(client.read().tag, b'N');
                if hears_first {
                    assert_eq!(client.ask("select 1").code(), "08006");
                }

                let ended = client.exchange(&sent);

                assert_eq!((&*ended.tags(), &*ended.code()), ("EZI", "08006"), "{text}");
                assert_eq!(client.value("select count(*) from kept"), "0");
            }
        }
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
    assert_eq!(client.ask("begin; select 1").status(), Some('T'));

    let reply = client.ask("commit");

    assert_eq!((reply.tags().as_str(), reply.code().as_str()), ("EZI", "08007"));
    assert_eq!(client.value("select 1"), "recovered");
}

/// What it says last is no answer: the reader hears nothing of what pgweir would have told it in front.
#[test]
fn a_read_is_sent_again_whatever_its_server_says_last() {
    let fatal = b"SFATAL\0VFATAL\0C57P01\0Mterminating\0\0";
    let of_a_crash = b"SWARNING\0VWARNING\0C57P02\0Mterminating\0Rquickdie\0\0";
    for last in [message(b'E', fatal), message(b'N', of_a_crash), Vec::new()] {
        let words = last.clone();
        let server = FakeServer::start(move |peer| {
            peer.welcome();
            let mut runs = 0;
            peer.answer_each(|peer, message| {
                runs += usize::from(message.tag == b'E');
                if message.tag == b'B' && peer.number == 0 && runs == 1 {
                    peer.send_bytes(&words);
                    return Then::Goes;
                }
                peer.accept(message)
            });
        });
        let proxy = Proxy::before(&server.host(), ONE);
        let reader = || proxy.client_with(&[("database", "main_ro")]);
        let exchange = [parse("s", "select 1"), run("s", &[]), sync()].concat();
        assert_eq!(reader().exchange(&exchange).tags(), "12CZI");

        // The server has the statement: what comes of its Parse is known.
        let reply = reader().exchange(&exchange);

        assert_eq!(reply.tags(), "12CZI", "{:?}", String::from_utf8_lossy(&last));
        assert_eq!(server.connections(), 2);
    }
}

/// A part of the answer has come with the server's last words: nobody but pgweir has heard of it.
#[test]
fn a_read_is_sent_again_whose_answer_ends_in_the_last_words() {
    let server = fickle_behind_a_row();
    let proxy = Proxy::before(&server.host(), ONE);
    let mut reader = proxy.client_with(&[("database", "main_ro")]);
    assert_eq!(reader.ask("select 1").values(), "fine");
    // What may not be sent again is told with what has come.
    let server = fickle_behind_a_row();
    let proxy = Proxy::before(&server.host(), ONE);
    let mut writer = proxy.client();
    let reply = writer.ask("insert into t values (1) returning 1");
    assert_eq!((reply.tags().as_str(), reply.code().as_str()), ("DEZI", "08007"));
}

/// It has its answer: that the server goes behind it is nothing to the client.
#[test]
fn a_read_is_not_sent_again_that_was_answered_in_front_of_the_last_words() {
    let server = FakeServer::start(|peer| {
        peer.welcome();
        while let Some(message) = peer.read_to(b'Q') {
            if message.body == b"\0" {
                peer.send(b'I', b"");
                peer.ready(b'I');
                continue;
            }
            let fatal = b"SFATAL\0VFATAL\0C57P01\0Mterminating\0\0";
            let row = [b"\0\x01\0\0\0\x01".as_slice(), peer.number.to_string().as_bytes()].concat();
            let answer = [
                self::message(b'D', &row),
                self::message(b'C', b"SELECT 1\0"),
                self::message(b'Z', b"I"),
                self::message(b'E', fatal),
            ];
            return peer.send_bytes(&answer.concat());
        }
    });
    let proxy = Proxy::before(&server.host(), ONE);
    let mut reader = proxy.client_with(&[("database", "main_ro")]);
    let first = reader.ask("select 1").values();
    assert_eq!((first.as_str(), reader.ask("select 1").values().as_str()), ("0", "1"));
}

/// The first connection answers with a row and its last words in one write, others as they should.
fn fickle_behind_a_row() -> FakeServer {
    FakeServer::start(move |peer| {
        peer.welcome();
        while peer.read_to(b'Q').is_some() {
            if peer.number == 0 {
                let fatal = b"SFATAL\0VFATAL\0C57P01\0Mterminating\0\0";
                let row = b"\0\x01\0\0\0\x04lost";
                return peer.send_bytes(&[message(b'D', row), message(b'E', fatal)].concat());
            }
            peer.row("fine");
            peer.complete("SELECT 1");
            peer.ready(b'I');
        }
    })
}

/// PostgreSQL says so in a warning, and breaks the connection a moment later.
#[test]
fn an_idle_server_that_has_said_its_last_in_a_warning_is_not_lent() {
    let [is_idle, is_warned] = [(); 2].map(|()| Arc::new(AtomicBool::new(false)));
    let (idle, warned) = (Arc::clone(&is_idle), Arc::clone(&is_warned));
    let server = FakeServer::start(move |peer| {
        peer.welcome();
        while peer.read_to(b'Q').is_some() {
            peer.complete("SELECT 0");
            peer.ready(b'I');
            if peer.number == 0 {
                wait_until("it is idle", || idle.load(Relaxed));
                peer.send(b'N', b"SWARNING\0VWARNING\0C57P02\0Mterminating\0Rquickdie\0\0");
                warned.store(true, Relaxed);
            }
        }
    });
    let proxy = Proxy::before(&server.host(), ONE);
    let mut client = proxy.client();
    assert_eq!(client.ask("select 1").tags(), "CZI");
    proxy.wait_for_pool("it is idle", |pool| pool.servers.idle == 1);
    is_idle.store(true, Relaxed);
    wait_until("it is warned", || is_warned.load(Relaxed));

    assert_eq!(client.ask("insert into t values (1)").tags(), "CZI");

    assert_eq!(server.connections(), 2);
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

/// Section 7, case 5: whatever is under way, the session ends, and is told whether that may have been done.
#[test]
fn in_session_mode_a_server_that_goes_without_a_word_ends_the_session() {
    let rows: &[(&[&str], &[&str], &str)] = &[
        (&[], &["insert hang"], "08007"),
        (&[], &["select 'hang'"], "08006"),
        (&[], &["select 'hang'", "insert"], "08007"),
        (&[], &["select 'hang'", "select 1", "select 2"], "08006"),
        (&["begin"], &["insert hang"], "08006"),
        (&["begin"], &["insert hang", "insert"], "08006"),
        (&["begin"], &["insert hang", "commit"], "08007"),
        (&["begin"], &["commit /* hang */"], "08007"),
        (&["begin"], &["rollback /* hang */"], "08006"),
        (&["begin", "fail"], &["commit /* hang */"], "08006"),
    ];
    let copy = [parse("", "copy in"), run("", &[]), sync()].concat();
    for (before, sent, code) in rows {
        for sent in [queries(sent), segments(sent)] {
            let (mut client, proxy) = in_a_session(before);
            client.send(&[sent, flush()].concat());
            assert_session_lost(client, &proxy, code);
        }
    }
    for (before, code) in [(&[][..], "08007"), (&["begin"][..], "08006")] {
        for begin in [query("copy in"), copy.clone()] {
            let (mut client, proxy) = in_a_session(before);
            client.send(&begin);
            client.read_to(b'G');
            client.send(&[copy_data(b"hang"), flush()].concat());
            assert_session_lost(client, &proxy, code);
        }
    }
}

/// With nothing under way too: the state of the session is gone with its server.
#[test]
fn in_session_mode_a_server_that_goes_while_its_client_is_idle_ends_the_session() {
    for before in [&[][..], &["begin"][..]] {
        let server = FakeServer::start(|peer| {
            peer.welcome();
            while let Some(message) = peer.read_to(b'Q') {
                let is_last = message.body.starts_with(b"last");
                peer.complete("DONE");
                peer.ready(if message.body.starts_with(b"begin") { b'T' } else { b'I' });
                if is_last {
                    return;
                }
            }
        });
        let proxy = Proxy::before(&server.host(), "pool.pool_mode = 'session'");
        let mut client = proxy.client();
        for text in before {
            client.ask(text);
        }
        client.ask("last");
        assert_session_lost(client, &proxy, "08006");
    }
}

/// What the unnamed statement does is known where statements are not shared, too, as far as it can be.
#[test]
fn an_unnamed_statement_that_is_not_ours_is_known_for_what_it_is() {
    let insert = [parse("", "insert into t values (1)"), sync()].concat();
    let skipped = [parse("x", "bad"), parse("", "select 1"), sync()].concat();
    let skipped_now = [parse("", "select 1"), sync()].concat();
    let run_it = [run("", &[]), sync()].concat();
    for (config, before, at_once, code) in [
        // Parsed on another link, of which nothing is known any more.
        ("pool.prepared_statements = 0", vec![insert.clone()], vec![], "08007"),
        ("pool.pool_mode = 'session'", vec![insert.clone()], vec![], "08007"),
        // The Parse behind it may be skipped, and is.
        ("pool.pool_mode = 'session'", vec![insert.clone(), skipped.clone()], vec![], "08007"),
        (
            "pool.pool_mode = 'session'",
            vec![insert.clone(), [parse("x", "bad"), flush()].concat(), skipped_now],
            vec![],
            "08007",
        ),
        ("pool.pool_mode = 'session'", vec![insert], skipped, "08007"),
        (
            "pool.pool_mode = 'session'",
            vec![[parse("", "select 1"), sync()].concat()],
            vec![],
            "08006",
        ),
    ] {
        let server = FakeServer::start(|peer| {
            peer.welcome();
            peer.answer_each(|peer, message| match message.tag {
                b'P' if message.body.starts_with(b"x") => {
                    peer.error("ERROR", "42601", "bad");
                    Then::Skips
                }
                b'E' => Then::Goes,
                _ => peer.accept(message),
            });
        });
        let proxy = Proxy::before(&server.host(), &format!("{ONE}{config}"));
        let mut client = proxy.client();
        for sent in &before {
            client.send(sent);
            client.read_to(if sent.ends_with(&flush()) { b'E' } else { b'Z' });
        }
        client.send(&[at_once, run_it.clone()].concat());

        let told = client.read_to(b'E');
        let told = if told.code() == "42601" { client.read_to(b'E') } else { told };
        assert_eq!(told.errors().last().unwrap().code(), code, "{config}, {before:?}");
    }
}

/// A session before a server that goes when it is told to, and what it has had answered.
fn in_a_session(before: &[&str]) -> (Client, Proxy) {
    let proxy = Proxy::before(&mortal().host(), &format!("{ONE}pool.pool_mode = 'session'"));
    let mut client = proxy.client();
    for text in before {
        client.ask(text);
    }
    (client, proxy)
}

#[track_caller]
fn assert_session_lost(mut client: Client, proxy: &Proxy, code: &str) {
    let error = client.read_fatal();
    assert_eq!((error.severity(), error.code()), ("FATAL", code), "{error:?}");
    assert!(error.message().contains("the server connection was lost"), "{error:?}");
    // Others are served by a new one.
    assert_eq!(proxy.client().ask("select 1").done(), ["DONE"]);
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
    // It does not know what a cancel is either, which is waited for.
    let proxy = Proxy::before(&server.host(), &format!("{ONE}pool.connect_timeout = '500ms'"));
    let mut client = proxy.client();
    client.send(&query("select 1"));

    // However the first one fares, the next gets a server that knows what it does.
    drop(client);
    let mut next = proxy.client();
    wait_until("it is served", || next.ask("select 1").values() == "fine");
}

/// A server that keeps track of blocks, answers until it meets `hang` in a text, reads on without a
/// word, and goes when it meets a Flush. So everything that a client has sent is under way.
fn mortal() -> FakeServer {
    FakeServer::start(|peer| {
        peer.welcome();
        let mut mortal =
            Mortal { status: b'I', parsed: String::new(), copies: false, hangs: false };
        let is_first = peer.number == 0;
        while let Some(message) = peer.read() {
            if message.tag == b'H' && mortal.hangs {
                return;
            }
            let text = String::from_utf8_lossy(&message.body).to_lowercase();
            mortal.hangs |= is_first && (text.contains("hang") || message.tag == b'F');
            if !mortal.hangs {
                mortal.answer(peer, message.tag, &text);
            }
        }
    })
}

struct Mortal {
    status: u8,
    parsed: String,
    copies: bool,
    hangs: bool,
}

impl Mortal {
    fn answer(&mut self, peer: &mut Peer, tag: u8, text: &str) {
        match tag {
            b'Q' => {
                self.run(peer, text);
                if !text.contains("copy in") {
                    peer.ready(self.status);
                }
            }
            b'S' if self.copies => {}
            b'S' => peer.ready(self.status),
            b'P' => {
                text.split('\0').nth(1).unwrap_or_default().clone_into(&mut self.parsed);
                peer.send(b'1', b"");
            }
            b'B' => peer.send(b'2', b""),
            b'E' => {
                let text = std::mem::take(&mut self.parsed);
                self.run(peer, &text);
            }
            _ => {}
        }
    }

    /// Answers a statement.
    fn run(&mut self, peer: &mut Peer, text: &str) {
        let text = text.trim_start();
        if text.contains("copy in") {
            self.copies = true;
            return peer.send(b'G', &[0, 0, 0]);
        }
        if text.contains("fail") {
            self.status = if self.status == b'I' { b'I' } else { b'E' };
            return peer.error("ERROR", "22012", "division by zero");
        }
        self.status = match text {
            text if text.starts_with("begin") => b'T',
            text if text.starts_with("commit") || text.starts_with("rollback") => b'I',
            _ => self.status,
        };
        peer.complete("DONE");
    }
}

/// Sends `sent` behind the queries of `before`, has the server go, and tells what the client heard:
/// for each request its error, if it has one, and the status behind it.
fn told(before: &[&str], sent: &[u8], mode: &str) -> String {
    let server = mortal();
    let proxy = Proxy::before(
        &server.host(),
        &format!("{ONE}pool.pool_mode = '{mode}'\npool.defer_begin = false"),
    );
    let mut client = proxy.client();
    for text in before {
        client.ask(text);
    }
    client.send(&[sent, &flush()].concat());
    let mut heard = String::new();
    let mut left = sent_boundaries(sent);
    while left > 0 || !heard.contains("08") {
        let message = client.read();
        match message.tag {
            b'E' => heard.push_str(message.fields().code()),
            b'Z' => {
                heard.push(char::from(message.body[0]));
                heard.push(' ');
                left -= 1;
            }
            _ => {}
        }
    }
    // What comes next is for a failed block, or for a new server.
    let next = if sent_boundaries(sent) == 0 {
        client.exchange(&[execute(), sync()].concat())
    } else {
        client.ask("select 1")
    };
    let then = match (next.errors().first().map(Fields::code), next.status()) {
        (None, Some('I')) => "served",
        // The second is the rest of a segment, skipped up to its Sync.
        (Some("25P02") | None, Some('E')) => "failed block",
        _ => panic!("{before:?} {heard}: {next:?}"),
    };
    format!("{heard}{then}")
}

/// The Queries, `FunctionCall`s and Syncs among some messages.
fn sent_boundaries(mut bytes: &[u8]) -> usize {
    let mut count = 0;
    while let [tag, a, b, c, d, ..] = bytes {
        count += usize::from(matches!(tag, b'Q' | b'S' | b'F'));
        bytes = &bytes[u32::from_be_bytes([*a, *b, *c, *d]) as usize + 1..];
    }
    count
}

fn queries(texts: &[&str]) -> Vec<u8> {
    texts.iter().flat_map(|text| query(text)).collect()
}

/// A segment for each text; statements of one segment are separated by `,`.
fn segments(texts: &[&str]) -> Vec<u8> {
    let statements = |text: &&str| {
        let mut segment: Vec<u8> = text
            .split(',')
            .flat_map(|text| [parse("", text.trim()), run("", &[])].concat())
            .collect();
        segment.extend(sync());
        segment
    };
    texts.iter().flat_map(statements).collect()
}

/// Section 7, rules 2 to 4, in both protocols: `before` is answered, `sent` is under way.
#[test]
fn each_request_under_way_is_told_whether_it_may_have_been_committed() {
    const BLOCK: &[&str] = &["begin"];
    const FAILED: &[&str] = &["begin", "fail"];
    let rows: &[(&[&str], &[&str], &str)] = &[
        // Outside of a block.
        (&[], &["insert hang"], "08007I served"),
        (&[], &["select 'hang'"], "08006I served"),
        (&[], &["call hang()"], "08007I served"),
        (&[], &["commit prepared 'hang'"], "08007I served"),
        (&[], &["select 'hang'", "insert", "select 1"], "08006I 08007I 08006I served"),
        // Inside of one.
        (BLOCK, &["insert hang"], "08006E failed block"),
        (BLOCK, &["rollback to hang"], "08006E failed block"),
        (BLOCK, &["insert hang", "insert", "select 1"], "08006E 08006E 08006E failed block"),
        (BLOCK, &["commit /* hang */"], "08007I served"),
        (BLOCK, &["prepare transaction 'hang'"], "08007I served"),
        (BLOCK, &["rollback /* hang */"], "08006I served"),
        (BLOCK, &["insert hang", "commit"], "08007I 08007I served"),
        (BLOCK, &["insert hang", "rollback"], "08006E 08006I served"),
        (BLOCK, &["rollback /* hang */", "insert"], "08006I 08007I served"),
        (FAILED, &["select 'hang'"], "08006E failed block"),
        (FAILED, &["commit /* hang */"], "08006I served"),
        // A block that begins in what is under way.
        (&[], &["begin", "insert hang"], "T 08006E failed block"),
        (&[], &["begin", "insert hang", "commit"], "T 08007I 08007I served"),
        (&[], &["begin /* hang */"], "08006I served"),
        (&[], &["begin /* hang */", "insert"], "08007I 08007I served"),
    ];
    for (before, sent, expected) in rows {
        let heard = told(before, &queries(sent), "transaction");
        assert_eq!(heard, *expected, "{before:?} {sent:?}, simple");
        let heard = told(before, &segments(sent), "transaction");
        assert_eq!(heard, *expected, "{before:?} {sent:?}, extended");
    }
}

/// What only one of the two protocols has.
#[test]
fn the_fate_of_what_only_one_protocol_has_is_told_as_well() {
    let function_call = message(b'F', &[0, 0, 0, 1, 0, 0, 0, 0, 0, 0]);
    let never_run = [parse("", "insert hang"), sync()].concat();
    let rows: &[(&[&str], Vec<u8>, &str)] = &[
        (&["begin"], queries(&["insert hang; select 1"]), "08007I served"),
        (&[], queries(&["select 'hang'; select 1"]), "08007I served"),
        (&[], function_call.clone(), "08007I served"),
        (&["begin"], function_call, "08006E failed block"),
        (&[], never_run, "08006I served"),
        // A BEGIN that fails takes the rest of its segment with it.
        (&[], segments(&["begin /* hang */, insert"]), "08006I served"),
        (&[], segments(&["begin /* hang */, insert, commit"]), "08007I served"),
        // Without a Sync: the error at once, the rest skipped up to it.
        (&["begin"], [parse("", "insert hang"), run("", &[])].concat(), "08006failed block"),
    ];
    for (before, sent, expected) in rows {
        let heard = told(before, sent, "transaction");
        assert_eq!(heard, *expected, "{before:?} {:?}", String::from_utf8_lossy(sent));
    }
}

/// A portal that was bound in an earlier segment of the block may be a COMMIT.
#[test]
fn a_portal_of_an_earlier_segment_is_known_for_what_it_is() {
    for (text, expected) in [("commit /* x */", "08007"), ("insert", "08006")] {
        let server = FakeServer::start(|peer| {
            peer.welcome();
            while let Some(message) = peer.read() {
                match message.tag {
                    b'P' => peer.send(b'1', b""),
                    b'B' => peer.send(b'2', b""),
                    b'S' => peer.ready(b'T'),
                    b'E' => return,
                    _ => {}
                }
            }
        });
        let proxy = Proxy::before(&server.host(), ONE);
        let mut client = proxy.client();
        let bound = client.exchange(&[parse("", text), bind_portal("p", "", &[]), sync()].concat());
        assert_eq!(bound.tags(), "12ZT");

        let reply = client.exchange(&[execute_portal("p", 0), sync()].concat());

        assert_eq!(reply.code(), expected, "{text}");
    }
}

/// In statement mode nothing is ever inside of a block.
#[test]
fn in_statement_mode_a_loss_is_told_as_outside_of_a_block() {
    let rows: &[(&[&str], &str)] = &[
        (&["insert hang"], "08007I served"),
        (&["select 'hang'"], "08006I served"),
        (&["select 'hang'", "insert"], "08006I 08007I served"),
    ];
    for (sent, expected) in rows {
        assert_eq!(told(&[], &queries(sent), "statement"), *expected, "{sent:?}");
        assert_eq!(told(&[], &segments(sent), "statement"), *expected, "{sent:?}");
    }
}

/// What came behind a BEGIN in statement mode has the same end, and whether it had an effect is said.
#[test]
fn in_statement_mode_what_came_behind_a_begin_is_refused_with_it() {
    let server = mortal();
    let proxy = Proxy::before(&server.host(), "pool.size = 1\npool.pool_mode = 'statement'");
    for messages in
        [queries(&["begin", "insert", "commit"]), segments(&["begin", "insert", "commit"])]
    {
        let mut client = proxy.client();
        client.send(&messages);
        let errors = client.read_ready(3).errors();

        assert!(errors.iter().all(|error| error.code() == "0A000"), "{errors:?}");
        assert_eq!(errors.len(), 3);
        assert_eq!(client.ask("select 1").done(), ["DONE"]);
    }
}

/// COPY: data is swallowed up to its end, in both protocols, in and out of a block.
#[test]
fn a_copy_whose_server_is_lost_ends_with_one_error_and_the_session_goes_on() {
    let rest = [copy_data(b"2\n"), copy_data(&vec![b'3'; 100_000]), copy_done()].concat();
    for (before, code, status) in [(None, "08007", 'I'), (Some("begin"), "08006", 'E')] {
        for is_extended in [false, true] {
            let server = mortal();
            let proxy = Proxy::before(&server.host(), ONE);
            let mut client = proxy.client();
            if let Some(before) = before {
                client.ask(before);
            }
            let begin = if is_extended {
                // A Sync in front of the data, as libpq sends it (P32).
                [parse("", "copy in"), run("", &[]), sync()].concat()
            } else {
                query("copy in")
            };
            client.send(&begin);
            client.read_to(b'G');
            client.send(&[copy_data(b"hang"), flush()].concat());

            let error = client.read_to(b'E').error();
            assert_eq!(error.code(), code, "{before:?} {is_extended}");
            // The client has not seen it yet.
            client.send(&rest);
            if is_extended {
                client.send(&sync());
            }
            assert_eq!(client.read_ready(1).tags(), format!("Z{status}"));
            let next = client.ask("rollback");
            assert_eq!((next.errors(), next.status()), (vec![], Some('I')), "{next:?}");
        }
    }
}

/// The same where the server goes in the middle of a piece of data: the rest of it is swallowed too.
#[test]
fn a_server_lost_in_the_middle_of_what_the_client_sends_does_not_end_the_session() {
    let postgres = Postgres::start();
    let proxy = Proxy::start(&postgres, ONE);
    let mut client = proxy.client();
    client.value("create table kept (n int)");
    let pid = client.pid();
    client.send(&query("copy kept from stdin"));
    assert_eq!(client.read().tag, b'G');
    let piece = copy_data(&vec![b'1'; 200_000]);
    let (front, rest) = piece.split_at(100_000);
    client.send(front);
    proxy.wait_for_pool("it runs", |pool| pool.servers.active == 1);

    terminate(&postgres, &pid);

    let reply = client.read_ready(1);
    assert_eq!((reply.code().as_str(), reply.status()), ("08007", Some('I')));
    client.send(&[rest, &copy_done()].concat());
    assert_eq!(client.value("select count(*) from kept"), "0");
}

/// The server's words come with the error, and end a session in session mode.
#[test]
fn a_fatal_in_the_middle_of_an_answer_is_told_at_once() {
    for (mode, severity, code) in [("transaction", "ERROR", "08007"), ("session", "FATAL", "57P01")]
    {
        let server = FakeServer::start(|peer| {
            peer.welcome();
            if peer.number > 0 {
                peer.read();
                return;
            }
            while let Some(asked) = peer.read_to(b'Q') {
                if !asked.body.starts_with(b"insert") {
                    peer.complete("DONE");
                    peer.ready(b'I');
                    continue;
                }
                // Rows and the last words in one piece, and the connection stays open.
                let row = message_of_row("x");
                let words = b"SFATAL\0VFATAL\0C57P01\0Mgoing down\0\0";
                peer.send_bytes(&[row.clone(), row, message(b'E', words)].concat());
                peer.read();
            }
        });
        let proxy = Proxy::before(&server.host(), &format!("{ONE}pool.pool_mode = '{mode}'"));
        let mut client = proxy.client();
        client.send(&query("insert returning"));

        let reply = client.read_to(b'E');

        assert_eq!(reply.tags(), "DDE", "{mode}");
        assert_eq!((reply.error().severity(), reply.error().code()), (severity, code));
        let said = format!("{}{}", reply.error().message(), reply.error().detail());
        assert!(said.contains("going down"), "{said}");
    }
}

/// A long message of which a part was forwarded, and the server's FATAL behind the rest of it in one
/// piece: the client has all of it, and the error.
#[test]
fn a_fatal_behind_the_rest_of_a_long_row_is_told() {
    let server = FakeServer::start(|peer| {
        peer.welcome();
        peer.read_to(b'Q');
        if peer.number > 0 {
            return;
        }
        let row = message_of_row(&"x".repeat(200_000));
        let (front, rest) = row.split_at(150_000);
        peer.send_bytes(front);
        // The proxy has forwarded the front when the client asks to cancel.
        peer.read_to(b'H');
        let words = b"SFATAL\0VFATAL\0C57P01\0Mgoing down\0\0";
        peer.send_bytes(&[rest, &message(b'E', words)].concat());
        peer.read();
    });
    let proxy = Proxy::before(&server.host(), ONE);
    let mut client = proxy.client();
    client.send(&query("select big"));
    let mut front = vec![0; 100_000];
    std::io::Read::read_exact(&mut client.socket, &mut front).unwrap();
    client.send(&flush());

    let mut rest = vec![0; 5 + 6 + 200_000 - front.len()];
    std::io::Read::read_exact(&mut client.socket, &mut rest).unwrap();

    let reply = client.read_ready(1);
    assert_eq!((reply.tags().as_str(), reply.code().as_str()), ("EZI", "08006"));
}

fn message_of_row(value: &str) -> Vec<u8> {
    let mut body = vec![0, 1];
    body.extend_from_slice(&u32::try_from(value.len()).unwrap().to_be_bytes());
    body.extend_from_slice(value.as_bytes());
    message(b'D', &body)
}

/// What was acknowledged is there, what is said to be rolled back is not; the rest may be either.
#[test]
fn what_a_client_is_told_of_its_commits_is_true() {
    let mut postgres = Postgres::start();
    postgres.client().value("alter system set synchronous_commit = on");
    postgres.client().value("select pg_reload_conf()");
    let proxy = Proxy::start(&postgres, "pool.size = 4\npool.timeout = '20s'");
    proxy.client().value("create table ledger (id text primary key)");
    let over = Arc::new(AtomicBool::new(false));
    let ledgers: Vec<_> = (0..4)
        .map(|number| {
            let (mut client, over) = (proxy.client(), Arc::clone(&over));
            std::thread::spawn(move || book(&mut client, number, &over))
        })
        .collect();
    for _ in 0..4 {
        std::thread::park_timeout(Duration::from_millis(200));
        postgres.client().ask(
            "select pg_terminate_backend(pid) from pg_stat_activity where application_name = ''
             and backend_type = 'client backend'",
        );
    }
    std::thread::park_timeout(Duration::from_millis(200));
    postgres.stop();
    postgres.resume();
    std::thread::park_timeout(Duration::from_millis(300));
    over.store(true, Relaxed);

    let booked: Vec<_> = ledgers.into_iter().flat_map(|ledger| ledger.join().unwrap()).collect();

    let there = postgres.client().value("select id from ledger");
    let there: BTreeSet<&str> = there.split(' ').collect();
    assert!(booked.iter().any(|(_, told)| told == "committed"));
    assert!(booked.iter().any(|(_, told)| told.starts_with("08")), "nothing was lost");
    for (id, told) in &booked {
        match told.as_str() {
            "committed" => assert!(there.contains(id.as_str()), "{id} was acknowledged"),
            "08007" => {}
            _ => assert!(!there.contains(id.as_str()), "{id} was reported as {told}"),
        }
    }
}

/// Books rows in turn in a block, on their own and in a pipeline, and notes what it was told.
fn book(client: &mut Client, number: usize, over: &AtomicBool) -> Vec<(String, String)> {
    let mut booked = Vec::new();
    for n in 0.. {
        if over.load(Relaxed) {
            break;
        }
        let id = format!("{number}-{n}");
        let insert = format!("insert into ledger values ('{id}')");
        let reply = match n % 3 {
            0 => client.ask(&insert),
            1 => {
                client.send(&queries(&["begin", &insert, "commit"]));
                client.read_ready(3)
            }
            _ => client.exchange(&segments(&[&format!("begin, {insert}, commit")])),
        };
        // Of several errors the last is that of the commit.
        let told = match reply.errors().last() {
            None => "committed".to_owned(),
            Some(error) => error.code().to_owned(),
        };
        if reply.status() != Some('I') {
            client.ask("rollback");
        }
        booked.push((id, told));
    }
    booked
}

/// P24: a cancel that hits the settings that pgweir puts in front of a statement was meant for the
/// statement: the client is told so, and goes on.
#[test]
fn a_cancel_that_hits_the_settings_cancels_the_statement_behind_them() {
    let server = FakeServer::start(|peer| {
        peer.welcome();
        while let Some(asked) = peer.read_to(b'Q') {
            let is_settings = asked.body.starts_with(b"SELECT pg_catalog.set_config");
            if peer.number == 0 && is_settings && asked.body.windows(4).any(|w| w == b"Rome") {
                peer.error("ERROR", "57014", "canceling statement due to user request");
                peer.ready(b'I');
                continue;
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

    let reply = client.ask("select 1");

    assert_eq!((reply.tags().as_str(), reply.code().as_str()), ("EZI", "57014"));
    assert_eq!(client.ask("select 2").values(), "fine");
}

/// A statement whose name the client gave back after the loss may be prepared anew.
#[test]
fn a_close_in_a_lost_block_is_one() {
    let postgres = Postgres::start();
    let proxy = Proxy::start(&postgres, ONE);
    let mut client = bereaved(&postgres, &proxy);
    client.exchange(&[parse("s", "select 1"), sync()].concat());
    assert_eq!(client.ask("select 1").code(), "25P02");
    let mut client = bereaved(&postgres, &proxy);
    assert_eq!(client.ask("select 1").code(), "08006");

    let closed = client.exchange(&[close_statement("s"), sync()].concat());
    assert_eq!(closed.tags(), "3ZE");
    client.ask("rollback");

    let again = client.exchange(&[parse("s", "select 'anew'"), run("s", &[]), sync()].concat());
    assert_eq!(again.values(), "anew");
}
