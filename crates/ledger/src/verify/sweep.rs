//! All entries, bundle by bundle: hashed, compared with their tiles, read as actions. Several threads, each 256 bundles at a time.

use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};

use crate::LedgerError;
use crate::bundle;
use crate::entry::{Entry, RECOVERED};
use crate::hash::{HASH_BYTES, Hash, leaf, root};
use crate::source::{Source, read_tile};
use crate::tile::{Kind, TILE_WIDTH, Tile};
use crate::time::Time;
use crate::verify::{Expected, FINDING_LIMIT, Finding, Remarks, Wrong, whole};

/// Bundles of one job: those below one tile of level 1.
const JOB: u64 = TILE_WIDTH;

/// What the entries are.
#[derive(Default)]
pub(super) struct Swept {
    /// The hashes of the full tiles of level 0; none where entries are missing.
    pub(super) roots: Vec<Option<Hash>>,
    /// The leaf hashes after them.
    pub(super) tail: Vec<Option<Hash>>,
    pub(super) findings: Vec<Finding>,
    pub(super) remarks: Remarks,
    pub(super) complete: bool,
}

/// One job's part of it.
#[derive(Default)]
struct Part {
    swept: Swept,
    /// The clock of its first and of its last entry.
    times: Option<(Time, Time)>,
}

struct Jobs<'a> {
    source: &'a dyn Source,
    actions: bool,
    size: u64,
    bundles: u64,
    next: AtomicU64,
    found: AtomicUsize,
    parts: Mutex<Vec<(u64, Part)>>,
}

pub(super) fn sweep(source: &dyn Source, expected: &Expected, size: u64) -> Result<Swept, LedgerError> {
    let jobs = Jobs {
        source,
        actions: expected.actions,
        size,
        bundles: size.div_ceil(TILE_WIDTH),
        next: AtomicU64::new(0),
        found: AtomicUsize::new(0),
        parts: Mutex::default(),
    };
    let count = jobs.bundles.div_ceil(JOB);
    let threads = expected.threads.clamp(1, usize::try_from(count.max(1)).unwrap_or(usize::MAX));
    std::thread::scope(|scope| {
        let helpers: Vec<_> = (1..threads).map(|_| scope.spawn(|| jobs.work())).collect();
        let mine = jobs.work();
        // A helper that panicked would panic here too: nothing it does can.
        let theirs = helpers.into_iter().map(|helper| helper.join().unwrap_or(Ok(())));
        theirs.fold(mine, Result::and)
    })?;
    let mut parts = jobs.parts.into_inner().unwrap_or_else(PoisonError::into_inner);
    parts.sort_unstable_by_key(|(job, _)| *job);
    let done = parts.iter().zip(0..).take_while(|((job, _), place)| job == place).count() as u64;
    Ok(join(parts, done == count))
}

/// Puts the parts after each other, and compares the clocks at their borders.
fn join(parts: Vec<(u64, Part)>, complete: bool) -> Swept {
    let mut all = Swept { complete, ..Swept::default() };
    let mut clock: Option<Time> = None;
    for (job, part) in parts {
        let Part { swept, times } = part;
        if let (Some(before), Some((first, _))) = (clock, times)
            && first < before
        {
            all.remarks.clock_backwards += 1;
            all.remarks.first_backwards = all.remarks.first_backwards.or(Some(job * JOB * TILE_WIDTH));
        }
        clock = times.map(|(_, last)| last).or(clock);
        all.remarks.clock_backwards += swept.remarks.clock_backwards;
        all.remarks.first_backwards = all.remarks.first_backwards.or(swept.remarks.first_backwards);
        all.remarks.recovered.extend(swept.remarks.recovered);
        all.roots.extend(swept.roots);
        all.tail.extend(swept.tail);
        all.findings.extend(swept.findings);
    }
    all
}

impl Jobs<'_> {
    fn work(&self) -> Result<(), LedgerError> {
        loop {
            let job = self.next.fetch_add(1, Ordering::Relaxed);
            let first = job.saturating_mul(JOB);
            if first >= self.bundles || self.found.load(Ordering::Relaxed) >= FINDING_LIMIT {
                return Ok(());
            }
            let mut part = Part::default();
            for index in first..self.bundles.min(first.saturating_add(JOB)) {
                let before = part.swept.findings.len();
                if self.found.load(Ordering::Relaxed) >= FINDING_LIMIT {
                    break;
                }
                self.bundle(index, &mut part)?;
                self.found.fetch_add(part.swept.findings.len() - before, Ordering::Relaxed);
            }
            self.parts.lock().unwrap_or_else(PoisonError::into_inner).push((job, part));
        }
    }

    /// One bundle and its tile of level 0. What goes up is the hash of the entries, or, where that is reported already, the stored one:
    /// so one change is one finding and not one on each level.
    fn bundle(&self, index: u64, part: &mut Part) -> Result<(), LedgerError> {
        let first = index * TILE_WIDTH;
        let Some(tile) = Tile::holding(Kind::Entries, first, self.size) else { return Ok(()) };
        let (stored, stored_path) = self.stored(tile, part)?;
        let found = self.entries(tile, &stored, &stored_path, part)?;
        let wide = usize::from(tile.width);
        let row = (0..wide).map(|at| match (found.get(at), stored.get(at)) {
            (Some(found), Some(stored)) if found == stored => Some(*found),
            (_, Some(stored)) => Some(*stored),
            (found, None) => found.copied(),
        });
        let row: Vec<Option<Hash>> = row.collect();
        if tile.is_full() {
            let whole: Option<Vec<Hash>> = row.into_iter().collect();
            part.swept.roots.push(whole.map(|row| root(&row)));
        } else {
            part.swept.tail = row;
        }
        Ok(())
    }

    /// The leaf hashes as the tile of level 0 has them; empty after a finding.
    fn stored(&self, bundle: Tile, part: &mut Part) -> Result<(Vec<Hash>, String), LedgerError> {
        let tile = Tile { kind: Kind::Hashes(0), ..bundle };
        let entry = Some(tile.index * TILE_WIDTH);
        let expected = usize::from(tile.width) * HASH_BYTES;
        let Some(file) = read_tile(self.source, tile)? else {
            let finding = whole(Wrong::Missing, &tile.path(), "no such file", "a tile of hashes");
            part.swept.findings.push(Finding { entry, ..finding });
            return Ok((Vec::new(), tile.path()));
        };
        let length = file.bytes.len();
        if length != expected && !(file.wider && length > expected) {
            let finding = whole(Wrong::Length, &file.path, format!("{length} bytes"), format!("{expected} bytes"));
            part.swept.findings.push(Finding { entry, byte: Some(length.min(expected) as u64), ..finding });
            return Ok((Vec::new(), file.path));
        }
        let hashes = file.bytes.chunks_exact(HASH_BYTES).filter_map(Hash::from_bytes).take(usize::from(tile.width)).collect();
        Ok((hashes, file.path))
    }

    /// The leaf hashes of the entries, as far as they are there.
    fn entries(&self, tile: Tile, stored: &[Hash], stored_path: &str, part: &mut Part) -> Result<Vec<Hash>, LedgerError> {
        let (first, wide) = (tile.index * TILE_WIDTH, usize::from(tile.width));
        let Some(file) = read_tile(self.source, tile)? else {
            let finding = whole(Wrong::Missing, &tile.path(), "no such file", format!("{wide} entries"));
            part.swept.findings.push(Finding { entry: Some(first), ..finding });
            return Ok(Vec::new());
        };
        let mut hashes = Vec::with_capacity(wide);
        let mut end = 0;
        for (item, index) in bundle::entries(&file.bytes).take(wide).zip(first..) {
            let (byte, entry) = match item {
                Ok(item) => item,
                Err(_) => break,
            };
            end = byte + bundle::LENGTH_BYTES + entry.len();
            let hash = leaf(entry);
            let place = At { file: &file.path, byte: byte as u64, index };
            if let Some(expected) = stored.get(hashes.len()).filter(|stored| **stored != hash) {
                let expected = format!("{expected}, byte {} of {stored_path}", hashes.len() * HASH_BYTES);
                part.swept.findings.push(place.finding(Wrong::Entry, hash.to_string(), expected));
            }
            hashes.push(hash);
            if self.actions {
                read_action(entry, &place, part);
            }
        }
        if hashes.len() < wide || (!file.wider && end != file.bytes.len()) {
            let place = At { file: &file.path, byte: end as u64, index: first + hashes.len() as u64 };
            let found = format!("{} entries and {} bytes", hashes.len(), file.bytes.len().saturating_sub(end));
            part.swept.findings.push(place.finding(Wrong::Length, found, format!("{wide} entries and no more")));
        }
        Ok(hashes)
    }
}

/// Where an entry stands.
struct At<'a> {
    file: &'a str,
    byte: u64,
    index: u64,
}

impl At<'_> {
    fn finding(&self, wrong: Wrong, found: String, expected: String) -> Finding {
        Finding { wrong, file: self.file.to_owned(), byte: Some(self.byte), entry: Some(self.index), found, expected }
    }
}

fn read_action(bytes: &[u8], place: &At<'_>, part: &mut Part) {
    let entry = match Entry::parse(bytes) {
        Ok(entry) => entry,
        Err(error) => {
            let finding = place.finding(Wrong::Action, error.to_string(), "an action in its canonical text".to_owned());
            part.swept.findings.push(finding);
            return;
        }
    };
    let remarks = &mut part.swept.remarks;
    if entry.verb == RECOVERED {
        remarks.recovered.push(place.index);
    }
    match &mut part.times {
        None => part.times = Some((entry.time, entry.time)),
        Some((_, last)) => {
            if entry.time < *last {
                remarks.clock_backwards += 1;
                remarks.first_backwards = remarks.first_backwards.or(Some(place.index));
            }
            *last = entry.time;
        }
    }
}
