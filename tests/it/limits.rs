//! Bounds: of clients, of messages, of memory.

use std::io::Read;
use std::thread::park_timeout;
use std::time::Duration;

use crate::support::fake_server::FakeServer;
use crate::support::messages::{
    close_statement, extended, flush, message, parse, query, startup, sync, terminate,
};
use crate::support::postgres::{Postgres, USER};
use crate::support::proxy::Proxy;
use crate::support::wait::wait_until;

const ONE: &str = "pool.size = 1\n";

/// Memory of this process, which the proxy is a part of.
fn resident_kib() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find(|line| line.starts_with("VmRSS:")).unwrap();
    line.split_whitespace().nth(1).unwrap().parse().unwrap()
}

/// CPU time that this process has used, in hundredths of a second.
fn cpu_ticks() -> u64 {
    let stat = std::fs::read_to_string("/proc/self/stat").unwrap();
    // The name in front of the state may hold anything.
    let (_, fields) = stat.rsplit_once(") ").unwrap();
    let [user, system] = [11, 12].map(|at| fields.split(' ').nth(at).unwrap());
    user.parse::<u64>().unwrap() + system.parse::<u64>().unwrap()
}

#[test]
fn one_client_more_than_max_clients_is_refused() {
    let postgres = Postgres::start();
    let proxy = Proxy::start(&postgres, "listen.max_clients = 3\nadmin.stats_users = ['app']");
    let mut clients: Vec<_> = (0..3).map(|_| proxy.client()).collect();

    let error = proxy.try_client_with(&[]).unwrap_err();

    assert_eq!((error.severity(), error.code()), ("FATAL", "53300"));
    assert_eq!(error.message(), "no more connections allowed (max_clients)");
    // Whoever has to look at it comes in, and cancels do.
    assert!(proxy.client_with(&[("database", "pgweir")]).ask("show clients").errors().is_empty());
    clients[0].send(&query("select pg_sleep(60)"));
    proxy.wait_for_pool("it runs", |pool| pool.servers.active == 1);
    wait_until("it is cancelled", || {
        clients[0].cancel();
        clients[0].read_within(Duration::from_millis(50)).is_ok()
    });
    clients.pop();
    wait_until("there is room again", || proxy.try_client_with(&[]).is_ok());
}

#[test]
fn one_client_more_than_a_users_max_clients_is_refused() {
    let postgres = Postgres::start();
    let proxy = Proxy::start(&postgres, "[users.app]\nmax_clients = 1");
    let client = proxy.client();

    let error = proxy.try_client_with(&[]).unwrap_err();

    assert_eq!((error.severity(), error.code()), ("FATAL", "53300"));
    assert!(proxy.try_client_with(&[("user", "app_two")]).is_ok());
    drop(client);
    wait_until("there is room again", || proxy.try_client_with(&[]).is_ok());
}

/// Who has proved who it is and waits for a server is no stranger any more.
#[test]
fn logins_that_wait_for_a_server_keep_neither_cancels_nor_others_out() {
    let postgres = Postgres::start();
    let changes = "pool = { size = 1, pool_mode = 'session', timeout = '60s' }\n\
                   listen.max_unauthenticated = 2\nadmin.users = ['app']";
    let proxy = Proxy::start(&postgres, changes);
    let mut holder = proxy.client();
    holder.send(&query("select pg_sleep(60)"));
    let count = "select count(*) from pg_stat_activity where query like 'select pg_sleep%' \
                 and state = 'active' and pid <> pg_backend_pid()";
    wait_until("it runs", || postgres.client().value(count) == "1");
    let mut waiters: Vec<_> = (0..2).map(|_| proxy.connect()).collect();
    for (before, waiter) in waiters.iter_mut().enumerate() {
        waiter.send(&startup(&[("user", USER), ("database", "main")]));
        proxy.wait_for_waiting(before + 1);
    }

    holder.cancel();

    assert_eq!(holder.read_ready(1).code(), "57014");
    assert!(proxy.client_with(&[("database", "pgweir")]).ask("show pools").errors().is_empty());
    drop(holder);
    let mut first = waiters.remove(0);
    first.finish_login().unwrap();
    assert_eq!(first.value("select 1"), "1");
}

#[test]
fn logins_that_wait_for_a_server_count_as_clients() {
    let postgres = Postgres::start();
    for limit in ["listen.max_clients = 2", "users.app.max_clients = 2"] {
        let changes = format!("pool = {{ size = 1, pool_mode = 'session' }}\n{limit}");
        let proxy = Proxy::start(&postgres, &changes);
        let holder = proxy.client();
        let mut waiter = proxy.connect();
        waiter.send(&startup(&[("user", USER), ("database", "main")]));
        proxy.wait_for_waiting(1);

        let error = proxy.try_client_with(&[]).unwrap_err();

        assert_eq!(error.code(), "53300", "{limit}");
        assert!(error.message().contains("max_clients"), "{error:?}");
        // Who gives up its login gives back its room.
        drop(waiter);
        proxy.wait_for_waiting(0);
        drop(holder);
        wait_until("there is room", || proxy.try_client_with(&[]).is_ok());
    }
}

/// P75: however many wait, and however slowly the host answers.
#[test]
fn no_more_than_connects_per_host_are_being_opened_at_once() {
    use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};
    use std::sync::{Arc, Mutex, mpsc};
    let (opening, most) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
    let (let_in, permits) = mpsc::channel::<()>();
    let permits = Mutex::new(permits);
    let (counted, highest) = (Arc::clone(&opening), Arc::clone(&most));
    let server = FakeServer::start(move |peer| {
        highest.fetch_max(counted.fetch_add(1, SeqCst) + 1, SeqCst);
        if permits.lock().unwrap().recv().is_err() {
            return;
        }
        counted.fetch_sub(1, SeqCst);
        peer.welcome();
        while peer.read().is_some() {}
    });
    let changes = "pool = { size = 10, pool_mode = 'session', connects_per_host = 3 }";
    let proxy = Proxy::before(&server.host(), changes);
    let mut waiters: Vec<_> = (0..10).map(|_| proxy.connect()).collect();
    for waiter in &mut waiters {
        waiter.send(&startup(&[("user", USER), ("database", "main")]));
    }

    for done in 0..10 {
        let begun = (done + 3).min(10);
        wait_until("as many as may be are being opened", || server.connections() >= begun);
        let_in.send(()).unwrap();
    }

    for waiter in &mut waiters {
        waiter.finish_login().unwrap();
    }
    assert_eq!(most.load(SeqCst), 3);
}

/// Clients that do not log in cannot take all the places, and do not keep theirs.
#[test]
fn clients_that_say_nothing_are_sent_away_after_login_timeout() {
    let postgres = Postgres::start();
    let config = "listen.max_unauthenticated = 2\nlisten.login_timeout = '200ms'";
    let proxy = Proxy::start(&postgres, config);
    let mut silent: Vec<_> = (0..4).map(|_| proxy.connect()).collect();

    assert_eq!(proxy.client().value("select 1"), "1");

    for client in &mut silent {
        assert!(client.read_fatal().message().contains("login_timeout"));
    }
}

#[test]
fn a_client_that_sends_one_byte_a_second_is_sent_away_after_login_timeout() {
    let proxy = Proxy::before("127.0.0.1:1", "listen.login_timeout = '200ms'");
    let mut client = proxy.connect();
    client.send(&[0, 0]);

    assert!(client.read_fatal().message().contains("login_timeout"));
}

#[test]
fn a_message_longer_than_max_message_is_54000() {
    let postgres = Postgres::start();
    let proxy = Proxy::start(&postgres, "pool.size = 1\nlisten.max_message = '64KiB'");
    let mut client = proxy.client();
    assert_eq!(client.ask(&format!("select length('{}')", "x".repeat(60_000))).values(), "60000");

    // Its head is enough.
    client.send(&[b'Q', 0, 2, 0, 0]);

    let error = client.read_fatal();
    assert_eq!(error.code(), "54000");
    assert_eq!(proxy.client().value("select 1"), "1");
}

/// A server is bounded alike, and its client told.
#[test]
fn a_row_longer_than_max_message_ends_the_session() {
    let postgres = Postgres::start();
    let proxy = Proxy::start(&postgres, "pool.size = 1\nlisten.max_message = '64KiB'");
    let mut client = proxy.client();
    client.send(&query("select repeat('x', 100000)"));

    let last = client.read_fatal();

    assert_eq!(last.code(), "54000");
    assert!(last.message().contains("max_message"), "{last:?}");
    assert_eq!(proxy.client().value("select 1"), "1");
}

#[test]
fn an_impossible_length_ends_the_session() {
    let postgres = Postgres::start();
    let proxy = Proxy::start(&postgres, ONE);
    for head in [[b'Q', 0xff, 0xff, 0xff, 0xff], [b'Q', 0x80, 0, 0, 0], [b'Q', 0, 0, 0, 3]] {
        let mut client = proxy.client();
        client.send(&head);

        assert_eq!(client.read_fatal().code(), "08P01");
    }
    assert_eq!(proxy.client().value("select 1"), "1");
}

/// As PostgreSQL does it, which reads one message after the other.
#[test]
fn what_came_before_an_impossible_length_is_answered() {
    let postgres = Postgres::start();
    let proxy = Proxy::start(&postgres, ONE);
    for front in [query("select 'a'; select 'b'"), extended("select 'a'", &[])] {
        let mut client = proxy.client();
        client.send(&[front, query("select 'last'"), vec![b'Q', 0, 0, 0, 3]].concat());

        let reply = client.read_to_end();

        assert!(reply.values().ends_with(" last"), "{reply:?}");
        assert_eq!(reply.code(), "08P01");
    }
    assert_eq!(proxy.client().value("select 1"), "1");
}

/// PostgreSQL would leave for it, and the client is the one who has to go.
#[test]
fn a_long_message_of_a_type_that_is_always_short_is_not_the_servers_end() {
    let postgres = Postgres::start();
    let proxy = Proxy::start(&postgres, ONE);
    let pid = proxy.client().pid();
    for tag in *b"DECSHcf" {
        let mut client = proxy.client();
        client.send(&message(tag, &[0; 10_001]));

        assert_eq!(client.read_fatal().code(), "08P01", "{}", char::from(tag));
    }
    let mut client = proxy.client();
    let longest = close_statement(&"n".repeat(9990));
    assert_eq!(client.exchange(&[longest, sync()].concat()).tags(), "3ZI");
    assert_eq!(client.pid(), pid);
}

/// P56: PostgreSQL looks at the type first.
#[test]
fn a_message_that_does_not_exist_is_refused_for_its_type_whatever_its_length() {
    let postgres = Postgres::start();
    let proxy = Proxy::start(&postgres, ONE);
    for front in [query("begin"), Vec::new()] {
        let mut client = proxy.client();
        client.send(&[front, vec![b'!', 0xff, 0xff, 0xff, 0xff]].concat());

        let error = client.read_fatal();

        assert_eq!(error.message(), "invalid frontend message type 33");
    }
}

#[test]
fn a_message_that_does_not_exist_ends_the_session() {
    let postgres = Postgres::start();
    let proxy = Proxy::start(&postgres, ONE);
    for bytes in [message(b'!', b""), message(b'p', b"password\0")] {
        let mut client = proxy.client();
        client.send(&bytes);

        assert_eq!(client.read_fatal().code(), "08P01", "{bytes:?}");
    }
    assert_eq!(proxy.client().value("select 1"), "1");
}

/// As PostgreSQL has it: an error in its turn, and the session goes on behind the next Sync.
#[test]
fn a_malformed_message_is_an_error_and_not_the_end() {
    let postgres = Postgres::start();
    let proxy = Proxy::start(&postgres, ONE);
    let mut client = proxy.client();
    let malformed = [
        message(b'P', b"no end"),
        message(b'B', b""),
        message(b'D', b"?x\0"),
        message(b'C', b"S"),
        message(b'H', b"x"),
    ];
    for bytes in malformed {
        let reply = client.exchange(&[bytes, sync()].concat());

        assert_eq!((reply.tags().as_str(), reply.code().as_str()), ("EZI", "08P01"));
    }
    assert_eq!(client.value("select 1"), "1");
}

/// P57: stepped over piece by piece, in both directions.
#[test]
fn a_row_of_64_megabytes_goes_through_in_bounded_memory() {
    const LEN: usize = 64 << 20;
    let server = FakeServer::start(|peer| {
        peer.welcome();
        while peer.read_to(b'Q').is_some() {
            let mut head = vec![b'D'];
            head.extend_from_slice(&u32::try_from(LEN + 10).unwrap().to_be_bytes());
            head.extend_from_slice(&[0, 1]);
            head.extend_from_slice(&u32::try_from(LEN).unwrap().to_be_bytes());
            peer.send_bytes(&head);
            let piece = [b'x'; 16 * 1024];
            for _ in 0..LEN / piece.len() {
                peer.send_bytes(&piece);
            }
            peer.complete("SELECT 1");
            peer.ready(b'I');
        }
    });
    let proxy = Proxy::before(&server.host(), ONE);
    let mut client = proxy.client();
    let before = resident_kib();

    client.send(&query("select big"));
    let mut left = 5 + 6 + LEN + (5 + 9) + 6;
    let mut buf = vec![0; 64 * 1024];
    let mut highest = 0;
    while left > 0 {
        let n = client.socket.read(&mut buf).unwrap();
        left -= n;
        highest = highest.max(resident_kib());
    }

    assert!(highest - before < 8 * 1024, "{} KiB more", highest - before);
}

/// P57, P74: what a slow client leaves unread is held back at the server.
#[test]
fn a_client_that_does_not_read_holds_back_its_server_and_nobody_else() {
    let postgres = Postgres::start();
    let proxy = Proxy::start(&postgres, "runtime.workers = 1\npool.size = 2");
    let (mut slow, mut other) = (proxy.client(), proxy.client());
    let before = resident_kib();
    slow.send(&query("select repeat('x', 1000) from generate_series(1, 200000)"));
    wait_until("the server waits for its client", || {
        let wait = "select count(*) from pg_stat_activity where wait_event = 'ClientWrite'";
        postgres.client().value(wait) == "1"
    });

    for _ in 0..50 {
        assert_eq!(other.value("select 1"), "1");
    }

    let more = resident_kib().saturating_sub(before);
    assert!(more < 8 * 1024, "{more} KiB more");
    assert_eq!(slow.read_ready(1).rows().len(), 200_000);
}

/// P57: the other direction, where the server does not read.
#[test]
fn a_server_that_does_not_read_holds_back_its_client() {
    let server = FakeServer::start(|peer| {
        peer.welcome();
        peer.read_to(b'Q');
        peer.send(b'G', &[0, 0, 0]);
        // It reads nothing more for as long as the client can write.
        park_timeout(Duration::from_secs(3));
    });
    let proxy = Proxy::before(&server.host(), ONE);
    let mut client = proxy.client();
    client.send(&query("copy t from stdin"));
    assert_eq!(client.read().tag, b'G');
    let before = resident_kib();
    client.socket.set_write_timeout(Duration::from_millis(300)).unwrap();
    let piece = message(b'd', &[b'x'; 16 * 1024]);

    let mut sent = 0;
    while client.try_send(&piece).is_ok() {
        sent += piece.len();
        assert!(sent < 256 << 20, "nothing holds the client back");
    }

    let more = resident_kib().saturating_sub(before);
    assert!(more < 8 * 1024, "{more} KiB more after {sent} bytes");
}

/// P74: nor does one whose server has gone, with more to tell it than it takes: others go on.
#[test]
fn who_does_not_read_and_has_lost_its_server_keeps_nobody_busy() {
    let server = FakeServer::start(|peer| {
        peer.welcome();
        while let Some(request) = peer.read_to(b'Q') {
            if request.body.starts_with(b"many") {
                peer.stream.set_write_timeout(Duration::from_millis(300)).unwrap();
                // As much as is taken, and the connection is closed.
                peer.send(b'D', &vec![b'x'; 64 << 20]);
                return;
            }
            peer.complete("SELECT 0");
            peer.ready(b'I');
        }
    });
    let proxy = Proxy::before(&server.host(), "runtime.workers = 1\npool.size = 2\n");
    let (mut slow, mut other) = (proxy.client(), proxy.client());
    slow.send(&query("many"));
    slow.read_byte();
    // Sent on until nothing can be written to the server, and longer than its last words are waited for.
    for _ in 0..20 {
        slow.send(&query("more"));
        park_timeout(Duration::from_millis(100));
    }

    let before = cpu_ticks();
    park_timeout(Duration::from_millis(500));
    let used = cpu_ticks() - before;
    assert!(used < 15, "{used} ticks of CPU while nothing can be done");
    assert_eq!(other.ask("select").tags(), "CZI");
}

/// P53: many small messages in one piece, and one that is cut by it.
#[test]
fn thousands_of_requests_in_one_write_are_answered() {
    let postgres = Postgres::start();
    let proxy = Proxy::start(&postgres, ONE);
    let mut client = proxy.client();

    client.send(&extended("select 1", &[]).repeat(3000));

    assert_eq!(client.read_ready(3000).rows().len(), 3000);
}

/// P94: a million requests without a look at the answers. The client is held back, nothing is
/// refused, memory is bounded, and when it reads, everything is there.
#[test]
fn a_million_requests_whose_answers_nobody_reads_are_all_answered_in_the_end() {
    const COUNT: usize = 1_000_000;
    let server = FakeServer::start(|peer| {
        peer.welcome();
        let mut answers = Vec::new();
        while peer.read().is_some() {
            answers.extend_from_slice(b"I\0\0\0\x04Z\0\0\0\x05I");
            if peer.has_read_all() || answers.len() > 8000 {
                peer.send_bytes(&answers);
                answers.clear();
            }
        }
    });
    let proxy = Proxy::before(&server.host(), ONE);
    let (client, mut other) = (proxy.client(), proxy.client_with(&[("database", "main")]));
    let mut reader = client.socket.try_clone().unwrap();
    let mut writer = client.socket.try_clone().unwrap();
    let before = resident_kib();
    let requests = query("").repeat(1000);
    let written = std::sync::Arc::new(std::sync::atomic::AtomicUsize::new(0));
    let count = std::sync::Arc::clone(&written);
    let writing = std::thread::spawn(move || {
        for _ in 0..COUNT / 1000 {
            std::io::Write::write_all(&mut writer, &requests).unwrap();
            count.fetch_add(1000, std::sync::atomic::Ordering::Relaxed);
        }
    });
    // Until it is held back, or through.
    let mut last = 0;
    wait_until("nothing moves any more", || {
        park_timeout(Duration::from_millis(200));
        let now = written.load(std::sync::atomic::Ordering::Relaxed);
        std::mem::replace(&mut last, now) == now && now > 0
    });
    let more = resident_kib().saturating_sub(before);
    assert!(more < 16 * 1024, "{more} KiB more behind {last} requests");

    let mut left = COUNT * 11;
    let mut buf = vec![0; 64 * 1024];
    while left > 0 {
        left -= reader.read(&mut buf).unwrap();
    }
    writing.join().unwrap();
    drop(client);
    assert_eq!(other.ask("").tags(), "IZI");
}

/// P57, P74: a client that reads slowly, for a while, and then goes.
#[test]
fn a_client_that_reads_slowly_costs_one_server_and_little_memory() {
    let postgres = Postgres::start();
    let proxy = Proxy::start(&postgres, "runtime.workers = 1\npool.size = 2");
    let (mut slow, mut other) = (proxy.client(), proxy.client());
    let before = resident_kib();
    slow.send(&query("select repeat('x', 1000) from generate_series(1, 5000000)"));
    let mut buf = vec![0; 64 * 1024];
    let mut highest = 0;
    for round in 0..100 {
        // 1 MB in a second, of 5 GB.
        slow.socket.read_exact(&mut buf).unwrap();
        park_timeout(Duration::from_millis(64));
        if round % 10 == 0 {
            assert_eq!(other.value("select 1"), "1");
            proxy.wait_for_pool("it holds one server", |pool| pool.servers.active == 1);
            highest = highest.max(resident_kib());
        }
    }
    let more = highest.saturating_sub(before);
    assert!(more < 8 * 1024, "{more} KiB more");

    slow.vanish();

    proxy.wait_for_pool("its server is free", |pool| pool.servers.active == 0);
    wait_until("its backend is gone", || postgres.connections() <= 2);
}

/// What it said before is under way, and ends with it.
#[test]
fn a_client_that_broke_the_protocol_and_is_gone_leaves_its_server() {
    let postgres = Postgres::start();
    let proxy = Proxy::start(&postgres, ONE);
    let (mut client, mut other) = (proxy.client(), proxy.client());
    client.send(&[&query("select pg_sleep(100)")[..], b"Q\xff\xff\xff\xff"].concat());
    proxy.wait_for_pool("the query runs", |pool| pool.servers.active == 1);

    client.vanish();

    assert_eq!(other.value("select 'next'"), "next");
}

/// What is still to come of it would reset a connection that is closed, and what was said last be lost.
#[test]
fn a_goodbye_is_heard_to_its_end() {
    let postgres = Postgres::start();
    let proxy = Proxy::start(&postgres, ONE);
    let goodbye = message(b'X', &[b'x'; 9000]);
    let (front, rest) = goodbye.split_at(1000);
    for (ask, says) in [(&[][..], ""), (&query("select repeat('wide', 30000)"), "TDCZI")] {
        let mut client = proxy.client();
        client.send(&[ask, front].concat());
        if !ask.is_empty() {
            assert_eq!(client.read_to(b'Z').tags(), says);
        }
        client.assert_silent();
        client.send(rest);
        assert_eq!(client.read_to_end().tags(), "");
    }
}

/// Who sends what breaks the protocol, and much behind it, hears all that it was told before.
#[test]
fn what_a_client_still_sends_does_not_cost_it_what_it_was_told() {
    let postgres = Postgres::start();
    let proxy = Proxy::start(&postgres, ONE);
    for _ in 0..20 {
        let mut client = proxy.client();
        let ask = query("select repeat('wide', 30000)");
        client.send(&[&ask[..], b"Q\xff\xff\xff\xff"].concat());
        let more = vec![b'x'; 100_000];
        // It may be over by then.
        let _told = client.try_send(&more);
        park_timeout(Duration::from_millis(5));
        let _told = client.try_send(&more);
        assert_eq!(client.read_to_end().tags(), "TDCZIE");
    }
}

/// P56: whatever fails, the session goes on as on its first day.
#[test]
fn ten_thousand_failing_pipelines_leave_nothing_behind() {
    let postgres = Postgres::start();
    let proxy = Proxy::start(&postgres, ONE);
    let mut client = proxy.client();
    let failing = [extended("select 1 / 0", &[]), extended("selec", &[])].concat().repeat(50);
    client.send(&failing);
    client.read_ready(100);
    let before = resident_kib();
    for _ in 0..100 {
        client.send(&failing);
        assert_eq!(client.read_ready(100).errors().len(), 100);
    }
    assert!(resident_kib().saturating_sub(before) < 4 * 1024);
    assert_eq!(client.exchange(&extended("select 'well'", &[])).values(), "well");
    assert_eq!(proxy.pool().servers.total(), 1);
}

/// All at once: never one more than there is room for, and never one less.
#[test]
fn clients_that_log_in_at_once_are_let_in_up_to_the_limit() {
    let postgres = Postgres::start();
    for limit in ["listen.max_clients = 5", "[users.app]\nmax_clients = 5"] {
        let proxy = Proxy::start(&postgres, limit);
        let outcomes: Vec<_> = std::thread::scope(|scope| {
            let logins: Vec<_> =
                (0..40).map(|_| scope.spawn(|| proxy.try_client_with(&[]))).collect();
            // Whoever is in stays until all have tried.
            logins.into_iter().map(|login| login.join().unwrap()).collect()
        });

        let refused: Vec<_> =
            outcomes.iter().filter_map(|outcome| outcome.as_ref().err()).collect();
        assert_eq!(refused.len(), 35, "{limit}");
        assert!(refused.iter().all(|error| error.code() == "53300"), "{refused:?}");
        drop(outcomes);
        let again = || (0..5).map(|_| proxy.try_client_with(&[])).collect::<Result<Vec<_>, _>>();
        wait_until("there is room for five again", || again().is_ok());
    }
}

/// As PostgreSQL does, a client that says that it will send nothing more is taken to be gone.
#[test]
fn a_client_that_closes_its_half_of_the_connection_is_gone() {
    let postgres = Postgres::start();
    let proxy = Proxy::start(&postgres, ONE);
    let mut client = proxy.client();
    client.value("create table undone (n int)");
    client.ask("begin");
    client.ask("insert into undone values (1)");

    client.socket.close_write().unwrap();

    assert_eq!(client.try_read(), None);
    assert_eq!(proxy.client().value("select count(*) from undone"), "0");
}

/// Nothing to send and nothing to take: Flushes of nothing do not hold a server.
#[test]
fn a_client_that_sends_flushes_alone_holds_no_server() {
    let postgres = Postgres::start();
    let proxy = Proxy::start(&postgres, ONE);
    let (mut client, mut other) = (proxy.client(), proxy.client());
    client.send(&flush().repeat(1000));

    assert_eq!(other.value("select 1"), "1");
    assert_eq!(client.value("select 2"), "2");
}

/// P74: what a client is told last arrives whole behind all that it has not read yet.
#[test]
fn a_client_that_reads_late_reads_everything_to_the_last_word() {
    let postgres = Postgres::start();
    let proxy = Proxy::start(&postgres, ONE);
    let mut client = proxy.client();
    let notices = "do $$ begin for i in 1..100000 loop \
                   raise notice '% %', i, repeat('x', 1000); end loop; end $$";
    client.send(&query(notices));
    let (mut sent, mut looks) = (0, 0);
    wait_until("every socket on the way is full", || {
        let before = std::mem::replace(&mut sent, proxy.pool().traffic.bytes_sent.value());
        looks = if sent > 0 && sent == before { looks + 1 } else { 0 };
        looks == 50
    });
    assert_eq!(proxy.pool().servers.active, 1);

    client.send(b"Q\0\0\0\x02");

    let reply = client.read_to_end();
    let (last, answer) = reply.0.split_last().unwrap();
    assert_eq!((last.tag, last.fields().code()), (b'E', "08P01"));
    let (notices, end) = answer.split_at(answer.len() - 2);
    assert_eq!(end.iter().map(|message| message.tag).collect::<Vec<_>>(), b"CZ");
    assert_eq!(notices.iter().filter(|message| message.tag == b'N').count(), 100_000);
}

/// P74: its end is noticed whatever keeps its next message back.
#[test]
fn a_client_that_vanishes_with_messages_held_back_leaves_its_server() {
    let postgres = Postgres::start();
    let proxy = Proxy::start(&postgres, ONE);
    let prepared = [parse("s", "select 1"), sync()].concat();
    let cases = [
        ("a message that waits for answers", prepared, query("deallocate s")),
        ("a pipeline deeper than may be", Vec::new(), query("").repeat(12_000)),
    ];
    for (what, first, held) in cases {
        let mut client = proxy.client();
        client.send(&[first, query("select 'there'")].concat());
        client.read_to(b'D');
        client.send(&[query("select pg_sleep(60)"), held].concat());
        wait_until("the statement runs", || {
            let running = "select count(*) from pg_stat_activity \
                           where state = 'active' and query = 'select pg_sleep(60)'";
            postgres.client().value(running) == "1"
        });

        client.vanish();

        proxy.wait_for_pool(what, |pool| pool.servers.total() == 0);
    }
}

/// P74: as deep as it may be, and no deeper, with nothing lost.
#[test]
fn a_pipeline_deeper_than_may_be_is_answered_to_its_end() {
    let postgres = Postgres::start();
    let proxy = Proxy::start(&postgres, ONE);
    let mut client = proxy.client();
    client.send(&[query("select pg_sleep(0.3)"), query("").repeat(25_000)].concat());
    client.send(&query("select 'last'"));

    client.read_ready(25_001);
    assert_eq!(client.read_ready(1).values(), "last");
}

/// What was sent before a Terminate is done, as PostgreSQL does it, even if it had to wait.
#[test]
fn what_a_client_said_before_its_goodbye_is_done_behind_a_wait() {
    let postgres = Postgres::start();
    let mut owner = postgres.client();
    let count = "select count(*) from t";

    let proxy = Proxy::start(&postgres, "pool = { size = 1, max_overflow = 0 }");
    let (mut holder, mut leaver) = (proxy.client(), proxy.client());
    holder.ask("create table t (n int)");
    holder.ask("begin; select 1");
    let inserts = [query("insert into t values (1)"), extended("insert into t values (2)", &[])];
    leaver.send(&[inserts.concat(), terminate()].concat());
    drop(leaver);
    proxy.wait_for_waiting(1);
    holder.ask("commit");
    wait_until("both are done", || owner.value(count) == "2");
    wait_until("its session is over", || proxy.observe().process().clients_connected == 1);

    let proxy = Proxy::start(&postgres, "pool = { size = 1, pre_ping_idle = '0s' }");
    proxy.client().value("select 1");
    for _ in 0..10 {
        let mut leaver = proxy.client();
        leaver.send(&[query("insert into t values (3)"), terminate()].concat());
    }
    wait_until("all are done", || owner.value(count) == "12");
}

/// Its wait ends like any other's.
#[test]
fn a_client_that_has_said_goodbye_waits_no_longer_than_others() {
    let postgres = Postgres::start();
    let changes = "pool = { size = 1, max_overflow = 0, timeout = '300ms', wait_notice = '50ms' }";
    let proxy = Proxy::start(&postgres, changes);
    let (mut holder, mut leaver) = (proxy.client(), proxy.client());
    holder.ask("begin");

    leaver.send(&[query("select 1"), terminate()].concat());
    drop(leaver);

    wait_until("its session is over", || proxy.observe().process().clients_connected == 1);
    assert_eq!(holder.ask("commit").status(), Some('I'));
}

/// One text for the process, however many have prepared it.
#[test]
fn many_clients_with_the_same_long_statement_share_one_text() {
    let postgres = Postgres::start();
    let proxy = Proxy::start(&postgres, ONE);
    let text = format!("select 1 /* {} */", "x".repeat(100_000));
    let mut clients: Vec<_> = (0..200).map(|_| proxy.client()).collect();
    let prepared = [parse("s", &text), sync()].concat();
    assert_eq!(clients[0].exchange(&prepared).tags(), "1ZI");
    let before = resident_kib();

    for client in &mut clients {
        client.exchange(&prepared);
    }

    let more = resident_kib().saturating_sub(before);
    assert!(more < 8 * 1024, "{more} KiB more");
}
