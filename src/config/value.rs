//! One value of the file: TOML in, the type that the table of keys asks for out.

use std::ops::Range;
use std::time::Duration;

use toml::Spanned;
use toml::de::{DeArray, DeTable, DeValue};

use super::error::Flaw;
use super::interpolate::Expanded;
use super::keys::{Choice, Type, Zero};
use super::suggest::{did_you_mean, nearest};
use super::units::{DURATION_MAX, format_duration, format_size, parse_duration, parse_size};

#[derive(Clone, PartialEq, Eq)]
pub(super) enum Value {
    Flag(bool),
    Count(u64),
    Duration(Duration),
    Size(u64),
    /// A text, a secret, or the word of a choice.
    Text(String),
    List(Vec<Item>),
    Map(Vec<(String, String)>),
}

/// One element of a list.
#[derive(Clone, PartialEq, Eq)]
pub(super) struct Item {
    pub text: String,
    /// Where it is written, in bytes.
    pub span: Range<usize>,
}

/// A value as written.
#[derive(Clone)]
pub(super) struct Leaf {
    pub value: Value,
    /// As `SHOW CONFIG` prints it; `***` for a secret.
    pub shown: String,
}

/// A flaw, and where in the file it is.
pub(super) type Located = (Range<usize>, Flaw);

/// Replaces `${...}`.
pub(super) type Expand<'a> = &'a dyn Fn(&str) -> Result<Expanded, Vec<Flaw>>;

/// Reads a value of type `of`. All flaws at once.
pub(super) fn read(
    of: Type,
    value: &Spanned<DeValue<'_>>,
    expand: Expand<'_>,
) -> Result<Leaf, Vec<Located>> {
    match (of, value.get_ref()) {
        (Type::List, DeValue::Array(items)) => list(items, expand),
        (Type::Map, DeValue::Table(options)) => map(options, expand),
        (_, scalar) => read_scalar(of, scalar, expand)
            .map_err(|flaws| flaws.into_iter().map(|flaw| (value.span(), flaw)).collect()),
    }
}

fn read_scalar(of: Type, value: &DeValue<'_>, expand: Expand<'_>) -> Result<Leaf, Vec<Flaw>> {
    match value {
        DeValue::String(text) => {
            let text = expand(text)?;
            let read = from_text(of, &text).map_err(|flaw| vec![flaw])?;
            let hidden = matches!(of, Type::Secret) || text.from_file;
            Ok(leaf(read, text.text.trim(), hidden))
        }
        DeValue::Integer(number) => {
            let Type::Count { min, max } = of else { return Err(vec![wrong_type(of, value)]) };
            let number = i128::from_str_radix(number.as_str(), number.radix())
                .map_err(|_too_long| vec![out_of_range(min, max)])?;
            let count = count_within(number, min, max).map_err(|flaw| vec![flaw])?;
            Ok(leaf(Value::Count(count), &count.to_string(), false))
        }
        DeValue::Boolean(flag) if matches!(of, Type::Flag) => {
            Ok(leaf(Value::Flag(*flag), &flag.to_string(), false))
        }
        DeValue::Boolean(_)
        | DeValue::Float(_)
        | DeValue::Datetime(_)
        | DeValue::Array(_)
        | DeValue::Table(_) => Err(vec![wrong_type(of, value)]),
    }
}

fn leaf(value: Value, shown: &str, hidden: bool) -> Leaf {
    Leaf { value, shown: if hidden { MASK } else { shown }.to_owned() }
}

/// A quoted value. Numbers and flags may be quoted only to be interpolated.
fn from_text(of: Type, text: &Expanded) -> Result<Value, Flaw> {
    let trimmed = text.text.trim();
    let is_not = |what: &str| {
        if text.interpolated {
            Flaw::new(format!("the interpolated value is not {what}"))
        } else {
            Flaw::new(format!("\"{}\" is not {what}", trimmed.escape_debug()))
        }
    };
    match of {
        Type::Flag | Type::Count { .. } if !text.interpolated => {
            Err(Flaw::new(format!("must be {}, not text", noun(of)))
                .suggest(Some("leave the quotes out".to_owned())))
        }
        Type::Flag => match trimmed {
            "true" => Ok(Value::Flag(true)),
            "false" => Ok(Value::Flag(false)),
            _ => Err(is_not(&noun(of))),
        },
        Type::Count { min, max } => {
            let number = trimmed.parse::<i128>().map_err(|_| is_not(&noun(of)))?;
            count_within(number, min, max).map(Value::Count)
        }
        Type::Duration { least, zero } => {
            let duration = parse_duration(trimmed).ok_or_else(|| {
                is_not("a duration").suggest(Some(format!(
                    "durations are whole numbers with us, ms, s, m, h or d, at most {}, \
                     e.g. \"30s\" or \"1h30m\"",
                    format_duration(DURATION_MAX)
                )))
            })?;
            duration_within(duration, least, zero).map(Value::Duration)
        }
        Type::Size { min, max } => {
            let size = parse_size(trimmed).ok_or_else(|| {
                is_not("a size").suggest(Some(
                    "sizes are whole numbers with B, KB, MB or GB, e.g. \"64KB\"".to_owned(),
                ))
            })?;
            size_within(size, min, max).map(Value::Size)
        }
        Type::Text | Type::Secret if text.text.contains('\0') => {
            Err(Flaw::new("must not hold a NUL character"))
        }
        Type::Text | Type::Secret => Ok(Value::Text(text.text.clone())),
        Type::Choice(choices) => {
            choice(choices, trimmed).map_err(|no_such| match no_such {
                NoChoice::Later(flaw) => flaw,
                NoChoice::Unknown => {
                    // The nearest word would give an interpolated secret away by its likeness.
                    let near = if text.interpolated { None } else { near(choices, trimmed) };
                    is_not(&noun(of)).suggest(near)
                }
            })
        }
        Type::List | Type::Map => Err(Flaw::new(format!("must be {}, not text", noun(of)))),
    }
}

enum NoChoice {
    Later(Flaw),
    Unknown,
}

fn choice(choices: &'static [Choice], word: &str) -> Result<Value, NoChoice> {
    match choices.iter().find(|choice| choice.name == word) {
        Some(Choice { later: Some(feature), .. }) => {
            Err(NoChoice::Later(Flaw::new(format!("not built yet: {feature}"))))
        }
        Some(choice) => Ok(Value::Text(choice.name.to_owned())),
        None => Err(NoChoice::Unknown),
    }
}

fn near(choices: &'static [Choice], word: &str) -> Option<String> {
    let built = choices.iter().filter(|choice| choice.later.is_none());
    nearest(word, built.map(|choice| choice.name)).map(did_you_mean)
}

fn list(items: &DeArray<'_>, expand: Expand<'_>) -> Result<Leaf, Vec<Located>> {
    let mut flaws = Vec::new();
    let mut read = Vec::new();
    let mut shown = Vec::new();
    for item in items {
        match text_of(item.get_ref(), expand) {
            Ok((text, show)) => {
                read.push(Item { text, span: item.span() });
                shown.push(show);
            }
            Err(all) => flaws.extend(all.into_iter().map(|flaw| (item.span(), flaw))),
        }
    }
    if !flaws.is_empty() {
        return Err(flaws);
    }
    Ok(leaf(Value::List(read), &shown.join(", "), false))
}

fn map(options: &DeTable<'_>, expand: Expand<'_>) -> Result<Leaf, Vec<Located>> {
    let mut flaws = Vec::new();
    let mut read = Vec::new();
    let mut shown = Vec::new();
    for (name, value) in options {
        match option_of(value.get_ref(), expand) {
            Ok((text, show)) => {
                shown.push(format!("{}={show}", name.get_ref()));
                read.push((name.get_ref().to_string(), text));
            }
            Err(all) => flaws.extend(all.into_iter().map(|flaw| {
                let problem = format!("{}: {}", name.get_ref().escape_debug(), flaw.problem);
                (name.span(), Flaw { problem, ..flaw })
            })),
        }
    }
    if !flaws.is_empty() {
        return Err(flaws);
    }
    Ok(leaf(Value::Map(read), &shown.join(", "), false))
}

/// A text, and how to show it.
fn text_of(value: &DeValue<'_>, expand: Expand<'_>) -> Result<(String, String), Vec<Flaw>> {
    let leaf = read_scalar(Type::Text, value, expand)?;
    match leaf.value {
        Value::Text(text) => Ok((text, leaf.shown)),
        Value::Flag(_)
        | Value::Count(_)
        | Value::Duration(_)
        | Value::Size(_)
        | Value::List(_)
        | Value::Map(_) => Err(vec![wrong_type(Type::Text, value)]),
    }
}

/// A startup option is text on the wire, so a number or a flag may be written without quotes.
fn option_of(value: &DeValue<'_>, expand: Expand<'_>) -> Result<(String, String), Vec<Flaw>> {
    let text = match value {
        DeValue::Boolean(true) => "on".to_owned(),
        DeValue::Boolean(false) => "off".to_owned(),
        DeValue::Integer(number) => number.to_string(),
        DeValue::Float(number) => number.to_string(),
        DeValue::String(_) | DeValue::Datetime(_) | DeValue::Array(_) | DeValue::Table(_) => {
            return text_of(value, expand);
        }
    };
    Ok((text.clone(), text))
}

fn count_within(number: i128, min: u64, max: u64) -> Result<u64, Flaw> {
    u64::try_from(number)
        .ok()
        .filter(|count| (min..=max).contains(count))
        .ok_or_else(|| out_of_range(min, max))
}

fn out_of_range(min: u64, max: u64) -> Flaw {
    Flaw::new(format!("must be from {min} to {max}"))
}

fn duration_within(duration: Duration, least: Duration, zero: Zero) -> Result<Duration, Flaw> {
    if duration >= least || (duration.is_zero() && zero == Zero::Allowed) {
        return Ok(duration);
    }
    Err(Flaw::new(format!("must be at least \"{}\"", format_duration(least))))
}

fn size_within(size: u64, min: u64, max: u64) -> Result<u64, Flaw> {
    if (min..=max).contains(&size) {
        return Ok(size);
    }
    Err(Flaw::new(format!("must be from \"{}\" to \"{}\"", format_size(min), format_size(max))))
}

/// What a value of this type is, for an error and for the reference.
pub(super) fn noun(of: Type) -> String {
    match of {
        Type::Flag => "true or false".to_owned(),
        Type::Count { .. } => "a whole number".to_owned(),
        Type::Duration { .. } => "a duration".to_owned(),
        Type::Size { .. } => "a size".to_owned(),
        Type::Text | Type::Secret => "text".to_owned(),
        Type::Choice(choices) => {
            let built = choices.iter().filter(|choice| choice.later.is_none());
            let words: Vec<_> = built.map(|choice| format!("\"{}\"", choice.name)).collect();
            if words.len() == 1 { words.concat() } else { format!("one of {}", words.join(", ")) }
        }
        Type::List => "a list of texts".to_owned(),
        Type::Map => "a table of options".to_owned(),
    }
}

/// What a TOML value is, for an error.
pub(super) fn found(value: &DeValue<'_>) -> &'static str {
    match value {
        DeValue::String(_) => "text",
        DeValue::Integer(_) => "a whole number",
        DeValue::Float(_) => "a number with a fraction",
        DeValue::Boolean(_) => "true or false",
        DeValue::Datetime(_) => "a date or time",
        DeValue::Array(_) => "a list",
        DeValue::Table(_) => "a table",
    }
}

fn wrong_type(of: Type, value: &DeValue<'_>) -> Flaw {
    match (of, value) {
        (Type::Duration { .. }, DeValue::Integer(_) | DeValue::Float(_)) => {
            Flaw::new("durations are text with a unit, e.g. \"30s\"")
        }
        (Type::Size { .. }, DeValue::Integer(_) | DeValue::Float(_)) => {
            Flaw::new("sizes are text with a unit, e.g. \"64KB\"")
        }
        _ => Flaw::new(format!("must be {}, not {}", noun(of), found(value))),
    }
}

/// What stands in for a secret.
pub(super) const MASK: &str = "***";
