//! Files that are there whole or not at all, and locks between processes.

use std::fs::{File, OpenOptions};
use std::io::{ErrorKind, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

use rustix::fs::FlockOperation;

use crate::LedgerError;

/// Names of unfinished files begin so; a crash may leave one behind, and the next write of the same file takes it over.
const UNFINISHED: &str = ".unfinished-";

/// A file's bytes, or nothing when it is not there.
pub(super) fn read(path: &Path) -> Result<Option<Vec<u8>>, LedgerError> {
    match std::fs::read(path) {
        Ok(bytes) => Ok(Some(bytes)),
        Err(error) if matches!(error.kind(), ErrorKind::NotFound | ErrorKind::NotADirectory) => Ok(None),
        Err(error) => Err(LedgerError::io("read", path, error)),
    }
}

/// Writes a file under another name and gives it its own when it is complete. `synced` puts it on disk before that; without it the
/// caller syncs later. The directory is not synced.
pub(super) fn replace(path: &Path, parts: &[&[u8]], synced: bool) -> Result<(), LedgerError> {
    let (folder, name) = (path.parent().unwrap_or(Path::new(".")), path.file_name().unwrap_or_default());
    let unfinished = folder.join(format!("{UNFINISHED}{}", name.to_string_lossy()));
    let written = write_new(&unfinished, parts, synced);
    if let Err(error) = written {
        // Half a file is of no use, and on a full disk its room is.
        let _ = std::fs::remove_file(&unfinished);
        return Err(LedgerError::io("write", path, error));
    }
    std::fs::rename(&unfinished, path).map_err(|error| LedgerError::io("rename", path, error))
}

fn write_new(path: &Path, parts: &[&[u8]], synced: bool) -> std::io::Result<()> {
    if let Some(folder) = path.parent() {
        std::fs::create_dir_all(folder)?;
    }
    let mut file = OpenOptions::new().write(true).create(true).truncate(true).mode(0o644).open(path)?;
    parts.iter().try_for_each(|part| file.write_all(part))?;
    if synced { file.sync_all() } else { Ok(()) }
}

/// Puts a directory's names on disk.
pub(super) fn sync_folder(path: &Path) -> Result<(), LedgerError> {
    File::open(path).and_then(|folder| folder.sync_all()).map_err(|error| LedgerError::io("sync", path, error))
}

/// Puts `files` and the names that lead to them below `top` on disk. Many files share one sync of the file system.
pub(super) fn sync_all(top: &Path, files: &[PathBuf]) -> Result<(), LedgerError> {
    const MANY: usize = 32;
    if files.len() > MANY {
        let folder = File::open(top).map_err(|error| LedgerError::io("open", top, error))?;
        return rustix::fs::syncfs(&folder).map_err(|error| LedgerError::io("sync", top, error.into()));
    }
    let mut folders: Vec<&Path> = Vec::new();
    for path in files {
        sync_folder(path)?;
        let above = path.ancestors().skip(1).take_while(|folder| folder.starts_with(top));
        folders.extend(above.filter(|folder| !folders.contains(folder)).collect::<Vec<_>>());
    }
    folders.into_iter().try_for_each(sync_folder)
}

/// A file that processes lock in turn. It is made if it is missing and never removed.
pub(super) struct LockFile {
    path: PathBuf,
    file: File,
}

impl LockFile {
    pub(super) fn open(path: PathBuf) -> Result<Self, LedgerError> {
        let file = OpenOptions::new().write(true).create(true).truncate(false).mode(0o644).open(&path);
        let file = file.map_err(|error| LedgerError::io("open", &path, error))?;
        Ok(Self { path, file })
    }

    /// Waits until nobody else holds it. Threads that share this value have to take turns by themselves.
    pub(super) fn hold(&self) -> Result<Held<'_>, LedgerError> {
        use rustix::io::Errno;
        loop {
            return match rustix::fs::flock(&self.file, FlockOperation::LockExclusive) {
                Ok(()) => Ok(Held { file: &self.file }),
                Err(Errno::INTR) => continue,
                Err(error @ (Errno::NOSYS | Errno::OPNOTSUPP | Errno::NOLCK)) => {
                    Err(LedgerError::NoLocks { path: self.path.clone(), source: error.into() })
                }
                Err(error) => Err(LedgerError::io("lock", &self.path, error.into())),
            };
        }
    }
}

/// The lock, until this is dropped.
pub(super) struct Held<'a> {
    file: &'a File,
}

impl Drop for Held<'_> {
    fn drop(&mut self) {
        // It cannot fail on a file that was locked; if it did, closing the file would unlock it.
        let _ = rustix::fs::flock(self.file, FlockOperation::Unlock);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_is_replaced_whole() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a/b/c");
        replace(&path, &[b"one", b" two"], true).unwrap();
        assert_eq!(read(&path).unwrap().unwrap(), b"one two");
        replace(&path, &[b"three"], false).unwrap();
        assert_eq!(read(&path).unwrap().unwrap(), b"three");
        assert_eq!(std::fs::read_dir(path.parent().unwrap()).unwrap().count(), 1);
        sync_all(folder.path(), &[path]).unwrap();
    }

    #[test]
    fn what_is_missing_is_nothing_and_what_cannot_be_read_is_an_error() {
        let folder = tempfile::tempdir().unwrap();
        assert!(read(&folder.path().join("none")).unwrap().is_none());
        assert!(matches!(read(folder.path()), Err(LedgerError::Io { action: "read", .. })));
    }
}
