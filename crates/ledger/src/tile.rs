//! Tiles: which files hold the hashes and the entries of a log, and how they are named. C2SP tlog-tiles, "Merkle Tree" and "Log entries".

use std::fmt;

use crate::LedgerError;
use crate::error::shown;

/// Levels of the Merkle tree in one tile.
pub const TILE_HEIGHT: u32 = 8;
/// Hashes in a full tile, and entries in a full bundle.
pub const TILE_WIDTH: u64 = 1 << TILE_HEIGHT;
/// Levels of tiles that a log of 2⁶⁴ entries could have.
pub const TILE_LEVELS: u8 = 8;

/// What a tile holds.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum Kind {
    /// Entries: a bundle.
    Entries,
    /// Hashes of a level: leaf hashes at 0, hashes of full tiles of the level below at the others.
    Hashes(u8),
}

/// One tile or bundle: its name and how full it is.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct Tile {
    /// What it holds.
    pub kind: Kind,
    /// Its place in the level, from 0.
    pub index: u64,
    /// How many hashes or entries: 1 to 256, and 256 is a full one.
    pub width: u16,
}

impl Tile {
    /// The tile of a log of `size` entries that holds item `item` of its kind (an entry's index, or a hash's place in its level).
    /// None when the log does not have that item.
    pub fn holding(kind: Kind, item: u64, size: u64) -> Option<Self> {
        let items = items(kind, size);
        let index = item / TILE_WIDTH;
        (item < items).then(|| Self { kind, index, width: (items - index * TILE_WIDTH).min(TILE_WIDTH) as u16 })
    }

    /// The full tile in this one's place.
    pub fn full(self) -> Self {
        Self { width: TILE_WIDTH as u16, ..self }
    }

    /// Is it full?
    pub fn is_full(self) -> bool {
        u64::from(self.width) == TILE_WIDTH
    }

    /// Its path below the log's directory, with `/`: `tile/<L>/<N>[.p/<W>]` or `tile/entries/<N>[.p/<W>]`.
    pub fn path(self) -> String {
        self.to_string()
    }

    /// The directory of all partial tiles in this one's place: `tile/<L>/<N>.p`.
    pub fn partials(self) -> String {
        format!("{}.p", self.full())
    }

    /// Reads a path that [`path`](Self::path) wrote.
    ///
    /// # Errors
    /// [`LedgerError::Malformed`] when it is not exactly of the form of the specification.
    pub fn parse(path: &str) -> Result<Self, LedgerError> {
        let wrong = || LedgerError::malformed("tile path", "name", shown(path.as_bytes()), "tile/<L>/<N>[.p/<W>]");
        let rest = path.strip_prefix("tile/").ok_or_else(wrong)?;
        let (level, rest) = rest.split_once('/').ok_or_else(wrong)?;
        let kind = match level {
            "entries" => Kind::Entries,
            number => Kind::Hashes(decimal(number).filter(|level| *level < 64).ok_or_else(wrong)? as u8),
        };
        let (number, width) = match rest.split_once(".p/") {
            Some((number, width)) => (number, decimal(width).filter(|w| (1..TILE_WIDTH).contains(w)).ok_or_else(wrong)?),
            None => (rest, TILE_WIDTH),
        };
        Ok(Self { kind, index: parse_index(number).ok_or_else(wrong)?, width: width as u16 })
    }
}

impl fmt::Display for Tile {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.kind {
            Kind::Entries => f.write_str("tile/entries/")?,
            Kind::Hashes(level) => write!(f, "tile/{level}/")?,
        }
        let mut groups = vec![self.index % 1000];
        let mut rest = self.index / 1000;
        while rest > 0 {
            groups.push(rest % 1000);
            rest /= 1000;
        }
        while let Some(group) = groups.pop() {
            if groups.is_empty() { write!(f, "{group:03}")? } else { write!(f, "x{group:03}/")? }
        }
        if self.is_full() { Ok(()) } else { write!(f, ".p/{}", self.width) }
    }
}

/// How many items of `kind` a log of `size` entries has in full: entries, or hashes of a level.
pub fn items(kind: Kind, size: u64) -> u64 {
    match kind {
        Kind::Entries => size,
        Kind::Hashes(level) => size.checked_shr(TILE_HEIGHT * u32::from(level)).unwrap_or(0),
    }
}

/// The tiles and bundles that a log of `new` entries has and a log of `old` entries had not, from the lowest level up.
pub fn new_tiles(old: u64, new: u64) -> impl Iterator<Item = Tile> {
    let kinds = std::iter::once(Kind::Entries).chain((0..TILE_LEVELS).map(Kind::Hashes));
    kinds.flat_map(move |kind| {
        let (before, now) = (items(kind, old), items(kind, new));
        let places = if before < now { before / TILE_WIDTH..now.div_ceil(TILE_WIDTH) } else { 0..0 };
        places.filter_map(move |index| Tile::holding(kind, index * TILE_WIDTH, new))
    })
}

/// A decimal number without leading zeroes or signs.
pub(crate) fn decimal(text: &str) -> Option<u64> {
    let plain = text.bytes().all(|byte| byte.is_ascii_digit()) && (text == "0" || !text.starts_with('0'));
    if plain { text.parse().ok() } else { None }
}

/// `x001/x234/067` as 1234067: groups of three digits, `x` before each but the last, no group of zeroes in front.
fn parse_index(text: &str) -> Option<u64> {
    let groups: Vec<&str> = text.split('/').collect();
    let (last, front) = groups.split_last()?;
    let mut index = 0_u64;
    for (place, group) in front.iter().map(|group| group.strip_prefix('x')).chain([Some(*last)]).enumerate() {
        let group = group.filter(|digits| digits.len() == 3 && digits.bytes().all(|byte| byte.is_ascii_digit()))?;
        if place == 0 && group == "000" && !front.is_empty() {
            return None;
        }
        index = index.checked_mul(1000)?.checked_add(group.parse().ok()?)?;
    }
    Some(index)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// transparency-dev/tessera (Apache-2.0), api/layout/paths_test.go, and the examples of tlog-tiles itself.
    #[test]
    fn published_paths() {
        let rows = [
            (Kind::Entries, 0, 256, "tile/entries/000"),
            (Kind::Entries, 0, 8, "tile/entries/000.p/8"),
            (Kind::Entries, 255, 253, "tile/entries/255.p/253"),
            (Kind::Entries, 123_456_789, 256, "tile/entries/x123/x456/789"),
            (Kind::Hashes(0), 0, 255, "tile/0/000.p/255"),
            (Kind::Hashes(1), 0, 256, "tile/1/000"),
            (Kind::Hashes(15), 455_667, 256, "tile/15/x455/667"),
            (Kind::Hashes(15), 123_456_789, 41, "tile/15/x123/x456/789.p/41"),
            (Kind::Hashes(0), 1_234_067, 89, "tile/0/x001/x234/067.p/89"),
            (Kind::Hashes(63), 999_999_999_999_999_999, 255, "tile/63/x999/x999/x999/x999/x999/999.p/255"),
        ];
        for (kind, index, width, path) in rows {
            let tile = Tile { kind, index, width };
            assert_eq!(tile.path(), path);
            assert_eq!(Tile::parse(path).unwrap(), tile);
        }
    }

    /// The refused paths of the same file and of golang.org/x/mod sumdb/tlog/tlog_test.go.
    #[test]
    fn published_wrong_paths() {
        let wrong = [
            "tile/0/x001/x234/067.p/",
            "tile/0/x001/x234/067.p",
            "tile/0/x001/x234/",
            "tile/0/x001/x234",
            "tile/0/x001/",
            "tile/0/x001",
            "tile/1/x001/.p/abc",
            "tile/64/x001/002",
            "tile/-1/x001/002",
            "tile/abc/x001/002",
            "tile/8/001/002",
            "tile/8/x001/0002",
            "tile/8/x001/-002",
            "tile/8/x001/002.p/256",
            "tile/63/x999/x999/x999/x999/x999/x999/999.p/255",
            "tile/3/5/123/456/078",
            "tile/00/000",
            "tile/0/000.p/0",
            "tile/0/000.p/01",
            "tile/0/x000/001",
            "tile/0/+01",
            "0/000",
            "tile/0/",
            "tile//000",
            "",
        ];
        for path in wrong {
            assert!(Tile::parse(path).is_err(), "{path:?}");
        }
    }

    /// The example of tlog-tiles, "Partial Tiles": 70,000 entries.
    #[test]
    fn published_counts() {
        let tiles: Vec<Tile> = new_tiles(0, 70_000).collect();
        let count = |kind, full| tiles.iter().filter(|tile| tile.kind == kind && tile.is_full() == full).count();
        let partial = |kind| tiles.iter().find(|tile| tile.kind == kind && !tile.is_full()).map(|tile| tile.width);
        assert_eq!((count(Kind::Hashes(0), true), partial(Kind::Hashes(0))), (273, Some(112)));
        assert_eq!((count(Kind::Hashes(1), true), partial(Kind::Hashes(1))), (1, Some(17)));
        assert_eq!((count(Kind::Hashes(2), true), partial(Kind::Hashes(2))), (0, Some(1)));
        assert_eq!((count(Kind::Entries, true), partial(Kind::Entries)), (273, Some(112)));
        let of_256: Vec<String> = new_tiles(0, 256).map(Tile::path).collect();
        assert_eq!(of_256, ["tile/entries/000", "tile/0/000", "tile/1/000.p/1"]);
    }

    #[test]
    fn a_size_beyond_all_bounds_is_only_arithmetic() {
        let last = Tile::holding(Kind::Hashes(7), (u64::MAX >> 56) - 1, u64::MAX).unwrap();
        assert_eq!((last.index, last.width), (0, 255));
        assert_eq!(items(Kind::Hashes(8), u64::MAX), 0);
        assert_eq!(Tile::holding(Kind::Entries, u64::MAX - 1, u64::MAX).unwrap().width, 255);
        assert_eq!(Tile::holding(Kind::Entries, 5, 5), None);
    }

    proptest! {
        #[test]
        fn every_path_is_read_back(level in 0_u8..64, index: u64, width in 1_u16..=256, entries: bool) {
            let kind = if entries { Kind::Entries } else { Kind::Hashes(level) };
            let tile = Tile { kind, index, width };
            prop_assert_eq!(Tile::parse(&tile.path()).unwrap(), tile);
        }

        #[test]
        fn any_text_is_read_or_refused(text in "\\PC{0,40}|tile/[0-9x/.p]{0,30}") {
            if let Ok(tile) = Tile::parse(&text) {
                prop_assert_eq!(tile.path(), text);
            }
        }

        #[test]
        fn growing_in_two_steps_adds_what_one_step_adds(a in 0_u64..2000, b in 0_u64..2000, c in 0_u64..70_000) {
            let (a, b, c) = (a.min(b), a.max(b), a.max(b) + c);
            let once: std::collections::BTreeSet<_> = new_tiles(a, c).collect();
            let twice: std::collections::BTreeSet<_> = new_tiles(a, b).chain(new_tiles(b, c)).collect();
            prop_assert!(once.is_subset(&twice));
            prop_assert!(twice.difference(&once).all(|tile| !tile.is_full()));
        }
    }
}
