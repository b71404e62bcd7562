//! GGUF files (versions 2 and 3, little-endian): metadata, tensor list, and tensors dequantised to fp32.

mod dequantise;
mod scan;
mod tensors;
mod value;

use std::collections::HashMap;
use std::fs::File;
use std::io::{BufReader, Seek};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

pub(crate) use dequantise::GgmlType;
pub(crate) use tensors::GgufTensor;
pub(crate) use value::GgufValue;

use crate::error::{CheckpointError, Result};
use crate::files;
use scan::Scanner;

const MAGIC: &[u8; 4] = b"GGUF";
const DEFAULT_ALIGNMENT: u64 = 32;

/// An open GGUF file whose metadata and tensor list have been checked against its size.
#[derive(Debug)]
pub struct Gguf {
    path: PathBuf,
    file: File,
    metadata: Vec<(String, GgufValue)>,
    tensors: Vec<GgufTensor>,
    by_name: HashMap<String, usize>,
}

impl Gguf {
    /// Opens a file and reads everything but the tensors' data.
    ///
    /// # Errors
    /// Where the file cannot be read, is truncated, or its tables contradict each other or its size.
    pub fn open(path: &Path) -> Result<Self> {
        let (mut file, size) = files::open(path)?;
        let mut scanner = Scanner::new(path, BufReader::with_capacity(1 << 16, &mut file), size);
        let (tensor_count, pair_count) = preamble(&mut scanner)?;
        let metadata = value::read_pairs(&mut scanner, pair_count)?;
        let alignment = alignment(path, &metadata)?;
        let infos = tensors::read_infos(&mut scanner, tensor_count)?;
        let data_start = scanner.position().next_multiple_of(alignment);
        let tensors = tensors::place(path, infos, tensors::Room { data_start, alignment, size })?;
        file.rewind().map_err(|e| CheckpointError::io("read", path, e))?;
        let by_name = tensors.iter().enumerate().map(|(i, t)| (t.name.clone(), i)).collect();
        Ok(Self { path: path.to_path_buf(), file, metadata, tensors, by_name })
    }

    /// Where the file is.
    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// The value of a key.
    pub(crate) fn get(&self, key: &str) -> Option<&GgufValue> {
        self.metadata.iter().find(|(k, _)| k == key).map(|(_, v)| v)
    }

    /// The value of a key that must be there, converted by `read` (such as [`GgufValue::as_u64`]).
    ///
    /// # Errors
    /// Where the key is missing or of another kind; `expected` says what it should hold.
    pub(crate) fn require<'a, T>(
        &'a self,
        key: &str,
        expected: &str,
        read: impl FnOnce(&'a GgufValue) -> Option<T>,
    ) -> Result<T> {
        let value =
            self.get(key).ok_or_else(|| CheckpointError::malformed(&self.path, format!("key {key}"), "nothing", expected))?;
        read(value).ok_or_else(|| CheckpointError::malformed(&self.path, format!("key {key}"), value.brief(), expected))
    }

    /// All tensors in file order.
    pub(crate) fn tensors(&self) -> &[GgufTensor] {
        &self.tensors
    }

    /// One tensor of the list.
    pub(crate) fn tensor(&self, name: &str) -> Option<&GgufTensor> {
        self.by_name.get(name).map(|i| &self.tensors[*i])
    }

    /// Reads one tensor and dequantises it to fp32, row-major in the order of [`GgufTensor::shape`].
    ///
    /// # Errors
    /// Where there is no such tensor, its type is not supported, or the file shrank.
    pub fn read_f32(&self, name: &str) -> Result<Vec<f32>> {
        let tensor = self.tensor(name).ok_or_else(|| CheckpointError::MissingTensor {
            path: self.path.clone(),
            tensor: name.to_string(),
            expected: "it in this GGUF file".to_string(),
        })?;
        let kind = tensor.supported_type(&self.path)?;
        let mut bytes = vec![0u8; tensor.bytes as usize];
        self.file.read_exact_at(&mut bytes, tensor.start).map_err(|e| CheckpointError::io("read", &self.path, e))?;
        Ok(kind.dequantise(&bytes))
    }
}

fn preamble(scanner: &mut Scanner<'_, impl std::io::Read>) -> Result<(u64, u64)> {
    let magic = scanner.bytes("magic", 4)?;
    if magic != MAGIC {
        return Err(scanner.error("magic", format!("{:?}", String::from_utf8_lossy(&magic)), "\"GGUF\""));
    }
    let version = scanner.u32("version")?;
    if !(2..=3).contains(&version) {
        let found = if version.swap_bytes() <= 3 { "a big-endian file".to_string() } else { version.to_string() };
        return Err(CheckpointError::unsupported(scanner.path(), "GGUF version", found, "2 or 3, little-endian"));
    }
    Ok((scanner.u64("tensor count")?, scanner.u64("key count")?))
}

fn alignment(path: &Path, metadata: &[(String, GgufValue)]) -> Result<u64> {
    let Some((key, value)) = metadata.iter().find(|(k, _)| k == "general.alignment") else {
        return Ok(DEFAULT_ALIGNMENT);
    };
    match value.as_u64() {
        Some(n) if n.is_power_of_two() && (8..=1 << 20).contains(&n) => Ok(n),
        _ => Err(CheckpointError::malformed(path, format!("key {key}"), value.brief(), "a power of two from 8 to 1048576")),
    }
}
