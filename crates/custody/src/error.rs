//! What can go wrong around an action.

use std::io;
use std::path::{Path, PathBuf};

use sirocco_files::FilesError;
use sirocco_ledger::LedgerError;
use sirocco_policy::{Decision, NotTaken};

/// Everything that this crate can fail with.
#[derive(Debug, thiserror::Error)]
pub enum CustodyError {
    /// The policy said no.
    #[error("{0}")]
    Refused(Box<Decision>),
    /// Files of a set that are not those that were signed.
    #[error("{}: {why}", path.display())]
    SetChanged {
        /// The set.
        path: PathBuf,
        /// Who signed, and which files differ.
        why: String,
    },
    /// A set that is not right: its rules or its facts.
    #[error("{}: {why}", path.display())]
    Set {
        /// The set.
        path: PathBuf,
        /// What is wrong, with file and line.
        why: String,
    },
    /// A set that this machine does not take.
    #[error("{}: {why}", path.display())]
    NotTaken {
        /// The set.
        path: PathBuf,
        /// Which demand it does not answer to.
        why: NotTaken,
    },
    /// There is no such set.
    #[error("{}: {found}, expected a directory with policy.cedar and facts.toml", path.display())]
    NoSet {
        /// Where it should be.
        path: PathBuf,
        /// What is there.
        found: String,
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
    /// A ledger that another key has sealed: this one can never continue it.
    #[error("{}: the ledger was sealed by {found}, expected the key that signs here, {expected}", path.display())]
    OtherKey {
        /// The ledger's checkpoint.
        path: PathBuf,
        /// Names and ids of the keys that signed it.
        found: String,
        /// Name and id that the key here has for this ledger.
        expected: String,
    },
    /// A record of where an artefact comes from that is none.
    #[error("{}: found {found}, expected {expected}", path.display())]
    Record {
        /// The file.
        path: PathBuf,
        /// What is there.
        found: String,
        /// What has to be there.
        expected: &'static str,
    },
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
pub(crate) fn io(what: &'static str, path: &Path) -> impl FnOnce(io::Error) -> CustodyError {
    let path = path.to_owned();
    move |source| CustodyError::Io { what, path, source }
}
