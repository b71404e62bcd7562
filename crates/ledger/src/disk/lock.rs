//! A file that processes lock in turn: by flock(2), and by names where the file system has no such locks.

use std::fs::File;
use std::path::PathBuf;

use rustix::fs::FlockOperation;
use rustix::io::Errno;

use crate::LedgerError;
use crate::disk::files;
use crate::disk::named_lock::{self, NamedLock};

/// flock(2), or what a test has in its place.
type Flock = fn(&File, FlockOperation) -> rustix::io::Result<()>;

/// A file that processes lock in turn. It is made if it is missing and never removed.
pub(super) struct LockFile {
    path: PathBuf,
    file: File,
    flock: Flock,
}

impl LockFile {
    pub(super) fn open(path: PathBuf) -> Result<Self, LedgerError> {
        Ok(Self { file: files::open(&path, true)?, path, flock: |file, operation| rustix::fs::flock(file, operation) })
    }

    /// Waits until nobody else holds it. Threads that share this value have to take turns by themselves.
    pub(super) fn hold(&self) -> Result<Held<'_>, LedgerError> {
        loop {
            return match (self.flock)(&self.file, FlockOperation::LockExclusive) {
                Ok(()) => Ok(Held { file: Some(self), _named: None }),
                Err(Errno::INTR) => continue,
                // ENOLCK is none of them: where memory for locks is short, others hold theirs by flock(2).
                Err(Errno::NOSYS | Errno::OPNOTSUPP) => {
                    Ok(Held { file: None, _named: Some(named_lock::hold(&self.path, named_lock::PATIENCE)?) })
                }
                Err(error) => Err(LedgerError::io("lock", &self.path, error.into())),
            };
        }
    }
}

/// The lock, until this is dropped.
pub(super) struct Held<'a> {
    file: Option<&'a LockFile>,
    _named: Option<NamedLock>,
}

impl Drop for Held<'_> {
    fn drop(&mut self) {
        if let Some(lock) = self.file {
            // It cannot fail on a file that was locked; if it did, closing the file would unlock it.
            let _ = (lock.flock)(&lock.file, FlockOperation::Unlock);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_at_a_time_also_where_the_file_system_has_no_locks() {
        let refusals: [Flock; 2] = [|_, _| Err(Errno::OPNOTSUPP), |_, _| Err(Errno::NOSYS)];
        for flock in refusals {
            let folder = tempfile::tempdir().unwrap();
            let (lock, count) = (folder.path().join("lock"), folder.path().join("count"));
            std::fs::write(&count, "0").unwrap();
            std::thread::scope(|scope| {
                for _ in 0..4 {
                    scope.spawn(|| {
                        let lock = LockFile { flock, ..LockFile::open(lock.clone()).unwrap() };
                        for _ in 0..50 {
                            let _held = lock.hold().unwrap();
                            let number: u32 = std::fs::read_to_string(&count).unwrap().parse().unwrap();
                            std::thread::yield_now();
                            std::fs::write(&count, (number + 1).to_string()).unwrap();
                        }
                    });
                }
            });
            assert_eq!(std::fs::read_to_string(&count).unwrap(), "200");
            assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 2, "released locks leave nothing");
        }
    }

    #[test]
    fn another_refusal_is_an_error() {
        let refusals: [Flock; 2] = [|_, _| Err(Errno::IO), |_, _| Err(Errno::NOLCK)];
        for flock in refusals {
            let folder = tempfile::tempdir().unwrap();
            let lock = LockFile { flock, ..LockFile::open(folder.path().join("lock")).unwrap() };
            assert!(matches!(lock.hold(), Err(LedgerError::Io { action: "lock", .. })));
            assert!(std::fs::read_dir(folder.path()).unwrap().count() == 1, "no other lock was taken");
        }
    }
}
