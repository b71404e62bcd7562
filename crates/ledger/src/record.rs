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

/// The whole records of a journal, each with the byte at which it begins, up to the first place that has none.
pub fn records(journal: &[u8]) -> impl Iterator<Item = (usize, Record<'_>)> {
    let mut at = HEADER_BYTES;
    std::iter::from_fn(move || {
        let Next::Whole(record) = next(journal.get(at..)?) else { return None };
        let begin = at;
        at += record.bytes();
        Some((begin, record))
    })
}

/// What the end of a journal is, from the first byte on that belongs to no whole record.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum End {
    /// What a write leaves that a power loss or a kill interrupted: nothing of it was synced.
    Torn,
    /// Something that was whole before: so many bytes further on a whole record stands, or may stand.
    Damaged(usize),
}

/// The smallest unit that disks and file systems write.
const SECTOR: u64 = 512;

/// What `rest` is, which begins at byte `at` of a journal and with no whole record.
///
/// A write reaches the disk in order but for a power loss, after which sectors that were not written read as zeros while later ones may be
/// there. A record never has as many zeros. So whole records behind such a hole were not synced; behind any other bytes they were.
pub fn end(rest: &[u8], at: u64) -> End {
    let Some(later) = later_record(rest) else { return End::Torn };
    if has_hole(rest.get(..later).unwrap_or_default(), at) { End::Torn } else { End::Damaged(later) }
}

/// Where a whole record begins, not at the first byte. Bytes that were made to look like many long records are taken for one, so that the
/// search takes no longer than hashing everything a few times.
fn later_record(rest: &[u8]) -> Option<usize> {
    let mut work = rest.len().saturating_mul(16).saturating_add(64 << 20);
    for (at, start) in rest.windows(4).enumerate().skip(1) {
        // Lengths fit two of the four bytes.
        let [0, 0, high, low] = start else { continue };
        match next(rest.get(at..)?) {
            Next::Whole(_) => return Some(at),
            Next::Short => {}
            Next::Wrong => work = work.saturating_sub(usize::from(u16::from_be_bytes([*high, *low]))),
        }
        if work == 0 {
            return Some(at);
        }
    }
    None
}

/// Is there a sector of which nothing was written? The first one may have been written up to `at`.
fn has_hole(bytes: &[u8], at: u64) -> bool {
    let zeros = |part: &[u8]| part.iter().all(|byte| *byte == 0);
    let first = (SECTOR - at % SECTOR) as usize;
    let (begun, others) = bytes.split_at_checked(first).unwrap_or((&[], &[]));
    // A length is never zero, but up to three zeros may be its first bytes.
    (begun.len() > 3 && zeros(begun)) || others.chunks_exact(SECTOR as usize).any(zeros)
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

    #[test]
    fn records_are_walked_up_to_the_first_that_is_none() {
        let mut bytes = header(0).to_vec();
        let begins: Vec<usize> = [&b"one"[..], b"two", b"three"]
            .iter()
            .map(|entry| {
                let begin = bytes.len();
                push(&mut bytes, entry).unwrap();
                begin
            })
            .collect();
        assert_eq!(records(&bytes).map(|(begin, _)| begin).collect::<Vec<_>>(), begins);
        bytes[begins[2] + 5] ^= 1;
        assert_eq!(records(&bytes).count(), 2);
        assert_eq!(records(b"short").count(), 0);
    }

    fn three(length: usize) -> Vec<u8> {
        let mut bytes = Vec::new();
        (0..3_u8).for_each(|number| push(&mut bytes, &vec![b'a' + number; length]).unwrap());
        bytes
    }

    #[test]
    fn whole_records_behind_a_changed_byte_are_damage_and_the_rest_of_a_write_is_not() {
        let whole = three(100);
        let record = whole.len() / 3;
        for byte in 0..record {
            let mut bytes = whole.clone();
            bytes[byte] ^= 4;
            assert_eq!(end(&bytes, 24), End::Damaged(record), "byte {byte}");
            assert_eq!(end(&bytes[..record + 50], 24), End::Torn, "byte {byte}, and the write ended");
        }
        assert_eq!(end(&[0; 5000], 24), End::Torn);
    }

    #[test]
    fn a_sector_that_was_never_written_is_what_a_power_loss_leaves() {
        let mut bytes = three(2000);
        // At byte 1000 of the file the sectors begin at 24, 536 and so on.
        bytes[536..1048].fill(0);
        assert_eq!(end(&bytes, 1000), End::Torn);
        bytes[536] = 1;
        assert_eq!(end(&bytes, 1000), End::Damaged(2036));
        let mut bytes = three(2000);
        bytes[..24].fill(0);
        assert_eq!(end(&bytes, 1000), End::Torn, "the part of a sector whose beginning was synced");
        assert_eq!(end(&bytes, 990), End::Damaged(2036), "zeros that are no whole sector");
    }

    #[test]
    fn bytes_that_look_like_many_records_end_soon() {
        let bytes: Vec<u8> = [0, 0, 0xff, 0xff].iter().copied().cycle().take(4 << 20).collect();
        assert!(matches!(end(&bytes, 24), End::Damaged(_)));
    }

    proptest! {
        #[test]
        fn any_bytes_are_one_of_the_three(bytes in prop::collection::vec(any::<u8>(), 0..100)) {
            if let Next::Whole(record) = next(&bytes) {
                prop_assert!(record.bytes() <= bytes.len());
            }
            let _ = first_index(&bytes);
            let _ = end(&bytes, 24);
        }
    }
}
