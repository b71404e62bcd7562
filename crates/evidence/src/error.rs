//! What can go wrong with a bundle before it can be checked at all.

use std::io;
use std::path::{Path, PathBuf};

use sirocco_files::FilesError;
use sirocco_ledger::LedgerError;

/// Everything that this crate can fail with. What is wrong with a bundle that can be read is no error but a finding of a check.
#[derive(Debug, thiserror::Error)]
pub enum EvidenceError {
    /// There is no such bundle.
    #[error("{}: found {found}, expected an evidence bundle: a directory, or a tar file", path.display())]
    NoBundle {
        /// Where it should be.
        path: PathBuf,
        /// What is there.
        found: &'static str,
    },
    /// There is no such place for weights.
    #[error("{}: is not there: expected a directory with the weights that were signed", path.display())]
    NoWeights {
        /// Where it should be.
        path: PathBuf,
    },
    /// A proof of one entry, beside which other things were to be compared.
    #[error("{}: is the proof of one entry: earlier checkpoints and weights are compared with a bundle", path.display())]
    ProofAlone {
        /// The proof.
        path: PathBuf,
    },
    /// Something that has a form and does not have it.
    #[error("{}: {place}: found {found}, expected {expected}", path.display())]
    Malformed {
        /// The file.
        path: PathBuf,
        /// Where in it.
        place: String,
        /// What is there.
        found: String,
        /// What has to be there.
        expected: String,
    },
    /// More than a bundle may have.
    #[error("{}: {found}, expected at most {limit}", path.display())]
    TooLarge {
        /// The bundle, or the file in it.
        path: PathBuf,
        /// How much there is.
        found: String,
        /// How much there may be.
        limit: String,
    },
    /// Something is already there.
    #[error("{}: is there already", path.display())]
    Exists {
        /// What is there.
        path: PathBuf,
    },
    /// The ledger.
    #[error(transparent)]
    Ledger(#[from] LedgerError),
    /// A signature or a key.
    #[error(transparent)]
    Signing(#[from] sirocco_signing::Error),
    /// A file that is not as it has to be.
    #[error(transparent)]
    File(#[from] FilesError),
    /// A file.
    #[error("cannot {what} {}: {source}", path.display())]
    Io {
        /// What was attempted.
        what: &'static str,
        /// With which file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
}

/// The error of having failed to do `what` with `path`.
pub(crate) fn io(what: &'static str, path: &Path) -> impl FnOnce(io::Error) -> EvidenceError {
    let path = path.to_owned();
    move |source| EvidenceError::Io { what, path, source }
}

/// The error of something that is not as it has to be.
pub(crate) fn malformed(path: &Path, place: &str, found: impl Into<String>, expected: impl Into<String>) -> EvidenceError {
    EvidenceError::Malformed { path: path.to_owned(), place: place.to_owned(), found: found.into(), expected: expected.into() }
}
