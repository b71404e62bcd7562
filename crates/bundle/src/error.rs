//! What can go wrong with a bundle, or with what should go into one.

use std::io;
use std::path::{Path, PathBuf};

use sirocco_custody::CustodyError;
use sirocco_files::FilesError;

/// Everything that this crate can fail with.
#[derive(Debug, thiserror::Error)]
pub enum BundleError {
    /// A bundle that is not as one has to be: changed, cut off, or never one. Nothing of it is believed.
    #[error("{}: {place}: found {found}, expected {expected}", path.display())]
    Malformed {
        /// The bundle.
        path: PathBuf,
        /// The file in it.
        place: String,
        /// What is there.
        found: String,
        /// What has to be there.
        expected: String,
    },
    /// Something that cannot be packed.
    #[error("{}: found {found}, expected {expected}", path.display())]
    NotPacked {
        /// What it is about.
        path: PathBuf,
        /// What is there.
        found: String,
        /// What can be packed.
        expected: &'static str,
    },
    /// A file that was changed between being measured and being packed, or a bundle between being verified and being opened.
    #[error("{}: it was changed while it was read: found {found}, expected {expected}", path.display())]
    ChangedMeanwhile {
        /// The file.
        path: PathBuf,
        /// What it has now.
        found: String,
        /// What it had.
        expected: String,
    },
    /// No room for what would be written.
    #[error("{}: {free} bytes are free, expected {needed}", path.display())]
    DiskFull {
        /// Where it would be written.
        path: PathBuf,
        /// Bytes that this account may write there.
        free: u64,
        /// Bytes that are needed.
        needed: u64,
    },
    /// What was admitted is not what the bundle has.
    #[error("{}: found {found} admitted parts of it, expected its own {expected}", path.display())]
    OtherParts {
        /// The bundle.
        path: PathBuf,
        /// Parts of it that were admitted.
        found: usize,
        /// Parts that it has.
        expected: usize,
    },
    /// The caller asked to stop.
    #[error("stopped on request; nothing was left behind")]
    Stopped,
    /// Something is already there.
    #[error("{}: is there already", path.display())]
    Exists {
        /// What is there.
        path: PathBuf,
    },
    /// Keys, signatures and records.
    #[error(transparent)]
    Custody(#[from] CustodyError),
    /// A file.
    #[error(transparent)]
    File(FilesError),
}

impl From<FilesError> for BundleError {
    fn from(error: FilesError) -> Self {
        match error {
            FilesError::Exists(path) => Self::Exists { path },
            error => Self::File(error),
        }
    }
}

impl From<sirocco_signing::Error> for BundleError {
    fn from(error: sirocco_signing::Error) -> Self {
        Self::Custody(error.into())
    }
}

/// The error of having failed to do `action` with `path`.
pub(crate) fn io(action: &'static str, path: &Path) -> impl FnOnce(io::Error) -> BundleError {
    let path = path.to_owned();
    move |source| BundleError::File(FilesError::Io { action, path, source })
}

/// The error of a bundle that is not as it has to be.
pub(crate) fn malformed(path: &Path, place: &str, found: impl Into<String>, expected: impl Into<String>) -> BundleError {
    BundleError::Malformed { path: path.to_owned(), place: place.to_owned(), found: found.into(), expected: expected.into() }
}
