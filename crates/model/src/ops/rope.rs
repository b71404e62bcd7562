//! Rotary position embedding (Su et al. 2021, equation 34), half-split as in Hugging Face's layout: dim i turns with dim i + E/2.

use std::sync::atomic::{AtomicU64, Ordering};

/// Cosines and sines of every angle, in fp32: bf16 tables are wrong by whole radians at long positions.
#[derive(Debug, Clone)]
pub struct RopeTable {
    /// Tells tables apart; clones share it.
    id: u64,
    half: usize,
    cos: Vec<f32>,
    sin: Vec<f32>,
}

impl RopeTable {
    /// Angles position · θ^(−2i/E) for `positions` positions and a head of `head_dim` = E dims. The angle is computed in fp32 from an
    /// fp32 frequency, as the models were trained.
    pub fn new(head_dim: usize, theta: f64, positions: usize) -> Self {
        let half = head_dim / 2;
        let frequency: Vec<f32> = (0..half).map(|i| (1.0 / theta.powf(2.0 * i as f64 / head_dim as f64)) as f32).collect();
        let angles = || (0..positions).flat_map(|position| frequency.iter().map(move |frequency| position as f32 * frequency));
        let cos = angles().map(|angle| f64::from(angle).cos() as f32).collect();
        let sin = angles().map(|angle| f64::from(angle).sin() as f32).collect();
        static TABLES: AtomicU64 = AtomicU64::new(0);
        Self { id: TABLES.fetch_add(1, Ordering::Relaxed), half, cos, sin }
    }

    /// What tells this table, and clones of it, from all others of this process.
    pub(crate) fn id(&self) -> u64 {
        self.id
    }

    /// E ÷ 2.
    pub(crate) fn half(&self) -> usize {
        self.half
    }

    /// The cosines, `[positions, E ÷ 2]`.
    pub(crate) fn cosines(&self) -> &[f32] {
        &self.cos
    }

    /// The sines, likewise.
    pub(crate) fn sines(&self) -> &[f32] {
        &self.sin
    }

    /// How many positions the table covers.
    pub fn positions(&self) -> usize {
        self.cos.len() / self.half.max(1)
    }

    /// Turns one head, `[E]`, to `position`; with `sign` −1 turns it back, which is also the backward.
    #[inline(always)]
    pub fn turn(&self, head: &mut [f32], position: usize, sign: f32) {
        let angles = position * self.half..(position + 1) * self.half;
        let (low, high) = head.split_at_mut(self.half);
        for (((low, high), cos), sin) in low.iter_mut().zip(high).zip(&self.cos[angles.clone()]).zip(&self.sin[angles]) {
            let (a, b) = (*low, *high);
            *low = a * cos - b * sin * sign;
            *high = b * cos + a * sin * sign;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn turning_there_and_back_is_the_identity_and_position_0_does_nothing() {
        let table = RopeTable::new(8, 1e4, 100);
        let start: Vec<f32> = (0..8).map(|n| n as f32 - 3.0).collect();
        let mut head = start.clone();
        table.turn(&mut head, 0, 1.0);
        assert_eq!(head, start);
        table.turn(&mut head, 73, 1.0);
        assert!((head[0] - start[0]).abs() > 0.1);
        table.turn(&mut head, 73, -1.0);
        assert!(head.iter().zip(&start).all(|(a, b)| (a - b).abs() < 1e-5));
    }

    #[test]
    fn a_product_of_two_turned_heads_depends_on_their_distance_alone() {
        let table = RopeTable::new(16, 1e5, 2000);
        let product = |p, q| {
            let (mut a, mut b) = ([0.5f32; 16], [0.25f32; 16]);
            table.turn(&mut a, p, 1.0);
            table.turn(&mut b, q, 1.0);
            a.iter().zip(&b).map(|(a, b)| a * b).sum::<f32>()
        };
        assert!((product(7, 3) - product(1904, 1900)).abs() < 1e-3);
    }
}
