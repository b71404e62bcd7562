//! Small files, read whole with a limit and written whole or not at all.

use std::fs::{self, File};
use std::io::{ErrorKind, Read, Write};
use std::path::{Path, PathBuf};

use crate::error::{Error, Result, io_error, malformed};

/// Ends the name of a file that is being written. What a crash leaves of it is removed by the next writer.
const UNFINISHED: &str = ".unfinished";

/// The whole of a small file; more than `limit` bytes are refused unread. A missing file is what `missing` says.
pub(crate) fn read_small(path: &Path, limit: u64, missing: impl FnOnce() -> Error) -> Result<Vec<u8>> {
    let file = match File::open(path) {
        Ok(file) => file,
        Err(error) if error.kind() == ErrorKind::NotFound => return Err(missing()),
        Err(error) => return Err(io_error("read", path)(error)),
    };
    if !file.metadata().map_err(io_error("read", path))?.is_file() {
        return Err(malformed(path, "the file", "something that is no regular file", "a regular file"));
    }
    let mut bytes = Vec::new();
    file.take(limit.saturating_add(1)).read_to_end(&mut bytes).map_err(io_error("read", path))?;
    if bytes.len() as u64 > limit {
        return Err(malformed(path, "the file", format!("more than {limit} bytes"), format!("at most {limit}")));
    }
    Ok(bytes)
}

/// Where [`replace`] writes before it renames.
pub(crate) fn unfinished(path: &Path) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(UNFINISHED);
    PathBuf::from(name)
}

/// Removes what a writer that died left of `path`, so that no manifest covers it.
pub(crate) fn remove_unfinished(path: &Path) -> Result<()> {
    let half = unfinished(path);
    match fs::remove_file(&half) {
        Err(error) if error.kind() != ErrorKind::NotFound => Err(io_error("remove", &half)(error)),
        _ => Ok(()),
    }
}

/// Writes a file under another name, brings it to the disk and renames it.
pub(crate) fn replace(path: &Path, bytes: &[u8]) -> Result<()> {
    let half = unfinished(path);
    let written = write_new(&half, bytes).and_then(|()| fs::rename(&half, path).map_err(io_error("write", path)));
    if written.is_err() {
        let _ = fs::remove_file(&half);
    }
    written?;
    sync_parent(path)
}

fn write_new(path: &Path, bytes: &[u8]) -> Result<()> {
    let mut file = File::create(path).map_err(io_error("write", path))?;
    file.write_all(bytes).and_then(|()| file.sync_all()).map_err(io_error("write", path))
}

/// Brings a directory's entries to the disk: after a power cut a new name is there.
pub(crate) fn sync_parent(path: &Path) -> Result<()> {
    let parent = path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
    File::open(parent).and_then(|parent| parent.sync_all()).map_err(io_error("write", parent))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn gone() -> Error {
        Error::Unsigned { path: "gone".into() }
    }

    #[test]
    fn a_file_is_replaced_whole_and_leaves_nothing_behind() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a.sig");
        fs::write(unfinished(&path), "half").unwrap();
        remove_unfinished(&path).unwrap();
        remove_unfinished(&path).unwrap();
        replace(&path, b"one").unwrap();
        replace(&path, b"two").unwrap();
        assert_eq!(read_small(&path, 3, gone).unwrap(), b"two");
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 1);
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
