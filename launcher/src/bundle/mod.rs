//! `sirocco bundle`: artefacts and data in one signed file, for sites that no network reaches.

mod failure;
mod open;
mod pack;
mod shown;
mod watched;

use crate::cli::BundleAction;
use crate::failure::Failure;

/// What a bundle is called in ledgers: by the name of its file.
const NAMED: &str = "bundle:";

pub(crate) fn run(action: &BundleAction) -> Result<(), Failure> {
    match action {
        BundleAction::Pack(arguments) => pack::run(arguments),
        BundleAction::Open(arguments) => open::run(arguments),
        BundleAction::Check(arguments) => open::check(arguments),
    }
}
