//! Sums of buffers, in rank order, always.

use std::{cmp::Ordering, ops::AddAssign};

use bytemuck::Pod;
use half::bf16;

/// The numbers that ranks add up.
pub(crate) trait Element: Pod + Send {
    /// What sums are kept in.
    type Sum: Copy + Default + AddAssign;
    /// Exactly.
    fn widen(self) -> Self::Sum;
    /// Rounded.
    fn narrow(sum: Self::Sum) -> Self;
}

impl Element for f32 {
    type Sum = f32;
    fn widen(self) -> f32 {
        self
    }
    fn narrow(sum: f32) -> f32 {
        sum
    }
}

impl Element for f64 {
    type Sum = f64;
    fn widen(self) -> f64 {
        self
    }
    fn narrow(sum: f64) -> f64 {
        sum
    }
}

/// Summed in fp32 and rounded once.
impl Element for bf16 {
    type Sum = f32;
    fn widen(self) -> f32 {
        self.to_f32()
    }
    fn narrow(sum: f32) -> bf16 {
        bf16::from_f32(sum)
    }
}

/// Elements that are added up at a time: their sums stay in the core's first cache while the parts go by.
const BLOCK: usize = 1024;

/// `total[i]` becomes `((p₀[i] + p₁[i]) + p₂[i]) + …`, where `total` is part `own` and the others are those before and after it. All
/// parts have one length.
pub(super) fn add_up<E: Element>(total: &mut [E], own: usize, others: &[&[E]]) {
    let mut sums = [E::Sum::default(); BLOCK];
    for (at, total) in total.chunks_mut(BLOCK).enumerate() {
        let here = at * BLOCK..at * BLOCK + total.len();
        let sums = &mut sums[..total.len()];
        for place in 0..=others.len() {
            let part = match place.cmp(&own) {
                Ordering::Less => &others[place][here.clone()],
                Ordering::Equal => &*total,
                Ordering::Greater => &others[place - 1][here.clone()],
            };
            let pairs = sums.iter_mut().zip(part);
            // The first is not added to zero, which would turn -0 into 0.
            if place == 0 {
                pairs.for_each(|(sum, value)| *sum = value.widen());
            } else {
                pairs.for_each(|(sum, value)| *sum += value.widen());
            }
        }
        total.iter_mut().zip(sums).for_each(|(total, sum)| *total = E::narrow(*sum));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sums_go_in_rank_order_wherever_the_own_part_stands() {
        let parts: [Vec<f32>; 3] = [vec![1e8; 5000], vec![1.0; 5000], vec![-1e8; 5000]];
        for own in 0..3 {
            let others: Vec<&[f32]> = (0..3).filter(|&part| part != own).map(|part| &parts[part][..]).collect();
            let mut total = parts[own].clone();
            add_up(&mut total, own, &others);
            assert!(total.iter().all(|sum| *sum == 0.0));
        }
        let mut total = parts[2].clone();
        add_up(&mut total, 1, &[&parts[0], &parts[1]]);
        assert!(total.iter().all(|sum| *sum == 1.0));
        let mut alone = [-0.0_f64];
        add_up(&mut alone, 0, &[]);
        assert!(alone[0].is_sign_negative());
    }

    #[test]
    fn bf16_is_rounded_once() {
        // Each addition of 1 to 256 alone would be rounded away in bf16 (8 bits): 256 + 1 + 1 + … must reach 260.
        let one = vec![bf16::ONE; 3000];
        let mut total = vec![bf16::from_f32(256.0); 3000];
        add_up(&mut total, 0, &[&one, &one, &one, &one]);
        assert!(total.iter().all(|sum| sum.to_f32() == 260.0));
    }
}
