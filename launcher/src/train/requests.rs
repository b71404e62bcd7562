//! Requests to stop: signals that come in, kept until the ranks can take them, then handed on.
use std::path::PathBuf;
use std::process::Child;
use std::time::{Duration, Instant, SystemTime};

use rustix::process::{Pid, Signal, kill_process};
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM, SIGUSR1};
use signal_hook::iterator::Signals;

use crate::failure::{Failure, Kind};
use crate::output::say;
use crate::train::directory::RunDirectory;

/// How long a request waits for the ranks to say that they have started.
const PATIENCE: Duration = Duration::from_secs(30);

/// The signals of this process while ranks are at work.
pub(crate) struct Requests {
    signals: Signals,
    /// There is one rank, and no mpirun above it.
    solo: bool,
    logs: Vec<Log>,
    count: u32,
    /// A second Ctrl-C came: nobody waits for the step.
    at_once: bool,
    /// When the request came that the ranks have not been given yet.
    waiting: Option<Instant>,
}

impl Requests {
    /// Listens from now on, before the ranks are started.
    pub(crate) fn listen(directory: &RunDirectory, ranks: u64) -> Result<Requests, Failure> {
        let signals = Signals::new(stop_signals())
            .map_err(|error| Failure::new(Kind::Failed, format_args!("cannot watch for signals: {error}")))?;
        let logs = (0..ranks).map(|rank| Log::new(directory.log(rank))).collect();
        Ok(Requests { signals, solo: ranks == 1, logs, count: 0, at_once: false, waiting: None })
    }

    /// Whether a stop was asked for.
    pub(crate) fn any(&self) -> bool {
        self.count > 0
    }

    /// Whether the ranks were ended in the middle of what they did, on request.
    pub(crate) fn at_once(&self) -> bool {
        self.at_once
    }

    /// What ends the ranks where they are. mpirun hands SIGUSR2 on to ranks that listen, and they leave at once; at SIGTERM it waits for
    /// seconds before it kills them, and they go on meanwhile.
    fn end_at_once(&self, listening: bool) -> Signal {
        match (self.solo, listening) {
            (true, _) => Signal::KILL,
            (false, true) => Signal::USR2,
            (false, false) => Signal::TERM,
        }
    }

    /// Takes in what has come and hands it on. `stepping` says that the ranks are known to be at work.
    ///
    /// The first signal of any kind asks for a stop at the next step. mpirun hands only SIGUSR1 on to its ranks (at SIGTERM it
    /// kills them), so that is what it gets; and not before every rank has opened its log, which it does once it handles signals:
    /// until then SIGUSR1 would end it. A second Ctrl-C means now.
    pub(crate) fn heed(&mut self, child: &Child, stepping: bool) {
        for signal in self.signals.pending().collect::<Vec<_>>() {
            self.count += 1;
            if self.count == 1 {
                say(format_args!("stopping after this step with a checkpoint (Ctrl-C again: at once)"));
                self.waiting = Some(Instant::now());
            } else if signal == SIGINT {
                say(format_args!("stopping now, without another checkpoint"));
                let listening = stepping || self.logs.iter().all(Log::has_changed);
                (self.waiting, self.at_once) = (None, true);
                send(child, self.end_at_once(listening));
            }
        }
        let due = |since: Instant| stepping || self.logs.iter().all(Log::has_changed) || since.elapsed() >= PATIENCE;
        if self.waiting.is_some_and(due) {
            self.waiting = None;
            send(child, Signal::USR1);
        }
    }
}

/// A rank's log, and what it was before the rank started: a run that is resumed appends to it.
struct Log {
    path: PathBuf,
    before: Option<(SystemTime, u64)>,
}

impl Log {
    fn new(path: PathBuf) -> Log {
        let mut log = Log { path, before: None };
        log.before = log.now();
        log
    }

    fn now(&self) -> Option<(SystemTime, u64)> {
        let metadata = std::fs::metadata(&self.path).ok()?;
        Some((metadata.modified().ok()?, metadata.len()))
    }

    fn has_changed(&self) -> bool {
        self.now() != self.before
    }
}

fn send(child: &Child, signal: Signal) {
    if let Some(pid) = i32::try_from(child.id()).ok().and_then(Pid::from_raw) {
        // A child that has just ended needs no signal.
        let _ = kill_process(pid, signal);
    }
}

/// The signals that ask for a stop. SIGHUP is left alone where it is ignored already: who types `nohup` wants the run to outlive
/// the terminal.
pub(crate) fn stop_signals() -> Vec<i32> {
    let hangup = (!hangup_is_ignored()).then_some(SIGHUP);
    [SIGINT, SIGTERM, SIGUSR1].into_iter().chain(hangup).collect()
}

/// What the kernel says of this process.
fn hangup_is_ignored() -> bool {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let mask = status.lines().find_map(|line| line.strip_prefix("SigIgn:")).map(str::trim);
    mask.and_then(|mask| u64::from_str_radix(mask, 16).ok()).is_some_and(|mask| mask & (1 << (SIGHUP - 1)) != 0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_log_has_changed_when_it_appears_or_grows() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("rank-00000.log");
        let log = Log::new(path.clone());
        assert!(!log.has_changed());
        std::fs::write(&path, "").unwrap();
        assert!(log.has_changed());
        let resumed = Log::new(path.clone());
        assert!(!resumed.has_changed());
        std::fs::write(&path, "resumed\n").unwrap();
        assert!(resumed.has_changed());
    }
}
