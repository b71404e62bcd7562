//! Writing a bundle: all of it under another name, signed, then renamed.

use std::fs;
use std::path::{Path, PathBuf};

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
        let half = Half::create(to)?;
        self.sign(&half.0.join(oms::FILE), key)?;
        if to.extension().is_some_and(|ending| ending == "tar") {
            let mut files = self.files.clone();
            files.insert(oms::FILE.to_owned(), read::bytes(&half.0.join(oms::FILE), LONGEST)?);
            return Ok(replace::new_file(to, &tar::write(to, &files)?, 0o644)?);
        }
        for (name, bytes) in &self.files {
            let path = half.0.join(name);
            let folder = replace::directory(&path);
            fs::create_dir_all(folder).map_err(io("create", folder))?;
            replace::new_file(&path, bytes, 0o644)?;
        }
        fs::rename(&half.0, to).map_err(io("rename", to))?;
        Ok(replace::sync_directory(replace::directory(to))?)
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

/// A directory beside the bundle's place; what is left of it goes away.
struct Half(PathBuf);

impl Half {
    fn create(to: &Path) -> Result<Half, EvidenceError> {
        let name = to.file_name().unwrap_or_default().to_string_lossy();
        let folder = replace::directory(to);
        fs::create_dir_all(folder).map_err(io("create", folder))?;
        let path = folder.join(format!(".{name}.{}.unfinished", std::process::id()));
        fs::create_dir(&path).map_err(io("create", &path))?;
        Ok(Half(path))
    }
}

impl Drop for Half {
    fn drop(&mut self) {
        // Renamed by now, or left by an error that is on its way.
        let _ = fs::remove_dir_all(&self.0);
    }
}
