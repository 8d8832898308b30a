//! Whom a statement about roles, databases or the server as a whole concerns.

use super::lexer::Reading;
use super::words::{Word, statements};

/// What a statement concerns besides its own session. `None` stands for a name that the text does not
/// tell: it may be any.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Affected {
    /// ALTER ROLE, DROP ROLE.
    Role(Option<String>),
    /// ALTER ROLE of the user who says it.
    OwnRole,
    /// ALTER DATABASE.
    Database(Option<String>),
    /// DROP DATABASE, a template of CREATE DATABASE, a RENAME or SET TABLESPACE: `PostgreSQL` wants
    /// nobody else to be connected to it.
    Alone(Option<String>),
    /// ALTER SYSTEM, `pg_reload_conf`.
    Server,
}

impl Affected {
    /// Reads a text of which [`super::Traits::affects_others`] holds. With each goes which of the
    /// text's statements it is, counted from 0.
    ///
    /// What wants to be alone counts only in a text of its own: among others `PostgreSQL` refuses
    /// nearly all of it, and what runs in front of it may take any time.
    pub fn of(text: &[u8], reading: Reading) -> Vec<(usize, Self)> {
        let mut affected = Vec::new();
        let mut count = 0;
        for statement in statements(text, reading) {
            affected.extend(read(&statement).into_iter().map(|one| (count, one)));
            count += 1;
            if affected.len() > MOST {
                affected.push((0, Self::Server));
                break;
            }
        }
        if count > 1 {
            affected.retain(|(_, one)| !matches!(one, Self::Alone(_)));
        }
        affected
    }
}

fn name(word: &Word<'_>) -> Option<String> {
    let name = word.name().or_else(|| word.string())?;
    Some(String::from_utf8_lossy(&name).into_owned()).filter(|name| !name.is_empty())
}

fn read(statement: &[Word<'_>]) -> Vec<Affected> {
    let bare: Vec<_> = statement.iter().map(Word::bare).collect();
    let words = |from: usize| statement.get(from..).unwrap_or_default();
    let first = |from: usize| words(from).first();
    match bare.as_slice() {
        ["alter" | "drop", "user", "mapping", ..] => Vec::new(),
        ["alter", "role" | "user", "current_user" | "current_role" | "session_user", ..] => {
            vec![Affected::OwnRole]
        }
        ["alter", "role" | "user", "all", ..] => vec![Affected::Role(None)],
        ["alter", "role" | "user", ..] => {
            first(2).map(|word| Affected::Role(name(word))).into_iter().collect()
        }
        ["drop", "role" | "user" | "group", rest @ ..] => {
            let from = if rest.starts_with(&["if", "exists"]) { 4 } else { 2 };
            let roles = words(from).iter().filter(|word| word.bare() != ",");
            roles.map(|word| Affected::Role(name(word))).collect()
        }
        ["drop", "database", rest @ ..] => {
            let from = if rest.starts_with(&["if", "exists"]) { 4 } else { 2 };
            first(from).map(|word| Affected::Alone(name(word))).into_iter().collect()
        }
        ["alter", "database", _, rest @ ..] => {
            let name = first(2).and_then(name);
            vec![match rest {
                ["rename", ..] | ["set", "tablespace", ..] => Affected::Alone(name),
                _ => Affected::Database(name),
            }]
        }
        ["create", "database", _, rest @ ..] => {
            let at = rest.iter().position(|word| *word == "template");
            let from = at.map(|at| if rest.get(at + 1) == Some(&"=") { at + 2 } else { at + 1 });
            let template = from.and_then(|from| first(from + 3));
            vec![Affected::Alone(match template {
                Some(word) if word.bare() != "default" => name(word),
                _ => Some("template1".to_owned()),
            })]
        }
        ["alter", "system", ..] => vec![Affected::Server],
        words if calls_reload(words) => vec![Affected::Server],
        _ => Vec::new(),
    }
}

/// A call of `PostgreSQL`'s own function, and not of somebody else's or a column that somebody
/// calls so.
fn calls_reload(words: &[&str]) -> bool {
    let calls = words.windows(2).enumerate().filter(|(_, two)| *two == ["pg_reload_conf", "("]);
    calls.map(|(at, _)| words.get(..at).unwrap_or_default()).any(|before| match before {
        [.., schema, "."] => *schema == "pg_catalog",
        _ => true,
    })
}

/// What is kept of one text. Beyond it everybody is concerned.
const MOST: usize = 100;

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::sql::classify;

    fn affected(text: &[u8]) -> Vec<Affected> {
        Affected::of(text, Reading::Standard).into_iter().map(|(_, one)| one).collect()
    }

    fn role(name: &str) -> Affected {
        Affected::Role(Some(name.into()))
    }

    fn alone(name: &str) -> Affected {
        Affected::Alone(Some(name.into()))
    }

    #[test]
    fn what_is_altered_or_dropped_is_known_by_name() {
        for (text, expected) in [
            ("alter role Joe set work_mem to '1MB'", vec![role("joe")]),
            ("ALTER USER \"Joe \"\"J\"\"\" password 'x'", vec![role("Joe \"J\"")]),
            ("alter role all reset all", vec![Affected::Role(None)]),
            ("alter role current_user nologin", vec![Affected::OwnRole]),
            ("alter user \"current_user\" nologin", vec![role("current_user")]),
            ("alter role u&\"\\0041\" nologin", vec![Affected::Role(None)]),
            ("drop role if exists a, \"B\"", vec![role("a"), role("B")]),
            ("alter database D set timezone to 'UTC'", vec![Affected::Database(Some("d".into()))]),
            ("alter database \"D\" rename to e", vec![alone("D")]),
            ("alter database d set tablespace t", vec![alone("d")]),
            ("drop /* now */ database -- !\n if exists Main with (force);", vec![alone("main")]),
            ("drop role a; drop database b", vec![role("a")]),
            ("create database x", vec![alone("template1")]),
            ("create database x with owner y template = \"T\" encoding 'utf8'", vec![alone("T")]),
            ("create database x template 'It''s'", vec![alone("It's")]),
            ("create database x template default", vec![alone("template1")]),
            ("create database template template x", vec![alone("x")]),
            ("alter system set work_mem to '1MB'", vec![Affected::Server]),
            ("select 1; select pg_catalog.pg_reload_conf()", vec![Affected::Server]),
            ("select 1 as pg_reload_conf", vec![]),
            ("select pg_temp.pg_reload_conf()", vec![]),
        ] {
            assert_eq!(affected(text.as_bytes()), expected, "{text}");
            assert!(classify(text.as_bytes()).affects_others(), "{text}");
        }
    }

    #[test]
    fn other_statements_concern_nobody() {
        for text in [
            "alter table role add x int",
            "drop table database",
            "drop user mapping for x server y",
            "create table database ()",
            "select 'drop database x'",
            "create user x",
            "",
        ] {
            assert_eq!(affected(text.as_bytes()), [], "{text}");
        }
        for text in ["alter table t add x int", "create table database ()", "select 'alter role'"] {
            assert!(!classify(text.as_bytes()).affects_others(), "{text}");
        }
    }

    #[test]
    fn a_text_without_end_concerns_everybody() {
        let text = "drop role d;".repeat(100_000);
        let all = affected(text.as_bytes());
        assert_eq!(all.last(), Some(&Affected::Server));
        assert!(all.len() < 200, "{}", all.len());
    }

    #[test]
    fn it_is_told_which_statement_it_is() {
        let text = b"select ';' ;; alter role a reset all; drop database d; alter system reset all";
        assert_eq!(Affected::of(text, Reading::Standard), [(1, role("a")), (3, Affected::Server)]);
    }

    proptest! {
        #[test]
        fn any_text_is_read(text: Vec<u8>) {
            let _affected = Affected::of(&text, Reading::Backslash);
        }
    }
}
