//! Loading: nothing is handed out before every file has been compared with what was recorded at saving.

use std::path::Path;

use rayon::prelude::*;
use safetensors::Dtype;

use super::manifest::{MANIFEST, Manifest, RunState, ShardRecord};
use crate::error::{CheckpointError, Result};
use crate::files;
use crate::tensor_file::{OwnedTensor, TensorFile, TensorSet, TensorSpec};

/// An open, verified checkpoint. Tensors are found by name, whichever rank's file holds them.
#[derive(Debug)]
pub struct Checkpoint {
    manifest: Manifest,
    tensors: TensorSet,
}

pub(super) fn load(dir: &Path, step: u64) -> Result<Checkpoint> {
    if !dir.is_dir() {
        return Err(CheckpointError::malformed(dir, "checkpoint", "no such directory", "a published checkpoint"));
    }
    let manifest = Manifest::read(dir)?;
    if manifest.state.step != step {
        let (found, expected) = (format!("step {}", manifest.state.step), format!("step {step}, as the directory says"));
        return Err(CheckpointError::malformed(&dir.join(MANIFEST), "state.step", found, expected));
    }
    let open = |shard: &ShardRecord| open_shard(dir, shard);
    let files: Vec<TensorFile> = manifest.shards.par_iter().map(open).collect::<Result<_>>()?;
    Ok(Checkpoint { manifest, tensors: TensorSet::new(dir, files)? })
}

fn open_shard(dir: &Path, shard: &ShardRecord) -> Result<TensorFile> {
    let path = dir.join(&shard.file.name);
    let altered = |what, found: String, expected: String| CheckpointError::Altered { path: path.clone(), what, found, expected };
    let (_, size) = files::open(&path)?;
    if size != shard.file.bytes {
        return Err(altered("size", size.to_string(), shard.file.bytes.to_string()));
    }
    let (_, sha256) = files::digest(&path)?;
    if sha256 != shard.file.sha256 {
        return Err(altered("sha256", sha256, shard.file.sha256.clone()));
    }
    let file = TensorFile::open(&path)?;
    if !file.specs().eq(&shard.tensors) {
        return Err(CheckpointError::malformed(&path, "tensors", "another list than the manifest's", "the manifest's list"));
    }
    Ok(file)
}

impl Checkpoint {
    /// The run's state when it was saved.
    pub fn state(&self) -> &RunState {
        &self.manifest.state
    }

    /// All tensors of all ranks.
    pub fn specs(&self) -> impl Iterator<Item = &TensorSpec> {
        self.tensors.specs()
    }

    /// The names of all tensors.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.specs().map(|s| s.name.as_str())
    }

    /// Dtype and shape of a tensor, without reading it.
    pub fn spec(&self, name: &str) -> Option<&TensorSpec> {
        self.tensors.spec(name)
    }

    /// Reads one tensor into memory of its own.
    ///
    /// # Errors
    /// Where there is no such tensor or the file cannot be read.
    pub fn tensor(&self, name: &str) -> Result<OwnedTensor> {
        self.tensors.tensor(name)
    }

    /// Reads one tensor as its dtype, shape and bytes.
    ///
    /// # Errors
    /// As for [`Checkpoint::tensor`].
    pub fn tensor_bytes(&self, name: &str) -> Result<(Dtype, Vec<usize>, Vec<u8>)> {
        self.tensor(name).map(OwnedTensor::into_parts)
    }
}
