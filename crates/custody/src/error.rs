//! What can go wrong around an action.

use std::io;
use std::path::{Path, PathBuf};

use sirocco_ledger::LedgerError;
use sirocco_policy::{Decision, PolicyError};

/// Everything that this crate can fail with.
#[derive(Debug, thiserror::Error)]
pub enum CustodyError {
    /// The policy said no.
    #[error("{0}")]
    Refused(Box<Decision>),
    /// The rules, the facts or a request cannot be read.
    #[error("{}: {source}", set.display())]
    Policy {
        /// The policy set.
        set: PathBuf,
        /// What is wrong.
        source: Box<PolicyError>,
    },
    /// There is no such set.
    #[error("{}: {found}, expected a directory with policy.cedar and facts.toml", path.display())]
    NoSet {
        /// Where it should be.
        path: PathBuf,
        /// What is there.
        found: String,
    },
    /// A set without the signature that this machine demands.
    #[error("{}: the policy set is not signed by a trusted key, and {demanded_by} demands it: {why}", path.display())]
    UnsignedSet {
        /// The set.
        path: PathBuf,
        /// Who demands it.
        demanded_by: String,
        /// What is wrong with the signature.
        why: String,
    },
    /// The ledger.
    #[error(transparent)]
    Ledger(#[from] LedgerError),
    /// A signature or a key.
    #[error(transparent)]
    Signing(#[from] sirocco_signing::Error),
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
