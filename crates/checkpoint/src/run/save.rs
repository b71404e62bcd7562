//! Saving: every rank writes its shard into a directory with a temporary name; one rank then publishes it.

use std::path::{Path, PathBuf};

use safetensors::Dtype;

use super::manifest::{Manifest, PieceRecord, RunState, ShardRecord, shard_name};
use super::staged::{self, Stage};
use super::{Checkpoints, LATEST, parse_step, step_name};
use crate::error::{CheckpointError, Result};
use crate::files;
use crate::model_writer::FileDigest;
use crate::pace::Pace;
use crate::piece::Piece;
use crate::seal::{self, SealError};
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

/// A checkpoint being written; it may be used from another thread. The one from [`Checkpoints::begin`] owns the temporary directory:
/// dropped before it is published, it removes it, so that a failed save leaves nothing.
#[derive(Debug)]
pub struct CheckpointWriter {
    step: u64,
    dir: PathBuf,
    stage: Option<Stage>,
    owner: bool,
}

/// Why a directory is there that is not a checkpoint, or none under its own name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Leftover {
    /// Being written.
    Partial,
    /// Being removed.
    Removing,
    /// A whole checkpoint that makes room for a new one of its step.
    Replaced,
}

impl Leftover {
    const ALL: [Self; 3] = [Self::Partial, Self::Removing, Self::Replaced];

    /// Such as `.step-00000040.partial`.
    pub(super) fn name(self, step: u64) -> String {
        let what = match self {
            Self::Partial => "partial",
            Self::Removing => "removing",
            Self::Replaced => "replaced",
        };
        format!(".{}.{what}", step_name(step))
    }

    /// The leftover that an entry's name stands for; `None` for what others put there.
    fn parse(name: &str) -> Option<(Self, u64)> {
        let step = parse_step(name.strip_prefix('.')?.split_once('.')?.0)?;
        Self::ALL.into_iter().find(|leftover| leftover.name(step) == name).map(|leftover| (leftover, step))
    }
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
        for (leftover, of) in self.entries()?.iter().filter_map(|name| Leftover::parse(name)) {
            self.clear_away(leftover, of);
        }
        let dir = self.dir.join(Leftover::Partial.name(step));
        files::remove_dir(&dir)?;
        files::create_dir_all(&dir)?;
        Ok(CheckpointWriter { step, dir, stage: self.stage(step)?, owner: true })
    }

    /// The same checkpoint on a rank that did not begin it.
    ///
    /// # Errors
    /// Where [`Checkpoints::begin`] has not happened on a file system that this rank sees, or the directory for staging cannot
    /// be created.
    pub fn join(&self, step: u64) -> Result<CheckpointWriter> {
        let dir = self.dir.join(Leftover::Partial.name(step));
        if !dir.is_dir() {
            let expected = "the directory that the first rank made (is the run directory on a shared file system?)";
            return Err(CheckpointError::malformed(&dir, "checkpoint", "no such directory", expected));
        }
        Ok(CheckpointWriter { step, dir, stage: self.stage(step)?, owner: false })
    }

    /// Removes what an earlier job left, or gives a checkpoint its name back that had to make room for one that never came. Where the
    /// system refuses, as for a file that somebody still reads over NFS, that is no reason not to save.
    fn clear_away(&self, leftover: Leftover, step: u64) {
        let (path, target) = (self.dir.join(leftover.name(step)), self.step_path(step));
        let _ = match leftover {
            Leftover::Replaced if !target.exists() => files::rename(&path, &target),
            _ => files::remove_dir(&path),
        };
    }

    fn stage(&self, step: u64) -> Result<Option<Stage>> {
        self.staging.as_ref().map(|dir| Stage::prepare(dir, &self.dir, step)).transpose()
    }

    /// Names this step in LATEST if a process died just before it did so; whether that was so. Whether the checkpoint is whole is the caller's
    /// to know.
    ///
    /// # Errors
    /// Where LATEST cannot be written.
    pub fn finish_naming(&self, step: u64) -> Result<bool> {
        let left = files::read_text_if_there(&self.dir.join(NAMING))?;
        if left.as_deref() != Some(&step_name(step)) {
            return Ok(false);
        }
        self.name_latest(step).map(|()| true)
    }

    fn name_latest(&self, step: u64) -> Result<()> {
        files::write_atomic(&self.dir.join(LATEST), format!("{}\n", step_name(step)).as_bytes())?;
        // Where it stays, it says what LATEST says.
        let _ = std::fs::remove_file(self.dir.join(NAMING));
        Ok(())
    }

    /// Completes a checkpoint whose shards are all written: manifest, sync, rename, then LATEST. Returns its directory.
    /// A checkpoint of the same step, from a past that was given up, is replaced.
    ///
    /// # Errors
    /// Where shards are missing or contradict each other, or the system fails to write. LATEST is then as it was.
    pub fn publish(&self, writer: CheckpointWriter, shards: Vec<ShardRecord>, state: RunState) -> Result<PathBuf> {
        self.publish_sealed(writer, shards, state, seal::open)
    }

    /// The same, and before the directory gets its name `seal` may add files to it, synced: it is called with the directory and the shards'
    /// digests when all is written. Readers pass over files that the manifest does not name.
    ///
    /// # Errors
    /// As for [`Checkpoints::publish`], and [`CheckpointError::Unsealed`] where `seal` fails: nothing is published then.
    pub fn publish_sealed(
        &self,
        mut writer: CheckpointWriter,
        shards: Vec<ShardRecord>,
        state: RunState,
        seal: impl FnOnce(&Path, &[FileDigest]) -> Result<(), SealError>,
    ) -> Result<PathBuf> {
        if state.step != writer.step {
            let found = format!("state of step {}", state.step);
            return Err(CheckpointError::misuse(&writer.dir, "state", found, format!("state of step {}", writer.step)));
        }
        let manifest = Manifest::new(&writer.dir, state, shards)?;
        for shard in &manifest.shards {
            check_present(&writer.dir, shard)?;
        }
        manifest.write(&writer.dir)?;
        let written: Vec<FileDigest> = manifest.shards.iter().map(|shard| shard.file.clone()).collect();
        seal::seal(&writer.dir, &written, seal)?;
        files::sync_dir(&writer.dir)?;
        let target = self.step_path(writer.step);
        let replaced = self.dir.join(Leftover::Replaced.name(writer.step));
        // Not synced by itself: where it is lost, LATEST names the checkpoint before, which is as good.
        let _ = std::fs::write(self.dir.join(NAMING), step_name(writer.step));
        let old = put_in_place(&writer.dir, &target, &replaced)?;
        writer.owner = false;
        files::sync_dir(&self.dir)?;
        self.name_latest(writer.step)?;
        if let Some(old) = old {
            // The new one is whole and named. What cannot be removed now, the next `begin` tries again.
            let _ = files::remove_dir(&old);
        }
        Ok(target)
    }
}

/// What is being named in LATEST: of a process that died between a checkpoint's own name and LATEST.
const NAMING: &str = ".naming";

/// Renames `dir` to `target`; gives where what was there is then. After an error everything is as it was.
fn put_in_place(dir: &Path, target: &Path, replaced: &Path) -> Result<Option<PathBuf>> {
    if !target.exists() {
        return files::rename(dir, target).map(|()| None);
    }
    if files::exchange(dir, target) {
        return Ok(Some(dir.to_path_buf()));
    }
    files::remove_dir(replaced)?;
    step_aside(dir, target, replaced)?;
    Ok(Some(replaced.to_path_buf()))
}

/// The same in two steps, where the file system cannot exchange names. Whoever is killed between them leaves what was at `target` at
/// `replaced`, where [`Checkpoints::open`] finds it.
fn step_aside(dir: &Path, target: &Path, replaced: &Path) -> Result<()> {
    files::rename(target, replaced)?;
    files::rename(dir, target).inspect_err(|_| {
        // Where this fails, too, it is found at `replaced`.
        let _ = files::rename(replaced, target);
    })
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

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    #[test]
    fn what_made_room_comes_back_where_the_new_one_cannot_take_its_place() {
        let dir = tempfile::tempdir().unwrap();
        let [new, target, replaced] = ["new", "target", "replaced"].map(|name| dir.path().join(name));
        fs::create_dir(&target).unwrap();
        fs::write(target.join("old"), "").unwrap();
        let error = step_aside(&new, &target, &replaced).unwrap_err();
        assert!(matches!(&error, CheckpointError::Io { action: "rename", path, .. } if *path == target), "{error}");
        assert!(target.join("old").exists() && !replaced.exists());
        fs::create_dir(&new).unwrap();
        step_aside(&new, &target, &replaced).unwrap();
        assert!(replaced.join("old").exists() && !target.join("old").exists() && target.exists() && !new.exists());
    }

    #[test]
    fn only_the_names_of_leftovers_are_taken_for_leftovers() {
        for leftover in Leftover::ALL {
            assert_eq!(Leftover::parse(&leftover.name(40)), Some((leftover, 40)));
        }
        for name in
            [".step-40.partial", ".step-00000040", ".step-00000040.mine", "step-00000040.partial", ".step-00000040.partial.x"]
        {
            assert_eq!(Leftover::parse(name), None, "{name}");
        }
    }
}
