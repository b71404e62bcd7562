//! Merkle Tree Hashes over SHA-256: RFC 6962 section 2.1 (RFC 9162 section 2.1.1).

use std::fmt;

use sha2::{Digest as _, Sha256};

use crate::base64;

/// Bytes of a hash.
pub const HASH_BYTES: usize = 32;

/// A SHA-256 hash: of an entry, of a subtree or of a whole tree.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Hash(pub [u8; HASH_BYTES]);

impl Hash {
    /// From exactly 32 bytes.
    pub fn from_bytes(bytes: &[u8]) -> Option<Self> {
        bytes.try_into().ok().map(Self)
    }

    /// From the base64 that checkpoints and proofs write.
    pub fn from_base64(text: &str) -> Option<Self> {
        Self::from_bytes(&base64::decode(text)?)
    }
}

impl fmt::Display for Hash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&base64::encode(&self.0))
    }
}

impl fmt::Debug for Hash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Hash({self})")
    }
}

/// The plain SHA-256 of `bytes`, as a hash of this module.
pub fn sha256(bytes: &[u8]) -> Hash {
    Hash(Sha256::digest(bytes).into())
}

/// The hash of a tree without entries: SHA-256 of nothing.
pub fn empty_root() -> Hash {
    sha256(&[])
}

/// The hash of an entry: SHA-256(0x00 ‖ entry).
pub fn leaf(entry: &[u8]) -> Hash {
    Hash(Sha256::new().chain_update([0]).chain_update(entry).finalize().into())
}

/// The hash of two subtrees: SHA-256(0x01 ‖ left ‖ right).
pub fn node(left: &Hash, right: &Hash) -> Hash {
    let mut bytes = [1; 1 + 2 * HASH_BYTES];
    bytes[1..=HASH_BYTES].copy_from_slice(&left.0);
    bytes[1 + HASH_BYTES..].copy_from_slice(&right.0);
    sha256(&bytes)
}

/// The root over `parts`, from left to right: the leaf hashes of a tree, or the hashes of equally large complete subtrees of which the last
/// may be smaller and incomplete. Such a list splits as RFC 6962 splits its leaves, so one function serves both.
pub fn root(parts: &[Hash]) -> Hash {
    let mut row = parts.to_vec();
    if row.is_empty() {
        return empty_root();
    }
    // Pairs from the left, the odd one out moving up unchanged, is the same tree as splitting at the largest power of two.
    while row.len() > 1 {
        let mut above = Vec::with_capacity(row.len().div_ceil(2));
        for pair in row.chunks(2) {
            above.push(match pair {
                [left, right] => node(left, right),
                [single, ..] => *single,
                [] => continue,
            });
        }
        row = above;
    }
    row.first().copied().unwrap_or_else(empty_root)
}

/// The definition of RFC 6962 section 2.1 word for word, as the oracle of the tests.
#[cfg(test)]
pub(crate) fn root_by_definition(leaves: &[Hash]) -> Hash {
    match leaves {
        [] => empty_root(),
        [only] => *only,
        _ => {
            let split = leaves.len().next_power_of_two() / 2;
            node(&root_by_definition(&leaves[..split]), &root_by_definition(&leaves[split..]))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hex(hash: &Hash) -> String {
        hash.0.iter().map(|byte| format!("{byte:02x}")).collect()
    }

    /// transparency-dev/merkle (Apache-2.0), rfc6962/rfc6962_test.go.
    #[test]
    fn published_hashes() {
        assert_eq!(hex(&empty_root()), "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855");
        assert_eq!(hex(&leaf(b"")), "6e340b9cffb37a989ca544e6bb780a2c78901d3fb33738768511a30617afa01d");
        assert_eq!(hex(&leaf(b"L123456")), "395aa064aa4c29f7010acfe3f25db9485bbd4b91897b6ad7ad547639252b4d56");
    }

    /// transparency-dev/merkle (Apache-2.0), testonly/constants.go: LeafInputs and RootHashes.
    #[test]
    fn published_roots() {
        let entries: [&[u8]; 8] = [
            &[],
            &[0x00],
            &[0x10],
            &[0x20, 0x21],
            &[0x30, 0x31],
            &[0x40, 0x41, 0x42, 0x43],
            &[0x50, 0x51, 0x52, 0x53, 0x54, 0x55, 0x56, 0x57],
            &[0x60, 0x61, 0x62, 0x63, 0x64, 0x65, 0x66, 0x67, 0x68, 0x69, 0x6a, 0x6b, 0x6c, 0x6d, 0x6e, 0x6f],
        ];
        let roots = [
            "6e340b9cffb37a989ca544e6bb780a2c78901d3fb33738768511a30617afa01d",
            "fac54203e7cc696cf0dfcb42c92a1d9dbaf70ad9e621f4bd8d98662f00e3c125",
            "aeb6bcfe274b70a14fb067a5e5578264db0fa9b51af5e0ba159158f329e06e77",
            "d37ee418976dd95753c1c73862b9398fa2a2cf9b4ff0fdfe8b30cd95209614b7",
            "4e3bbb1f7b478dcfe71fb631631519a3bca12c9aefca1612bfce4c13a86264d4",
            "76e67dadbcdf1e10e1b74ddc608abd2f98dfb16fbce75277b5232a127f2087ef",
            "ddb89be403809e325750d3d263cd78929c2942b7942a34b77e122c9594a74c8c",
            "5dc9da79a70659a9ad559cb701ded9a2ab9d823aad2f4960cfe370eff4604328",
        ];
        let leaves: Vec<Hash> = entries.iter().map(|entry| leaf(entry)).collect();
        for (count, expected) in roots.iter().enumerate() {
            assert_eq!(hex(&root(&leaves[..=count])), *expected, "{} entries", count + 1);
        }
    }

    #[test]
    fn pairing_is_the_definition() {
        let leaves: Vec<Hash> = (0_u32..600).map(|i| leaf(&i.to_be_bytes())).collect();
        for count in 0..=leaves.len() {
            assert_eq!(root(&leaves[..count]), root_by_definition(&leaves[..count]), "{count} leaves");
        }
    }

    #[test]
    fn subtrees_with_a_smaller_last_one_make_the_same_root() {
        let leaves: Vec<Hash> = (0_u32..1000).map(|i| leaf(&i.to_be_bytes())).collect();
        for count in [1, 255, 256, 257, 511, 513, 1000] {
            let parts: Vec<Hash> = leaves[..count].chunks(256).map(root).collect();
            assert_eq!(root(&parts), root(&leaves[..count]), "{count} leaves");
        }
    }
}
