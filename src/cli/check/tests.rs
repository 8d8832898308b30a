//! What `check` prints, and what it warns of.

use std::path::Path;

use super::*;
use crate::config::{MapEnvironment, parse};

fn config(text: &str) -> Config {
    let env = MapEnvironment::default().with_file("users.txt", "");
    parse(text, Path::new("f"), &env).unwrap_or_else(|errors| panic!("{errors}"))
}

fn secrets(users: &[(&str, SecretKind)]) -> Vec<(String, SecretKind)> {
    users.iter().map(|(user, kind)| ((*user).to_owned(), *kind)).collect()
}

fn warnings(text: &str, users: &[(&str, SecretKind)]) -> Vec<String> {
    advice::warnings(&config(text), &secrets(users))
}

/// One user a word, as `run` would get them from a real users file.
fn words(text: &str) -> Result<Vec<(String, SecretKind)>, Vec<String>> {
    if text.contains('!') {
        return Err(vec!["line 1: no".to_owned(), "line 2: nor this".to_owned()]);
    }
    Ok(text.split_whitespace().map(|user| (user.to_owned(), SecretKind::Plain)).collect())
}

#[test]
fn the_summary_shows_domains_and_what_the_caps_add_up_to() {
    let config = config(
        "[pool]\nsize = 10\nmax_overflow = 20\n\
         [domains.internals]\ndatabase = \"markets\"\nhosts = [\"db\"]\nuser = \"pg\"\n\
         password = \"hunter2\"\nmax_connections = 60\n\
         [domains.own]\nhosts = [\"db\"]\npool = { size = 5, max_overflow = 0, min = 1 }\n\
         [hosts.db]\nmax_connections = 38\n[users.b]\nmax_connections = 2",
    );

    let text = summary(&config, &secrets(&[("a", SecretKind::Plain), ("b", SecretKind::Plain)]));

    assert_eq!(
        text,
        "domain     hosts    database  user          mode         min  size  overflow  cap\n\
         internals  db:5432  markets   pg            transaction  0    10    20        60\n\
         own        db:5432  own       the client's  transaction  1    5     0         -\n\
         \n\
         Server connections that may be open at once, besides cancel requests:\n  \
         db:5432: 37 (internals 30, own 7, the host's max_connections 38)\n"
    );
    assert!(!text.contains("hunter2"));
}

#[test]
fn a_bound_is_only_promised_where_there_is_one() {
    let most = |text: &str| {
        let users = secrets(&[("a", SecretKind::Plain)]);
        host_bounds(&config(text), &users)[0].1.to_string()
    };

    assert_eq!(most("[domains.\"*\"]\nhosts = [\"db\"]\nuser = \"u\""), "no bound (* no bound)");
    assert_eq!(most("[domains.\"*\"]\nhosts = [\"db\"]\nmax_connections = 9"), "9 (* 9)");
    assert_eq!(
        most("[domains.\"*\"]\nhosts = [\"db\"]\n[hosts.db]\nmax_connections = 9"),
        "9 (* no bound, the host's max_connections 9)"
    );
    assert_eq!(most("[domains.a]\nhosts = [\"db\"]"), "30 (a 30)");
    assert_eq!(
        most("[auth]\nmethod = \"trust\"\n[domains.a]\nhosts = [\"db\"]"),
        "no bound (a no bound)"
    );
}

#[test]
fn users_that_could_not_log_in_to_a_server_are_named() {
    use SecretKind::{Md5, Plain, Scram};
    let own = "[domains.a]\nhosts = [\"db\"]";

    assert!(warnings(own, &[("p", Plain)]).is_empty());
    assert_eq!(
        warnings(own, &[("p", Plain), ("m", Md5), ("s", Scram)]),
        [
            "domain \"a\": no login to a server that asks for a password for \"s\": users_file has \
             a SCRAM verifier, which cannot log in; give the plain secret, or the domain a user",
            "domain \"a\": login only to a server that asks for md5 for \"m\": users_file has an \
             md5 hash; give the plain secret, or the domain a user",
        ]
    );
    let many: Vec<_> = ["a", "b", "c", "d", "e", "f", "g"].map(|user| (user, Scram)).to_vec();
    assert!(warnings(own, &many)[0].contains("\"d\", \"e\" and 2 more: "));

    let forced = "[domains.a]\nhosts = [\"db\"]\nuser = \"u\"";
    assert!(warnings(&format!("{forced}\npassword = \"x\""), &[("s", Scram)]).is_empty());
    assert!(warnings(forced, &[("u", Plain)]).is_empty());
    assert_eq!(
        warnings(forced, &[("u", Scram)]),
        ["domain \"a\": user \"u\" has no password: only a server that asks for none lets it in"]
    );
}

#[test]
fn settings_that_fight_are_named() {
    let domain = "[domains.a]\nhosts = [\"db\"]\nuser = \"u\"\npassword = \"x\"\n";
    for (text, warning) in [
        (
            "max_connections = 25",
            "domain \"a\": max_connections, 25, is less than one pool may want: size 20 + \
             max_overflow 10",
        ),
        (
            "pool = { recycle = \"5m\" }",
            "domain \"a\": no server gets as old as idle_timeout, 10m: recycle is 5m",
        ),
        (
            "pool = { query_timeout = \"2m\", transaction_timeout = \"1m\" }",
            "domain \"a\": transaction_timeout, 1m, ends every query before query_timeout, 2m",
        ),
        (
            "pool = { statement_timeout = \"1m\" }\nserver_options = { statement_timeout = 9 }",
            "domain \"a\": statement_timeout is both in pool and in server_options",
        ),
        ("[hosts.other]", "hosts.\"other:5432\": no domain has this host"),
        (
            "pool = { min = 5 }\n[hosts.db]\nmax_connections = 4",
            "hosts.\"db:5432\": max_connections, 4, is less than the sum of its domains' min, 5",
        ),
        ("[users.nobody]\nmax_clients = 3", "users.nobody: users_file has no such user"),
        (
            "[users.u]\nmax_connections = 3\npool = { size = 4 }",
            "users.u: max_connections, 3, is less than size, 4",
        ),
        (
            "[auth]\nmethod = \"trust\"\n[listen]\naddresses = [\"[::1]:1\", \"0.0.0.0:6432\"]",
            "listen: method \"trust\" lets everybody in who reaches 0.0.0.0:6432",
        ),
        (
            "database = \"b\"\n[domains.b]\nhosts = [\"db\"]\ndatabase = \"c\"",
            "domain \"a\": clients that name its database, \"b\", get the domain of that name, \
             which is the database \"c\"",
        ),
    ] {
        assert_eq!(warnings(&format!("{domain}{text}"), &[]), [warning], "{text}");
    }
    assert!(warnings(domain, &[]).is_empty());
}

#[test]
fn problems_of_the_file_and_of_the_users_file_are_errors() {
    let good = "[domains.a]\nhosts = [\"db\"]";
    let run = |text: &str, users: &str| {
        let env = MapEnvironment::default().with_file("f.toml", text).with_file("users.txt", users);
        examine(Path::new("f.toml"), &env, &words)
    };

    assert!(run(good, "a b").unwrap().starts_with("f.toml: good\n\ndomain "));
    assert_eq!(
        run("[pool]\nszie = 1", "").unwrap_err(),
        "f.toml: domains: at least one [domains.NAME] is needed\n\
         f.toml:2: pool.szie: unknown key; did you mean \"size\"?\n"
    );
    assert_eq!(run(good, "!").unwrap_err(), "users.txt: line 1: no\nusers.txt: line 2: nor this\n");
}

#[test]
fn the_exit_code_tells() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("pgweir.toml");
    std::fs::write(&file, "[pool]\nszie = 1").unwrap();
    let refused = run(&file, &words);
    std::fs::write(&file, "[auth]\nmethod = \"trust\"\n[domains.a]\nhosts = [\"db\"]").unwrap();
    let accepted = run(&file, &words);

    let debug = |code| format!("{code:?}");
    assert_eq!(debug(refused), debug(ExitCode::from(1)));
    assert_eq!(debug(accepted), debug(ExitCode::SUCCESS));
}
