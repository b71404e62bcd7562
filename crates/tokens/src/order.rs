//! Which sequences a step takes: a pure function of the seed and the step, whatever the number of ranks.

use crate::permutation::Permutation;

/// The order of the data of a run. The cursor is the step: step s takes the samples `s × global_batch` and following of an
/// endless list, in which every epoch holds each sequence once, shuffled by (seed, epoch). A batch may cross the end of an
/// epoch; nothing is dropped and nothing is filled up.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Order {
    /// The run's seed.
    pub seed: u64,
    /// How many sequences there are.
    pub sequences: usize,
    /// How many a step takes, over all ranks.
    pub global_batch: usize,
}

impl Order {
    /// The sequences of a step (from 0), in order; empty when there are no sequences at all.
    pub fn step(&self, step: u64) -> Vec<usize> {
        if self.sequences == 0 {
            return Vec::new();
        }
        let sequences = self.sequences as u128;
        let first = u128::from(step) * self.global_batch as u128;
        let mut shuffled: Option<(u64, Permutation)> = None;
        let sample = |sample: u128| {
            let epoch = (sample / sequences) as u64;
            if shuffled.as_ref().is_none_or(|(of, _)| *of != epoch) {
                shuffled = Some((epoch, Permutation::new(self.seed, epoch, self.sequences as u64)));
            }
            let place = (sample % sequences) as u64;
            shuffled.as_ref().map_or(0, |(_, permutation)| permutation.at(place) as usize)
        };
        (first..first + self.global_batch as u128).map(sample).collect()
    }

    /// The epoch (from 0) in which a step begins.
    pub fn epoch(&self, step: u64) -> u64 {
        let first = u128::from(step) * self.global_batch as u128;
        (first / (self.sequences as u128).max(1)) as u64
    }

    /// How many steps see `epochs` whole epochs, rounded up.
    pub fn steps(&self, epochs: u64) -> u64 {
        let samples = u128::from(epochs) * self.sequences as u128;
        samples.div_ceil((self.global_batch as u128).max(1)) as u64
    }

    /// One rank's part of a batch: contiguous, and of the sizes n/ranks or n/ranks + 1, larger ones first. The parts of all
    /// ranks in order are the batch.
    pub fn share(batch: &[usize], rank: usize, ranks: usize) -> Vec<usize> {
        let ranks = ranks.max(1);
        let (size, larger) = (batch.len() / ranks, batch.len() % ranks);
        let start = rank * size + rank.min(larger);
        let end = start + size + usize::from(rank < larger);
        batch.get(start..end).unwrap_or_default().to_vec()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn golden_for_ever() {
        let order = Order { seed: 1, sequences: 7, global_batch: 3 };
        let steps: Vec<Vec<usize>> = (0..5).map(|step| order.step(step)).collect();
        assert_eq!(steps, [[2, 5, 4], [0, 6, 3], [1, 5, 0], [1, 3, 2], [6, 4, 5]]);
        assert_eq!((order.epoch(2), order.epoch(3), order.steps(1), order.steps(3)), (0, 1, 3, 7));
    }

    #[test]
    fn nothing_to_take_and_more_than_there_is() {
        assert!(Order { seed: 0, sequences: 0, global_batch: 4 }.step(9).is_empty());
        let order = Order { seed: 0, sequences: 2, global_batch: 5 };
        assert_eq!(order.step(0).len(), 5);
        assert_eq!(order.step(u64::MAX).len(), 5);
    }

    proptest! {
        #[test]
        fn every_sequence_exactly_once_an_epoch(seed: u64, sequences in 1usize..60, global_batch in 1usize..20, epochs in 1usize..4) {
            let order = Order { seed, sequences, global_batch };
            let taken: Vec<usize> = (0..order.steps(epochs as u64)).flat_map(|step| order.step(step)).collect();
            for epoch in taken.chunks(sequences).take(epochs) {
                let mut epoch = epoch.to_vec();
                epoch.sort_unstable();
                prop_assert!(epoch.into_iter().eq(0..sequences));
            }
        }

        #[test]
        fn the_batch_size_does_not_change_the_list(seed: u64, sequences in 1usize..60, a in 1usize..9, b in 1usize..9) {
            let list = |global_batch| {
                let order = Order { seed, sequences, global_batch };
                (0..).flat_map(|step| order.step(step)).take(200).collect::<Vec<_>>()
            };
            let (x, y): (Vec<usize>, Vec<usize>) = (list(a), list(b));
            prop_assert_eq!(x, y);
        }

        #[test]
        fn shares_are_a_partition_in_order(batch in proptest::collection::vec(0usize..99, 0..40), ranks in 1usize..9) {
            let parts: Vec<Vec<usize>> = (0..ranks).map(|rank| Order::share(&batch, rank, ranks)).collect();
            let (least, most) = (parts.iter().map(Vec::len).min(), parts.iter().map(Vec::len).max());
            prop_assert!(most.unwrap() - least.unwrap() <= 1);
            prop_assert_eq!(parts.concat(), batch);
            prop_assert!(Order::share(&[1, 2], ranks, ranks).is_empty());
        }
    }
}
