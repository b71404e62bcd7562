//! More than 500 generated tamperings, every one of which is found, and untouched logs, none of which is accused.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod support;

use proptest::prelude::Rng as _;
use proptest::test_runner::{RngAlgorithm, TestRng};
use sirocco_ledger::bundle;
use sirocco_ledger::checkpoint::{Checkpoint, SignedCheckpoint};
use sirocco_ledger::hash::{Hash, leaf, root};
use sirocco_ledger::key::{KeyType, Seal, SignerKey};
use sirocco_ledger::note::Note;
use sirocco_ledger::record;
use sirocco_ledger::source::Memory;
use sirocco_ledger::tile::{Kind, TILE_WIDTH, Tile, items, new_tiles};
use sirocco_ledger::verify::{Expected, Report, Wrong, verify};
use support::{ORIGIN, action, expected, grown, in_memory, key};
use tempfile::tempdir;

/// A log that was sealed at several sizes, and what somebody remembers of it.
struct Victim {
    log: Memory,
    size: u64,
    /// Its checkpoint before the last sealing.
    before: Vec<u8>,
    expected: Expected,
}

fn victim(sizes: &[u64]) -> Victim {
    let folder = tempdir().unwrap();
    drop(grown(folder.path(), &sizes[..sizes.len() - 1]));
    let before = std::fs::read(folder.path().join("checkpoint")).unwrap_or_default();
    let log = grown(folder.path(), &sizes[sizes.len() - 1..]);
    let log = in_memory(&log.directory());
    let mut expected = expected();
    expected.earlier.push(SignedCheckpoint::parse(&log.0["checkpoint"]).unwrap().checkpoint);
    Victim { size: *sizes.last().unwrap(), log, before, expected }
}

impl Victim {
    /// The same, of whose journal and of whose earlier checkpoints perhaps nothing is left.
    fn bereft(&self, memory: bool, journal: bool) -> Self {
        let Self { mut log, size, before, mut expected } =
            Self { log: self.log.clone(), size: self.size, before: self.before.clone(), expected: self.expected.clone() };
        if !memory {
            expected.earlier.clear();
        }
        if !journal {
            log.0.remove("journal");
        }
        Self { log, size, before, expected }
    }
}

/// The files of a log with these entries and a signed checkpoint, as somebody with the key would make them.
fn forged(entries: &[Vec<u8>], signer: &SignerKey) -> Memory {
    let mut log = Memory::default();
    let size = entries.len() as u64;
    let row: Vec<Hash> = entries.iter().map(|entry| leaf(entry)).collect();
    let all = root(&row);
    for tile in new_tiles(0, size) {
        let from = (tile.index * TILE_WIDTH) as usize;
        let range = from..from + usize::from(tile.width);
        let mut bytes = Vec::new();
        match tile.kind {
            Kind::Entries => entries[range].iter().for_each(|entry| bundle::push(&mut bytes, entry).unwrap()),
            Kind::Hashes(level) => {
                let level_row = (0..level).fold(row.clone(), |row, _| row.chunks_exact(256).map(root).collect());
                level_row[range].iter().for_each(|hash| bytes.extend_from_slice(&hash.0));
            }
        }
        log.0.insert(tile.path(), bytes);
    }
    let checkpoint = Checkpoint { origin: ORIGIN.to_owned(), size, root: all, extensions: Vec::new() };
    let mut note = Note::new(checkpoint.to_text()).unwrap();
    note.sign(signer, Seal::Plain).unwrap();
    log.0.insert("checkpoint".to_owned(), note.to_text().into_bytes());
    log
}

fn entries(log: &Memory, size: u64) -> Vec<Vec<u8>> {
    (0..size).map(|index| sirocco_ledger::source::entry(log, index, size).unwrap()).collect()
}

struct Random(TestRng);

impl Random {
    fn below(&mut self, limit: u64) -> u64 {
        self.0.next_u64() % limit.max(1)
    }

    fn path(&mut self, log: &Memory, wanted: impl Fn(&str) -> bool) -> String {
        let paths: Vec<&String> = log.0.keys().filter(|path| wanted(path)).collect();
        paths[self.below(paths.len() as u64) as usize].clone()
    }
}

/// Bundles taken apart and put together again with one change.
fn change_bundle(log: &mut Memory, path: &str, change: impl FnOnce(&mut Vec<Vec<u8>>)) {
    let bytes = &log.0[path];
    let mut list: Vec<Vec<u8>> = bundle::entries(bytes).map(|entry| entry.unwrap().1.to_vec()).collect();
    change(&mut list);
    let mut bytes = Vec::new();
    list.iter().for_each(|entry| bundle::push(&mut bytes, entry).unwrap());
    log.0.insert(path.to_owned(), bytes);
}

/// Puts a tile's hashes right after its bundle was changed, up to `levels` levels: a forger without the key.
fn follow_up(log: &mut Memory, size: u64, index: u64, levels: u8) {
    let mut hash = None;
    let mut at = index;
    for level in 0..levels.min(8) {
        let Some(tile) = Tile::holding(Kind::Hashes(level), at, size) else { return };
        let place = (at % TILE_WIDTH) as usize * 32;
        let new = hash.unwrap_or_else(|| leaf(&sirocco_ledger::source::entry(log, index, size).unwrap()));
        let bytes = log.0.get_mut(&tile.path()).unwrap();
        bytes[place..place + 32].copy_from_slice(&new.0);
        let row: Vec<Hash> = bytes.chunks_exact(32).map(|hash| Hash::from_bytes(hash).unwrap()).collect();
        hash = Some(root(&row));
        at /= TILE_WIDTH;
        if !tile.is_full() {
            return;
        }
    }
}

fn current(log: &Memory, size: u64, path: &str) -> bool {
    Tile::parse(path).is_ok_and(|tile| {
        items(tile.kind, size) > tile.index * TILE_WIDTH && Tile::holding(tile.kind, tile.index * TILE_WIDTH, size) == Some(tile)
    }) && log.0.contains_key(path)
}

/// Tampering of one kind; what was done, for the message.
fn tamper(kind: u64, v: &Victim, random: &mut Random) -> (Memory, String) {
    let mut log = v.log.clone();
    let size = v.size;
    let tile = |random: &mut Random, log: &Memory, start: &str| {
        random.path(log, |path| path.starts_with(start) && current(log, size, path))
    };
    let what = match kind {
        0 => {
            let path = random.path(&log, |path| path.starts_with("tile/") || path == "checkpoint");
            let bytes = log.0.get_mut(&path).unwrap();
            let (at, bit) = (random.below(bytes.len() as u64) as usize, random.below(8));
            bytes[at] ^= 1 << bit;
            format!("bit {bit} of byte {at} of {path}")
        }
        1 => {
            let path = random.path(&log, |path| path.starts_with("tile/") || path == "checkpoint");
            let bytes = log.0.get_mut(&path).unwrap();
            let keep = random.below(bytes.len() as u64) as usize;
            bytes.truncate(keep);
            format!("{path} cut to {keep} bytes")
        }
        2 => {
            let path = random.path(&log, |path| current(&v.log, size, path) || path == "checkpoint");
            log.0.remove(&path);
            format!("{path} deleted")
        }
        3 => {
            let path = tile(random, &log, "tile/entries/");
            let count = bundle::entries(&log.0[&path]).count() as u64;
            let (a, b) = (random.below(count) as usize, random.below(count - 1) as usize);
            change_bundle(&mut log, &path, |list| list.swap(a, if b >= a { b + 1 } else { b }));
            format!("entries {a} and {b} (or the next) of {path} swapped")
        }
        4 => {
            let path = tile(random, &log, "tile/entries/");
            let count = bundle::entries(&log.0[&path]).count() as u64;
            let at = random.below(count) as usize;
            let insert = random.below(2) == 0;
            change_bundle(&mut log, &path, |list| if insert { list.insert(at, list[at].clone()) } else { drop(list.remove(at)) });
            format!("entry {at} of {path} {}", if insert { "doubled" } else { "deleted" })
        }
        5 => {
            let (index, levels) = (random.below(size), 1 + random.below(4) as u8);
            let path = Tile::holding(Kind::Entries, index, size).unwrap().path();
            change_bundle(&mut log, &path, |list| list[(index % 256) as usize] = action(9, index).to_bytes().unwrap());
            follow_up(&mut log, size, index, levels);
            format!("entry {index} replaced, with the hashes of {levels} levels")
        }
        6 => {
            let first = tile(random, &log, "tile/");
            let prefix = first.split('/').take(2).collect::<Vec<_>>().join("/") + "/";
            let alike = |path: &str| path.starts_with(&prefix) && path != first;
            // A level with a single file is exchanged with any other.
            let any = !log.0.keys().any(|path| alike(path));
            let second = random.path(&log, |path| alike(path) || (any && path.starts_with("tile/") && path != first));
            let (a, b) = (log.0[&first].clone(), log.0[&second].clone());
            log.0.insert(first.clone(), b);
            log.0.insert(second.clone(), a);
            format!("{first} and {second} exchanged")
        }
        7 => {
            let path = tile(random, &log, "tile/");
            let count = 1 + random.below(40);
            log.0.get_mut(&path).unwrap().extend((0..count).map(|byte| byte as u8));
            format!("{count} bytes more in {path}")
        }
        8 => {
            let mut list = entries(&log, size);
            list.truncate(random.below(size) as usize);
            let what = format!("an older checkpoint, of {} entries, with its tiles", list.len());
            log = forged(&list, &key());
            what
        }
        9 => {
            let mut list = entries(&log, size);
            let at = random.below(size);
            list[at as usize] = action(9, at).to_bytes().unwrap();
            list.extend((0..random.below(300)).map(|number| action(9, number).to_bytes().unwrap()));
            log = forged(&list, &key());
            format!("a fork from entry {at} on, signed by the log itself")
        }
        10 => {
            let mut list = entries(&log, size);
            let at = random.below(size) as usize;
            list[at] = action(9, 0).to_bytes().unwrap();
            let thief = SignerKey::new(ORIGIN, KeyType::Ed25519, &[9; 32]).unwrap();
            log = forged(&list, &thief);
            format!("entry {at} replaced, all files made anew and signed by another key of the same name")
        }
        11 => {
            log.0.insert("checkpoint".to_owned(), v.before.clone());
            "the checkpoint before in the place of the last one".to_owned()
        }
        _ => {
            let mut list = entries(&log, size);
            let old = log.0["checkpoint"].clone();
            list[random.below(size) as usize] = action(9, 1).to_bytes().unwrap();
            log = forged(&list, &key());
            log.0.insert("checkpoint".to_owned(), old);
            "an entry replaced, all tiles made anew, the checkpoint kept".to_owned()
        }
    };
    (log, what)
}

/// Does a finding say where? All but those of signatures and of the checkpoint as a whole name a byte or an entry.
fn says_where(report: &Report) -> bool {
    report.findings.iter().any(|finding| {
        finding.byte.is_some()
            || finding.entry.is_some()
            || matches!(finding.wrong, Wrong::Checkpoint | Wrong::Trust | Wrong::Fork | Wrong::Root)
    })
}

/// Whatever is left to compare with: earlier checkpoints or none, the journal or none.
const LEFT: [(bool, bool); 4] = [(true, true), (true, false), (false, true), (false, false)];

#[test]
fn every_tampering_is_found() {
    let victims = [
        victim(&[1, 3, 40]),
        victim(&[100, 255, 256]),
        victim(&[10, 256, 300, 700]),
        victim(&[200, 513, 2000]),
        victim(&[65_000, 65_536, 66_000]),
    ];
    let mut random = Random(TestRng::deterministic_rng(RngAlgorithm::ChaCha));
    let mut made = [0; LEFT.len()];
    for round in 0..60 {
        // The largest log is slow to forge as a whole: it gets a part of the rounds.
        let pick = if round % 20 == 0 { 4 } else { random.below(4) as usize };
        let (memory, journal) = LEFT[round % LEFT.len()];
        let v = victims[pick].bereft(memory, journal);
        for kind in 0..13 {
            // A whole other history that the log's own key has signed is a log like any other to whoever has never seen this one.
            if (kind == 8 || kind == 9) && !memory {
                continue;
            }
            let (log, what) = tamper(kind, &v, &mut random);
            if log.0 == v.log.0 {
                continue;
            }
            made[round % LEFT.len()] += 1;
            let report = verify(&log, &v.expected).unwrap();
            let left = format!("earlier checkpoints: {memory}, journal: {journal}");
            assert!(!report.is_sound(), "kind {kind}, {left}, not found: {what}");
            assert!(says_where(&report), "kind {kind}, {left}, {what}: {:?}", report.findings);
        }
    }
    assert!(made.iter().sum::<i32>() >= 500 && made.iter().all(|made| *made >= 100), "only {made:?} tamperings were made");
}

#[test]
fn untouched_logs_are_never_accused() {
    for sizes in [&[1, 3, 40][..], &[100, 255, 256], &[10, 256, 300, 700], &[65_000, 65_536, 66_000]] {
        let all = victim(sizes);
        for (memory, journal) in LEFT {
            let v = all.bereft(memory, journal);
            let report = verify(&v.log, &v.expected).unwrap();
            assert!(report.is_sound(), "{sizes:?}: {:?}", report.findings);
        }
    }
}

#[test]
fn a_changed_entry_is_found_with_index_file_and_byte() {
    let v = victim(&[700]);
    for index in [0_u64, 255, 256, 511, 650, 699] {
        let mut log = v.log.clone();
        let path = Tile::holding(Kind::Entries, index, 700).unwrap().path();
        let (byte, _) = bundle::entries(&log.0[&path]).nth((index % 256) as usize).unwrap().unwrap();
        log.0.get_mut(&path).unwrap()[byte + 60] ^= 1;
        let report = verify(&log, &v.expected).unwrap();
        let entry = report.findings.iter().find(|finding| finding.wrong == Wrong::Entry).unwrap();
        assert_eq!((entry.entry, entry.file.as_str(), entry.byte), (Some(index), path.as_str(), Some(byte as u64)));
        assert!(report.findings.iter().all(|finding| finding.entry == Some(index)), "nothing else is accused: {report:?}");
    }
}

#[test]
fn a_change_that_climbs_is_found_where_it_stops() {
    let v = victim(&[66_000]);
    for (levels, file) in [(1, "tile/1/000"), (2, "tile/2/000.p/1")] {
        let mut log = v.log.clone();
        change_bundle(&mut log, "tile/entries/003", |list| list[7] = action(9, 9).to_bytes().unwrap());
        follow_up(&mut log, v.size, 3 * 256 + 7, levels);
        let report = verify(&log, &v.expected).unwrap();
        let found: Vec<_> = report.findings.iter().map(|finding| (finding.wrong, finding.file.as_str())).collect();
        assert_eq!(found, [(Wrong::Tile, file)], "{levels} levels");
    }
}

#[test]
fn a_checkpoint_of_a_size_beyond_all_bounds_ends_soon() {
    let v = victim(&[300]);
    for size in [u64::MAX, 1 << 40, 301] {
        let mut log = v.log.clone();
        let checkpoint = Checkpoint { origin: ORIGIN.to_owned(), size, root: leaf(b""), extensions: Vec::new() };
        let mut note = Note::new(checkpoint.to_text()).unwrap();
        note.sign(&key(), Seal::Plain).unwrap();
        log.0.insert("checkpoint".to_owned(), note.to_text().into_bytes());
        let report = verify(&log, &v.expected).unwrap();
        assert!(!report.is_sound() && report.findings.len() < 3000, "{}", report.findings.len());
    }
}

/// A log of 150 entries with the checkpoint of its first 100, and its journal.
fn put_back(journal: Option<Vec<u8>>) -> Memory {
    let v = victim(&[100, 150]);
    let mut log = v.bereft(false, false).log;
    log.0.insert("checkpoint".to_owned(), v.before);
    log.0.extend(journal.map(|journal| ("journal".to_owned(), journal)));
    log
}

/// A journal from entry `first` to `end`, of which each is that of the log but for `change`.
fn journal(first: u64, end: u64, change: impl Fn(u64) -> u64) -> Vec<u8> {
    let mut bytes = record::header(first).to_vec();
    (first..end).for_each(|index| record::push(&mut bytes, &action(change(index) - index, index).to_bytes().unwrap()).unwrap());
    bytes
}

#[test]
fn an_older_checkpoint_beside_its_newer_tiles_is_found_without_any_memory() {
    let lost: [(&str, Option<Vec<u8>>); 4] = [
        ("no journal", None),
        ("the journal of the newer checkpoint", Some(journal(150, 150, |index| index))),
        ("a journal that ends before the tiles", Some(journal(90, 149, |index| index))),
        ("a journal of another history", Some(journal(100, 160, |index| index + u64::from(index == 140)))),
    ];
    for (what, journal) in lost {
        let report = verify(&put_back(journal), &expected()).unwrap();
        let wrong: Vec<Wrong> = report.findings.iter().map(|finding| finding.wrong).collect();
        assert!(
            wrong.iter().all(|wrong| matches!(wrong, Wrong::Shorter | Wrong::Fork)) && !wrong.is_empty(),
            "{what}: {wrong:?}"
        );
        assert!(report.findings.iter().all(|finding| finding.entry.is_some()), "{what}: {:?}", report.findings);
        assert_eq!(report.remarks.beyond, ["tile/0/000.p/150", "tile/entries/000.p/150"]);
    }
}

/// A sealing that stopped before its checkpoint leaves just this: the next one goes on from it, and nothing is lost.
#[test]
fn tiles_whose_entries_the_journal_still_has_are_only_remarked() {
    for (first, end) in [(100, 150), (100, 170), (0, 150)] {
        let report = verify(&put_back(Some(journal(first, end, |index| index))), &expected()).unwrap();
        assert!(report.is_sound(), "{first} to {end}: {:?}", report.findings);
        assert_eq!(report.remarks.beyond.len(), 2);
    }
}
