//! Sums gradients over ranks while the backward is still running.
//!
//! As gradients become final they are gathered into buckets; a full bucket's all-reduce starts at once and overlaps with the backward of
//! the blocks before. Sums are fp32 and element-wise in rank order, so the size of the buckets changes nothing.

use sirocco_comm::{CommError, Communicator, Pending};
use sirocco_model::{Hooks, Network, Weight};

/// The reduction of one step: pass it as the last micro-batch's hooks, then [`GradientReduction::finish`].
pub struct GradientReduction<'a> {
    communicator: &'a dyn Communicator,
    bucket_elements: usize,
    filling: Vec<f32>,
    started: Vec<Pending<Vec<f32>>>,
}

impl<'a> GradientReduction<'a> {
    /// A reduction in buckets of about `bucket_bytes`.
    pub fn new(communicator: &'a dyn Communicator, bucket_bytes: usize) -> Self {
        let bucket_elements = (bucket_bytes / size_of::<f32>()).max(1);
        Self { communicator, bucket_elements, filling: Vec::new(), started: Vec::new() }
    }

    fn start(&mut self) {
        if !self.filling.is_empty() {
            let bucket = std::mem::take(&mut self.filling);
            self.started.push(self.communicator.all_reduce_f32("gradients", bucket));
        }
    }

    /// Waits for every bucket and puts the sums in place of the network's own gradients.
    ///
    /// # Errors
    /// What ended a collective: a dead rank, a time-out, ranks that disagree.
    pub fn finish(mut self, network: &mut Network) -> Result<(), CommError> {
        self.start();
        let mut sums = Vec::with_capacity(self.started.len());
        for bucket in self.started {
            sums.push(bucket.wait()?);
        }
        let mut sums = sums.iter().flatten();
        for weight in network.trained_mut() {
            let (_, gradient) = weight.master_and_gradient();
            gradient.iter_mut().zip(&mut sums).for_each(|(gradient, sum)| *gradient = *sum);
        }
        Ok(())
    }
}

impl Hooks for GradientReduction<'_> {
    fn gradients_final(&mut self, weights: &mut dyn Iterator<Item = &Weight>) {
        for weight in weights {
            self.filling.extend_from_slice(weight.gradient_elements());
            if self.filling.len() >= self.bucket_elements {
                self.start();
            }
        }
    }
}
