//! Settings that are pgweir's own (`pgweir.mode` …): what a text does with them.

use super::lexer::Reading;
use super::words::{Word, statements};

/// What one statement does with a setting of ours. Names are in lower case, without the `pgweir.` in front.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Ours {
    Show {
        name: String,
    },
    Set {
        name: String,
        /// `None`: back to what it was at login.
        value: Option<String>,
        is_local: bool,
    },
    Reset {
        name: String,
    },
}

impl Ours {
    /// Reads a text that is `SHOW`, `SET` or `RESET` of a setting of ours and nothing else. `None`: it is
    /// anything else.
    pub fn read(text: &[u8]) -> Option<Self> {
        if !may_be_ours(text) {
            return None;
        }
        let mut statements = statements(text, Reading::Standard).filter(|words| !words.is_empty());
        let statement = statements.next()?;
        if statements.next().is_some() {
            return None;
        }
        let (first, rest) = statement.split_first()?;
        match first.bare() {
            "show" => match named(rest)? {
                (name, []) => Some(Self::Show { name }),
                _ => None,
            },
            "reset" => match named(rest)? {
                (name, []) => Some(Self::Reset { name }),
                _ => None,
            },
            "set" => set(rest),
            _ => None,
        }
    }
}

/// True unless the first letters of a text tell that it is none: hardly any goes further.
pub fn may_be_ours(text: &[u8]) -> bool {
    let start = text.iter().position(|byte| !byte.is_ascii_whitespace()).unwrap_or(text.len());
    match text.get(start..).unwrap_or_default() {
        [b's' | b'S', b'e' | b'E', b't' | b'T', ..]
        | [b's' | b'S', b'h' | b'H', b'o' | b'O', ..]
        | [b'r' | b'R', b'e' | b'E', b's' | b'S', ..] => true,
        // A comment may stand in front of anything.
        rest @ [b'/' | b'-', ..] => is_mentioned(rest),
        _ => false,
    }
}

fn is_mentioned(text: &[u8]) -> bool {
    text.windows(PREFIX.len()).any(|part| part.eq_ignore_ascii_case(PREFIX.as_bytes()))
}

/// `[SESSION | LOCAL] pgweir.name { TO | = } { value | 'value' | DEFAULT }`
fn set(words: &[Word<'_>]) -> Option<Ours> {
    let scope = words.first().map(Word::bare);
    let is_scoped = matches!(scope, Some("session" | "local"));
    let rest = words.get(usize::from(is_scoped)..)?;
    let (name, rest) = named(rest)?;
    let [to, value] = rest else { return None };
    if !matches!(to.bare(), "to" | "=") {
        return None;
    }
    let value = if value.bare() == "default" {
        None
    } else {
        let said = || value.text().into();
        let value = value.string().or_else(|| value.name()).unwrap_or_else(said);
        Some(String::from_utf8_lossy(&value).into_owned())
    };
    Some(Ours::Set { name, value, is_local: scope == Some("local") })
}

/// The setting of ours that words begin with, and what is behind it.
fn named<'w, 'a>(words: &'w [Word<'a>]) -> Option<(String, &'w [Word<'a>])> {
    let [prefix, dot, name, rest @ ..] = words else { return None };
    let is_ours = prefix.name().is_some_and(|name| name.eq_ignore_ascii_case(PREFIX.as_bytes()));
    if !is_ours || dot.bare() != "." {
        return None;
    }
    let name = String::from_utf8_lossy(&name.name()?).to_ascii_lowercase();
    Some((name, rest))
}

/// What the names of our settings begin with.
pub(super) const PREFIX: &str = "pgweir";

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Option<Ours> {
        Ours::read(text.as_bytes())
    }

    fn set(value: Option<&str>, is_local: bool) -> Ours {
        Ours::Set { name: "mode".into(), value: value.map(str::to_owned), is_local }
    }

    #[test]
    fn each_form_is_read() {
        assert_eq!(read("SHOW pgweir.mode"), Some(Ours::Show { name: "mode".into() }));
        assert_eq!(read(" show \"PgWeir\" . \"Host\";"), Some(Ours::Show { name: "host".into() }));
        assert_eq!(read("RESET pgweir.Mode"), Some(Ours::Reset { name: "mode".into() }));
        for text in [
            "SET pgweir.mode = batch",
            "set session pgweir.mode to 'batch' ;",
            "/* app */ SET PGWEIR.MODE TO \"batch\"",
            "-- app\nSET pgweir.mode = Batch",
        ] {
            assert_eq!(read(text), Some(set(Some("batch"), false)), "{text}");
        }
        assert_eq!(read("SET pgweir.mode TO DEFAULT"), Some(set(None, false)));
        assert_eq!(read("SET LOCAL pgweir.mode = x"), Some(set(Some("x"), true)));
    }

    #[test]
    fn anything_else_is_not_ours() {
        for text in [
            "",
            "SHOW server_version",
            "SHOW pgweir",
            "SHOW pgweir.mode.x",
            "SHOW pgweir.mode; SELECT 1",
            "SET pgweir.mode",
            "SET pgweir.mode FROM CURRENT",
            "SET pgweir.mode = a, b",
            "SET application_name = 'pgweir.mode'",
            "SET session.pgweir = 1",
            "select 'SHOW pgweir.mode'",
            "/* pgweir */ select 1",
            "RESET ALL",
        ] {
            assert_eq!(read(text), None, "{text}");
        }
    }
}
