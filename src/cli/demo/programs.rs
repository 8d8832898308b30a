//! Where PostgreSQL's programs are on this machine.

use std::ffi::OsString;
use std::path::{Path, PathBuf};

use thiserror::Error;

use crate::config::Environment;

/// A folder that has every program in [`PROGRAMS`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Programs {
    folder: PathBuf,
    /// What a user types for `psql`: its name alone if a shell finds it by that.
    pub(super) psql: String,
}

/// The demo cannot run: what is missing, and how to get it.
#[derive(Debug, PartialEq, Eq, Error)]
pub(super) enum ProgramsError {
    #[error(
        "PG_BIN is {}, which has no {}; unset it, or set it to the folder of PostgreSQL's programs",
        folder.display(),
        missing.join(", no ")
    )]
    WrongFolder { folder: PathBuf, missing: Vec<&'static str> },
    #[error(
        "PostgreSQL's programs ({}) are in no folder of PATH and not in {DEBIAN}/*/bin.\n\
         Install them:  apt-get install postgresql\n\
         or, if they are elsewhere, set PG_BIN to their folder.",
        PROGRAMS.join(", ")
    )]
    NotFound,
}

impl Programs {
    /// Looks into `$PG_BIN`, the folders of `$PATH`, then Debian's, newest first. All programs come
    /// from one folder: Debian's `psql` in `/usr/bin` is a wrapper that looks for a system's cluster.
    pub(super) fn find(env: &dyn Environment) -> Result<Self, ProgramsError> {
        let paths = env.variable("PATH").unwrap_or_default();
        let on_path: Vec<_> = std::env::split_paths(&paths).collect();
        let folder = match env.variable("PG_BIN").filter(|folder| !folder.is_empty()) {
            Some(folder) => named(folder)?,
            None => on_path
                .iter()
                .cloned()
                .chain(debian_folders(Path::new(DEBIAN)))
                .find_map(|folder| whole(&folder))
                .ok_or(ProgramsError::NotFound)?,
        };
        let typed = on_path.iter().any(|folder| folder.join("psql").is_file());
        let psql = if typed { "psql".into() } else { folder.join("psql").display().to_string() };
        // The demo's children work in a folder of their own.
        let folder = std::path::absolute(&folder).unwrap_or(folder);
        Ok(Self { folder, psql })
    }

    pub(super) fn path(&self, program: &str) -> PathBuf {
        self.folder.join(program)
    }

    pub(super) fn folder(&self) -> &Path {
        &self.folder
    }
}

/// What the user names is used or refused, never passed over in silence.
fn named(folder: OsString) -> Result<PathBuf, ProgramsError> {
    let folder = PathBuf::from(folder);
    whole(&folder).ok_or_else(|| {
        let missing = missing(&folder);
        ProgramsError::WrongFolder { folder, missing }
    })
}

/// `folder` if it has all programs, or else the one that its link `postgres` leads to.
fn whole(folder: &Path) -> Option<PathBuf> {
    if missing(folder).is_empty() {
        return Some(folder.to_owned());
    }
    let postgres = folder.join("postgres").canonicalize().ok()?;
    let beyond = postgres.parent()?;
    missing(beyond).is_empty().then(|| beyond.to_owned())
}

fn missing(folder: &Path) -> Vec<&'static str> {
    PROGRAMS.into_iter().filter(|program| !folder.join(program).is_file()).collect()
}

/// `15/bin`, `9.6/bin` and so on under `root`, the newest first.
fn debian_folders(root: &Path) -> Vec<PathBuf> {
    let Ok(entries) = std::fs::read_dir(root) else { return Vec::new() };
    let mut versions: Vec<_> = entries
        .filter_map(Result::ok)
        .filter_map(|entry| Some((version(entry.file_name().to_str()?)?, entry.path())))
        .collect();
    versions.sort_by(|(a, _), (b, _)| b.cmp(a));
    versions.into_iter().map(|(_, path)| path.join("bin")).collect()
}

fn version(name: &str) -> Option<Vec<u32>> {
    name.split('.').map(|part| part.parse().ok()).collect()
}

const PROGRAMS: [&str; 4] = ["initdb", "postgres", "psql", "pgbench"];
const DEBIAN: &str = "/usr/lib/postgresql";

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::MapEnvironment;

    fn folder_with(programs: &[&str]) -> tempfile::TempDir {
        let folder = tempfile::tempdir().unwrap();
        for program in programs {
            std::fs::write(folder.path().join(program), "").unwrap();
        }
        folder
    }

    #[test]
    fn pg_bin_goes_before_the_path() {
        let (named, on_path) = (folder_with(&PROGRAMS), folder_with(&PROGRAMS));
        let env = MapEnvironment::default()
            .with_variable("PG_BIN", named.path())
            .with_variable("PATH", on_path.path());

        let programs = Programs::find(&env).unwrap();

        assert_eq!(programs.path("initdb"), named.path().join("initdb"));
        assert_eq!(programs.psql, "psql");
    }

    #[test]
    fn a_pg_bin_without_a_server_is_refused_by_name() {
        let named = folder_with(&["psql", "pgbench"]);
        let env = MapEnvironment::default().with_variable("PG_BIN", named.path());

        let refused = Programs::find(&env).unwrap_err();

        let folder = named.path().to_owned();
        let missing = vec!["initdb", "postgres"];
        assert_eq!(refused, ProgramsError::WrongFolder { folder, missing });
        assert!(refused.to_string().contains("has no initdb, no postgres"), "{refused}");
    }

    #[test]
    fn a_folder_of_the_path_with_clients_alone_is_passed_over() {
        let (clients, whole) = (folder_with(&["psql", "pgbench"]), folder_with(&PROGRAMS));
        let path = std::env::join_paths([clients.path(), whole.path()]).unwrap();
        let env = MapEnvironment::default().with_variable("PATH", path);

        let programs = Programs::find(&env).unwrap();

        assert_eq!(programs.folder(), whole.path());
    }

    #[test]
    fn a_link_to_the_server_leads_to_the_rest() {
        let (links, whole) = (folder_with(&[]), folder_with(&PROGRAMS));
        let target = whole.path().join("postgres");
        std::os::unix::fs::symlink(&target, links.path().join("postgres")).unwrap();
        let env = MapEnvironment::default().with_variable("PG_BIN", links.path());

        let programs = Programs::find(&env).unwrap();

        assert_eq!(programs.folder(), whole.path().canonicalize().unwrap());
    }

    #[test]
    fn a_psql_that_no_shell_finds_is_named_with_its_folder() {
        let whole = folder_with(&PROGRAMS);
        let env = MapEnvironment::default().with_variable("PG_BIN", whole.path());

        let programs = Programs::find(&env).unwrap();

        assert_eq!(programs.psql, whole.path().join("psql").display().to_string());
    }

    #[test]
    fn the_newest_version_comes_first() {
        let root = tempfile::tempdir().unwrap();
        for version in ["9.6", "15", "9.5", "17", "common"] {
            std::fs::create_dir(root.path().join(version)).unwrap();
        }

        let found = debian_folders(root.path());

        let expected = ["17", "15", "9.6", "9.5"].map(|v| root.path().join(v).join("bin"));
        assert_eq!(found, expected);
    }

    #[test]
    fn what_is_missing_is_said_with_the_command_that_installs_it() {
        assert!(ProgramsError::NotFound.to_string().contains("apt-get install postgresql\n"));
    }
}
