//! Small files, read whole with a limit and written whole or not at all.

use std::fs::{self, File, Metadata, OpenOptions};
use std::io::{ErrorKind, Read, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};

use rustix::fs::OFlags;

use crate::error::{Error, Result, io_error, malformed};

/// Ends the name of a file that is being written. What a crash leaves of it is removed by the next writer.
const UNFINISHED: &str = ".unfinished";
/// Names that are tried before a directory full of them is given up.
const TRIES: usize = 1000;

/// Opens a regular file for reading. Anything else is refused without waiting for it, as opening a pipe would. A missing file is what `missing`
/// says.
pub(crate) fn open(path: &Path, missing: impl FnOnce() -> Error) -> Result<(File, Metadata)> {
    let without_waiting = OFlags::NONBLOCK.bits().cast_signed();
    let file = match OpenOptions::new().read(true).custom_flags(without_waiting).open(path) {
        Ok(file) => file,
        Err(error) if error.kind() == ErrorKind::NotFound => return Err(missing()),
        Err(error) => return Err(io_error("read", path)(error)),
    };
    let metadata = file.metadata().map_err(io_error("read", path))?;
    if !metadata.is_file() {
        return Err(malformed(path, "the file", "something that is no regular file", "a regular file"));
    }
    Ok((file, metadata))
}

/// The whole of a small file; more than `limit` bytes are refused unread. A missing file is what `missing` says.
pub(crate) fn read_small(path: &Path, limit: u64, missing: impl FnOnce() -> Error) -> Result<Vec<u8>> {
    let (file, _) = open(path, missing)?;
    let mut bytes = Vec::new();
    read_whole(path, file, limit, &mut bytes)?;
    Ok(bytes)
}

/// The same of an open file, into memory of the caller.
pub(crate) fn read_whole(path: &Path, file: File, limit: u64, bytes: &mut Vec<u8>) -> Result<()> {
    file.take(limit.saturating_add(1)).read_to_end(bytes).map_err(io_error("read", path))?;
    if bytes.len() as u64 > limit {
        return Err(malformed(path, "the file", format!("more than {limit} bytes"), format!("at most {limit}")));
    }
    Ok(())
}

/// Removes what writers that died left of `path`, so that no manifest covers it.
pub(crate) fn remove_unfinished(path: &Path) -> Result<()> {
    let folder = parent(path);
    for entry in fs::read_dir(folder).map_err(io_error("list", folder))? {
        let entry = entry.map_err(io_error("list", folder))?;
        if is_unfinished(&entry.file_name().to_string_lossy(), path) {
            match fs::remove_file(entry.path()) {
                Err(error) if error.kind() != ErrorKind::NotFound => return Err(io_error("remove", &entry.path())(error)),
                _ => {}
            }
        }
    }
    Ok(())
}

/// Whether a name is one that [`replace`] gives to `path` before it is whole: `NAME.PROCESS-NUMBER.unfinished`.
fn is_unfinished(name: &str, path: &Path) -> bool {
    let whole = path.file_name().unwrap_or_default().to_string_lossy();
    let middle = name.strip_prefix(&*whole).and_then(|rest| rest.strip_prefix('.')?.strip_suffix(UNFINISHED));
    let digits = |text: &str| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    middle.and_then(|middle| middle.split_once('-')).is_some_and(|(process, number)| digits(process) && digits(number))
}

/// Writes a file under another name, brings it to the disk and renames it. Nothing that is there is written to: neither a file that has the
/// other name already, nor what a link leads to.
pub(crate) fn replace(path: &Path, bytes: &[u8]) -> Result<()> {
    let (half, mut file) = create_unfinished(path)?;
    let written = file.write_all(bytes).and_then(|()| file.sync_all()).and_then(|()| fs::rename(&half, path));
    written.map_err(io_error("write", path)).inspect_err(|_| {
        // The first error is the one to report.
        let _ = fs::remove_file(&half);
    })?;
    sync_parent(path)
}

/// A new file with a name that no other has.
fn create_unfinished(path: &Path) -> Result<(PathBuf, File)> {
    static NUMBER: AtomicU64 = AtomicU64::new(0);
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    for _ in 0..TRIES {
        let (process, number) = (std::process::id(), NUMBER.fetch_add(1, Ordering::Relaxed));
        let half = path.with_file_name(format!("{name}.{process}-{number}{UNFINISHED}"));
        match OpenOptions::new().write(true).create_new(true).open(&half) {
            Ok(file) => return Ok((half, file)),
            Err(error) if error.kind() == ErrorKind::AlreadyExists => {}
            Err(error) => return Err(io_error("write", path)(error)),
        }
    }
    Err(io_error("write", path)(ErrorKind::AlreadyExists.into()))
}

/// The directory that holds `path`.
fn parent(path: &Path) -> &Path {
    path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."))
}

/// Brings a directory's entries to the disk: after a power cut a new name is there.
pub(crate) fn sync_parent(path: &Path) -> Result<()> {
    let parent = parent(path);
    File::open(parent).and_then(|parent| parent.sync_all()).map_err(io_error("write", parent))
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;

    fn gone() -> Error {
        Error::Unsigned { path: "gone".into() }
    }

    fn names(dir: &Path) -> Vec<String> {
        let mut names: Vec<_> =
            fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
        names.sort();
        names
    }

    #[test]
    fn a_file_is_replaced_whole_and_leaves_nothing_behind() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a.sig");
        let others = ["a.sig.unfinished", "a.sig.1-x.unfinished", "b.sig.1-2.unfinished"];
        for name in ["a.sig.1-2.unfinished", "a.sig.77-0.unfinished"].into_iter().chain(others) {
            fs::write(dir.path().join(name), "half").unwrap();
        }
        remove_unfinished(&path).unwrap();
        remove_unfinished(&path).unwrap();
        replace(&path, b"one").unwrap();
        replace(&path, b"two").unwrap();
        assert_eq!(read_small(&path, 3, gone).unwrap(), b"two");
        assert_eq!(names(dir.path()), ["a.sig", "a.sig.1-x.unfinished", "a.sig.unfinished", "b.sig.1-2.unfinished"]);
    }

    #[test]
    fn nothing_is_written_through_a_link() {
        let dir = tempfile::tempdir().unwrap();
        let (path, victim) = (dir.path().join("a.sig"), dir.path().join("victim"));
        fs::write(&victim, "precious").unwrap();
        symlink(&victim, &path).unwrap();
        // Every name that could be guessed beforehand leads elsewhere, too.
        let guessed = (0..500).map(|number| format!("a.sig.{}-{number}.unfinished", std::process::id()));
        for name in guessed.chain(["a.sig.unfinished".to_owned()]) {
            symlink(&victim, dir.path().join(name)).unwrap();
        }
        replace(&path, b"new").unwrap();
        assert_eq!(fs::read(&victim).unwrap(), b"precious");
        assert_eq!(fs::read(&path).unwrap(), b"new");
        assert!(fs::symlink_metadata(&path).unwrap().is_file());
    }

    #[test]
    fn a_pipe_is_refused_and_not_waited_for() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a.sig");
        rustix::fs::mkfifoat(rustix::fs::CWD, &path, rustix::fs::Mode::RUSR | rustix::fs::Mode::WUSR).unwrap();
        let error = read_small(&path, 3, gone).unwrap_err().to_string();
        assert!(error.contains("no regular file"), "{error}");
    }

    #[test]
    fn too_much_and_nothing_are_errors() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a.sig");
        assert!(matches!(read_small(&path, 3, gone), Err(Error::Unsigned { .. })));
        fs::write(&path, "four").unwrap();
        assert!(read_small(&path, 3, gone).unwrap_err().to_string().contains("more than 3 bytes"));
        assert!(read_small(dir.path(), 3, gone).is_err());
    }

    #[test]
    fn a_directory_that_cannot_be_written_is_an_error_with_its_path() {
        let error = replace(Path::new("nowhere/at/all/a.sig"), b"x").unwrap_err().to_string();
        assert!(error.contains("cannot write nowhere/at/all/a.sig"), "{error}");
    }
}
