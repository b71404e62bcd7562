//! Sums gradients over the ranks that hold the same pieces, while the backward is still running.
//!
//! As gradients become final they are gathered into buckets, one being filled for each set of ranks; a full bucket's all-reduce starts at
//! once and overlaps with the backward of the blocks before. Sums are fp32 and element-wise in rank order, so the size of the buckets
//! changes nothing.

use std::collections::VecDeque;
use std::sync::Arc;

use tch::Tensor;

use crate::ParallelError;
use crate::fsdp::Shard;
use crate::tensors::{Coming, Maker, TensorGroup};

/// Sums that may be under way: one on the wire, one waiting for it, one whose result is being written back.
const UNDER_WAY: usize = 3;

/// The reductions of one step.
pub(crate) struct Reduction {
    groups: Arc<Groups>,
    bucket_elements: usize,
    filling: Vec<Bucket>,
    started: VecDeque<(Vec<usize>, Coming<Vec<Tensor>>)>,
    /// Elements whose sums are in place.
    summed: usize,
}

#[derive(Default)]
struct Bucket {
    shards: Vec<usize>,
    gradients: Vec<Tensor>,
    elements: usize,
}

/// The sets of ranks over which a rank sums gradients. Fixed for a run.
pub(crate) struct Groups {
    groups: Vec<Group>,
    /// By shard: its group's number, where it is trained.
    of: Vec<Option<usize>>,
}

struct Group {
    ranks: Arc<dyn TensorGroup>,
    /// Whether all of it is in one pipeline stage. Where it is not, its sums wait for the end of the step: the other stages are at other
    /// points of the schedule, and a stage that waited for them would hold up those that wait for it.
    together: bool,
}

impl Groups {
    /// Finds the sets and makes their communicators.
    ///
    /// # Errors
    /// A group that the communicator refuses.
    pub(crate) fn new(shards: &[Shard], groups: Maker<'_>, stage_of: impl Fn(usize) -> usize) -> Result<Self, ParallelError> {
        let mut sets: Vec<&[usize]> = Vec::new();
        let mut of = Vec::with_capacity(shards.len());
        for shard in shards {
            if !shard.is_trained() {
                of.push(None);
                continue;
            }
            let known = sets.iter().position(|set| *set == shard.replicas());
            of.push(Some(known.unwrap_or(sets.len())));
            if known.is_none() {
                sets.push(shard.replicas());
            }
        }
        let group = |set: &&[usize]| {
            let together = set.iter().all(|&rank| stage_of(rank) == stage_of(set[0]));
            Ok(Group { ranks: groups.of("replicas", set)?, together })
        };
        Ok(Self { groups: sets.iter().map(group).collect::<Result<_, ParallelError>>()?, of })
    }
}

impl Reduction {
    /// The reductions of a step, in buckets of about `bucket_bytes`.
    pub(crate) fn new(groups: Arc<Groups>, bucket_bytes: usize) -> Self {
        let filling = groups.groups.iter().map(|_| Bucket::default()).collect();
        Self { groups, bucket_elements: (bucket_bytes / size_of::<f32>()).max(1), filling, started: VecDeque::new(), summed: 0 }
    }

    /// The gradient of the shard `number` is final on this rank.
    ///
    /// # Errors
    /// What ended a collective.
    pub(crate) fn add(&mut self, number: usize, shards: &mut [Shard]) -> Result<(), ParallelError> {
        let (Some(group), Some(gradient)) = (self.groups.of[number], shards[number].gradient_tensor()) else { return Ok(()) };
        let bucket = &mut self.filling[group];
        bucket.shards.push(number);
        bucket.elements += gradient.numel();
        bucket.gradients.push(gradient.shallow_clone());
        if bucket.elements >= self.bucket_elements && self.groups.groups[group].together {
            self.start(group);
        }
        self.collect(UNDER_WAY, shards)
    }

    fn start(&mut self, group: usize) {
        let Bucket { shards, gradients, .. } = std::mem::take(&mut self.filling[group]);
        if !shards.is_empty() {
            self.started.push_back((shards, self.groups.groups[group].ranks.sum("reduce gradients", &gradients)));
        }
    }

    /// Puts sums in place of this rank's own gradients, oldest first, until at most `left` are under way.
    fn collect(&mut self, left: usize, shards: &mut [Shard]) -> Result<(), ParallelError> {
        while self.started.len() > left {
            let Some((numbers, sums)) = self.started.pop_front() else { break };
            for (number, sum) in numbers.into_iter().zip(sums.wait()?) {
                if let Some((_, gradient)) = shards[number].tensors_mut() {
                    gradient.copy_(&sum);
                    self.summed += sum.numel();
                }
            }
        }
        Ok(())
    }

    /// Waits for every bucket.
    ///
    /// # Errors
    /// What ended a collective; sums that are more or fewer than the trained elements.
    pub(crate) fn finish(mut self, shards: &mut [Shard]) -> Result<(), ParallelError> {
        let (together, apart): (Vec<usize>, Vec<usize>) =
            (0..self.filling.len()).partition(|&group| self.groups.groups[group].together);
        together.into_iter().chain(apart).for_each(|group| self.start(group));
        self.collect(0, shards)?;
        let expected: usize = shards.iter().filter_map(Shard::gradient_tensor).map(Tensor::numel).sum();
        let found = self.summed;
        if found == expected { Ok(()) } else { Err(ParallelError::Length { found, expected }) }
    }
}
