//! What is to be packed: measured, verified where it is signed, and named as the policy knows it.

use std::path::{Path, PathBuf};

use sirocco_custody::artefact::{ORIGIN, verified_for};
use sirocco_custody::{Custody, Lineage, Origin};
use sirocco_files::BareDigest;
use sirocco_policy::{Guarded, Kind, Name};
use sirocco_signing::manifest::{KnownFile, Resource};
use sirocco_signing::oms;
use sirocco_signing::trust::{Trust, role};

use crate::error::BundleError;
use crate::pulse::Pulse;
use crate::record::{Form, digest};
use crate::walk::{self, Found};

/// Whose signature on an artefact counts: who made it, who released it, who let it in.
pub(crate) const ROLES: [&str; 3] = [role::RELEASE, role::IMPORT, role::CHECKPOINT];
/// The same for directories without a record of where they come from: evidence, rules.
const ROLES_WITHOUT_RECORD: [&str; 4] = [role::RELEASE, role::IMPORT, role::CHECKPOINT, role::POLICY];

/// Something that may be sent, once the policy has admitted it.
#[derive(Clone, Debug)]
pub struct Part {
    name: Name,
    pub(crate) path: PathBuf,
    pub(crate) form: Form,
    pub(crate) digest: BareDigest,
    pub(crate) lineage: Lineage,
    pub(crate) files: Vec<Found>,
}

impl Guarded for Part {
    fn artefact(&self) -> &Name {
        &self.name
    }
}

impl Part {
    /// Reads what lies at `path`. A directory with a record of where it comes from is what that says, once a trusted key's signature was
    /// verified; one with a signature alone is compared with that; anything else is what `custody`'s facts know by its bytes or its place.
    ///
    /// # Errors
    /// Links, devices and names that are no text; a signature that does not hold, or that nobody trusted has made; `trust` missing for what is
    /// signed.
    pub fn of(path: &Path, custody: &Custody, trust: Option<&Trust>, pulse: &mut Pulse<'_>) -> Result<Part, BundleError> {
        let mut lineage = Lineage::default();
        if !path.is_dir() {
            let found = walk::file(path, String::new(), pulse)?;
            let digest = found.sha256;
            let name = custody.uses(&mut lineage, Kind::Data, path, digest);
            return Ok(Part { name, path: path.to_owned(), form: Form::File, digest, lineage, files: vec![found] });
        }
        let files = walk::directory(path, pulse)?;
        let digest = digest(covered(&files))?;
        let has = |name: &str| files.iter().any(|file| file.name == name);
        let name = if has(ORIGIN) {
            let origin = verified(path, &files, digest, believed(path, trust)?)?;
            lineage.joins(&origin.lineage);
            custody.holds(&mut lineage, origin.artefact, path, digest)
        } else {
            if has(oms::FILE) {
                compared(path, &files, believed(path, trust)?)?;
            }
            let kind = if has("adapter_config.json") {
                Kind::Adapter
            } else if has("config.json") {
                Kind::Model
            } else {
                Kind::Data
            };
            custody.uses(&mut lineage, kind, path, digest)
        };
        Ok(Part { name, path: path.to_owned(), form: Form::Directory, digest, lineage, files })
    }

    /// Where it comes from, for the question.
    pub fn lineage(&self) -> &Lineage {
        &self.lineage
    }

    /// The digest of the file, or of the directory's names and contents.
    pub fn digest(&self) -> BareDigest {
        self.digest
    }

    /// Its size.
    pub fn bytes(&self) -> u64 {
        self.files.iter().fold(0, |sum, file| sum.saturating_add(file.bytes))
    }
}

fn believed<'a>(path: &Path, trust: Option<&'a Trust>) -> Result<&'a Trust, BundleError> {
    trust.ok_or_else(|| BundleError::NotPacked {
        path: path.to_owned(),
        found: "a signature, and no key to believe".to_owned(),
        expected: "a directory of trusted keys",
    })
}

/// All but the directory's own signature.
fn covered(files: &[Found]) -> Vec<Resource> {
    let covered = files.iter().filter(|file| file.name != oms::FILE);
    covered.map(|file| Resource { file: file.name.clone(), range: None, digest: file.sha256 }).collect()
}

/// Compares what was measured with the signature: the bytes are those that will be packed.
fn verified(path: &Path, files: &[Found], digest: BareDigest, trust: &Trust) -> Result<Origin, BundleError> {
    let used = verified_for(path, trust, &ROLES, &known(files))?;
    let refused =
        |found: &str, expected| BundleError::NotPacked { path: path.join(oms::FILE), found: found.to_owned(), expected };
    if used.digest != digest {
        return Err(refused("a signature by shards", "one by whole files, as Sirocco signs"));
    }
    used.origin.ok_or_else(|| refused("no record beside it any more", "origin.json, which was there"))
}

fn known(files: &[Found]) -> Vec<KnownFile> {
    let covered = files.iter().filter(|file| file.name != oms::FILE);
    covered.map(|file| KnownFile { file: file.name.clone(), bytes: file.bytes, digest: file.sha256 }).collect()
}

/// The same for a directory without a record and without a statement.
fn compared(path: &Path, files: &[Found], trust: &Trust) -> Result<(), BundleError> {
    let read = |role: &str| oms::read(&path.join(oms::FILE), &trust.with_role(role)?);
    let mut failed = None;
    for role in ROLES_WITHOUT_RECORD {
        match read(role) {
            Ok(signed) => {
                signed.check_known(path, &known(files))?;
                return Ok(());
            }
            Err(error) => failed = failed.or(Some(error)),
        }
    }
    failed.map_or(Ok(()), |error| Err(error.into()))
}
