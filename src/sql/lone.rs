//! A BEGIN, COMMIT or ROLLBACK that stands alone: a closed grammar, anything else is not known here.

/// A text that begins a transaction block, and does nothing else.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LoneBegin {
    verb: Verb,
    isolation: Option<Isolation>,
    is_read_only: bool,
    is_deferrable: Option<bool>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Verb {
    Begin,
    Start,
}

/// The levels that no server refuses. (A standby refuses SERIALIZABLE.)
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Isolation {
    ReadUncommitted,
    ReadCommitted,
    RepeatableRead,
}

impl LoneBegin {
    /// Reads `BEGIN [WORK | TRANSACTION] [mode [[,] …]]` or `START TRANSACTION [mode …]`, where a mode is an
    /// isolation level other than SERIALIZABLE, `READ ONLY` or `[NOT] DEFERRABLE`: no server that has no block open
    /// refuses any of them. (A standby refuses READ WRITE.)
    pub fn read(text: &[u8]) -> Option<Self> {
        let mut words = Words::of(text);
        // Hardly any text gets further.
        let verb = match words.next()? {
            word if is(word, "begin") => Verb::Begin,
            word if is(word, "start") => Verb::Start,
            _ => return None,
        };
        let mut next = words.next();
        let is_named = next.is_some_and(|word| {
            is(word, "transaction") || (verb == Verb::Begin && is(word, "work"))
        });
        if is_named {
            next = words.next();
        } else if verb == Verb::Start {
            return None;
        }
        let mut begin = Self { verb, isolation: None, is_read_only: false, is_deferrable: None };
        while let Some(word) = next {
            begin.read_mode(word, &mut words)?;
            next = words.next();
            if next == Some(b",") {
                next = Some(words.next()?);
            }
        }
        words.is_over().then_some(begin)
    }

    fn read_mode(&mut self, word: &[u8], words: &mut Words<'_>) -> Option<()> {
        if is(word, "read") {
            self.is_read_only = is(words.next()?, "only").then_some(true)?;
        } else if is(word, "deferrable") {
            self.is_deferrable = Some(true);
        } else if is(word, "not") {
            self.is_deferrable = is(words.next()?, "deferrable").then_some(Some(false))?;
        } else if is(word, "isolation") {
            is(words.next()?, "level").then_some(())?;
            self.isolation = Some(match (words.next()?, words.next()?) {
                (a, b) if is(a, "read") && is(b, "committed") => Isolation::ReadCommitted,
                (a, b) if is(a, "read") && is(b, "uncommitted") => Isolation::ReadUncommitted,
                (a, b) if is(a, "repeatable") && is(b, "read") => Isolation::RepeatableRead,
                _ => return None,
            });
        } else {
            return None;
        }
        Some(())
    }

    /// It says which isolation level it wants, which is not SERIALIZABLE.
    pub const fn names_isolation(self) -> bool {
        self.isolation.is_some()
    }

    pub const fn is_read_only(self) -> bool {
        self.is_read_only
    }

    /// Its command tag.
    pub const fn tag(self) -> &'static str {
        match self.verb {
            Verb::Begin => "BEGIN",
            Verb::Start => "START TRANSACTION",
        }
    }

    /// A text that says the same.
    pub fn put(self, out: &mut Vec<u8>) {
        let isolation = match self.isolation {
            None => "",
            Some(Isolation::ReadUncommitted) => " ISOLATION LEVEL READ UNCOMMITTED",
            Some(Isolation::ReadCommitted) => " ISOLATION LEVEL READ COMMITTED",
            Some(Isolation::RepeatableRead) => " ISOLATION LEVEL REPEATABLE READ",
        };
        let deferrable = match self.is_deferrable {
            None => "",
            Some(true) => " DEFERRABLE",
            Some(false) => " NOT DEFERRABLE",
        };
        let read_only = if self.is_read_only { " READ ONLY" } else { "" };
        for part in [self.tag(), isolation, read_only, deferrable] {
            out.extend_from_slice(part.as_bytes());
        }
    }
}

/// How a text ends a transaction block that does nothing else.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LoneEnd {
    Commit,
    Rollback,
}

impl LoneEnd {
    /// Reads `COMMIT`, `END`, `ROLLBACK` or `ABORT`, with `WORK` or `TRANSACTION` behind it, or without.
    pub fn read(text: &[u8]) -> Option<Self> {
        let mut words = Words::of(text);
        let end = match words.next()? {
            word if is(word, "commit") || is(word, "end") => Self::Commit,
            word if is(word, "rollback") || is(word, "abort") => Self::Rollback,
            _ => return None,
        };
        let is_noise = |word: &[u8]| is(word, "work") || is(word, "transaction");
        let is_lone = match words.next() {
            None => true,
            Some(word) => is_noise(word) && words.next().is_none(),
        };
        (is_lone && words.is_over()).then_some(end)
    }

    /// Its command tag.
    pub const fn tag(self) -> &'static str {
        match self {
            Self::Commit => "COMMIT",
            Self::Rollback => "ROLLBACK",
        }
    }
}

fn is(word: &[u8], keyword: &str) -> bool {
    word.eq_ignore_ascii_case(keyword.as_bytes())
}

/// The words and commas of a text up to its semicolon.
struct Words<'a> {
    rest: &'a [u8],
}

impl<'a> Words<'a> {
    const fn of(text: &'a [u8]) -> Self {
        Self { rest: text }
    }

    /// Nothing is left but white space, and a semicolon or none.
    fn is_over(&self) -> bool {
        let rest = skip_space(self.rest);
        let rest = rest.strip_prefix(b";").unwrap_or(rest);
        skip_space(rest).is_empty()
    }
}

impl<'a> Iterator for Words<'a> {
    type Item = &'a [u8];

    fn next(&mut self) -> Option<&'a [u8]> {
        let rest = skip_space(self.rest);
        let len = match rest.first()? {
            b',' => 1,
            byte if byte.is_ascii_alphabetic() => {
                rest.iter().position(|byte| !byte.is_ascii_alphabetic()).unwrap_or(rest.len())
            }
            _ => {
                self.rest = rest;
                return None;
            }
        };
        let (word, behind) = rest.split_at(len);
        self.rest = behind;
        Some(word)
    }
}

/// What PostgreSQL's lexer takes for space.
fn skip_space(text: &[u8]) -> &[u8] {
    let is_space = |byte: &u8| matches!(byte, b' ' | b'\t' | b'\n' | b'\r' | 0x0b | 0x0c);
    let from = text.iter().position(|byte| !is_space(byte)).unwrap_or(text.len());
    text.get(from..).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn begin(text: &str) -> Option<String> {
        let mut out = Vec::new();
        LoneBegin::read(text.as_bytes())?.put(&mut out);
        String::from_utf8(out).ok()
    }

    #[test]
    fn every_lone_begin_that_no_server_refuses_is_known() {
        for (text, same) in [
            ("BEGIN", "BEGIN"),
            ("begin;", "BEGIN"),
            (" Begin Work ; ", "BEGIN"),
            ("begin\ttransaction", "BEGIN"),
            ("BEGIN ISOLATION LEVEL READ COMMITTED", "BEGIN ISOLATION LEVEL READ COMMITTED"),
            (
                "begin isolation level repeatable read, not deferrable",
                "BEGIN ISOLATION LEVEL REPEATABLE READ NOT DEFERRABLE",
            ),
            ("BEGIN DEFERRABLE", "BEGIN DEFERRABLE"),
            ("begin read only,deferrable", "BEGIN READ ONLY DEFERRABLE"),
            (
                "begin isolation level read uncommitted read only",
                "BEGIN ISOLATION LEVEL READ UNCOMMITTED READ ONLY",
            ),
            ("START TRANSACTION", "START TRANSACTION"),
            ("start transaction read only", "START TRANSACTION READ ONLY"),
        ] {
            assert_eq!(begin(text).as_deref(), Some(same), "{text}");
            assert_eq!(begin(same).as_deref(), Some(same), "it says the same");
            assert_eq!(
                LoneBegin::read(text.as_bytes()).unwrap().is_read_only,
                same.contains("ONLY")
            );
        }
    }

    #[test]
    fn anything_else_is_none() {
        for text in [
            "",
            ";",
            "begin; select 1",
            "begin; begin",
            "begin;;",
            "begin x",
            "begin read write",
            "start",
            "beginning",
            "begin1",
            "begin_",
            "begin isolation level serializable",
            "begin ,",
            "begin read only,",
            "begin ,read only",
            "begin \"work\"",
            "start work",
            "start transaction isolation level",
            "begin deferrable not",
            "select 1",
            "begin work transaction",
            "/* x */ begin",
            "begin -- x",
            "begin\u{a0}",
            "b",
            "begin read",
        ] {
            assert_eq!(begin(text), None, "{text}");
        }
    }

    #[test]
    fn a_lone_end_is_known_and_one_that_does_more_is_not() {
        for text in ["COMMIT", "end;", "commit work", "END TRANSACTION ;"] {
            assert_eq!(LoneEnd::read(text.as_bytes()), Some(LoneEnd::Commit), "{text}");
        }
        for text in ["rollback", "ABORT", "rollback transaction;"] {
            assert_eq!(LoneEnd::read(text.as_bytes()), Some(LoneEnd::Rollback), "{text}");
        }
        for text in [
            "commit and chain",
            "rollback to a",
            "commit; begin",
            "commit prepared 'x'",
            "",
            "end x",
            "rollback and no chain",
            "select 1",
            "commit work work",
        ] {
            assert_eq!(LoneEnd::read(text.as_bytes()), None, "{text}");
        }
    }

    proptest! {
        #[test]
        fn any_text_is_read(text: Vec<u8>) {
            let _begin = LoneBegin::read(&text);
            let _end = LoneEnd::read(&text);
        }
    }
}
