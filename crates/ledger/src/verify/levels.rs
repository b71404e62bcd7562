//! The tiles above the entries, compared with what the entries lead to, and roots of this and of earlier sizes.

use crate::LedgerError;
use crate::hash::{HASH_BYTES, Hash, empty_root, root};
use crate::source::{Source, read_tile};
use crate::tile::{Kind, TILE_HEIGHT, TILE_WIDTH, Tile, items};
use crate::verify::{Finding, Wrong, whole};

/// Hashes of a log, level of tiles by level of tiles; none where something is missing.
pub(super) struct Levels {
    size: u64,
    /// The leaf hashes of the last tile if it is partial.
    tail: Vec<Option<Hash>>,
    /// From level 1 up, all hashes of the level.
    rows: Vec<Vec<Option<Hash>>>,
}

impl Levels {
    /// Goes up from the hashes of the full tiles of level 0 and compares each level with its tiles.
    pub(super) fn compare(
        source: &dyn Source,
        size: u64,
        roots: Vec<Option<Hash>>,
        tail: Vec<Option<Hash>>,
    ) -> Result<(Self, Vec<Finding>), LedgerError> {
        let mut findings = Vec::new();
        let mut rows = Vec::new();
        let mut row = roots;
        for level in 1_u8.. {
            if row.is_empty() {
                break;
            }
            let mut above = Vec::new();
            for (part, index) in row.chunks_mut(TILE_WIDTH as usize).zip(0..) {
                let tile = Tile { kind: Kind::Hashes(level), index, width: part.len() as u16 };
                compare_tile(source, tile, part, &mut findings)?;
                if tile.is_full() {
                    let whole: Option<Vec<Hash>> = part.iter().copied().collect();
                    above.push(whole.map(|part| root(&part)));
                }
            }
            rows.push(std::mem::replace(&mut row, above));
        }
        Ok((Self { size, tail, rows }, findings))
    }

    /// The root of the whole log; none when entries are missing.
    pub(super) fn root(&self) -> Option<Hash> {
        let leaves: Option<Vec<Hash>> = self.tail.iter().copied().collect();
        self.root_at(self.size, &leaves?)
    }

    /// The root of its first `size` entries, of which `leaves` are those in a bundle that is partial at that size.
    pub(super) fn root_at(&self, size: u64, leaves: &[Hash]) -> Option<Hash> {
        if leaves.len() as u64 != size % TILE_WIDTH {
            return None;
        }
        let mut below = (!leaves.is_empty()).then(|| root(leaves));
        for (row, level) in self.rows.iter().zip(1_u8..) {
            let last = items(Kind::Hashes(level), size);
            let first = (last >> TILE_HEIGHT) << TILE_HEIGHT;
            let part = row.get(usize::try_from(first).ok()?..usize::try_from(last).ok()?)?;
            let mut parts: Vec<Hash> = part.iter().copied().collect::<Option<_>>()?;
            parts.extend(below);
            below = (!parts.is_empty()).then(|| root(&parts));
        }
        Some(below.unwrap_or_else(empty_root))
    }
}

/// Compares a tile with the hashes that lead to it. Where they differ, the stored one goes up: the difference is reported once.
fn compare_tile(
    source: &dyn Source,
    tile: Tile,
    part: &mut [Option<Hash>],
    findings: &mut Vec<Finding>,
) -> Result<(), LedgerError> {
    let Kind::Hashes(level) = tile.kind else { return Ok(()) };
    let below = TILE_HEIGHT * u32::from(level);
    let entry_of = |place: u64| (tile.index * TILE_WIDTH + place).checked_shl(below);
    let Some(file) = read_tile(source, tile)? else {
        let finding = whole(Wrong::Missing, &tile.path(), "no such file", "a tile of hashes");
        findings.push(Finding { entry: entry_of(0), ..finding });
        return Ok(());
    };
    let (length, expected) = (file.bytes.len(), part.len() * HASH_BYTES);
    if length != expected && !(file.wider && length > expected) {
        let finding = whole(Wrong::Length, &file.path, format!("{length} bytes"), format!("{expected} bytes"));
        findings.push(Finding { entry: entry_of(0), byte: Some(length.min(expected) as u64), ..finding });
    }
    let stored = file.bytes.chunks_exact(HASH_BYTES).filter_map(Hash::from_bytes);
    for ((computed, stored), place) in part.iter_mut().zip(stored).zip(0_u64..) {
        if let Some(computed) = computed.filter(|computed| *computed != stored) {
            let expected = format!("{computed}, to which {} entries from here on lead", 1_u64 << below);
            let finding = whole(Wrong::Tile, &file.path, stored.to_string(), expected);
            findings.push(Finding { entry: entry_of(place), byte: Some(place * HASH_BYTES as u64), ..finding });
        }
        *computed = Some(stored);
    }
    Ok(())
}
