//! The other two programs, found beside this one, and mpirun, found on PATH.
use std::ffi::OsString;
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;

use sirocco_config::environment;

use crate::confined;
use crate::failure::{Failure, Kind};

/// One MPI rank of a run; export and evaluation.
pub(crate) const TRAINER: &str = "sirocco-train";
/// The inference server.
pub(crate) const SERVER: &str = "sirocco-serve";

/// The path of `name` beside the running executable.
pub(crate) fn beside(name: &str) -> Result<PathBuf, Failure> {
    let own = std::env::current_exe()
        .and_then(std::fs::canonicalize)
        .map_err(|error| Failure::new(Kind::Machine, format_args!("cannot find the directory of this program: {error}")))?;
    let path = own.with_file_name(name);
    if path.is_file() {
        return Ok(path);
    }
    let message = format_args!("{} is not there: expected beside {}", path.display(), own.display()).to_string();
    Err(Failure::new(Kind::Machine, message).help("make build makes all three programs; make install puts them side by side"))
}

/// Becomes `name` with `arguments`: same process, same terminal, its exit code. Returns only if that fails.
pub(crate) fn become_program(name: &str, arguments: impl IntoIterator<Item = OsString>) -> Failure {
    let path = match beside(name) {
        Ok(path) => path,
        Err(failure) => return failure,
    };
    let mut command = Command::new(&path);
    confined::hand_on(settle(command.args(arguments)));
    let error = command.exec();
    Failure::new(Kind::Machine, format_args!("{}: cannot be started: {error}", path.display()))
}

/// Settles how a program that computes waits and keeps memory, unless the user has said so.
///
/// Freed memory is kept: a step frees gigabytes that the next one wants again, and faulting them in anew took a tenth of its
/// time. Waiting threads give their cores up soon. OpenMP threads wait for each other many times in a token. By default they spin
/// for milliseconds first; when something else wants the cores, a chat answer then takes ten times as long or more. Spinning
/// briefly costs nothing on a machine of one's own.
pub(crate) fn settle(command: &mut Command) -> &mut Command {
    let said = |variable: environment::Variable| std::env::var_os(variable.name).is_some();
    if !said(environment::PURGE_DELAY) {
        command.env(environment::PURGE_DELAY.name, "-1");
    }
    if !said(environment::SPIN_COUNT) && !said(environment::WAIT_POLICY) {
        command.env(environment::SPIN_COUNT.name, "1000");
    }
    command
}

/// The `mpirun` of this machine and the options that it understands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Mpirun {
    pub(crate) path: PathBuf,
    pub(crate) flavour: Flavour,
    /// The first line of `mpirun --version`.
    pub(crate) version: String,
}

/// Families of mpirun that differ in their options.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Flavour {
    /// Open MPI up to 4.
    OpenMpi,
    /// Open MPI 5 and later, whose launcher is PRRTE.
    OpenMpi5,
    /// MPICH, Intel MPI, MVAPICH.
    Hydra,
}

impl Mpirun {
    /// Finds mpirun and asks it what it is.
    pub(crate) fn find() -> Result<Mpirun, Failure> {
        let path = std::env::var_os(environment::MPIRUN.name).map_or_else(|| on_path("mpirun"), PathBuf::from);
        let missing = |reason: &dyn std::fmt::Display| {
            Failure::new(Kind::Machine, format_args!("{}: cannot be started: {reason}", path.display())).help(MPI_ADVICE)
        };
        let output = Command::new(&path).arg("--version").output().map_err(|error| missing(&error))?;
        if !output.status.success() {
            return Err(missing(&output.status));
        }
        let version =
            String::from_utf8_lossy(&output.stdout).lines().find(|line| !line.trim().is_empty()).unwrap_or("").to_owned();
        Ok(Mpirun { flavour: flavour(&version), version: version.trim().to_owned(), path })
    }

    /// The options before the program: how many ranks, no binding to cores (the ranks share them by `--threads`), and lines
    /// marked with the rank that wrote them.
    pub(crate) fn options(&self, ranks: u64) -> Vec<String> {
        let words: &[&str] = match self.flavour {
            // Nobody reads what mpirun is given to read: it is only held open, and handing it on has crashed mpirun when ranks ended early.
            Flavour::OpenMpi => &["--bind-to", "none", "--oversubscribe", "--tag-output", "--stdin", "none"],
            Flavour::OpenMpi5 => &["--bind-to", "none", "--map-by", ":OVERSUBSCRIBE", "--output", "tag"],
            Flavour::Hydra => &["-bind-to", "none", "-prepend-rank"],
        };
        ["-n".to_owned(), ranks.to_string()].into_iter().chain(words.iter().map(|word| (*word).to_owned())).collect()
    }
}

/// A program on PATH, or its bare name, whose start will then say that it is not there.
fn on_path(name: &str) -> PathBuf {
    let directories = std::env::var_os(environment::PATH.name).unwrap_or_default();
    let found = std::env::split_paths(&directories).map(|directory| directory.join(name)).find(|path| path.is_file());
    found.unwrap_or_else(|| PathBuf::from(name))
}

/// Whether a program of that name is on PATH; it is not started.
pub(crate) fn is_on_path(name: &str) -> bool {
    on_path(name) != Path::new(name)
}

/// How a machine gets MPI.
pub(crate) const MPI_ADVICE: &str =
    "make setup installs it on Debian and Ubuntu; on a cluster: module load OpenMPI; elsewhere name it with SIROCCO_MPIRUN";

fn flavour(version: &str) -> Flavour {
    let major = |rest: &str| rest.trim().split('.').next().and_then(|number| number.parse::<u32>().ok());
    match version.split_once("(Open MPI)") {
        Some((_, rest)) if major(rest).is_some_and(|major| major >= 5) => Flavour::OpenMpi5,
        Some(_) => Flavour::OpenMpi,
        None => Flavour::Hydra,
    }
}

/// The absolute form of a path as typed, without asking the file system.
pub(crate) fn absolute(path: &Path) -> Result<PathBuf, Failure> {
    std::path::absolute(path).map_err(|error| Failure::usage(format_args!("{}: {error}", path.display())))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn flavours_are_told_apart_by_the_first_line() {
        assert_eq!(flavour("mpirun (Open MPI) 4.1.4"), Flavour::OpenMpi);
        assert_eq!(flavour("mpirun (Open MPI) 5.0.3"), Flavour::OpenMpi5);
        assert_eq!(flavour("HYDRA build details:"), Flavour::Hydra);
        assert_eq!(flavour("Intel(R) MPI Library for Linux* OS, Version 2021.12"), Flavour::Hydra);
    }

    #[test]
    fn a_program_that_is_not_there_is_a_fault_of_the_machine() {
        let failure = beside("sirocco-nothing").unwrap_err();
        assert_eq!(failure.kind, Kind::Machine);
        assert!(failure.help.is_some());
    }
}
