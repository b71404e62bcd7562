//! Whom the reader of a bundle believes: a directory of public keys that came to them another way than the bundle.
//!
//! ```text
//! TRUST/NAME.pub, roles.json      keys that sign artefacts and bundles, and what for (sirocco_signing::trust)
//! TRUST/ledger/NAME.pub           keys that sign ledgers
//! ```

use std::path::Path;

use sirocco_files::read;
use sirocco_ledger::checkpoint::SignedCheckpoint;
use sirocco_ledger::disk::read_verifier_key;
use sirocco_ledger::key::VerifierKey;
use sirocco_ledger::witness::TrustPolicy;
use sirocco_signing::trust::Trust;

use crate::error::{EvidenceError, io, malformed};

const LEDGER: &str = "ledger";
/// No checkpoint is longer, in bytes.
const LONGEST: u64 = 1 << 20;

/// Reads a checkpoint that somebody kept.
///
/// # Errors
/// A file that cannot be read, or is none.
pub fn read_checkpoint(path: &Path) -> Result<SignedCheckpoint, EvidenceError> {
    let parsed = SignedCheckpoint::parse(&read::bytes(path, LONGEST)?);
    parsed.map_err(|error| malformed(path, "the checkpoint", error.to_string(), "a signed checkpoint of a ledger"))
}

/// The keys.
#[derive(Clone, Debug)]
pub struct Trusted {
    /// Of artefacts and bundles.
    pub trust: Trust,
    /// Of ledgers.
    pub ledgers: Vec<VerifierKey>,
}

impl Trusted {
    /// Reads a directory of keys.
    ///
    /// # Errors
    /// One without public keys of either kind, or with something else in it.
    pub fn read(directory: &Path) -> Result<Trusted, EvidenceError> {
        let trust = Trust::read(directory)?;
        let folder = directory.join(LEDGER);
        let mut ledgers = Vec::new();
        if folder.is_dir() {
            for entry in std::fs::read_dir(&folder).map_err(io("list", &folder))? {
                let path = entry.map_err(io("list", &folder))?.path();
                if path.extension().is_some_and(|ending| ending == "pub") {
                    ledgers.push(read_verifier_key(&path)?);
                }
            }
        }
        if ledgers.is_empty() {
            return Err(malformed(&folder, "keys of ledgers", "none", "at least one, NAME.pub"));
        }
        Ok(Trusted { trust, ledgers })
    }

    /// The keys as a policy for a log of this name: each log has a key of its own, which is the same secret under the log's name.
    ///
    /// # Errors
    /// A name that no log may have.
    pub fn for_log(&self, name: &str) -> Result<TrustPolicy, EvidenceError> {
        let keys: Result<Vec<VerifierKey>, _> = self.ledgers.iter().map(|key| key.named(name)).collect();
        Ok(TrustPolicy::of_logs(keys?)?)
    }
}
