//! What people read about the keys: `docs/CONFIG.md` and the annotated `config/pgweir.toml`.

use std::fmt::Write as _;

use super::keys::{DOMAIN_POOL_DOC, Fallback, Key, Kind, MODE_POOL_DOC, ROOT, Type};
use super::raw::join;
use super::value::noun;

/// `docs/CONFIG.md`.
pub fn reference_markdown() -> String {
    let mut out = INTRODUCTION.to_owned();
    markdown_keys(&mut out, "", ROOT);
    out.push_str("\n## Not built yet\n\n");
    out.push_str("These keys are refused by name, never accepted and ignored:\n\n");
    markdown_later(&mut out, "", ROOT);
    out
}

/// `config/pgweir.toml`: every key with its default.
pub fn default_toml() -> String {
    let mut out = TOML_INTRODUCTION.to_owned();
    for key in ROOT {
        match key.kind {
            Kind::Table(keys) => toml_table(&mut out, key.name, key.doc, keys),
            Kind::Named { example, keys, .. } => {
                toml_named(&mut out, &join(key.name, example), key, keys);
            }
            Kind::Value { .. } | Kind::Later(_) => {}
        }
    }
    out
}

/// One Markdown table for `keys`, then one for each table in them.
fn markdown_keys(out: &mut String, path: &str, keys: &[Key]) {
    let values: Vec<_> = keys.iter().filter(|k| matches!(k.kind, Kind::Value { .. })).collect();
    if !values.is_empty() {
        out.push_str("\n| key | type | default | meaning |\n|---|---|---|---|\n");
    }
    for key in values {
        if let Kind::Value { of, default } = key.kind {
            let default = match default {
                Fallback::Is(toml) => format!("`{toml}`"),
                Fallback::Unset { .. } => "unset".to_owned(),
                Fallback::Required { .. } => "required".to_owned(),
            };
            let (name, of, doc) = (key.name, type_cell(of), key.doc);
            writeln!(out, "| `{name}` | {of} | {default} | {doc} |").unwrap_or_default();
        }
    }
    for key in keys {
        let (path, inner) = match key.kind {
            Kind::Table(inner) => (join(path, key.name), inner),
            Kind::Named { placeholder, keys: inner, .. } => {
                (format!("{}.{placeholder}", join(path, key.name)), inner)
            }
            Kind::Value { .. } | Kind::Later(_) => continue,
        };
        let level = if path.starts_with(key.name) { "##" } else { "###" };
        write!(out, "\n{level} `[{path}]`\n\n{}\n", key.doc).unwrap_or_default();
        if is_a_pools(key) {
            out.push_str("\nIts keys are those of [`[pool]`](#pool).\n");
        } else {
            markdown_keys(out, &path, inner);
        }
    }
}

/// Its keys are those of `[pool]`.
fn is_a_pools(key: &Key) -> bool {
    key.doc == DOMAIN_POOL_DOC || key.doc == MODE_POOL_DOC
}

fn type_cell(of: Type) -> String {
    match of {
        Type::Choice(choices) => choices
            .iter()
            .filter(|choice| choice.later.is_none())
            .map(|choice| format!("`\"{}\"`", choice.name))
            .collect::<Vec<_>>()
            .join(", "),
        Type::Count { min, max } => format!("whole number, {min} to {max}"),
        Type::Secret => "text (secret)".to_owned(),
        Type::Flag
        | Type::Duration { .. }
        | Type::Size { .. }
        | Type::Text
        | Type::List
        | Type::Map => {
            let noun = noun(of);
            noun.strip_prefix("a ").unwrap_or(&noun).to_owned()
        }
    }
}

fn markdown_later(out: &mut String, path: &str, keys: &[Key]) {
    for key in keys {
        let inner_path = join(path, key.name);
        match key.kind {
            Kind::Later(feature) => {
                writeln!(out, "- `{inner_path}`: {feature}").unwrap_or_default();
            }
            Kind::Value { of: Type::Choice(choices), .. } => {
                for choice in choices {
                    if let Some(feature) = choice.later {
                        let word = choice.name;
                        writeln!(out, "- `{inner_path} = \"{word}\"`: {feature}")
                            .unwrap_or_default();
                    }
                }
            }
            Kind::Value { .. } => {}
            Kind::Table(_) if is_a_pools(key) => {}
            Kind::Table(inner) => markdown_later(out, &inner_path, inner),
            Kind::Named { placeholder, keys: inner, .. } => {
                markdown_later(out, &format!("{inner_path}.{placeholder}"), inner);
            }
        }
    }
}

fn toml_table(out: &mut String, path: &str, doc: &str, keys: &[Key]) {
    out.push('\n');
    toml_comment(out, doc);
    writeln!(out, "[{path}]").unwrap_or_default();
    for key in keys {
        if let Kind::Value { default, .. } = key.kind {
            toml_key(out, key, default, "");
        }
    }
    for key in keys {
        if let Kind::Table(inner) = key.kind {
            toml_table(out, &join(path, key.name), key.doc, inner);
        }
    }
}

/// A table under a name of the user's choice. Only the domain is in force: the rest are examples.
fn toml_named(out: &mut String, path: &str, named: &Key, keys: &[Key]) {
    let mark = if keys.iter().any(is_required) { "" } else { "#" };
    out.push('\n');
    toml_comment(out, named.doc);
    writeln!(out, "{mark}[{path}]").unwrap_or_default();
    for key in keys {
        match key.kind {
            Kind::Value { default, .. } => toml_key(out, key, default, mark),
            Kind::Table(inner) => {
                if let Some((name, toml)) = inner.iter().find_map(example) {
                    toml_comment(out, key.doc);
                    writeln!(out, "#{} = {{ {name} = {toml} }}", key.name).unwrap_or_default();
                }
            }
            Kind::Named { .. } | Kind::Later(_) => {}
        }
    }
}

fn toml_key(out: &mut String, key: &Key, default: Fallback, mark: &str) {
    toml_comment(out, key.doc);
    let (mark, toml) = match default {
        Fallback::Is(toml) | Fallback::Required { example: toml } => (mark, toml),
        Fallback::Unset { example } => ("#", example),
    };
    writeln!(out, "{mark}{} = {toml}", key.name).unwrap_or_default();
}

/// The first key that has a value, and that value.
fn example(key: &Key) -> Option<(&'static str, &'static str)> {
    let Kind::Value { default, .. } = key.kind else { return None };
    match default {
        Fallback::Is(toml)
        | Fallback::Unset { example: toml }
        | Fallback::Required { example: toml } => Some((key.name, toml)),
    }
}

fn is_required(key: &Key) -> bool {
    matches!(key.kind, Kind::Value { default: Fallback::Required { .. }, .. })
}

/// `text` as comment lines of at most [`COMMENT_CHARS`].
fn toml_comment(out: &mut String, text: &str) {
    let text = text.replace('`', "");
    let mut line = String::from("#");
    for word in text.split_whitespace() {
        if line.len() + 1 + word.len() > COMMENT_CHARS {
            out.push_str(&line);
            out.push('\n');
            line.truncate(1);
        }
        line.push(' ');
        line.push_str(word);
    }
    out.push_str(&line);
    out.push('\n');
}

const COMMENT_CHARS: usize = 100;

const TOML_INTRODUCTION: &str = "\
# pgweir.toml: every key with its default. Made from the table of keys; docs/CONFIG.md has the rest.
# Lines that begin with \"#\" and a key are examples of keys that are unset by default.
";

const INTRODUCTION: &str = "\
# Configuration

Made from the table of keys in `src/config/keys.rs`; a test fails when it is stale.

One TOML file, read at start: `pgweir serve --config pgweir.toml`. `pgweir check --config
pgweir.toml` reports every problem with its file, line and key and exits with 1 if there is one;
`serve` reports the same and exits with 78. Unknown keys, wrong types and impossible combinations
are refused, and so is every key whose feature is not built yet.

## Values

- **Durations** are text with a unit: `\"250ms\"`, `\"30s\"`, `\"1h30m\"`. Units: `us`, `ms`, `s`, `m` (or
  `min`), `h`, `d`; whole numbers, the larger unit first, at most 366 days. What `\"0s\"` means is said
  with the key; where nothing is said and a wait is bounded by it, it is refused.
- **Sizes** are text with a unit: `\"512B\"`, `\"64KB\"`, `\"1GiB\"`. KB and KiB are both 1024 bytes, as
  PostgreSQL has it; so for MB and GB.
- **Interpolation**, inside any string that is a value:
  - `${NAME}`: the environment variable NAME; an error if it is not set.
  - `${NAME:default}`: `default` if NAME is not set. It ends at the first `}`. A variable that is set
    but empty counts as set.
  - `${file:/run/secrets/pw}`: the text of a file, its trailing newline cut. A relative path starts
    at the configuration file's folder. Such a value is shown as `***` by `SHOW CONFIG`.
  - Dollars before a `{` pair up: `$${` is a literal `${`, and `$$${NAME}` is a `$` and the value.
    Every other `$` stands for itself.
  - What is put in is not interpolated again.
  - A number or a flag may be interpolated too, in quotes: `size = \"${POOL_SIZE:10}\"`.
- **Secrets** never appear in a log, an error, `SHOW CONFIG` or `/status`. An error quotes no
  interpolated text but the paths of files.

Precedence: `[users.NAME]` over the domain's `pool` over `[pool]` over the default.
";

#[cfg(test)]
mod tests;
