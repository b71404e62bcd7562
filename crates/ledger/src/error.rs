//! What can be wrong with a log, a signature, a proof or a directory: each error names what, where, found and expected.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use sirocco_files::FilesError;

/// Everything that this library can fail with.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum LedgerError {
    /// A text or a file is not of its format.
    #[error("{what}, {place}: found {found}, expected {expected}")]
    Malformed {
        /// The format: `signed note`, `checkpoint`, `entry`.
        what: &'static str,
        /// The part of it: a line, a byte or a field.
        place: String,
        /// What stands there, shortened.
        found: String,
        /// What should stand there.
        expected: String,
    },
    /// The signature of a known key does not belong to the text.
    #[error("the signature of {key} does not verify")]
    BadSignature {
        /// The key's name and id.
        key: String,
    },
    /// No known key has signed.
    #[error("signed by {found}, expected a signature of {expected}")]
    NotSigned {
        /// Names and ids that stand in the note.
        found: String,
        /// Names and ids of the keys that were asked for.
        expected: String,
    },
    /// Fewer witnesses have signed than the policy's quorum demands.
    #[error("the quorum {quorum} is not reached: cosigned by {found}")]
    NoQuorum {
        /// The policy's own name of its quorum.
        quorum: String,
        /// Names of the witnesses whose cosignatures verify.
        found: String,
    },
    /// A key was asked for what keys of its type do not do.
    #[error("key {key} is of type {found}, expected {expected}")]
    WrongKeyType {
        /// The key's name and id.
        key: String,
        /// Its type.
        found: &'static str,
        /// The type that does it.
        expected: &'static str,
    },
    /// A Merkle proof does not lead to the root.
    #[error("the {what} does not hold: {reason}")]
    BadProof {
        /// `inclusion proof` or `consistency proof`.
        what: &'static str,
        /// Why, with the numbers.
        reason: String,
    },
    /// An entry or a tree size that the log does not have.
    #[error("{what} {found} is outside of the log, which has {size} sealed entries")]
    Outside {
        /// `entry` or `size`.
        what: &'static str,
        /// The number that was asked for.
        found: u64,
        /// The size of the sealed log.
        size: u64,
    },
    /// An entry that does not fit the format of a log's bundles (two bytes of length).
    #[error("an entry of {found} bytes: expected 1 to {limit}")]
    EntrySize {
        /// Bytes of the entry's text.
        found: usize,
        /// The most that fits.
        limit: usize,
    },
    /// Two histories under one name: what is signed here does not continue what was signed before.
    #[error("the log {origin} has forked: {reason}")]
    Fork {
        /// The log's name.
        origin: String,
        /// Sizes and roots of the two.
        reason: String,
    },
    /// The files of a log contradict each other. Nothing was written.
    #[error("{}: {place}: found {found}, expected {expected}", path.display())]
    Damaged {
        /// The file.
        path: PathBuf,
        /// The part of it.
        place: String,
        /// What stands there.
        found: String,
        /// What should.
        expected: String,
    },
    /// No log is at this place.
    #[error("{}: found no log, expected a directory with the file `journal`", .0.display())]
    NoLog(PathBuf),
    /// A private key that others may read. It was not used.
    #[error("{}: found access mode {mode:04o}, expected 0600: others could read this private key", path.display())]
    KeyReadable {
        /// The key file.
        path: PathBuf,
        /// Its permission bits.
        mode: u32,
    },
    /// No room, no quota, or the largest size of a file is reached. What was half written has been taken back.
    #[error("no space left while writing {}: {source}", path.display())]
    DiskFull {
        /// The file.
        path: PathBuf,
        /// The system's own error.
        source: io::Error,
    },
    /// The file system or the directory may only be read. Nothing was written.
    #[error("cannot write {}: it is read-only ({source})", path.display())]
    ReadOnly {
        /// The file or directory.
        path: PathBuf,
        /// The system's own error.
        source: io::Error,
    },
    /// A lock by name whose holder cannot be looked at from here: another machine's, or of another container.
    #[error(
        "{}: found the lock of {holder}, expected that it goes within {waited} s: if that process has ended, and nobody else is at work on this \
         ledger, remove the file",
        path.display()
    )]
    LockHeld {
        /// The lock.
        path: PathBuf,
        /// Process, machine and what else tells it from others.
        holder: String,
        /// Seconds that were waited.
        waited: u64,
    },
    /// The file system has neither locks nor symbolic links to make some of, without which several writers would spoil the journal.
    #[error("{}: this file system has neither file locks nor symbolic links ({source})", path.display())]
    NoLocks {
        /// The lock file.
        path: PathBuf,
        /// The system's own error.
        source: io::Error,
    },
    /// A file is no regular one, too large, no text, or there although it should be new.
    #[error(transparent)]
    File(FilesError),
    /// The system refused something else.
    #[error("cannot {action} {}: {source}", path.display())]
    Io {
        /// A verb: `read`, `rename`, `lock`.
        action: &'static str,
        /// The file or directory.
        path: PathBuf,
        /// The system's own error.
        source: io::Error,
    },
    /// The thread that writes in the background failed. Its entries are kept and tried again.
    #[error(transparent)]
    Background(Arc<LedgerError>),
    /// Too much waits for a journal that cannot be written; this entry was not taken.
    #[error("{waiting} bytes wait to be written, {limit} are the most ({reason})")]
    Backlog {
        /// Bytes that wait.
        waiting: usize,
        /// The most that may wait.
        limit: usize,
        /// Why nothing gets written.
        reason: String,
    },
}

impl LedgerError {
    /// A [`Malformed`](Self::Malformed) of `what`.
    pub(crate) fn malformed(
        what: &'static str,
        place: impl Into<String>,
        found: impl Into<String>,
        expected: impl Into<String>,
    ) -> Self {
        Self::Malformed { what, place: place.into(), found: found.into(), expected: expected.into() }
    }

    /// The variant that fits what the system said about `path`.
    pub(crate) fn io(action: &'static str, path: &Path, source: io::Error) -> Self {
        let path = path.to_path_buf();
        match source.kind() {
            io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded | io::ErrorKind::FileTooLarge => {
                Self::DiskFull { path, source }
            }
            io::ErrorKind::ReadOnlyFilesystem => Self::ReadOnly { path, source },
            _ => Self::Io { action, path, source },
        }
    }
}

impl From<FilesError> for LedgerError {
    fn from(error: FilesError) -> Self {
        match error {
            FilesError::Io { action, path, source } => Self::io(action, &path, source),
            FilesError::OthersMayRead { path, mode } => Self::KeyReadable { path, mode },
            other => Self::File(other),
        }
    }
}

/// Bytes as a message shows them: quoted, escaped, at most 60 characters.
pub(crate) fn shown(bytes: &[u8]) -> String {
    let text = String::from_utf8_lossy(bytes.get(..240).unwrap_or(bytes)).into_owned();
    let cut: String = text.chars().take(60).collect();
    if bytes.len() > cut.len() { format!("{cut:?}… ({} bytes)", bytes.len()) } else { format!("{cut:?}") }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_full_disk_and_a_read_only_one_have_their_own_errors() {
        let error = |code: rustix::io::Errno| LedgerError::io("write", Path::new("journal"), code.into());
        for code in [rustix::io::Errno::NOSPC, rustix::io::Errno::DQUOT, rustix::io::Errno::FBIG] {
            assert!(matches!(error(code), LedgerError::DiskFull { .. }), "{code}");
        }
        assert!(matches!(error(rustix::io::Errno::ROFS), LedgerError::ReadOnly { .. }));
        assert!(matches!(error(rustix::io::Errno::IO), LedgerError::Io { .. }));
    }

    #[test]
    fn long_and_binary_input_is_shown_short() {
        assert_eq!(shown(b"abc\n"), "\"abc\\n\"");
        assert!(shown(&[0xff; 10_000]).ends_with("… (10000 bytes)"));
    }
}
