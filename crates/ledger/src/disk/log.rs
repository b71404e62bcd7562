//! A log that grows: any number of threads and processes of one machine append, and nothing that was synced is lost.

use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

use crate::disk::Directory;
use crate::disk::files;
use crate::disk::journal::Journal;
use crate::disk::lock::LockFile;
use crate::entry::{Author, Entry};
use crate::record::HEADER_BYTES;
use crate::tlog_proof::CHECKPOINT;
use crate::{LedgerError, record};

/// The journal's name in a log's directory.
pub(crate) const JOURNAL: &str = "journal";
/// The file that writers lock.
pub(super) const LOCK: &str = "lock";

/// A log's directory, open for writing.
pub struct Log {
    path: PathBuf,
    author: Author,
    state: Mutex<State>,
    /// Held while the journal changes, for as long as one write takes.
    pub(super) lock: LockFile,
    /// Held while tiles and the checkpoint change. Whoever needs both takes this one first.
    pub(super) sealing: Mutex<LockFile>,
    /// A sync has failed since the journal was last written as a whole.
    pub(super) sync_lost: AtomicBool,
}

pub(super) struct State {
    pub(super) journal: Journal,
}

impl Log {
    /// Opens the log at `path`, and makes an empty one where nothing is. `author` stands in the entry that records what a power loss took.
    ///
    /// # Errors
    /// [`LedgerError::ReadOnly`], [`LedgerError::DiskFull`], [`LedgerError::NoLocks`], [`LedgerError::Damaged`], [`LedgerError::Io`].
    pub fn create(path: &Path, author: Author) -> Result<Self, LedgerError> {
        files::create_directory(path)?;
        let journal = path.join(JOURNAL);
        let lock = LockFile::open(path.join(LOCK))?;
        let held = lock.hold()?;
        if !journal.exists() {
            // A journal that is gone may have had entries; a new one would hide that.
            if path.join(CHECKPOINT).exists() || path.join("tile").exists() {
                let (found, expected) = ("no such file".to_owned(), "the journal of the log that is here".to_owned());
                return Err(LedgerError::Damaged { path: journal, place: "file".to_owned(), found, expected });
            }
            Journal::create(&journal, 0, &[])?;
        }
        drop(held);
        Self::open(path, author)
    }

    /// Opens the log at `path`.
    ///
    /// # Errors
    /// [`LedgerError::NoLog`] when there is none, and those of [`create`](Self::create). [`LedgerError::Damaged`] of the journal has a way out,
    /// [`open_damaged`](Self::open_damaged).
    pub fn open(path: &Path, author: Author) -> Result<Self, LedgerError> {
        let journal = path.join(JOURNAL);
        if !journal.exists() {
            return Err(LedgerError::NoLog(path.to_path_buf()));
        }
        let state = Mutex::new(State { journal: Journal::open(&journal)? });
        let lock = LockFile::open(path.join(LOCK))?;
        let sealing = Mutex::new(LockFile::open(path.join("seal.lock"))?);
        let log = Self { path: path.to_path_buf(), author, state, lock, sealing, sync_lost: AtomicBool::new(false) };
        log.len()?;
        Ok(log)
    }

    /// The log's directory.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Who writes.
    pub fn author(&self) -> &Author {
        &self.author
    }

    /// The same log as the verifier reads it.
    pub fn directory(&self) -> Directory {
        Directory::new(&self.path)
    }

    /// Entries so far, sealed or not, by all writers.
    ///
    /// # Errors
    /// Those of [`append`](Self::append).
    pub fn len(&self) -> Result<u64, LedgerError> {
        self.changing(|state| Ok(state.journal.next))
    }

    /// Has nothing been written yet?
    ///
    /// # Errors
    /// Those of [`append`](Self::append).
    pub fn is_empty(&self) -> Result<bool, LedgerError> {
        Ok(self.len()? == 0)
    }

    /// Appends an entry and returns its index. It survives the end of this process now, and a power loss after [`sync`](Self::sync).
    ///
    /// # Errors
    /// [`LedgerError::EntrySize`], [`LedgerError::Malformed`] for the entry; [`LedgerError::DiskFull`], [`LedgerError::ReadOnly`],
    /// [`LedgerError::Damaged`], [`LedgerError::Io`] for the journal: it is as it was before.
    pub fn append(&self, entry: &Entry) -> Result<u64, LedgerError> {
        Ok(self.append_all(&[entry.to_bytes()?])?.start)
    }

    /// Appends texts of entries and returns their indices: with one write, however many they are. A kill or a power loss in the middle of it
    /// leaves the first of them.
    ///
    /// # Errors
    /// Those of [`append`](Self::append): none of them is in the log then. (Should the system refuse the write and then also to cut the
    /// journal back, this handle does so before it goes on; a process that writes before that takes those that are whole for entries.)
    pub fn append_all<T: AsRef<[u8]>>(&self, entries: &[T]) -> Result<Range<u64>, LedgerError> {
        let mut records = Vec::new();
        for entry in entries {
            record::push(&mut records, entry.as_ref())?;
        }
        self.changing(|state| {
            let first = state.journal.next;
            state.journal.append(&records, entries.len() as u64)?;
            Ok(first..state.journal.next)
        })
    }

    /// Puts on disk what this handle, or anybody else on this machine, has appended before the call.
    ///
    /// Where the system cannot sync the journal, it may have dropped what it could not write, and would say nothing of it the next time.
    /// Then the journal is written again as a whole, to another place of the disk, at once and if need be by the next call.
    ///
    /// # Errors
    /// [`LedgerError::DiskFull`], [`LedgerError::Io`]; [`LedgerError::Damaged`] when entries were dropped.
    pub fn sync(&self) -> Result<(), LedgerError> {
        let file = self.state().journal.file.clone();
        let mut failed = None;
        if !self.sync_lost.load(Ordering::Acquire) {
            // If the journal was sealed meanwhile, the sealer has put this file's entries on disk before it took the file away.
            let Err(error) = file.sync_data() else { return Ok(()) };
            self.sync_lost.store(true, Ordering::Release);
            failed = Some(LedgerError::io("sync", &self.path.join(JOURNAL), error));
        }
        self.write_again().map_err(|error| failed.unwrap_or(error))
    }

    fn write_again(&self) -> Result<(), LedgerError> {
        let path = self.path.join(JOURNAL);
        self.changing(|state| {
            let journal = &mut state.journal;
            let mut bytes = record::header(journal.first).to_vec();
            bytes.extend(journal.rest(HEADER_BYTES as u64)?);
            let count = record::records(&bytes).count() as u64;
            if journal.first.saturating_add(count) != journal.next {
                let (found, expected) = (format!("{count} whole entries"), (journal.next - journal.first).to_string());
                return Err(LedgerError::Damaged { path: path.clone(), place: "entries".to_owned(), found, expected });
            }
            Journal::create(&path, journal.first, bytes.get(HEADER_BYTES..).unwrap_or_default())?;
            journal.refresh().map(drop)
        })?;
        self.sync_lost.store(false, Ordering::Release);
        Ok(())
    }

    fn state(&self) -> MutexGuard<'_, State> {
        // No state is left half changed by a panic: fields change after their write succeeded.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Runs `change` under the lock, with the journal as it is now and its torn end taken care of.
    pub(super) fn changing<T>(&self, change: impl FnOnce(&mut State) -> Result<T, LedgerError>) -> Result<T, LedgerError> {
        let mut state = self.state();
        let _held = self.lock.hold()?;
        let torn = state.journal.refresh()?;
        if torn > 0 {
            self.recover(&mut state.journal, torn)?;
        }
        change(&mut state)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::entry::Digest;
    use crate::record::records;

    fn inode(path: &Path) -> u64 {
        use std::os::unix::fs::MetadataExt as _;
        std::fs::metadata(path).unwrap().ino()
    }

    /// What no test can make a disk do: the sync before has failed.
    #[test]
    fn after_a_failed_sync_the_journal_is_written_again_and_all_of_it_is_there() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("log");
        let author = Author { identity: "i".to_owned(), host: "h".to_owned(), binary: Digest::of(b"") };
        let log = Log::create(&path, author.clone()).unwrap();
        let other = Log::open(&path, author.clone()).unwrap();
        for number in 0..5 {
            log.append(&author.entry("test", crate::time::Time::from_millis(number))).unwrap();
        }
        let before = (inode(&path.join(JOURNAL)), std::fs::read(path.join(JOURNAL)).unwrap());
        log.sync_lost.store(true, Ordering::Release);

        // As long as it cannot be written again, nothing is safe, and it is tried again.
        std::fs::rename(path.join(JOURNAL), path.join("away")).unwrap();
        assert!(matches!(log.sync(), Err(LedgerError::Io { .. })));
        std::fs::rename(path.join("away"), path.join(JOURNAL)).unwrap();
        log.sync().unwrap();
        let after = (inode(&path.join(JOURNAL)), std::fs::read(path.join(JOURNAL)).unwrap());
        assert!(before.0 != after.0 && before.1 == after.1);
        log.sync().unwrap();
        assert_eq!(inode(&path.join(JOURNAL)), after.0, "once is enough");
        assert_eq!(other.append(&author.entry("test", crate::time::Time::from_millis(5))).unwrap(), 5, "other handles go on");
        assert_eq!(records(&std::fs::read(path.join(JOURNAL)).unwrap()).count(), 6);
    }

    #[test]
    fn entries_that_the_system_dropped_are_missed() {
        let folder = tempfile::tempdir().unwrap();
        let author = Author { identity: "i".to_owned(), host: "h".to_owned(), binary: Digest::of(b"") };
        let log = Log::create(folder.path(), author.clone()).unwrap();
        log.append(&author.entry("test", crate::time::Time::from_millis(1))).unwrap();
        let journal = folder.path().join(JOURNAL);
        let mut bytes = std::fs::read(&journal).unwrap();
        bytes[HEADER_BYTES..].fill(0);
        std::fs::write(&journal, &bytes).unwrap();
        log.sync_lost.store(true, Ordering::Release);
        assert!(matches!(log.sync(), Err(LedgerError::Damaged { .. })));
        assert_eq!(std::fs::read(&journal).unwrap(), bytes);
    }
}
