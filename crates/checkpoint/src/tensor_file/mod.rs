//! safetensors files, read strictly and written as a stream: one tensor in memory at a time in both directions.

mod at_once;
mod blocks;
mod header;
mod ranges;
mod reader;
mod set;
mod writer;

use safetensors::Dtype;
use safetensors::tensor::TensorView;
use serde::{Deserialize, Serialize};

pub(crate) use at_once::write_at_once;
pub(crate) use ranges::{check_wanted, element_bytes};
pub(crate) use reader::TensorFile;
pub(crate) use set::TensorSet;
pub(crate) use writer::Finished;
pub use writer::TensorFileWriter;

/// Name, element type and shape (outermost dim first) of a tensor in a file.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TensorSpec {
    /// Full name, as in the file.
    pub name: String,
    /// Element type.
    pub dtype: Dtype,
    /// Sizes of the dims, outermost first.
    pub shape: Vec<usize>,
}

impl TensorSpec {
    /// A spec from its parts.
    pub fn new(name: impl Into<String>, dtype: Dtype, shape: impl Into<Vec<usize>>) -> Self {
        Self { name: name.into(), dtype, shape: shape.into() }
    }

    /// Elements, or `None` where the product of the dims does not fit.
    pub fn elements(&self) -> Option<usize> {
        self.shape.iter().try_fold(1usize, |n, d| n.checked_mul(*d))
    }

    /// Bytes, or `None` where the size does not fit or is not a whole number of bytes.
    pub fn bytes(&self) -> Option<usize> {
        let bits = self.elements()?.checked_mul(self.dtype.bitsize())?;
        (bits % 8 == 0).then_some(bits / 8)
    }
}

/// One tensor, read from a file into memory of its own.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OwnedTensor {
    /// Element type.
    pub dtype: Dtype,
    /// Sizes of the dims, outermost first.
    pub shape: Vec<usize>,
    /// The elements, little-endian, row-major; exactly as many bytes as dtype and shape say.
    pub data: Vec<u8>,
}

impl OwnedTensor {
    /// Dtype, shape and bytes: the form in which a network takes its tensors.
    pub fn into_parts(self) -> (Dtype, Vec<usize>, Vec<u8>) {
        (self.dtype, self.shape, self.data)
    }

    /// The tensor as the view that models are loaded from.
    ///
    /// # Errors
    /// Where the fields, which are public, have been made inconsistent.
    pub fn view(&self) -> Result<TensorView<'_>, safetensors::SafeTensorError> {
        TensorView::new(self.dtype, self.shape.clone(), &self.data)
    }
}
