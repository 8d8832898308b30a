//! The file as written: TOML read along the table of keys, every value with its place.
//!
//! What a single value can get wrong is found here; what values say together is `check.rs`.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;
use std::path::Path;
use std::time::Duration;

use toml::Spanned;
use toml::de::{DeString, DeTable, DeValue};

use super::environment::Environment;
use super::error::{At, Flaw, Problems};
use super::interpolate::{Expanded, interpolate};
use super::keys::{Fallback, Key, Kind, ROOT};
use super::suggest::{did_you_mean, nearest};
use super::value::{self, Leaf, Value, found};

/// One table of the file, or what stands for it if the file has none.
#[derive(Clone)]
pub(super) struct Table {
    /// Dotted, quoted where TOML would. Empty for the file itself.
    pub path: String,
    pub line: Option<usize>,
    pub keys: &'static [Key],
    leaves: BTreeMap<&'static str, (usize, Leaf)>,
    tables: BTreeMap<&'static str, Self>,
    named: BTreeMap<&'static str, Vec<(String, Self)>>,
    /// Written, but wrong: reported already.
    broken: BTreeSet<&'static str>,
}

impl Table {
    fn absent(path: String, keys: &'static [Key]) -> Self {
        let mut table = Self {
            path,
            line: None,
            keys,
            leaves: BTreeMap::new(),
            tables: BTreeMap::new(),
            named: BTreeMap::new(),
            broken: BTreeSet::new(),
        };
        for key in keys {
            if let Kind::Table(inner) = key.kind {
                let path = join(&table.path, key.name);
                table.tables.insert(key.name, Self::absent(path, inner));
            }
        }
        table
    }

    /// A table of fixed keys inside this one, empty if it is not in the file.
    #[expect(clippy::expect_used, reason = "names are ours; each parse looks up every one")]
    pub(super) fn table(&self, name: &str) -> &Self {
        self.tables.get(name).expect("the table of keys has this table")
    }

    /// The tables of `[name.X]`, by X.
    pub(super) fn named(&self, name: &str) -> &[(String, Self)] {
        self.named.get(name).map_or(&[], Vec::as_slice)
    }

    pub(super) fn leaf(&self, name: &str) -> Option<&Leaf> {
        self.leaves.get(name).map(|(_, leaf)| leaf)
    }

    pub(super) fn is_broken(&self, name: &str) -> bool {
        self.broken.contains(name)
    }

    /// Where a problem with the table as a whole is.
    pub(super) fn own_place(&self) -> At {
        At { line: self.line, key: self.path.clone() }
    }

    /// Where a problem with key `name` is: its own line, else the table's.
    pub(super) fn at(&self, name: &str) -> At {
        let line = self.leaves.get(name).map(|(line, _)| *line).or(self.line);
        At { line, key: join(&self.path, name) }
    }
}

/// A table, and those it is laid over: the first that has a key wins, the defaults lie beneath.
#[derive(Clone, Copy)]
pub(super) struct View<'a> {
    top: &'a Table,
    beneath: [Option<&'a Table>; 2],
}

impl<'a> View<'a> {
    pub(super) fn of(top: &'a Table) -> Self {
        Self { top, beneath: [None; 2] }
    }

    /// Both tables have the same keys.
    pub(super) fn over(top: &'a Table, beneath: &'a Table) -> Self {
        Self { top, beneath: [Some(beneath), None] }
    }

    /// All three tables have the same keys.
    pub(super) fn over_both(top: &'a Table, middle: &'a Table, bottom: &'a Table) -> Self {
        Self { top, beneath: [Some(middle), Some(bottom)] }
    }

    fn layers(self) -> impl Iterator<Item = &'a Table> {
        std::iter::once(self.top).chain(self.beneath.into_iter().flatten())
    }

    pub(super) fn flag(self, name: &str) -> bool {
        self.must(name, flag)
    }

    pub(super) fn count(self, name: &str) -> usize {
        self.must(name, count)
    }

    pub(super) fn duration(self, name: &str) -> Duration {
        self.must(name, duration)
    }

    pub(super) fn size(self, name: &str) -> u64 {
        self.must(name, |value| if let Value::Size(size) = value { Some(*size) } else { None })
    }

    pub(super) fn text(self, name: &str) -> String {
        self.must(name, text)
    }

    pub(super) fn list(self, name: &str) -> Vec<value::Item> {
        self.must(
            name,
            |value| if let Value::List(list) = value { Some(list.clone()) } else { None },
        )
    }

    pub(super) fn map(self, name: &str) -> Vec<(String, String)> {
        self.must(name, |value| if let Value::Map(map) = value { Some(map.clone()) } else { None })
    }

    pub(super) fn flag_if_set(self, name: &str) -> Option<bool> {
        self.value(name).as_ref().and_then(flag)
    }

    pub(super) fn count_if_set(self, name: &str) -> Option<usize> {
        self.value(name).as_ref().and_then(count)
    }

    pub(super) fn duration_if_set(self, name: &str) -> Option<Duration> {
        self.value(name).as_ref().and_then(duration)
    }

    pub(super) fn text_if_set(self, name: &str) -> Option<String> {
        self.value(name).as_ref().and_then(text)
    }

    /// True if the key was written wrong in the layer that decides: its value is a stand-in.
    pub(super) fn is_broken(self, name: &str) -> bool {
        let decides = |layer: &&Table| layer.leaf(name).is_some() || layer.is_broken(name);
        self.layers().find(decides).is_some_and(|layer| layer.is_broken(name))
    }

    pub(super) fn is_written(self, name: &str) -> bool {
        self.layers().any(|layer| layer.leaf(name).is_some())
    }

    /// Where a problem of these keys is: in the first layer that has one of them.
    pub(super) fn at(self, names: &[&str]) -> At {
        let written = self.layers().find_map(|layer| {
            names.iter().find(|name| layer.leaf(name).is_some()).map(|name| layer.at(name))
        });
        written.unwrap_or_else(|| At { line: None, key: names.join(", ") })
    }

    /// As `SHOW CONFIG` prints the value that applies.
    pub(super) fn shown(self, name: &str) -> String {
        self.effective(name).map_or_else(String::new, |leaf| leaf.shown)
    }

    fn value(self, name: &str) -> Option<Value> {
        self.effective(name).map(|leaf| leaf.value)
    }

    fn effective(self, name: &str) -> Option<Leaf> {
        let written = self.layers().find_map(|layer| layer.leaf(name));
        written.cloned().or_else(|| default(self.top.keys, name))
    }

    #[expect(clippy::expect_used, reason = "names are ours; each parse looks up every one")]
    fn must<T>(self, name: &str, pick: fn(&Value) -> Option<T>) -> T {
        self.value(name)
            .as_ref()
            .and_then(pick)
            .expect("the table of keys has a default of this type")
    }
}

const fn flag(value: &Value) -> Option<bool> {
    if let Value::Flag(flag) = value { Some(*flag) } else { None }
}

fn count(value: &Value) -> Option<usize> {
    if let Value::Count(count) = value { usize::try_from(*count).ok() } else { None }
}

fn duration(value: &Value) -> Option<Duration> {
    if let Value::Duration(duration) = value { Some(*duration) } else { None }
}

fn text(value: &Value) -> Option<String> {
    if let Value::Text(text) = value { Some(text.clone()) } else { None }
}

/// The default of `name`; `None` if the key has none.
pub(super) fn default(keys: &'static [Key], name: &str) -> Option<Leaf> {
    let key = keys.iter().find(|key| key.name == name)?;
    let Kind::Value { of, default: Fallback::Is(toml) } = key.kind else { return None };
    let parsed = DeValue::parse(toml).ok()?;
    value::read(of, &parsed, &|text| Ok(Expanded::literal(text))).ok()
}

/// Where a file's text is and what it may ask for.
#[derive(Clone, Copy)]
pub(super) struct Source<'a> {
    pub lines: &'a Lines,
    pub env: &'a dyn Environment,
    /// Relative paths start here.
    pub folder: &'a Path,
}

/// Reads the text along the table of keys. Whatever is wrong goes to `problems`. `None` after a
/// syntax error: the rest would be a guess, and problems found in it noise.
pub(super) fn read(text: &str, source: Source<'_>, problems: &mut Problems) -> Option<Table> {
    let lines = source.lines;
    let (document, errors) = DeTable::parse_recoverable(text);
    for error in &errors {
        let line = error.span().map_or_else(|| lines.last(), |span| lines.of_span(&span));
        let mut problem = format!("not TOML: {}", error.message());
        // The parser quotes nothing, rightly: a slip may be next to a password. A key is none.
        if error.message() == "duplicate key"
            && let Some(key) = error.span().and_then(|span| text.get(span))
        {
            problem.push(' ');
            problem.push_str(key);
        }
        problems.add(At { line: Some(line), key: String::new() }, Flaw::new(problem));
    }
    if !errors.is_empty() {
        return None;
    }
    let mut table = Table::absent(String::new(), ROOT);
    Reader { source, problems }.fill(&mut table, document.get_ref());
    Some(table)
}

struct Reader<'a> {
    source: Source<'a>,
    problems: &'a mut Problems,
}

impl Reader<'_> {
    fn fill(&mut self, table: &mut Table, written: &DeTable<'_>) {
        for (name, value) in written {
            let at = self.at(&table.path, name);
            match table.keys.iter().find(|key| key.name == name.get_ref().as_ref()) {
                Some(key) => self.entry(table, key, at, value),
                None => self.problems.add(at, unknown_key(table, name.get_ref())),
            }
        }
    }

    fn entry(
        &mut self,
        table: &mut Table,
        key: &'static Key,
        at: At,
        value: &Spanned<DeValue<'_>>,
    ) {
        match (key.kind, value.get_ref()) {
            (Kind::Later(feature), _) => {
                self.problems.add(at, Flaw::new(format!("not built yet: {feature}")));
            }
            (Kind::Value { of, .. }, _) => {
                let source = self.source;
                match value::read(of, value, &|text| expand(text, source)) {
                    Ok(leaf) => {
                        let line = at.line.unwrap_or_default();
                        table.leaves.insert(key.name, (line, leaf));
                    }
                    Err(flaws) => {
                        table.broken.insert(key.name);
                        for (span, flaw) in flaws {
                            let line = Some(self.source.lines.of_span(&span));
                            self.problems.add(At { line, key: at.key.clone() }, flaw);
                        }
                    }
                }
            }
            (Kind::Table(keys), DeValue::Table(written)) => {
                let mut inner = Table::absent(at.key, keys);
                inner.line = at.line;
                self.fill(&mut inner, written);
                table.tables.insert(key.name, inner);
            }
            (Kind::Named { keys, .. }, DeValue::Table(written)) => {
                let named = self.named(&at.key, keys, written);
                if named.len() < written.len() {
                    table.broken.insert(key.name);
                }
                table.named.insert(key.name, named);
            }
            (Kind::Table(_), other) => {
                table.broken.insert(key.name);
                self.problems.add(at, Flaw::new(format!("must be a table, not {}", found(other))));
            }
            (Kind::Named { placeholder, .. }, other) => {
                table.broken.insert(key.name);
                let problem =
                    format!("must be tables [{}.{placeholder}], not {}", key.name, found(other));
                self.problems.add(at, Flaw::new(problem));
            }
        }
    }

    fn named(
        &mut self,
        path: &str,
        keys: &'static [Key],
        written: &DeTable<'_>,
    ) -> Vec<(String, Table)> {
        let mut tables = Vec::new();
        for (name, value) in written {
            let at = self.at(path, name);
            let DeValue::Table(written) = value.get_ref() else {
                let problem = format!("must be a table, not {}", found(value.get_ref()));
                self.problems.add(at, Flaw::new(problem));
                continue;
            };
            let mut table = Table::absent(at.key, keys);
            table.line = at.line;
            self.fill(&mut table, written);
            tables.push((name.get_ref().to_string(), table));
        }
        tables
    }

    fn at(&self, path: &str, name: &Spanned<DeString<'_>>) -> At {
        At { line: Some(self.source.lines.of_span(&name.span())), key: join(path, name.get_ref()) }
    }
}

fn expand(text: &str, source: Source<'_>) -> Result<Expanded, Vec<Flaw>> {
    interpolate(text, source.env, source.folder)
        .map_err(|errors| errors.iter().map(|error| Flaw::new(error.to_string())).collect())
}

fn unknown_key(table: &Table, name: &str) -> Flaw {
    let near = nearest(name, table.keys.iter().map(|key| key.name)).map(did_you_mean);
    Flaw::new("unknown key").suggest(near.or_else(|| elsewhere(table, name)))
}

/// Where a key that does not belong here does belong: a table inside this one, the one around it,
/// or one of the file's.
fn elsewhere(table: &Table, name: &str) -> Option<String> {
    let holds = |key: &&Key| match key.kind {
        Kind::Table(inner) | Kind::Named { keys: inner, .. } => {
            inner.iter().any(|key| key.name == name)
        }
        Kind::Value { .. } | Kind::Later(_) => false,
    };
    if let Some(inner) = table.keys.iter().find(holds).filter(|_| !table.path.is_empty()) {
        return Some(did_you_mean(&format!("{}.{name}", inner.name)));
    }
    let around = |key: &&Key| table.path.starts_with(&format!("{}.", key.name));
    let home = ROOT.iter().filter(around).find(holds).or_else(|| ROOT.iter().find(holds))?;
    Some(match home.kind {
        Kind::Named { placeholder, .. } => format!("it belongs in [{}.{placeholder}]", home.name),
        Kind::Value { .. } | Kind::Table(_) | Kind::Later(_) => {
            format!("it belongs in [{}]", home.name)
        }
    })
}

/// `path.name`, the name quoted where TOML would.
pub(super) fn join(path: &str, name: &str) -> String {
    let bare = !name.is_empty()
        && name.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '_' | '-'));
    let dot = if path.is_empty() { "" } else { "." };
    if bare {
        format!("{path}{dot}{name}")
    } else {
        format!("{path}{dot}\"{}\"", name.escape_debug())
    }
}

/// Byte offsets to line numbers.
pub(super) struct Lines {
    /// Where each line ends, its newline included.
    ends: Vec<usize>,
}

impl Lines {
    pub(super) fn of(text: &str) -> Self {
        Self {
            ends: text
                .split_inclusive('\n')
                .scan(0, |end, line| {
                    *end += line.len();
                    Some(*end)
                })
                .collect(),
        }
    }

    /// The line of the first byte of `span`, counted from 1.
    pub(super) fn of_span(&self, span: &Range<usize>) -> usize {
        (self.ends.partition_point(|end| *end <= span.start) + 1).min(self.last())
    }

    fn last(&self) -> usize {
        self.ends.len().max(1)
    }
}
