//! Directories that are there whole or not at all: filled under another name, then renamed.

use std::fs;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use rustix::fs::{CWD, RenameFlags, renameat_with};
use rustix::io::Errno;

use crate::FilesError;
use crate::replace::{directory, sync_directory};

/// A directory beside the place where it will be. Dropped before [`publish`](Self::publish), it is removed with all that is in it.
#[derive(Debug)]
pub struct Staging {
    at: PathBuf,
    to: PathBuf,
}

impl Staging {
    /// Begins what will be the directory `to`, in a directory that is there. Nothing may have that name yet.
    ///
    /// # Errors
    /// [`FilesError::Exists`], [`FilesError::Io`].
    pub fn create(to: &Path) -> Result<Staging, FilesError> {
        let exists = || FilesError::Exists(to.to_path_buf());
        let name = to.file_name().ok_or_else(exists)?.to_string_lossy();
        if fs::symlink_metadata(to).is_ok() {
            return Err(exists());
        }
        let at = directory(to).join(format!(".{name}.{}.unfinished", std::process::id()));
        fs::create_dir(&at).map_err(FilesError::io("create", &at))?;
        Ok(Staging { at, to: to.to_path_buf() })
    }

    /// Where it is until then.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.at
    }

    /// Gives it its name, on disk. What has taken the name meanwhile is not replaced.
    ///
    /// # Errors
    /// [`FilesError::Exists`], [`FilesError::Io`]: nothing of it is left.
    pub fn publish(self) -> Result<(), FilesError> {
        sync_directory(&self.at)?;
        let renamed = match renameat_with(CWD, &self.at, CWD, &self.to, RenameFlags::NOREPLACE) {
            // Not every file system can promise it.
            Err(Errno::INVAL | Errno::NOSYS) if fs::symlink_metadata(&self.to).is_err() => fs::rename(&self.at, &self.to),
            renamed => renamed.map_err(Into::into),
        };
        renamed.map_err(|error| match error.kind() {
            ErrorKind::AlreadyExists => FilesError::Exists(self.to.clone()),
            _ => FilesError::io("rename", &self.to)(error),
        })?;
        sync_directory(directory(&self.to))
    }
}

impl Drop for Staging {
    fn drop(&mut self) {
        // Renamed by now, or left by an error that is on its way.
        let _ = fs::remove_dir_all(&self.at);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(folder: &Path) -> usize {
        fs::read_dir(folder).unwrap().count()
    }

    #[test]
    fn a_directory_is_there_whole_or_not_at_all() {
        let folder = tempfile::tempdir().unwrap();
        let to = folder.path().join("a");
        let left = Staging::create(&to).unwrap();
        fs::write(left.path().join("half"), "x").unwrap();
        drop(left);
        assert_eq!(names(folder.path()), 0);
        let whole = Staging::create(&to).unwrap();
        fs::write(whole.path().join("all"), "x").unwrap();
        whole.publish().unwrap();
        assert_eq!((names(folder.path()), fs::read(to.join("all")).unwrap()), (1, b"x".to_vec()));
        assert!(matches!(Staging::create(&to), Err(FilesError::Exists(_))));
        assert!(Staging::create(Path::new("/")).is_err() && Staging::create(&to.join("no/where")).is_err());
    }

    #[test]
    fn what_took_the_name_meanwhile_stays() {
        let folder = tempfile::tempdir().unwrap();
        let to = folder.path().join("a");
        let late = Staging::create(&to).unwrap();
        fs::create_dir(&to).unwrap();
        assert!(matches!(late.publish(), Err(FilesError::Exists(_))));
        assert_eq!((names(folder.path()), names(&to)), (1, 0));
    }
}
