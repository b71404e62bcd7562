//! The right edge of a growing log: what the next entry needs of the tree so far, and the tiles that become complete as entries arrive.

use crate::LedgerError;
use crate::bundle;
use crate::hash::{HASH_BYTES, Hash, empty_root, leaf, root};
use crate::source::{Source, hashes, read_tile};
use crate::tile::{Kind, TILE_LEVELS, TILE_WIDTH, Tile, items};

/// Where finished tiles go.
pub(crate) type Out<'a> = dyn FnMut(Tile, &[u8]) -> Result<(), LedgerError> + 'a;

/// The partial tiles of a log.
pub(crate) struct Edge {
    size: u64,
    /// Level by level, the hashes of the last tile if it is partial.
    levels: Vec<Vec<Hash>>,
    /// The last bundle if it is partial.
    bundle: Vec<u8>,
}

impl Edge {
    /// The edge of the first `size` entries, from their tiles. Its bundle has been compared with its leaf hashes.
    pub(crate) fn load(source: &dyn Source, size: u64) -> Result<Self, LedgerError> {
        let partial = |kind| {
            let last = items(kind, size).checked_sub(1)?;
            Tile::holding(kind, last, size).filter(|tile| !tile.is_full())
        };
        let mut levels = Vec::new();
        for level in (0..TILE_LEVELS).take_while(|level| items(Kind::Hashes(*level), size) > 0) {
            levels.push(partial(Kind::Hashes(level)).map_or(Ok(Vec::new()), |tile| hashes(source, tile))?);
        }
        let bundle = match partial(Kind::Entries) {
            Some(tile) => partial_bundle(source, tile, levels.first().map_or(&[], Vec::as_slice))?,
            None => Vec::new(),
        };
        Ok(Self { size, levels, bundle })
    }

    pub(crate) fn size(&self) -> u64 {
        self.size
    }

    /// The root of all entries so far.
    pub(crate) fn root(&self) -> Hash {
        let fold = |below: Option<Hash>, level: &Vec<Hash>| {
            let parts: Vec<Hash> = level.iter().copied().chain(below).collect();
            (!parts.is_empty()).then(|| root(&parts))
        };
        self.levels.iter().fold(None, fold).unwrap_or_else(empty_root)
    }

    /// Adds an entry; full tiles go to `out`.
    pub(crate) fn push(&mut self, leaf: Hash, entry: &[u8], out: &mut Out<'_>) -> Result<(), LedgerError> {
        bundle::push(&mut self.bundle, entry)?;
        self.size += 1;
        if self.size.is_multiple_of(TILE_WIDTH) {
            out(self.last(Kind::Entries)?, &self.bundle)?;
            self.bundle.clear();
        }
        let mut carried = Some(leaf);
        let mut level = 0;
        while let Some(hash) = carried.take() {
            if self.levels.len() == level {
                self.levels.push(Vec::with_capacity(TILE_WIDTH as usize));
            }
            let Some(row) = self.levels.get_mut(level) else { break };
            row.push(hash);
            if row.len() as u64 == TILE_WIDTH {
                let full = std::mem::take(row);
                out(self.last(Kind::Hashes(level as u8))?, &bytes_of(&full))?;
                carried = Some(root(&full));
            }
            level += 1;
        }
        Ok(())
    }

    /// Gives `out` the partial tiles that a log of `old` entries had not.
    pub(crate) fn finish(&self, old: u64, out: &mut Out<'_>) -> Result<(), LedgerError> {
        let grown = |kind| items(kind, old) < items(kind, self.size);
        if !self.bundle.is_empty() && grown(Kind::Entries) {
            out(self.last(Kind::Entries)?, &self.bundle)?;
        }
        for (kind, row) in (0..).map(Kind::Hashes).zip(&self.levels) {
            if !row.is_empty() && grown(kind) {
                out(self.last(kind)?, &bytes_of(row))?;
            }
        }
        Ok(())
    }

    fn last(&self, kind: Kind) -> Result<Tile, LedgerError> {
        let last = items(kind, self.size).checked_sub(1).and_then(|item| Tile::holding(kind, item, self.size));
        last.ok_or(LedgerError::Outside { what: "size", found: self.size, size: self.size })
    }
}

fn bytes_of(hashes: &[Hash]) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(hashes.len() * HASH_BYTES);
    hashes.iter().for_each(|hash| bytes.extend_from_slice(&hash.0));
    bytes
}

fn partial_bundle(source: &dyn Source, tile: Tile, leaves: &[Hash]) -> Result<Vec<u8>, LedgerError> {
    let wrong = |found: &str| LedgerError::malformed("log", tile.path(), found, "the entries of the tile of their hashes");
    let file = read_tile(source, tile)?.ok_or_else(|| wrong("no such file"))?;
    let mut out = Vec::new();
    let mut entries = bundle::entries(&file.bytes);
    for hash in leaves {
        let (_, entry) = entries.next().ok_or_else(|| wrong("fewer entries"))??;
        if leaf(entry) != *hash {
            return Err(wrong("another entry"));
        }
        bundle::push(&mut out, entry)?;
    }
    Ok(out)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::hash::root_by_definition;
    use crate::source::Memory;
    use crate::tile::new_tiles;

    fn grow(memory: &mut Memory, sizes: &[u64]) -> Edge {
        let mut edge = Edge::load(memory, 0).unwrap();
        for size in sizes {
            let old = edge.size();
            let mut out = |tile: Tile, bytes: &[u8]| {
                memory.0.insert(tile.path(), bytes.to_vec());
                Ok(())
            };
            for index in old..*size {
                let entry = index.to_be_bytes();
                edge.push(leaf(&entry), &entry, &mut out).unwrap();
            }
            edge.finish(old, &mut out).unwrap();
            edge = Edge::load(memory, *size).unwrap();
        }
        edge
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(40))]
        #[test]
        fn grown_in_steps_it_has_the_files_and_the_root_of_its_size(mut sizes in prop::collection::vec(0_u64..1500, 1..5)) {
            sizes.sort_unstable();
            let mut memory = Memory::default();
            let edge = grow(&mut memory, &sizes);
            let size = edge.size();
            let leaves: Vec<Hash> = (0..size).map(|index| leaf(&index.to_be_bytes())).collect();
            prop_assert_eq!(edge.root(), root_by_definition(&leaves));
            for tile in new_tiles(0, size) {
                prop_assert!(memory.0.contains_key(&tile.path()), "{}", tile);
            }
        }
    }

    #[test]
    fn seventy_thousand_entries_have_three_levels() {
        let mut memory = Memory::default();
        let edge = grow(&mut memory, &[70_000]);
        assert_eq!(edge.levels.iter().map(Vec::len).collect::<Vec<_>>(), [112, 17, 1]);
        let expected: std::collections::BTreeSet<String> = new_tiles(0, 70_000).map(Tile::path).collect();
        assert_eq!(memory.0.into_keys().collect::<std::collections::BTreeSet<_>>(), expected);
    }

    #[test]
    fn a_bundle_that_is_not_that_of_its_hashes_is_refused() {
        let mut memory = Memory::default();
        grow(&mut memory, &[10]);
        memory.0.get_mut("tile/entries/000.p/10").unwrap()[5] ^= 1;
        assert!(Edge::load(&memory, 10).is_err());
    }
}
