//! One safetensors file, open for positioned reads: no memory map, no copy of the whole file.

use std::collections::HashMap;
use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use super::header::{self, LENGTH_BYTES};
use super::{OwnedTensor, TensorSpec};
use crate::error::{CheckpointError, Result};
use crate::files;

/// An open safetensors file whose header has been checked. Shared between threads freely: reads carry their own offset.
#[derive(Debug)]
pub(crate) struct TensorFile {
    path: PathBuf,
    file: File,
    data_start: u64,
    tensors: Vec<(TensorSpec, u64)>,
    by_name: HashMap<String, usize>,
}

impl TensorFile {
    /// Opens a file and checks its header against its size.
    ///
    /// # Errors
    /// Where the file cannot be read, is truncated, or its header does not describe the data exactly.
    pub(crate) fn open(path: &Path) -> Result<Self> {
        let (file, size) = files::open(path)?;
        let mut length = [0u8; LENGTH_BYTES as usize];
        if size < LENGTH_BYTES {
            return Err(CheckpointError::malformed(
                path,
                "size",
                format!("{size} bytes"),
                "a safetensors header of 8 bytes or more",
            ));
        }
        let read = |buffer: &mut [u8], at| file.read_exact_at(buffer, at).map_err(|e| CheckpointError::io("read", path, e));
        read(&mut length, 0)?;
        let length = header::check_length(path, u64::from_le_bytes(length), size)?;
        let mut json = vec![0u8; length as usize];
        read(&mut json, LENGTH_BYTES)?;
        let data_start = LENGTH_BYTES + length;
        let tensors = header::parse(path, &json, size - data_start)?;
        let by_name = tensors.iter().enumerate().map(|(i, (spec, _))| (spec.name.clone(), i)).collect();
        let path = path.to_path_buf();
        Ok(Self { path, file, data_start, tensors, by_name })
    }

    /// Where the file is.
    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// All tensors, in the order of their data.
    pub(crate) fn specs(&self) -> impl Iterator<Item = &TensorSpec> {
        self.tensors.iter().map(|(spec, _)| spec)
    }

    /// What the header says of one tensor.
    pub(crate) fn spec(&self, name: &str) -> Option<&TensorSpec> {
        self.by_name.get(name).map(|i| &self.tensors[*i].0)
    }

    /// Reads one tensor.
    ///
    /// # Errors
    /// Where there is no such tensor, or the file shrank since it was opened.
    pub(crate) fn read(&self, name: &str) -> Result<OwnedTensor> {
        let (spec, _) = self.entry(name)?;
        // The header check made sure that the size fits.
        let mut data = vec![0u8; spec.bytes().unwrap_or(0)];
        self.read_at(name, 0, &mut data)?;
        Ok(OwnedTensor { dtype: spec.dtype, shape: spec.shape.clone(), data })
    }

    /// Fills `into` with the tensor's bytes from `offset`; the caller stays within the tensor.
    pub(super) fn read_at(&self, name: &str, offset: usize, into: &mut [u8]) -> Result<()> {
        let (_, begin) = self.entry(name)?;
        self.file.read_exact_at(into, self.data_start + begin + offset as u64).map_err(|e| match e.kind() {
            std::io::ErrorKind::UnexpectedEof => {
                CheckpointError::malformed(&self.path, format!("tensor {name}"), "the end of the file", "its data")
            }
            _ => CheckpointError::io("read", &self.path, e),
        })
    }

    pub(super) fn entry(&self, name: &str) -> Result<&(TensorSpec, u64)> {
        let missing = || CheckpointError::MissingTensor {
            path: self.path.clone(),
            tensor: name.to_string(),
            expected: "it in this file".to_string(),
        };
        self.by_name.get(name).map(|i| &self.tensors[*i]).ok_or_else(missing)
    }
}

#[cfg(test)]
mod tests {
    use super::super::TensorFileWriter;
    use super::*;
    use proptest::prelude::*;
    use safetensors::Dtype;

    fn sample(path: &Path) {
        let specs = vec![TensorSpec::new("a", Dtype::F32, [2]), TensorSpec::new("empty", Dtype::F32, [0, 3])];
        let mut writer = TensorFileWriter::create(path, specs, &[]).unwrap();
        writer.write("a", &[1, 2, 3, 4, 5, 6, 7, 8]).unwrap();
        writer.write("empty", &[]).unwrap();
        writer.finish().unwrap();
    }

    #[test]
    fn reads_what_the_reference_implementation_reads() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a.safetensors");
        sample(&path);
        let bytes = std::fs::read(&path).unwrap();
        let reference = safetensors::SafeTensors::deserialize(&bytes).unwrap();
        let ours = TensorFile::open(&path).unwrap();
        for name in reference.names() {
            let tensor = ours.read(name).unwrap();
            assert_eq!(tensor.data, reference.tensor(name).unwrap().data());
            assert_eq!(tensor.view().unwrap(), reference.tensor(name).unwrap());
        }
        assert!(ours.read("b").unwrap_err().to_string().contains("tensor b"));
    }

    #[test]
    fn every_truncation_is_an_error() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a.safetensors");
        sample(&path);
        let bytes = std::fs::read(&path).unwrap();
        for n in 0..bytes.len() {
            std::fs::write(&path, &bytes[..n]).unwrap();
            assert!(matches!(TensorFile::open(&path), Err(CheckpointError::Malformed { .. })), "{n} bytes");
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(256))]

        #[test]
        fn arbitrary_bytes_never_panic(bytes in proptest::collection::vec(any::<u8>(), 0..400)) {
            let dir = tempfile::tempdir().unwrap();
            let path = dir.path().join("a.safetensors");
            std::fs::write(&path, &bytes).unwrap();
            let _ = TensorFile::open(&path);
        }

        #[test]
        fn a_changed_byte_never_panics(at in 0usize..200, value in any::<u8>()) {
            let dir = tempfile::tempdir().unwrap();
            let path = dir.path().join("a.safetensors");
            sample(&path);
            let mut bytes = std::fs::read(&path).unwrap();
            let at = at % bytes.len();
            bytes[at] = value;
            std::fs::write(&path, &bytes).unwrap();
            if let Ok(file) = TensorFile::open(&path) {
                for spec in file.specs() {
                    let _ = file.read(&spec.name);
                }
            }
        }
    }
}
