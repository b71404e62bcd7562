//! Reads parts of a tensor: many small ranges in few reads, and no more of the file than they span.

use std::path::Path;

use safetensors::Dtype;

use super::{TensorFile, TensorSpec};
use crate::error::{CheckpointError, Result};
use crate::piece::{Copy, Piece, overlaps};

/// Ranges that are at most this many bytes apart are read in one go: reading that much costs less than asking again (a slice of
/// columns, from a disk: a third of the time that it takes page by page).
const GAP: usize = 64 << 10;
/// The most that is read in one go in order to pick from it.
const BLOCK: usize = 4 << 20;

/// Bytes of one element.
///
/// # Errors
/// Where elements are smaller than a byte, as in some quantised types: no range of them can be addressed.
pub(crate) fn element_bytes(path: &Path, name: &str, dtype: Dtype) -> Result<usize> {
    match dtype.bitsize() {
        bits if bits > 0 && bits % 8 == 0 => Ok(bits / 8),
        _ => Err(CheckpointError::unsupported(path, format!("a part of tensor {name}"), format!("dtype {dtype}"), "whole bytes")),
    }
}

/// Bytes of one element of a tensor of which `piece` is asked for; `path` is for errors.
///
/// # Errors
/// Where the piece is none of this tensor, or the dtype cannot be taken apart.
pub(crate) fn check_wanted(path: &Path, stored: &TensorSpec, piece: &Piece) -> Result<usize> {
    let tensor = || format!("tensor {}", stored.name);
    piece
        .check()
        .map_err(|e| CheckpointError::malformed(path, tensor(), format!("a piece whose {e}"), "a part of the tensor"))?;
    if stored.shape != piece.shape {
        let (found, expected) = (format!("shape {:?}", stored.shape), format!("shape {:?}", piece.shape));
        return Err(CheckpointError::TensorMismatch { path: path.into(), tensor: stored.name.clone(), found, expected });
    }
    element_bytes(path, &stored.name, stored.dtype)
}

impl TensorFile {
    /// Reads one piece of a tensor: its dtype and the piece's elements, little-endian, in the piece's order. Of the file no more
    /// is read than the rows that hold them, in blocks of a few MiB.
    ///
    /// # Errors
    /// Where there is no such tensor, it has another shape, or the file shrank since it was opened.
    pub(crate) fn piece(&self, name: &str, piece: &Piece) -> Result<(Dtype, Vec<u8>)> {
        let (spec, _) = self.entry(name)?;
        let width = check_wanted(self.path(), spec, piece)?;
        let mut data = vec![0u8; piece.elements() * width];
        self.read_parts(name, &overlaps(&Piece::whole(&spec.shape), piece), width, &mut data)?;
        Ok((spec.dtype, data))
    }

    /// Copies parts of a tensor into `target`; offsets count elements of `width` bytes, in order of the tensor.
    ///
    /// # Errors
    /// Where there is no such tensor, or the file shrank since it was opened.
    pub(crate) fn read_parts(&self, name: &str, copies: &[Copy], width: usize, target: &mut [u8]) -> Result<()> {
        let mut scratch = Vec::new();
        let mut left = copies;
        while let Some(first) = left.first() {
            let (together, rest) = left.split_at(read_together(left, width));
            left = rest;
            if let [copy] = together {
                let into = &mut target[copy.to * width..(copy.to + copy.length) * width];
                self.read_at(name, copy.from * width, into)?;
                continue;
            }
            let end = together.last().map_or(0, |copy| copy.from + copy.length);
            scratch.resize((end - first.from) * width, 0);
            self.read_at(name, first.from * width, &mut scratch)?;
            for copy in together {
                let from = (copy.from - first.from) * width;
                let length = copy.length * width;
                target[copy.to * width..][..length].copy_from_slice(&scratch[from..from + length]);
            }
        }
        Ok(())
    }
}

/// How many of the first copies are read in one go: at least one.
fn read_together(copies: &[Copy], width: usize) -> usize {
    let fits = |pair: &[Copy]| {
        let gap = (pair[1].from - (pair[0].from + pair[0].length)) * width;
        gap <= GAP && (pair[1].from + pair[1].length - copies[0].from) * width <= BLOCK
    };
    1 + copies.windows(2).take_while(|pair| fits(pair)).count()
}

#[cfg(test)]
mod tests {
    use super::super::TensorFileWriter;
    use super::*;
    use crate::piece::tests::{pick, two_cuts};
    use proptest::prelude::*;

    fn copy(from: usize, to: usize, length: usize) -> Copy {
        Copy { from, to, length }
    }

    #[test]
    fn neighbours_are_read_together_and_strangers_are_not() {
        let near = [copy(0, 0, 10), copy(10 + GAP, 10, 10), copy(21 + 2 * GAP, 20, 10)];
        assert_eq!(read_together(&near, 1), 2);
        assert_eq!(read_together(&near, 2), 1);
        let large = [copy(0, 0, BLOCK), copy(BLOCK + 1, BLOCK, 1)];
        assert_eq!(read_together(&large, 1), 1);
    }

    #[test]
    fn parts_land_where_they_belong() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a.safetensors");
        let data: Vec<u8> = (0..400_000u32).flat_map(u32::to_le_bytes).collect();
        let specs = vec![TensorSpec::new("a", Dtype::U8, [3]), TensorSpec::new("b", Dtype::U32, [400_000])];
        let mut writer = TensorFileWriter::create(&path, specs, &[]).unwrap();
        writer.write("a", &[1, 2, 3]).unwrap();
        writer.write("b", &data).unwrap();
        writer.finish().unwrap();
        let file = TensorFile::open(&path).unwrap();
        let mut target = vec![0; 6 * 4];
        let copies = [copy(7, 0, 1), copy(9, 1, 2), copy(100_000, 4, 1), copy(399_999, 5, 1)];
        file.read_parts("b", &copies, 4, &mut target).unwrap();
        let found: Vec<u32> = target.as_chunks().0.iter().map(|bytes| u32::from_le_bytes(*bytes)).collect();
        assert_eq!(found, [7, 9, 10, 0, 100_000, 399_999]);
        assert!(matches!(file.read_parts("c", &copies, 4, &mut target), Err(CheckpointError::MissingTensor { .. })));
    }

    #[test]
    fn elements_smaller_than_a_byte_are_refused() {
        assert_eq!(element_bytes(Path::new("f"), "w", Dtype::BF16).unwrap(), 2);
        assert!(element_bytes(Path::new("f"), "w", Dtype::F4).unwrap_err().to_string().contains("a part of tensor w"));
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]

        #[test]
        fn a_piece_of_a_file_is_the_piece_of_the_tensor((cut, _) in two_cuts()) {
            let dir = tempfile::tempdir().unwrap();
            let path = dir.path().join("a.safetensors");
            let elements: Vec<[u8; 2]> = (0..cut.shape.iter().product()).map(|i: usize| (i as u16).to_le_bytes()).collect();
            let specs = vec![TensorSpec::new("w", Dtype::BF16, cut.shape.clone())];
            let mut writer = TensorFileWriter::create(&path, specs, &[]).unwrap();
            writer.write("w", elements.as_flattened()).unwrap();
            writer.finish().unwrap();
            let file = TensorFile::open(&path).unwrap();
            for piece in cut.pieces() {
                let expected = pick(&elements, &piece).concat();
                prop_assert_eq!(file.piece("w", &piece).unwrap(), (Dtype::BF16, expected));
            }
        }
    }
}
