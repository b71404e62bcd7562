//! Where a network meets its surroundings: who brings weights and takes gradients ([`Hooks`]), and who holds the other rows and columns
//! of each product ([`Exchange`]). The network itself knows of neither; for one that is whole and alone both do nothing.

use std::error::Error;

use tch::{Device, Tensor};

use crate::placement::Whole;
use crate::weight::Weight;

/// What went wrong beyond a seam, in the words of whoever is there.
pub type SeamError = Box<dyn Error + Send + Sync>;

/// Weights that are used together.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Unit {
    /// The embedding.
    Embedding,
    /// A block, by its number in the whole network.
    Block(usize),
    /// The last norm and the head; where the head is tied to an embedding held here, that embedding.
    Head,
}

/// The direction in which a unit is passed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Pass {
    /// From token ids to logits.
    Forward,
    /// From the loss to gradients.
    Backward,
}

/// Told before and after each unit's weights are used.
pub trait Hooks {
    /// The weights of `unit` are about to be used: their values must be there when this returns, and before a backward the gradients
    /// of those that are trained, to be added to.
    ///
    /// # Errors
    /// If they cannot be brought.
    fn before(&mut self, unit: Unit, pass: Pass, weights: Vec<&mut Weight>) -> Result<(), SeamError>;

    /// They are no longer used in this pass; after a backward, their gradients hold all that this micro-batch adds to them.
    ///
    /// # Errors
    /// If gradients cannot be taken.
    fn after(&mut self, unit: Unit, pass: Pass, weights: Vec<&mut Weight>) -> Result<(), SeamError>;
}

/// Weights stay where they are.
impl Hooks for () {
    fn before(&mut self, _: Unit, _: Pass, _: Vec<&mut Weight>) -> Result<(), SeamError> {
        Ok(())
    }

    fn after(&mut self, _: Unit, _: Pass, _: Vec<&mut Weight>) -> Result<(), SeamError> {
        Ok(())
    }
}

/// Several networks that compute one: each holds a slice of every product's weight and, between products, some of the rows of the
/// residual stream (sequence parallelism, Korthikanti et al. 2022, section 4.2.2). `T` counts all rows, `t` those held here.
pub trait Exchange {
    /// `[t, D]` of each → `[T, D]` on all: before a product that is split by outputs. Its backward is [`Exchange::sum_rows`].
    ///
    /// # Errors
    /// If the others cannot be reached.
    fn gather_rows(&self, own: Tensor, tokens: usize) -> Result<Tensor, SeamError>;

    /// Partial sums `[T, D]` of each → own rows `[t, D]` of their sum: after a product that is split by inputs. Its backward is
    /// [`Exchange::gather_rows`].
    ///
    /// # Errors
    /// As [`Exchange::gather_rows`].
    fn sum_rows(&self, partial: Tensor) -> Result<Tensor, SeamError>;

    /// The numbers of each, in an order that is the same for all; equally many of each.
    ///
    /// # Errors
    /// As [`Exchange::gather_rows`].
    fn gather_numbers(&self, own: Vec<f32>) -> Result<Vec<Vec<f32>>, SeamError>;

    /// The same for fp32 numbers on a device. Where this goes through [`Exchange::gather_numbers`], the host waits for the device; an
    /// implementation that has another way uses that.
    ///
    /// # Errors
    /// As [`Exchange::gather_rows`].
    fn gather_tensors(&self, own: Tensor) -> Result<Vec<Tensor>, SeamError> {
        let (shape, device) = (own.size(), own.device());
        let numbers = Vec::<f32>::try_from(own.to_device(Device::Cpu).view([-1]))?;
        let back = |part: Vec<f32>| Tensor::from_slice(&part).view(&shape[..]).to_device(device);
        Ok(self.gather_numbers(numbers)?.into_iter().map(back).collect())
    }
}

impl Exchange for Whole {
    fn gather_rows(&self, own: Tensor, _: usize) -> Result<Tensor, SeamError> {
        Ok(own)
    }

    fn sum_rows(&self, partial: Tensor) -> Result<Tensor, SeamError> {
        Ok(partial)
    }

    fn gather_numbers(&self, own: Vec<f32>) -> Result<Vec<Vec<f32>>, SeamError> {
        Ok(vec![own])
    }

    fn gather_tensors(&self, own: Tensor) -> Result<Vec<Tensor>, SeamError> {
        Ok(vec![own])
    }
}
