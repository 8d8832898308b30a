//! Which settings a text puts back to what they were when the connection was opened.

use super::lexer::Reading;
use super::words::{Word, statements};

/// What a text resets.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
#[expect(clippy::struct_excessive_bools, reason = "facts that are independent of each other")]
pub struct Resets {
    /// What it does to settings, in its order.
    steps: Vec<Step>,
    /// `set_config` with NULL: only the server knows the name.
    unknown: bool,
    /// It ends transactions, or goes back to savepoints: who knows what is undone.
    has_control: bool,
    /// It begins transactions.
    has_begin: bool,
    /// Behind a reset comes what may set anything.
    has_more: bool,
    /// COPY FROM is among the statements: it takes no statement behind it before it has its data.
    pub copies: bool,
}

/// One SET or RESET.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Step {
    of: Which,
    is_reset: bool,
    /// SET LOCAL: until the transaction ends.
    is_local: bool,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Which {
    /// As the text spells it but without quotes.
    One(String),
    /// RESET ALL, which leaves the role alone.
    All,
    /// DISCARD ALL.
    Everything,
}

impl Which {
    fn is(&self, name: &str) -> bool {
        match self {
            Self::One(one) => one.eq_ignore_ascii_case(name),
            Self::All => !NOT_IN_ALL.contains(&name),
            Self::Everything => true,
        }
    }
}

impl Resets {
    /// Of a text that is not known.
    pub fn anything() -> Self {
        Self { unknown: true, ..Self::default() }
    }

    /// Reads a text of which [`super::Traits::resets`] holds.
    pub fn of(text: &[u8]) -> Self {
        let mut resets = Self::default();
        for statement in statements(text, Reading::Standard) {
            let words: Vec<_> = statement.iter().map(word).collect();
            resets.note(&words);
        }
        resets
    }

    /// How far `name` is reset in the end, if everything is done; `None`: not at all, or it is set to
    /// a value behind that.
    pub fn covers(&self, name: &str) -> Option<Covers> {
        let (mut session, mut local) = (None, None);
        for step in self.steps.iter().filter(|step| step.of.is(name)) {
            if step.is_local {
                local = Some(step.is_reset);
            } else {
                session = Some(step.is_reset);
                local = None;
            }
        }
        match (session, local) {
            (Some(true), Some(false)) => Some(Covers::Beneath),
            (Some(true), Some(true) | None) => Some(Covers::Session),
            (Some(false) | None, Some(true)) => Some(Covers::Transaction),
            (Some(false) | None, _) => None,
        }
    }

    /// How `name` may be reset, if nobody knows how much of the text is done; `None`: not at all.
    pub fn may_cover(&self, name: &str) -> Option<Doubt> {
        let steps = || self.steps.iter().filter(|step| step.of.is(name));
        let is_session = |step: &Step| step.is_reset && !step.is_local;
        if !self.unknown && !steps().any(|step| step.is_reset) {
            return None;
        }
        Some(Doubt {
            is_local: !self.unknown && !steps().any(is_session),
            is_hidden: steps().skip_while(|step| !is_session(step)).any(|step| step.is_local),
        })
    }

    /// Adds what another text resets.
    pub fn add(&mut self, other: Self) {
        self.unknown |= other.unknown;
        self.has_control |= other.has_control;
        self.has_begin |= other.has_begin;
        self.has_more |= other.has_more;
        self.copies |= other.copies;
        self.steps.extend(other.steps);
        self.bound();
    }

    fn bound(&mut self) {
        if self.steps.len() > STEPS_MAX {
            *self = Self { copies: self.copies, ..Self::anything() };
        }
    }

    /// True if all of it is known to be done once the text is done without an error, and nothing of
    /// it if there was one.
    pub const fn is_certain(&self) -> bool {
        !self.unknown && !self.has_control && !self.has_more
    }

    /// Not all of it is in one transaction.
    pub const fn divides(&self) -> bool {
        self.has_control || self.has_begin
    }

    fn note(&mut self, statement: &[String]) {
        let words: Vec<_> = statement.iter().map(String::as_str).collect();
        match words.as_slice() {
            [] | ["show" | "deallocate" | "close" | "listen" | "unlisten", ..] => {}
            ["reset", "all", ..] => {
                self.has_more = false;
                self.step(Which::All, true, false);
            }
            ["discard", "all", ..] => {
                self.has_more = false;
                self.step(Which::Everything, true, false);
            }
            ["reset", "time", "zone", ..] => self.step_one("TimeZone", true, false),
            ["reset", name @ ..] => self.step_one(&name.concat(), true, false),
            ["set", "local" | "session", ".", ..] => {
                self.set(words.get(1..).unwrap_or_default(), false);
            }
            ["set", "local", rest @ ..] => self.set(rest, true),
            ["set", "session", rest @ ..] | ["set", rest @ ..] => self.set(rest, false),
            [first, ..] => {
                self.copies |= *first == "copy" && words.contains(&"from");
                self.has_control |= CONTROL.contains(first);
                self.has_begin |= matches!(*first, "begin" | "start");
                self.has_more |= self.steps.iter().any(|step| step.is_reset);
                self.unknown |= words.contains(&"set_config") && words.contains(&"null");
            }
        }
        self.bound();
    }

    fn set(&mut self, words: &[&str], is_local: bool) {
        match words {
            ["time", "zone", "default" | "local"] => self.step_one("TimeZone", true, is_local),
            ["time", "zone", ..] => self.step_one("TimeZone", false, is_local),
            ["names"] | ["names", "default"] => self.step_one("client_encoding", true, is_local),
            ["names", ..] => self.step_one("client_encoding", false, is_local),
            [name @ .., "to" | "=", "default"] => self.step_one(&name.concat(), true, is_local),
            _ => {
                let end = words.iter().position(|word| matches!(*word, "to" | "="));
                let name = words.get(..end.unwrap_or_default()).unwrap_or_default();
                self.step_one(&name.concat(), false, is_local);
            }
        }
    }

    fn step_one(&mut self, name: &str, is_reset: bool, is_local: bool) {
        self.step(Which::One(name.to_owned()), is_reset, is_local);
    }

    fn step(&mut self, of: Which, is_reset: bool, is_local: bool) {
        self.steps.push(Step { of, is_reset, is_local });
    }
}

/// How far a setting is put back.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Covers {
    Session,
    /// Until the end of the transaction.
    Transaction,
    /// For the session, under a value that SET LOCAL has put over it.
    Beneath,
}

/// How a setting may have been reset.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Doubt {
    /// Until the end of the transaction, and not for the session.
    pub is_local: bool,
    /// A SET LOCAL stands behind the reset: a server takes the value that this leaves for one that was
    /// set.
    pub is_hidden: bool,
}

/// A word in lower case; an identifier in quotes without them. Settings have no case.
fn word(word: &Word<'_>) -> String {
    let as_it_is = || String::from_utf8_lossy(word.text()).into_owned();
    match word.name() {
        Some(name) if word.is_quoted() => {
            let name = String::from_utf8_lossy(&name).to_ascii_lowercase();
            // A name that would be read as a keyword keeps its quotes: nothing is called so.
            if KEYWORDS.contains(&&*name) { as_it_is() } else { name }
        }
        Some(_) => word.bare().to_owned(),
        None => as_it_is(),
    }
}

/// What RESET ALL does not touch of what a client may ask for at startup.
const NOT_IN_ALL: [&str; 2] = ["role", "session_authorization"];

/// The first words of statements that end transactions, or are about savepoints. What follows a BEGIN
/// is undone by an error as it is without.
const CONTROL: [&str; 8] =
    ["abort", "commit", "end", "execute", "prepare", "release", "rollback", "savepoint"];

/// The words that mean something where a name could stand.
const KEYWORDS: [&str; 4] = ["all", "default", "local", "session"];

/// Steps that are kept. Of what does more, anything is expected.
const STEPS_MAX: usize = 1000;

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::sql::classify;

    fn names(text: &str) -> Vec<(String, bool)> {
        let steps = Resets::of(text.as_bytes()).steps.into_iter().filter(|step| step.is_reset);
        steps.map(|step| (format!("{:?}", step.of), step.is_local)).collect()
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
            assert_eq!(names(text), [(format!("One({name:?})"), is_local)], "{text}");
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
                let resets = Resets::of(text.as_bytes());
                assert_eq!((resets.covers(name), resets.may_cover(name)), (None, None), "{text}");
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
        assert_eq!(resets.covers("a"), Some(Covers::Session));
        assert_eq!(resets.covers("b"), Some(Covers::Session));
        assert_eq!(resets.covers("c"), None);
        let mut more = Resets::of(b"reset b; set b to 1; set time zone 'UTC'");
        assert_eq!((more.covers("B"), more.covers("timezone")), (None, None));
        more.add(resets);
        assert_eq!((more.covers("b"), more.covers("c")), (Some(Covers::Session), None));
    }

    #[test]
    fn what_holds_until_the_transaction_ends_is_told_from_what_stays() {
        for (text, covers, is_local, is_hidden) in [
            ("set local a to default", Some(Covers::Transaction), true, false),
            ("set a to 1; set local a to default", Some(Covers::Transaction), true, false),
            ("set local a to default; set a to 1", None, true, false),
            ("reset a; set local a to 1", Some(Covers::Beneath), false, true),
            ("reset a; set local a to 1; reset a", Some(Covers::Session), false, true),
            ("set local a to 1; reset all", Some(Covers::Session), false, false),
            ("reset a; set local a to default", Some(Covers::Session), false, true),
        ] {
            let resets = Resets::of(text.as_bytes());
            assert_eq!(resets.covers("a"), covers, "{text}");
            assert_eq!(resets.may_cover("a"), Some(Doubt { is_local, is_hidden }), "{text}");
        }
    }

    #[test]
    fn what_is_done_without_an_error_is_known_or_not() {
        let asyncpg = "select pg_advisory_unlock_all(); close all; unlisten *; reset all;";
        for text in
            [asyncpg, "reset a; set b to 1; show c", "select f(); discard all", "begin; reset a"]
        {
            assert!(Resets::of(text.as_bytes()).is_certain(), "{text}");
        }
        for text in [
            "reset a; rollback to b",
            "savepoint b; reset a",
            "reset a; select f()",
            "reset a; call p()",
        ] {
            assert!(!Resets::of(text.as_bytes()).is_certain(), "{text}");
        }
        let last = Resets::of(b"set local a to default; reset all");
        assert_eq!(last.covers("a"), Some(Covers::Session));
    }

    #[test]
    fn no_text_makes_it_keep_much() {
        let resets = Resets::of(&b"reset a;set b to 1;".repeat(100_000));
        assert!(resets.steps.len() <= STEPS_MAX);
        assert!(!resets.is_certain());
        assert!(resets.may_cover("anything").is_some());
    }

    #[test]
    fn a_null_for_set_config_may_reset_anything() {
        let text = b"select set_config($1, null, false)";
        assert!(classify(text).resets());
        assert!(Resets::of(text).may_cover("work_mem").is_some());
    }

    proptest! {
        #[test]
        fn any_text_is_read(text: Vec<u8>) {
            let _resets = Resets::of(&text);
        }
    }
}
