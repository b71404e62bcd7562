//! Writes one safetensors file as a stream, under a temporary name until it is complete and on disk.

use std::collections::HashSet;
use std::io::Write;
use std::path::Path;

use sha2::{Digest, Sha256};

use super::{TensorSpec, header};
use crate::error::{CheckpointError, Result};
use crate::files;
use crate::partial_file::PartialFile;

/// A safetensors file being written: first the list of tensors, then the data of each in the same order.
/// Dropped before [`TensorFileWriter::finish`], it leaves nothing behind.
#[derive(Debug)]
pub struct TensorFileWriter {
    file: PartialFile,
    hash: Sha256,
    size: u64,
    specs: Vec<TensorSpec>,
    next: usize,
}

/// What was written: the numbers that a manifest keeps.
#[derive(Clone, Debug)]
pub(crate) struct Finished {
    pub(crate) size: u64,
    pub(crate) sha256: String,
}

impl TensorFileWriter {
    /// Starts `path` (under a temporary name beside it) with the given tensors; `metadata` is free text for the header.
    ///
    /// # Errors
    /// Where a name stands twice, a size does not fit, or the file cannot be created.
    pub fn create(path: &Path, specs: Vec<TensorSpec>, metadata: &[(&str, &str)]) -> Result<Self> {
        let header = header_of(path, &specs, metadata)?;
        let file = PartialFile::create(path)?;
        let mut writer = Self { file, hash: Sha256::new(), size: 0, specs, next: 0 };
        writer.append(&header)?;
        Ok(writer)
    }

    pub(crate) fn file_name(&self) -> String {
        self.path().file_name().unwrap_or_default().to_string_lossy().into_owned()
    }

    fn path(&self) -> &Path {
        self.file.target()
    }

    fn append(&mut self, bytes: &[u8]) -> Result<()> {
        self.file.file().write_all(bytes).map_err(|e| CheckpointError::io("write", self.path(), e))?;
        self.hash.update(bytes);
        self.size += bytes.len() as u64;
        Ok(())
    }

    /// Writes the next tensor's data: little-endian, row-major, all of it.
    ///
    /// # Errors
    /// Where it is not this tensor's turn, the number of bytes is wrong, or the disk is full.
    pub fn write(&mut self, name: &str, data: &[u8]) -> Result<()> {
        let Some(spec) = self.specs.get(self.next) else {
            return Err(CheckpointError::misuse(
                self.path(),
                format!("tensor {name}"),
                "one more tensor",
                "no more than were listed",
            ));
        };
        if spec.name != name {
            let expected = format!("tensor {}", spec.name);
            return Err(CheckpointError::misuse(self.path(), format!("tensor {name}"), "it out of turn", expected));
        }
        let expected = spec.bytes().unwrap_or(0);
        if data.len() != expected {
            let (found, expected) = (format!("{} bytes", data.len()), format!("{expected} bytes"));
            return Err(CheckpointError::misuse(self.path(), format!("tensor {name}"), found, expected));
        }
        self.append(data)?;
        self.next += 1;
        Ok(())
    }

    /// Syncs the file and gives it its name. The caller syncs the directory, once for several files.
    pub(crate) fn place(self) -> Result<Finished> {
        if let Some(missing) = self.specs.get(self.next) {
            return Err(CheckpointError::misuse(
                self.path(),
                format!("tensor {}", missing.name),
                "no data",
                "data for every tensor",
            ));
        }
        self.file.place()?;
        Ok(Finished { size: self.size, sha256: files::hex(&self.hash.finalize()) })
    }

    /// Completes the file: data and name are on disk when this returns. Gives its size and SHA-256 (hex).
    ///
    /// # Errors
    /// Where tensors are missing, or the system fails to sync or rename.
    pub fn finish(self) -> Result<(u64, String)> {
        let dir = files::parent(self.path()).to_path_buf();
        let done = self.place()?;
        files::sync_dir(&dir)?;
        Ok((done.size, done.sha256))
    }
}

/// The header of a file with the given tensors in this order.
pub(super) fn header_of(path: &Path, specs: &[TensorSpec], metadata: &[(&str, &str)]) -> Result<Vec<u8>> {
    let mut seen = HashSet::new();
    if let Some(twice) = specs.iter().find(|s| s.name == "__metadata__" || !seen.insert(s.name.as_str())) {
        let part = format!("tensor {}", twice.name);
        return Err(CheckpointError::misuse(path, part, "the name twice or reserved", "each name once"));
    }
    header::build(specs, metadata)
        .ok_or_else(|| CheckpointError::misuse(path, "tensor list", "a size that does not fit", "whole bytes that fit in memory"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use safetensors::Dtype;
    use std::fs;

    #[test]
    fn misuse_is_refused_and_leaves_nothing() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a.safetensors");
        let specs = vec![TensorSpec::new("a", Dtype::BF16, [2]), TensorSpec::new("b", Dtype::BF16, [2])];
        let mut writer = TensorFileWriter::create(&path, specs.clone(), &[]).unwrap();
        assert!(writer.write("b", &[0; 4]).unwrap_err().to_string().contains("out of turn"));
        assert!(writer.write("a", &[0; 3]).unwrap_err().to_string().contains("expected 4 bytes"));
        writer.write("a", &[0; 4]).unwrap();
        assert!(writer.finish().unwrap_err().to_string().contains("tensor b: found no data"));
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 0);
        let twice = vec![specs[0].clone(), specs[0].clone()];
        assert!(TensorFileWriter::create(&path, twice, &[]).is_err());
    }

    #[test]
    fn the_digest_is_that_of_the_file() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a.safetensors");
        let mut writer = TensorFileWriter::create(&path, vec![TensorSpec::new("a", Dtype::U8, [3])], &[]).unwrap();
        writer.write("a", &[1, 2, 3]).unwrap();
        assert_eq!(writer.finish().unwrap(), files::digest(&path).unwrap());
    }
}
