//! Saving: every rank writes its shard into a directory with a temporary name; one rank then publishes it.

use std::path::{Path, PathBuf};

use safetensors::Dtype;

use super::manifest::{Manifest, PieceRecord, RunState, ShardRecord, shard_name};
use super::staged::{self, Stage};
use super::{Checkpoints, LATEST, step_name};
use crate::error::{CheckpointError, Result};
use crate::files;
use crate::model_writer::FileDigest;
use crate::pace::Pace;
use crate::piece::Piece;
use crate::tensor_file::{TensorSpec, write_at_once};

/// A piece of a tensor to be saved.
#[derive(Clone, Debug)]
pub struct Fragment<'a> {
    /// The tensor's name.
    pub name: String,
    /// Element type.
    pub dtype: Dtype,
    /// Which part of the tensor it is.
    pub piece: Piece,
    /// The piece's elements, little-endian, in the piece's order.
    pub data: &'a [u8],
}

/// A checkpoint being written; it may be used from another thread. The one from [`Checkpoints::begin`] owns the temporary directory: dropped before it is
/// published, it removes it, so that a failed save leaves nothing.
#[derive(Debug)]
pub struct CheckpointWriter {
    step: u64,
    dir: PathBuf,
    stage: Option<Stage>,
    owner: bool,
}

/// Names of directories that are not checkpoints: `.step-00000040.partial`, `.step-00000040.removing`.
pub(super) fn leftover_name(step: u64, what: &str) -> String {
    format!(".{}.{what}", step_name(step))
}

impl Checkpoints {
    /// Starts a checkpoint; called by one rank, before the others [`Checkpoints::join`]. What earlier jobs left half
    /// written is removed.
    ///
    /// # Errors
    /// Where the directory, or that for staging, cannot be created.
    pub fn begin(&self, step: u64) -> Result<CheckpointWriter> {
        if !self.dir.is_dir() {
            files::create_dir_all(&self.dir)?;
            files::sync_dir(files::parent(&self.dir))?;
        }
        for name in self.entries()? {
            if name.starts_with(".step-") {
                files::remove_dir(&self.dir.join(name))?;
            }
        }
        let dir = self.dir.join(leftover_name(step, "partial"));
        files::create_dir_all(&dir)?;
        Ok(CheckpointWriter { step, dir, stage: self.stage(step)?, owner: true })
    }

    /// The same checkpoint on a rank that did not begin it.
    ///
    /// # Errors
    /// Where [`Checkpoints::begin`] has not happened on a file system that this rank sees, or the directory for staging cannot
    /// be created.
    pub fn join(&self, step: u64) -> Result<CheckpointWriter> {
        let dir = self.dir.join(leftover_name(step, "partial"));
        if !dir.is_dir() {
            let expected = "the directory that the first rank made (is the run directory on a shared file system?)";
            return Err(CheckpointError::malformed(&dir, "checkpoint", "no such directory", expected));
        }
        Ok(CheckpointWriter { step, dir, stage: self.stage(step)?, owner: false })
    }

    fn stage(&self, step: u64) -> Result<Option<Stage>> {
        self.staging.as_ref().map(|dir| Stage::prepare(dir, &self.dir, step)).transpose()
    }

    /// Completes a checkpoint whose shards are all written: manifest, sync, rename, then LATEST. Returns its directory.
    /// A checkpoint of the same step, from a past that was given up, is replaced.
    ///
    /// # Errors
    /// Where shards are missing or contradict each other, or the system fails to write. LATEST is then as it was.
    pub fn publish(&self, mut writer: CheckpointWriter, shards: Vec<ShardRecord>, state: RunState) -> Result<PathBuf> {
        if state.step != writer.step {
            let found = format!("state of step {}", state.step);
            return Err(CheckpointError::misuse(&writer.dir, "state", found, format!("state of step {}", writer.step)));
        }
        let manifest = Manifest::new(&writer.dir, state, shards)?;
        for shard in &manifest.shards {
            check_present(&writer.dir, shard)?;
        }
        manifest.write(&writer.dir)?;
        files::sync_dir(&writer.dir)?;
        let target = self.step_path(writer.step);
        let replaced = self.dir.join(leftover_name(writer.step, "removing"));
        put_in_place(&writer.dir, &target, &replaced)?;
        writer.owner = false;
        files::sync_dir(&self.dir)?;
        files::write_atomic(&self.dir.join(LATEST), format!("{}\n", step_name(writer.step)).as_bytes())?;
        files::remove_dir(&replaced)?;
        Ok(target)
    }
}

/// Renames `dir` to `target`; what was there is then at `replaced`.
fn put_in_place(dir: &Path, target: &Path, replaced: &Path) -> Result<()> {
    if !target.exists() {
        return files::rename(dir, target);
    }
    files::remove_dir(replaced)?;
    if files::exchange(dir, target) {
        return files::rename(dir, replaced);
    }
    // Between these two the step is not there; LATEST may name it only where a run saves the step that it went on from.
    files::rename(target, replaced)?;
    files::rename(dir, target)
}

fn check_present(dir: &Path, shard: &ShardRecord) -> Result<()> {
    let path = dir.join(&shard.file.name);
    let (_, size) = files::open(&path)?;
    if size != shard.file.bytes {
        let (found, expected) = (size.to_string(), shard.file.bytes.to_string());
        return Err(CheckpointError::Altered { path, what: "size", found, expected });
    }
    Ok(())
}

impl CheckpointWriter {
    /// The step being saved.
    pub fn step(&self) -> u64 {
        self.step
    }

    /// Writes one rank's pieces to disk, synced, at a pace, and returns the record for [`Checkpoints::publish`]. A rank that has none writes
    /// an empty shard. Every element of a tensor belongs to exactly one rank's shard, and a rank has at most one piece of it; a
    /// replica is not written again.
    ///
    /// # Errors
    /// [`CheckpointError::DiskFull`] where no room is left; the half-written file is removed.
    pub fn write_shard(&self, rank: usize, fragments: &[Fragment<'_>], pace: &Pace) -> Result<ShardRecord> {
        let name = shard_name(rank);
        let path = self.dir.join(&name);
        let mut order: Vec<&Fragment<'_>> = fragments.iter().collect();
        // Wide elements first, so that all data is aligned to its elements.
        order.sort_by_key(|fragment| (std::cmp::Reverse(fragment.dtype.bitsize()), &fragment.name));
        let (specs, tensors) = describe(&path, &order)?;
        let data: Vec<&[u8]> = order.iter().map(|fragment| fragment.data).collect();
        let done = match &self.stage {
            None => write_at_once(&path, &specs, &data, true, pace)?,
            Some(stage) => {
                let staged = stage.file(&name);
                let done = write_at_once(&staged, &specs, &data, false, pace)?;
                staged::deliver(&staged, &done, &path, pace)?;
                done
            }
        };
        Ok(ShardRecord { rank, file: FileDigest { name, bytes: done.size, sha256: done.sha256 }, tensors })
    }
}

/// The header's and the manifest's entry of each fragment.
fn describe(path: &Path, fragments: &[&Fragment<'_>]) -> Result<(Vec<TensorSpec>, Vec<PieceRecord>)> {
    let describe = |fragment: &&Fragment<'_>| {
        let (name, dtype, piece) = (fragment.name.clone(), fragment.dtype, fragment.piece.clone());
        piece.check().map_err(|e| {
            CheckpointError::misuse(path, format!("tensor {name}"), format!("a piece whose {e}"), "a part of the tensor")
        })?;
        Ok((TensorSpec::new(name.as_str(), dtype, [piece.elements()]), PieceRecord { name, dtype, piece }))
    };
    fragments.iter().map(describe).collect::<Result<Vec<_>>>().map(|entries| entries.into_iter().unzip())
}

impl Drop for CheckpointWriter {
    fn drop(&mut self) {
        if self.owner {
            // Nothing to report to: the error that led here is already on its way, and the next begin cleans up.
            let _ = files::remove_dir(&self.dir);
        }
    }
}
