//! The files made from the table of keys are fresh, and every example in the tree is accepted.

use std::ffi::OsString;
use std::io;
use std::path::{Path, PathBuf};

use super::super::{Config, Environment, MapEnvironment, ProcessEnvironment, load, parse};
use super::{default_toml, reference_markdown};

/// Fails if `file` is not `text`; with `PGWEIR_BLESS=1` writes it instead.
fn assert_fresh(file: &str, text: &str) {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(file);
    if std::env::var_os("PGWEIR_BLESS").is_some() {
        std::fs::write(&path, text).unwrap();
    }

    let written = std::fs::read_to_string(&path).unwrap_or_default();

    assert!(
        written == text,
        "{file} is stale; make it anew with: PGWEIR_BLESS=1 cargo nextest run config::reference"
    );
}

fn accepted(text: &str) -> Config {
    let env = MapEnvironment::default()
        .with_file("users.txt", "")
        .with_variable("DB_PASSWORD", "hunter2");
    parse(text, Path::new("pgweir.toml"), &env).unwrap_or_else(|errors| panic!("{errors}"))
}

/// The tree's files and no variables, whatever the shell of the test has set.
struct FilesOnly;

impl Environment for FilesOnly {
    fn variable(&self, _name: &str) -> Option<OsString> {
        None
    }

    fn read(&self, path: &Path) -> io::Result<String> {
        ProcessEnvironment.read(path)
    }
}

#[test]
fn the_reference_is_fresh() {
    assert_fresh("docs/CONFIG.md", &reference_markdown());
}

#[test]
fn the_annotated_default_is_fresh() {
    assert_fresh("config/pgweir.toml", &default_toml());
}

#[test]
fn the_annotated_default_parses_to_the_defaults() {
    let mut annotated = accepted(&default_toml());
    let mut least = accepted("[domains.\"*\"]\nhosts = [\"127.0.0.1:5432\"]");

    for row in annotated.rows.iter().filter(|row| row.key.rsplit('.').next() != Some("hosts")) {
        assert_eq!(row.value, row.default, "{}", row.key);
    }
    annotated.rows.clear();
    least.rows.clear();
    assert_eq!(format!("{annotated:?}"), format!("{least:?}"));
}

#[test]
fn the_annotated_default_writes_every_key_and_its_examples_are_good() {
    let uncommented: String = default_toml()
        .lines()
        .map(|line| match line.strip_prefix('#') {
            Some(key) if !key.starts_with(' ') => format!("{key}\n"),
            _ => format!("{line}\n"),
        })
        .collect();
    let config = accepted(&uncommented);

    for key in ["domains.\"*\".password", "hosts.\"127.0.0.1:5432\".max_connections"] {
        assert!(config.rows.iter().any(|row| row.key == key), "{key}");
    }
    for row in &config.rows {
        let name = row.key.rsplit('.').next().unwrap();
        let names_it = |line: &str| line.contains(&format!("{name} = "));
        assert!(default_toml().lines().any(names_it), "{}", row.key);
    }
}

#[test]
fn every_example_in_the_tree_is_accepted() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("config");
    let mut files = Vec::new();
    for folder in [folder.join("examples"), folder] {
        let toml = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
        files.extend(toml.filter(|path| path.extension().is_some_and(|ext| ext == "toml")));
    }
    // The annotated default names a users file that everybody writes for himself.
    files.retain(|path: &PathBuf| !path.ends_with("config/pgweir.toml"));

    assert!(files.len() >= 3, "{files:?}");
    for path in files {
        load(&path, &FilesOnly).unwrap_or_else(|errors| panic!("{errors}"));
    }
}

#[test]
fn the_three_domains_are_those_of_the_first_seed() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("config/three-domains.toml");
    let config = load(&path, &FilesOnly).unwrap();

    let databases: Vec<_> =
        config.domains.iter().map(|d| (&*d.name, d.database.as_deref().unwrap())).collect();
    assert_eq!(
        databases,
        [
            ("internals", "markets_internals"),
            ("plurality", "Plurality"),
            ("technical_analysis", "markets_technicals"),
        ]
    );
}
