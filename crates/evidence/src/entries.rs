//! The entries of a sealed ledger, with their numbers.

use sirocco_ledger::checkpoint::SignedCheckpoint;
use sirocco_ledger::source::{Source, entry};
use sirocco_ledger::tlog_proof::checkpoint;
use sirocco_ledger::{Entry, LedgerError};

/// An entry and where it stands.
#[derive(Clone, Debug)]
pub struct Numbered {
    /// Its index.
    pub index: u64,
    /// What it says.
    pub entry: Entry,
    /// Its text, as it was hashed.
    pub text: Vec<u8>,
}

/// The entry of this index: they stand in their order.
pub(crate) fn at(entries: &[Numbered], index: u64) -> Option<&Numbered> {
    entries.get(usize::try_from(index).ok()?).filter(|one| one.index == index)
}

/// No ledger of a run has more entries; larger ones would not be evidence that somebody reads.
const MOST: u64 = 1 << 20;

/// Reads a ledger's checkpoint and every entry that it covers. Nothing is verified.
///
/// # Errors
/// A ledger that was never sealed; tiles that are missing or torn; an entry that is no action.
pub fn sealed(source: &dyn Source) -> Result<(SignedCheckpoint, Vec<Numbered>), LedgerError> {
    let signed = checkpoint(source)?;
    let size = signed.checkpoint.size;
    if size > MOST {
        return Err(LedgerError::Outside { what: "size", found: size, size: MOST });
    }
    let cached = Cached { source, last: std::sync::Mutex::default() };
    let mut entries = Vec::new();
    for index in 0..size {
        let text = entry(&cached, index, size)?;
        entries.push(Numbered { index, entry: Entry::parse(&text)?, text });
    }
    Ok((signed, entries))
}

/// Reads each file once when it is asked for many times in a row, as the entries of a bundle are.
struct Cached<'a> {
    source: &'a dyn Source,
    last: std::sync::Mutex<Option<(String, Option<Vec<u8>>)>>,
}

impl Source for Cached<'_> {
    fn read(&self, path: &str) -> Result<Option<Vec<u8>>, LedgerError> {
        let mut last = self.last.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        if let Some((_, bytes)) = last.as_ref().filter(|(known, _)| known == path) {
            return Ok(bytes.clone());
        }
        let bytes = self.source.read(path)?;
        *last = Some((path.to_owned(), bytes.clone()));
        Ok(bytes)
    }

    fn tiles(&self) -> Result<Vec<String>, LedgerError> {
        self.source.tiles()
    }
}
