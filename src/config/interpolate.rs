//! `${NAME}`, `${NAME:default}` and `${file:/path}` in the strings of a configuration file.
//!
//! Dollars before a `{` pair up: `$${` is a literal `${`, `$$${X}` a dollar and the value of X.
//! Every other `$` stands for itself, so `pa$$word` needs no escape.

use std::path::Path;

use thiserror::Error;

use super::environment::Environment;

/// A string after interpolation.
#[derive(Clone, PartialEq, Eq)]
pub(super) struct Expanded {
    pub text: String,
    /// Something was put in: the text may be a secret, so no error may quote it.
    pub interpolated: bool,
    /// A file was put in: the text is treated as a secret.
    pub from_file: bool,
}

impl Expanded {
    pub(super) fn literal(text: &str) -> Self {
        Self { text: text.to_owned(), interpolated: false, from_file: false }
    }
}

#[derive(Debug, Error, PartialEq, Eq)]
pub(super) enum InterpolateError {
    #[error("the environment variable {0} is not set")]
    Unset(String),
    #[error("the environment variable {0} is not UTF-8")]
    NotUtf8(String),
    // What stands between the braces is not quoted: it may be a piece of a password.
    #[error("\"${{\" is not followed by the name of a variable")]
    NoName,
    #[error("\"${{\" without its \"}}\"")]
    Unclosed,
    #[error("{path} cannot be read: {problem}")]
    File { path: String, problem: String },
}

/// Replaces every `${...}` of `text`; relative files are looked for in `folder`. All errors at once.
pub(super) fn interpolate(
    text: &str,
    env: &dyn Environment,
    folder: &Path,
) -> Result<Expanded, Vec<InterpolateError>> {
    let mut out = Expanded { text: String::new(), interpolated: false, from_file: false };
    let mut errors = Vec::new();
    let mut rest = text;
    while let Some((before, dollars, after)) = next_dollars(rest) {
        out.text.push_str(before);
        let Some(braced) = after.strip_prefix('{') else {
            out.text.push_str(dollars);
            rest = after;
            continue;
        };
        out.text.extend(std::iter::repeat_n('$', dollars.len() / 2));
        if dollars.len().is_multiple_of(2) {
            rest = after;
            continue;
        }
        let Some((inside, after)) = braced.split_once('}') else {
            errors.push(InterpolateError::Unclosed);
            return Err(errors);
        };
        out.interpolated = true;
        out.from_file |= inside.starts_with(FILE);
        match resolve(inside, env, folder) {
            Ok(value) => out.text.push_str(&value),
            Err(error) => errors.push(error),
        }
        rest = after;
    }
    out.text.push_str(rest);
    if errors.is_empty() { Ok(out) } else { Err(errors) }
}

/// Splits at the first run of dollars: what is before it, the run, what is after.
fn next_dollars(text: &str) -> Option<(&str, &str, &str)> {
    let start = text.find('$')?;
    let (before, run) = text.split_at_checked(start)?;
    let (dollars, after) = run.split_at_checked(run.find(|c| c != '$').unwrap_or(run.len()))?;
    Some((before, dollars, after))
}

/// The value of what stands between `${` and `}`.
fn resolve(inside: &str, env: &dyn Environment, folder: &Path) -> Result<String, InterpolateError> {
    if let Some(path) = inside.strip_prefix(FILE) {
        return read_secret(path, env, folder);
    }
    let (name, default) = match inside.split_once(':') {
        Some((name, default)) => (name, Some(default)),
        None => (inside, None),
    };
    if !is_variable_name(name) {
        return Err(InterpolateError::NoName);
    }
    match (env.variable(name), default) {
        (Some(value), _) => {
            value.into_string().map_err(|_bytes| InterpolateError::NotUtf8(name.to_owned()))
        }
        (None, Some(default)) => Ok(default.to_owned()),
        (None, None) => Err(InterpolateError::Unset(name.to_owned())),
    }
}

/// A file's text without the newline that editors and `echo` leave at its end.
fn read_secret(
    path: &str,
    env: &dyn Environment,
    folder: &Path,
) -> Result<String, InterpolateError> {
    let mut text = env.read(&folder.join(path)).map_err(|error| InterpolateError::File {
        path: path.to_owned(),
        problem: error.to_string(),
    })?;
    if text.ends_with('\n') {
        text.pop();
        if text.ends_with('\r') {
            text.pop();
        }
    }
    Ok(text)
}

fn is_variable_name(name: &str) -> bool {
    name.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_')
        && name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_')
}

const FILE: &str = "file:";

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::environment::MapEnvironment;
    use super::*;

    fn env() -> MapEnvironment {
        MapEnvironment::default()
            .with_variable("NAME", "value")
            .with_variable("EMPTY", "")
            .with_variable("NESTED", "${NAME}")
            .with_file("/run/secrets/pw", "s3cret\n")
            .with_file("/etc/pgweir/pw", "beside\r\n")
    }

    fn expand(text: &str) -> Result<Expanded, Vec<InterpolateError>> {
        interpolate(text, &env(), Path::new("/etc/pgweir"))
    }

    #[test]
    fn every_form_is_replaced() {
        for (text, wanted) in [
            ("plain", "plain"),
            ("${NAME}", "value"),
            ("a${NAME}b${NAME}c", "avaluebvaluec"),
            ("${NAME:other}", "value"),
            ("${UNSET:other}", "other"),
            ("${UNSET:}", ""),
            ("${UNSET:a:b}", "a:b"),
            ("${EMPTY:other}", ""),
            ("${NESTED}", "${NAME}"),
            ("${file:/run/secrets/pw}", "s3cret"),
            ("${file:pw}", "beside"),
            ("pa$$word$", "pa$$word$"),
            ("$NAME {NAME}", "$NAME {NAME}"),
            ("$${NAME}", "${NAME}"),
            ("$$${NAME}", "$value"),
            ("$$$${", "$${"),
        ] {
            assert_eq!(expand(text).ok().map(|e| e.text).as_deref(), Some(wanted), "{text}");
        }
    }

    #[test]
    fn every_error_of_a_string_is_named() {
        let errors = expand("${A} ${NAME} ${B} ${file:none} ${1} ${x").err().unwrap();

        assert_eq!(
            errors.iter().map(ToString::to_string).collect::<Vec<_>>(),
            [
                "the environment variable A is not set",
                "the environment variable B is not set",
                "none cannot be read: entity not found",
                "\"${\" is not followed by the name of a variable",
                "\"${\" without its \"}\"",
            ]
        );
    }

    #[test]
    fn only_a_file_makes_a_secret_of_it() {
        let from = |text| expand(text).ok().map(|e| (e.interpolated, e.from_file));

        assert_eq!(from("$${NAME}"), Some((false, false)));
        assert_eq!(from("${NAME}"), Some((true, false)));
        assert_eq!(from("${file:pw}"), Some((true, true)));
    }

    /// Doubles every dollar of a run that stands before a brace.
    fn escape(text: &str) -> String {
        let mut out = String::new();
        let mut rest = text;
        while let Some((before, dollars, after)) = next_dollars(rest) {
            out.push_str(before);
            out.push_str(dollars);
            if after.starts_with('{') {
                out.push_str(dollars);
            }
            rest = after;
        }
        out + rest
    }

    proptest! {
        #[test]
        fn escaped_text_comes_back_as_it_was(text in "[${}a-c:\\n]{0,24}") {
            let back = expand(&escape(&text)).ok().unwrap();
            prop_assert_eq!(back.text, text);
        }

        #[test]
        fn a_value_is_put_in_as_it_is(before in "[^$]{0,9}", value in "[^\\x00]{0,20}", after in ".{0,9}") {
            let env = MapEnvironment::default().with_variable("X", &value);
            let text = format!("{before}${{X}}{}", escape(&after));
            let out = interpolate(&text, &env, Path::new("")).ok().unwrap();
            prop_assert_eq!(out.text, format!("{before}{value}{after}"));
        }

        #[test]
        fn arbitrary_text_never_panics(text in "[${}:a-z\\PC]{0,40}") {
            drop(expand(&text));
        }
    }
}
