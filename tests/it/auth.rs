//! Logins: of clients at pgweir, and of pgweir at PostgreSQL.

use std::io::Write;

use crate::support::fake_server::FakeServer;
use crate::support::messages::{message, query, startup};
use crate::support::password::{Asked, log_in};
use crate::support::postgres::Postgres;
use crate::support::proxy::Proxy;
use crate::support::reply::Fields;
use crate::support::wait::wait_until;

/// Secrets as `users_file` may hold them: plain, md5 of `md5 secret`, and SCRAM verifiers.
fn users_file() -> tempfile::NamedTempFile {
    let mut file = tempfile::NamedTempFile::new().unwrap();
    let text = "\"app_plain\" \"plain secret\"\n\
                \"app_scram\" \"scram secret\"\n";
    file.write_all(text.as_bytes()).unwrap();
    let digest = postgres_protocol::password::md5(b"md5 secret", "app_md5");
    writeln!(file, "\"app_md5\" \"{digest}\"").unwrap();
    let verifier = postgres_protocol::password::scram_sha_256(b"pencil");
    writeln!(file, "\"verified\" \"{verifier}\"").unwrap();
    file
}

fn config(method: &str, users: &tempfile::NamedTempFile) -> String {
    let path = users.path().display();
    format!("auth.method = '{method}'\nauth.users_file = '{path}'")
}

fn try_log_in(proxy: &Proxy, user: &str, password: &str) -> Result<Asked, Fields> {
    let parameters = [("user", user), ("database", "main")];
    let (mut client, asked) = log_in(&proxy.address, &parameters, password)?;
    assert_eq!(client.value("select 1"), "1");
    Ok(asked)
}

/// P18: each method with each kind of secret that it can be proved with.
#[test]
fn each_method_takes_the_secrets_that_it_can_check() {
    let postgres = Postgres::start();
    let users = users_file();
    let (md5, plain, scram) = (Asked::Md5, Asked::Plain, Asked::Scram);
    let cases = [
        ("plain", "app_plain", "plain secret", plain),
        ("plain", "app_md5", "md5 secret", plain),
        ("plain", "verified", "pencil", plain),
        ("md5", "app_plain", "plain secret", md5),
        ("md5", "app_md5", "md5 secret", md5),
        // As PostgreSQL does: a verifier can only be proved by SCRAM, whatever the method says.
        ("md5", "verified", "pencil", scram),
        ("scram-sha-256", "app_plain", "plain secret", scram),
        ("scram-sha-256", "verified", "pencil", scram),
    ];
    for method in ["plain", "md5", "scram-sha-256"] {
        let proxy = Proxy::start(&postgres, &config(method, &users));
        for (_, user, password, asked) in cases.iter().filter(|case| case.0 == method) {
            assert_eq!(try_log_in(&proxy, user, password), Ok(*asked), "{method} {user}");
        }
    }
}

/// psql goes at the question to ask its user, and comes back with the password.
#[test]
fn a_client_that_goes_at_the_question_for_its_password_has_not_failed_to_log_in() {
    let users = users_file();
    let proxy = Proxy::before("127.0.0.1:1", &config("scram-sha-256", &users));
    let mut client = proxy.connect();
    client.send(&startup(&[("user", "app_plain"), ("database", "main")]));
    assert_eq!(client.read().tag, b'R');

    drop(client);

    wait_until("it is gone", || proxy.observe().process().clients_connected == 0);
    assert_eq!(proxy.observe().process().stats.login_failures.value(), 0);
}

#[test]
fn a_password_and_a_query_right_behind_a_startup_packet_are_read_in_their_order() {
    let postgres = Postgres::start();
    let users = users_file();
    let proxy = Proxy::start(&postgres, &config("plain", &users));
    let mut client = proxy.connect();
    let login = startup(&[("user", "app_plain"), ("database", "main")]);
    let password = message(b'p', b"plain secret\0");

    client.send(&[login, password, query("select 42")].concat());

    client.finish_login().unwrap();
    assert_eq!(client.read_ready(1).values(), "42");
}

/// P14: who guesses learns neither which users nor which databases there are.
#[test]
fn an_unknown_user_a_wrong_password_and_an_unknown_database_look_the_same() {
    let users = users_file();
    for method in ["plain", "md5", "scram-sha-256"] {
        let proxy = Proxy::before("127.0.0.1:1", &config(method, &users));
        let refuse = |user: &str, database: &str| {
            let parameters = [("user", user), ("database", database)];
            let refused = log_in(&proxy.address, &parameters, "wrong").unwrap_err();
            assert_eq!(refused.severity(), "FATAL");
            (refused.code().to_owned(), refused.message().replace(user, "USER"))
        };

        let wrong = refuse("app_plain", "main");
        assert_eq!(wrong.0, "28P01");
        assert_eq!(refuse("nobody_here", "main"), wrong, "{method}");
        assert_eq!(refuse("app_plain", "nowhere"), wrong, "{method}");
    }
}

/// An md5 hash cannot be proved by SCRAM.
#[test]
fn a_secret_that_the_method_cannot_check_looks_like_a_wrong_password() {
    let users = users_file();
    let proxy = Proxy::before("127.0.0.1:1", &config("scram-sha-256", &users));

    let refused = try_log_in(&proxy, "app_md5", "md5 secret").unwrap_err();

    assert_eq!(refused.code(), "28P01");
}

/// P1: lengths inside SCRAM messages that cannot be true.
#[test]
fn an_impossible_length_in_a_scram_message_is_refused() {
    let users = users_file();
    let proxy = Proxy::before("127.0.0.1:1", &config("scram-sha-256", &users));
    for len in [0x7fff_ffff_u32, 0xffff_fffe, 1_000] {
        let mut client = proxy.connect();
        client.send(&startup(&[("user", "app_plain"), ("database", "main")]));
        assert_eq!(client.read().tag, b'R');
        let body = [&b"SCRAM-SHA-256\0"[..], &len.to_be_bytes(), b"n,,n=,r=abc"].concat();

        client.send(&message(b'p', &body));

        assert_eq!(client.read_fatal().code(), "08P01", "{len}");
    }
}

/// P9, P10: a message where a password should be, and a password of a megabyte.
#[test]
fn what_is_no_password_ends_the_login() {
    let users = users_file();
    let proxy = Proxy::before("127.0.0.1:1", &config("plain", &users));
    for bytes in [message(b'Q', b"select 1\0"), message(b'p', &vec![b'x'; 1 << 20])] {
        let mut client = proxy.connect();
        client.send(&startup(&[("user", "app_plain"), ("database", "main")]));
        assert_eq!(client.read().tag, b'R');

        // It may be refused before all of it was taken.
        drop(client.try_send(&bytes));

        assert_eq!(client.read_fatal().code(), "08P01");
    }
}

/// pgweir proves itself to PostgreSQL in each way that a server may ask for.
#[test]
fn servers_are_logged_in_to_by_trust_password_md5_and_scram() {
    let postgres = Postgres::start();
    for (user, password) in
        [("app_plain", "plain secret"), ("app_md5", "md5 secret"), ("app_scram", "scram secret")]
    {
        let config = format!(
            "domains.main.user = '{user}'\ndomains.main.password = '{password}'\npool.size = 1"
        );
        let proxy = Proxy::start(&postgres, &config);

        assert_eq!(proxy.client().value("select current_user"), user);
    }
}

/// Without a user of the domain's own each client is its own user on the server, by the plain
/// secret of the users file.
#[test]
fn clients_keep_their_own_user_where_the_domain_names_none() {
    let postgres = Postgres::start();
    let users = users_file();
    let host = postgres.host();
    let text = format!(
        "{}\n[domains.own]\ndatabase = 'other_db'\nhosts = ['{host}']",
        config("scram-sha-256", &users)
    );
    let proxy = Proxy::start(&postgres, &text);
    for (user, password) in [("app_scram", "scram secret"), ("app_plain", "plain secret")] {
        let parameters = [("user", user), ("database", "own")];

        let (mut client, _) = log_in(&proxy.address, &parameters, password).unwrap();

        assert_eq!(client.value("select current_user"), user);
    }
}

/// P20: the server's words reach the client, at once.
#[test]
fn a_wrong_secret_of_the_domain_is_told_at_once() {
    let postgres = Postgres::start();
    let config = "domains.main.user = 'app_scram'\ndomains.main.password = 'wrong'";
    let proxy = Proxy::start(&postgres, config);
    let begun = tokio::time::Instant::now();

    let refused = proxy.try_client_with(&[]).unwrap_err();

    assert_eq!((refused.severity(), refused.code()), ("FATAL", "28P01"), "{refused:?}");
    assert!(begun.elapsed().as_secs() < 5, "{:?}", begun.elapsed());
}

/// P20: whoever asks meanwhile is told what is known. Four attempts (`connects_per_host`) may be made before
/// anything is; the shortest waits from there are 10, 20, 40, 80 ms, and then 100 ms.
#[test]
fn a_wrong_secret_of_the_domain_is_tried_at_the_pace_of_the_backoff() {
    const CLIENTS: usize = 8;
    const LOGINS: usize = 400;
    let server = FakeServer::start(|peer| {
        peer.error("FATAL", "28P01", "password authentication failed");
    });
    let proxy = Proxy::before(&server.host(), "pool.size = 8");
    let begun = tokio::time::Instant::now();

    std::thread::scope(|scope| {
        for _ in 0..CLIENTS {
            scope.spawn(|| {
                for _ in 0..LOGINS {
                    assert_eq!(proxy.try_client_with(&[]).unwrap_err().code(), "28P01");
                }
            });
        }
    });

    let most = 4 + 5 + begun.elapsed().as_millis() as usize / 100;
    assert!(server.connections() <= most, "{} in {:?}", server.connections(), begun.elapsed());
}
