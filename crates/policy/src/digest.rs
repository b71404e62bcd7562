//! SHA-256 digests in hexadecimal.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Deserializer, Serialize, Serializer};
use sha2::{Digest as _, Sha256};

use crate::source::Source;

/// The SHA-256 digest of some bytes; 64 lower-case hexadecimal digits when written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Sha256Digest([u8; 32]);

impl Sha256Digest {
    /// The digest of `bytes`.
    pub fn of(bytes: &[u8]) -> Sha256Digest {
        Sha256Digest(Sha256::digest(bytes).into())
    }

    /// One digest for several texts, whatever their files are called, wherever they lie and in whichever order they come:
    /// that of their digests in order, a line each.
    pub fn of_texts(sources: &[Source]) -> Sha256Digest {
        let mut lines: Vec<_> = sources.iter().map(|source| format!("{}\n", Sha256Digest::of(source.text.as_bytes()))).collect();
        lines.sort_unstable();
        Sha256Digest::of(lines.concat().as_bytes())
    }
}

impl fmt::Display for Sha256Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl FromStr for Sha256Digest {
    type Err = String;

    fn from_str(text: &str) -> Result<Sha256Digest, String> {
        let expected = || format!("\"{text}\": expected the 64 lower-case hexadecimal digits of a SHA-256 digest");
        let value = |digit: u8| match digit {
            b'0'..=b'9' => Some(digit - b'0'),
            b'a'..=b'f' => Some(digit - b'a' + 10),
            _ => None,
        };
        let (pairs, rest) = text.as_bytes().as_chunks::<2>();
        let bytes = pairs.iter().map(|[high, low]| Some(value(*high)? << 4 | value(*low)?)).collect::<Option<Vec<_>>>();
        let bytes = bytes.filter(|_| rest.is_empty()).ok_or_else(expected)?;
        bytes.try_into().map(Sha256Digest).map_err(|_| expected())
    }
}

impl Serialize for Sha256Digest {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Sha256Digest {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Sha256Digest, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(serde::de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn digests_are_sha_256_and_come_back() {
        // FIPS 180-2, appendix B.1.
        let abc = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";
        assert_eq!(Sha256Digest::of(b"abc").to_string(), abc);
        assert_eq!(abc.parse(), Ok(Sha256Digest::of(b"abc")));
        for bad in [&abc[1..], &abc.to_uppercase(), &format!("{abc}0"), "", &"é".repeat(32)] {
            assert!(bad.parse::<Sha256Digest>().is_err(), "{bad}");
        }
    }
}
