//! Checkpoints, adapters and models on disk, with the record of where they come from under a signature.
//!
//! ```text
//! DIRECTORY/
//!   …                          its own files
//!   origin.json                what it is and what it was made from: what the next question to the policy needs
//!   provenance.intoto.jsonl    the same for others
//!   model.sig                  a signature over all of it
//! ```

use std::path::Path;

use sirocco_files::{BareDigest, read, replace};
use sirocco_policy::{Labels, Name};
use sirocco_signing::artefact::{self, Claim, Demand, Verified};
use sirocco_signing::manifest::{KnownFile, Manifest, Options};
use sirocco_signing::provenance::Facts;
use sirocco_signing::trust::Trust;
use sirocco_signing::{Error, keys::PrivateKey, oms};

use crate::error::CustodyError;
use crate::lineage::{Lineage, ORIGIN_VERSION, Origin};

/// The record of where a directory comes from.
pub const ORIGIN: &str = "origin.json";
/// No record is longer, in bytes.
const LONGEST: u64 = 16 << 20;

/// What is to be published.
#[derive(Clone, Copy, Debug)]
pub struct Making<'a> {
    /// What it is.
    pub artefact: &'a Name,
    /// Where it comes from, and the labels that the policy said it inherits.
    pub lineage: &'a Lineage,
    /// Those labels.
    pub labels: &'a Labels,
    /// The run and its step.
    pub run: (&'a str, u64),
    /// Files whose digests are known from writing them.
    pub known: &'a [KnownFile],
    /// The statement of where it comes from.
    pub facts: &'a Facts,
}

/// Writes the record, the statement and the signature into a directory whose other files are written. Gives its digest, for the ledger.
///
/// # Errors
/// A file that cannot be read or written; facts that are missing.
pub fn publish(directory: &Path, making: &Making<'_>, key: &PrivateKey) -> Result<BareDigest, CustodyError> {
    let mut lineage = making.lineage.clone();
    lineage.recorded.insert(making.artefact.clone(), making.labels.clone());
    let (run, step) = (making.run.0.to_owned(), making.run.1);
    let origin = Origin { v: ORIGIN_VERSION, artefact: making.artefact.clone(), lineage, run, step };
    let path = directory.join(ORIGIN);
    let text = serde_json::to_vec_pretty(&origin).map_err(|error| record(&path, &error))?;
    replace::file_and_name(&path, &text, 0o644)?;
    let claim = Claim { name: &origin.artefact.name, known: making.known, facts: making.facts };
    Ok(artefact::sign(directory, &claim, key)?.digest())
}

/// A directory that a trusted key signed.
#[derive(Clone, Debug)]
pub struct Used {
    /// Whose signature it is.
    pub signer: String,
    /// The digest of its names and contents.
    pub digest: BareDigest,
    /// Where it comes from, ready for the next question; its record counts as verified.
    pub origin: Option<Origin>,
}

/// Whether there is anything to verify: a directory from elsewhere may have neither signature nor record.
pub fn is_signed(directory: &Path) -> bool {
    directory.join(oms::FILE).exists() || directory.join(ORIGIN).exists()
}

/// The one digest of a directory, as facts, entries and bundles have it: of the names and bytes of all its files but its signature and those of
/// git at the top. Links to files are read where they lead, as caches of models have them. `known` are files that the caller has read.
///
/// # Errors
/// A file that cannot be read, or that no signature could cover; a directory without files; a known file that is gone or has another size.
pub fn measured(directory: &Path, known: &[KnownFile]) -> Result<BareDigest, CustodyError> {
    let options = Options { ignore: vec![oms::FILE.to_owned()], follow_links: true, ..Options::default() };
    Ok(Manifest::of_known(directory, options, known)?.digest())
}

/// Where a directory says that it comes from, unverified: for plans.
///
/// # Errors
/// A record that cannot be read, or is none.
pub fn said(directory: &Path) -> Result<Option<Origin>, CustodyError> {
    let path = directory.join(ORIGIN);
    read::bytes_if_there(&path, LONGEST)?.map(|bytes| origin(&path, &bytes)).transpose()
}

/// Verifies a directory before it is used, and reads where it comes from. `known` are files whose bytes the caller compares itself.
///
/// # Errors
/// No signature of a trusted key for this role; files that differ, by their names; a record that is none.
pub fn verified(directory: &Path, trust: &Trust, role: &str, known: &[KnownFile]) -> Result<Used, CustodyError> {
    let verified = artefact::verify(directory, &Demand { trust, role, digest: None, known })?;
    let origin = signed_origin(directory, &verified)?;
    Ok(Used { signer: verified.signer.name, digest: verified.digest, origin })
}

/// The record. Its labels decide, and it is read again, so compared again: it may have been replaced since.
fn signed_origin(directory: &Path, verified: &Verified) -> Result<Option<Origin>, CustodyError> {
    let path = directory.join(ORIGIN);
    let bytes = read::bytes_if_there(&path, LONGEST)?;
    verified.expect_file(directory, ORIGIN, bytes.as_deref())?;
    bytes.map(|bytes| origin(&path, &bytes)).transpose()
}

/// The same for one of several roles: a model is signed by who released it here, or by who let it in from elsewhere.
///
/// # Errors
/// Those of [`verified`]; where the key has none of the roles, it is named.
pub fn verified_for(directory: &Path, trust: &Trust, roles: &[&str], known: &[KnownFile]) -> Result<Used, CustodyError> {
    let mut failed = None;
    for role in roles {
        match verified(directory, trust, role, known) {
            // Another role may have the key; nothing but the signature was read so far. A key by name says more than a role that nobody has.
            Err(CustodyError::Signing(error @ (Error::UnknownKey { .. } | Error::BadTrust { .. }))) => {
                if !matches!(failed, Some(Error::UnknownKey { .. })) {
                    failed = Some(error);
                }
            }
            answer => return answer,
        }
    }
    let nobody = || Error::Unsigned { path: directory.join(oms::FILE) };
    Err(failed.unwrap_or_else(nobody).into())
}

fn origin(path: &Path, bytes: &[u8]) -> Result<Origin, CustodyError> {
    let mut origin: Origin = serde_json::from_slice(bytes).map_err(|error| record(path, &error))?;
    if origin.v != ORIGIN_VERSION {
        let found = format!("version {}", origin.v);
        return Err(CustodyError::Record { path: path.to_owned(), found, expected: "version 1" });
    }
    origin.lineage.verified = origin.lineage.recorded.keys().cloned().collect();
    Ok(origin)
}

fn record(path: &Path, error: &serde_json::Error) -> CustodyError {
    let expected = "a record of where an artefact comes from, as Sirocco writes it";
    CustodyError::Record { path: path.to_owned(), found: error.to_string(), expected }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    #[test]
    fn a_directory_of_links_has_the_digest_of_one_of_files() {
        let folder = tempfile::tempdir().unwrap();
        let (files, links) = (folder.path().join("files"), folder.path().join("links"));
        fs::create_dir_all(files.join("more")).unwrap();
        fs::create_dir_all(links.join("more")).unwrap();
        for name in ["config.json", "model.safetensors", "more/tokenizer.json"] {
            fs::write(files.join(name), name).unwrap();
            std::os::unix::fs::symlink(files.join(name), links.join(name)).unwrap();
        }
        let digest = measured(&files, &[]).unwrap();
        assert_eq!(measured(&links, &[]).unwrap(), digest);
        fs::write(files.join(".gitignore"), "x").unwrap();
        fs::write(files.join("model.sig"), "x").unwrap();
        assert_eq!(measured(&files, &[]).unwrap(), digest);
        fs::write(files.join("more/tokenizer.json"), "another").unwrap();
        assert_ne!(measured(&files, &[]).unwrap(), digest);
    }
}
