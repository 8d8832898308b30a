//! What is wrong with a configuration file: every problem with its file, line and key.

use std::fmt;
use std::path::{Path, PathBuf};

/// All problems of one configuration, in the order of their lines. Never empty.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ConfigErrors {
    pub problems: Vec<ConfigProblem>,
}

impl fmt::Display for ConfigErrors {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, problem) in self.problems.iter().enumerate() {
            if index > 0 {
                f.write_str("\n")?;
            }
            write!(f, "{problem}")?;
        }
        Ok(())
    }
}

impl std::error::Error for ConfigErrors {}

/// One problem. Its text holds no secret, and no interpolated text but the paths of files.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ConfigProblem {
    pub file: PathBuf,
    /// Counted from 1. `None` if no line is to blame, e.g. for a key that is missing.
    pub line: Option<usize>,
    /// The dotted path, e.g. `domains.internals.pool.size`. Empty if the file as a whole is meant.
    pub key: String,
    pub problem: String,
    /// What to do about it, as a clause: `did you mean "size"?`.
    pub suggestion: Option<String>,
}

impl fmt::Display for ConfigProblem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:", self.file.display())?;
        if let Some(line) = self.line {
            write!(f, "{line}:")?;
        }
        if !self.key.is_empty() {
            write!(f, " {}:", self.key)?;
        }
        write!(f, " {}", self.problem)?;
        self.suggestion.as_ref().map_or(Ok(()), |suggestion| write!(f, "; {suggestion}"))
    }
}

/// The place of a problem in the file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct At {
    pub line: Option<usize>,
    pub key: String,
}

/// What is wrong with one value, before its place is known.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Flaw {
    pub problem: String,
    pub suggestion: Option<String>,
}

impl Flaw {
    pub(super) fn new(problem: impl Into<String>) -> Self {
        Self { problem: problem.into(), suggestion: None }
    }

    pub(super) fn suggest(mut self, suggestion: Option<String>) -> Self {
        self.suggestion = suggestion;
        self
    }
}

/// The problems found so far in one file.
#[derive(Debug)]
pub(super) struct Problems {
    file: PathBuf,
    found: Vec<ConfigProblem>,
}

impl Problems {
    pub(super) fn new(file: &Path) -> Self {
        Self { file: file.to_path_buf(), found: Vec::new() }
    }

    pub(super) fn add(&mut self, at: At, flaw: Flaw) {
        self.found.push(ConfigProblem {
            file: self.file.clone(),
            line: at.line,
            key: at.key,
            problem: flaw.problem,
            suggestion: flaw.suggestion,
        });
    }

    /// How many were found so far.
    pub(super) fn len(&self) -> usize {
        self.found.len()
    }

    /// `value` if nothing was found.
    pub(super) fn into_result<T>(self, value: T) -> Result<T, ConfigErrors> {
        if self.found.is_empty() { Ok(value) } else { Err(self.into_errors()) }
    }

    /// What was found, in the order of the lines; what no line is to blame for comes first.
    pub(super) fn into_errors(mut self) -> ConfigErrors {
        self.found.sort_by(|a, b| (a.line, &a.key).cmp(&(b.line, &b.key)));
        // `[pool]` is checked alone and beneath every domain.
        self.found.dedup();
        ConfigErrors { problems: self.found }
    }
}
