//! What programs publish and use: a directory with a statement of where it comes from and a signature over both. FORMAT.md beside this folder
//! describes the directory.
//!
//! [`sign`] is the last step before a directory gets its name; [`verify`] the first before anything of it is used. Both take digests that the
//! caller has anyway ([`KnownFile`]), so that large files are read once.

use std::path::Path;

use crate::Digest;
use crate::error::{Error, Result};
use crate::files::{read_small, remove_unfinished};
use crate::keys::PrivateKey;
use crate::manifest::{ALWAYS_IGNORED, Coverage, KnownFile, Manifest, Method, Options, Resource};
use crate::provenance::{self, Attested, Facts};
use crate::trust::{Trust, TrustedKey};
use crate::{Differences, oms};

/// What the maker of a directory says of it.
#[derive(Clone, Copy, Debug)]
pub struct Claim<'a> {
    /// What the directory will be called: for people, never compared. It may be signed under a temporary name.
    pub name: &'a str,
    /// Files whose digests were computed while they were written. All others are read.
    pub known: &'a [KnownFile],
    /// Where it comes from.
    pub facts: &'a Facts,
}

/// What a program demands of a directory before it uses it.
#[derive(Clone, Copy, Debug)]
pub struct Demand<'a> {
    /// Whom to believe.
    pub trust: &'a Trust,
    /// What the key must be for ([`crate::trust::role`]).
    pub role: &'a str,
    /// The one directory that is meant, where somebody keeps a record of it: without it an older one with its own signature is as good.
    pub digest: Option<Digest>,
    /// Files whose bytes the caller compares with these digests itself; all others are read here.
    pub known: &'a [KnownFile],
}

/// A directory that is what a trusted key signed, with statements of where it comes from.
#[derive(Clone, Debug)]
pub struct Verified {
    /// Whose signature it is.
    pub signer: TrustedKey,
    /// The one digest for names and contents ([`Manifest::digest`]): what records refer to. The statement is in it, the signature is not.
    pub digest: Digest,
    /// Where it comes from; at least one.
    pub statements: Vec<Attested>,
    /// What was compared.
    pub coverage: Coverage,
    /// What is signed, file by file.
    pub files: Vec<Resource>,
}

impl Verified {
    /// Compares a file that was read again with what was signed: it may have been replaced since. `bytes` are nothing where it was not there.
    ///
    /// # Errors
    /// [`Error::Differs`] with the file: other bytes, none where some are signed, some where none are.
    pub fn expect_file(&self, root: &Path, name: &str, bytes: Option<&[u8]>) -> Result<()> {
        let signed: Vec<&Resource> = self.files.iter().filter(|resource| resource.file == name).collect();
        let names = vec![name.to_owned()];
        let differences = match bytes {
            None if signed.is_empty() => return Ok(()),
            None => Differences { missing: names, ..Differences::default() },
            Some(_) if signed.is_empty() => Differences { extra: names, ..Differences::default() },
            Some(bytes) if covers(&signed, bytes) => return Ok(()),
            Some(_) => Differences { changed: names, ..Differences::default() },
        };
        Err(Error::Differs { path: root.to_owned(), signature: root.join(oms::FILE), differences: Box::new(differences) })
    }
}

/// Are these the signed bytes: as a whole, or shard after shard without a gap?
fn covers(signed: &[&Resource], bytes: &[u8]) -> bool {
    if let [whole] = signed
        && whole.range.is_none()
    {
        return whole.digest == Digest::of(bytes);
    }
    let mut shards: Vec<_> = signed.iter().filter_map(|resource| resource.range.map(|range| (range, resource.digest))).collect();
    shards.sort_by_key(|(range, _)| *range);
    let mut at = 0;
    for ((start, end), digest) in shards {
        let part = usize::try_from(start).ok().zip(usize::try_from(end).ok()).and_then(|(from, to)| bytes.get(from..to));
        if start != at || part.is_none_or(|part| Digest::of(part) != digest) {
            return false;
        }
        at = end;
    }
    at == bytes.len() as u64
}

/// Writes the statement of where a directory comes from, then the signature over all files and the statement. What stood there of both is
/// replaced. Gives what is signed: its [`Manifest::digest`] is for the records.
///
/// # Errors
///
/// [`Error::NotAsRecorded`] where a known file is missing or has another size; facts that are missing; a file that cannot be read, covered or
/// written.
pub fn sign(root: &Path, claim: &Claim<'_>, key: &PrivateKey) -> Result<Manifest> {
    let (statement, signature) = (root.join(provenance::FILE), root.join(oms::FILE));
    remove_unfinished(&statement)?;
    remove_unfinished(&signature)?;
    let own = Options { ignore: vec![provenance::FILE.to_owned(), oms::FILE.to_owned()], ..Options::default() };
    let files = Manifest::of_known(root, own, claim.known)?;
    let digest = provenance::write_line(&statement, &files, claim.facts, key)?.1;
    let stated = Resource { file: provenance::FILE.to_owned(), range: None, digest };
    let resources = files.resources.into_iter().chain([stated]).collect();
    let options = Options { ignore: vec![oms::FILE.to_owned()], ..Options::default() };
    let signed = Manifest::new(claim.name.to_owned(), options, resources)?;
    oms::sign_manifest(&signature, &signed, key)?;
    Ok(signed)
}

/// Verifies the signature and the statement of a directory and compares every file with them, reading each at most once.
///
/// # Errors
///
/// No key with the role ([`Error::BadTrust`]); no signature or statement ([`Error::Unsigned`]), or none of a key with the role; another
/// directory than the one that is meant ([`Error::OtherModel`]); [`Error::Differs`] with the files; [`Error::Uncovered`] for files that the
/// signer left out.
pub fn verify(root: &Path, demand: &Demand<'_>) -> Result<Verified> {
    let trust = demand.trust.with_role(demand.role)?;
    let mut signed = oms::read(&root.join(oms::FILE), &trust)?;
    if let Some(expected) = demand.digest {
        signed = signed.expect(expected)?;
    }
    let manifest = signed.manifest.clone();
    let oms::Verified { signer, digest, coverage } = signed.check_known(root, demand.known)?;
    refuse_uncovered(root, &manifest, &coverage)?;
    let statements = statements(root, &manifest, &trust)?;
    Ok(Verified { signer, digest, statements, coverage, files: manifest.resources })
}

/// Files of git are nothing that a program here reads. With shards a file without bytes has no line, and is nothing to read.
fn refuse_uncovered(root: &Path, manifest: &Manifest, coverage: &Coverage) -> Result<()> {
    let of_git = |name: &str| ALWAYS_IGNORED.contains(&name.trim_end_matches('/'));
    let left_out = |name: &str| {
        let listed = |entry: &String| name.trim_end_matches('/') == entry;
        matches!(manifest.options.method, Method::Files) || manifest.options.ignore.iter().any(listed)
    };
    let files: Vec<String> = coverage.uncovered.iter().filter(|name| !of_git(name) && left_out(name)).cloned().collect();
    if files.is_empty() { Ok(()) } else { Err(Error::Uncovered { path: root.join(oms::FILE), files }) }
}

/// The statements about what is signed. They are compared with the signed digests, which have been compared with the files.
fn statements(root: &Path, manifest: &Manifest, trust: &Trust) -> Result<Vec<Attested>> {
    if manifest.options.method != Method::Files {
        return provenance::verify(root, trust);
    }
    let path = root.join(provenance::FILE);
    let bytes = read_small(&path, provenance::LONGEST, || Error::Unsigned { path: path.clone() })?;
    let (stated, files): (Vec<Resource>, Vec<Resource>) =
        manifest.resources.iter().cloned().partition(|resource| resource.file == provenance::FILE);
    // Read again, so compared again: it may have been replaced since.
    if stated.iter().all(|resource| resource.digest != Digest::of(&bytes)) {
        let differences = Box::new(Differences { changed: vec![provenance::FILE.to_owned()], ..Differences::default() });
        return Err(Error::Differs { path: root.to_owned(), signature: root.join(oms::FILE), differences });
    }
    provenance::holding(&path, &bytes, trust, |signed| signed.check_files(root, &files))
}

#[cfg(test)]
mod tests;
