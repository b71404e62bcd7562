//! A seeded permutation of 0..n that is computed one place at a time, with no table and the same on every machine for ever.
//!
//! A Feistel network of eight rounds over 2k bits, the smallest even number of bits (at least 8) that holds n; its round function
//! and its keys are SplitMix64. A value outside 0..n is sent through the network again until it is inside ("cycle walking"),
//! which keeps it a permutation of 0..n. Random access is what makes the batch of any step a pure function of its number: a
//! resumed run neither replays nor skips anything, and no rank holds a shuffled list of a whole epoch.

const ROUNDS: usize = 8;

/// A permutation of 0..n.
#[derive(Debug, Clone)]
pub struct Permutation {
    keys: [u64; ROUNDS],
    half_bits: u32,
    length: u64,
}

impl Permutation {
    /// The permutation of `0..length` that belongs to a seed and a stream (such as the epoch).
    pub fn new(seed: u64, stream: u64, length: u64) -> Permutation {
        let mut state = mix(seed) ^ mix(stream.wrapping_mul(0xD1B5_4A32_D192_ED03).wrapping_add(1));
        let keys = std::array::from_fn(|_| {
            state = state.wrapping_add(0x9E37_79B9_7F4A_7C15);
            mix(state)
        });
        let bits = u64::BITS - length.saturating_sub(1).leading_zeros();
        Permutation { keys, half_bits: bits.div_ceil(2).max(4), length }
    }

    /// Where `place` is sent; `place` itself when it is not in `0..length`.
    pub fn at(&self, place: u64) -> u64 {
        if place >= self.length {
            return place;
        }
        let mut value = self.network(place);
        while value >= self.length {
            value = self.network(value);
        }
        value
    }

    fn network(&self, value: u64) -> u64 {
        let mask = (1u64 << self.half_bits) - 1;
        let (mut left, mut right) = (value >> self.half_bits, value & mask);
        for key in self.keys {
            (left, right) = (right, left ^ (mix(right ^ key) & mask));
        }
        (left << self.half_bits) | right
    }
}

/// The output function of SplitMix64.
fn mix(mut z: u64) -> u64 {
    z = z.wrapping_add(0x9E37_79B9_7F4A_7C15);
    z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    z ^ (z >> 31)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::HashMap;

    #[test]
    fn golden_for_ever() {
        // A change here would give every run another order after an upgrade: a resumed run would repeat some data and miss other.
        let order = |seed, stream, n| (0..n).map(|i| Permutation::new(seed, stream, n).at(i)).collect::<Vec<_>>();
        assert_eq!(mix(0), 0xE220_A839_7B1D_CDAF); // the first output of SplitMix64 seeded with 0
        assert_eq!(order(1, 0, 10), [8, 5, 4, 0, 6, 9, 1, 7, 2, 3]);
        assert_eq!(order(1, 1, 10), [5, 0, 1, 3, 2, 9, 8, 7, 4, 6]);
        let far = Permutation::new(7, 3, 1 << 40);
        assert_eq!([far.at(0), far.at(1), far.at((1 << 40) - 1)], [403672193858, 346324306451, 817286238771]);
    }

    #[test]
    fn small_permutations_are_all_reached_about_equally_often() {
        let mut counts: HashMap<Vec<u64>, u32> = HashMap::new();
        for seed in 0..24_000 {
            let permutation = Permutation::new(seed, 0, 4);
            *counts.entry((0..4).map(|i| permutation.at(i)).collect()).or_default() += 1;
        }
        assert_eq!(counts.len(), 24);
        assert!(counts.values().all(|count| (850..1150).contains(count)), "{counts:?}");
    }

    proptest! {
        #[test]
        fn each_place_once(seed: u64, stream: u64, length in 0u64..3000) {
            let permutation = Permutation::new(seed, stream, length);
            let mut seen: Vec<u64> = (0..length).map(|i| permutation.at(i)).collect();
            seen.sort_unstable();
            prop_assert!(seen.into_iter().eq(0..length));
        }
    }
}
