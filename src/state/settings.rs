//! Settings that a client asked for, against those that a server has.
//!
//! A client's settings are its startup parameters, and whatever PostgreSQL reports with
//! `ParameterStatus` that it changed later. A server's are those that were last put on it for a
//! client; everything else on it is as its own startup left it.

use std::hash::{BuildHasher, Hash};

use crate::sql::{Covers, Doubt};

/// Parameters that every PostgreSQL reports and that a client may set: these follow the session.
pub const REPORTED: [&str; 6] = [
    "application_name",
    "client_encoding",
    "DateStyle",
    "IntervalStyle",
    "standard_conforming_strings",
    "TimeZone",
];

/// Parameters that PostgreSQL reports and that no client sets.
const FIXED: [&str; 6] = [
    "in_hot_standby",
    "integer_datetimes",
    "is_superuser",
    "server_encoding",
    "server_version",
    "session_authorization",
];

/// Settings on which the meaning of a text depends when it is parsed: literals are folded then.
const PARSE_DEPENDS_ON: [&str; 13] = [
    "array_nulls",
    "backslash_quote",
    "client_encoding",
    "DateStyle",
    "IntervalStyle",
    "lc_monetary",
    "role",
    "search_path",
    "standard_conforming_strings",
    "timezone_abbreviations",
    "TimeZone",
    "transform_null_equals",
    "xmloption",
];

/// Those of them that decide about literals alone.
const READS_LITERALS: [&str; 9] = [
    "array_nulls",
    "backslash_quote",
    "DateStyle",
    "IntervalStyle",
    "lc_monetary",
    "standard_conforming_strings",
    "timezone_abbreviations",
    "TimeZone",
    "xmloption",
];

/// Names and values, ordered by name, each name once in whatever case.
#[derive(Debug, Clone, Default)]
pub struct Settings {
    entries: Vec<(Box<str>, Box<str>)>,
    /// Of all entries: two that differ are told apart without looking further, as a rule.
    hash: u64,
    /// The search path names the schema of temporary objects.
    names_pg_temp: bool,
}

impl PartialEq for Settings {
    fn eq(&self, other: &Self) -> bool {
        self.hash == other.hash && self.entries == other.entries
    }
}

impl Eq for Settings {}

impl Hash for Settings {
    fn hash<H: std::hash::Hasher>(&self, state: &mut H) {
        state.write_u64(self.hash);
    }
}

impl Settings {
    /// Settings from pairs, later ones over earlier ones.
    pub fn new<'a>(pairs: impl IntoIterator<Item = (&'a str, &'a str)>) -> Self {
        let mut settings = Self::default();
        for (name, value) in pairs {
            settings.set(name, value);
        }
        settings
    }

    /// Sets one.
    pub fn set(&mut self, name: &str, value: &str) {
        match self.find(name) {
            Ok(at) => {
                if let Some((_, old)) = self.entries.get_mut(at) {
                    *old = value.into();
                }
            }
            Err(at) => self.entries.insert(at, (spelling(name).into(), value.into())),
        }
        self.rehash();
    }

    /// Takes one out.
    pub fn remove(&mut self, name: &str) {
        if let Ok(at) = self.find(name) {
            self.entries.remove(at);
            self.rehash();
        }
    }

    pub fn value(&self, name: &str) -> Option<&str> {
        let at = self.find(name).ok()?;
        self.entries.get(at).map(|(_, value)| &**value)
    }

    /// True if the search path names the schema of temporary objects.
    pub const fn names_pg_temp(&self) -> bool {
        self.names_pg_temp
    }

    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    pub fn iter(&self) -> impl Iterator<Item = (&str, &str)> {
        self.entries.iter().map(|(name, value)| (&**name, &**value))
    }

    fn find(&self, name: &str) -> Result<usize, usize> {
        self.entries.binary_search_by(|(other, _)| compare(other, name))
    }

    fn rehash(&mut self) {
        self.hash = foldhash::fast::FixedState::default().hash_one(&self.entries);
        let path = self.value("search_path").map(str::to_ascii_lowercase);
        self.names_pg_temp = path.is_some_and(|path| path.contains("pg_temp"));
    }

    /// Statement text that turns a server with settings `self` into one with `wanted`; `None` if
    /// there is nothing to do. A setting that is not wanted goes back to its value at startup.
    ///
    /// `set_config` takes a value as a startup packet does: a list such as `search_path` is not
    /// taken for one name (pitfall P44).
    pub fn change_to(&self, wanted: &Self) -> Option<String> {
        if self == wanted {
            return None;
        }
        self.change(wanted.iter().filter(|(name, value)| self.value(name) != Some(*value)), wanted)
    }

    /// The same for a server of which it is not known how much of `self` is still on it.
    pub fn change_all_to(&self, wanted: &Self) -> Option<String> {
        self.change(wanted.iter(), wanted)
    }

    fn change<'a>(
        &self,
        set: impl Iterator<Item = (&'a str, &'a str)>,
        wanted: &Self,
    ) -> Option<String> {
        let reset = self.iter().filter(|(name, _)| wanted.value(name).is_none());
        let reset = reset.map(|(name, _)| format!("{SET_CONFIG}({}, NULL, false)", quote(name)));
        let set = set
            .map(|(name, value)| format!("{SET_CONFIG}({}, {}, false)", quote(name), quote(value)));
        let calls: Vec<_> = reset.chain(set).collect();
        (!calls.is_empty()).then(|| format!("SELECT {}", calls.join(", ")))
    }

    /// Statement text that gives those that `reach` tells of their values again, with nothing known
    /// of what they are at the moment; `None` if there are none.
    ///
    /// SET takes no snapshot: in front of a transaction's first query `set_config` would be that
    /// query, and SET TRANSACTION would come too late behind it. A list in a spelling that SET would
    /// change has to be put by `set_config` all the same.
    pub fn put_back(&self, reach: impl Fn(&str) -> Option<Covers>) -> Option<String> {
        let mut text = String::new();
        for (name, value) in self.iter() {
            let Some(covers) = reach(name) else { continue };
            let is_local = covers == Covers::Transaction;
            let said = if is_list_of_names(name) { list(value) } else { Some(quote(value)) };
            let statement = match said.filter(|_| covers != Covers::Beneath && name.is_ascii()) {
                Some(value) => {
                    let local = if is_local { "LOCAL " } else { "" };
                    format!("SET {local}{} TO {value};", identifier(name))
                }
                None if covers == Covers::Beneath => put_beneath(name, value),
                None => {
                    format!("SELECT {SET_CONFIG}({}, {}, {is_local});", quote(name), quote(value))
                }
            };
            text.push_str(&statement);
        }
        (!text.is_empty()).then_some(text)
    }

    /// The same, but for those that are at the server's own value at the moment.
    pub fn put_back_if_reset(&self, reach: impl Fn(&str) -> Option<Doubt>) -> Option<String> {
        let rows = self.iter().filter_map(|(name, value)| {
            let Doubt { is_local, is_hidden } = reach(name)?;
            Some(format!("({}, {}, {is_local}, {is_hidden})", quote(name), quote(value)))
        });
        let rows: Vec<_> = rows.collect();
        // A setting that no SET and no `set_config` has touched, or that a RESET put back, has
        // another source than "session", but for one that was hidden by a SET LOCAL which has ended with
        // its transaction: ours has begun it then. What the view does not show has a value to tell by.
        (!rows.is_empty()).then(|| {
            format!(
                "SELECT {SET_CONFIG}(s.n, s.v, s.l) FROM (VALUES {}) AS s (n, v, l, h) WHERE CASE \
                 WHEN EXISTS (SELECT FROM pg_catalog.pg_settings g WHERE {SAME}) \
                 THEN EXISTS (SELECT FROM pg_catalog.pg_settings g WHERE {SAME} \
                 AND (g.source OPERATOR(pg_catalog.<>) 'session' \
                 OR (s.h AND g.setting OPERATOR(pg_catalog.=) g.reset_val AND pg_catalog.now() \
                 OPERATOR(pg_catalog.=) pg_catalog.statement_timestamp()))) \
                 ELSE coalesce(pg_catalog.current_setting(s.n, true), '') \
                 OPERATOR(pg_catalog.=) ANY ('{{\"\",none}}'::pg_catalog.text[]) END",
                rows.join(", ")
            )
        })
    }

    /// Appends those that decide what a statement text means when it is parsed.
    pub fn put_parse_context(&self, out: &mut Vec<u8>) {
        for name in PARSE_DEPENDS_ON {
            if let Some(value) = self.value(name) {
                out.extend_from_slice(name.as_bytes());
                out.push(b'=');
                out.extend_from_slice(value.as_bytes());
                out.push(0);
            }
        }
        out.push(0);
    }

    /// True if every text means the same under both.
    pub fn is_same_parse_context(&self, other: &Self) -> bool {
        let is_same = |name: &&str| self.value(name) == other.value(name);
        self == other || PARSE_DEPENDS_ON.iter().all(is_same)
    }

    /// True if every text means the same under both that holds no literal but numbers.
    pub fn names_alike(&self, other: &Self) -> bool {
        let is_same = |name: &&str| self.value(name) == other.value(name);
        PARSE_DEPENDS_ON.iter().filter(|name| !READS_LITERALS.contains(name)).all(is_same)
    }

    /// Statement text that puts on a server, for the rest of a transaction, what texts are to be
    /// parsed under, and keeps there what was in force: [`Self::leave_parse_context`] brings that back. It
    /// gives no row, and leaves nothing behind the transaction.
    pub fn enter_parse_context(&self) -> String {
        let calls = PARSE_DEPENDS_ON.map(|name| {
            let wanted = self.value(name).map_or_else(|| "NULL".to_owned(), quote);
            format!(
                "{SET_CONFIG}('{KEPT}{name}', {CURRENT}('{name}'), true), \
                 {SET_CONFIG}('{name}', {wanted}, true)"
            )
        });
        without_rows(&calls)
    }

    /// Statement text that brings back what [`Self::enter_parse_context`] has kept.
    pub fn leave_parse_context() -> String {
        let calls = PARSE_DEPENDS_ON
            .map(|name| format!("{SET_CONFIG}('{name}', {CURRENT}('{KEPT}{name}'), true)"));
        without_rows(&calls)
    }
}

const SET_CONFIG: &str = "pg_catalog.set_config";
const CURRENT: &str = "pg_catalog.current_setting";

/// Statement text that gives a setting its value for the session, and leaves the one that holds until
/// the transaction ends.
fn put_beneath(name: &str, value: &str) -> String {
    let (kept, name, value) = (quote(&format!("{KEPT}{name}")), quote(name), quote(value));
    without_rows(&[
        format!("{SET_CONFIG}({kept}, {CURRENT}({name}), true)"),
        format!("{SET_CONFIG}({name}, {value}, false)"),
        format!("{SET_CONFIG}({name}, {CURRENT}({kept}), true)"),
    ]) + ";"
}

/// In front of a setting's name: where a server keeps its value for a moment.
const KEPT: &str = "pgweir.kept_";

/// A query that makes these calls in their order. `concat` is never NULL.
fn without_rows(calls: &[String]) -> String {
    format!("SELECT WHERE pg_catalog.concat({}) IS NULL", calls.join(", "))
}

/// The row of `pg_settings` for a name, in whatever case.
const SAME: &str = "pg_catalog.lower(g.name) OPERATOR(pg_catalog.=) pg_catalog.lower(s.n)";

/// Settings whose value is a list of names. SET takes one string for one name.
const LISTS_OF_NAMES: [&str; 2] = ["search_path", "temp_tablespaces"];

fn is_list_of_names(name: &str) -> bool {
    LISTS_OF_NAMES.iter().any(|known| name.eq_ignore_ascii_case(known))
}

/// The name of a setting as SET takes it.
fn identifier(name: &str) -> String {
    let parts: Vec<_> =
        name.split('.').map(|part| format!("\"{}\"", part.replace('"', "\"\""))).collect();
    parts.join(".")
}

/// A list of names as SET takes it. `None` if SET would not give the same spelling: an empty list, or
/// other spaces and quotes than the server's own.
fn list(value: &str) -> Option<String> {
    let mut names = Vec::new();
    let mut rest = value;
    loop {
        let (name, after) = match rest.strip_prefix('"') {
            Some(quoted) => quoted_name(quoted).filter(|(name, _)| !is_plain(name))?,
            None => {
                let (name, after) = rest.split_at(rest.find(',').unwrap_or(rest.len()));
                (name.to_owned(), after)
            }
        };
        if !rest.starts_with('"') && !is_plain(&name) {
            return None;
        }
        names.push(quote(&name));
        if after.is_empty() {
            return Some(names.join(", "));
        }
        rest = after.strip_prefix(", ")?;
    }
}

/// A name that needs no quotes, as long as it is no keyword.
fn is_plain(name: &str) -> bool {
    let is_start = |c: char| c.is_ascii_lowercase() || c == '_';
    name.starts_with(is_start) && name.chars().all(|c| is_start(c) || c.is_ascii_digit())
}

/// The name in front of the next quote that is not doubled, and what follows that quote.
fn quoted_name(text: &str) -> Option<(String, &str)> {
    let mut from = 0;
    loop {
        let end = from + text.get(from..)?.find('"')?;
        let after = text.get(end + 1..)?;
        if !after.starts_with('"') {
            return Some((text.get(..end)?.replace("\"\"", "\""), after));
        }
        from = end + 2;
    }
}

/// A reported parameter in PostgreSQL's own spelling; any other in lower case.
fn spelling(name: &str) -> String {
    REPORTED
        .iter()
        .find(|known| known.eq_ignore_ascii_case(name))
        .map_or_else(|| name.to_ascii_lowercase(), |known| (*known).to_owned())
}

fn compare(a: &str, b: &str) -> std::cmp::Ordering {
    let lower = |s: &str| s.bytes().map(|b| b.to_ascii_lowercase()).collect::<Vec<_>>();
    a.len().cmp(&b.len()).then_with(|| lower(a).cmp(&lower(b)))
}

/// True for a parameter that a server reports and no client can set: it is the server's own. Every
/// other one that a server reports follows the session, whichever its version reports (`search_path`
/// from 18 on).
pub fn is_fixed(name: &str) -> bool {
    FIXED.contains(&name)
}

/// True if every PostgreSQL reports this parameter and a client may set it.
pub fn is_reported(name: &str) -> bool {
    REPORTED.iter().any(|known| known.eq_ignore_ascii_case(name))
}

/// A string literal that is read alike under either setting of `standard_conforming_strings` and under
/// any `client_encoding`. A startup packet's bytes reach a server as they are, without a conversion,
/// and so do those of an escape.
fn quote(text: &str) -> String {
    let mut out = String::with_capacity(text.len() + 3);
    let is_plain = text.bytes().all(|b| b.is_ascii() && b != b'\\');
    out.push_str(if is_plain { "'" } else { " E'" });
    for b in text.bytes() {
        match b {
            b'\'' => out.push_str("''"),
            b'\\' => out.push_str("\\\\"),
            b if b.is_ascii() => out.push(char::from(b)),
            b => {
                for part in [b'\\', b'x', hex(b >> 4), hex(b & 15)] {
                    out.push(char::from(part));
                }
            }
        }
    }
    out.push('\'');
    out
}

const fn hex(digit: u8) -> u8 {
    if digit < 10 { b'0' + digit } else { b'a' + digit - 10 }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn names_are_the_same_in_any_case() {
        let settings = Settings::new([("datestyle", "ISO"), ("DATESTYLE", "German")]);
        assert_eq!(settings.iter().collect::<Vec<_>>(), [("DateStyle", "German")]);
    }

    #[test]
    fn names_are_found_alike_whatever_literals_mean() {
        let base = Settings::new([("TimeZone", "UTC"), ("search_path", "a")]);
        for (name, value, alike) in [
            ("DateStyle", "German", true),
            ("TimeZone", "Asia/Tokyo", true),
            ("search_path", "b", false),
            ("role", "other", false),
            ("transform_null_equals", "on", false),
        ] {
            let other = Settings::new(
                base.iter().filter(|(known, _)| *known != name).chain([(name, value)]),
            );
            assert_eq!(base.names_alike(&other), alike, "{name}");
            assert!(!base.is_same_parse_context(&other), "{name}");
        }
    }

    /// P44: quotes, backslashes and lists reach the server as they are.
    #[test]
    fn values_are_quoted_for_either_kind_of_string() {
        let server = Settings::default();
        let wanted = Settings::new([("search_path", r#""a,b", c's\"#)]);
        assert_eq!(
            server.change_to(&wanted).as_deref(),
            Some(r#"SELECT pg_catalog.set_config('search_path',  E'"a,b", c''s\\', false)"#)
        );
    }

    /// P44: a list of names is put back as a list.
    #[test]
    fn settings_are_put_back_by_statements_that_take_no_snapshot() {
        let startup = Settings::new([
            ("search_path", r#""$user", here, "a,""b", """#),
            ("my.own", "it's"),
            ("work_mem", "1MB"),
        ]);
        let reach = |name: &str| match name {
            "work_mem" => Some(Covers::Transaction),
            _ => Some(Covers::Session),
        };
        assert_eq!(
            startup.put_back(reach).as_deref(),
            Some(
                r#"SET "my"."own" TO 'it''s';SET LOCAL "work_mem" TO '1MB';"#.to_owned()
                    + r#"SET "search_path" TO '$user', 'here', 'a,"b', '';"#
            )
            .as_deref()
        );
        assert_eq!(startup.put_back(|_| None), None);
        for other in ["", "a,b", "A", "\"a\"", "a ,b", "\"a", "a, "] {
            let text = Settings::new([("search_path", other)]).put_back(reach).unwrap();
            assert!(text.starts_with("SELECT pg_catalog.set_config("), "{other}: {text}");
        }
    }

    #[test]
    fn what_another_client_had_set_is_reset() {
        let server = Settings::new([("work_mem", "1MB"), ("TimeZone", "UTC")]);
        let wanted = Settings::new([("TimeZone", "UTC")]);
        assert_eq!(
            server.change_to(&wanted).as_deref(),
            Some("SELECT pg_catalog.set_config('work_mem', NULL, false)")
        );
        assert_eq!(wanted.change_to(&wanted.clone()), None);
    }

    proptest! {
        #[test]
        fn equal_content_is_equal_in_any_order(
            mut pairs in prop::collection::btree_map("[a-z]{1,5}", ".{0,5}", 0..6)
                .prop_map(|map| map.into_iter().collect::<Vec<_>>()),
            swap: prop::sample::Index,
        ) {
            let build = |pairs: &[(String, String)]| {
                Settings::new(pairs.iter().map(|(n, v)| (n.as_str(), v.as_str())))
            };
            let one = build(&pairs);
            if !pairs.is_empty() {
                let at = swap.index(pairs.len());
                pairs.rotate_left(at);
            }
            prop_assert_eq!(one, build(&pairs));
        }
    }
}
