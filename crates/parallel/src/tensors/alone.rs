//! A group of one: every collective hands back what it was given, without a copy.

use tch::Tensor;

use super::{Coming, TensorGroup};
use crate::ParallelError;

/// The group of this rank alone, on any device.
pub(crate) struct Alone;

fn same(tensors: &[Tensor]) -> Coming<Vec<Tensor>> {
    let tensors: Vec<Tensor> = tensors.iter().map(Tensor::shallow_clone).collect();
    Coming::new(move || Ok(tensors))
}

impl TensorGroup for Alone {
    fn rank(&self) -> usize {
        0
    }

    fn size(&self) -> usize {
        1
    }

    fn health(&self) -> Result<(), ParallelError> {
        Ok(())
    }

    fn gather(&self, _: &'static str, own: &[Tensor], _: &[usize]) -> Coming<Vec<Tensor>> {
        same(own)
    }

    fn scatter(&self, _: &'static str, wholes: &[Tensor]) -> Coming<Vec<Tensor>> {
        same(wholes)
    }

    fn sum(&self, _: &'static str, tensors: &[Tensor]) -> Coming<Vec<Tensor>> {
        same(tensors)
    }

    fn gather_rows(&self, _: &'static str, own: &Tensor, _: usize) -> Result<Tensor, ParallelError> {
        Ok(own.shallow_clone())
    }

    fn sum_rows(&self, _: &'static str, partial: &Tensor) -> Result<Tensor, ParallelError> {
        Ok(partial.shallow_clone())
    }

    fn gather_tensors(&self, _: &'static str, own: &Tensor) -> Result<Vec<Tensor>, ParallelError> {
        Ok(vec![own.shallow_clone()])
    }
}
