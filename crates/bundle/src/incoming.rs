//! What is in a bundle, as the policy of the site is asked about it that lets it in.

use std::path::{Path, PathBuf};

use sirocco_custody::{Custody, Lineage};
use sirocco_files::BareDigest;
use sirocco_policy::{Guarded, Kind, Name};

use crate::record::{PartRecord, Record};

/// A part of a bundle that may come in, once the policy has admitted it.
#[derive(Clone, Debug)]
pub struct Incoming {
    name: Name,
    lineage: Lineage,
    /// What it was called where it comes from.
    pub elsewhere: Name,
    /// The digest of its bytes.
    pub digest: BareDigest,
    /// Where it would lie.
    pub(crate) path: PathBuf,
    /// The bundle.
    pub(crate) bundle: BareDigest,
}

impl Guarded for Incoming {
    fn artefact(&self) -> &Name {
        &self.name
    }
}

impl Incoming {
    /// Every part of a bundle that would lie in the directory `to`, which need not be there: under the name by which the facts of this site
    /// know its bytes or its place, made from what it was elsewhere, with the labels that were signed there. The bundle was verified.
    pub(crate) fn all(record: &Record, bundle: BareDigest, custody: &Custody, to: &Path) -> Vec<Incoming> {
        record.parts.iter().map(|part| Incoming::of(part, bundle, custody, to)).collect()
    }

    fn of(part: &PartRecord, bundle: BareDigest, custody: &Custody, to: &Path) -> Incoming {
        let (mut lineage, path) = (Lineage::default(), to.join(&part.place));
        let name = custody.uses(&mut lineage, kind(part.artefact.kind), &path, part.sha256);
        let mut elsewhere = part.lineage.clone();
        let labels =
            elsewhere.recorded.remove(&part.artefact).map_or_else(|| part.labels.clone(), |known| known.join(&part.labels));
        elsewhere.recorded.insert(part.artefact.clone(), labels);
        elsewhere.digests.insert(part.artefact.clone(), part.sha256);
        // Their signature is the bundle's.
        elsewhere.verified = elsewhere.recorded.keys().cloned().collect();
        lineage.joins(&elsewhere);
        if name != part.artefact {
            lineage.makes(&name, [part.artefact.clone()]);
        }
        Incoming { name, lineage, elsewhere: part.artefact.clone(), digest: part.sha256, path, bundle }
    }

    /// Where it comes from, for the question.
    pub fn lineage(&self) -> &Lineage {
        &self.lineage
    }
}

/// What it is where it comes in: whatever was trained elsewhere is a model here.
pub(crate) fn kind(elsewhere: Kind) -> Kind {
    match elsewhere {
        Kind::Data => Kind::Data,
        Kind::Adapter => Kind::Adapter,
        Kind::Model | Kind::Checkpoint | Kind::Merged | Kind::Endpoint => Kind::Model,
    }
}
