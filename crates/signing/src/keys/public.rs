//! The half of a key pair that verifies: on P-256 with SHA-256, or on P-384 with SHA-384, as OMS v1.0 pairs them.

use std::fmt::{Debug, Display, Formatter};
use std::io::ErrorKind;
use std::path::Path;

use p256::ecdsa::signature::Verifier;
use p256::pkcs8::der::asn1::ObjectIdentifier;
use p256::pkcs8::spki::{AlgorithmIdentifierRef, SubjectPublicKeyInfoRef};
use p256::pkcs8::{DecodePublicKey, Document, EncodePublicKey, LineEnding};

use super::{LONGEST, label, text_of};
use crate::Digest;
use crate::error::{Error, Result, io_error, malformed};
use crate::files::read_small;

const P256: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.2.840.10045.3.1.7");
const P384: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.3.132.0.34");
const EXPECTED: &str = "a public key on the curve P-256 or P-384, in PEM";

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
    point: Point,
    pem: String,
    fingerprint: Fingerprint,
}

#[derive(Clone, PartialEq, Eq)]
enum Point {
    P256(p256::ecdsa::VerifyingKey),
    P384(p384::ecdsa::VerifyingKey),
}

impl PublicKey {
    pub(super) fn of_p256(path: &Path, key: &p256::PublicKey) -> Result<Self> {
        Self::new(path, Point::P256(key.into()), key)
    }

    fn new(path: &Path, point: Point, key: &impl EncodePublicKey) -> Result<Self> {
        let pem = key.to_public_key_pem(LineEnding::LF);
        let pem = pem.map_err(|error| malformed(path, "the key", error.to_string(), "a point on the curve"))?;
        let fingerprint = Fingerprint(Digest::of(pem.as_bytes()));
        Ok(Self { point, pem, fingerprint })
    }

    /// Reads the text of a PEM file; `path` is for messages.
    ///
    /// # Errors
    ///
    /// [`Error::Malformed`] or [`Error::Unsupported`]: not PEM, a private key, a key of another kind.
    pub fn from_pem(path: &Path, text: &str) -> Result<Self> {
        match label(text) {
            Some("PUBLIC KEY") => {}
            Some(other) => return Err(malformed(path, "the file", format!("PEM with a {other}"), EXPECTED)),
            None => return Err(malformed(path, "the file", "no PEM", EXPECTED)),
        }
        let not_a_key = |error: String| malformed(path, "the key", error, EXPECTED);
        let (_, document) = Document::from_pem(text).map_err(|error| not_a_key(error.to_string()))?;
        let info: SubjectPublicKeyInfoRef<'_> = document.decode_msg().map_err(|error| not_a_key(error.to_string()))?;
        let bytes = document.as_bytes();
        match info.algorithm.parameters_oid() {
            Ok(P256) => Self::of_p256(path, &decoded(path, bytes)?),
            Ok(P384) => {
                let key: p384::PublicKey = decoded(path, bytes)?;
                Self::new(path, Point::P384(key.into()), &key)
            }
            _ => {
                let found = kind_of(&info.algorithm);
                Err(Error::Unsupported { path: path.to_owned(), part: "the key", found, expected: EXPECTED })
            }
        }
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
        self.fingerprint
    }

    /// Whether `signature` (ECDSA over SHA-256 with P-256, over SHA-384 with P-384, in DER) is this key's over `message`. Of every signature
    /// there is a twin that verifies as well, with another `s`, and others write either: so one key's signatures are counted by key, never by
    /// their bytes.
    #[must_use]
    pub fn verifies(&self, message: &[u8], signature: &[u8]) -> bool {
        match &self.point {
            Point::P256(key) => {
                let signature = p256::ecdsa::DerSignature::from_bytes(signature);
                signature.is_ok_and(|signature| key.verify(message, &signature).is_ok())
            }
            Point::P384(key) => {
                let signature = p384::ecdsa::DerSignature::from_bytes(signature);
                signature.is_ok_and(|signature| key.verify(message, &signature).is_ok())
            }
        }
    }
}

impl Debug for PublicKey {
    fn fmt(&self, to: &mut Formatter<'_>) -> std::fmt::Result {
        write!(to, "PublicKey({})", self.fingerprint())
    }
}

fn decoded<K: DecodePublicKey>(path: &Path, der: &[u8]) -> Result<K> {
    K::from_public_key_der(der).map_err(|error| malformed(path, "the key", error.to_string(), EXPECTED))
}

/// What kind of key an algorithm is, in words.
pub(super) fn kind_of(algorithm: &AlgorithmIdentifierRef<'_>) -> String {
    let oid = algorithm.parameters_oid().unwrap_or(algorithm.oid);
    let name = match oid.to_string().as_str() {
        "1.2.840.10045.3.1.7" => "P-256",
        "1.3.132.0.34" => "P-384",
        "1.3.132.0.35" => "P-521",
        "1.3.132.0.10" => "secp256k1",
        "1.3.101.112" => "Ed25519",
        "1.2.840.113549.1.1.1" => "RSA",
        other => return format!("a key of algorithm {other}"),
    };
    format!("a key of kind {name}")
}

/// Whether an algorithm is ECDSA with P-256.
pub(super) fn is_p256(algorithm: &AlgorithmIdentifierRef<'_>) -> bool {
    algorithm.parameters_oid() == Ok(P256)
}
