//! `model.sig`: OpenSSF Model Signing v1.0 with the method `key`.
//!
//! A signature lies in the directory that it covers. It is a Sigstore bundle around a DSSE envelope around an in-toto statement with the digests
//! of all files. The bundle names a key and may even carry one: it is only ever looked up among the keys that the caller trusts.
//!
//! ```
//! # fn main() -> sirocco_signing::Result<()> {
//! # let folder = tempfile::tempdir().unwrap();
//! # let dir = folder.path();
//! # std::fs::write(dir.join("adapter.safetensors"), "weights").unwrap();
//! use sirocco_signing::{keys::PrivateKey, manifest::Options, oms, trust::Trust};
//!
//! let key = PrivateKey::generate()?;
//! oms::sign(dir, &key, Options::default())?;
//! let verified = oms::verify(dir, &Trust::only("ministry", key.public().clone()))?;
//! assert_eq!(verified.signer.name, "ministry");
//! assert_eq!(verified.coverage.files, 1);
//! # Ok(())
//! # }
//! ```

mod bundle;
mod statement;

use std::path::{Path, PathBuf};

use crate::Digest;
use crate::dsse::{Envelope, IN_TOTO};
use crate::error::{Error, Result, io_error, malformed};
use crate::files::{read_small, remove_unfinished, replace};
use crate::keys::PrivateKey;
use crate::manifest::{Coverage, KnownFile, Manifest, Options};
use crate::oms::bundle::Bundle;
use crate::trust::{Trust, TrustedKey};

/// The signature's file in the directory that it covers.
pub const FILE: &str = "model.sig";

/// No signature is longer, in bytes: half a million files.
const LONGEST: u64 = 1 << 26;

/// A signature of a trusted key and what it covers. The files have not been looked at yet.
#[derive(Clone, Debug)]
pub struct Signed {
    /// The file with the signature.
    pub path: PathBuf,
    /// Whose signature it is.
    pub signer: TrustedKey,
    /// What is signed.
    pub manifest: Manifest,
}

/// A directory that is what a trusted key signed.
#[derive(Clone, Debug)]
pub struct Verified {
    /// Whose signature it is.
    pub signer: TrustedKey,
    /// The one digest that stands for all names and contents ([`Manifest::digest`]): what other records refer to.
    pub digest: Digest,
    /// What was compared and what lies there uncovered.
    pub coverage: Coverage,
}

/// Signs all files of a directory but those that `options` leave out, and writes `model.sig` into it. An older signature is replaced.
///
/// # Errors
///
/// A file that cannot be read or covered, a directory that cannot be written.
pub fn sign(root: &Path, key: &PrivateKey, mut options: Options) -> Result<Manifest> {
    let path = root.join(FILE);
    remove_unfinished(&path)?;
    if !options.ignore.iter().any(|entry| entry == FILE) {
        options.ignore.push(FILE.to_owned());
    }
    let manifest = Manifest::of(root, options)?;
    sign_manifest(&path, &manifest, key)?;
    Ok(manifest)
}

/// Signs digests that were computed before, say while the files were written, and writes the signature to `path`.
///
/// # Errors
///
/// A directory that cannot be written.
pub fn sign_manifest(path: &Path, manifest: &Manifest, key: &PrivateKey) -> Result<()> {
    replace(path, signature(path, manifest, key)?.as_bytes())
}

/// The same for whoever writes the signature elsewhere than into a file of its own; `path` is for messages.
///
/// # Errors
///
/// A manifest that cannot be written as JSON.
pub fn signature(path: &Path, manifest: &Manifest, key: &PrivateKey) -> Result<String> {
    let payload = statement::write(path, manifest)?;
    Bundle::of(Envelope::sign(IN_TOTO, payload, key), key.public()).to_json(path)
}

/// Verifies `model.sig` of a directory and compares every file with it.
///
/// # Errors
///
/// No signature ([`Error::Unsigned`]), one that is not of a trusted key, and [`Error::Differs`] with the files.
pub fn verify(root: &Path, trust: &Trust) -> Result<Verified> {
    read(&root.join(FILE), trust)?.check(root)
}

/// Reads a signature and verifies that a trusted key made it. The files that it covers are not looked at.
///
/// # Errors
///
/// [`Error::Unsigned`], [`Error::UnknownKey`], [`Error::BadSignature`], [`Error::Unsupported`], [`Error::Malformed`].
pub fn read(path: &Path, trust: &Trust) -> Result<Signed> {
    read_bytes(path, &read_small(path, LONGEST, || Error::Unsigned { path: path.to_owned() })?, trust)
}

/// As [`read`], of bytes that the caller has; `path` is for messages.
///
/// # Errors
///
/// Those of [`read`] but the first.
pub fn read_bytes(path: &Path, json: &[u8], trust: &Trust) -> Result<Signed> {
    let bundle = Bundle::parse(path, json)?;
    let signer = bundle.signer(path, trust)?.clone();
    let manifest = statement::read(path, &bundle.envelope.payload)?;
    Ok(Signed { path: path.to_owned(), signer, manifest })
}

/// Refuses a signature file in another form than [`signature`] gives it. Nothing covers the bytes around what is signed, so that whoever wants each
/// of them to count has to know what they are. The reference implementation has a form of its own.
///
/// # Errors
///
/// [`Error::Malformed`].
pub fn expect_own_form(path: &Path, json: &[u8]) -> Result<()> {
    if Bundle::parse(path, json)?.to_json(path)?.as_bytes() == json {
        return Ok(());
    }
    Err(malformed(path, "the signature file", "other bytes around it", "the form in which sirocco writes it"))
}

impl Signed {
    /// Refuses a signature of another model than the one with this digest ([`Manifest::digest`]): without it, an older model together with its own
    /// signature is as good as the newest one.
    ///
    /// # Errors
    ///
    /// [`Error::OtherModel`].
    pub fn expect(self, expected: Digest) -> Result<Self> {
        let found = self.manifest.digest();
        if found == expected { Ok(self) } else { Err(Error::OtherModel { path: self.path, found, expected }) }
    }

    /// Compares every file of a directory with what is signed.
    ///
    /// # Errors
    ///
    /// [`Error::Differs`] with every file that is missing, changed or not signed; a file that cannot be read.
    pub fn check(self, root: &Path) -> Result<Verified> {
        self.check_known(root, &[])
    }

    /// The same where the caller compares the bytes of `known` itself ([`Manifest::compare`]).
    ///
    /// # Errors
    ///
    /// Those of [`Signed::check`].
    pub fn check_known(self, root: &Path, known: &[KnownFile]) -> Result<Verified> {
        let own: Vec<String> = inside(root, &self.path)?.into_iter().collect();
        let (differences, coverage) = self.manifest.compare(root, &own, known)?;
        if !differences.is_empty() {
            let differences = Box::new(differences);
            return Err(Error::Differs { path: root.to_owned(), signature: self.path, differences });
        }
        Ok(Verified { digest: self.manifest.digest(), signer: self.signer, coverage })
    }
}

/// Where a signature lies inside the directory that it covers, if it does.
fn inside(root: &Path, signature: &Path) -> Result<Option<String>> {
    let root = root.canonicalize().map_err(io_error("list", root))?;
    let folder = signature.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let folder = folder.canonicalize().map_err(io_error("list", folder))?;
    let Some(name) = signature.file_name() else { return Ok(None) };
    let whole = folder.join(name);
    let Ok(relative) = whole.strip_prefix(&root) else { return Ok(None) };
    let text = relative.to_str().map(str::to_owned);
    text.map(Some).ok_or_else(|| malformed(signature, "the path", "a name that is not UTF-8", "a name that is text"))
}
