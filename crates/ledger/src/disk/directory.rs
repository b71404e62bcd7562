//! A log's directory as the verifier reads it.

use std::path::{Path, PathBuf};

use crate::LedgerError;
use crate::disk::files;
use crate::source::Source;

/// The files below one directory. Needs no right to write.
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
        files::read(&self.0.join(path))
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
