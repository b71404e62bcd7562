//! `sirocco ledger`: the history of a run or of an account, verified, shown, and proven entry by entry.

mod lineage;
mod prove;
mod show;
mod verify;

use std::path::{Path, PathBuf};

use sirocco_config::{RunFile, places};
use sirocco_custody::CustodyError;
use sirocco_evidence::EvidenceError;
use sirocco_ledger::LedgerError;
use sirocco_ledger::disk::Directory;

use crate::cli::LedgerAction;
use crate::failure::{Failure, Kind};
use crate::train::here;

pub(crate) fn run(action: &LedgerAction) -> Result<(), Failure> {
    match action {
        LedgerAction::Verify(arguments) => verify::run(arguments),
        LedgerAction::Show(arguments) => show::run(arguments),
        LedgerAction::Prove(arguments) => prove::run(arguments),
    }
}

/// The ledger that a person means: that of a run directory, or the directory itself.
fn find(place: &Path) -> Result<Directory, Failure> {
    let is_ledger = |path: &Path| ["checkpoint", "journal", "tile"].iter().any(|name| path.join(name).exists());
    let found = [place.join("ledger"), place.to_owned()].into_iter().find(|path| is_ledger(path));
    let missing = || {
        let found = if place.exists() { "no ledger" } else { "nothing" };
        let message = format!("{}: found {found}, expected a run directory with a ledger, or a ledger", place.display());
        Failure::usage(message).help("a run has a ledger once it has started; an account's is in ~/.local/state/sirocco/ledger")
    };
    found.map(Directory::new).ok_or_else(missing)
}

/// Whose signatures are believed: what was typed, or else what the run says, or else the account's own keys.
fn trust_of(place: &Path, typed: Option<&Path>) -> Result<PathBuf, Failure> {
    if let Some(typed) = typed {
        return Ok(typed.to_owned());
    }
    let run_file = place.join("run.toml");
    let of_run = match run_file.exists() {
        true => {
            let policy = RunFile::read(&run_file)?.check(&here()?)?.policy;
            policy.trust.filter(|trust| trust.join("ledger").is_dir()).or(policy.keys)
        }
        false => None,
    };
    let none = || Failure::usage("no keys to believe: expected --trust DIR").help("--trust DIR, with ledger/NAME.pub in it");
    of_run.or_else(places::keys).ok_or_else(none)
}

/// The error of a ledger.
pub(crate) fn broken(error: &LedgerError) -> Failure {
    Failure::new(Kind::Input, error)
}

/// The error of a bundle, or of keys.
pub(crate) fn not_evident(error: EvidenceError) -> Failure {
    match error {
        EvidenceError::Exists { .. } => Failure::usage(error).help("--to names a new directory, or a new file that ends in .tar"),
        EvidenceError::NoBundle { .. } | EvidenceError::NoWeights { .. } | EvidenceError::ProofAlone { .. } => {
            Failure::usage(error)
        }
        EvidenceError::Io { what, path, source } => CustodyError::Io { what, path, source }.into(),
        EvidenceError::Ledger(error) => broken(&error),
        EvidenceError::Signing(error) => error.into(),
        EvidenceError::File(error) => CustodyError::from(error).into(),
        EvidenceError::Malformed { .. } | EvidenceError::TooLarge { .. } => Failure::new(Kind::Input, error),
    }
}
