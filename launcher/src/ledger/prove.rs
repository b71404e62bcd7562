//! `sirocco ledger prove`.
use serde_json::json;
use sirocco_ledger::LedgerError;
use sirocco_ledger::tlog_proof;

use super::{broken, find};
use crate::cli;
use crate::failure::Failure;
use crate::output;

pub(super) fn run(arguments: &cli::LedgerProve) -> Result<(), Failure> {
    let ledger = find(&arguments.place)?;
    let proof = tlog_proof::prove(&ledger, arguments.entry).map_err(|error| match error {
        LedgerError::Outside { .. } => {
            Failure::usage(error).help("sirocco ledger show numbers the entries; those not sealed yet have no proof")
        }
        error => broken(&error),
    })?;
    let (to, text) = (&arguments.to, proof.to_text());
    // A proof is small and new: nothing that is there is written over.
    let written = std::fs::OpenOptions::new().write(true).create_new(true).open(to);
    let written = written.and_then(|mut file| std::io::Write::write_all(&mut file, text.as_bytes()));
    written.map_err(|error| {
        let failure = Failure::usage(format_args!("{}: cannot be written: {error}", to.display()));
        failure.help("--to names a new file: nothing that is there is written over")
    })?;
    let sealed = &proof.checkpoint.checkpoint;
    if arguments.json {
        return output::json(&json!({
            "proof": to.display().to_string(), "entry": arguments.entry, "log": sealed.origin, "entries": sealed.size,
        }));
    }
    output::line(format_args!("{}: entry {} of {} in {}", to.display(), arguments.entry, sealed.size, sealed.origin))
}
