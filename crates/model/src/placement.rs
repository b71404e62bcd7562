//! Which part of the whole network is held here: which layers, and which slice of each of their tensors.

use std::ops::Range;

/// A tensor, or a range of one of its dims.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Slice {
    /// Shape of the whole tensor.
    pub full: Vec<i64>,
    /// The dim that is cut.
    pub dim: usize,
    /// Where the slice begins in that dim.
    pub start: i64,
    /// How many entries of that dim it holds.
    pub length: i64,
}

impl Slice {
    /// All of a tensor.
    pub fn whole(full: &[i64]) -> Self {
        Self { full: full.to_vec(), dim: 0, start: 0, length: full.first().copied().unwrap_or(0) }
    }

    /// Shape of the slice.
    pub fn shape(&self) -> Vec<i64> {
        let mut shape = self.full.clone();
        if let Some(size) = shape.get_mut(self.dim) {
            *size = self.length;
        }
        shape
    }

    /// Whether it is all of the tensor.
    pub fn is_whole(&self) -> bool {
        self.shape() == self.full
    }
}

/// Decides what a network holds. Names are Hugging Face's (for LoRA: PEFT's).
pub trait Placement {
    /// The blocks that are held, by their number in the whole network. The part that begins with block 0 holds the embedding, the one
    /// that ends with the last holds norm and head.
    fn layers(&self, all: usize) -> Range<usize>;

    /// The slice that is held of the tensor `name`, whose whole shape is `full`.
    fn slice(&self, name: &str, full: &[i64]) -> Slice;
}

/// Everything is held here.
#[derive(Debug, Clone, Copy)]
pub struct Whole;

impl Placement for Whole {
    fn layers(&self, all: usize) -> Range<usize> {
        0..all
    }

    fn slice(&self, _: &str, full: &[i64]) -> Slice {
        Slice::whole(full)
    }
}
