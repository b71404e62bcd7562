//! A journal that is damaged, as against one that a power loss tore: what was synced is never dropped without a word.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod support;

use std::path::Path;

use sirocco_ledger::LedgerError;
use sirocco_ledger::disk::Log;
use sirocco_ledger::record::{HEADER_BYTES, records};
use sirocco_ledger::source::entry;
use sirocco_ledger::verify::Wrong;
use sirocco_ledger::{Digest, Entry, Fact};
use support::{action, author, check, copy, grown, key};
use tempfile::tempdir;

/// A log of three sealed entries and of six that are synced; where the records of these begin, and where the last one ends.
fn unsealed(path: &Path) -> Vec<usize> {
    let log = grown(path, &[3]);
    for number in 3..9 {
        log.append(&action(0, number)).unwrap();
    }
    log.sync().unwrap();
    let bytes = std::fs::read(path.join("journal")).unwrap();
    records(&bytes).map(|(begin, _)| begin).chain([bytes.len()]).collect()
}

#[test]
fn a_changed_byte_before_whole_records_is_damage_and_nothing_is_dropped() {
    let folder = tempdir().unwrap();
    let whole = folder.path().join("whole");
    let begins = unsealed(&whole);
    let bytes = std::fs::read(whole.join("journal")).unwrap();
    for (entry, begin) in (3_u64..8).zip(&begins) {
        // In the length, in the hash, in the entry.
        for byte in [begin + 2, begin + 3, begin + 20, begin + 60] {
            let path = folder.path().join(format!("{byte}"));
            copy(&whole, &path);
            let mut changed = bytes.clone();
            changed[byte] ^= 1;
            std::fs::write(path.join("journal"), &changed).unwrap();
            let report = check(&sirocco_ledger::disk::Directory::new(&path));
            let found: Vec<_> = report.findings.iter().map(|finding| (finding.wrong, finding.entry, finding.byte)).collect();
            assert_eq!(found, [(Wrong::Journal, Some(entry), Some(*begin as u64))], "byte {byte}");
            let Err(error) = Log::open(&path, author()) else { panic!("byte {byte}: opened") };
            let place = format!("byte {begin}, entry {entry}");
            assert!(matches!(&error, LedgerError::Damaged { place: found, .. } if *found == place), "byte {byte}: {error}");
            assert!(Log::create(&path, author()).is_err());
            assert_eq!(std::fs::read(path.join("journal")).unwrap(), changed, "byte {byte}: the journal is as it was");
            assert!(!path.join("torn").exists());
        }
    }
}

/// Two places, of which one takes two records with it, and a torn end.
#[test]
fn a_damaged_journal_is_opened_on_demand_and_keeps_every_whole_entry() {
    let folder = tempdir().unwrap();
    let begins = unsealed(folder.path());
    let journal = folder.path().join("journal");
    let mut bytes = std::fs::read(&journal).unwrap();
    bytes[begins[1] + 60] ^= 1;
    bytes[begins[3] + 3] ^= 1;
    bytes[begins[4] + 20] ^= 1;
    bytes.extend([0, 0, 1, 0, 7]);
    std::fs::write(&journal, &bytes).unwrap();
    assert!(matches!(Log::open(folder.path(), author()), Err(LedgerError::Damaged { .. })));
    let log = Log::open_damaged(folder.path(), author()).unwrap();
    // Of the entries 3 to 8 these are whole; three recoveries are recorded.
    let whole = [(3, 3), (5, 5), (7, 8)];
    assert_eq!(log.len().unwrap(), 9);
    log.seal(&key()).unwrap();
    let report = check(&log.directory());
    assert!(report.is_sound(), "{:?}", report.findings);
    assert_eq!(report.remarks.recovered, [4, 6, 8]);
    let read = |index| Entry::parse(&entry(&log.directory(), index, 9).unwrap()).unwrap();
    for (index, number) in whole {
        assert_eq!(read(index), action(0, number));
    }
    let spoilt = [&bytes[begins[1]..begins[2]], &bytes[begins[3]..begins[5]], &bytes[begins[6]..]];
    for (index, spoilt) in [4, 6, 8].into_iter().zip(spoilt) {
        let record = read(index);
        let Fact::Text(name) = &record.facts["file"] else { panic!("{record:?}") };
        assert_eq!(std::fs::read(folder.path().join(name)).unwrap(), spoilt, "entry {index}");
        assert_eq!(record.inputs["torn"], Digest::of(spoilt));
    }
    let before = std::fs::read(&journal).unwrap();
    drop(Log::open_damaged(folder.path(), author()).unwrap());
    assert_eq!(std::fs::read(&journal).unwrap(), before, "what is not damaged is left as it is");
}

#[test]
fn a_handle_that_had_read_the_byte_before_it_changed_seals_nothing() {
    let folder = tempdir().unwrap();
    let begins = unsealed(folder.path());
    let log = Log::open(folder.path(), author()).unwrap();
    let mut bytes = std::fs::read(folder.path().join("journal")).unwrap();
    bytes[begins[1] + 60] ^= 1;
    std::fs::write(folder.path().join("journal"), &bytes).unwrap();
    assert!(matches!(log.seal(&key()), Err(LedgerError::Damaged { .. })));
    assert_eq!(std::fs::read(folder.path().join("journal")).unwrap(), bytes);
}

#[test]
fn a_hole_that_a_power_loss_left_is_recovered_and_recorded() {
    let folder = tempdir().unwrap();
    let begins = unsealed(folder.path());
    let mut bytes = std::fs::read(folder.path().join("journal")).unwrap();
    assert!(begins[0] == HEADER_BYTES && begins[6] > 1600, "{begins:?}");
    bytes[512..1024].fill(0);
    let torn = *begins.iter().rfind(|begin| **begin <= 512).unwrap();
    let kept = begins.iter().filter(|begin| **begin <= 512).count() as u64 - 1;
    std::fs::write(folder.path().join("journal"), &bytes).unwrap();
    let log = Log::open(folder.path(), author()).unwrap();
    assert_eq!(log.len().unwrap(), 3 + kept + 1);
    log.seal(&key()).unwrap();
    let report = check(&log.directory());
    assert!(report.is_sound(), "{:?}", report.findings);
    assert_eq!(report.remarks.recovered, [3 + kept]);
    let aside = std::fs::read_dir(folder.path().join("torn")).unwrap().next().unwrap().unwrap().path();
    assert_eq!(std::fs::read(aside).unwrap(), bytes[torn..]);
}
