//! Writing a bundle: all of it under another name, signed, then renamed.

use std::fs;
use std::path::Path;

use sirocco_files::staging::Staging;
use sirocco_files::{BareDigest, read, replace};
use sirocco_signing::keys::PrivateKey;
use sirocco_signing::manifest::{Manifest, Options, Resource};
use sirocco_signing::oms;

use crate::error::{EvidenceError, io};
use crate::gather::Gathered;
use crate::tar;

/// No signature of a bundle is longer, in bytes.
const LONGEST: u64 = 1 << 26;

impl Gathered {
    /// Signs the files and writes them to a directory that is not there yet, or, where the name ends in `.tar`, into one file.
    ///
    /// # Errors
    /// [`EvidenceError::Exists`]; a directory that cannot be written.
    pub fn write(&self, to: &Path, key: &PrivateKey) -> Result<(), EvidenceError> {
        if fs::symlink_metadata(to).is_ok() {
            return Err(EvidenceError::Exists { path: to.to_owned() });
        }
        let folder = replace::directory(to);
        fs::create_dir_all(folder).map_err(io("create", folder))?;
        let half = Staging::create(to)?;
        self.sign(&half.path().join(oms::FILE), key)?;
        if to.extension().is_some_and(|ending| ending == "tar") {
            let mut files = self.files.clone();
            files.insert(oms::FILE.to_owned(), read::bytes(&half.path().join(oms::FILE), LONGEST)?);
            return Ok(replace::new_file(to, &tar::write(to, &files)?, 0o644)?);
        }
        for (name, bytes) in &self.files {
            let path = half.path().join(name);
            let folder = replace::directory(&path);
            fs::create_dir_all(folder).map_err(io("create", folder))?;
            replace::new_file(&path, bytes, 0o644)?;
        }
        Ok(half.publish()?)
    }

    fn sign(&self, path: &Path, key: &PrivateKey) -> Result<(), EvidenceError> {
        let resource =
            |(name, bytes): (&String, &Vec<u8>)| Resource { file: name.clone(), range: None, digest: BareDigest::of(bytes) };
        let options = Options { ignore: vec![oms::FILE.to_owned()], ..Options::default() };
        let manifest =
            Manifest::new(format!("evidence-{}", self.record.run), options, self.files.iter().map(resource).collect())?;
        Ok(oms::sign_manifest(path, &manifest, key)?)
    }
}
