//! A run directory: its files, whether it may be used, and the lock that keeps a second trainer out.

mod lock;

use std::ffi::OsStr;
use std::fs::{self, File};
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};

use sirocco_checkpoint::{Checkpoint, Checkpoints};
use sirocco_config::{Run, RunFile, shell_word};
use sirocco_custody::TEXTS;

use crate::chain::record;
use crate::failure::{Failure, Kind};
use crate::output::say;
use crate::programs::absolute;
use crate::train::metrics::Curve;
use crate::train::several::members;

/// What a preparation that was broken off can leave, besides a ledger and the texts that decided.
const LEAVINGS: [&str; 3] = ["tokens", ".lock", "run.toml.partial"];

/// What only a run has: one of these is there from its preparation on.
const BEGUN: [&str; 5] = [".lock", "tokens", "logs", "checkpoints", record::FILE];

/// `runs/NAME`, absolute.
#[derive(Debug)]
pub(crate) struct RunDirectory {
    path: PathBuf,
    /// As typed, for messages and for the command that resumes.
    shown: PathBuf,
}

impl RunDirectory {
    /// The ledger, in it.
    pub(crate) const LEDGER: &str = "ledger";

    /// A directory that holds a run.
    pub(crate) fn existing(shown: &Path) -> Result<RunDirectory, Failure> {
        let directory = RunDirectory { path: absolute(shown)?, shown: shown.to_owned() };
        if !directory.run_file().is_file() {
            if let Some(first) = members(shown)?.first() {
                let message = format!("{} holds several runs: expected one of them", shown.display());
                let first = shell_word(&first.path.display().to_string());
                return Err(Failure::usage(message).help(format_args!("name one, such as {first}")));
            }
            let message = format_args!("{} holds no run: expected run.toml in it", shown.display()).to_string();
            return Err(Failure::usage(message).help("sirocco train RUN.toml starts a run"));
        }
        if !directory.was_begun() {
            let message = format!("{} holds a run file, and no run was begun in it", shown.display());
            let file = shell_word(&directory.typed_run_file().display().to_string());
            return Err(Failure::usage(message).help(format_args!("sirocco train {file} starts it, in a directory of its own")));
        }
        Ok(directory)
    }

    /// Whether `sirocco train` has ever prepared a run here. What `sirocco init` made is no run yet: paths in its file start where it is used.
    fn was_begun(&self) -> bool {
        BEGUN.iter().any(|name| self.path.join(name).exists())
    }

    /// A directory for a new run. `true` if this call made it. One that holds anything but the leavings of a preparation
    /// that was broken off is refused: nothing is ever overwritten.
    pub(crate) fn for_new_run(shown: &Path) -> Result<(RunDirectory, bool), Failure> {
        let directory = RunDirectory { path: absolute(shown)?, shown: shown.to_owned() };
        directory.refuse_other_contents(directory.at_work().as_deref())?;
        let made = !directory.path.exists();
        fs::create_dir_all(&directory.path).map_err(|error| directory.failed("cannot be made", &error))?;
        Ok((directory, made))
    }

    /// Whether a new run could have the directory; makes nothing.
    pub(crate) fn free(shown: &Path) -> Result<(), Failure> {
        let directory = RunDirectory { path: absolute(shown)?, shown: shown.to_owned() };
        directory.refuse_other_contents(directory.at_work().as_deref())
    }

    /// Refuses a directory that holds a run, or anything that is not ours. `at_work` is who works on that run, if anybody does.
    pub(crate) fn refuse_other_contents(&self, at_work: Option<&str>) -> Result<(), Failure> {
        let shown = self.shown.display();
        if self.run_file().is_file() {
            if !self.was_begun() {
                let message = format!("{shown} holds a run file: expected a directory of its own for the run");
                return Err(Failure::usage(message).help("leave --dir out, or name a new directory"));
            }
            let name = RunFile::read(&self.run_file()).ok().and_then(|file| file.check(Path::new("/")).ok()).map(|run| run.name);
            let name = name.map_or_else(String::new, |name| format!(" {name:?}"));
            let step = Curve::read(&self.metrics()).map_or(0, |curve| curve.step());
            let (now, on) = match at_work {
                Some(who) => (format!("which is in progress ({who})"), self.watch_advice()),
                None => (format!("at step {step}"), format!("sirocco train {} resumes it", self.word())),
            };
            let message = format!("{shown} already holds the run{name}, {now}: expected a directory without one");
            return Err(Failure::usage(message).help(format_args!("{on}; for a new run choose another name, or --dir")));
        }
        let entries = match fs::read_dir(&self.path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
            other => other.map_err(|error| self.failed("cannot be read", &error))?,
        };
        let foreign = entries.flatten().map(|entry| entry.file_name()).find(|name| !self.is_leaving(name));
        match foreign {
            None => Ok(()),
            Some(name) => {
                let message = format!("{shown} is not empty (it holds {}): expected a new directory", name.display());
                Err(Failure::usage(message).help("choose another name for the run, or --dir"))
            }
        }
    }

    /// Whether a preparation can have left that. It takes the lock first, seals no ledger and keeps texts in folders: rules that somebody has
    /// put here, and the history of a run whose rest was removed, are none of its leavings.
    fn is_leaving(&self, name: &OsStr) -> bool {
        let (path, is_locked) = (self.path.join(name), self.lock_file().exists());
        if name == RunDirectory::LEDGER {
            return is_locked && !path.join("checkpoint").exists();
        }
        if name == TEXTS {
            let mut entries = fs::read_dir(&path).into_iter().flatten().flatten();
            return is_locked && entries.all(|entry| entry.path().is_dir());
        }
        LEAVINGS.iter().any(|known| name == *known)
    }

    /// Removes what a preparation that failed has left, so that the next attempt finds no obstacle.
    pub(crate) fn clear(&self, made: bool) {
        // The failure that is about to be shown matters more than these.
        let _ = fs::remove_dir_all(self.tokens());
        for name in [RunDirectory::LEDGER, TEXTS].into_iter().filter(|name| self.is_leaving(name.as_ref())) {
            let _ = fs::remove_dir_all(self.path.join(name));
        }
        let _ = fs::remove_file(self.path.join("run.toml.partial"));
        let _ = fs::remove_file(self.lock_file());
        if made {
            let _ = fs::remove_dir(&self.path);
        }
    }

    /// Removes token caches that are not finished.
    pub(crate) fn clear_partial_tokens(&self) {
        let entries = fs::read_dir(self.tokens()).into_iter().flatten().flatten();
        for entry in entries.filter(|entry| entry.file_name().to_string_lossy().contains(".partial.")) {
            // What stays is replaced or passed over by the next preparation.
            let _ = fs::remove_file(entry.path());
        }
    }

    /// Writes run.toml, whole or not at all.
    pub(crate) fn write_run(&self, run: &Run) -> Result<(), Failure> {
        let text = run.to_toml()?;
        let temporary = self.path.join("run.toml.partial");
        let write = || -> io::Result<()> {
            let mut file = File::create(&temporary)?;
            file.write_all(text.as_bytes())?;
            file.sync_all()?;
            fs::rename(&temporary, self.run_file())
        };
        write().map_err(|error| Failure::new(Kind::Failed, format_args!("{}: cannot write: {error}", self.run_file().display())))
    }

    /// The step of the newest checkpoint.
    pub(crate) fn newest_checkpoint(&self) -> Result<Option<u64>, Failure> {
        Ok(Checkpoints::new(&self.path).latest()?)
    }

    /// The newest checkpoint, after reading every byte of it and comparing it with the digests of when it was written.
    pub(crate) fn whole_checkpoint(&self) -> Result<Option<Checkpoint>, Failure> {
        Ok(Checkpoints::new(&self.path).load_latest()?)
    }

    /// Says so where the file is missing that names the newest checkpoint.
    pub(crate) fn warn_of_missing_latest(&self) -> Result<(), Failure> {
        let checkpoints = Checkpoints::new(&self.path);
        if checkpoints.lacks_latest()? {
            let step = checkpoints.latest()?.unwrap_or(0);
            let path = self.shown.join("checkpoints/LATEST");
            say(format_args!("warning: {} is missing: going on from the newest checkpoint, step {step}", path.display()));
        }
        Ok(())
    }

    /// Says so where steps were done and nothing was saved of them, or nothing is there any more.
    pub(crate) fn warn_of_lost_steps(&self, done: u64) -> Result<(), Failure> {
        if done > 0 && self.newest_checkpoint()?.is_none() {
            let shown = self.shown();
            say(format_args!(
                "warning: {shown} has done {done} steps, but holds no checkpoint: it begins anew, and so do its metrics"
            ));
        }
        Ok(())
    }

    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    pub(crate) fn shown(&self) -> std::path::Display<'_> {
        self.shown.display()
    }

    /// The directory in a command to type.
    pub(crate) fn word(&self) -> String {
        shell_word(&self.shown.display().to_string())
    }

    fn lock_file(&self) -> PathBuf {
        self.path.join(".lock")
    }

    pub(crate) fn run_file(&self) -> PathBuf {
        self.path.join("run.toml")
    }

    /// The same as typed, for messages that name its lines.
    pub(crate) fn typed_run_file(&self) -> PathBuf {
        self.typed(Path::new("run.toml"))
    }

    /// A file of the run as a person would type it.
    pub(crate) fn typed(&self, name: &Path) -> PathBuf {
        self.shown.join(name)
    }

    pub(crate) fn metrics(&self) -> PathBuf {
        self.path.join("metrics.jsonl")
    }

    pub(crate) fn tokens(&self) -> PathBuf {
        self.path.join("tokens")
    }

    /// Bytes of a checkpoint; 0 of one that is not there.
    pub(crate) fn checkpoint_bytes(&self, step: u64) -> u64 {
        let files = fs::read_dir(self.path.join(format!("checkpoints/step-{step:08}"))).into_iter().flatten().flatten();
        files.filter_map(|file| file.metadata().ok()).map(|file| file.len()).sum()
    }

    /// Logs of ranks, and what Slurm kept of the outputs of jobs.
    pub(crate) fn logs(&self) -> PathBuf {
        self.path.join("logs")
    }

    /// The log of a rank, as the trainer names it.
    pub(crate) fn log(&self, rank: u64) -> PathBuf {
        self.logs().join(format!("rank-{rank:05}.log"))
    }

    /// What a job has written on its outputs.
    pub(crate) fn job_output(&self, job: &str) -> PathBuf {
        self.logs().join(format!("job-{job}.out"))
    }

    fn failed(&self, what: &str, error: &io::Error) -> Failure {
        Failure::new(Kind::Failed, format_args!("{} {what}: {error}", self.shown.display()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_an_empty_directory_or_broken_off_preparation_will_do() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("runs/x");
        let (directory, made) = RunDirectory::for_new_run(&path).unwrap();
        assert!(made);
        fs::create_dir(directory.tokens()).unwrap();
        fs::write(path.join("run.toml.partial"), "").unwrap();
        assert!(!RunDirectory::for_new_run(&path).unwrap().1);
        fs::write(directory.tokens().join(".train.tokens.partial.7"), "").unwrap();
        fs::write(directory.tokens().join("train.tokens"), "").unwrap();
        directory.clear_partial_tokens();
        let left: Vec<_> = fs::read_dir(directory.tokens()).unwrap().flatten().map(|entry| entry.file_name()).collect();
        assert_eq!(left, ["train.tokens"]);
        directory.clear(true);
        assert!(!path.exists());

        fs::create_dir_all(&path).unwrap();
        fs::write(path.join("thesis.tex"), "").unwrap();
        assert!(RunDirectory::for_new_run(&path).unwrap_err().message.contains("thesis.tex"));
        fs::write(path.join("run.toml"), "").unwrap();
        assert!(RunDirectory::for_new_run(&path).unwrap_err().message.contains("holds a run file"));
        fs::create_dir(path.join("tokens")).unwrap();
        let failure = RunDirectory::for_new_run(&path).unwrap_err();
        assert!(failure.message.contains("already holds the run"), "{failure:?}");
        assert_eq!(failure.kind, Kind::Usage);
    }

    #[test]
    fn rules_and_histories_that_were_there_are_no_leavings() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("work");
        fs::create_dir_all(path.join("policy")).unwrap();
        fs::write(path.join("policy/rules.cedar"), "").unwrap();
        assert!(RunDirectory::for_new_run(&path).unwrap_err().message.contains("policy"));
        let directory = RunDirectory { path: path.clone(), shown: path.clone() };
        drop(directory.lock().unwrap());
        fs::create_dir(path.join("ledger")).unwrap();
        fs::write(path.join("ledger/checkpoint"), "").unwrap();
        directory.clear(true);
        assert!(path.join("policy/rules.cedar").exists() && path.join("ledger/checkpoint").exists());
        fs::remove_file(path.join("policy/rules.cedar")).unwrap();
        fs::remove_file(path.join("ledger/checkpoint")).unwrap();
        fs::create_dir(path.join("policy/0-0")).unwrap();
        drop(directory.lock().unwrap());
        directory.clear(true);
        assert!(!path.exists());
    }

    #[test]
    fn commands_to_type_are_whole_for_a_shell() {
        let dir = tempfile::tempdir().unwrap();
        let (directory, _) = RunDirectory::for_new_run(&dir.path().join("a;b")).unwrap();
        let quoted = format!("'{}'", directory.shown());
        fs::write(directory.run_file(), "").unwrap();
        fs::create_dir(directory.tokens()).unwrap();
        let help = directory.refuse_other_contents(None).unwrap_err().help.unwrap();
        assert!(help.starts_with(&format!("sirocco train {quoted} resumes it")), "{help}");
        let _held = directory.lock().unwrap();
        let help = directory.refuse_at_work().unwrap_err().help.unwrap();
        assert!(help.starts_with(&format!("sirocco status {quoted} shows")), "{help}");
    }
}
