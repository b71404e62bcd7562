//! The words and exit codes of what goes wrong with a bundle.
use std::io::ErrorKind;

use sirocco_bundle::BundleError;
use sirocco_custody::CustodyError;
use sirocco_files::FilesError;
use sirocco_signing::Error as SigningError;

use crate::failure::{Failure, Kind};
use crate::output::bytes;

/// Whose key has to lie where.
const TRUST: &str = "--trust names a directory with the sender's public key as NAME.pub and, in roles.json, the role import";

impl From<BundleError> for Failure {
    fn from(error: BundleError) -> Failure {
        let (kind, help) = match error {
            BundleError::Custody(CustodyError::Signing(error @ SigningError::UnknownKey { .. })) => {
                return Failure::new(Kind::Input, error).help(TRUST);
            }
            BundleError::Custody(CustodyError::Signing(error @ SigningError::BadTrust { .. })) => {
                return Failure::usage(error).help(TRUST);
            }
            BundleError::Custody(error) => return in_custody(error),
            BundleError::DiskFull { path, free, needed } => {
                let (path, free, needed) = (path.display(), bytes(free), bytes(needed));
                let message = format!("{path}: {free} are free, and {needed} would be written: expected room for them");
                return Failure::new(Kind::Machine, message).help("free some space, or name a place on another disk");
            }
            BundleError::File(error) => return of_file(error),
            BundleError::OtherParts { .. } => return Failure::new(Kind::Failed, error),
            BundleError::Stopped => return Failure::new(Kind::Stopped, error),
            BundleError::Malformed { .. } => (Kind::Input, "nothing of it was used; have it brought again by whoever packed it"),
            BundleError::NotPacked { .. } => (Kind::Input, "take it out, or put there what can be packed"),
            BundleError::ChangedMeanwhile { .. } => (Kind::Input, "let nobody write to it, then type the same command again"),
            BundleError::Exists { .. } => (Kind::Usage, "nothing is replaced: name a place where nothing is"),
        };
        Failure::new(kind, error).help(help)
    }
}

/// What has no advice of its own is a signature or a record that is not right.
fn in_custody(error: CustodyError) -> Failure {
    let failure = Failure::from(error);
    if failure.help.is_some() || failure.kind != Kind::Input {
        return failure;
    }
    failure.help("nothing of it was used; have it made, or brought, again by whoever signed it")
}

fn of_file(error: FilesError) -> Failure {
    match &error {
        FilesError::Io { action: "open", source, .. } if source.kind() == ErrorKind::NotFound => {
            Failure::new(Kind::Input, error).help("relative paths start where the command is typed")
        }
        FilesError::Io { action: "list", source, .. } if source.kind() == ErrorKind::NotFound => {
            Failure::usage(error).help("make that directory first; only the last part of --to is made")
        }
        FilesError::Io { .. } => Failure::new(Kind::Failed, error),
        _ => Failure::new(Kind::Input, error),
    }
}
