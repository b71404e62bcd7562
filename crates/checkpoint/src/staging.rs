//! A directory that appears under its name only when it is complete.

use std::fs;
use std::path::{Path, PathBuf};

use crate::error::{CheckpointError, Result};
use crate::files;

/// A directory under a temporary name beside its final one. Dropped before [`Staging::publish`], it is removed.
pub(crate) struct Staging {
    target: PathBuf,
    temporary: PathBuf,
    published: bool,
}

impl Staging {
    /// Starts a directory that will become `target`, which must not exist or be empty.
    pub(crate) fn start(target: &Path) -> Result<Self> {
        let occupied = fs::read_dir(target).is_ok_and(|mut entries| entries.next().is_some()) || target.is_file();
        if occupied {
            let (found, expected) = ("something that is there already".into(), "no directory, or an empty one".into());
            return Err(CheckpointError::Occupied { path: target.to_path_buf(), found, expected });
        }
        let name = target.file_name().unwrap_or_default().to_string_lossy();
        let temporary = target.with_file_name(format!(".{name}.partial-{}", std::process::id()));
        files::remove_dir(&temporary)?;
        files::create_dir_all(&temporary)?;
        Ok(Self { target: target.to_path_buf(), temporary, published: false })
    }

    pub(crate) fn path(&self) -> &Path {
        &self.temporary
    }

    /// Syncs the directory and gives it its name.
    pub(crate) fn publish(mut self) -> Result<()> {
        files::sync_dir(&self.temporary)?;
        // Renaming a directory onto an empty one is one step; onto a full one the system refuses.
        files::rename(&self.temporary, &self.target)?;
        self.published = true;
        files::sync_dir(files::parent(&self.target))
    }
}

impl Drop for Staging {
    fn drop(&mut self) {
        if !self.published {
            // Nothing to report to: the error that led here is already on its way.
            let _ = files::remove_dir(&self.temporary);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn appears_whole_or_not_at_all() {
        let dir = tempfile::tempdir().unwrap();
        let target = dir.path().join("model");
        drop(Staging::start(&target).unwrap());
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 0);
        let staging = Staging::start(&target).unwrap();
        files::write_synced(&staging.path().join("a"), b"1").unwrap();
        assert!(!target.exists());
        staging.publish().unwrap();
        assert!(target.join("a").exists());
        assert!(matches!(Staging::start(&target), Err(CheckpointError::Occupied { .. })));
    }
}
