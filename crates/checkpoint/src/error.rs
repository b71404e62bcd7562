//! What can be wrong with a file: each error names the file, the part of it, what was found and what was expected.

use std::io;
use std::path::{Path, PathBuf};

/// Everything that reading or writing models, adapters and checkpoints can fail with.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum CheckpointError {
    /// The operating system refused a read, a write, a rename or a sync.
    #[error("cannot {action} {}: {source}", path.display())]
    Io {
        /// What was attempted, as a verb: `read`, `write`, `rename`.
        action: &'static str,
        /// The file or directory.
        path: PathBuf,
        /// The system's own error.
        source: io::Error,
    },
    /// No room, or no quota, was left while writing. What was half written has been removed.
    #[error("no space left while writing {}: {source}", path.display())]
    DiskFull {
        /// The file that could not be completed.
        path: PathBuf,
        /// The system's own error.
        source: io::Error,
    },
    /// A file's structure is wrong: truncated, altered, or not of the format that its name promises.
    #[error("{}: {part}: found {found}, expected {expected}", path.display())]
    Malformed {
        /// The file.
        path: PathBuf,
        /// The part of it: a header, a field, a tensor by its full name.
        part: String,
        /// What stands there.
        found: String,
        /// What should stand there.
        expected: String,
    },
    /// A tensor that something needs is not in the model, adapter or checkpoint.
    #[error("{}: tensor {tensor}: found nothing of that name, expected {expected}", path.display())]
    MissingTensor {
        /// The file or directory that was searched.
        path: PathBuf,
        /// The tensor's full name.
        tensor: String,
        /// What it should be: its shape, or who refers to it.
        expected: String,
    },
    /// A tensor is there with another shape, dtype or content than it must have.
    #[error("{}: tensor {tensor}: found {found}, expected {expected}", path.display())]
    TensorMismatch {
        /// The file or directory.
        path: PathBuf,
        /// The tensor's full name.
        tensor: String,
        /// Its shape, dtype or values as found.
        found: String,
        /// As expected.
        expected: String,
    },
    /// The file is well formed, but asks for something that Sirocco does not do.
    #[error("{}: {feature}: found {found}, which is not supported; expected {expected}", path.display())]
    Unsupported {
        /// The file.
        path: PathBuf,
        /// The field or tensor that asks for it.
        feature: String,
        /// Its value.
        found: String,
        /// The values that are supported.
        expected: String,
    },
    /// A file's SHA-256 or size is not the one that was recorded when it was written.
    #[error("{}: {what}: found {found}, expected {expected} (the file was altered or truncated after it was written)", path.display())]
    Altered {
        /// The file.
        path: PathBuf,
        /// `size` or `sha256`.
        what: &'static str,
        /// Measured now.
        found: String,
        /// Recorded at writing.
        expected: String,
    },
    /// Writing would replace something that is already there.
    #[error("{}: found {found}, expected {expected}", path.display())]
    Occupied {
        /// The file or directory.
        path: PathBuf,
        /// What is there.
        found: String,
        /// What would be acceptable.
        expected: String,
    },
    /// The checkpoint that LATEST names cannot be used; an older one may be.
    #[error("{} cannot be used: {source}; {}", path.display(), match good { Some(step) => format!("the newest good checkpoint is that of step {step}"), None => "there is no good one beside it".to_string() })]
    BadLatest {
        /// The checkpoint's directory, or LATEST itself.
        path: PathBuf,
        /// What is wrong with it.
        source: Box<CheckpointError>,
        /// The step of the newest checkpoint that can be used.
        good: Option<u64>,
    },
    /// A directory was written and is not published, because what should have been added to it last could not be.
    #[error("{} is not published: {source}", path.display())]
    Unsealed {
        /// The directory, under its temporary name.
        path: PathBuf,
        /// What whoever publishes it could not do.
        source: crate::seal::SealError,
    },
    /// The caller of a writer gave it something inconsistent: a tensor out of turn, too few bytes, a name twice.
    #[error("writing {}: {part}: found {found}, expected {expected}", path.display())]
    Misuse {
        /// The file being written.
        path: PathBuf,
        /// The tensor or record in question.
        part: String,
        /// What was given.
        found: String,
        /// What was due.
        expected: String,
    },
}

/// Whom an error tells to act: programs choose their exit code and advice by it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ErrorClass {
    /// A file that was given is wrong, incomplete or cannot be read: another file, or a repaired one, would do.
    File,
    /// The machine or the program failed while running, above all while writing: the same command may succeed later.
    Running,
    /// What was asked for cannot be done as it was asked: another command would do.
    Usage,
}

/// Short for a result with [`CheckpointError`].
pub type Result<T, E = CheckpointError> = std::result::Result<T, E>;

impl CheckpointError {
    /// Wraps a system error; one that means "disk full" becomes [`CheckpointError::DiskFull`].
    pub(crate) fn io(action: &'static str, path: &Path, source: io::Error) -> Self {
        let path = path.to_path_buf();
        match source.kind() {
            io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded | io::ErrorKind::FileTooLarge => {
                Self::DiskFull { path, source }
            }
            _ => Self::Io { action, path, source },
        }
    }

    pub(crate) fn malformed(path: &Path, part: impl Into<String>, found: impl Into<String>, expected: impl Into<String>) -> Self {
        Self::Malformed { path: path.to_path_buf(), part: part.into(), found: found.into(), expected: expected.into() }
    }

    pub(crate) fn unsupported(
        path: &Path,
        feature: impl Into<String>,
        found: impl Into<String>,
        expected: impl Into<String>,
    ) -> Self {
        Self::Unsupported { path: path.to_path_buf(), feature: feature.into(), found: found.into(), expected: expected.into() }
    }

    pub(crate) fn misuse(path: &Path, part: impl Into<String>, found: impl Into<String>, expected: impl Into<String>) -> Self {
        Self::Misuse { path: path.to_path_buf(), part: part.into(), found: found.into(), expected: expected.into() }
    }

    /// Whose fault it is.
    pub fn class(&self) -> ErrorClass {
        match self {
            Self::Io { action: "read" | "open" | "list", .. }
            | Self::Malformed { .. }
            | Self::MissingTensor { .. }
            | Self::TensorMismatch { .. }
            | Self::Unsupported { .. }
            | Self::Altered { .. }
            | Self::BadLatest { .. } => ErrorClass::File,
            Self::Io { .. } | Self::DiskFull { .. } | Self::Unsealed { .. } | Self::Misuse { .. } => ErrorClass::Running,
            Self::Occupied { .. } => ErrorClass::Usage,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_full_disk_is_told_apart_from_other_failures() {
        let full = CheckpointError::io("write", Path::new("x"), io::Error::from_raw_os_error(28));
        assert!(matches!(full, CheckpointError::DiskFull { .. }));
        let denied = CheckpointError::io("write", Path::new("x"), io::ErrorKind::PermissionDenied.into());
        assert!(matches!(denied, CheckpointError::Io { .. }));
    }

    #[test]
    fn reading_is_the_files_fault_and_writing_the_machines() {
        let denied = |action| CheckpointError::io(action, Path::new("x"), io::ErrorKind::PermissionDenied.into()).class();
        for action in ["read", "open", "list"] {
            assert_eq!(denied(action), ErrorClass::File, "{action}");
        }
        for action in ["write", "create", "rename", "remove", "sync"] {
            assert_eq!(denied(action), ErrorClass::Running, "{action}");
        }
        let full = CheckpointError::io("write", Path::new("x"), io::ErrorKind::StorageFull.into());
        assert_eq!(full.class(), ErrorClass::Running);
        let malformed = CheckpointError::malformed(Path::new("x"), "header", "9 bytes", "at least 10 bytes");
        assert_eq!(malformed.class(), ErrorClass::File);
        let latest = CheckpointError::BadLatest { path: "x".into(), source: Box::new(malformed), good: None };
        assert_eq!(latest.class(), ErrorClass::File);
        let occupied = CheckpointError::Occupied { path: "x".into(), found: "a file".into(), expected: "nothing".into() };
        assert_eq!(occupied.class(), ErrorClass::Usage);
    }

    #[test]
    fn messages_name_file_part_found_and_expected() {
        let text = CheckpointError::malformed(Path::new("m.safetensors"), "header", "9 bytes", "at least 10 bytes").to_string();
        assert_eq!(text, "m.safetensors: header: found 9 bytes, expected at least 10 bytes");
    }
}
