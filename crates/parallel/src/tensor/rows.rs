//! Rows of the residual stream between the ranks of a tp group: the seam at which the network meets tensor parallelism.

use std::sync::Arc;

use sirocco_comm::Communicator;
use sirocco_model::{Exchange, SeamError};
use tch::{Kind, Tensor};

use crate::tensors;

/// The ranks that hold the other slices.
pub struct Rows {
    group: Arc<dyn Communicator>,
}

impl Rows {
    /// Over a tp group.
    pub fn new(group: Arc<dyn Communicator>) -> Self {
        Self { group }
    }

    /// Rows `[first, last)` of `tokens` that the place `index` of the group holds.
    fn share(&self, index: usize, tokens: usize) -> usize {
        let bound = |index: usize| tokens * index / self.group.size();
        bound(index + 1) - bound(index)
    }

    /// How many of `tokens` rows are held here.
    pub fn own(&self, tokens: usize) -> usize {
        self.share(self.group.rank(), tokens)
    }
}

impl Exchange for Rows {
    fn gather_rows(&self, own: Tensor, tokens: usize) -> Result<Tensor, SeamError> {
        let (width, kind) = (own.size()[1], own.kind());
        tensors::all_gather(self.group.as_ref(), "gather rows", &own, (&[tokens as i64, width], kind))
    }

    fn sum_rows(&self, partial: Tensor) -> Result<Tensor, SeamError> {
        let (tokens, width) = (partial.size()[0] as usize, partial.size()[1]);
        let lengths: Vec<usize> = (0..self.group.size()).map(|index| self.share(index, tokens) * width as usize).collect();
        let sum = tensors::reduce_scatter(self.group.as_ref(), "sum rows", &partial.contiguous(), &lengths)?;
        Ok(sum.view([self.own(tokens) as i64, width]))
    }

    fn gather_numbers(&self, own: Vec<f32>) -> Result<Vec<Vec<f32>>, SeamError> {
        let numbers = Tensor::from_slice(&own);
        let parts = self.group.all_gather_bytes("gather numbers", sirocco_model::memory::bytes(&numbers).to_vec()).wait()?;
        let read = |part: Vec<u8>| {
            let part = tensors::from_parts([part.as_slice()], (&[own.len() as i64], Kind::Float))?;
            Ok(sirocco_model::memory::floats(&part).to_vec())
        };
        parts.into_iter().map(read).collect()
    }
}
