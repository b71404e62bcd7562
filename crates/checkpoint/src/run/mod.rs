//! Checkpoints of a run: one directory per saved step, complete or absent, and LATEST, which names the one to go on from.
//!
//! The format is described in `checkpoints/README.md`.

mod load;
mod manifest;
mod manifest_text;
mod save;
mod staged;
mod tiling;

use std::fs;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};

pub use load::Checkpoint;
pub use manifest::{Cursor, Mesh, RunState, ShardRecord};
use save::Leftover;
pub use save::{CheckpointWriter, Fragment};

use crate::error::{CheckpointError, Result};
use crate::files;

const LATEST: &str = "LATEST";

/// The checkpoints of one run directory.
#[derive(Clone, Debug)]
pub struct Checkpoints {
    dir: PathBuf,
    staging: Option<PathBuf>,
}

impl Checkpoints {
    /// Those under `run_dir/checkpoints`, which need not exist yet. Touches nothing.
    pub fn new(run_dir: &Path) -> Self {
        Self { dir: run_dir.join("checkpoints"), staging: None }
    }

    /// Lets shards be written to `dir` first, on a disk of the node, and copied to their place from there. Touches nothing yet.
    #[must_use]
    pub fn with_staging(self, dir: PathBuf) -> Self {
        Self { staging: Some(dir), ..self }
    }

    /// The directory of all checkpoints.
    pub fn path(&self) -> &Path {
        &self.dir
    }

    /// The directory of one step's checkpoint, whether it exists or not.
    pub fn step_path(&self, step: u64) -> PathBuf {
        self.dir.join(step_name(step))
    }

    /// The step to go on from: the one that LATEST names; where LATEST is missing beside checkpoints, that of the newest of them, since a
    /// run that began anew would write over what they hold; `None` where nothing was ever saved. Nothing is verified: see
    /// [`Checkpoints::load_latest`].
    ///
    /// # Errors
    /// Where LATEST cannot be read, and [`CheckpointError::BadLatest`] where it holds something else than the name of a checkpoint that is
    /// there.
    pub fn latest(&self) -> Result<Option<u64>> {
        let path = self.dir.join(LATEST);
        let Some(text) = self.latest_text()? else {
            return Ok(self.steps()?.pop());
        };
        let name = text.trim_end_matches('\n');
        let Some(step) = parse_step(name) else {
            let found = format!("{:?}", name.chars().take(60).collect::<String>());
            let source = CheckpointError::malformed(&path, "content", found, "a name such as step-00000040");
            return Err(self.unusable(path, source));
        };
        let dir = self.directory_of(step);
        if dir.is_dir() {
            return Ok(Some(step));
        }
        let source = CheckpointError::malformed(&dir, "checkpoint", "no such directory", "what LATEST names");
        Err(self.unusable(dir, source))
    }

    /// Whether LATEST is missing although there are checkpoints: somebody has removed it, or a run died between publishing its first
    /// checkpoint and naming it.
    ///
    /// # Errors
    /// Where LATEST cannot be read or the directory cannot be listed.
    pub fn lacks_latest(&self) -> Result<bool> {
        Ok(self.latest_text()?.is_none() && !self.steps()?.is_empty())
    }

    /// What LATEST holds, if it is there. Where a file is in the place of the directory, nothing was saved; whoever saves will hear of it.
    fn latest_text(&self) -> Result<Option<String>> {
        if self.dir.is_file() { Ok(None) } else { files::read_text_if_there(&self.dir.join(LATEST)) }
    }

    /// The steps of all published checkpoints, in order, whether good or not.
    ///
    /// # Errors
    /// Where the directory cannot be listed.
    pub fn steps(&self) -> Result<Vec<u64>> {
        let mut steps: Vec<u64> = self.entries()?.iter().filter_map(|name| parse_step(name)).collect();
        steps.sort_unstable();
        Ok(steps)
    }

    fn entries(&self) -> Result<Vec<String>> {
        let listed = match fs::read_dir(&self.dir) {
            Err(e) if matches!(e.kind(), ErrorKind::NotFound | ErrorKind::NotADirectory) => return Ok(Vec::new()),
            listed => listed,
        };
        let names = listed.and_then(|all| all.map(|e| e.map(|e| e.file_name().to_string_lossy().into_owned())).collect());
        names.map_err(|e| CheckpointError::io("list", &self.dir, e))
    }

    /// Opens a step's checkpoint after checking the manifest's digest, every file's size and every header. The data is not
    /// compared with its digests: see [`Checkpoint::verify`].
    ///
    /// # Errors
    /// Where anything of it is missing, truncated or contradictory; the file is named.
    pub fn open(&self, step: u64) -> Result<Checkpoint> {
        load::open(&self.directory_of(step), step)
    }

    /// Where a step's checkpoint is: under its name, or, where a job died while it saved that step again, under the other one.
    fn directory_of(&self, step: u64) -> PathBuf {
        let (path, replaced) = (self.step_path(step), self.dir.join(Leftover::Replaced.name(step)));
        if !path.is_dir() && replaced.is_dir() { replaced } else { path }
    }

    /// Opens a step's checkpoint after comparing every file with the digests recorded when it was written.
    ///
    /// # Errors
    /// Where anything of it is missing, truncated, altered or contradictory; the file is named.
    pub fn load(&self, step: u64) -> Result<Checkpoint> {
        let checkpoint = self.open(step)?;
        checkpoint.verify(0, 1)?;
        Ok(checkpoint)
    }

    /// Opens the checkpoint that LATEST names as [`Checkpoints::open`] does; `None` where nothing was ever saved.
    ///
    /// # Errors
    /// As for [`Checkpoints::load_latest`]. Whoever then finds its data altered tells [`Checkpoints::bad_latest`].
    pub fn open_latest(&self) -> Result<Option<Checkpoint>> {
        self.latest()?.map(|step| self.open(step).map_err(|source| self.bad_latest(step, source))).transpose()
    }

    /// Loads the checkpoint that LATEST names as [`Checkpoints::load`] does; `None` where nothing was ever saved.
    ///
    /// # Errors
    /// [`CheckpointError::BadLatest`] where it cannot be used: it says why, and which older one can. Which to take is not
    /// decided here: going back silently would lose steps that somebody paid for.
    pub fn load_latest(&self) -> Result<Option<Checkpoint>> {
        self.latest()?.map(|step| self.load(step).map_err(|source| self.bad_latest(step, source))).transpose()
    }

    /// The error that says why the checkpoint of `step` cannot be used, and which can. Reads older ones until one is good.
    pub fn bad_latest(&self, step: u64, source: CheckpointError) -> CheckpointError {
        self.unusable(self.step_path(step), source)
    }

    fn unusable(&self, path: PathBuf, source: CheckpointError) -> CheckpointError {
        match self.newest_good() {
            Ok(good) => CheckpointError::BadLatest { path, source: Box::new(source), good },
            Err(error) => error,
        }
    }

    /// The step of the newest checkpoint that passes every check of [`Checkpoints::load`].
    ///
    /// # Errors
    /// Where the directory cannot be listed.
    pub(crate) fn newest_good(&self) -> Result<Option<u64>> {
        Ok(self.steps()?.into_iter().rev().find(|step| self.load(*step).is_ok()))
    }

    /// Removes old checkpoints, keeping the newest `keep` (at least one) up to the one that LATEST names.
    /// Returns the steps that were removed. Checkpoints beyond LATEST stay: they belong to a future that was given up.
    ///
    /// # Errors
    /// Where a directory cannot be removed.
    pub fn prune(&self, keep: usize) -> Result<Vec<u64>> {
        let Some(latest) = self.latest()? else {
            return Ok(Vec::new());
        };
        let mut old: Vec<u64> = self.steps()?.into_iter().filter(|step| *step <= latest).collect();
        old.truncate(old.len().saturating_sub(keep.max(1)));
        for step in &old {
            // Renamed first: a removal that is cut short must not leave half a checkpoint under a good name.
            let removing = self.dir.join(Leftover::Removing.name(*step));
            files::remove_dir(&removing)?;
            files::rename(&self.step_path(*step), &removing)?;
            files::remove_dir(&removing)?;
        }
        Ok(old)
    }
}

fn step_name(step: u64) -> String {
    format!("step-{step:08}")
}

fn parse_step(name: &str) -> Option<u64> {
    let step: u64 = name.strip_prefix("step-")?.parse().ok()?;
    (step_name(step) == name).then_some(step)
}

#[cfg(test)]
mod leftover_tests;
#[cfg(test)]
mod reshard_tests;
#[cfg(test)]
pub(crate) mod tests;
