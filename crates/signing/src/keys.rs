//! P-256 key pairs in PEM: the private key as PKCS#8, the public key as SubjectPublicKeyInfo.
//!
//! A private key is a file that only its owner can read. One that is encrypted is refused: a job on a cluster has nobody to type a password, and
//! one that stands in a script protects nothing. Sites that need more keep the key in a device and sign elsewhere.

use std::fmt::{Debug, Display, Formatter};
use std::fs::{File, OpenOptions};
use std::io::{ErrorKind, Read, Write};
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

use p256::ecdsa::signature::{Signer, Verifier};
use p256::ecdsa::{DerSignature, SigningKey, VerifyingKey};
use p256::elliptic_curve::rand_core::{OsRng, RngCore};
use p256::elliptic_curve::zeroize::Zeroizing;
use p256::pkcs8::spki::{AlgorithmIdentifierRef, SubjectPublicKeyInfoRef};
use p256::pkcs8::{
    DecodePrivateKey, DecodePublicKey, Document, EncodePrivateKey, EncodePublicKey, LineEnding, PrivateKeyInfo, SecretDocument,
};
use p256::{PublicKey as Point, SecretKey};

use crate::Digest;
use crate::error::{Error, Result, io_error, malformed};
use crate::files::{read_small, sync_parent};

/// Ends the name of a private key's file.
pub const PRIVATE: &str = "key";
/// Ends the name of a public key's file.
pub const PUBLIC: &str = "pub";

/// No PEM file of one key is longer, in bytes.
const LONGEST: u64 = 1 << 16;
/// Bits of a file's mode that let somebody else than its owner in.
const OTHERS: u32 = 0o077;
const EXPECTED: &str = "a private key on the curve P-256, in PEM (PKCS#8 or SEC1), not encrypted";

/// What names a key: SHA-256 of its public half, written as PEM. The reference implementation of OMS calls it the key's hint.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Fingerprint(pub Digest);

impl Display for Fingerprint {
    fn fmt(&self, to: &mut Formatter<'_>) -> std::fmt::Result {
        Display::fmt(&self.0, to)
    }
}

/// The half of a key pair that verifies.
#[derive(Clone, PartialEq, Eq)]
pub struct PublicKey {
    key: VerifyingKey,
    pem: String,
}

impl PublicKey {
    fn new(path: &Path, point: &Point) -> Result<Self> {
        let pem = point.to_public_key_pem(LineEnding::LF);
        let pem = pem.map_err(|error| malformed(path, "the key", error.to_string(), "a point on the curve P-256"))?;
        Ok(Self { key: VerifyingKey::from(point), pem })
    }

    /// Reads the text of a PEM file; `path` is for messages.
    ///
    /// # Errors
    ///
    /// [`Error::Malformed`] or [`Error::Unsupported`]: not PEM, a private key, a key of another kind.
    pub fn from_pem(path: &Path, text: &str) -> Result<Self> {
        let expected = "a public key on the curve P-256, in PEM";
        match label(text) {
            Some("PUBLIC KEY") => {}
            Some(other) => return Err(malformed(path, "the file", format!("PEM with a {other}"), expected)),
            None => return Err(malformed(path, "the file", "no PEM", expected)),
        }
        let document = Document::from_pem(text).map(|(_, document)| document);
        let document = document.map_err(|error| malformed(path, "the key", error.to_string(), expected))?;
        let info = document.decode_msg::<SubjectPublicKeyInfoRef<'_>>();
        if let Some(found) = info.ok().and_then(|info| other_kind(&info.algorithm)) {
            return Err(Error::Unsupported { path: path.to_owned(), part: "the key", found, expected });
        }
        let point = Point::from_public_key_der(document.as_bytes());
        Self::new(path, &point.map_err(|error| malformed(path, "the key", error.to_string(), expected))?)
    }

    /// Reads a PEM file.
    ///
    /// # Errors
    ///
    /// Those of [`PublicKey::from_pem`], and a file that cannot be read.
    pub fn read(path: &Path) -> Result<Self> {
        let missing = || io_error("read", path)(ErrorKind::NotFound.into());
        Self::from_pem(path, &text_of(path, read_small(path, LONGEST, missing)?)?)
    }

    /// The key as PEM, as OpenSSL writes it.
    #[must_use]
    pub fn pem(&self) -> &str {
        &self.pem
    }

    /// What names the key.
    #[must_use]
    pub fn fingerprint(&self) -> Fingerprint {
        Fingerprint(Digest::of(self.pem.as_bytes()))
    }

    /// Whether `signature` (ECDSA over SHA-256, in DER) is this key's over `message`.
    #[must_use]
    pub fn verifies(&self, message: &[u8], signature: &[u8]) -> bool {
        let signature = DerSignature::from_bytes(signature);
        signature.is_ok_and(|signature| self.key.verify(message, &signature).is_ok())
    }
}

impl Debug for PublicKey {
    fn fmt(&self, to: &mut Formatter<'_>) -> std::fmt::Result {
        write!(to, "PublicKey({})", self.fingerprint())
    }
}

/// The half of a key pair that signs. Its memory is wiped when it is dropped, and it is never printed.
pub struct PrivateKey {
    key: SigningKey,
    public: PublicKey,
}

impl PrivateKey {
    fn new(path: &Path, secret: &SecretKey) -> Result<Self> {
        Ok(Self { public: PublicKey::new(path, &secret.public_key())?, key: SigningKey::from(secret) })
    }

    /// A new key from the system's randomness.
    ///
    /// # Errors
    ///
    /// [`Error::NoRandomness`].
    pub fn generate() -> Result<Self> {
        let mut bytes = Zeroizing::new([0; 32]);
        loop {
            OsRng.try_fill_bytes(bytes.as_mut()).map_err(|error| Error::NoRandomness { reason: error.to_string() })?;
            // Zero, or one of the 2⁻³² numbers not below the group's order, is no key: draw again.
            if let Ok(secret) = SecretKey::from_slice(bytes.as_ref()) {
                return Self::new(Path::new("a new key"), &secret);
            }
        }
    }

    /// Reads a PEM file that only its owner can read.
    ///
    /// # Errors
    ///
    /// [`Error::KeyMissing`]; [`Error::KeyExposed`]; an encrypted key or one of another kind ([`Error::Unsupported`]); no key at all.
    pub fn read(path: &Path) -> Result<Self> {
        let mut file = File::open(path).map_err(|error| match error.kind() {
            ErrorKind::NotFound => Error::KeyMissing { path: path.to_owned() },
            _ => io_error("read", path)(error),
        })?;
        let mode = file.metadata().map_err(io_error("read", path))?.permissions().mode() & 0o7777;
        if mode & OTHERS != 0 {
            return Err(Error::KeyExposed { path: path.to_owned(), mode });
        }
        let mut text = Zeroizing::new(Vec::new());
        (&mut file).take(LONGEST).read_to_end(&mut text).map_err(io_error("read", path))?;
        let text = str::from_utf8(&text).map_err(|_| malformed(path, "the file", "bytes that are no text", EXPECTED))?;
        Self::new(path, &secret_from_pem(path, text)?)
    }

    /// Writes the pair as `NAME.key` (mode 600) and `NAME.pub` into a directory, and says where. Nothing is replaced.
    ///
    /// # Errors
    ///
    /// [`Error::KeyExists`], or a directory that cannot be written.
    pub fn write_pair(&self, directory: &Path, name: &str) -> Result<(PathBuf, PathBuf)> {
        let (private, public) = (directory.join(format!("{name}.{PRIVATE}")), directory.join(format!("{name}.{PUBLIC}")));
        if public.exists() {
            return Err(Error::KeyExists { path: public });
        }
        let pem = SecretKey::from(self.key.as_nonzero_scalar()).to_pkcs8_pem(LineEnding::LF);
        let pem = pem.map_err(|error| malformed(&private, "the key", error.to_string(), "a key that can be written"))?;
        write_new(&private, pem.as_bytes(), 0o600)?;
        write_new(&public, self.public.pem.as_bytes(), 0o644)?;
        sync_parent(&private)?;
        Ok((private, public))
    }

    /// The half that verifies.
    #[must_use]
    pub fn public(&self) -> &PublicKey {
        &self.public
    }

    /// Signs with ECDSA over SHA-256 and writes the signature in DER. The same message gives the same signature (RFC 6979): no randomness of
    /// the moment can give the key away.
    #[must_use]
    pub fn sign(&self, message: &[u8]) -> Vec<u8> {
        let signature: DerSignature = self.key.sign(message);
        signature.as_bytes().to_vec()
    }
}

impl Debug for PrivateKey {
    fn fmt(&self, to: &mut Formatter<'_>) -> std::fmt::Result {
        write!(to, "PrivateKey({})", self.public.fingerprint())
    }
}

/// What the first PEM block of a text is, besides the parameters that OpenSSL writes before a SEC1 key.
fn label(text: &str) -> Option<&str> {
    let begins = text.lines().filter_map(|line| line.trim().strip_prefix("-----BEGIN ")?.strip_suffix("-----"));
    begins.into_iter().find(|label| *label != "EC PARAMETERS")
}

/// What kind of key an algorithm is, when it is not the one that is supported here.
fn other_kind(algorithm: &AlgorithmIdentifierRef<'_>) -> Option<String> {
    let oid = algorithm.parameters_oid().unwrap_or(algorithm.oid).to_string();
    let name = match oid.as_str() {
        "1.2.840.10045.3.1.7" => return None,
        "1.3.132.0.34" => "P-384",
        "1.3.132.0.35" => "P-521",
        "1.3.132.0.10" => "secp256k1",
        "1.3.101.112" => "Ed25519",
        "1.2.840.113549.1.1.1" => "RSA",
        _ => return Some(format!("a key of algorithm {oid}")),
    };
    Some(format!("a key of kind {name}"))
}

fn secret_from_pem(path: &Path, text: &str) -> Result<SecretKey> {
    let unsupported = |found: &str| Error::Unsupported {
        path: path.to_owned(),
        part: "the private key",
        found: found.to_owned(),
        expected: EXPECTED,
    };
    let kind = label(text);
    if kind == Some("ENCRYPTED PRIVATE KEY") || text.contains("Proc-Type: 4,ENCRYPTED") {
        return Err(unsupported("an encrypted key"));
    }
    let secret = match kind {
        Some("PRIVATE KEY") => {
            let document = SecretDocument::from_pem(text).map(|(_, document)| document);
            let document = document.map_err(|error| malformed(path, "the private key", error.to_string(), EXPECTED))?;
            let info = document.decode_msg::<PrivateKeyInfo<'_>>();
            if let Some(found) = info.ok().and_then(|info| other_kind(&info.algorithm)) {
                return Err(unsupported(&found));
            }
            SecretKey::from_pkcs8_der(document.as_bytes()).map_err(|error| error.to_string())
        }
        Some("EC PRIVATE KEY") => {
            let start = text.find("-----BEGIN EC PRIVATE KEY-----").and_then(|at| text.get(at..)).unwrap_or(text);
            SecretKey::from_sec1_pem(start).map_err(|error| error.to_string())
        }
        Some(other) => return Err(unsupported(&format!("PEM with a {other}"))),
        None => return Err(malformed(path, "the file", "no PEM", EXPECTED)),
    };
    secret.map_err(|found| malformed(path, "the private key", found, EXPECTED))
}

/// A file's bytes as text.
pub(crate) fn text_of(path: &Path, bytes: Vec<u8>) -> Result<String> {
    String::from_utf8(bytes).map_err(|_| malformed(path, "the file", "bytes that are no text", "text (UTF-8)"))
}

fn write_new(path: &Path, bytes: &[u8], mode: u32) -> Result<()> {
    let file = OpenOptions::new().write(true).create_new(true).mode(mode).open(path);
    let mut file = file.map_err(|error| match error.kind() {
        ErrorKind::AlreadyExists => Error::KeyExists { path: path.to_owned() },
        _ => io_error("write", path)(error),
    })?;
    file.write_all(bytes).and_then(|()| file.sync_all()).map_err(io_error("write", path))
}

#[cfg(test)]
mod tests;
