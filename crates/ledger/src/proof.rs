//! Inclusion and consistency proofs: made from tiles, checked without them. RFC 9162 sections 2.1.3 and 2.1.4 (RFC 6962 2.1.1, 2.1.2).

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::collections::btree_map::Entry;

use crate::LedgerError;
use crate::hash::{Hash, empty_root, node, root};
use crate::source::{Source, hashes};
use crate::tile::{Kind, TILE_HEIGHT, TILE_WIDTH, Tile};

const INCLUSION: &str = "inclusion proof";
const CONSISTENCY: &str = "consistency proof";

/// The complete subtrees of a log.
pub trait Nodes {
    /// The hash over the entries `index · 2^level` to `(index + 1) · 2^level`, all of which the log has.
    ///
    /// # Errors
    /// When it cannot be read.
    fn node(&self, level: u32, index: u64) -> Result<Hash, LedgerError>;
}

/// The subtrees of a log of `size` entries, read from its tiles; each tile is read once.
pub struct TileNodes<'a> {
    source: &'a dyn Source,
    size: u64,
    read: RefCell<BTreeMap<Tile, Vec<Hash>>>,
}

impl<'a> TileNodes<'a> {
    /// Reads `source` when asked for a node.
    pub fn new(source: &'a dyn Source, size: u64) -> Self {
        Self { source, size, read: RefCell::default() }
    }
}

impl Nodes for TileNodes<'_> {
    fn node(&self, level: u32, index: u64) -> Result<Hash, LedgerError> {
        let (tile_level, above) = (level / TILE_HEIGHT, level % TILE_HEIGHT);
        let outside = || LedgerError::Outside { what: "size", found: index, size: self.size };
        let first = index.checked_mul(1 << above).ok_or_else(outside)?;
        let kind = Kind::Hashes(u8::try_from(tile_level).map_err(|_| outside())?);
        let tile = Tile::holding(kind, first, self.size).ok_or_else(outside)?;
        let mut read = self.read.borrow_mut();
        let row = match read.entry(tile) {
            Entry::Occupied(row) => row.into_mut(),
            Entry::Vacant(place) => place.insert(hashes(self.source, tile)?),
        };
        let from = (first % TILE_WIDTH) as usize;
        row.get(from..from + (1 << above)).map(root).ok_or_else(outside)
    }
}

/// The root of the first `size` entries.
///
/// # Errors
/// Those of `nodes`.
pub fn tree_root(nodes: &dyn Nodes, size: u64) -> Result<Hash, LedgerError> {
    if size == 0 { Ok(empty_root()) } else { range(nodes, 0, size) }
}

/// The hash over `count` > 0 entries from `first` on, where `first` is a multiple of a power of two that is at least `count`.
fn range(nodes: &dyn Nodes, first: u64, count: u64) -> Result<Hash, LedgerError> {
    let mut parts = Vec::new();
    let (mut at, mut left) = (first, count);
    while left > 0 {
        let level = left.ilog2();
        parts.push(nodes.node(level, at >> level)?);
        at += 1 << level;
        left -= 1 << level;
    }
    let last = parts.pop().unwrap_or_else(empty_root);
    Ok(parts.iter().rev().fold(last, |right, left| node(left, &right)))
}

/// The largest power of two below `count`, which is at least 2.
fn split(count: u64) -> u64 {
    1 << (count - 1).ilog2()
}

/// The proof that entry `index` is in the tree of the first `size` entries: RFC 9162 section 2.1.3.1.
///
/// # Errors
/// [`LedgerError::Outside`] unless `index < size`, and those of `nodes`.
pub fn inclusion(nodes: &dyn Nodes, index: u64, size: u64) -> Result<Vec<Hash>, LedgerError> {
    if index >= size {
        return Err(LedgerError::Outside { what: "entry", found: index, size });
    }
    let (mut first, mut count) = (0, size);
    let mut proof = Vec::new();
    while count > 1 {
        let left = split(count);
        if index - first < left {
            proof.push(range(nodes, first + left, count - left)?);
            count = left;
        } else {
            proof.push(range(nodes, first, left)?);
            first += left;
            count -= left;
        }
    }
    proof.reverse();
    Ok(proof)
}

/// The proof that the tree of `old` entries is the beginning of that of `size` entries: RFC 9162 section 2.1.4.1.
///
/// # Errors
/// [`LedgerError::Outside`] unless `old <= size`, and those of `nodes`.
pub fn consistency(nodes: &dyn Nodes, old: u64, size: u64) -> Result<Vec<Hash>, LedgerError> {
    if old > size {
        return Err(LedgerError::Outside { what: "size", found: old, size });
    }
    if old == 0 || old == size {
        return Ok(Vec::new());
    }
    let (mut first, mut count, mut seen) = (0, size, old);
    let mut whole = true;
    let mut proof = Vec::new();
    while seen != count {
        let left = split(count);
        if seen <= left {
            proof.push(range(nodes, first + left, count - left)?);
            count = left;
        } else {
            proof.push(range(nodes, first, left)?);
            first += left;
            count -= left;
            seen -= left;
            whole = false;
        }
    }
    if !whole {
        proof.push(range(nodes, first, count)?);
    }
    proof.reverse();
    Ok(proof)
}

fn bad(what: &'static str, reason: impl Into<String>) -> LedgerError {
    LedgerError::BadProof { what, reason: reason.into() }
}

/// Does `proof` lead from the entry with hash `leaf` at `index` to the `root` of `size` entries? RFC 9162 section 2.1.3.2.
///
/// # Errors
/// [`LedgerError::BadProof`] when it does not.
pub fn check_inclusion(leaf: &Hash, index: u64, size: u64, proof: &[Hash], root: &Hash) -> Result<(), LedgerError> {
    if index >= size {
        return Err(bad(INCLUSION, format!("entry {index} of a log of {size} entries")));
    }
    let (mut place, mut last, mut hash) = (index, size - 1, *leaf);
    for sibling in proof {
        if last == 0 {
            return Err(bad(INCLUSION, format!("{} hashes are too many for entry {index} of {size}", proof.len())));
        }
        if place % 2 == 1 || place == last {
            hash = node(sibling, &hash);
            let up = if place % 2 == 0 { place.trailing_zeros().min(63) } else { 0 };
            (place, last) = (place >> up, last >> up);
        } else {
            hash = node(&hash, sibling);
        }
        (place, last) = (place >> 1, last >> 1);
    }
    if last != 0 {
        return Err(bad(INCLUSION, format!("{} hashes are too few for entry {index} of {size}", proof.len())));
    }
    if hash == *root {
        Ok(())
    } else {
        Err(bad(INCLUSION, format!("entry {index} of {size} leads to root {hash}, expected {root}")))
    }
}

/// A tree's size and root.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Head {
    /// Entries.
    pub size: u64,
    /// Their root.
    pub root: Hash,
}

/// Is the tree `old` the beginning of the tree `new`? RFC 9162 section 2.1.4.2; for equal sizes the proof is empty, and so it is for an old
/// tree without entries, which the RFC leaves out and C2SP tlog-witness ("add-checkpoint") takes as the beginning of every tree.
///
/// # Errors
/// [`LedgerError::BadProof`] when `proof` does not show it.
pub fn check_consistency(old: &Head, new: &Head, proof: &[Hash]) -> Result<(), LedgerError> {
    let sizes = format!("from {} to {} entries", old.size, new.size);
    if old.size > new.size {
        return Err(bad(CONSISTENCY, format!("{sizes}: the log has become shorter")));
    }
    if old.size == 0 || old.size == new.size {
        let right = |head: &Head| head.size > 0 || head.root == empty_root();
        let same = right(old) && right(new) && (old.size < new.size || old.root == new.root);
        return match (proof.is_empty(), same) {
            (true, true) => Ok(()),
            (false, _) => Err(bad(CONSISTENCY, format!("{sizes}: {} hashes, expected none", proof.len()))),
            (true, false) => Err(bad(CONSISTENCY, format!("{sizes}: the roots are {} and {}", old.root, new.root))),
        };
    }
    let few = || bad(CONSISTENCY, format!("{sizes}: {} hashes are too few", proof.len()));
    let up = (old.size).trailing_zeros();
    let (start, rest) = if old.size.is_power_of_two() { (&old.root, proof) } else { proof.split_first().ok_or_else(few)? };
    let (mut place, mut last) = ((old.size - 1) >> up, (new.size - 1) >> up);
    let (mut before, mut now) = (*start, *start);
    for sibling in rest {
        if last == 0 {
            return Err(bad(CONSISTENCY, format!("{sizes}: {} hashes are too many", proof.len())));
        }
        if place % 2 == 1 || place == last {
            before = node(sibling, &before);
            now = node(sibling, &now);
            let up = if place % 2 == 0 { place.trailing_zeros().min(63) } else { 0 };
            (place, last) = (place >> up, last >> up);
        } else {
            now = node(&now, sibling);
        }
        (place, last) = (place >> 1, last >> 1);
    }
    if last != 0 {
        return Err(few());
    }
    match (before == old.root, now == new.root) {
        (true, true) => Ok(()),
        (false, _) => Err(bad(CONSISTENCY, format!("{sizes}: leads to the old root {before}, expected {}", old.root))),
        (true, false) => Err(bad(CONSISTENCY, format!("{sizes}: leads to the new root {now}, expected {}", new.root))),
    }
}
