//! Which settings a text puts back to what they were when the connection was opened.

#![expect(clippy::wildcard_enum_match_arm, reason = "most tokens are no names")]

use super::lexer::{Lexer, Token, TokenKind};

/// What a text resets.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
#[expect(clippy::struct_excessive_bools, reason = "facts that are independent of each other")]
pub struct Resets {
    /// RESET ALL, which leaves the role alone.
    pub all: bool,
    /// DISCARD ALL.
    pub discards: bool,
    /// Single settings, as the text spells them but without quotes.
    pub names: Vec<Reset>,
    /// `set_config` with NULL: only the server knows the name.
    pub unknown: bool,
    /// Set to a value behind the last that resets them.
    set_after: Vec<String>,
    /// It begins or ends transactions, or goes back to savepoints: who knows what is undone.
    has_control: bool,
    /// Behind a reset comes what may set anything.
    has_more: bool,
    /// COPY FROM is among the statements: it takes no statement behind it before it has its data.
    pub copies: bool,
}

/// One setting that is reset.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reset {
    pub name: String,
    /// SET LOCAL … TO DEFAULT: until the transaction ends.
    pub is_local: bool,
}

impl Resets {
    /// Of a text that is not known.
    pub fn anything() -> Self {
        Self { unknown: true, ..Self::default() }
    }

    /// Reads a text of which [`super::Traits::resets`] holds.
    pub fn of(text: &[u8]) -> Self {
        let mut resets = Self::default();
        let mut lexer = Lexer::new(text);
        let mut statement = Vec::new();
        loop {
            let token = lexer.significant();
            match token {
                Some(token) if token.kind != TokenKind::Semicolon => {
                    // More words than the longest name has parts tell nothing more.
                    if statement.len() < WORDS_MAX {
                        statement.push(word(token, text));
                    }
                }
                end => {
                    resets.note(&statement);
                    statement.clear();
                    if end.is_none() {
                        return resets;
                    }
                }
            }
        }
    }

    /// How far `name` is put back: `None`: not at all.
    pub fn covers(&self, name: &str) -> Option<Covers> {
        let same = |reset: &&Reset| reset.name.eq_ignore_ascii_case(name);
        if let Some(last) = self.names.iter().rev().find(same) {
            return Some(if last.is_local { Covers::Transaction } else { Covers::Session });
        }
        let everything = self.unknown || self.discards || (self.all && !NOT_IN_ALL.contains(&name));
        everything.then_some(Covers::Session)
    }

    /// Adds what another text resets.
    pub fn add(&mut self, other: Self) {
        self.all |= other.all;
        self.discards |= other.discards;
        self.unknown |= other.unknown;
        self.has_control |= other.has_control;
        self.has_more |= other.has_more;
        self.copies |= other.copies;
        self.set_after.retain(|set| other.covers(set).is_none());
        self.set_after.extend(other.set_after);
        self.names.extend(other.names);
        self.bound();
    }

    fn bound(&mut self) {
        if self.names.len() + self.set_after.len() > NAMES_MAX {
            *self = Self { copies: self.copies, ..Self::anything() };
        }
    }

    /// True if all of it is known to be done once the text is done without an error.
    pub const fn is_certain(&self) -> bool {
        !self.unknown && !self.has_control && !self.has_more
    }

    /// True if `name` is not set to a value behind its reset, as far as the text tells: a part of it
    /// may be rolled back.
    pub fn is_last(&self, name: &str) -> bool {
        !self.set_after.iter().any(|set| set.eq_ignore_ascii_case(name))
    }

    fn note(&mut self, statement: &[String]) {
        let words: Vec<_> = statement.iter().map(String::as_str).collect();
        match words.as_slice() {
            [] | ["show" | "deallocate" | "close" | "listen" | "unlisten", ..] => {}
            ["reset", "all", ..] => {
                self.all = true;
                self.names.retain(|reset| NOT_IN_ALL.contains(&&*reset.name));
                self.put_everything();
            }
            ["discard", "all", ..] => {
                self.discards = true;
                self.names.clear();
                self.put_everything();
            }
            ["reset", "time", "zone", ..] => self.put("TimeZone", false),
            ["reset", name @ ..] => self.put(&name.concat(), false),
            ["set", "local" | "session", ".", ..] => {
                self.set(words.get(1..).unwrap_or_default(), false);
            }
            ["set", "local", rest @ ..] => self.set(rest, true),
            ["set", "session", rest @ ..] | ["set", rest @ ..] => self.set(rest, false),
            [first, ..] => {
                self.copies |= *first == "copy" && words.contains(&"from");
                self.has_control |= CONTROL.contains(first);
                self.has_more |= self.all || self.discards || !self.names.is_empty();
                self.unknown |= words.contains(&"set_config") && words.contains(&"null");
            }
        }
        self.bound();
    }

    fn put_everything(&mut self) {
        self.set_after.clear();
        self.has_more = false;
    }

    fn set(&mut self, words: &[&str], is_local: bool) {
        match words {
            ["time", "zone", "default" | "local"] => self.put("TimeZone", is_local),
            ["names"] | ["names", "default"] => self.put("client_encoding", is_local),
            [name @ .., "to" | "=", "default"] => self.put(&name.concat(), is_local),
            ["time", "zone", ..] => self.set_after.push("TimeZone".into()),
            ["names", ..] => self.set_after.push("client_encoding".into()),
            _ => {
                let end = words.iter().position(|word| matches!(*word, "to" | "="));
                let name = words.get(..end.unwrap_or_default()).unwrap_or_default();
                self.set_after.push(name.concat());
            }
        }
    }

    fn put(&mut self, name: &str, is_local: bool) {
        self.set_after.retain(|set| !set.eq_ignore_ascii_case(name));
        self.names.push(Reset { name: name.to_owned(), is_local });
    }
}

/// How far a setting is put back.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Covers {
    Session,
    /// Until the end of the transaction.
    Transaction,
}

/// A word in lower case; an identifier in quotes without them. Settings have no case.
fn word(token: Token, text: &[u8]) -> String {
    let bytes = token.of(text);
    let word = String::from_utf8_lossy(bytes);
    match token.kind {
        TokenKind::Quoted => {
            let inner = word.strip_prefix('"').and_then(|word| word.strip_suffix('"'));
            let inner = inner.unwrap_or(&word).to_ascii_lowercase();
            // A name that would be read as a keyword keeps its quotes: nothing is called so.
            if KEYWORDS.contains(&&*inner) { word.into_owned() } else { inner }
        }
        TokenKind::Word => word.to_ascii_lowercase(),
        _ => word.into_owned(),
    }
}

/// What RESET ALL does not touch of what a client may ask for at startup.
const NOT_IN_ALL: [&str; 2] = ["role", "session_authorization"];

/// The first words of statements that begin or end transactions.
const CONTROL: [&str; 10] = [
    "abort",
    "begin",
    "commit",
    "end",
    "execute",
    "prepare",
    "release",
    "rollback",
    "savepoint",
    "start",
];

/// The words that mean something where a name could stand.
const KEYWORDS: [&str; 4] = ["all", "default", "local", "session"];

/// Names that are kept. Of what resets more, anything is expected.
const NAMES_MAX: usize = 1000;

/// Words of a statement that are kept.
const WORDS_MAX: usize = 256;

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::sql::classify;

    fn names(text: &str) -> Vec<(String, bool)> {
        let resets = Resets::of(text.as_bytes());
        resets.names.into_iter().map(|reset| (reset.name, reset.is_local)).collect()
    }

    #[test]
    fn every_form_of_a_reset_is_known_by_its_setting() {
        for (text, name, is_local) in [
            ("reset TimeZone", "timezone", false),
            ("RESET \"DateStyle\";", "datestyle", false),
            ("reset time zone", "TimeZone", false),
            ("/* why */ reset -- this\n my.own", "my.own", false),
            ("set work_mem to default", "work_mem", false),
            ("set session work_mem = DEFAULT", "work_mem", false),
            ("set local work_mem to default", "work_mem", true),
            ("set local.x to default", "local.x", false),
            ("set time zone default", "TimeZone", false),
            ("set local time zone local", "TimeZone", true),
            ("set names", "client_encoding", false),
            ("set names default", "client_encoding", false),
        ] {
            assert_eq!(names(text), [(name.to_owned(), is_local)], "{text}");
            assert!(classify(text.as_bytes()).resets(), "{text}");
        }
    }

    #[test]
    fn what_resets_nothing_is_not_taken_for_a_reset() {
        for text in [
            "set work_mem to '1MB'",
            "set work_mem to 'default'",
            "set time zone 'UTC'",
            "set names 'utf8'",
            "alter role x reset work_mem",
            "select 'reset all'",
            "set local work_mem = 5",
            "set search_path to \"default\"",
            "discard plans",
            "insert into t default values",
            "select set_config('a.b', 'null', true)",
            "",
        ] {
            for name in ["work_mem", "timezone", "client_encoding", "search_path"] {
                assert_eq!(Resets::of(text.as_bytes()).covers(name), None, "{text}");
            }
            assert!(!classify(text.as_bytes()).resets(), "{text}");
        }
    }

    #[test]
    fn everything_is_reset_but_for_the_role() {
        let all = Resets::of(b"reset all");
        assert_eq!(all.covers("work_mem"), Some(Covers::Session));
        assert_eq!(all.covers("role"), None);
        assert_eq!(Resets::of(b"discard all").covers("role"), Some(Covers::Session));
        assert_eq!(Resets::of(b"reset work_mem").covers("search_path"), None);
    }

    #[test]
    fn what_is_set_behind_its_reset_is_told_apart() {
        let resets =
            Resets::of(b"set a to 1; reset a; set b to default; set b = 2; reset all; set c to 1");
        assert!(resets.is_last("a") && resets.is_last("b"));
        assert!(!resets.is_last("c"));
        let mut more = Resets::of(b"reset b; set b to 1; set time zone 'UTC'");
        assert!(!more.is_last("B") && !more.is_last("timezone"));
        more.add(resets);
        assert!(more.is_last("b") && !more.is_last("c"));
    }

    #[test]
    fn what_is_done_without_an_error_is_known_or_not() {
        let asyncpg = "select pg_advisory_unlock_all(); close all; unlisten *; reset all;";
        for text in [asyncpg, "reset a; set b to 1; show c", "select f(); discard all"] {
            assert!(Resets::of(text.as_bytes()).is_certain(), "{text}");
        }
        for text in
            ["begin; reset a", "reset a; rollback to b", "reset a; select f()", "reset a; call p()"]
        {
            assert!(!Resets::of(text.as_bytes()).is_certain(), "{text}");
        }
        let last = Resets::of(b"set local a to default; reset all");
        assert_eq!(last.covers("a"), Some(Covers::Session));
    }

    #[test]
    fn no_text_makes_it_keep_much() {
        let resets = Resets::of(&b"reset a;set b to 1;".repeat(100_000));
        assert!(resets.names.len() + resets.set_after.len() <= NAMES_MAX);
        assert!(!resets.is_certain());
        assert_eq!(resets.covers("anything"), Some(Covers::Session));
    }

    #[test]
    fn a_null_for_set_config_may_reset_anything() {
        let text = b"select set_config($1, null, false)";
        assert!(classify(text).resets());
        assert_eq!(Resets::of(text).covers("work_mem"), Some(Covers::Session));
    }

    proptest! {
        #[test]
        fn any_text_is_read(text: Vec<u8>) {
            let _resets = Resets::of(&text);
        }
    }
}
