//! Which stage of a pipeline takes which layers: contiguous ranges whose most expensive one costs as little as possible.
//!
//! Once a pipeline is full, every stage waits for its most expensive one, so that cost decides; the stages' sum is the same for every
//! division. Among the divisions with the least such cost the most even one is taken (least sum of squares, which spreads weights and
//! optimizer state), and among those the one whose earlier stages have fewer layers: an earlier stage keeps the activations of more
//! micro-batches (`schedule`).

use std::ops::Range;

/// The layers of each stage. `costs` has one entry for each layer, in any unit; the first stage costs `first_extra` more (the
/// embedding), the last `last_extra` more (the head). The result is exact and a pure function of its arguments.
///
/// `None` when there is no stage, or a layer too few to give each stage one.
pub(crate) fn layers_of_stages(costs: &[u64], first_extra: u64, last_extra: u64, stages: usize) -> Option<Vec<Range<usize>>> {
    let division = Division { costs, first_extra, last_extra, stages };
    if !(1..=costs.len()).contains(&stages) {
        return None;
    }
    let least = division.best_of_rest(|cost, rest| Some(cost.max(rest)))[0][0]?;
    let within = |cost: u128, rest: u128| (cost <= least).then(|| cost.saturating_mul(cost).saturating_add(rest));
    let squares = division.best_of_rest(within);

    let (mut ranges, mut start) = (Vec::with_capacity(stages), 0);
    for stage in 0..stages {
        let best = squares[stage][start]?;
        let total = |end: usize| within(division.cost(stage, start..end), squares[stage + 1][end]?);
        let end = division.ends(stage, start).find(|end| total(*end) == Some(best))?;
        ranges.push(start..end);
        start = end;
    }
    Some(ranges)
}

struct Division<'a> {
    costs: &'a [u64],
    first_extra: u64,
    last_extra: u64,
    stages: usize,
}

impl Division<'_> {
    /// Where a stage that begins with layer `start` may end, rising: the stages after it need a layer each.
    fn ends(&self, stage: usize, start: usize) -> Range<usize> {
        let after = self.stages - 1 - stage;
        start + 1..(self.costs.len() + 1).saturating_sub(after)
    }

    fn cost(&self, stage: usize, layers: Range<usize>) -> u128 {
        let of_layers: u128 = self.costs[layers].iter().map(|cost| u128::from(*cost)).sum();
        let first = if stage == 0 { self.first_extra } else { 0 };
        let last = if stage + 1 == self.stages { self.last_extra } else { 0 };
        of_layers + u128::from(first) + u128::from(last)
    }

    /// `[stage][layer]`: the least total when `stage` and those after it take the layers from `layer` on, where `join` adds the cost
    /// of one stage to the total of the rest (or refuses it). `None` where no division is possible.
    fn best_of_rest(&self, join: impl Fn(u128, u128) -> Option<u128>) -> Vec<Vec<Option<u128>>> {
        let layers = self.costs.len();
        let mut best = vec![vec![None; layers + 1]; self.stages + 1];
        best[self.stages][layers] = Some(0);
        for stage in (0..self.stages).rev() {
            for start in 0..layers {
                let total = |end: usize| join(self.cost(stage, start..end), best[stage + 1][end]?);
                best[stage][start] = self.ends(stage, start).filter_map(total).min();
            }
        }
        best
    }
}

/// The sizes that decide what a block and the head cost.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct CostSizes {
    /// D, the width of the residual stream.
    pub hidden: u64,
    /// H, query heads.
    pub heads: u64,
    /// K, key/value heads.
    pub kv_heads: u64,
    /// E, the width of one head.
    pub head_dim: u64,
    /// F, the width of the feed-forward part.
    pub intermediate: u64,
    /// V.
    pub vocabulary: u64,
    /// How many tokens a token attends to, on average: half the documents' length.
    pub attended: u64,
}

/// Costs of a forward in FLOP per token; a product with a weight counts two for each of its elements.
///
/// A backward costs block and head about the same multiple of this (1 where weights are frozen, 2 where they are trained), so the
/// proportions serve for a whole step.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Costs {
    /// One block: `2·(D·(H + 2K)·E + H·E·D + 3·D·F)` for its seven weights, `4·T̄·H·E` for scores and values of T̄ attended tokens.
    pub block: u64,
    /// The embedding: D, for a row is copied and nothing multiplied.
    pub embedding: u64,
    /// The head: `2·V·D`, whether or not its weight is also the embedding.
    pub head: u64,
}

impl Costs {
    /// The costs for these sizes.
    pub(crate) fn of(sizes: &CostSizes) -> Costs {
        let product = |factors: &[u64]| factors.iter().fold(1_u64, |product, factor| product.saturating_mul(*factor));
        let CostSizes { hidden, heads, kv_heads, head_dim, intermediate, vocabulary, attended } = *sizes;
        let parts = [
            product(&[2, hidden, heads, head_dim]),
            product(&[4, hidden, kv_heads, head_dim]),
            product(&[2, heads, head_dim, hidden]),
            product(&[6, hidden, intermediate]),
            product(&[4, attended, heads, head_dim]),
        ];
        let block = parts.into_iter().fold(0, u64::saturating_add);
        Costs { block, embedding: hidden, head: product(&[2, vocabulary, hidden]) }
    }

    /// [`layers_of_stages`] for `layers` equal blocks with the embedding before and the head after them.
    pub(crate) fn layers_of_stages(&self, layers: usize, stages: usize) -> Option<Vec<Range<usize>>> {
        layers_of_stages(&vec![self.block; layers], self.embedding, self.head, stages)
    }
}

#[cfg(test)]
mod tests {
    use proptest::collection::vec;
    use proptest::prelude::*;

    use super::*;

    fn lengths(ranges: &[Range<usize>]) -> Vec<usize> {
        ranges.iter().map(Range::len).collect()
    }

    /// Every way to divide `layers` into `stages` lengths of at least 1.
    fn divisions(layers: usize, stages: usize) -> Vec<Vec<usize>> {
        match stages {
            0 => {
                if layers == 0 {
                    vec![Vec::new()]
                } else {
                    Vec::new()
                }
            }
            _ => (1..=layers)
                .flat_map(|first| divisions(layers - first, stages - 1).into_iter().map(move |rest| [vec![first], rest].concat()))
                .collect(),
        }
    }

    fn stage_costs(lengths: &[usize], costs: &[u64], first_extra: u64, last_extra: u64) -> Vec<u64> {
        let mut rest = costs;
        let mut sums: Vec<u64> = Vec::new();
        for length in lengths {
            let (own, after) = rest.split_at(*length);
            sums.push(own.iter().sum());
            rest = after;
        }
        *sums.first_mut().unwrap() += first_extra;
        *sums.last_mut().unwrap() += last_extra;
        sums
    }

    #[test]
    fn equal_layers_are_divided_evenly_and_later_stages_take_more() {
        assert_eq!(layers_of_stages(&[1; 8], 0, 0, 4), Some(vec![0..2, 2..4, 4..6, 6..8]));
        assert_eq!(lengths(&layers_of_stages(&[1; 10], 0, 0, 4).unwrap()), [2, 2, 3, 3]);
        assert_eq!(lengths(&layers_of_stages(&[1; 5], 0, 0, 4).unwrap()), [1, 1, 1, 2]);
    }

    #[test]
    fn an_expensive_head_takes_layers_off_the_last_stage() {
        assert_eq!(lengths(&layers_of_stages(&[10; 12], 0, 35, 3).unwrap()), [5, 5, 2]);
        // The head alone is the most expensive stage: one layer stays with it, the others are spread.
        assert_eq!(lengths(&layers_of_stages(&[1; 7], 0, 100, 3).unwrap()), [3, 3, 1]);
    }

    #[test]
    fn too_many_stages_and_none_are_refused() {
        assert_eq!(layers_of_stages(&[1; 3], 0, 0, 4), None);
        assert_eq!(layers_of_stages(&[1; 3], 0, 0, 0), None);
        assert_eq!(layers_of_stages(&[], 0, 0, 1), None);
        assert_eq!(lengths(&layers_of_stages(&[1], 0, 0, 1).unwrap()), [1]);
    }

    #[test]
    fn costs_that_cannot_be_squared_still_give_a_division() {
        assert_eq!(lengths(&layers_of_stages(&[u64::MAX; 4], u64::MAX, u64::MAX, 2).unwrap()), [2, 2]);
    }

    #[test]
    fn costs_follow_from_sizes() {
        // SmolLM2-135M: 3,538,944 weights in the seven products of a block, 28,311,552 in the head.
        let sizes =
            CostSizes { hidden: 576, heads: 9, kv_heads: 3, head_dim: 64, intermediate: 1536, vocabulary: 49152, attended: 0 };
        assert_eq!(Costs::of(&sizes), Costs { block: 2 * 3_538_944, embedding: 576, head: 2 * 28_311_552 });
        let attended = Costs::of(&CostSizes { attended: 256, ..sizes });
        assert_eq!(attended.block, 2 * 3_538_944 + 4 * 256 * 9 * 64);
        // The head is worth eight blocks, so it stands with few.
        assert_eq!(lengths(&Costs::of(&sizes).layers_of_stages(30, 2).unwrap()), [19, 11]);
        assert_eq!(lengths(&Costs::of(&sizes).layers_of_stages(30, 4).unwrap()), [9, 9, 10, 2]);
    }

    proptest! {
        #[test]
        fn no_division_is_better(
            costs in vec(0..20_u64, 1..9), first_extra in 0..30_u64, last_extra in 0..30_u64, stages in 1..6_usize,
        ) {
            let found = layers_of_stages(&costs, first_extra, last_extra, stages);
            let key = |lengths: &Vec<usize>| {
                let sums = stage_costs(lengths, &costs, first_extra, last_extra);
                (sums.iter().max().copied(), sums.iter().map(|sum| sum * sum).sum::<u64>(), lengths.clone())
            };
            let best = divisions(costs.len(), stages).into_iter().min_by_key(key);
            prop_assert_eq!(found.as_deref().map(lengths), best);
            if let Some(ranges) = found {
                prop_assert_eq!(ranges[0].start, 0);
                prop_assert_eq!(ranges[stages - 1].end, costs.len());
                prop_assert!(ranges.windows(2).all(|pair| pair[0].end == pair[1].start));
            }
        }

        #[test]
        fn equal_layers_without_extras_differ_by_one_at_most(layers in 1..60_usize, stages in 1..12_usize) {
            if let Some(ranges) = layers_of_stages(&vec![7; layers], 0, 0, stages) {
                let lengths = lengths(&ranges);
                prop_assert!(lengths.iter().max().unwrap() - lengths.iter().min().unwrap() <= 1);
                prop_assert!(lengths.is_sorted());
            }
        }
    }
}
