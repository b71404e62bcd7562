//! A log that grows: any number of threads and processes of one machine append, and nothing that was synced is lost.

use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::SystemTime;

use crate::disk::Directory;
use crate::disk::files::{self, LockFile};
use crate::disk::journal::Journal;
use crate::entry::{Author, Digest, Entry, Fact, RECOVERED};
use crate::tlog_proof::CHECKPOINT;
use crate::{LedgerError, record};

/// The journal's name in a log's directory.
pub(crate) const JOURNAL: &str = "journal";
/// What a power loss tore is kept here.
const TORN: &str = "torn";

/// A log's directory, open for writing.
pub struct Log {
    path: PathBuf,
    author: Author,
    state: Mutex<State>,
    /// Held while the journal changes, for as long as one write takes.
    pub(super) lock: LockFile,
    /// Held while tiles and the checkpoint change. Whoever needs both takes this one first.
    pub(super) sealing: Mutex<LockFile>,
    sync_lost: AtomicBool,
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
        std::fs::create_dir_all(path).map_err(|error| LedgerError::io("create", path, error))?;
        let journal = path.join(JOURNAL);
        let lock = LockFile::open(path.join("lock"))?;
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
    /// [`LedgerError::NoLog`] when there is none, and those of [`create`](Self::create).
    pub fn open(path: &Path, author: Author) -> Result<Self, LedgerError> {
        let journal = path.join(JOURNAL);
        if !journal.exists() {
            return Err(LedgerError::NoLog(path.to_path_buf()));
        }
        let state = Mutex::new(State { journal: Journal::open(&journal)? });
        let lock = LockFile::open(path.join("lock"))?;
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

    /// Appends texts of entries, all or none, and returns their indices: with one write, however many they are.
    ///
    /// # Errors
    /// Those of [`append`](Self::append).
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
    /// # Errors
    /// [`LedgerError::DiskFull`] or [`LedgerError::Io`]; and [`LedgerError::SyncLost`] ever after such a failure, because the system
    /// may have dropped what it could not write. Opening the log anew finds out what is there.
    pub fn sync(&self) -> Result<(), LedgerError> {
        let file = self.state().journal.file.clone();
        if self.sync_lost.load(Ordering::Acquire) {
            return Err(LedgerError::SyncLost(self.path.clone()));
        }
        // If the journal was sealed meanwhile, the sealer has put this file's entries on disk before it took the file away.
        file.sync_data().map_err(|error| {
            self.sync_lost.store(true, Ordering::Release);
            LedgerError::io("sync", &self.path.join(JOURNAL), error)
        })
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
            self.recover(&mut state.journal)?;
        }
        change(&mut state)
    }

    /// After a power loss or a kill in the middle of a write: what stands after the last whole record is kept in a file of its own, taken
    /// off the journal, and recorded there. Entries that were synced are whole, so none of them is in it; where whole ones follow after
    /// all, the journal was damaged and stays as it is.
    fn recover(&self, journal: &mut Journal) -> Result<(), LedgerError> {
        let torn = journal.rest(journal.end)?;
        if let record::End::Damaged(further) = record::end(&torn, journal.end) {
            return Err(LedgerError::Damaged {
                path: self.path.join(JOURNAL),
                place: format!("byte {}, entry {}", journal.end, journal.next),
                found: format!("no record, and whole ones from byte {} on", journal.end.saturating_add(further as u64)),
                expected: "a record with the hash of its entry".to_owned(),
            });
        }
        let now = crate::time::Time::from(SystemTime::now());
        let name = format!("{TORN}/{:012}-{}", journal.next, now.millis());
        let path = self.path.join(&name);
        files::replace(&path, &[&torn], true)?;
        files::sync_all(&self.path, &[path])?;
        let mut entry = self.author.entry(RECOVERED, now);
        entry.facts.insert("bytes".to_owned(), Fact::Number(i64::try_from(torn.len()).unwrap_or(i64::MAX)));
        entry.facts.insert("file".to_owned(), Fact::Text(name));
        entry.inputs.insert("torn".to_owned(), Digest::of(&torn));
        let mut record = Vec::new();
        record::push(&mut record, &entry.to_bytes()?)?;
        journal.cut_torn()?;
        journal.append(&record, 1)?;
        journal.file.sync_data().map_err(|error| LedgerError::io("sync", &self.path.join(JOURNAL), error))
    }
}
