//! Reading: only regular files, which have an end, and no more than the caller allows.

use std::fs::{File, FileType, OpenOptions};
use std::io::{ErrorKind, Read as _};
use std::os::unix::fs::{FileTypeExt as _, OpenOptionsExt as _};
use std::path::Path;

use rustix::fs::OFlags;

use crate::FilesError;

/// Opens a regular file; also how many bytes it has. Anything else is refused without waiting for it, as opening a pipe would.
///
/// # Errors
/// [`FilesError::NotRegular`], [`FilesError::Io`].
pub fn open(path: &Path) -> Result<(File, u64), FilesError> {
    let file = OpenOptions::new().read(true).custom_flags(OFlags::NONBLOCK.bits().cast_signed()).open(path);
    let file = file.map_err(FilesError::io("open", path))?;
    // The open file is asked, not its name: what is read is what was looked at.
    let about = file.metadata().map_err(FilesError::io("read", path))?;
    if !about.is_file() {
        return Err(FilesError::NotRegular { path: path.to_path_buf(), found: kind(about.file_type()) });
    }
    Ok((file, about.len()))
}

/// What something that is no regular file is.
pub fn kind(kind: FileType) -> &'static str {
    match kind {
        kind if kind.is_dir() => "a directory",
        kind if kind.is_fifo() => "a pipe",
        kind if kind.is_socket() => "a socket",
        kind if kind.is_symlink() => "a symbolic link",
        _ => "a device",
    }
}

/// The bytes of a file that has at most `limit` of them.
///
/// # Errors
/// [`FilesError::NotRegular`], [`FilesError::TooLarge`], [`FilesError::Io`].
pub fn bytes(path: &Path, limit: u64) -> Result<Vec<u8>, FilesError> {
    let (file, length) = open(path)?;
    let too_large = |found| FilesError::TooLarge { path: path.to_path_buf(), found, limit };
    if length > limit {
        return Err(too_large(length));
    }
    // One byte more than it has: so reading ends without another allocation, unless the file grows meanwhile.
    let mut bytes = Vec::with_capacity(usize::try_from(length).unwrap_or(0).saturating_add(1));
    let read = file.take(limit.saturating_add(1)).read_to_end(&mut bytes);
    let found = read.map_err(FilesError::io("read", path))? as u64;
    if found > limit { Err(too_large(found)) } else { Ok(bytes) }
}

/// The same of a file that need not be there. Only where it is certainly not there is it `None`.
///
/// # Errors
/// Those of [`bytes`].
pub fn bytes_if_there(path: &Path, limit: u64) -> Result<Option<Vec<u8>>, FilesError> {
    match bytes(path, limit) {
        Err(FilesError::Io { action: "open", source, .. }) if source.kind() == ErrorKind::NotFound => Ok(None),
        read => read.map(Some),
    }
}

/// The text of a file that has at most `limit` bytes.
///
/// # Errors
/// Those of [`bytes`], and [`FilesError::NotText`].
pub fn text(path: &Path, limit: u64) -> Result<String, FilesError> {
    String::from_utf8(bytes(path, limit)?)
        .map_err(|error| FilesError::NotText { path: path.to_path_buf(), byte: error.utf8_error().valid_up_to() })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_is_read_up_to_its_limit() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a");
        assert!(bytes_if_there(&path, 4).unwrap().is_none());
        assert!(matches!(bytes(&path, 4), Err(FilesError::Io { action: "open", .. })));
        std::fs::write(&path, "four").unwrap();
        assert_eq!(text(&path, 4).unwrap(), "four");
        assert_eq!(bytes_if_there(&path, 4).unwrap().unwrap(), b"four");
        assert!(matches!(bytes(&path, 3), Err(FilesError::TooLarge { found: 4, limit: 3, .. })));
        std::fs::write(&path, b"ab\xff").unwrap();
        assert!(matches!(text(&path, 4), Err(FilesError::NotText { byte: 2, .. })));
        assert!(bytes_if_there(&path.join("below"), 4).is_err(), "what cannot be looked for is not taken for absent");
    }

    /// Such files say that they have no bytes, and have some: they are counted while they are read.
    #[test]
    fn a_file_that_lies_about_its_length_is_read_up_to_its_limit() {
        assert!(matches!(bytes(Path::new("/proc/self/status"), 10), Err(FilesError::TooLarge { found: 11, limit: 10, .. })));
        assert!(text(Path::new("/proc/self/status"), 1 << 20).unwrap().starts_with("Name:"));
    }

    #[test]
    fn pipes_directories_and_devices_are_refused_and_not_waited_for() {
        let folder = tempfile::tempdir().unwrap();
        let pipe = folder.path().join("pipe");
        assert!(std::process::Command::new("mkfifo").arg(&pipe).status().unwrap().success());
        let link = folder.path().join("link");
        std::os::unix::fs::symlink(&pipe, &link).unwrap();
        for (path, what) in
            [(pipe.as_path(), "a pipe"), (&link, "a pipe"), (folder.path(), "a directory"), (Path::new("/dev/zero"), "a device")]
        {
            let error = bytes(path, 10).unwrap_err();
            assert!(matches!(&error, FilesError::NotRegular { found, .. } if *found == what), "{error}");
        }
    }
}
