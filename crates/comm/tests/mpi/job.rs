//! Starting ranks under mpirun and reading what they report.

use std::{
    env,
    fmt::Write as _,
    fs,
    path::PathBuf,
    process::{Command, Output, Stdio},
    sync::{Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use tempfile::TempDir;

/// The variable that tells a rank which program to run.
pub(crate) const CASE: &str = "SIROCCO_COMM_CASE";
const REPORTS: &str = "SIROCCO_COMM_REPORTS";

/// Where a rank of a job writes what it found: one file per process, complete when it ends.
pub(crate) struct Report(PathBuf);

impl Report {
    pub(crate) fn open() -> Self {
        Report(PathBuf::from(env::var(REPORTS).unwrap()))
    }

    /// The report of rank `rank`.
    pub(crate) fn write(&self, rank: usize, text: &str) {
        fs::write(self.0.join(rank.to_string()), text).unwrap();
    }
}

/// A job that has ended.
pub(crate) struct Ended {
    pub(crate) output: Output,
    pub(crate) took: Duration,
    reports: TempDir,
}

impl Ended {
    /// What rank `rank` reported, "" if it did not.
    pub(crate) fn report(&self, rank: usize) -> String {
        fs::read_to_string(self.reports.path().join(rank.to_string())).unwrap_or_default()
    }

    /// Fails the test unless all ranks ended well.
    pub(crate) fn well(self) -> Self {
        assert!(self.output.status.success(), "{}", self.told());
        self
    }

    /// Everything the job said, for a failing test.
    pub(crate) fn told(&self) -> String {
        let mut told = format!("{} after {:?}\n", self.output.status, self.took);
        for (name, text) in [("stdout", &self.output.stdout), ("stderr", &self.output.stderr)] {
            let _ = writeln!(told, "{name}: {}", String::from_utf8_lossy(text));
        }
        for rank in 0..8 {
            let _ = writeln!(told, "rank {rank}: {}", self.report(rank));
        }
        told
    }
}

/// Jobs run one at a time: the ranks share the cores, and some tests are about time.
fn turn() -> MutexGuard<'static, ()> {
    static TURN: Mutex<()> = Mutex::new(());
    TURN.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Runs `case` on `ranks` ranks.
pub(crate) fn run(case: &str, ranks: usize) -> Ended {
    run_with(case, ranks, &[])
}

/// Runs `case` on `ranks` ranks, with more arguments for mpirun.
pub(crate) fn run_with(case: &str, ranks: usize, arguments: &[&str]) -> Ended {
    let _turn = turn();
    let reports = tempfile::tempdir().unwrap();
    let started = Instant::now();
    let output = Command::new("mpirun")
        .args(["-n", &ranks.to_string(), "--oversubscribe", "--bind-to", "none"])
        .args(arguments)
        .arg(env::current_exe().unwrap())
        .args(["rank_program", "--exact", "--nocapture", "--test-threads=1"])
        .env("OMPI_ALLOW_RUN_AS_ROOT", "1")
        .env("OMPI_ALLOW_RUN_AS_ROOT_CONFIRM", "1")
        .env(CASE, case)
        .env(REPORTS, reports.path())
        .stdin(Stdio::null())
        .output()
        .expect("mpirun runs");
    Ended { output, took: started.elapsed(), reports }
}
