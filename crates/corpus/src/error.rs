//! The errors of this crate: each names the file, and the line or field where there is one.

use crate::fault::Fault;
use std::path::{Path, PathBuf};
use thiserror::Error;

/// One bad record: where it is and what is wrong with it.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error("{}:{line}: {fault}", .file.display())]
pub struct BadRecord {
    /// The data file.
    pub file: PathBuf,
    /// Its line, from 1: the first line of the record.
    pub line: u64,
    /// What is wrong.
    pub fault: Fault,
}

/// What can go wrong between a source file and a prepared corpus.
#[derive(Debug, Error)]
pub enum CorpusError {
    /// A record is bad. The only kind that `on_bad = "skip"` may pass over.
    #[error(transparent)]
    Bad(#[from] BadRecord),
    /// A file cannot be read or written.
    #[error("{}: cannot {action}: {source}", .path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// What was being done, as a verb: `read`, `write`, …
        action: &'static str,
        /// The system's error.
        source: std::io::Error,
    },
    /// A corpus specification is not valid.
    #[error("{}{}: {message}", .file.display(), line_suffix(.line))]
    Spec {
        /// The specification.
        file: PathBuf,
        /// Its line, from 1, where one is known.
        line: Option<usize>,
        /// The field, what was found and what was expected.
        message: String,
    },
    /// A table's header is not the one that the specification names.
    #[error("{}:1: the header is {found}; expected {expected}", .file.display())]
    Header {
        /// The table.
        file: PathBuf,
        /// Columns found.
        found: String,
        /// Columns expected.
        expected: String,
    },
    /// A source is not the file that was pinned.
    #[error("{}: the SHA-256 is {found}; expected {expected}", .file.display())]
    Digest {
        /// The file.
        file: PathBuf,
        /// Digest of the file as it is.
        found: String,
        /// Digest in the specification.
        expected: String,
    },
    /// Nothing is left for one side of the split.
    #[error("{}: no conversation is left for {side}; found {found} in all", .spec.display())]
    NothingLeft {
        /// The specification.
        spec: PathBuf,
        /// `training` or `validation`.
        side: &'static str,
        /// Conversations after duplicates were removed.
        found: u64,
    },
    /// The output directory holds something that this specification did not make.
    #[error("{}: holds {found}; expected an empty directory or an earlier result of the corpus `{expected}`", .directory.display())]
    OutputTaken {
        /// The output directory.
        directory: PathBuf,
        /// What it holds.
        found: String,
        /// Name of the corpus being prepared.
        expected: String,
    },
    /// A file of a format that cannot be told from its name.
    #[error("{}: found the extension \"{found}\"; expected .jsonl or .txt", .file.display())]
    UnknownExtension {
        /// The file.
        file: PathBuf,
        /// Its extension.
        found: String,
    },
}

impl CorpusError {
    pub(crate) fn io(path: &Path, action: &'static str, source: std::io::Error) -> CorpusError {
        CorpusError::Io { path: path.to_path_buf(), action, source }
    }

    pub(crate) fn bad(path: &Path, line: u64, fault: Fault) -> CorpusError {
        CorpusError::Bad(BadRecord { file: path.to_path_buf(), line, fault })
    }
}

fn line_suffix(line: &Option<usize>) -> String {
    line.map(|line| format!(":{line}")).unwrap_or_default()
}
