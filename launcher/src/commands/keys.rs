//! `sirocco keys`: the pairs that sign what runs publish, and ledgers.
use serde::Serialize;
use sirocco_custody::{Account, Keys};

use crate::cli::KeysAction;
use crate::failure::Failure;
use crate::output;

/// The fields of `--json`.
#[derive(Serialize)]
struct Shown {
    keys: String,
    /// SHA-256 of the public key that verifies what is published.
    release: String,
    /// The same in PEM.
    release_pem: String,
    /// What verifies ledgers, as a line of text.
    ledger: String,
}

pub(crate) fn run(action: &KeysAction) -> Result<(), Failure> {
    let (keys, as_json) = match action {
        KeysAction::New(arguments) => {
            let owner = arguments.name.clone().unwrap_or_else(|| Account::own(None).name);
            (Keys::create(&arguments.dir, &owner)?, arguments.json)
        }
        KeysAction::Show(arguments) => (Keys::read(&arguments.dir)?, arguments.json),
    };
    let public = keys.public();
    let shown = Shown {
        keys: keys.path().display().to_string(),
        release: public.fingerprint().to_string(),
        release_pem: public.pem().to_owned(),
        ledger: keys.ledger.verifier().label(),
    };
    if as_json {
        return output::json(&shown);
    }
    output::line(format_args!("keys     {}", shown.keys))?;
    output::line(format_args!("release  {} (SHA-256), in {}/release.pub", shown.release, shown.keys))?;
    output::line(format_args!("ledger   {}", shown.ledger))
}
