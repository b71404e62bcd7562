//! The journal's format: entries that are written and not sealed yet. A header, then records of length, leaf hash and entry.
//!
//! The hash finds what a power loss tore. It proves nothing against somebody who writes: only sealing does.

use crate::bundle::{ENTRY_LIMIT, check_size};
use crate::hash::{HASH_BYTES, Hash, leaf};
use crate::{LedgerError, error};

/// The first bytes of a journal; 16 of them.
pub const MAGIC: &[u8; 16] = b"sirocco journal\n";
/// Bytes of the header: the magic and the index of the first entry.
pub const HEADER_BYTES: usize = MAGIC.len() + 8;
/// Bytes before each entry: its length in four bytes and its leaf hash.
pub const PREFIX_BYTES: usize = 4 + HASH_BYTES;

/// The header of a journal whose first entry has index `first`.
pub fn header(first: u64) -> [u8; HEADER_BYTES] {
    let mut bytes = [0; HEADER_BYTES];
    bytes[..MAGIC.len()].copy_from_slice(MAGIC);
    bytes[MAGIC.len()..].copy_from_slice(&first.to_be_bytes());
    bytes
}

/// No log has more entries; indices below can be counted up without a look at their size.
const INDEX_LIMIT: u64 = 1 << 62;

/// The index of the first entry.
///
/// # Errors
/// [`LedgerError::Malformed`] when `bytes` do not begin as a journal does, or its index is beyond 2⁶².
pub fn first_index(bytes: &[u8]) -> Result<u64, LedgerError> {
    let rest = bytes.strip_prefix(MAGIC).and_then(|rest| rest.first_chunk());
    let wrong = || LedgerError::malformed("journal", "header", error::shown(bytes), "`sirocco journal` and an index");
    rest.map(|index| u64::from_be_bytes(*index)).filter(|index| *index <= INDEX_LIMIT).ok_or_else(wrong)
}

/// Appends a record.
///
/// # Errors
/// [`LedgerError::EntrySize`].
pub fn push(out: &mut Vec<u8>, entry: &[u8]) -> Result<(), LedgerError> {
    let length = u32::from(check_size(entry)?);
    out.extend_from_slice(&length.to_be_bytes());
    out.extend_from_slice(&leaf(entry).0);
    out.extend_from_slice(entry);
    Ok(())
}

/// One whole record.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Record<'a> {
    /// The entry's hash.
    pub leaf: Hash,
    /// The entry.
    pub entry: &'a [u8],
}

impl Record<'_> {
    /// Bytes that it takes in the journal.
    pub fn bytes(&self) -> usize {
        PREFIX_BYTES + self.entry.len()
    }
}

/// What stands at a place of a journal.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Next<'a> {
    /// A whole record whose hash is right.
    Whole(Record<'a>),
    /// The beginning of a record; the rest may only not have been read yet.
    Short,
    /// No record: its length or its hash is wrong.
    Wrong,
}

/// The record with which `bytes` begin.
pub fn next(bytes: &[u8]) -> Next<'_> {
    let Some((length, rest)) = bytes.split_first_chunk::<4>() else { return Next::Short };
    let length = u32::from_be_bytes(*length) as usize;
    if !(1..=ENTRY_LIMIT).contains(&length) {
        return Next::Wrong;
    }
    let Some((hash, rest)) = rest.split_first_chunk::<HASH_BYTES>() else { return Next::Short };
    let Some(entry) = rest.get(..length) else { return Next::Short };
    let leaf = leaf(entry);
    if leaf.0 == *hash { Next::Whole(Record { leaf, entry }) } else { Next::Wrong }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_record_is_whole_or_short_or_wrong() {
        let mut bytes = Vec::new();
        push(&mut bytes, b"entry").unwrap();
        let Next::Whole(record) = next(&bytes) else { panic!("a whole record") };
        assert_eq!((record.entry, record.bytes()), (b"entry".as_slice(), bytes.len()));
        for cut in 0..bytes.len() {
            assert_eq!(next(&bytes[..cut]), Next::Short, "{cut} bytes");
        }
        bytes[PREFIX_BYTES] ^= 1;
        assert_eq!(next(&bytes), Next::Wrong);
        assert_eq!(next(&[0; 100]), Next::Wrong);
    }

    #[test]
    fn a_header_names_the_first_entry() {
        assert_eq!(first_index(&header(7)).unwrap(), 7);
        assert!(first_index(&header(7)[..HEADER_BYTES - 1]).is_err());
        assert!(first_index(b"another file, long enough").is_err());
        assert!(first_index(&header(u64::MAX)).is_err());
    }

    proptest! {
        #[test]
        fn any_bytes_are_one_of_the_three(bytes in prop::collection::vec(any::<u8>(), 0..100)) {
            if let Next::Whole(record) = next(&bytes) {
                prop_assert!(record.bytes() <= bytes.len());
            }
            let _ = first_index(&bytes);
        }
    }
}
