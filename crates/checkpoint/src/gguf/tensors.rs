//! The tensor list of a GGUF file: names, shapes, types and where the data lies, all checked.

use std::collections::HashSet;
use std::io::Read;
use std::path::Path;

use super::dequantise::GgmlType;
use super::scan::Scanner;
use crate::error::{CheckpointError, Result};

const MAX_TENSORS: u64 = 1 << 20;
const MAX_DIMS: u32 = 4;

/// One tensor of a GGUF file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct GgufTensor {
    /// llama.cpp's name, such as `blk.0.attn_q.weight`.
    pub(crate) name: String,
    /// Sizes of the dims, outermost first (the file stores them the other way round).
    pub(crate) shape: Vec<usize>,
    /// The ggml type number as stored; see [`GgmlType`] for those that can be read.
    pub(crate) type_id: u32,
    pub(super) start: u64,
    pub(super) bytes: u64,
}

impl GgufTensor {
    /// Elements of the tensor.
    pub(crate) fn elements(&self) -> usize {
        self.shape.iter().product()
    }

    /// The tensor's type, where it is one that can be dequantised.
    ///
    /// # Errors
    /// Names the tensor, its type and the types that are supported.
    pub(crate) fn supported_type(&self, path: &Path) -> Result<GgmlType> {
        GgmlType::from_id(self.type_id).ok_or_else(|| {
            let found = format!("type {}", GgmlType::name_of(self.type_id));
            CheckpointError::unsupported(path, format!("tensor {}", self.name), found, GgmlType::SUPPORTED)
        })
    }
}

/// A list entry as it stands in the file; the offset counts from the start of the data section.
pub(super) struct Info {
    name: String,
    shape: Vec<usize>,
    elements: u64,
    row: u64,
    type_id: u32,
    offset: u64,
}

/// Where data may lie.
#[derive(Clone, Copy)]
pub(super) struct Room {
    pub(super) data_start: u64,
    pub(super) alignment: u64,
    pub(super) size: u64,
}

pub(super) fn read_infos(scanner: &mut Scanner<'_, impl Read>, count: u64) -> Result<Vec<Info>> {
    if count > MAX_TENSORS {
        return Err(scanner.error("tensor count", count.to_string(), format!("at most {MAX_TENSORS}")));
    }
    let mut infos = Vec::new();
    let mut seen = HashSet::new();
    for _ in 0..count {
        let name = scanner.string("a tensor's name")?;
        let part = format!("tensor {name}");
        if !seen.insert(name.clone()) {
            return Err(scanner.error(&part, "the name twice", "each name once"));
        }
        let dims = scanner.u32(&part)?;
        if dims > MAX_DIMS {
            return Err(scanner.error(&part, format!("{dims} dims"), format!("at most {MAX_DIMS}")));
        }
        let mut shape = Vec::new();
        for _ in 0..dims {
            shape.push(scanner.u64(&part)?);
        }
        let row = shape.first().copied().unwrap_or(1);
        shape.reverse();
        let elements = shape.iter().try_fold(1u64, |n, d| n.checked_mul(*d)).filter(|n| *n <= isize::MAX as u64 / 4);
        let Some(elements) = elements else {
            return Err(scanner.error(&part, format!("shape {shape:?}"), "a size that fits in memory"));
        };
        let (type_id, offset) = (scanner.u32(&part)?, scanner.u64(&part)?);
        let shape = shape.into_iter().map(|d| d as usize).collect();
        infos.push(Info { name, shape, elements, row, type_id, offset });
    }
    Ok(infos)
}

/// Turns offsets into positions in the file, each inside it and none on top of another.
pub(super) fn place(path: &Path, infos: Vec<Info>, room: Room) -> Result<Vec<GgufTensor>> {
    let mut tensors = Vec::with_capacity(infos.len());
    for info in infos {
        let part = format!("tensor {}", info.name);
        if !info.offset.is_multiple_of(room.alignment) {
            let expected = format!("a multiple of {}", room.alignment);
            return Err(CheckpointError::malformed(path, part, format!("offset {}", info.offset), expected));
        }
        // The size of a type that cannot be read is unknown; only its start is checked.
        let bytes = match GgmlType::from_id(info.type_id) {
            Some(kind) => kind.bytes(info.elements, info.row).ok_or_else(|| {
                let found = format!("rows of {} elements", info.row);
                CheckpointError::malformed(path, part.clone(), found, format!("rows of whole {} blocks", kind.name()))
            })?,
            None => 0,
        };
        let start = room.data_start.checked_add(info.offset);
        let Some(start) = start.filter(|s| s.checked_add(bytes).is_some_and(|end| end <= room.size)) else {
            let found = format!("{bytes} bytes at offset {}", info.offset);
            let expected = format!("data within the {} bytes of the file (is it truncated?)", room.size);
            return Err(CheckpointError::malformed(path, part, found, expected));
        };
        tensors.push(GgufTensor { name: info.name, shape: info.shape, type_id: info.type_id, start, bytes });
    }
    check_overlaps(path, &tensors)?;
    Ok(tensors)
}

fn check_overlaps(path: &Path, tensors: &[GgufTensor]) -> Result<()> {
    let mut order: Vec<&GgufTensor> = tensors.iter().collect();
    order.sort_by_key(|t| (t.start, t.bytes));
    for pair in order.windows(2) {
        if pair[0].start + pair[0].bytes > pair[1].start {
            let found = format!("data that overlaps tensor {}", pair[0].name);
            return Err(CheckpointError::malformed(path, format!("tensor {}", pair[1].name), found, "data of its own"));
        }
    }
    Ok(())
}
