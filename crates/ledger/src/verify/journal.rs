//! The journal of a log that is verified, and what stands in tiles beyond the checkpoint: the two have to fit together.

use crate::LedgerError;
use crate::bundle;
use crate::hash::{HASH_BYTES, Hash, leaf};
use crate::record::{self, End, HEADER_BYTES};
use crate::source::Source;
use crate::tile::{Kind, TILE_HEIGHT, TILE_WIDTH, Tile};
use crate::verify::{Finding, Report, Wrong, whole};

const JOURNAL: &str = "journal";

/// Hashes of a journal's whole records.
pub(super) struct Journal {
    first: u64,
    leaves: Vec<Hash>,
}

impl Journal {
    /// Reads the journal if there is one, and reports bytes in its middle that are no record. A torn end is for the next writer to recover.
    pub(super) fn read(source: &dyn Source, report: &mut Report) -> Result<Option<Self>, LedgerError> {
        let Some(bytes) = source.read(JOURNAL)? else { return Ok(None) };
        let first = match record::first_index(&bytes) {
            Ok(first) => first,
            Err(error) => {
                report.findings.push(whole(Wrong::Journal, JOURNAL, error.to_string(), "a journal"));
                return Ok(None);
            }
        };
        let mut end = HEADER_BYTES;
        let walk = record::records(&bytes).map(|(begin, record)| {
            end = begin + record.bytes();
            record.leaf
        });
        let journal = Self { first, leaves: walk.collect() };
        if let End::Damaged(further) = record::end(bytes.get(end..).unwrap_or_default(), end as u64) {
            let found = format!("no record, and whole ones from byte {} on", end.saturating_add(further));
            let finding = whole(Wrong::Journal, JOURNAL, found, "a record with the hash of its entry");
            report.findings.push(Finding { byte: Some(end as u64), entry: Some(journal.next()), ..finding });
        }
        Ok(Some(journal))
    }

    /// A journal that begins after the `sealed` entries knows of a longer log than the checkpoint.
    pub(super) fn compare(&self, sealed: u64, report: &mut Report) {
        if self.first > sealed {
            let (found, expected) = (format!("{sealed} sealed entries"), format!("{}, where the journal begins", self.first));
            report.findings.push(Finding { entry: Some(sealed), ..whole(Wrong::Shorter, JOURNAL, found, expected) });
        }
    }

    /// Index of the entry that comes after its last one.
    fn next(&self) -> u64 {
        self.first.saturating_add(self.leaves.len() as u64)
    }

    fn leaf(&self, index: u64) -> Option<&Hash> {
        self.leaves.get(usize::try_from(index.checked_sub(self.first)?).ok()?)
    }
}

/// Tiles that reach beyond the checkpoint, and how many entries are sealed by now.
pub(super) struct Beyond<'a> {
    pub(super) tiles: &'a [Tile],
    pub(super) sealed: u64,
}

/// Tiles beyond the checkpoint are those of a sealing that did not end, if the journal still has their entries: then nothing is lost.
/// Otherwise a newer checkpoint was there, and an older one was put in its place.
pub(super) fn compare_beyond(
    source: &dyn Source,
    journal: Option<&Journal>,
    beyond: &Beyond<'_>,
    report: &mut Report,
) -> Result<(), LedgerError> {
    let size = beyond.sealed;
    let Some((furthest, reach)) = beyond.tiles.iter().map(|tile| (tile, reach(tile))).max_by_key(|(_, reach)| *reach) else {
        return Ok(());
    };
    if reach <= size {
        return Ok(());
    }
    let covering = journal.filter(|journal| journal.first <= size && journal.next() >= reach);
    let Some(journal) = covering else {
        let (found, expected) = (format!("{size} sealed entries"), format!("the {reach} to which this tile belongs"));
        let finding = whole(Wrong::Shorter, &furthest.path(), found, expected + ", or a journal with those between");
        report.findings.push(Finding { entry: Some(size), ..finding });
        return Ok(());
    };
    for tile in beyond.tiles.iter().filter(|tile| tile.kind == Kind::Entries) {
        report.findings.extend(other_history(source, journal, *tile, size)?);
    }
    Ok(())
}

/// Entries that a log has at least when it has `tile`.
fn reach(tile: &Tile) -> u64 {
    let items = tile.index.saturating_mul(TILE_WIDTH).saturating_add(u64::from(tile.width));
    let below = match tile.kind {
        Kind::Entries => 0,
        Kind::Hashes(level) => TILE_HEIGHT * u32::from(level),
    };
    1_u64.checked_shl(below).map_or(u64::MAX, |each| items.saturating_mul(each))
}

/// The first entry of a bundle beyond the checkpoint that the journal has otherwise. A sealing that did not end may leave torn tiles: only an
/// entry whose hash stands in the tile of hashes was written as it is.
fn other_history(source: &dyn Source, journal: &Journal, tile: Tile, size: u64) -> Result<Option<Finding>, LedgerError> {
    let hashes = Tile { kind: Kind::Hashes(0), ..tile };
    let (Some(bytes), Some(hashes)) = (source.read(&tile.path())?, source.read(&hashes.path())?) else { return Ok(None) };
    let stored = hashes.chunks_exact(HASH_BYTES).filter_map(Hash::from_bytes);
    let entries = bundle::entries(&bytes).map_while(Result::ok).zip(stored).zip(tile.index.saturating_mul(TILE_WIDTH)..);
    let mut beyond =
        entries.filter(|((_, stored), index)| *index >= size && journal.leaf(*index).is_some_and(|leaf| leaf != stored));
    let other = beyond.find(|(((_, entry), stored), _)| leaf(entry) == *stored);
    Ok(other.map(|(((byte, _), stored), index)| {
        let expected = journal.leaf(index).map_or_else(String::new, |leaf| format!("{leaf}, as the journal has it"));
        let finding = whole(Wrong::Fork, &tile.path(), stored.to_string(), expected);
        Finding { byte: Some(byte as u64), entry: Some(index), ..finding }
    }))
}
