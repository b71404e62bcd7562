//! Writing: a file is there whole or not at all, whatever stops the writer.

use std::ffi::OsStr;
use std::fs::{self, File, OpenOptions};
use std::io::{ErrorKind, Write};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::SystemTime;

use crate::FilesError;

/// Names of unfinished files begin so. A crash leaves one behind; [`remove_unfinished`] takes it away.
const UNFINISHED: &str = ".unfinished-";

/// A file that is written under a name that nobody else has. Dropped before [`publish`](Self::publish), it is removed.
#[derive(Debug)]
pub struct Unfinished {
    file: File,
    at: PathBuf,
    path: PathBuf,
    published: bool,
}

impl Unfinished {
    /// Begins what will be the file at `path`, whose directory is there, with access mode `mode` (the process's mask applies). The name it
    /// gets until then is new: a link that somebody has put there is not followed.
    ///
    /// # Errors
    /// [`FilesError::Io`].
    pub fn create(path: &Path, mode: u32) -> Result<Self, FilesError> {
        static COUNT: AtomicU64 = AtomicU64::new(0);
        let time = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default().as_nanos();
        loop {
            let count = COUNT.fetch_add(1, Ordering::Relaxed);
            let at = directory(path).join(format!("{UNFINISHED}{}-{time:x}-{count}", std::process::id()));
            match OpenOptions::new().write(true).create_new(true).mode(mode).open(&at) {
                Ok(file) => return Ok(Self { file, at, path: path.to_path_buf(), published: false }),
                Err(error) if error.kind() == ErrorKind::AlreadyExists => {}
                Err(error) => return Err(FilesError::io("write", path)(error)),
            }
        }
    }

    /// Puts its bytes on disk and gives it its name. The name itself is on disk after [`sync_directory`].
    ///
    /// # Errors
    /// [`FilesError::Io`]; the file of that name, if there was one, is as it was.
    pub fn publish(mut self) -> Result<(), FilesError> {
        self.file.sync_all().map_err(FilesError::io("sync", &self.path))?;
        fs::rename(&self.at, &self.path).map_err(FilesError::io("rename", &self.path))?;
        self.published = true;
        Ok(())
    }
}

impl Write for Unfinished {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.file.write(bytes)
    }

    fn flush(&mut self) -> std::io::Result<()> {
        self.file.flush()
    }
}

impl Drop for Unfinished {
    fn drop(&mut self) {
        if !self.published {
            // Half a file is of no use, and on a full disk its room is.
            let _ = fs::remove_file(&self.at);
        }
    }
}

/// Writes `parts`, one after the other, as the file at `path`: under another name, synced, renamed. The name is on disk after
/// [`sync_directory`]; of many files in one directory it is called once.
///
/// # Errors
/// [`FilesError::Io`]; the file of that name, if there was one, is as it was.
pub fn file(path: &Path, parts: &[&[u8]], mode: u32) -> Result<(), FilesError> {
    let mut new = Unfinished::create(path, mode)?;
    parts.iter().try_for_each(|part| new.write_all(part)).map_err(FilesError::io("write", path))?;
    new.publish()
}

/// The same for one file: when it returns, bytes and name survive a power loss.
///
/// # Errors
/// [`FilesError::Io`]. If only the directory could not be synced, the new file is there.
pub fn file_and_name(path: &Path, bytes: &[u8], mode: u32) -> Result<(), FilesError> {
    file(path, &[bytes], mode)?;
    sync_directory(directory(path))
}

/// Makes a new file and puts it on disk, under its own name from the start: for files that must not replace another.
///
/// # Errors
/// [`FilesError::Exists`] when something is there, also a link to nowhere; [`FilesError::Io`], and the file is taken away.
pub fn new_file(path: &Path, bytes: &[u8], mode: u32) -> Result<(), FilesError> {
    let file = OpenOptions::new().write(true).create_new(true).mode(mode).open(path);
    let mut file = file.map_err(|error| match error.kind() {
        ErrorKind::AlreadyExists => FilesError::Exists(path.to_path_buf()),
        _ => FilesError::io("write", path)(error),
    })?;
    file.write_all(bytes).and_then(|()| file.sync_all()).map_err(|error| {
        let _ = fs::remove_file(path);
        FilesError::io("write", path)(error)
    })
}

/// Puts a directory's names on disk.
///
/// # Errors
/// [`FilesError::Io`].
pub fn sync_directory(path: &Path) -> Result<(), FilesError> {
    File::open(path).and_then(|directory| directory.sync_all()).map_err(FilesError::io("sync", path))
}

/// The directory of the file at `path`.
pub fn directory(path: &Path) -> &Path {
    path.parent().filter(|directory| !directory.as_os_str().is_empty()).unwrap_or(Path::new("."))
}

/// Is this the name of a file that somebody is writing, or was when it stopped?
pub fn is_unfinished(name: &OsStr) -> bool {
    name.as_encoded_bytes().starts_with(UNFINISHED.as_bytes())
}

/// Removes what writers that died have left in a directory. The caller knows that nobody writes there now.
///
/// # Errors
/// [`FilesError::Io`]; a file that somebody else removes is no error.
pub fn remove_unfinished(directory: &Path) -> Result<(), FilesError> {
    for entry in fs::read_dir(directory).map_err(FilesError::io("list", directory))? {
        let entry = entry.map_err(FilesError::io("list", directory))?;
        if !is_unfinished(&entry.file_name()) {
            continue;
        }
        match fs::remove_file(entry.path()) {
            Err(error) if error.kind() != ErrorKind::NotFound => return Err(FilesError::io("remove", &entry.path())(error)),
            _ => {}
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    fn names(folder: &Path) -> usize {
        fs::read_dir(folder).unwrap().count()
    }

    #[test]
    fn a_file_is_replaced_whole_and_has_its_mode() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a");
        file(&path, &[b"one", b" two"], 0o600).unwrap();
        assert_eq!(fs::read(&path).unwrap(), b"one two");
        file_and_name(&path, b"three", 0o400).unwrap();
        assert_eq!(fs::read(&path).unwrap(), b"three");
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o400);
        assert_eq!(names(folder.path()), 1);
    }

    #[test]
    fn what_is_not_published_leaves_the_old_file_and_nothing_else() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a");
        fs::write(&path, "old").unwrap();
        let mut new = Unfinished::create(&path, 0o600).unwrap();
        new.write_all(b"half").unwrap();
        assert_eq!(names(folder.path()), 2);
        drop(new);
        assert_eq!((fs::read(&path).unwrap(), names(folder.path())), (b"old".to_vec(), 1));
        fs::create_dir(folder.path().join("d")).unwrap();
        assert!(matches!(file(&folder.path().join("d"), &[b"x"], 0o600), Err(FilesError::Io { action: "rename", .. })));
        assert!(matches!(file(&folder.path().join("no/where"), &[b"x"], 0o600), Err(FilesError::Io { action: "write", .. })));
        assert_eq!(names(folder.path()), 2);
    }

    #[test]
    fn a_link_in_the_place_of_the_file_is_replaced_and_not_followed() {
        let folder = tempfile::tempdir().unwrap();
        let (path, other) = (folder.path().join("a"), folder.path().join("other"));
        fs::write(&other, "untouched").unwrap();
        std::os::unix::fs::symlink(&other, &path).unwrap();
        file(&path, &[b"new"], 0o600).unwrap();
        assert_eq!((fs::read(&other).unwrap(), fs::read(&path).unwrap()), (b"untouched".to_vec(), b"new".to_vec()));
        assert!(fs::symlink_metadata(&path).unwrap().is_file());
    }

    #[test]
    fn a_new_file_replaces_nothing_and_follows_no_link() {
        let folder = tempfile::tempdir().unwrap();
        let (path, link) = (folder.path().join("a"), folder.path().join("link"));
        new_file(&path, b"one", 0o600).unwrap();
        assert!(matches!(new_file(&path, b"two", 0o600), Err(FilesError::Exists(_))));
        assert_eq!(fs::read(&path).unwrap(), b"one");
        std::os::unix::fs::symlink(folder.path().join("nowhere"), &link).unwrap();
        assert!(matches!(new_file(&link, b"x", 0o600), Err(FilesError::Exists(_))));
        assert!(!folder.path().join("nowhere").exists());
    }

    #[test]
    fn many_writers_of_one_file_leave_one_of_theirs() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a");
        std::thread::scope(|scope| {
            for writer in 0..4_u8 {
                let path = &path;
                scope.spawn(move || (0..50).for_each(|_| file(path, &[&[writer; 1000]], 0o600).unwrap()));
            }
        });
        let bytes = fs::read(&path).unwrap();
        assert!(bytes.len() == 1000 && bytes.iter().all(|byte| *byte == bytes[0]));
        assert_eq!(names(folder.path()), 1);
    }

    #[test]
    fn what_a_dead_writer_left_is_removed() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a");
        let mut left = Unfinished::create(&path, 0o600).unwrap();
        left.published = true;
        drop(left);
        fs::write(&path, "whole").unwrap();
        remove_unfinished(folder.path()).unwrap();
        assert_eq!((names(folder.path()), fs::read(&path).unwrap()), (1, b"whole".to_vec()));
    }
}
