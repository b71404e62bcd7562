//! What the tests of whole logs share.
#![allow(dead_code, reason = "each test file uses its part")]

use std::path::Path;

use sirocco_ledger::disk::{Directory, Log};
use sirocco_ledger::entry::{Author, Digest, Entry, Fact};
use sirocco_ledger::key::{KeyType, SignerKey};
use sirocco_ledger::source::{Memory, Source};
use sirocco_ledger::time::Time;
use sirocco_ledger::verify::{Expected, Report, verify};
use sirocco_ledger::witness::TrustPolicy;

/// The name of the tests' logs.
pub(crate) const ORIGIN: &str = "sirocco.example/runs";

pub(crate) fn author() -> Author {
    Author { identity: "someone".to_owned(), host: "node1".to_owned(), binary: Digest::of(b"program") }
}

pub(crate) fn key() -> SignerKey {
    SignerKey::new(ORIGIN, KeyType::Ed25519, &[7; 32]).unwrap()
}

/// An action that can be told from all others.
pub(crate) fn action(writer: u64, number: u64) -> Entry {
    let mut entry = author().entry("test", Time::from_millis(1_700_000_000_000 + number as i64));
    entry.facts.insert("number".to_owned(), Fact::Number(number as i64));
    entry.facts.insert("writer".to_owned(), Fact::Number(writer as i64));
    entry
}

pub(crate) fn expected() -> Expected {
    Expected::new(TrustPolicy::of_logs([key().verifier()]).unwrap())
}

pub(crate) fn check(source: &dyn Source) -> Report {
    verify(source, &expected()).unwrap()
}

/// A log with these sizes at its sealings.
pub(crate) fn grown(path: &Path, sizes: &[u64]) -> Log {
    let log = Log::create(path, author()).unwrap();
    for size in sizes {
        let texts: Vec<Vec<u8>> = (log.len().unwrap()..*size).map(|number| action(0, number).to_bytes().unwrap()).collect();
        log.append_all(&texts).unwrap();
        assert_eq!(log.seal(&key()).unwrap().checkpoint.checkpoint.size, *size);
    }
    log
}

/// The sealed part of a log, in memory.
pub(crate) fn in_memory(directory: &Directory) -> Memory {
    let mut memory = Memory::default();
    let paths = directory.tiles().unwrap().into_iter().chain(["checkpoint".to_owned(), "journal".to_owned()]);
    for path in paths {
        memory.0.insert(path.clone(), directory.read(&path).unwrap().unwrap());
    }
    memory
}

/// Copies a directory with all that is in it.
pub(crate) fn copy(from: &Path, to: &Path) {
    std::fs::create_dir_all(to).unwrap();
    for entry in std::fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        let target = to.join(entry.file_name());
        if entry.file_type().unwrap().is_dir() {
            copy(&entry.path(), &target);
        } else {
            std::fs::copy(entry.path(), target).unwrap();
        }
    }
}
