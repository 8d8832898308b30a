//! The grammar by example, and what it must not do by chance.

use proptest::prelude::*;

use super::*;

fn one(sql: &str) -> Result<Command, Refusal> {
    let commands = commands(sql, 1)?;
    Ok(*commands.first().unwrap())
}

#[test]
fn a_show_is_found_in_any_dress() {
    for sql in [
        "SHOW POOLS",
        "show pools;",
        "  Show\n\tpOOls ;; ",
        "/* hi */ show -- there\n pools",
        "SHOW \"pools\"",
        "SELECT pools",
    ] {
        assert_eq!(one(sql), Ok(Command::Show(Show::Pools)), "{sql}");
    }
}

#[test]
fn what_drivers_send_at_connect_is_answered() {
    let accept = [
        "SET client_encoding TO 'UTF8'",
        "SET extra_float_digits = 3",
        "SET SESSION CHARACTERISTICS AS TRANSACTION ISOLATION LEVEL READ COMMITTED",
        "SET application_name = 'DBeaver 24'",
        "SET datestyle to iso, mdy",
        "SET NAMES 'utf8'",
        "set time zone 'UTC'",
        "set session timezone to 'Europe/Rome'",
    ];
    for sql in accept {
        assert_eq!(one(sql), Ok(Command::Accept("SET")), "{sql}");
    }
    assert_eq!(one("BEGIN"), Ok(Command::Begin));
    assert_eq!(one("BEGIN ISOLATION LEVEL READ COMMITTED"), Ok(Command::Begin));
    assert_eq!(one("START TRANSACTION READ ONLY"), Ok(Command::Begin));
    assert_eq!(one("COMMIT"), Ok(Command::Commit));
    assert_eq!(one("ROLLBACK"), Ok(Command::Rollback));
    assert_eq!(one("SELECT 1"), Ok(Command::Show(Show::One)));
    assert_eq!(one("select pg_catalog.version()"), Ok(Command::Show(Show::ServerVersion)));
    assert!(matches!(one("SHOW transaction isolation level"), Ok(Command::Show(_))));
    assert!(matches!(one("show standard_conforming_strings"), Ok(Command::Show(_))));
    let reset = "SELECT pg_advisory_unlock_all();\nCLOSE ALL;\nUNLISTEN *;\nRESET ALL;";
    assert_eq!(commands(reset, 16).unwrap().len(), 4);
}

#[test]
fn commands_that_come_later_are_known_by_name() {
    assert_eq!(one("PAUSE markets;"), Ok(Command::Control("PAUSE")));
    assert_eq!(one("kill_client 12"), Ok(Command::Control("KILL_CLIENT")));
    assert_eq!(one("SET query_timeout = 5"), Ok(Command::Control("SET")));
    assert_eq!(one("SHOW FDS"), Err(Refusal::NotBuilt { command: "SHOW FDS".into() }));
}

#[test]
fn anything_else_is_refused() {
    for sql in [
        "SELECT 2",
        "SHOW",
        "SHOW POOLS now",
        "SHOW nothing",
        "DROP TABLE x",
        "SET",
        "(",
        "ROLLBACK TO a",
        "select version now",
        "show 'x",
    ] {
        let refused = one(sql).unwrap_err();
        assert!(matches!(refused, Refusal::UnknownCommand { .. } | Refusal::Unterminated), "{sql}");
    }
}

#[test]
fn several_commands_are_bounded() {
    assert_eq!(commands(";;", 1), Ok(Vec::new()));
    assert_eq!(commands("SELECT 1; SHOW POOLS", 2).unwrap().len(), 2);
    let limit = 1;
    assert_eq!(
        commands("SELECT 1; SHOW POOLS", limit),
        Err(Refusal::TooMany { what: "commands in a query", limit })
    );
}

#[test]
fn a_semicolon_in_quotes_ends_nothing() {
    assert_eq!(commands("SET application_name = 'a;b''; c'", 1).unwrap().len(), 1);
}

proptest! {
    /// Whatever the text, there is an answer, and an error that quotes it is short.
    #[test]
    fn any_text_is_answered(sql in "\\PC{0,200}|(show|select|set|'|\"|;|--|/\\*| |[a-z(]){0,40}") {
        if let Err(refusal) = commands(&sql, 4) {
            prop_assert!(refusal.to_string().chars().count() < 100);
        }
    }
}
