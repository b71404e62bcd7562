//! Data files with the digests of their bytes.
use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use sirocco_config::Run;
use sirocco_corpus::CorpusError;
use sirocco_files::{BareDigest, Digest, FilesError};
use sirocco_policy::{Guarded, Name, Sha256Digest};
use sirocco_tokens::TokenCache;

use crate::failure::{Failure, Kind};
use crate::train::tokens::SIDES;
use crate::waiting;

/// A data file whose bytes were measured.
#[derive(Clone, Debug)]
pub(crate) struct DataFile {
    /// As the policy knows it.
    pub(crate) name: Name,
    pub(crate) path: PathBuf,
    pub(crate) digest: Sha256Digest,
    /// Its tokens are there already: nothing will be read of it.
    pub(crate) is_cached: bool,
}

impl Guarded for DataFile {
    fn artefact(&self) -> &Name {
        &self.name
    }
}

/// The digest of a file's bytes.
pub(crate) fn digest_of(path: &Path) -> Result<Sha256Digest, Failure> {
    match waiting::shown(&format!("reading {}", path.display()), || Digest::of_file(path)) {
        Ok((digest, _)) => Ok(BareDigest(digest)),
        Err(FilesError::Io { source, .. }) => {
            Err(Failure::from(CorpusError::Io { path: path.to_owned(), action: "read", source }))
        }
        Err(error) => Err(Failure::new(Kind::Input, error)),
    }
}

/// Compares the bytes that were read with those that the policy was asked about.
pub(crate) fn expect_same(path: &Path, read: &str, asked: &str) -> Result<(), Failure> {
    if read == asked {
        return Ok(());
    }
    let path = path.display();
    let message = format!(
        "{path}: it was changed while it was read: found SHA-256 {read}, expected {asked}, which the policy was asked about"
    );
    Err(Failure::new(Kind::Input, message).help("let nobody write to it, then type the same command again"))
}

/// A file of a run, before it has a name.
pub(super) struct Bytes {
    pub(super) path: PathBuf,
    pub(super) digest: Sha256Digest,
    pub(super) is_cached: bool,
}

/// Every data file of a run, each once. Of one whose tokens are under `tokens` the digest is the one that it had when they were made.
pub(super) fn data_of(run: &Run, tokens: Option<&Path>) -> Result<Vec<Bytes>, Failure> {
    let mut found: Vec<Bytes> = Vec::new();
    for (side, files) in [(SIDES[0], &run.data.train), (SIDES[1], &run.data.valid)] {
        let made = tokens.map(|tokens| tokens.join(side)).filter(|path| path.is_file()).map(|path| TokenCache::open(&path));
        let made = made.transpose()?.map(|cache| cache.header().inputs.data.clone());
        for (number, path) in files.iter().enumerate() {
            let cached = made.as_ref().and_then(|digests| digests.get(number)).and_then(|digest| digest.parse().ok());
            let known = found.iter().find(|file| file.path == *path && !file.is_cached).map(|file| file.digest);
            let digest = cached.or(known).map_or_else(|| digest_of(path), Ok)?;
            let is_cached = cached.is_some();
            if !found.iter().any(|file| file.path == *path && file.digest == digest && file.is_cached == is_cached) {
                found.push(Bytes { path: path.clone(), digest, is_cached });
            }
        }
    }
    Ok(found)
}

/// Whether a failure is that a file is not there.
pub(super) fn is_missing(path: &Path) -> bool {
    std::fs::metadata(path).is_err_and(|error| error.kind() == ErrorKind::NotFound)
}
