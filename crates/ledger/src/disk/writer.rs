//! Appending without waiting: a thread writes what was handed over and syncs it, many entries at a time.

use std::collections::VecDeque;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

use crate::disk::Log;
use crate::{Entry, LedgerError};

/// Bytes that may wait for a journal that cannot be written.
pub const BACKLOG_LIMIT: usize = 64 << 20;
/// After a failure the thread tries again so often by itself; [`Writer::sync`] asks it at once.
const RETRY: Duration = Duration::from_secs(1);

/// So often the thread tries to write what is left when nobody can ask it again.
const LAST_ATTEMPTS: u32 = 3;

/// Entries that a [`Writer`] could not bring into the journal, for whoever closed it.
#[derive(Debug, thiserror::Error)]
#[error("{} entries were not written, {unsynced} more not synced: {error}", entries.len())]
pub struct Unwritten {
    /// Their texts, in order, as [`Log::append_all`] takes them.
    pub entries: Vec<Vec<u8>>,
    /// Entries that are in the journal and may not be on disk.
    pub unsynced: u64,
    /// Why.
    pub error: Arc<LedgerError>,
}

/// Hands entries to a thread. [`close`](Self::close) says whether all of them were written. Dropping it tries as often to write them and
/// can say nothing: what the journal still does not take is lost.
pub struct Writer {
    shared: Arc<Shared>,
    thread: Option<JoinHandle<()>>,
}

struct Shared {
    log: Arc<Log>,
    queue: Mutex<Queue>,
    changed: Condvar,
}

#[derive(Default)]
struct Queue {
    waiting: VecDeque<Vec<u8>>,
    bytes: usize,
    /// Entries handed over, and entries known to be on disk.
    taken: u64,
    safe: u64,
    /// Written and not synced: a failed sync is repeated without writing again.
    unsynced: u64,
    error: Option<Arc<LedgerError>>,
    /// Attempts to write that have begun, and the last one that has ended.
    begun: u64,
    ended: u64,
    /// Somebody waits.
    urgent: bool,
    closed: bool,
}

impl Writer {
    /// Starts the thread.
    ///
    /// # Errors
    /// [`LedgerError::Io`] when the system gives no thread.
    pub fn start(log: Arc<Log>) -> Result<Self, LedgerError> {
        let path = log.path().to_path_buf();
        let shared = Arc::new(Shared { log, queue: Mutex::default(), changed: Condvar::new() });
        let inner = shared.clone();
        let thread = std::thread::Builder::new().name("ledger".to_owned()).spawn(move || inner.run());
        let thread = thread.map_err(|error| LedgerError::io("start a thread for", &path, error))?;
        Ok(Self { shared, thread: Some(thread) })
    }

    /// The log it writes to.
    pub fn log(&self) -> &Arc<Log> {
        &self.shared.log
    }

    /// Hands an entry over; returns without waiting for any file.
    ///
    /// # Errors
    /// [`LedgerError::Malformed`] or [`LedgerError::EntrySize`] for the entry; [`LedgerError::Backlog`] when the journal has refused
    /// entries for so long that no more can be kept.
    pub fn append(&self, entry: &Entry) -> Result<(), LedgerError> {
        let text = entry.to_bytes()?;
        let mut queue = self.shared.queue();
        if queue.bytes + text.len() > BACKLOG_LIMIT {
            let reason = queue.error.as_ref().map_or_else(|| "the disk is slow".to_owned(), ToString::to_string);
            return Err(LedgerError::Backlog { waiting: queue.bytes, limit: BACKLOG_LIMIT, reason });
        }
        queue.bytes += text.len();
        queue.taken += 1;
        queue.waiting.push_back(text);
        drop(queue);
        self.shared.changed.notify_all();
        Ok(())
    }

    /// Writes what is left, ends the thread, and says what could not be written: after a few attempts, a second apart.
    ///
    /// # Errors
    /// [`Unwritten`], with the entries.
    pub fn close(mut self) -> Result<(), Unwritten> {
        self.end();
        let mut queue = self.shared.queue();
        let entries = Vec::from(std::mem::take(&mut queue.waiting));
        if queue.unsynced == 0 && entries.is_empty() {
            return Ok(());
        }
        let ended = || LedgerError::io("write", self.log().path(), std::io::Error::other("the thread that writes has ended"));
        let error = queue.error.take().unwrap_or_else(|| Arc::new(ended()));
        Err(Unwritten { entries, unsynced: queue.unsynced, error })
    }

    fn end(&mut self) {
        self.shared.queue().closed = true;
        self.shared.changed.notify_all();
        if let Some(thread) = self.thread.take() {
            // A panic of the thread has been reported by the thread.
            let _ = thread.join();
        }
    }

    /// Waits until everything handed over before is on disk.
    ///
    /// # Errors
    /// [`LedgerError::Background`] when it could not be written or synced; it is kept, and tried again by itself and by the next call.
    pub fn sync(&self) -> Result<(), LedgerError> {
        let mut queue = self.shared.queue();
        // Only an attempt that begins after this call says something about it.
        let (goal, attempt) = (queue.taken, queue.begun + 1);
        queue.urgent = true;
        self.shared.changed.notify_all();
        loop {
            if queue.safe >= goal {
                return Ok(());
            }
            if let Some(error) = queue.error.as_ref().filter(|_| queue.ended >= attempt) {
                return Err(LedgerError::Background(error.clone()));
            }
            queue = self.shared.wait(queue, None);
        }
    }
}

impl Drop for Writer {
    fn drop(&mut self) {
        self.end();
    }
}

impl Shared {
    fn queue(&self) -> MutexGuard<'_, Queue> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn wait<'a>(&self, queue: MutexGuard<'a, Queue>, at_most: Option<Duration>) -> MutexGuard<'a, Queue> {
        match at_most {
            Some(time) => self.changed.wait_timeout(queue, time).unwrap_or_else(PoisonError::into_inner).0,
            None => self.changed.wait(queue).unwrap_or_else(PoisonError::into_inner),
        }
    }

    fn run(&self) {
        let mut queue = self.queue();
        let mut last_attempts = LAST_ATTEMPTS;
        loop {
            let idle = queue.waiting.is_empty() && queue.unsynced == 0;
            if idle && queue.closed {
                return;
            }
            if idle {
                queue.urgent = false;
                queue = self.wait(queue, None);
                continue;
            }
            let failed_before = queue.error.is_some();
            let may_wait = !queue.urgent && (!queue.closed || last_attempts < LAST_ATTEMPTS);
            if failed_before && may_wait {
                queue = self.wait(queue, Some(RETRY));
            }
            queue.urgent = false;
            queue.begun += 1;
            let batch = Vec::from(std::mem::take(&mut queue.waiting));
            drop(queue);
            let (written, result) = self.write(&batch);
            queue = self.queue();
            queue.account(batch, written, result);
            self.changed.notify_all();
            if queue.closed && queue.error.is_some() {
                last_attempts -= 1;
                if last_attempts == 0 {
                    return;
                }
            }
        }
    }

    /// Is `batch` in the journal now, and how did it go?
    fn write(&self, batch: &[Vec<u8>]) -> (bool, Result<(), LedgerError>) {
        match self.log.append_all(batch) {
            Ok(_) => (true, self.log.sync()),
            Err(error) => (false, Err(error)),
        }
    }
}

impl Queue {
    /// Takes note of an attempt that has ended. What was not written waits again, before what came meanwhile.
    fn account(&mut self, batch: Vec<Vec<u8>>, written: bool, result: Result<(), LedgerError>) {
        if written {
            self.bytes -= batch.iter().map(Vec::len).sum::<usize>();
            self.unsynced += batch.len() as u64;
        } else {
            batch.into_iter().rev().for_each(|text| self.waiting.push_front(text));
        }
        self.ended = self.begun;
        match result {
            Ok(()) => {
                self.safe += self.unsynced;
                self.unsynced = 0;
                self.error = None;
            }
            Err(error) => self.error = Some(Arc::new(error)),
        }
    }
}
