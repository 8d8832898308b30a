//! The one folder that everything of the demo is in, removed at its end.

use std::fs::DirBuilder;
use std::io;
use std::os::unix::fs::DirBuilderExt as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use thiserror::Error;
use tokio::time::sleep;

use super::account::Account;

/// A fresh folder in `$TMPDIR` that nobody else may enter.
#[derive(Debug)]
pub(super) struct Folder {
    path: PathBuf,
    removed: bool,
}

#[derive(Debug, Error)]
pub(super) enum FolderError {
    #[error("cannot make a temporary folder {}: {source}", path.display())]
    Make { path: PathBuf, source: io::Error },
    #[error("cannot write {}: {source}", path.display())]
    Write { path: PathBuf, source: io::Error },
    #[error("{} is left behind: {source}", path.display())]
    Remove { path: PathBuf, source: io::Error },
}

impl Folder {
    /// Makes it, for `owner` if there is one.
    pub(super) fn new(owner: Option<&Account>) -> Result<Self, FolderError> {
        let mut random = [0; 4];
        let name = match getrandom::fill(&mut random) {
            Ok(()) => format!("pgweir-demo-{:08x}", u32::from_ne_bytes(random)),
            // Making it fails if it exists, so a poor name is no danger.
            Err(_) => format!("pgweir-demo-{}", std::process::id()),
        };
        let parent = std::env::temp_dir();
        let path = std::path::absolute(&parent).unwrap_or(parent).join(name);
        let failed = |source| FolderError::Make { path: path.clone(), source };
        DirBuilder::new().mode(0o700).create(&path).map_err(failed)?;
        let folder = Self { path: path.clone(), removed: false };
        if let Some(owner) = owner {
            std::os::unix::fs::chown(&path, Some(owner.uid), Some(owner.gid)).map_err(failed)?;
        }
        Ok(folder)
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// Writes a file into it. Its readers are those who may enter the folder.
    pub(super) fn write(&self, name: &str, text: &str) -> Result<PathBuf, FolderError> {
        let path = self.path.join(name);
        match std::fs::write(&path, text) {
            Ok(()) => Ok(path),
            Err(source) => Err(FolderError::Write { path, source }),
        }
    }

    /// Removes it with all that is in it. A process on its way out may still write there for a
    /// moment, hence several attempts.
    pub(super) async fn remove(mut self) -> Result<(), FolderError> {
        self.removed = true;
        let mut attempts = 1;
        loop {
            let Err(source) = std::fs::remove_dir_all(&self.path) else { return Ok(()) };
            if source.kind() == io::ErrorKind::NotFound && !self.path.exists() {
                return Ok(());
            }
            if attempts == ATTEMPTS {
                return Err(FolderError::Remove { path: self.path.clone(), source });
            }
            attempts += 1;
            sleep(BETWEEN).await;
        }
    }
}

/// For a panic on the way; the ordinary end is [`Folder::remove`].
impl Drop for Folder {
    fn drop(&mut self) {
        if !self.removed {
            drop(std::fs::remove_dir_all(&self.path));
        }
    }
}

const ATTEMPTS: usize = 40;
const BETWEEN: Duration = Duration::from_millis(50);

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    #[tokio::test]
    async fn a_folder_is_private_and_goes_with_all_that_is_in_it() {
        let folder = Folder::new(None).unwrap();
        let path = folder.path().to_owned();
        folder.write("users.txt", "secret").unwrap();
        std::fs::create_dir_all(path.join("data/base")).unwrap();

        let mode = std::fs::metadata(&path).unwrap().permissions().mode();
        folder.remove().await.unwrap();

        assert_eq!(mode & 0o777, 0o700);
        assert!(!path.exists());
    }

    #[test]
    fn a_dropped_folder_is_removed() {
        let folder = Folder::new(None).unwrap();
        let path = folder.path().to_owned();

        drop(folder);

        assert!(!path.exists());
    }
}
