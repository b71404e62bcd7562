//! What can go wrong around an action.

use std::io;
use std::path::{Path, PathBuf};

use sirocco_files::{BareDigest, FilesError};
use sirocco_ledger::LedgerError;
use sirocco_policy::{Decision, NotTaken};
use sirocco_signing::Error as SigningError;

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
    Signing(#[from] SigningError),
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
    /// No keys where there were some, with which a ledger was sealed.
    #[error("{}: there are no keys, and {} is sealed already: new ones could not go on with it", path.display(), ledger.display())]
    KeysGone {
        /// Where they were.
        path: PathBuf,
        /// The ledger.
        ledger: PathBuf,
    },
    /// Keys whose checkpoints nobody could go on from, because they are not among those that are believed.
    #[error("{}: the key in {} may not sign checkpoints there", trust.display(), keys.display())]
    NotBelieved {
        /// The keys that are believed.
        trust: PathBuf,
        /// The keys that sign.
        keys: PathBuf,
    },
    /// Other rules than those that a run began with.
    #[error("{}: found [policy] {setting} = {found}, expected what the run began with, {expected}", path.display())]
    OtherRules {
        /// The run file.
        path: PathBuf,
        /// The setting.
        setting: String,
        /// What stands there, as JSON.
        found: String,
        /// What the run's ledger says, as JSON.
        expected: String,
    },
    /// A base with other files than those that a checkpoint was trained from.
    #[error("{}: found files with the digest {found}, expected those that the checkpoint was trained from, {expected}", path.display())]
    OtherBase {
        /// The base's directory.
        path: PathBuf,
        /// What lies there now.
        found: BareDigest,
        /// What the checkpoint's record says.
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

/// Whom an error tells to act: programs choose their exit code by it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Class {
    /// Whoever answers for the rules: they refuse.
    Policy,
    /// Whoever typed the command or wrote the run file: rules, keys or trusted keys are not there or not right.
    Usage,
    /// Whoever made a file: it is not as it was signed or recorded.
    File,
    /// Whoever runs the machine: it lacks what this needs.
    Machine,
    /// Nobody, or whoever sees to disks: the same command may succeed later.
    Running,
}

impl CustodyError {
    /// Whom it tells to act.
    pub fn class(&self) -> Class {
        match self {
            Self::Refused(_) | Self::NotTaken { .. } => Class::Policy,
            Self::Set { .. } | Self::NoSet { .. } | Self::OtherKey { .. } | Self::KeysGone { .. } | Self::NotBelieved { .. } => {
                Class::Usage
            }
            Self::SetChanged { .. } | Self::OtherRules { .. } | Self::OtherBase { .. } | Self::Record { .. } => Class::File,
            Self::Ledger(error) => of_ledger(error),
            Self::Signing(error) => of_signing(error),
            Self::File(FilesError::Io { source, .. }) | Self::Io { source, .. } => of_io(source),
            Self::File(_) => Class::File,
        }
    }
}

/// Keys, trusted keys and files of facts were named by somebody, who can name others.
fn of_io(source: &io::Error) -> Class {
    if source.kind() == io::ErrorKind::NotFound { Class::Usage } else { Class::Running }
}

fn of_ledger(error: &LedgerError) -> Class {
    match error {
        LedgerError::Io { source, .. } | LedgerError::File(FilesError::Io { source, .. }) => of_io(source),
        LedgerError::KeyReadable { .. } | LedgerError::WrongKeyType { .. } => Class::Usage,
        LedgerError::NoLocks { .. } => Class::Machine,
        LedgerError::DiskFull { .. }
        | LedgerError::ReadOnly { .. }
        | LedgerError::LockHeld { .. }
        | LedgerError::Backlog { .. } => Class::Running,
        LedgerError::Background(error) => of_ledger(error),
        _ => Class::File,
    }
}

fn of_signing(error: &SigningError) -> Class {
    match error {
        SigningError::Io { source, .. } if source.kind() == io::ErrorKind::NotADirectory => Class::Usage,
        SigningError::Io { source, .. } => of_io(source),
        SigningError::NoRandomness { .. } => Class::Running,
        SigningError::KeyMissing { .. }
        | SigningError::KeyExposed { .. }
        | SigningError::KeyExists { .. }
        | SigningError::BadKeyName { .. }
        | SigningError::BadTrust { .. } => Class::Usage,
        _ => Class::File,
    }
}

/// The error of having failed to do `what` with `path`.
pub(crate) fn io(what: &'static str, path: &Path) -> impl FnOnce(io::Error) -> CustodyError {
    let path = path.to_owned();
    move |source| CustodyError::Io { what, path, source }
}

#[cfg(test)]
mod tests {
    use std::io::ErrorKind;

    use super::*;

    #[test]
    fn who_has_to_act() {
        let path = || PathBuf::from("there");
        let of = |kind: ErrorKind| io::Error::from(kind);
        let key = |missing: bool| {
            let error = if missing { SigningError::KeyMissing { path: path() } } else { SigningError::Unsigned { path: path() } };
            CustodyError::from(error)
        };
        let cases = [
            (CustodyError::NoSet { path: path(), found: "nothing".to_owned() }, Class::Usage),
            (CustodyError::SetChanged { path: path(), why: String::new() }, Class::File),
            (CustodyError::OtherKey { path: path(), found: String::new(), expected: String::new() }, Class::Usage),
            (CustodyError::KeysGone { path: path(), ledger: path() }, Class::Usage),
            (CustodyError::NotBelieved { trust: path(), keys: path() }, Class::Usage),
            (key(true), Class::Usage),
            (key(false), Class::File),
            (SigningError::Io { action: "list", path: path(), source: of(ErrorKind::NotFound) }.into(), Class::Usage),
            (SigningError::Io { action: "list", path: path(), source: of(ErrorKind::PermissionDenied) }.into(), Class::Running),
            (FilesError::Io { action: "open", path: path(), source: of(ErrorKind::NotFound) }.into(), Class::Usage),
            (LedgerError::Io { action: "read", path: path(), source: of(ErrorKind::NotFound) }.into(), Class::Usage),
            (LedgerError::ReadOnly { path: path(), source: of(ErrorKind::ReadOnlyFilesystem) }.into(), Class::Running),
            (LedgerError::NoLocks { path: path(), source: of(ErrorKind::Unsupported) }.into(), Class::Machine),
            (LedgerError::NoLog(path()).into(), Class::File),
        ];
        for (error, class) in cases {
            assert_eq!(error.class(), class, "{error}");
        }
    }
}
