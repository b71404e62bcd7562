//! A directory that is to be served, before anything in it is used: what it is, which bytes it has, where it comes from.

use std::path::Path;

use sirocco_checkpoint::{AdapterDir, CheckpointError, ModelDir};
use sirocco_custody::artefact::{is_signed, measured, verified_for};
use sirocco_custody::{Custody, Lineage};
use sirocco_policy::{Kind, Name, Sha256Digest};
use sirocco_signing::trust::{Trust, role};
use tracing::{info, warn};

use crate::engine::EngineError;
use crate::failure::Failure;

/// A model or an adapter.
#[derive(Debug)]
pub(super) struct Part {
    /// What it is.
    pub(super) name: Name,
    /// One digest for its files.
    pub(super) digest: Sha256Digest,
    /// Where it comes from.
    pub(super) lineage: Lineage,
    /// Whose signature it has, if any.
    pub(super) signer: Option<String>,
}

impl Part {
    /// Verifies a directory that is signed, and finds out what another is by its bytes. Reads all of it.
    pub(super) fn examine(custody: &Custody, trust: &Trust, kind: Kind, directory: &Path) -> Result<Part, Failure> {
        if is_signed(directory) { signed(custody, trust, kind, directory) } else { unsigned(custody, kind, directory) }
    }
}

fn signed(custody: &Custody, trust: &Trust, kind: Kind, directory: &Path) -> Result<Part, Failure> {
    let used = verified_for(directory, trust, &[role::RELEASE, role::IMPORT], &[]).map_err(Failure::Artefact)?;
    let (digest, signer) = (used.digest, Some(used.signer));
    let mut lineage = Lineage::default();
    let name = match used.origin {
        Some(origin) => {
            lineage.joins(&origin.lineage);
            custody.holds(&mut lineage, origin.artefact, directory, digest)
        }
        // Signed elsewhere, where nobody writes such records: the facts have to know it.
        None => custody.uses(&mut lineage, kind, directory, bytes(kind, directory)?),
    };
    info!(directory = %directory.display(), artefact = %name, signer, "the signature holds");
    Ok(Part { name, digest, lineage, signer })
}

fn unsigned(custody: &Custody, kind: Kind, directory: &Path) -> Result<Part, Failure> {
    let digest = bytes(kind, directory)?;
    let mut lineage = Lineage::default();
    let name = custody.uses(&mut lineage, kind, directory, digest);
    warn!(directory = %directory.display(), artefact = %name, "not signed: nothing is known of it but what the facts say");
    Ok(Part { name, digest, lineage, signer: None })
}

/// The digest of a directory in which a network is. What it lacks is told in the words of who would load it.
fn bytes(kind: Kind, directory: &Path) -> Result<Sha256Digest, Failure> {
    let opened = match kind {
        Kind::Adapter => AdapterDir::open(directory).map(drop),
        _ => ModelDir::open(directory).map(drop),
    };
    opened.map_err(|error: CheckpointError| Failure::Engine(EngineError::Directory(error)))?;
    measured(directory, &[]).map_err(Failure::Artefact)
}
