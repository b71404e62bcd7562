//! The last step before a directory gets its name: whoever publishes it may put files of its own there, a signature say.
//!
//! This crate knows nothing of signatures. It only says when every other file is written, and what their digests are.

use std::error::Error;
use std::path::Path;

use crate::error::{CheckpointError, Result};
use crate::model_writer::FileDigest;

/// Why a seal failed.
pub type SealError = Box<dyn Error + Send + Sync>;

/// Seals a directory that still has a temporary name. `known` are the files whose digests are known from writing them; there may be others.
pub(crate) fn seal(
    dir: &Path,
    known: &[FileDigest],
    with: impl FnOnce(&Path, &[FileDigest]) -> Result<(), SealError>,
) -> Result<()> {
    with(dir, known).map_err(|source| CheckpointError::Unsealed { path: dir.to_path_buf(), source })
}

/// Adds nothing.
pub(crate) fn open(_: &Path, _: &[FileDigest]) -> Result<(), SealError> {
    Ok(())
}
