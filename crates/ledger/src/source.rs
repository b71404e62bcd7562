//! Where a log's files are read from: a directory, an archive, or memory. The verifier sees nothing else of the outer world.

use std::collections::BTreeMap;

use crate::hash::{HASH_BYTES, Hash};
use crate::tile::Tile;
use crate::{LedgerError, bundle};

/// The files of one log, by their paths with `/`.
pub trait Source: Sync {
    /// A file's bytes, or nothing when there is no such file.
    ///
    /// # Errors
    /// When the file is there and cannot be read.
    fn read(&self, path: &str) -> Result<Option<Vec<u8>>, LedgerError>;

    /// The paths of all files below `tile/`, in any order.
    ///
    /// # Errors
    /// When a directory cannot be listed.
    fn tiles(&self) -> Result<Vec<String>, LedgerError>;
}

/// A log in memory, as read from an archive.
#[derive(Clone, Default, Debug)]
pub struct Memory(pub BTreeMap<String, Vec<u8>>);

impl Source for Memory {
    fn read(&self, path: &str) -> Result<Option<Vec<u8>>, LedgerError> {
        Ok(self.0.get(path).cloned())
    }

    fn tiles(&self) -> Result<Vec<String>, LedgerError> {
        Ok(self.0.keys().filter(|path| path.starts_with("tile/")).cloned().collect())
    }
}

/// A tile's file: the tile's own, or, for a partial tile that was deleted since, the full one that took its place.
pub(crate) struct TileFile {
    /// The path that was read.
    pub(crate) path: String,
    /// The whole file.
    pub(crate) bytes: Vec<u8>,
    /// Is it the full tile in the place of a partial one?
    pub(crate) wider: bool,
}

pub(crate) fn read_tile(source: &dyn Source, tile: Tile) -> Result<Option<TileFile>, LedgerError> {
    let path = tile.path();
    if let Some(bytes) = source.read(&path)? {
        return Ok(Some(TileFile { path, bytes, wider: false }));
    }
    if tile.is_full() {
        return Ok(None);
    }
    let path = tile.full().path();
    Ok(source.read(&path)?.map(|bytes| TileFile { path, bytes, wider: true }))
}

fn missing(tile: Tile) -> LedgerError {
    LedgerError::malformed("log", tile.path(), "no such file", "a tile of the log")
}

/// The hashes of a tile: as many as it is wide.
pub(crate) fn hashes(source: &dyn Source, tile: Tile) -> Result<Vec<Hash>, LedgerError> {
    let file = read_tile(source, tile)?.ok_or_else(|| missing(tile))?;
    let expected = usize::from(tile.width) * HASH_BYTES;
    let wrong =
        || LedgerError::malformed("tile", &*file.path, format!("{} bytes", file.bytes.len()), format!("{expected} bytes"));
    let exact = file.bytes.len() == expected || (file.wider && file.bytes.len() > expected);
    let bytes = file.bytes.get(..expected).filter(|_| exact).ok_or_else(wrong)?;
    Ok(bytes.chunks_exact(HASH_BYTES).filter_map(Hash::from_bytes).collect())
}

/// The entry with `index` of a log of `size` sealed entries.
///
/// # Errors
/// [`LedgerError::Outside`], or the bundle is missing or torn.
pub fn entry(source: &dyn Source, index: u64, size: u64) -> Result<Vec<u8>, LedgerError> {
    let kind = crate::tile::Kind::Entries;
    let tile = Tile::holding(kind, index, size).ok_or(LedgerError::Outside { what: "entry", found: index, size })?;
    let file = read_tile(source, tile)?.ok_or_else(|| missing(tile))?;
    let place = (index % crate::tile::TILE_WIDTH) as usize;
    let ends = || LedgerError::malformed("bundle", &*file.path, "fewer entries", format!("{} or more", place + 1));
    let (_, entry) = bundle::entries(&file.bytes).nth(place).ok_or_else(ends)??;
    Ok(entry.to_vec())
}
