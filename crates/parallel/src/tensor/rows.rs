//! Rows of the residual stream between the ranks of a tp group: the seam at which the network meets tensor parallelism.

use std::sync::Arc;

use sirocco_model::{Exchange, SeamError};
use tch::Tensor;

use crate::tensors::{TensorGroup, rows_of};

/// The ranks that hold the other slices.
pub(crate) struct Rows {
    group: Arc<dyn TensorGroup>,
}

impl Rows {
    /// Over a tp group.
    pub(crate) fn new(group: Arc<dyn TensorGroup>) -> Self {
        Self { group }
    }

    /// How many of `tokens` rows are held here.
    pub(crate) fn own(&self, tokens: usize) -> usize {
        rows_of(tokens, self.group.rank(), self.group.size())
    }
}

impl Exchange for Rows {
    fn gather_rows(&self, own: Tensor, tokens: usize) -> Result<Tensor, SeamError> {
        Ok(self.group.gather_rows("gather rows", &own, tokens)?)
    }

    fn sum_rows(&self, partial: Tensor) -> Result<Tensor, SeamError> {
        Ok(self.group.sum_rows("sum rows", &partial)?)
    }

    fn gather_numbers(&self, own: Vec<f32>) -> Result<Vec<Vec<f32>>, SeamError> {
        let parts = self.gather_tensors(Tensor::from_slice(&own))?;
        Ok(parts.iter().map(Vec::<f32>::try_from).collect::<Result<_, _>>()?)
    }

    fn gather_tensors(&self, own: Tensor) -> Result<Vec<Tensor>, SeamError> {
        Ok(self.group.gather_tensors("gather numbers", &own)?)
    }
}
