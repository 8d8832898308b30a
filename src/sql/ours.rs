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
#[inline]
pub fn may_be_ours(text: &[u8]) -> bool {
    let Some([first, second, third]) = text.first_chunk() else { return false };
    let letters = u32::from_le_bytes([*first, *second, *third, 0]) | LOWER;
    letters == SET
        || letters == SHOW
        || letters == RESET
        || (matches!(first, 0..=b' ' | b'/' | b'-') && may_be_behind(text))
}

/// What makes small letters of three capital ones.
const LOWER: u32 = u32::from_le_bytes([0x20, 0x20, 0x20, 0]);
const SET: u32 = u32::from_le_bytes(*b"set\0");
const SHOW: u32 = u32::from_le_bytes(*b"sho\0");
const RESET: u32 = u32::from_le_bytes(*b"res\0");

/// Space or a comment may stand in front of anything.
#[cold]
fn may_be_behind(text: &[u8]) -> bool {
    match text.trim_ascii_start() {
        comment @ [b'/' | b'-', ..] => is_mentioned(comment),
        trimmed => trimmed.len() < text.len() && may_be_ours(trimmed),
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
    // As one identifier in quotes, too.
    if let [whole, rest @ ..] = words
        && whole.is_quoted()
        && let Some(name) = name_of_ours(&whole.name()?)
    {
        return Some((name, rest));
    }
    let [prefix, dot, name, rest @ ..] = words else { return None };
    let is_ours = prefix.name().is_some_and(|name| name.eq_ignore_ascii_case(PREFIX.as_bytes()));
    if !is_ours || dot.bare() != "." {
        return None;
    }
    let name = String::from_utf8_lossy(&name.name()?).to_ascii_lowercase();
    Some((name, rest))
}

/// The name behind `pgweir.`, if that is what the whole name begins with.
fn name_of_ours(whole: &[u8]) -> Option<String> {
    let whole = String::from_utf8_lossy(whole).to_ascii_lowercase();
    whole.strip_prefix(PREFIX)?.strip_prefix('.').map(str::to_owned)
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
            "SET \"pgweir.Mode\" = 'batch'",
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
            "SHOW \"pgweirs.mode\"",
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
