//! Entry bundles: sequences of entries, each after its length in two bytes. C2SP tlog-tiles, "Log entries".

use crate::LedgerError;

/// The most bytes that an entry may have.
pub const ENTRY_LIMIT: usize = u16::MAX as usize;
/// Bytes of the length before each entry.
pub const LENGTH_BYTES: usize = 2;

/// Appends `entry` to a bundle.
///
/// # Errors
/// [`LedgerError::EntrySize`] when it is empty or longer than two bytes can say.
pub fn push(bundle: &mut Vec<u8>, entry: &[u8]) -> Result<(), LedgerError> {
    let length = check_size(entry)?;
    bundle.extend_from_slice(&length.to_be_bytes());
    bundle.extend_from_slice(entry);
    Ok(())
}

/// The length of an entry as its bundle writes it.
pub(crate) fn check_size(entry: &[u8]) -> Result<u16, LedgerError> {
    let found = entry.len();
    u16::try_from(found).ok().filter(|length| *length > 0).ok_or(LedgerError::EntrySize { found, limit: ENTRY_LIMIT })
}

/// The entries of a bundle, each with the byte at which its length stands.
pub fn entries(bundle: &[u8]) -> Entries<'_> {
    Entries { bundle, at: 0 }
}

/// See [`entries`].
pub struct Entries<'a> {
    bundle: &'a [u8],
    at: usize,
}

impl<'a> Iterator for Entries<'a> {
    type Item = Result<(usize, &'a [u8]), LedgerError>;

    /// The next entry; an error once, at the byte where the bundle is torn, and nothing after it.
    fn next(&mut self) -> Option<Self::Item> {
        let at = self.at;
        let rest = self.bundle.get(at..).filter(|rest| !rest.is_empty())?;
        let entry = rest.split_first_chunk::<LENGTH_BYTES>().and_then(|(length, rest)| {
            let length = usize::from(u16::from_be_bytes(*length));
            rest.get(..length)
        });
        let Some(entry) = entry else {
            self.at = self.bundle.len();
            let found = format!("{} bytes to the end", rest.len());
            return Some(Err(LedgerError::malformed("bundle", format!("byte {at}"), found, "a length and as many bytes")));
        };
        self.at = at.saturating_add(LENGTH_BYTES).saturating_add(entry.len());
        Some(Ok((at, entry)))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn an_entry_fits_or_is_refused() {
        let mut bundle = Vec::new();
        assert!(matches!(push(&mut bundle, &[]), Err(LedgerError::EntrySize { found: 0, .. })));
        assert!(matches!(push(&mut bundle, &[7; 65_536]), Err(LedgerError::EntrySize { found: 65_536, limit: 65_535 })));
        assert!(bundle.is_empty());
        push(&mut bundle, &[7; 65_535]).unwrap();
        assert_eq!(entries(&bundle).map(|entry| entry.unwrap().1.len()).collect::<Vec<_>>(), [65_535]);
    }

    #[test]
    fn a_torn_bundle_says_at_which_byte() {
        let mut bundle = Vec::new();
        push(&mut bundle, b"one").unwrap();
        push(&mut bundle, b"two").unwrap();
        bundle.pop();
        let found: Vec<_> = entries(&bundle).map(|entry| entry.map_err(|error| error.to_string())).collect();
        assert_eq!(found.len(), 2);
        assert_eq!(found[0], Ok((0, b"one".as_slice())));
        assert!(found[1].as_ref().unwrap_err().contains("byte 5"), "{found:?}");
    }

    proptest! {
        #[test]
        fn bundles_are_read_back(list in prop::collection::vec(prop::collection::vec(any::<u8>(), 1..40), 0..40)) {
            let mut bundle = Vec::new();
            for entry in &list {
                push(&mut bundle, entry).unwrap();
            }
            let found: Vec<Vec<u8>> = entries(&bundle).map(|entry| entry.unwrap().1.to_vec()).collect();
            prop_assert_eq!(found, list);
        }

        #[test]
        fn any_bytes_end(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
            prop_assert!(entries(&bytes).count() <= 101);
        }
    }
}
