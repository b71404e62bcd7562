//! Who holds a run directory: what the lock file says, for people who find it locked.
use std::fmt;
use std::fs::{self, File};
use std::io::Write as _;
use std::path::Path;
use std::time::{SystemTime, UNIX_EPOCH};

use serde::{Deserialize, Serialize};

use crate::output::duration;

/// The `sirocco train` that took the lock. What holds it is the rank or the mpirun that it has started, which may outlive it.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Holder {
    pid: u32,
    host: String,
    /// Unix time in seconds.
    since: u64,
    /// The only rank, or mpirun, once it is started.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    worker: Option<u32>,
}

impl Holder {
    /// This process, from now on.
    pub(crate) fn this_process() -> Holder {
        Holder { pid: std::process::id(), host: host(), since: now(), worker: None }
    }

    /// The same, once it has started `worker`.
    pub(crate) fn with_worker(worker: u32) -> Holder {
        Holder { worker: Some(worker), ..Holder::this_process() }
    }

    /// What ends a run whose starter is gone; nothing where Ctrl-C does, or where this is not known.
    pub(crate) fn how_to_stop(&self) -> Option<String> {
        let worker = self.worker.filter(|_| self.starter_is_gone())?;
        Some(format!("kill -USR1 {worker} stops it at the next step with a checkpoint"))
    }

    fn starter_is_gone(&self) -> bool {
        self.host == host() && !Path::new("/proc").join(self.pid.to_string()).exists()
    }

    /// Writes it in place of what the file holds. The file then is at its end: whoever gets it as standard input reads nothing.
    pub(crate) fn write(&self, mut file: &File) {
        // It is only for messages, which are worth less than the run.
        let _ = file.set_len(0).and_then(|()| serde_json::to_writer(file, self).map_err(Into::into)).and_then(|()| file.flush());
    }

    /// What the file says; nothing where another version or a crash has left something else.
    pub(crate) fn read(path: &Path) -> Option<Holder> {
        serde_json::from_slice(&fs::read(path).ok()?).ok()
    }
}

impl fmt::Display for Holder {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let ago = duration(now().saturating_sub(self.since) as f64);
        write!(out, "started by process {} on {}, {ago} ago", self.pid, self.host)?;
        match self.worker.filter(|_| self.starter_is_gone()) {
            Some(worker) => write!(out, "; that has ended, and process {worker} goes on"),
            None => Ok(()),
        }
    }
}

/// This machine's name.
pub(crate) fn host() -> String {
    fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default().trim().to_owned()
}

/// A clock before 1970 says nothing about how long.
fn now() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Read as _;

    #[test]
    fn what_is_written_is_read_and_the_file_is_at_its_end() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join(".lock");
        fs::write(&path, "an older version's words, and longer than those of this one because they go on and on and on").unwrap();
        assert!(Holder::read(&path).is_none());
        let mut file = File::options().append(true).read(true).open(&path).unwrap();
        Holder { pid: 7, host: "cn1".to_owned(), since: now() - 75, worker: Some(8) }.write(&file);
        let mut rest = String::new();
        file.read_to_string(&mut rest).unwrap();
        assert_eq!(rest, "");
        let said = Holder::read(&path).unwrap().to_string();
        assert!(said.starts_with("started by process 7 on cn1, 1:1") && said.ends_with(" min ago"), "{said}");
    }

    #[test]
    fn of_a_starter_that_is_gone_it_is_said_who_goes_on_and_how_that_is_stopped() {
        let mut child = std::process::Command::new("true").spawn().unwrap();
        let gone = child.id();
        child.wait().unwrap();
        let here = Holder::with_worker(8);
        assert_eq!(here.how_to_stop(), None);
        let left = Holder { pid: gone, ..here };
        assert!(left.to_string().ends_with("; that has ended, and process 8 goes on"), "{left}");
        assert!(left.how_to_stop().unwrap().starts_with("kill -USR1 8 stops it"));
    }
}
