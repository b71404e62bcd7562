//! A log on disk: grown, sealed, torn by a power loss at any byte, stopped between any two steps of a sealing.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod support;

use std::path::Path;
use std::sync::Arc;

use proptest::prelude::*;
use sirocco_ledger::LedgerError;
use sirocco_ledger::cosignature::cosign;
use sirocco_ledger::disk::{Log, Writer};
use sirocco_ledger::entry::{Entry, RECOVERED};
use sirocco_ledger::hash::empty_root;
use sirocco_ledger::key::{KeyType, SignerKey};
use sirocco_ledger::record::HEADER_BYTES;
use sirocco_ledger::source::{Source, entry};
use sirocco_ledger::tlog_proof::prove;
use sirocco_ledger::verify::{Wrong, verify};
use sirocco_ledger::witness::TrustPolicy;
use support::{ORIGIN, action, author, check, copy, expected, grown, in_memory, key};
use tempfile::tempdir;

#[test]
fn an_empty_log_is_sealed_and_verifies() {
    let folder = tempdir().unwrap();
    let log = Log::create(folder.path(), author()).unwrap();
    assert!(log.is_empty().unwrap());
    let sealed = log.seal(&key()).unwrap();
    assert_eq!((sealed.added, sealed.checkpoint.checkpoint.root), (0, empty_root()));
    assert!(check(&log.directory()).is_sound());
}

#[test]
fn what_is_appended_and_sealed_is_proven_and_in_order() {
    let folder = tempdir().unwrap();
    let log = grown(folder.path(), &[1, 2, 255, 256, 257, 700, 70_000]);
    assert_eq!(log.seal(&key()).unwrap().added, 0, "nothing new: the same checkpoint");
    let report = check(&log.directory());
    assert!(report.is_sound() && report.size == 70_000, "{:?}", report.findings);
    assert_eq!(report.remarks, Default::default());
    let policy = expected().policy;
    for index in [0, 255, 256, 65_535, 65_536, 69_999] {
        let text = entry(&log.directory(), index, 70_000).unwrap();
        assert_eq!(Entry::parse(&text).unwrap(), action(0, index));
        assert!(prove(&log.directory(), index).unwrap().verify(&text, &policy).is_ok());
    }
    assert!(matches!(prove(&log.directory(), 70_000), Err(LedgerError::Outside { .. })));
    let reopened = Log::open(folder.path(), author()).unwrap();
    assert_eq!(reopened.append(&action(0, 70_000)).unwrap(), 70_000);
    assert_eq!(log.len().unwrap(), 70_001, "another handle sees it");
    assert_eq!(log.directory().pending(70_000).unwrap(), 1);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(30))]
    #[test]
    fn however_a_log_was_sealed_it_verifies_with_all_its_checkpoints(mut sizes in prop::collection::vec(0_u64..1200, 1..8)) {
        sizes.sort_unstable();
        let folder = tempdir().unwrap();
        let log = Log::create(folder.path(), author()).unwrap();
        let mut expected = expected();
        for size in sizes {
            for number in log.len().unwrap()..size {
                log.append(&action(0, number)).unwrap();
            }
            expected.earlier.push(log.seal(&key()).unwrap().checkpoint.checkpoint);
        }
        let report = verify(&log.directory(), &expected).unwrap();
        prop_assert!(report.is_sound(), "{:?}", report.findings);
        prop_assert!(report.remarks.beyond.is_empty() && report.remarks.stray.is_empty());
    }
}

/// Every byte at which the last records can end, and every kind of end.
#[test]
fn a_torn_end_is_recovered_and_recorded_and_nothing_before_it_is_lost() {
    let folder = tempdir().unwrap();
    let whole = folder.path().join("whole");
    let log = grown(&whole, &[3]);
    let mut ends = vec![HEADER_BYTES];
    for number in 3..6 {
        log.append(&action(0, number)).unwrap();
        ends.push(std::fs::metadata(whole.join("journal")).unwrap().len() as usize);
    }
    log.sync().unwrap();
    let bytes = std::fs::read(whole.join("journal")).unwrap();
    let mut cases: Vec<Vec<u8>> = (HEADER_BYTES..bytes.len()).step_by(7).map(|cut| bytes[..cut].to_vec()).collect();
    cases.push([bytes.as_slice(), &[0; 5000]].concat());
    cases.push([bytes.as_slice(), &[0xff; 3]].concat());
    let mut flipped = bytes.clone();
    flipped[bytes.len() - 1] ^= 1;
    cases.push(flipped);
    for (number, case) in cases.iter().enumerate() {
        let path = folder.path().join(number.to_string());
        copy(&whole, &path);
        std::fs::write(path.join("journal"), case).unwrap();
        let kept = ends.iter().filter(|end| case.get(..**end) == bytes.get(..**end)).count() as u64 - 1;
        let torn = case.len() > ends[kept as usize];
        let log = Log::open(&path, author()).unwrap();
        assert_eq!(log.len().unwrap(), 3 + kept + u64::from(torn), "case {number}");
        log.append(&action(0, 99)).unwrap();
        let size = log.seal(&key()).unwrap().checkpoint.checkpoint.size;
        let report = check(&log.directory());
        assert!(report.is_sound(), "case {number}: {:?}", report.findings);
        assert_eq!(report.remarks.recovered, if torn { vec![3 + kept] } else { vec![] });
        for index in 0..3 + kept {
            let text = entry(&log.directory(), index, size).unwrap();
            assert_eq!(Entry::parse(&text).unwrap(), action(0, index), "case {number}");
        }
        if torn {
            let record = Entry::parse(&entry(&log.directory(), 3 + kept, size).unwrap()).unwrap();
            let kept_aside: Vec<_> = std::fs::read_dir(path.join("torn")).unwrap().collect();
            let aside = std::fs::read(kept_aside[0].as_ref().unwrap().path()).unwrap();
            assert_eq!((record.verb.as_str(), kept_aside.len()), (RECOVERED, 1));
            assert_eq!(aside, case[ends[kept as usize]..]);
            assert_eq!(record.inputs["torn"], sirocco_ledger::Digest::of(&aside));
        }
    }
}

#[test]
fn a_sealing_that_stops_between_two_steps_is_finished_by_the_next() {
    for (before, after) in [(0, 10), (10, 20), (200, 300), (255, 256), (256, 257), (250, 1300)] {
        let folder = tempdir().unwrap();
        let (old, new) = (folder.path().join("old"), folder.path().join("new"));
        let log = grown(&old, &[before]);
        let texts: Vec<Vec<u8>> = (before..after).map(|number| action(0, number).to_bytes().unwrap()).collect();
        log.append_all(&texts).unwrap();
        log.sync().unwrap();
        drop(log);
        copy(&old, &new);
        let sealed = Log::open(&new, author()).unwrap().seal(&key()).unwrap();

        // Stopped after the tiles: half of them may be torn, because the checkpoint comes only after their sync.
        let tiles = folder.path().join("tiles");
        copy(&new, &tiles);
        std::fs::copy(old.join("checkpoint"), tiles.join("checkpoint")).unwrap();
        std::fs::copy(old.join("journal"), tiles.join("journal")).unwrap();
        copy(&old.join("."), &tiles);
        let had = in_memory(&Log::open(&old, author()).unwrap().directory());
        let log = Log::open(&tiles, author()).unwrap();
        for path in log.directory().tiles().unwrap().iter().filter(|path| !had.0.contains_key(*path)) {
            std::fs::write(tiles.join(path), b"").unwrap();
        }
        assert!(check(&log.directory()).is_sound(), "{before}-{after}: what the old checkpoint covers is whole");
        assert_eq!(log.seal(&key()).unwrap().checkpoint, sealed.checkpoint);
        let report = check(&log.directory());
        assert!(report.is_sound() && report.remarks.beyond.is_empty(), "{before}-{after}: {report:?}");

        // Stopped after the checkpoint: the journal still has what is sealed.
        let journal = folder.path().join("journal");
        copy(&new, &journal);
        std::fs::copy(old.join("journal"), journal.join("journal")).unwrap();
        let log = Log::open(&journal, author()).unwrap();
        assert!(check(&log.directory()).is_sound());
        assert_eq!(log.append(&action(0, after)).unwrap(), after);
        let next = log.seal(&key()).unwrap();
        assert_eq!((next.added, next.checkpoint.checkpoint.size), (1, after + 1));
        assert!(check(&log.directory()).is_sound());
    }
}

#[test]
fn nothing_is_signed_on_top_of_a_contradiction() {
    let folder = tempdir().unwrap();
    let whole = folder.path().join("whole");
    drop(grown(&whole, &[300]));
    type Spoil = fn(&Path);
    let spoil: [(&str, Spoil); 5] = [
        ("an older journal", |log| std::fs::write(log.join("journal"), sirocco_ledger::record::header(0)).unwrap()),
        ("a journal that begins later", |log| std::fs::write(log.join("journal"), sirocco_ledger::record::header(301)).unwrap()),
        ("a changed tile", |log| {
            let path = log.join("tile/0/001.p/44");
            let mut bytes = std::fs::read(&path).unwrap();
            bytes[40] ^= 1;
            std::fs::write(path, bytes).unwrap();
        }),
        ("a missing tile", |log| std::fs::remove_file(log.join("tile/1/000.p/1")).unwrap()),
        ("an older checkpoint", |log| {
            let path = log.join("checkpoint");
            std::fs::write(&path, std::fs::read_to_string(&path).unwrap().replace("300", "299")).unwrap();
        }),
    ];
    for (number, (what, spoil)) in spoil.iter().enumerate() {
        let path = folder.path().join(number.to_string());
        copy(&whole, &path);
        spoil(&path);
        let checkpoint = std::fs::read(path.join("checkpoint")).unwrap();
        let log = Log::open(&path, author()).unwrap();
        log.append(&action(0, 300)).unwrap();
        assert!(log.seal(&key()).is_err(), "{what}");
        assert_eq!(std::fs::read(path.join("checkpoint")).unwrap(), checkpoint, "{what}");
    }
    let stranger = SignerKey::new(ORIGIN, KeyType::Ed25519, &[8; 32]).unwrap();
    let log = Log::open(&whole, author()).unwrap();
    assert!(matches!(log.seal(&stranger), Err(LedgerError::NotSigned { .. })));
    let other = SignerKey::new("another", KeyType::Ed25519, &[7; 32]).unwrap();
    assert!(log.seal(&other).is_err());
    std::fs::remove_file(whole.join("journal")).unwrap();
    assert!(matches!(Log::open(&whole, author()), Err(LedgerError::NoLog(_))));
    assert!(matches!(Log::create(&whole, author()), Err(LedgerError::Damaged { .. })));
}

#[test]
fn a_clock_that_runs_backwards_is_remarked_and_no_more() {
    let folder = tempdir().unwrap();
    let log = Log::create(folder.path(), author()).unwrap();
    for time in [5, 6, 4, 7, 1] {
        log.append(&action(0, time)).unwrap();
    }
    log.seal(&key()).unwrap();
    let report = check(&log.directory());
    assert!(report.is_sound());
    assert_eq!((report.remarks.clock_backwards, report.remarks.first_backwards), (2, Some(2)));
}

/// Whoever verifies a log that grows sees tiles of one sealing, the journal of the next and the checkpoint of neither.
#[test]
fn a_log_that_is_sealed_meanwhile_is_never_accused() {
    let folder = tempdir().unwrap();
    let log = grown(folder.path(), &[100]);
    std::thread::scope(|scope| {
        let writer = scope.spawn(|| {
            for number in 100..900 {
                log.append(&action(0, number)).unwrap();
                if number % 3 == 0 {
                    log.seal(&key()).unwrap();
                }
            }
        });
        while !writer.is_finished() {
            let report = check(&log.directory());
            assert!(report.is_sound(), "{:?}", report.findings);
        }
    });
    assert!(check(&log.directory()).size > 800);
}

#[test]
fn witnesses_add_their_cosignatures_and_a_policy_counts_them() {
    let folder = tempdir().unwrap();
    let log = grown(folder.path(), &[10]);
    let witness = SignerKey::new("ministry", KeyType::Cosignature, &[3; 32]).unwrap();
    let policy = format!("log {}\nwitness m {}\nquorum m\n", key().verifier(), witness.verifier());
    let mut demanding = expected();
    demanding.policy = TrustPolicy::parse(policy.as_bytes()).unwrap();
    let report = verify(&log.directory(), &demanding).unwrap();
    assert_eq!(report.findings.iter().map(|finding| finding.wrong).collect::<Vec<_>>(), [Wrong::Trust]);
    let signed = sirocco_ledger::tlog_proof::checkpoint(&log.directory()).unwrap();
    let line = cosign(&witness, 1_700_000_000, None, &signed, &[]).unwrap();
    log.add_cosignature(line.clone(), &witness.verifier()).unwrap();
    let report = verify(&log.directory(), &demanding).unwrap();
    assert!(report.is_sound() && report.accepted.unwrap().witnesses[0].time == 1_700_000_000);
    log.append(&action(0, 10)).unwrap();
    log.seal(&key()).unwrap();
    assert!(log.add_cosignature(line, &witness.verifier()).is_err(), "it is over the checkpoint before");
}

#[test]
fn threads_append_in_the_background_and_all_of_it_is_there() {
    let folder = tempdir().unwrap();
    let log = Arc::new(Log::create(folder.path(), author()).unwrap());
    let writer = Writer::start(log.clone()).unwrap();
    std::thread::scope(|scope| {
        for thread in 0..4 {
            let (writer, log) = (&writer, &log);
            scope.spawn(move || {
                for number in 0..250 {
                    writer.append(&action(thread, number)).unwrap();
                    if number % 50 == 0 {
                        writer.sync().unwrap();
                        assert!(log.len().unwrap() > number);
                    }
                }
            });
        }
        for _ in 0..5 {
            log.seal(&key()).unwrap();
        }
    });
    drop(writer);
    let size = log.seal(&key()).unwrap().checkpoint.checkpoint.size;
    assert_eq!(size, 1000);
    assert!(check(&log.directory()).is_sound());
    let entries: Vec<Entry> =
        (0..size).map(|index| Entry::parse(&entry(&log.directory(), index, size).unwrap()).unwrap()).collect();
    for thread in 0..4 {
        let mine: Vec<&Entry> = entries.iter().filter(|e| e.facts["writer"] == sirocco_ledger::Fact::Number(thread)).collect();
        assert_eq!(mine.len(), 250);
        assert!(mine.iter().zip(0..).all(|(entry, number)| **entry == action(thread as u64, number)), "in order");
    }
}

/// A writer with one entry on disk and one handed over since, whose journal lies under `away` now.
fn without_its_journal(folder: &Path) -> (Arc<Log>, Writer) {
    let log = Arc::new(Log::create(&folder.join("log"), author()).expect("a log"));
    let writer = Writer::start(log.clone()).expect("a writer");
    writer.append(&action(0, 0)).expect("an entry");
    writer.sync().expect("a disk");
    std::fs::rename(folder.join("log/journal"), folder.join("away")).expect("a journal");
    writer.append(&action(0, 1)).expect("an entry");
    (log, writer)
}

#[test]
fn a_writer_whose_journal_is_gone_says_so_and_keeps_its_entries() {
    let folder = tempdir().unwrap();
    let (log, writer) = without_its_journal(folder.path());
    assert!(matches!(writer.sync(), Err(LedgerError::Background(_))));
    writer.append(&action(0, 2)).unwrap();
    std::fs::rename(folder.path().join("away"), folder.path().join("log/journal")).unwrap();
    writer.sync().unwrap();
    assert_eq!(log.len().unwrap(), 3);
    writer.close().unwrap();
}

#[test]
fn a_writer_that_is_closed_gives_back_what_it_could_not_write() {
    let folder = tempdir().unwrap();
    let (log, writer) = without_its_journal(folder.path());
    writer.append(&action(0, 2)).unwrap();
    let left = writer.close().unwrap_err();
    assert!(matches!(*left.error, LedgerError::Io { .. }) && left.unsynced == 0, "{left}");
    let expected = [action(0, 1), action(0, 2)];
    assert!(left.entries.iter().map(|text| Entry::parse(text).unwrap()).eq(expected));
    std::fs::rename(folder.path().join("away"), folder.path().join("log/journal")).unwrap();
    assert_eq!(log.append_all(&left.entries).unwrap(), 1..3);
}
