//! Writes a model's weights in Hugging Face layout, one tensor at a time: one file, or shards with an index.

use std::collections::VecDeque;
use std::fs;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use serde_json::json;

use crate::error::{CheckpointError, Result};
use crate::files;
use crate::model_dir::{INDEX, WEIGHTS};
use crate::tensor_file::{TensorFileWriter, TensorSpec};

/// Above this many bytes of weights, files are split (as Transformers does).
const SHARD_BYTES: usize = 5_000_000_000;
/// Transformers asks for this key before it loads a file.
const METADATA: [(&str, &str); 1] = [("format", "pt")];

/// Name, size and SHA-256 of a file.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct FileDigest {
    /// File name within its directory.
    pub name: String,
    /// Size in bytes.
    pub bytes: u64,
    /// SHA-256 in lower-case hex.
    pub sha256: String,
}

/// Weights being written to a directory. Dropped before [`ModelWriter::finish`], it leaves no weights behind.
#[derive(Debug)]
pub(crate) struct ModelWriter {
    dir: PathBuf,
    current: Option<TensorFileWriter>,
    left: usize,
    waiting: VecDeque<(PathBuf, Vec<TensorSpec>)>,
    placed: Vec<FileDigest>,
    index: Option<Vec<u8>>,
    finished: bool,
}

impl ModelWriter {
    /// Starts writing the given tensors, in this order, to a directory, which is created where it is missing.
    ///
    /// # Errors
    /// Where the directory holds weights already, or cannot be written.
    pub(crate) fn create(dir: &Path, specs: Vec<TensorSpec>) -> Result<Self> {
        Self::with_shard_size(dir, specs, SHARD_BYTES)
    }

    /// As [`ModelWriter::create`], with files of at most `limit` bytes of data (a larger tensor gets a file of its own).
    ///
    /// # Errors
    /// As for [`ModelWriter::create`].
    pub(crate) fn with_shard_size(dir: &Path, specs: Vec<TensorSpec>, limit: usize) -> Result<Self> {
        files::create_dir_all(dir)?;
        for taken in [WEIGHTS, INDEX].map(|name| dir.join(name)) {
            if taken.exists() {
                let expected = "a directory without weights".to_string();
                return Err(CheckpointError::Occupied { path: taken, found: "weights that are there already".into(), expected });
            }
        }
        let shards = split(specs, limit);
        let names: Vec<String> = match shards.len() {
            1 => vec![WEIGHTS.to_string()],
            n => (1..=n).map(|i| format!("model-{i:05}-of-{n:05}.safetensors")).collect(),
        };
        let index = (shards.len() > 1).then(|| index_text(&names, &shards));
        let waiting = names.into_iter().map(|name| dir.join(name)).zip(shards).collect();
        let dir = dir.to_path_buf();
        Ok(Self { dir, current: None, left: 0, waiting, placed: Vec::new(), index, finished: false })
    }

    /// Writes the next tensor's data, little-endian and row-major.
    ///
    /// # Errors
    /// Where it is not this tensor's turn, the size is wrong, or the disk is full.
    pub(crate) fn write(&mut self, name: &str, data: &[u8]) -> Result<()> {
        self.start_next_file()?;
        let Some(file) = &mut self.current else {
            return Err(CheckpointError::misuse(
                &self.dir,
                format!("tensor {name}"),
                "one more tensor",
                "no more than were listed",
            ));
        };
        file.write(name, data)?;
        self.left -= 1;
        self.place_full_file()
    }

    fn start_next_file(&mut self) -> Result<()> {
        if self.current.is_none()
            && let Some((path, specs)) = self.waiting.pop_front()
        {
            self.left = specs.len();
            self.current = Some(TensorFileWriter::create(&path, specs, &METADATA)?);
        }
        Ok(())
    }

    fn place_full_file(&mut self) -> Result<()> {
        if self.left == 0
            && let Some(file) = self.current.take()
        {
            let name = file.file_name();
            let done = file.place()?;
            self.placed.push(FileDigest { name, bytes: done.size, sha256: done.sha256 });
        }
        Ok(())
    }

    /// Completes the weights; they are on disk when this returns.
    ///
    /// # Errors
    /// Where tensors are missing, or the system fails to write.
    pub(crate) fn finish(mut self) -> Result<Vec<FileDigest>> {
        self.start_next_file()?;
        self.place_full_file()?;
        if self.current.is_some() || !self.waiting.is_empty() {
            return Err(CheckpointError::misuse(&self.dir, "weights", "fewer tensors than were listed", "data for every tensor"));
        }
        if let Some(index) = self.index.take() {
            files::write_atomic(&self.dir.join(INDEX), &index)?;
        }
        files::sync_dir(&self.dir)?;
        self.finished = true;
        Ok(std::mem::take(&mut self.placed))
    }
}

impl Drop for ModelWriter {
    fn drop(&mut self) {
        if !self.finished {
            for file in &self.placed {
                // Nothing to report to: the error that led here is already on its way.
                let _ = fs::remove_file(self.dir.join(&file.name));
            }
        }
    }
}

/// Consecutive tensors, as many as fit; always at least one file.
fn split(specs: Vec<TensorSpec>, limit: usize) -> Vec<Vec<TensorSpec>> {
    let mut shards = vec![Vec::new()];
    let mut filled = 0usize;
    for spec in specs {
        let bytes = spec.bytes().unwrap_or(usize::MAX);
        if filled > 0 && filled.saturating_add(bytes) > limit {
            shards.push(Vec::new());
            filled = 0;
        }
        filled = filled.saturating_add(bytes);
        if let Some(last) = shards.last_mut() {
            last.push(spec);
        }
    }
    shards
}

fn index_text(names: &[String], shards: &[Vec<TensorSpec>]) -> Vec<u8> {
    let total: usize = shards.iter().flatten().filter_map(TensorSpec::bytes).sum();
    let pairs = names.iter().zip(shards).flat_map(|(name, specs)| specs.iter().map(move |s| (s.name.clone(), json!(name))));
    let map: serde_json::Map<_, _> = pairs.collect();
    files::json_text(&json!({"metadata": {"total_size": total}, "weight_map": map})).into_bytes()
}

#[cfg(test)]
mod tests {
    use super::*;
    use safetensors::Dtype;

    fn specs() -> Vec<TensorSpec> {
        ["a", "b", "c"].map(|n| TensorSpec::new(n, Dtype::BF16, [4])).to_vec()
    }

    fn files_in(dir: &Path) -> Vec<String> {
        let mut names: Vec<_> = fs::read_dir(dir).unwrap().map(|e| e.unwrap().file_name().into_string().unwrap()).collect();
        names.sort();
        names
    }

    #[test]
    fn small_models_are_one_file_and_large_ones_shards_with_an_index() {
        let dir = tempfile::tempdir().unwrap();
        for (limit, expected) in [(1000, 1), (16, 2), (1, 3)] {
            let dir = dir.path().join(limit.to_string());
            let mut writer = ModelWriter::with_shard_size(&dir, specs(), limit).unwrap();
            for name in ["a", "b", "c"] {
                writer.write(name, &[0; 8]).unwrap();
            }
            assert_eq!(writer.finish().unwrap().len(), expected);
            assert_eq!(files_in(&dir).len(), if expected == 1 { 1 } else { expected + 1 });
            assert!(matches!(ModelWriter::create(&dir, specs()), Err(CheckpointError::Occupied { .. })));
        }
    }

    #[test]
    fn an_unfinished_model_leaves_nothing() {
        let dir = tempfile::tempdir().unwrap();
        let mut writer = ModelWriter::with_shard_size(dir.path(), specs(), 8).unwrap();
        writer.write("a", &[0; 8]).unwrap();
        assert!(writer.write("c", &[0; 8]).is_err());
        assert!(writer.finish().is_err());
        assert!(files_in(dir.path()).is_empty());
    }
}
