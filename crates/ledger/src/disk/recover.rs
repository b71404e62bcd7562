//! Bytes of a journal that are no record: what a power loss tore is taken off by the next writer, damage only when somebody says so. Both are
//! kept in a file of their own and recorded where they stood.

use std::path::Path;
use std::sync::atomic::Ordering;
use std::time::SystemTime;

use crate::disk::directory::JOURNAL_LIMIT;
use crate::disk::files;
use crate::disk::journal::Journal;
use crate::disk::lock::LockFile;
use crate::disk::log::{JOURNAL, LOCK, Log};
use crate::entry::{Author, Digest, Fact, RECOVERED};
use crate::record::{self, End, HEADER_BYTES, Next};
use crate::time::Time;
use crate::{LedgerError, error};

/// What was taken off is kept here.
const TORN: &str = "torn";
/// A journal with more places than these is nothing that bytes can be saved from.
const PLACES_LIMIT: usize = 1000;

impl Log {
    /// After a power loss or a kill in the middle of a write: the `bytes` after the last whole record are kept in a file of their own, taken
    /// off the journal, and recorded there. Entries that were synced are whole, so none of them is in it; where whole ones follow after
    /// all, the journal was damaged and stays as it is.
    pub(super) fn recover(&self, journal: &mut Journal, bytes: u64) -> Result<(), LedgerError> {
        let damaged = |found: String, expected: &str| LedgerError::Damaged {
            path: self.path().join(JOURNAL),
            place: format!("byte {}, entry {}", journal.end, journal.next),
            found,
            expected: expected.to_owned(),
        };
        if bytes > JOURNAL_LIMIT {
            return Err(damaged(format!("{bytes} bytes that are no record"), "no more than a write leaves"));
        }
        let torn = journal.rest(journal.end)?;
        if let End::Damaged(further) = record::end(&torn, journal.end) {
            let found = format!("no record, and whole ones from byte {} on", journal.end.saturating_add(further as u64));
            return Err(damaged(found, "a record with the hash of its entry"));
        }
        let record = set_aside(self.path(), self.author(), journal.next, &torn)?;
        journal.cut_torn()?;
        journal.append(&record, 1)?;
        journal.file.sync_data().map_err(|error| {
            self.sync_lost.store(true, Ordering::Release);
            LedgerError::io("sync", &self.path().join(JOURNAL), error)
        })
    }

    /// Opens a log whose journal [`open`](Self::open) refuses because it is damaged in its middle. Every run of bytes that is no record is kept
    /// in a file of its own, and an entry in its place says so: whole entries stay, those after it under another index when more than one was
    /// spoilt. A journal that is not damaged is left as it is. Somebody has to look into how it came about before this is called.
    ///
    /// # Errors
    /// Those of [`open`](Self::open).
    pub fn open_damaged(path: &Path, author: Author) -> Result<Self, LedgerError> {
        let journal = path.join(JOURNAL);
        let lock = LockFile::open(path.join(LOCK))?;
        let held = lock.hold()?;
        let bytes = files::read(&journal, JOURNAL_LIMIT)?.ok_or_else(|| LedgerError::NoLog(path.to_path_buf()))?;
        let first = record::first_index(&bytes)?;
        let mut saved = Saved { records: Vec::new(), next: first, places: 0 };
        let mut at = HEADER_BYTES;
        while let Some(rest) = bytes.get(at..).filter(|rest| !rest.is_empty()) {
            if let Next::Whole(record) = record::next(rest) {
                let end = at + record.bytes();
                saved.add(bytes.get(at..end).unwrap_or_default());
                at = end;
                continue;
            }
            let End::Damaged(further) = record::end(rest, at as u64) else {
                // The torn end of a write is recovered like any other, when the log is opened.
                saved.records.extend_from_slice(rest);
                break;
            };
            if saved.places >= PLACES_LIMIT {
                let (place, found) = (format!("byte {at}, entry {}", saved.next), error::shown(rest));
                let expected = format!("records, or at most {PLACES_LIMIT} places without one");
                return Err(LedgerError::Damaged { path: journal, place, found, expected });
            }
            saved.places += 1;
            saved.add(&set_aside(path, &author, saved.next, rest.get(..further).unwrap_or(rest))?);
            at += further;
        }
        if saved.places > 0 {
            Journal::create(&journal, first, &saved.records)?;
        }
        drop(held);
        Self::open(path, author)
    }
}

/// The records of a new journal.
struct Saved {
    records: Vec<u8>,
    next: u64,
    places: usize,
}

impl Saved {
    fn add(&mut self, record: &[u8]) {
        self.records.extend_from_slice(record);
        self.next += 1;
    }
}

/// Keeps bytes that are no record, and makes the record of the entry that says so; its index is `index`.
fn set_aside(folder: &Path, author: &Author, index: u64, torn: &[u8]) -> Result<Vec<u8>, LedgerError> {
    let now = Time::from(SystemTime::now());
    let name = format!("{TORN}/{index:012}-{}", now.millis());
    let path = folder.join(&name);
    files::replace(&path, &[torn])?;
    files::sync_names(folder, &[path])?;
    let mut entry = author.entry(RECOVERED, now);
    entry.facts.insert("bytes".to_owned(), Fact::Number(i64::try_from(torn.len()).unwrap_or(i64::MAX)));
    entry.facts.insert("file".to_owned(), Fact::Text(name));
    entry.inputs.insert("torn".to_owned(), Digest::of(torn));
    let mut record = Vec::new();
    record::push(&mut record, &entry.to_bytes()?)?;
    Ok(record)
}
