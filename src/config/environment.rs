//! What a configuration may ask of the machine: environment variables and files.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::fmt;
use std::fs::File;
use std::io::{self, Read};
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

/// Where `${NAME}` and `${file:...}` come from. Passed in, so that tests need no process environment.
pub trait Environment {
    /// The value of a variable; `None` if it is not set.
    fn variable(&self, name: &str) -> Option<OsString>;

    /// The text of a file; an error if it is not there, not readable, not UTF-8 or longer than
    /// [`FILE_BYTES_MAX`].
    fn read(&self, path: &Path) -> io::Result<String>;

    /// True if everybody on the machine may read a file.
    fn is_readable_by_all(&self, _path: &Path) -> bool {
        false
    }

    /// What time it is: certificates end.
    fn now(&self) -> SystemTime {
        SystemTime::now()
    }
}

/// The process's own environment and the file system.
#[derive(Debug, Clone, Copy, Default)]
pub struct ProcessEnvironment;

impl Environment for ProcessEnvironment {
    fn variable(&self, name: &str) -> Option<OsString> {
        std::env::var_os(name)
    }

    fn read(&self, path: &Path) -> io::Result<String> {
        let mut text = String::new();
        File::open(path)?.take(FILE_BYTES_MAX + 1).read_to_string(&mut text)?;
        if text.len() as u64 > FILE_BYTES_MAX {
            return Err(io::Error::new(io::ErrorKind::FileTooLarge, "longer than 16 MiB"));
        }
        Ok(text)
    }

    fn is_readable_by_all(&self, path: &Path) -> bool {
        std::fs::metadata(path).is_ok_and(|file| file.permissions().mode() & 0o004 != 0)
    }
}

/// An environment made of what was put into it.
#[derive(Clone, Default)]
pub struct MapEnvironment {
    variables: BTreeMap<String, OsString>,
    files: BTreeMap<PathBuf, String>,
}

impl MapEnvironment {
    #[must_use]
    pub fn with_variable(mut self, name: impl Into<String>, value: impl Into<OsString>) -> Self {
        self.variables.insert(name.into(), value.into());
        self
    }

    #[must_use]
    pub fn with_file(mut self, path: impl Into<PathBuf>, text: impl Into<String>) -> Self {
        self.files.insert(path.into(), text.into());
        self
    }
}

impl Environment for MapEnvironment {
    fn variable(&self, name: &str) -> Option<OsString> {
        self.variables.get(name).cloned()
    }

    fn read(&self, path: &Path) -> io::Result<String> {
        self.files.get(path).cloned().ok_or_else(|| io::ErrorKind::NotFound.into())
    }
}

/// Names only: the values may be secrets.
impl fmt::Debug for MapEnvironment {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("MapEnvironment")
            .field("variables", &self.variables.keys())
            .field("files", &self.files.keys())
            .finish()
    }
}

/// Bound on one file, so that a device named by mistake does not fill the memory.
pub const FILE_BYTES_MAX: u64 = 16 << 20;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn debug_of_a_map_shows_no_value() {
        let env = MapEnvironment::default()
            .with_variable("DB_PASSWORD", "hunter2")
            .with_file("/run/secrets/pw", "hunter3");

        let shown = format!("{env:?}");

        assert!(shown.contains("DB_PASSWORD") && shown.contains("/run/secrets/pw"), "{shown}");
        assert!(!shown.contains("hunter"), "{shown}");
    }

    #[test]
    fn an_endless_file_is_refused_instead_of_read() {
        let refused = ProcessEnvironment.read(Path::new("/dev/zero")).unwrap_err();

        assert_eq!(refused.kind(), io::ErrorKind::FileTooLarge);
    }
}
