//! A log's directory as the verifier reads it.

use std::path::{Path, PathBuf};

use crate::LedgerError;
use crate::disk::files;
use crate::disk::log::JOURNAL;
use crate::source::Source;
use crate::tlog_proof::CHECKPOINT;

/// The most that a bundle or a tile can have is 256 entries of 65,535 bytes; what is longer than this is not read to say so.
const TILE_LIMIT: u64 = 32 << 20;
/// A checkpoint of more than a few kilobytes has a great many witnesses.
const CHECKPOINT_LIMIT: u64 = 1 << 20;
/// More than a million entries that nobody has sealed.
pub(super) const JOURNAL_LIMIT: u64 = 1 << 30;

/// The files below one directory. Only regular ones are read, none beyond a limit. Needs no right to write.
#[derive(Clone, Debug)]
pub struct Directory(PathBuf);

impl Directory {
    /// The log at `path`.
    pub fn new(path: impl Into<PathBuf>) -> Self {
        Self(path.into())
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.0
    }
}

impl Source for Directory {
    fn read(&self, path: &str) -> Result<Option<Vec<u8>>, LedgerError> {
        let limit = match path {
            JOURNAL => JOURNAL_LIMIT,
            CHECKPOINT => CHECKPOINT_LIMIT,
            _ => TILE_LIMIT,
        };
        files::read(&self.0.join(path), limit)
    }

    fn tiles(&self) -> Result<Vec<String>, LedgerError> {
        let mut open = vec!["tile".to_owned()];
        let mut found = Vec::new();
        while let Some(folder) = open.pop() {
            let path = self.0.join(&folder);
            let refused = |error| LedgerError::io("list", &path, error);
            let entries = match std::fs::read_dir(&path) {
                Err(error) if error.kind() == std::io::ErrorKind::NotFound => continue,
                entries => entries.map_err(refused)?,
            };
            for entry in entries {
                let entry = entry.map_err(refused)?;
                let name = format!("{folder}/{}", entry.file_name().to_string_lossy());
                if entry.file_type().map_err(refused)?.is_dir() { open.push(name) } else { found.push(name) }
            }
        }
        Ok(found)
    }
}
