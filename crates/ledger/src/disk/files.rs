//! A log's files on disk: private to its owner, replaced as one step.

use std::collections::BTreeSet;
use std::fs::{DirBuilder, File, OpenOptions};
use std::io::ErrorKind;
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

use rustix::fs::OFlags;
use sirocco_files::{FilesError, read, replace};

use crate::LedgerError;

/// Whoever may open a lock file can hold it for ever, and entries say who did what with which data: nobody but the owner has any right.
/// Others are given a copy.
const FILE_MODE: u32 = 0o600;
const DIRECTORY_MODE: u32 = 0o700;

/// A regular file's bytes, or nothing when it is not there. More than `limit` are refused.
pub(super) fn read(path: &Path, limit: u64) -> Result<Option<Vec<u8>>, LedgerError> {
    match read::bytes_if_there(path, limit) {
        // A file stands where the path has a directory, so that the path's own file is not there.
        Err(FilesError::Io { source, .. }) if source.kind() == ErrorKind::NotADirectory => Ok(None),
        read => Ok(read?),
    }
}

/// Writes a file under another name, puts it on disk and gives it its own name. Its directory is made and not synced.
pub(super) fn replace(path: &Path, parts: &[&[u8]]) -> Result<(), LedgerError> {
    let folder = replace::directory(path);
    let made = DirBuilder::new().recursive(true).mode(DIRECTORY_MODE).create(folder);
    made.map_err(|error| LedgerError::io("create", folder, error))?;
    Ok(replace::file(path, parts, FILE_MODE)?)
}

/// Makes a log's directory. Those above it are made as any others.
pub(super) fn create_directory(path: &Path) -> Result<(), LedgerError> {
    let refused = |error| LedgerError::io("create", path, error);
    let above = replace::directory(path);
    std::fs::create_dir_all(above).map_err(refused)?;
    match DirBuilder::new().mode(DIRECTORY_MODE).create(path) {
        Err(error) if error.kind() == ErrorKind::AlreadyExists && path.is_dir() => Ok(()),
        Err(error) => Err(refused(error)),
        Ok(()) => Ok(replace::sync_directory(above)?),
    }
}

/// The directories from those of `files` up to `top`.
fn directories<'a>(top: &Path, files: &'a [PathBuf]) -> BTreeSet<&'a Path> {
    let above = |path: &'a PathBuf| path.ancestors().skip(1).take_while(|folder| folder.starts_with(top));
    files.iter().flat_map(above).collect()
}

/// Puts the names of `files`, and those that lead to them below `top`, on disk. Each file has been synced by itself: only that says for
/// certain that it was written (syncfs reports no write errors before Linux 5.8, syncfs(2)).
pub(super) fn sync_names(top: &Path, files: &[PathBuf]) -> Result<(), LedgerError> {
    directories(top, files).into_iter().try_for_each(|folder| Ok(replace::sync_directory(folder)?))
}

/// Removes what writers that died left beside `files`. The caller holds the lock that all of them took.
pub(super) fn remove_unfinished(files: &[PathBuf]) -> Result<(), LedgerError> {
    let folders: BTreeSet<&Path> = files.iter().map(|path| replace::directory(path)).collect();
    folders.into_iter().try_for_each(|folder| Ok(replace::remove_unfinished(folder)?))
}

/// Opens a file of the log to write into it, and makes it if `create` says so. A link in its place is refused.
pub(super) fn open(path: &Path, create: bool) -> Result<File, LedgerError> {
    let flags = (OFlags::NOFOLLOW | OFlags::NONBLOCK).bits().cast_signed();
    let not_regular = |found| LedgerError::from(FilesError::NotRegular { path: path.to_path_buf(), found });
    let mut options = OpenOptions::new();
    options.read(true).write(true).create(create).truncate(false).mode(FILE_MODE).custom_flags(flags);
    let file = options.open(path).map_err(|error| match error.kind() {
        _ if error.raw_os_error() == Some(rustix::io::Errno::LOOP.raw_os_error()) => not_regular("a symbolic link"),
        ErrorKind::IsADirectory => not_regular("a directory"),
        _ => LedgerError::io("open", path, error),
    })?;
    let kind = file.metadata().map_err(|error| LedgerError::io("read", path, error))?.file_type();
    if kind.is_file() { Ok(file) } else { Err(not_regular(read::kind(kind))) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_is_replaced_whole_and_its_names_are_those_up_to_the_top() {
        let folder = tempfile::tempdir().unwrap();
        let files = [folder.path().join("a/b/c"), folder.path().join("a/d")];
        replace(&files[0], &[b"one", b" two"]).unwrap();
        assert_eq!(read(&files[0], 10).unwrap().unwrap(), b"one two");
        replace(&files[0], &[b"three"]).unwrap();
        assert_eq!(read(&files[0], 10).unwrap().unwrap(), b"three");
        let expected = [folder.path().to_path_buf(), folder.path().join("a"), folder.path().join("a/b")];
        assert!(directories(folder.path(), &files).into_iter().eq(expected.iter().map(PathBuf::as_path)));
        sync_names(folder.path(), &files).unwrap();
        std::fs::write(folder.path().join("a/b/.unfinished-1"), "").unwrap();
        remove_unfinished(&files[..1]).unwrap();
        assert_eq!(std::fs::read_dir(folder.path().join("a/b")).unwrap().count(), 1);
    }

    #[test]
    fn what_is_missing_is_nothing_and_what_cannot_be_read_is_an_error() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("file");
        std::fs::write(&path, "12345").unwrap();
        assert!(read(&folder.path().join("none"), 10).unwrap().is_none());
        assert!(read(&path.join("below"), 10).unwrap().is_none());
        assert!(matches!(read(folder.path(), 10), Err(LedgerError::File(FilesError::NotRegular { .. }))));
        assert!(matches!(read(&path, 4), Err(LedgerError::File(FilesError::TooLarge { found: 5, .. }))));
    }

    #[test]
    fn a_link_in_the_place_of_a_lock_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let (path, other) = (folder.path().join("lock"), folder.path().join("other"));
        std::os::unix::fs::symlink(&other, &path).unwrap();
        assert!(matches!(open(&path, true), Err(LedgerError::File(FilesError::NotRegular { found: "a symbolic link", .. }))));
        assert!(!other.exists());
        assert!(matches!(open(folder.path(), true), Err(LedgerError::File(FilesError::NotRegular { .. }))));
    }
}
