//! Whom a statement about roles, databases or the server as a whole concerns.

#![expect(clippy::wildcard_enum_match_arm, reason = "most tokens are no names")]

use super::lexer::{Lexer, Token, TokenKind};

/// What a statement concerns besides its own session. `None` stands for a name that the text does not
/// tell: it may be any.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Affected {
    /// ALTER ROLE, DROP ROLE.
    Role(Option<String>),
    /// ALTER DATABASE.
    Database(Option<String>),
    /// DROP DATABASE, a template of CREATE DATABASE, a RENAME or SET TABLESPACE: `PostgreSQL` wants
    /// nobody else to be connected to it.
    Alone(Option<String>),
    /// ALTER SYSTEM, `pg_reload_conf`.
    Server,
}

impl Affected {
    /// Reads a text of which [`super::Traits::affects_others`] holds.
    pub fn of(text: &[u8]) -> Vec<Self> {
        let mut affected = Vec::new();
        let mut statement = Vec::new();
        let mut lexer = Lexer::new(text);
        loop {
            match lexer.significant() {
                Some(token) if token.kind != TokenKind::Semicolon => {
                    if statement.len() < WORDS_MAX {
                        statement.push(Word::of(token, text));
                    }
                }
                end => {
                    read(&statement, &mut affected);
                    statement.clear();
                    if affected.len() > MOST {
                        affected.push(Self::Server);
                        return affected;
                    }
                    if end.is_none() {
                        return affected;
                    }
                }
            }
        }
    }
}

/// A word: a keyword or name in lower case, or what stands in quotes.
#[derive(Debug)]
struct Word {
    text: String,
    is_bare: bool,
}

impl Word {
    fn of(token: Token, text: &[u8]) -> Self {
        let word = String::from_utf8_lossy(token.of(text));
        let unquoted = |quote: char, twice: &str| {
            let inner = word.strip_prefix(quote).and_then(|word| word.strip_suffix(quote));
            inner.map(|inner| inner.replace(twice, &quote.to_string()))
        };
        let inner = match token.kind {
            TokenKind::Quoted => unquoted('"', "\"\""),
            TokenKind::String => unquoted('\'', "''"),
            TokenKind::Word => return Self { text: word.to_lowercase(), is_bare: true },
            TokenKind::Sign => return Self { text: word.into_owned(), is_bare: true },
            _ => None,
        };
        // Letters that are written as numbers are not read here: it may be any name.
        Self { text: inner.unwrap_or_default(), is_bare: false }
    }

    fn bare(&self) -> &str {
        if self.is_bare { &self.text } else { "" }
    }

    fn name(&self) -> Option<String> {
        Some(self.text.clone()).filter(|name| !name.is_empty())
    }
}

fn read(statement: &[Word], affected: &mut Vec<Affected>) {
    let bare: Vec<_> = statement.iter().map(Word::bare).collect();
    let names = |from: usize| statement.get(from..).unwrap_or_default();
    match bare.as_slice() {
        ["alter" | "drop", "user", "mapping", ..] => {}
        [
            "alter",
            "role" | "user",
            "all" | "current_user" | "current_role" | "session_user",
            ..,
        ] => {
            affected.push(Affected::Role(None));
        }
        ["alter", "role" | "user", ..] => {
            affected.extend(names(2).first().map(|word| Affected::Role(word.name())));
        }
        ["drop", "role" | "user" | "group", rest @ ..] => {
            let from = if rest.starts_with(&["if", "exists"]) { 4 } else { 2 };
            let roles = names(from).iter().filter(|word| word.bare() != ",");
            affected.extend(roles.map(|word| Affected::Role(word.name())));
        }
        ["drop", "database", rest @ ..] => {
            let from = if rest.starts_with(&["if", "exists"]) { 4 } else { 2 };
            affected.extend(names(from).first().map(|word| Affected::Alone(word.name())));
        }
        ["alter", "database", _, rest @ ..] => {
            let name = names(2).first().and_then(Word::name);
            affected.push(match rest {
                ["rename", ..] | ["set", "tablespace", ..] => Affected::Alone(name),
                _ => Affected::Database(name),
            });
        }
        ["create", "database", _, rest @ ..] => {
            let at = rest.iter().position(|word| *word == "template");
            let from = at.map(|at| if rest.get(at + 1) == Some(&"=") { at + 2 } else { at + 1 });
            let template = from.and_then(|from| names(from + 3).first());
            affected.push(Affected::Alone(match template {
                Some(word) if word.bare() != "default" => word.name(),
                _ => Some("template1".to_owned()),
            }));
        }
        ["alter", "system", ..] => affected.push(Affected::Server),
        // A call of it, and not a column that somebody calls so.
        words if words.windows(2).any(|two| two == ["pg_reload_conf", "("]) => {
            affected.push(Affected::Server);
        }
        _ => {}
    }
}

/// What is kept of one text. Beyond it everybody is concerned.
const MOST: usize = 100;

/// Words of a statement that are kept.
const WORDS_MAX: usize = 256;

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::sql::classify;

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
            ("alter role current_user nologin", vec![Affected::Role(None)]),
            ("alter role u&\"\\0041\" nologin", vec![Affected::Role(None)]),
            ("drop role if exists a, \"B\"", vec![role("a"), role("B")]),
            ("alter database D set timezone to 'UTC'", vec![Affected::Database(Some("d".into()))]),
            ("alter database \"D\" rename to e", vec![alone("D")]),
            ("alter database d set tablespace t", vec![alone("d")]),
            ("drop /* now */ database -- !\n if exists Main with (force);", vec![alone("main")]),
            ("drop database a; drop database b", vec![alone("a"), alone("b")]),
            ("create database x", vec![alone("template1")]),
            ("create database x with owner y template = \"T\" encoding 'utf8'", vec![alone("T")]),
            ("create database x template 'It''s'", vec![alone("It's")]),
            ("create database x template default", vec![alone("template1")]),
            ("create database template template x", vec![alone("x")]),
            ("alter system set work_mem to '1MB'", vec![Affected::Server]),
            ("select 1; select pg_catalog.pg_reload_conf()", vec![Affected::Server]),
            ("select 1 as pg_reload_conf", vec![]),
        ] {
            assert_eq!(Affected::of(text.as_bytes()), expected, "{text}");
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
            assert_eq!(Affected::of(text.as_bytes()), [], "{text}");
        }
        for text in ["alter table t add x int", "create table database ()", "select 'alter role'"] {
            assert!(!classify(text.as_bytes()).affects_others(), "{text}");
        }
    }

    #[test]
    fn a_text_without_end_concerns_everybody() {
        let text = "drop database d;".repeat(100_000);
        let affected = Affected::of(text.as_bytes());
        assert_eq!(affected.last(), Some(&Affected::Server));
        assert!(affected.len() < 200, "{}", affected.len());
    }

    proptest! {
        #[test]
        fn any_text_is_read(text: Vec<u8>) {
            let _affected = Affected::of(&text);
        }
    }
}
