//! Key pairs in PEM: the private key as PKCS#8, the public key as SubjectPublicKeyInfo. We sign with P-256; P-384 is verified, too.
//!
//! A private key is a file that only its owner can read. One that is encrypted is refused: a job on a cluster has nobody to type a password, and
//! one that stands in a script protects nothing. Sites that need more keep the key in a device and sign elsewhere.

mod public;

use std::fmt::{Debug, Formatter};
use std::fs::{self, OpenOptions};
use std::io::{ErrorKind, Write};
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

use p256::SecretKey;
use p256::ecdsa::signature::Signer;
use p256::ecdsa::{Signature, SigningKey};
use p256::elliptic_curve::rand_core::{OsRng, RngCore};
use p256::elliptic_curve::zeroize::Zeroizing;
use p256::pkcs8::{DecodePrivateKey, EncodePrivateKey, LineEnding, PrivateKeyInfo, SecretDocument};

pub use self::public::{Fingerprint, PublicKey};
use self::public::{is_p256, kind_of};
use crate::error::{Error, Result, io_error, malformed};
use crate::files::{open, read_whole, sync_parent};

/// Ends the name of a private key's file.
pub const PRIVATE: &str = "key";
/// Ends the name of a public key's file.
pub const PUBLIC: &str = "pub";

/// No PEM file of one key is longer, in bytes.
const LONGEST: u64 = 1 << 16;
/// Memory for such a file, and for what reading it needs besides.
const ROOM: usize = (1 << 16) + 64;
/// Bits of a file's mode that let somebody else than its owner in.
const OTHERS: u32 = 0o077;
const EXPECTED: &str = "a private key on the curve P-256, in PEM (PKCS#8 or SEC1), not encrypted";

/// The half of a key pair that signs. Its memory is wiped when it is dropped, and it is never printed.
pub struct PrivateKey {
    key: SigningKey,
    public: PublicKey,
}

impl PrivateKey {
    fn new(path: &Path, secret: &SecretKey) -> Result<Self> {
        Ok(Self { public: PublicKey::of_p256(path, &secret.public_key())?, key: SigningKey::from(secret) })
    }

    /// A new pair, written as [`PrivateKey::write_pair`] does: the key, the private file and the public file.
    ///
    /// # Errors
    ///
    /// Those of [`PrivateKey::generate`] and [`PrivateKey::write_pair`].
    pub fn create(directory: &Path, name: &str) -> Result<(Self, PathBuf, PathBuf)> {
        let key = Self::generate()?;
        let (private, public) = key.write_pair(directory, name)?;
        Ok((key, private, public))
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
        let (file, metadata) = open(path, || Error::KeyMissing { path: path.to_owned() })?;
        let mode = metadata.permissions().mode() & 0o7777;
        if mode & OTHERS != 0 {
            return Err(Error::KeyExposed { path: path.to_owned(), mode });
        }
        // Room for the whole from the start: a vector that grows leaves copies of the secret behind.
        let mut text = Zeroizing::new(Vec::with_capacity(ROOM));
        read_whole(path, file, LONGEST, &mut text)?;
        let text = str::from_utf8(&text).map_err(|_| malformed(path, "the file", "bytes that are no text", EXPECTED))?;
        Self::new(path, &secret_from_pem(path, text)?)
    }

    /// Writes the pair as `NAME.key` (mode 600) and `NAME.pub` into a directory, and says where. Nothing is replaced. The public half is
    /// written first: what a power cut leaves is then never a private key whose public half nobody has.
    ///
    /// # Errors
    ///
    /// [`Error::KeyExists`], [`Error::BadKeyName`], or a directory that cannot be written. Nothing of the pair is left then.
    pub fn write_pair(&self, directory: &Path, name: &str) -> Result<(PathBuf, PathBuf)> {
        check_name(name)?;
        let (private, public) = (directory.join(format!("{name}.{PRIVATE}")), directory.join(format!("{name}.{PUBLIC}")));
        let secret = SecretKey::from(self.key.as_nonzero_scalar());
        let pem = secret.to_pkcs8_pem(LineEnding::LF);
        let pem = pem.map_err(|error| malformed(&private, "the key", error.to_string(), "a key that can be written"))?;
        write_new(&public, self.public.pem().as_bytes(), 0o644)?;
        write_new(&private, pem.as_bytes(), 0o600).inspect_err(|_| {
            // The error on its way says what is wrong; this file is ours, of a moment ago.
            let _ = fs::remove_file(&public);
        })?;
        sync_parent(&private)?;
        Ok((private, public))
    }

    /// The half that verifies.
    #[must_use]
    pub fn public(&self) -> &PublicKey {
        &self.public
    }

    /// Signs with ECDSA over SHA-256 and writes the signature in DER. The same message gives the same signature (RFC 6979): no randomness of
    /// the moment can give the key away. Of the two forms that every signature has, the one with the lower `s`.
    #[must_use]
    pub fn sign(&self, message: &[u8]) -> Vec<u8> {
        let signature: Signature = self.key.sign(message);
        signature.normalize_s().unwrap_or(signature).to_der().as_bytes().to_vec()
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
            if let Some(info) = info.ok().filter(|info| !is_p256(&info.algorithm)) {
                return Err(unsupported(&kind_of(&info.algorithm)));
            }
            SecretKey::from_pkcs8_der(document.as_bytes()).map_err(|error| error.to_string())
        }
        Some("EC PRIVATE KEY") => {
            let start = text.find("-----BEGIN EC PRIVATE KEY-----").and_then(|at| text.get(at..)).unwrap_or(text);
            let document = SecretDocument::from_pem(start).map(|(_, document)| document);
            let document = document.map_err(|error| malformed(path, "the private key", error.to_string(), EXPECTED))?;
            SecretKey::from_sec1_der(document.as_bytes()).map_err(|error| error.to_string())
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

/// A name that is one part of a path and no hidden file: it becomes the name of a trusted key.
fn check_name(name: &str) -> Result<()> {
    let plain = |character: char| character.is_ascii_alphanumeric() || "-_.@+".contains(character);
    if !name.is_empty() && !name.starts_with(['.', '-']) && name.chars().all(plain) {
        return Ok(());
    }
    Err(Error::BadKeyName { name: name.to_owned() })
}

fn write_new(path: &Path, bytes: &[u8], mode: u32) -> Result<()> {
    let file = OpenOptions::new().write(true).create_new(true).mode(mode).open(path);
    let mut file = file.map_err(|error| match error.kind() {
        ErrorKind::AlreadyExists => Error::KeyExists { path: path.to_owned() },
        _ => io_error("write", path)(error),
    })?;
    let written = file.write_all(bytes).and_then(|()| file.sync_all()).map_err(io_error("write", path));
    written.inspect_err(|_| {
        // Half a key is no key. The error on its way says what is wrong.
        let _ = fs::remove_file(path);
    })
}

#[cfg(test)]
mod tests;
