//! Files that are either whole or not there.

use crate::error::CorpusError;
use std::fs::{self, File};
use std::io::Write;
use std::path::Path;

/// Writes a file under a temporary name in the same directory, syncs it and renames it, so that a reader never sees half of it
/// and a full disk leaves the earlier file as it was. The directory is made when it is missing.
///
/// # Errors
/// The directory or the file cannot be written; the temporary file is removed.
pub fn write_atomically(path: &Path, bytes: &[u8]) -> Result<(), CorpusError> {
    let directory = path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
    fs::create_dir_all(directory).map_err(|source| CorpusError::io(directory, "make the directory", source))?;
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    let partial = directory.join(format!(".{name}.partial.{}", std::process::id()));
    let written = File::create(&partial)
        .and_then(|mut file| file.write_all(bytes).and_then(|()| file.sync_all()))
        .and_then(|()| fs::rename(&partial, path));
    written.map_err(|source| {
        // Best effort: the error that is reported is the first one.
        let _ = fs::remove_file(&partial);
        CorpusError::io(path, "write", source)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn replaces_whole_files_and_leaves_nothing_behind() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a/b.txt");
        write_atomically(&path, b"one").unwrap();
        write_atomically(&path, b"two").unwrap();
        assert_eq!(fs::read(&path).unwrap(), b"two");
        assert_eq!(fs::read_dir(dir.path().join("a")).unwrap().count(), 1);
    }

    #[test]
    fn a_name_that_is_a_directory_is_an_error_without_leftovers() {
        let dir = tempfile::tempdir().unwrap();
        fs::create_dir(dir.path().join("d")).unwrap();
        assert!(write_atomically(&dir.path().join("d"), b"x").is_err());
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 1);
    }
}
