//! Saving: every rank writes its shard into a directory with a temporary name; one rank then publishes it.

use std::path::{Path, PathBuf};

use safetensors::tensor::TensorView;

use super::manifest::{Manifest, RunState, ShardRecord, shard_name};
use super::{Checkpoints, LATEST, step_name};
use crate::error::{CheckpointError, Result};
use crate::files;
use crate::model_writer::FileDigest;
use crate::tensor_file::{TensorFileWriter, TensorSpec};

/// A checkpoint being written. The one from [`Checkpoints::begin`] owns the temporary directory: dropped before it is
/// published, it removes it, so that a failed save leaves nothing.
#[derive(Debug)]
pub struct CheckpointWriter {
    step: u64,
    dir: PathBuf,
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
    /// Where the directory cannot be created.
    pub fn begin(&self, step: u64) -> Result<CheckpointWriter> {
        if !self.dir.exists() {
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
        Ok(CheckpointWriter { step, dir, owner: true })
    }

    /// The same checkpoint on a rank that did not begin it.
    ///
    /// # Errors
    /// Where [`Checkpoints::begin`] has not happened on a file system that this rank sees.
    pub fn join(&self, step: u64) -> Result<CheckpointWriter> {
        let dir = self.dir.join(leftover_name(step, "partial"));
        if !dir.is_dir() {
            let expected = "the directory that the first rank made (is the run directory on a shared file system?)";
            return Err(CheckpointError::malformed(&dir, "checkpoint", "no such directory", expected));
        }
        Ok(CheckpointWriter { step, dir, owner: false })
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
        if target.exists() {
            files::remove_dir(&replaced)?;
            files::rename(&target, &replaced)?;
        }
        files::rename(&writer.dir, &target)?;
        writer.owner = false;
        files::sync_dir(&self.dir)?;
        files::write_atomic(&self.dir.join(LATEST), format!("{}\n", step_name(writer.step)).as_bytes())?;
        files::remove_dir(&replaced)?;
        Ok(target)
    }
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

    /// Writes one rank's tensors to disk, synced, and returns the record for [`Checkpoints::publish`].
    /// A tensor belongs to exactly one rank's shard; a replica is not written again.
    ///
    /// # Errors
    /// [`CheckpointError::DiskFull`] where no room is left; the half-written file is removed.
    pub fn write_shard(&self, rank: usize, tensors: &[(String, TensorView<'_>)]) -> Result<ShardRecord> {
        let mut order: Vec<&(String, TensorView<'_>)> = tensors.iter().collect();
        // Wide elements first, so that every tensor's data is aligned to its elements.
        order.sort_by_key(|(name, tensor)| (std::cmp::Reverse(tensor.dtype().bitsize()), name));
        let specs = order.iter().map(|(name, tensor)| TensorSpec::new(name, tensor.dtype(), tensor.shape())).collect();
        let name = shard_name(rank);
        let mut file = TensorFileWriter::create(&self.dir.join(&name), specs, &[])?;
        for (name, tensor) in order {
            file.write(name, tensor.data())?;
        }
        let done = file.place()?;
        Ok(ShardRecord { rank, file: FileDigest { name, bytes: done.size, sha256: done.sha256 }, tensors: done.specs })
    }
}

impl Drop for CheckpointWriter {
    fn drop(&mut self) {
        if self.owner {
            // Nothing to report to: the error that led here is already on its way, and the next begin cleans up.
            let _ = files::remove_dir(&self.dir);
        }
    }
}
