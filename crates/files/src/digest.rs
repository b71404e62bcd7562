//! SHA-256 digests and their two texts: `sha256:` before 64 lowercase hexadecimal digits, and the digits alone.

use std::fmt;
use std::io::{self, Read};
use std::path::Path;
use std::str::FromStr;

use serde::de::{Deserialize, Deserializer, Unexpected, Visitor};
use serde::ser::{Serialize, Serializer};
use sha2::{Digest as _, Sha256};

use crate::{FilesError, read};

/// Bytes of a digest.
pub const DIGEST_BYTES: usize = 32;
const DIGITS: usize = 2 * DIGEST_BYTES;
const PREFIX: &str = "sha256:";
/// Bytes read at a time.
const BLOCK: usize = 1 << 18;

/// The SHA-256 of some bytes, written `sha256:` and 64 digits.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Digest([u8; DIGEST_BYTES]);

impl Digest {
    /// The digest of `bytes`.
    #[must_use]
    pub fn of(bytes: &[u8]) -> Self {
        Self(Sha256::digest(bytes).into())
    }

    /// The digest of several pieces, one after the other.
    #[must_use]
    pub fn of_pieces<'a>(pieces: impl IntoIterator<Item = &'a [u8]>) -> Self {
        let mut digester = Digester::new();
        pieces.into_iter().for_each(|piece| digester.update(piece));
        digester.finish()
    }

    /// The digest of everything that `source` gives, and how many bytes that were.
    ///
    /// # Errors
    /// Those of `source`.
    pub fn of_reader(mut source: impl Read) -> io::Result<(Self, u64)> {
        let (mut digester, mut count) = (Digester::new(), 0_u64);
        let mut block = vec![0; BLOCK];
        loop {
            match source.read(&mut block) {
                Ok(0) => return Ok((digester.finish(), count)),
                Ok(got) => {
                    digester.update(block.get(..got).unwrap_or_default());
                    count = count.saturating_add(got as u64);
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
    }

    /// The digest of a regular file, and how many bytes it has.
    ///
    /// # Errors
    /// [`FilesError::NotRegular`], [`FilesError::Io`].
    pub fn of_file(path: &Path) -> Result<(Self, u64), FilesError> {
        let (file, _) = read::open(path)?;
        Self::of_reader(file).map_err(FilesError::io("read", path))
    }

    /// The 32 bytes.
    #[must_use]
    pub const fn as_bytes(&self) -> &[u8; DIGEST_BYTES] {
        &self.0
    }

    /// The 64 digits alone.
    #[must_use]
    pub fn hex(&self) -> String {
        hex(&self.0)
    }

    /// Reads 64 lowercase digits, and nothing else.
    #[must_use]
    pub fn from_hex(text: &str) -> Option<Self> {
        let (pairs, rest) = text.as_bytes().as_chunks::<2>();
        let mut bytes = [0; DIGEST_BYTES];
        if pairs.len() != DIGEST_BYTES || !rest.is_empty() {
            return None;
        }
        for (byte, [high, low]) in bytes.iter_mut().zip(pairs) {
            *byte = value(*high)? << 4 | value(*low)?;
        }
        Some(Self(bytes))
    }
}

/// Bytes in lowercase hexadecimal.
#[must_use]
pub fn hex(bytes: &[u8]) -> String {
    bytes.iter().flat_map(|byte| [byte >> 4, byte & 15]).map(|nibble| char::from(digit(nibble))).collect()
}

const fn digit(nibble: u8) -> u8 {
    if nibble < 10 { b'0' + nibble } else { b'a' + nibble - 10 }
}

const fn value(digit: u8) -> Option<u8> {
    match digit {
        b'0'..=b'9' => Some(digit - b'0'),
        b'a'..=b'f' => Some(digit - b'a' + 10),
        _ => None,
    }
}

/// The digits on the stack: a log of a million entries writes several million of them.
fn write_digits(bytes: &[u8; DIGEST_BYTES], f: &mut fmt::Formatter<'_>) -> fmt::Result {
    let mut text = [0; DIGITS];
    for (pair, byte) in text.as_chunks_mut::<2>().0.iter_mut().zip(bytes) {
        *pair = [digit(byte >> 4), digit(byte & 15)];
    }
    f.write_str(std::str::from_utf8(&text).map_err(|_| fmt::Error)?)
}

impl From<[u8; DIGEST_BYTES]> for Digest {
    fn from(bytes: [u8; DIGEST_BYTES]) -> Self {
        Self(bytes)
    }
}

impl fmt::Display for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(PREFIX)?;
        write_digits(&self.0, f)
    }
}

impl fmt::Debug for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// A text that is no digest.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
#[error("found {found:?}, expected {expected}")]
pub struct NoDigest {
    /// The text, or its beginning.
    pub found: String,
    /// How a digest is written there.
    pub expected: &'static str,
}

impl NoDigest {
    fn new(found: &str, expected: &'static str) -> Self {
        Self { found: found.chars().take(80).collect(), expected }
    }
}

const EXPECTED: &str = "a SHA-256 digest: `sha256:` and 64 lowercase hexadecimal digits";
const EXPECTED_BARE: &str = "a SHA-256 digest: 64 lowercase hexadecimal digits";

impl FromStr for Digest {
    type Err = NoDigest;

    fn from_str(text: &str) -> Result<Self, NoDigest> {
        text.strip_prefix(PREFIX).and_then(Self::from_hex).ok_or_else(|| NoDigest::new(text, EXPECTED))
    }
}

/// A digest that is written as its 64 digits alone, as manifests and other people's formats do.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct BareDigest(pub Digest);

impl BareDigest {
    /// The digest of `bytes`.
    #[must_use]
    pub fn of(bytes: &[u8]) -> Self {
        Self(Digest::of(bytes))
    }

    /// The digest of several pieces, one after the other.
    #[must_use]
    pub fn of_pieces<'a>(pieces: impl IntoIterator<Item = &'a [u8]>) -> Self {
        Self(Digest::of_pieces(pieces))
    }

    /// Reads 64 lowercase digits; anything else is nothing.
    #[must_use]
    pub fn from_hex(text: &str) -> Option<Self> {
        Digest::from_hex(text).map(Self)
    }

    /// The 32 bytes.
    #[must_use]
    pub fn as_bytes(&self) -> &[u8; DIGEST_BYTES] {
        self.0.as_bytes()
    }
}

impl From<Digest> for BareDigest {
    fn from(digest: Digest) -> Self {
        Self(digest)
    }
}

impl From<BareDigest> for Digest {
    fn from(bare: BareDigest) -> Self {
        bare.0
    }
}

impl fmt::Display for BareDigest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write_digits(self.0.as_bytes(), f)
    }
}

impl FromStr for BareDigest {
    type Err = NoDigest;

    fn from_str(text: &str) -> Result<Self, NoDigest> {
        Digest::from_hex(text).map(Self).ok_or_else(|| NoDigest::new(text, EXPECTED_BARE))
    }
}

/// Both are texts in every format.
macro_rules! as_text {
    ($kind:ty, $expected:expr) => {
        impl Serialize for $kind {
            fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.collect_str(self)
            }
        }

        impl<'de> Deserialize<'de> for $kind {
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                struct Text;
                impl Visitor<'_> for Text {
                    type Value = $kind;

                    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                        f.write_str($expected)
                    }

                    fn visit_str<E: serde::de::Error>(self, text: &str) -> Result<$kind, E> {
                        text.parse().map_err(|_| E::invalid_value(Unexpected::Str(text), &self))
                    }
                }
                deserializer.deserialize_str(Text)
            }
        }
    };
}

as_text!(Digest, EXPECTED);
as_text!(BareDigest, EXPECTED_BARE);

/// A digest that is being computed, piece by piece. What is written to it is never refused.
#[derive(Clone, Default)]
pub struct Digester(Sha256);

impl Digester {
    /// Nothing yet.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// The next bytes.
    pub fn update(&mut self, bytes: &[u8]) {
        self.0.update(bytes);
    }

    /// The digest of all of them.
    #[must_use]
    pub fn finish(self) -> Digest {
        Digest(self.0.finalize().into())
    }
}

impl io::Write for Digester {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.update(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// FIPS 180-4's example: SHA-256 of "abc".
    const ABC: &str = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";

    #[test]
    fn it_is_sha_256_however_the_bytes_come() {
        let digest = Digest::of(b"abc");
        assert_eq!((digest.hex().as_str(), digest.to_string()), (ABC, format!("sha256:{ABC}")));
        assert_eq!(Digest::of_pieces([&b"a"[..], b"", b"bc"]), digest);
        assert_eq!(Digest::of_reader(&b"abc"[..]).unwrap(), (digest, 3));
        let folder = tempfile::tempdir().unwrap();
        let long: Vec<u8> = (0..BLOCK + 12_345).map(|index| (index % 251) as u8).collect();
        std::fs::write(folder.path().join("a"), &long).unwrap();
        assert_eq!(Digest::of_file(&folder.path().join("a")).unwrap(), (Digest::of(&long), long.len() as u64));
        assert!(matches!(Digest::of_file(folder.path()), Err(FilesError::NotRegular { .. })));
        let mut digester = Digester::new();
        io::copy(&mut &long[..], &mut digester).unwrap();
        assert_eq!(digester.finish(), Digest::of(&long));
    }

    #[test]
    fn both_texts_are_read_back_and_not_taken_for_each_other() {
        let digest = Digest::of(b"abc");
        assert_eq!(digest.to_string().parse(), Ok(digest));
        assert_eq!(ABC.parse(), Ok(BareDigest(digest)));
        assert_eq!(BareDigest(digest).to_string(), ABC);
        assert!(ABC.parse::<Digest>().unwrap_err().to_string().contains("expected a SHA-256 digest: `sha256:`"));
        assert!(digest.to_string().parse::<BareDigest>().is_err());
        let json = serde_json::to_string(&(digest, BareDigest(digest))).unwrap();
        assert_eq!(json, format!("[\"sha256:{ABC}\",\"{ABC}\"]"));
        assert_eq!(serde_json::from_str::<(Digest, BareDigest)>(&json).unwrap(), (digest, BareDigest(digest)));
        let error = serde_json::from_str::<Digest>("\"sha256:12\"").unwrap_err().to_string();
        assert!(error.contains("sha256:12") && error.contains("64 lowercase"), "{error}");
        assert!(serde_json::from_str::<BareDigest>("12").is_err());
    }

    #[test]
    fn only_lowercase_digits_of_the_right_number_are_a_digest() {
        for bad in ["", &ABC[1..], &ABC.to_uppercase(), &ABC.replace('b', "g"), &format!("{ABC}0"), &"é".repeat(32)] {
            assert_eq!(Digest::from_hex(bad), None, "{bad}");
            assert!(format!("sha256:{bad}").parse::<Digest>().is_err(), "{bad}");
        }
        for bad in ["SHA256:", "sha256", "sha512:", " sha256:", "sha256: "] {
            assert!(format!("{bad}{ABC}").parse::<Digest>().is_err(), "{bad}");
        }
    }

    proptest! {
        #[test]
        fn every_digest_is_read_back(bytes: [u8; DIGEST_BYTES]) {
            let digest = Digest::from(bytes);
            prop_assert_eq!(digest.to_string().parse(), Ok(digest));
            prop_assert_eq!(BareDigest(digest).to_string(), hex(&bytes));
            prop_assert_eq!(Digest::from_hex(&hex(&bytes)), Some(digest));
        }

        #[test]
        fn any_text_is_read_or_refused(text in "(sha256:)?[0-9a-fA-F]{0,70}|\\PC{0,80}") {
            if let Ok(digest) = text.parse::<Digest>() {
                prop_assert_eq!(digest.to_string(), text);
            }
        }
    }
}
