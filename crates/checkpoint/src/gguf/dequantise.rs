//! ggml's element types: how many bytes they take, and how each block becomes fp32.
//! Blocks are 32 elements along a row; arithmetic is fp32 as in ggml's reference code.

use half::{bf16, f16};
use rayon::prelude::*;

const BLOCK: usize = 32;

/// The types that can be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) enum GgmlType {
    /// IEEE single precision.
    F32,
    /// IEEE half precision.
    F16,
    /// Upper half of fp32.
    Bf16,
    /// fp16 scale, 32 signed bytes.
    Q8_0,
    /// fp16 scale, 16 bytes of nibbles with an offset of 8.
    Q4_0,
    /// fp16 scale and fp16 minimum, 16 bytes of nibbles.
    Q4_1,
}

impl GgmlType {
    /// What error messages offer.
    pub(super) const SUPPORTED: &'static str = "F32, F16, BF16, Q8_0, Q4_0 or Q4_1";

    /// From ggml's type number.
    pub(crate) fn from_id(id: u32) -> Option<Self> {
        Some(match id {
            0 => Self::F32,
            1 => Self::F16,
            2 => Self::Q4_0,
            3 => Self::Q4_1,
            8 => Self::Q8_0,
            30 => Self::Bf16,
            _ => return None,
        })
    }

    /// ggml's name.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::F32 => "F32",
            Self::F16 => "F16",
            Self::Bf16 => "BF16",
            Self::Q8_0 => "Q8_0",
            Self::Q4_0 => "Q4_0",
            Self::Q4_1 => "Q4_1",
        }
    }

    /// The name of any type number, for messages.
    pub(crate) fn name_of(id: u32) -> String {
        const OTHERS: [(u32, &str); 20] = [
            (6, "Q5_0"),
            (7, "Q5_1"),
            (9, "Q8_1"),
            (10, "Q2_K"),
            (11, "Q3_K"),
            (12, "Q4_K"),
            (13, "Q5_K"),
            (14, "Q6_K"),
            (15, "Q8_K"),
            (16, "IQ2_XXS"),
            (17, "IQ2_XS"),
            (18, "IQ3_XXS"),
            (19, "IQ1_S"),
            (20, "IQ4_NL"),
            (21, "IQ3_S"),
            (22, "IQ2_S"),
            (23, "IQ4_XS"),
            (28, "F64"),
            (29, "IQ1_M"),
            (39, "MXFP4"),
        ];
        match (Self::from_id(id), OTHERS.iter().find(|(n, _)| *n == id)) {
            (Some(kind), _) => kind.name().to_string(),
            (None, Some((_, name))) => (*name).to_string(),
            (None, None) => format!("number {id}"),
        }
    }

    /// Elements and bytes of one block.
    fn block(self) -> (usize, usize) {
        match self {
            Self::F32 => (1, 4),
            Self::F16 | Self::Bf16 => (1, 2),
            Self::Q8_0 => (BLOCK, 2 + BLOCK),
            Self::Q4_0 => (BLOCK, 2 + BLOCK / 2),
            Self::Q4_1 => (BLOCK, 4 + BLOCK / 2),
        }
    }

    /// Bytes of a tensor, or `None` where its rows are not whole blocks or the size does not fit.
    pub(super) fn bytes(self, elements: u64, row: u64) -> Option<u64> {
        let (block_elements, block_bytes) = self.block();
        if !row.is_multiple_of(block_elements as u64) {
            return None;
        }
        (elements / block_elements as u64).checked_mul(block_bytes as u64)
    }

    /// Converts whole blocks to fp32. Bytes beyond the last whole block are ignored.
    pub(crate) fn dequantise(self, bytes: &[u8]) -> Vec<f32> {
        let (block_elements, block_bytes) = self.block();
        // Enough blocks per task that threads are worth waking.
        let blocks_per_task = 1 + (1 << 16) / block_elements;
        let mut out = vec![0f32; bytes.len() / block_bytes * block_elements];
        let tasks = out.par_chunks_mut(blocks_per_task * block_elements).zip(bytes.par_chunks(blocks_per_task * block_bytes));
        tasks.for_each(|(out, bytes)| {
            for (out, block) in out.chunks_exact_mut(block_elements).zip(bytes.chunks_exact(block_bytes)) {
                self.block_to_f32(block, out);
            }
        });
        out
    }

    fn block_to_f32(self, block: &[u8], out: &mut [f32]) {
        let half = |at: usize| f16::from_le_bytes([block[at], block[at + 1]]).to_f32();
        match self {
            Self::F32 => out[0] = f32::from_le_bytes([block[0], block[1], block[2], block[3]]),
            Self::F16 => out[0] = half(0),
            Self::Bf16 => out[0] = bf16::from_le_bytes([block[0], block[1]]).to_f32(),
            Self::Q8_0 => {
                let scale = half(0);
                for (x, q) in out.iter_mut().zip(&block[2..]) {
                    *x = scale * f32::from(*q as i8);
                }
            }
            Self::Q4_0 => {
                let scale = half(0);
                nibbles(&block[2..], out, |q| scale * (f32::from(q) - 8.0));
            }
            Self::Q4_1 => {
                let (scale, minimum) = (half(0), half(2));
                nibbles(&block[4..], out, |q| scale * f32::from(q) + minimum);
            }
        }
    }
}

/// The low nibbles are the first half of a block, the high nibbles the second.
fn nibbles(packed: &[u8], out: &mut [f32], value: impl Fn(u8) -> f32) {
    for (i, byte) in packed.iter().enumerate() {
        out[i] = value(byte & 0x0f);
        out[i + BLOCK / 2] = value(byte >> 4);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nibbles_go_low_half_first() {
        // Scale 2, minimum -1; byte i holds i in the low and 15 - i in the high nibble.
        let mut block = [f16::from_f32(2.0).to_le_bytes(), f16::from_f32(-1.0).to_le_bytes()].concat();
        block.extend((0..16u8).map(|i| i | ((15 - i) << 4)));
        let out = GgmlType::Q4_1.dequantise(&block);
        assert_eq!(out[0], -1.0);
        assert_eq!(out[15], 29.0);
        assert_eq!(out[16], 29.0);
        assert_eq!(out[31], -1.0);
    }

    #[test]
    fn sizes_need_whole_blocks() {
        assert_eq!(GgmlType::Q4_1.bytes(64, 32), Some(40));
        assert_eq!(GgmlType::Q4_1.bytes(64, 16), None);
        assert_eq!(GgmlType::F16.bytes(3, 3), Some(6));
    }
}
