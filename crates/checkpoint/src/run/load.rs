//! Loading: any piece of any tensor, put together from the pieces that the shards hold.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::OnceLock;

use rayon::prelude::*;
use safetensors::Dtype;

use super::manifest::{MANIFEST, Manifest, RunState, ShardRecord};
use crate::error::{CheckpointError, Result};
use crate::files;
use crate::model_writer::FileDigest;
use crate::piece::{Piece, overlaps};
use crate::tensor_file::{OwnedTensor, TensorFile, TensorSpec, check_wanted};

/// An open checkpoint. Tensors are found by name, whichever ranks' files hold their pieces. Shared between threads freely.
#[derive(Debug)]
pub struct Checkpoint {
    dir: PathBuf,
    manifest: Manifest,
    /// By shard; opened when something of it is read, since a rank seldom needs all of many shards.
    files: Vec<OnceLock<TensorFile>>,
    tensors: Vec<Stored>,
    by_name: HashMap<String, usize>,
}

/// A tensor and where its pieces are: shard, and position in the shard's list.
#[derive(Debug)]
struct Stored {
    spec: TensorSpec,
    pieces: Vec<(usize, usize)>,
}

/// Opens a checkpoint: manifest, sizes and headers are checked, the data is not read.
pub(super) fn open(dir: &Path, step: u64) -> Result<Checkpoint> {
    if !dir.is_dir() {
        return Err(CheckpointError::malformed(dir, "checkpoint", "no such directory", "a published checkpoint"));
    }
    let manifest = Manifest::read(dir)?;
    if manifest.state.step != step {
        let (found, expected) = (format!("step {}", manifest.state.step), format!("step {step}, as the directory says"));
        return Err(CheckpointError::malformed(&dir.join(MANIFEST), "state.step", found, expected));
    }
    manifest.shards.par_iter().try_for_each(|shard| open_shard(dir, &manifest, shard).map(|_| ()))?;
    let files = manifest.shards.iter().map(|_| OnceLock::new()).collect();
    let (tensors, by_name) = index(&manifest);
    Ok(Checkpoint { dir: dir.to_path_buf(), manifest, files, tensors, by_name })
}

fn index(manifest: &Manifest) -> (Vec<Stored>, HashMap<String, usize>) {
    let (mut tensors, mut by_name) = (Vec::new(), HashMap::new());
    for (shard, record) in manifest.shards.iter().enumerate() {
        for (position, piece) in record.tensors.iter().enumerate() {
            let at = *by_name.entry(piece.name.clone()).or_insert_with(|| {
                let spec = TensorSpec::new(piece.name.as_str(), piece.dtype, piece.piece.shape.as_slice());
                tensors.push(Stored { spec, pieces: Vec::new() });
                tensors.len() - 1
            });
            tensors[at].pieces.push((shard, position));
        }
    }
    (tensors, by_name)
}

fn altered(path: &Path, what: &'static str, found: String, expected: String) -> CheckpointError {
    CheckpointError::Altered { path: path.to_path_buf(), what, found, expected }
}

fn open_shard(dir: &Path, manifest: &Manifest, shard: &ShardRecord) -> Result<TensorFile> {
    let path = dir.join(&shard.file.name);
    let (_, size) = files::open(&path)?;
    if size != shard.file.bytes {
        return Err(altered(&path, "size", size.to_string(), shard.file.bytes.to_string()));
    }
    let file = TensorFile::open(&path)?;
    if !file.specs().cloned().eq(shard.tensors.iter().map(|record| manifest.stored(record))) {
        return Err(CheckpointError::malformed(&path, "tensors", "another list than the manifest's", "the manifest's list"));
    }
    Ok(file)
}

impl Checkpoint {
    /// Its directory.
    pub fn path(&self) -> &Path {
        &self.dir
    }

    /// The shards' files, with the digests recorded when they were written: what [`Checkpoint::verify`] compares.
    pub fn files(&self) -> impl Iterator<Item = &FileDigest> {
        self.manifest.shards.iter().map(|shard| &shard.file)
    }

    /// The run's state when it was saved.
    pub fn state(&self) -> &RunState {
        &self.manifest.state
    }

    /// All tensors of all ranks, under their whole shapes.
    pub(crate) fn specs(&self) -> impl Iterator<Item = &TensorSpec> {
        self.tensors.iter().map(|stored| &stored.spec)
    }

    /// The names of all tensors.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.specs().map(|s| s.name.as_str())
    }

    /// Dtype and whole shape of a tensor, without reading it.
    pub fn spec(&self, name: &str) -> Option<&TensorSpec> {
        self.by_name.get(name).map(|at| &self.tensors[*at].spec)
    }

    /// Compares files with the sizes and SHA-256 recorded when they were written: those whose number is `part` modulo `of`, so
    /// that `of` ranks can share the work. `verify(0, 1)` reads them all.
    ///
    /// # Errors
    /// [`CheckpointError::Altered`] for a file that is not as it was written.
    pub fn verify(&self, part: usize, of: usize) -> Result<()> {
        if part >= of {
            let expected = "a part below their number".to_string();
            return Err(CheckpointError::misuse(&self.dir, "verify", format!("part {part} of {of}"), expected));
        }
        let mine: Vec<&ShardRecord> = self.manifest.shards.iter().skip(part).step_by(of).collect();
        mine.into_par_iter().try_for_each(|shard| {
            let path = self.dir.join(&shard.file.name);
            let (size, sha256) = files::digest(&path)?;
            if size != shard.file.bytes {
                return Err(altered(&path, "size", size.to_string(), shard.file.bytes.to_string()));
            }
            if sha256 != shard.file.sha256 {
                return Err(altered(&path, "sha256", sha256, shard.file.sha256.clone()));
            }
            Ok(())
        })
    }

    /// Puts one piece of a tensor together from the pieces that were saved, whatever mesh they were saved under: its dtype and
    /// its elements, little-endian, in the piece's order. No more is read than the parts of the files that hold them.
    ///
    /// # Errors
    /// Where there is no such tensor, it has another shape than the piece says, or a file cannot be read.
    pub fn piece(&self, name: &str, target: &Piece) -> Result<(Dtype, Vec<u8>)> {
        let stored = self.stored(name)?;
        let width = check_wanted(&self.dir, &stored.spec, target)?;
        let mut data = vec![0u8; target.elements() * width];
        let mut held = 0;
        for (shard, position) in &stored.pieces {
            let copies = overlaps(&self.manifest.shards[*shard].tensors[*position].piece, target);
            if !copies.is_empty() {
                self.file(*shard)?.read_parts(name, &copies, width, &mut data)?;
                held += copies.iter().map(|copy| copy.length).sum::<usize>();
            }
        }
        if held != target.elements() {
            let (found, expected) = (format!("{held} elements of the piece"), format!("all {}", target.elements()));
            return Err(CheckpointError::malformed(&self.dir, format!("tensor {name}"), found, expected));
        }
        Ok((stored.spec.dtype, data))
    }

    /// Reads one whole tensor into memory of its own.
    ///
    /// # Errors
    /// Where there is no such tensor or a file cannot be read.
    pub fn tensor(&self, name: &str) -> Result<OwnedTensor> {
        let shape = self.stored(name)?.spec.shape.clone();
        let (dtype, data) = self.piece(name, &Piece::whole(&shape))?;
        Ok(OwnedTensor { dtype, shape, data })
    }

    fn stored(&self, name: &str) -> Result<&Stored> {
        let missing = || CheckpointError::MissingTensor {
            path: self.dir.clone(),
            tensor: name.to_string(),
            expected: "it in one of the files".to_string(),
        };
        self.by_name.get(name).map(|at| &self.tensors[*at]).ok_or_else(missing)
    }

    fn file(&self, shard: usize) -> Result<&TensorFile> {
        match self.files[shard].get() {
            Some(file) => Ok(file),
            None => {
                let file = open_shard(&self.dir, &self.manifest, &self.manifest.shards[shard])?;
                Ok(self.files[shard].get_or_init(|| file))
            }
        }
    }
}
