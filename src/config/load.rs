//! From a file's name, or its text, to a checked configuration.

use std::path::Path;

use super::environment::Environment;
use super::error::{At, ConfigErrors, Flaw, Problems};
use super::raw::{Lines, Source};
use super::{Config, check, raw, rows};

/// Reads and checks the configuration in `path`. Every problem is reported, not just the first.
pub fn load(path: &Path, env: &dyn Environment) -> Result<Config, ConfigErrors> {
    if path.extension().is_some_and(|extension| extension.eq_ignore_ascii_case("ini")) {
        return Err(whole_file(path, "reading pgbouncer.ini is not built yet".to_owned()));
    }
    match env.read(path) {
        Ok(text) => parse(&text, path, env),
        Err(error) => Err(whole_file(path, format!("cannot be read: {error}"))),
    }
}

/// Checks the text of a configuration. `file` is named in problems, and its folder is where
/// relative paths start.
pub fn parse(text: &str, file: &Path, env: &dyn Environment) -> Result<Config, ConfigErrors> {
    let mut problems = Problems::new(file);
    let lines = Lines::of(text);
    let folder = file.parent().unwrap_or_else(|| Path::new(""));
    let source = Source { lines: &lines, env, folder };
    let Some(root) = raw::read(text, source, &mut problems) else {
        return Err(problems.into_errors());
    };
    let mut config = check::check(&root, source, &mut problems);
    config.rows = rows::rows(&root);
    problems.into_result(config)
}

fn whole_file(file: &Path, problem: String) -> ConfigErrors {
    let mut problems = Problems::new(file);
    problems.add(At { line: None, key: String::new() }, Flaw::new(problem));
    problems.into_errors()
}
