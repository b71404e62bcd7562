//! What can be wrong with a file before anybody looks at what it says.

use std::io;
use std::path::{Path, PathBuf};

/// Everything that this library can fail with.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum FilesError {
    /// A pipe, a directory, a device: something that has no end, or waits.
    #[error("{}: found {found}, expected a regular file", path.display())]
    NotRegular {
        /// The path.
        path: PathBuf,
        /// What it is.
        found: &'static str,
    },
    /// More than the caller has room for.
    #[error("{}: found {found} bytes, expected at most {limit}", path.display())]
    TooLarge {
        /// The file.
        path: PathBuf,
        /// Bytes that it has, or that were read of it.
        found: u64,
        /// The most that it may have.
        limit: u64,
    },
    /// Bytes where a text was asked for.
    #[error("{}: byte {byte}: found bytes that are no text, expected UTF-8", path.display())]
    NotText {
        /// The file.
        path: PathBuf,
        /// The first byte that belongs to no character, from 0.
        byte: usize,
    },
    /// A secret that others have rights on. It was not used.
    #[error("{}: found access mode {mode:04o}, expected 0600: others could read this secret", path.display())]
    OthersMayRead {
        /// The file.
        path: PathBuf,
        /// Its permission bits.
        mode: u32,
    },
    /// A new file was to be made where one is.
    #[error("{}: found a file, expected none: it is not overwritten", .0.display())]
    Exists(PathBuf),
    /// The system refused.
    #[error("cannot {action} {}: {source}", path.display())]
    Io {
        /// A verb: `read`, `rename`, `sync`.
        action: &'static str,
        /// The file or directory.
        path: PathBuf,
        /// The system's own error.
        source: io::Error,
    },
}

impl FilesError {
    /// For `map_err`: the system refused to `action` the file at `path`.
    pub fn io(action: &'static str, path: &Path) -> impl FnOnce(io::Error) -> Self {
        move |source| Self::Io { action, path: path.to_path_buf(), source }
    }
}
