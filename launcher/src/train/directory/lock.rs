//! The lock of a run directory: one program at a time is at work on a run, and every other is told which.
use std::fs::{File, TryLockError};
use std::time::Duration;

use super::RunDirectory;
use crate::failure::Failure;
use crate::train::holder::Holder;

/// Who only looks whether a run is in progress holds its lock for a moment: a lock is asked for again after this long, as often
/// as this.
const GLANCE: Duration = Duration::from_millis(10);
const GLANCES: usize = 5;

impl RunDirectory {
    /// Keeps every other `sirocco train` out of the directory. The lock belongs to the open file, which is the standard input of
    /// the process that is started (the only rank, or mpirun, which outlives its ranks): it holds until that has ended, even
    /// if this program is killed.
    pub(crate) fn lock(&self) -> Result<File, Failure> {
        let open = || File::options().create(true).append(true).read(true).open(self.lock_file());
        let file = open().map_err(|error| self.failed("cannot be written", &error))?;
        let mut taken = file.try_lock();
        for _ in 0..GLANCES {
            if matches!(taken, Err(TryLockError::WouldBlock)) {
                std::thread::sleep(GLANCE);
                taken = file.try_lock();
            }
        }
        match taken {
            Err(TryLockError::WouldBlock) => Err(self.is_at_work(&self.holder())),
            // Some parallel file systems have no locks; a run there is as safe as its owner is careful.
            Ok(()) | Err(TryLockError::Error(_)) => {
                Holder::this_process().write(&file);
                Ok(file)
            }
        }
    }

    /// Notes which process the run's ranks end with, for people who find it at work without the program that started it.
    pub(crate) fn note_worker(&self, pid: u32) {
        if let Ok(file) = File::options().append(true).open(self.lock_file()) {
            Holder::with_worker(pid).write(&file);
        }
    }

    /// Who is at work on the run, in words; none where nobody is.
    pub(crate) fn at_work(&self) -> Option<String> {
        let locked = |file: File| matches!(file.try_lock_shared(), Err(TryLockError::WouldBlock));
        File::open(self.lock_file()).is_ok_and(locked).then(|| self.holder())
    }

    /// Refuses a run that somebody is at work on; makes nothing.
    pub(crate) fn refuse_at_work(&self) -> Result<(), Failure> {
        self.at_work().map_or(Ok(()), |who| Err(self.is_at_work(&who)))
    }

    fn is_at_work(&self, who: &str) -> Failure {
        let message = format!("{}: another sirocco train is at work on this run ({who})", self.shown.display());
        let stop = Holder::read(&self.lock_file()).and_then(|holder| holder.how_to_stop());
        let stop = stop.map_or_else(String::new, |how| format!("; {how}"));
        Failure::usage(message).help(format_args!("{}{stop}", self.watch_advice()))
    }

    /// Who took the lock, in words.
    fn holder(&self) -> String {
        let named = Holder::read(&self.lock_file()).map(|holder| holder.to_string());
        named.unwrap_or_else(|| "started by a process that left no name".to_owned())
    }

    pub(super) fn watch_advice(&self) -> String {
        format!("sirocco status {} shows what it is doing", self.word())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_run_has_one_trainer_at_a_time() {
        let dir = tempfile::tempdir().unwrap();
        let (directory, _) = RunDirectory::for_new_run(dir.path()).unwrap();
        assert_eq!(directory.at_work(), None);
        let held = directory.lock().unwrap();
        let who = format!("started by process {} on ", std::process::id());
        assert!(directory.at_work().unwrap().starts_with(&who), "{:?}", directory.at_work());
        let refused = directory.lock().unwrap_err().message;
        assert!(refused.contains("at work on this run (") && refused.contains(&who), "{refused}");
        assert_eq!(directory.refuse_at_work().unwrap_err().message, refused);
        drop(held);
        assert!(directory.refuse_at_work().is_ok() && directory.lock().is_ok());
    }
}
