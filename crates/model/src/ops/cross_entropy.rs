//! The loss: the head's matrix product and cross-entropy in one, over a few rows at a time, so that the logits are never whole.
//!
//! Rows without a target are left out before the product. The logits have the activations' type (in bf16 each is rounded once, as in
//! Transformers); the softmax and the loss are computed in fp32. The sum of losses is fp32 within a row and fp64 over rows.

use rayon::prelude::*;
use tch::{Kind, Tensor};

use super::{by_element, empty, lanes};
use crate::raw::{Element, elements, elements_mut, vectorised};

/// Rows of logits that exist at one time: `[ROWS, V]`.
const ROWS: i64 = 256;

/// The loss and its gradient.
#[derive(Debug)]
pub struct Loss {
    /// Σ −log p(target) over the rows with a target.
    pub sum: f64,
    /// `[T, D]`: the gradient of `scale · sum`.
    pub dh: Tensor,
}

/// Loss of `h [T, D]` through `head [V, D]` against `targets [T]` (-1: no loss), and the gradient of `scale · Σ`. The head's gradient,
/// where wanted, is added to `dhead [V, D]` (fp32).
pub fn forward_backward(h: &Tensor, head: &Tensor, targets: &[i64], scale: f64, mut dhead: Option<&mut Tensor>) -> Loss {
    let (rows, wanted) = rows_with_targets(targets);
    let picked = h.index_select(0, &rows);
    let dpicked = empty(&picked.size(), picked.kind());
    let mut sum = 0.0;
    for first in (0..wanted.len() as i64).step_by(ROWS as usize) {
        let count = ROWS.min(wanted.len() as i64 - first);
        let h = picked.narrow(0, first, count);
        let mut logits = h.matmul(&head.tr());
        sum += losses_into_gradients(&mut logits, &wanted[first as usize..(first + count) as usize], scale as f32);
        dpicked.narrow(0, first, count).copy_(&logits.matmul(head));
        if let Some(dhead) = dhead.as_deref_mut() {
            let _ = dhead.g_add_(&logits.tr().matmul(&h));
        }
    }
    let dh = Tensor::zeros_like(h).index_copy(0, &rows, &dpicked);
    Loss { sum, dh }
}

/// The loss alone.
pub fn forward(h: &Tensor, head: &Tensor, targets: &[i64]) -> f64 {
    each_loss(h, head, targets).iter().map(|&loss| f64::from(loss)).sum()
}

/// −log p(target) of each row that has a target, in order.
pub fn each_loss(h: &Tensor, head: &Tensor, targets: &[i64]) -> Vec<f32> {
    let (rows, wanted) = rows_with_targets(targets);
    let picked = h.index_select(0, &rows);
    let mut losses = Vec::with_capacity(wanted.len());
    for first in (0..wanted.len() as i64).step_by(ROWS as usize) {
        let count = ROWS.min(wanted.len() as i64 - first);
        let logits = picked.narrow(0, first, count).matmul(&head.tr());
        let wanted = &wanted[first as usize..(first + count) as usize];
        let width = logits.size()[1] as usize;
        by_element!(logits.kind(), A => {
            let rows = elements::<A>(&logits).par_chunks(width).zip(wanted);
            let chunk: Vec<f32> = rows.map(|(row, &target)| vectorised(#[inline(always)] || log_sum(row) - row[target].widen())).collect();
            losses.extend(chunk);
        });
    }
    losses
}

fn rows_with_targets(targets: &[i64]) -> (Tensor, Vec<usize>) {
    let (rows, wanted): (Vec<i64>, Vec<usize>) = targets
        .iter()
        .enumerate()
        .filter(|&(_, &target)| target >= 0)
        .map(|(row, &target)| (row as i64, target as usize))
        .unzip();
    (Tensor::from_slice(&rows), wanted)
}

/// log Σ exp(row).
#[inline(always)]
fn log_sum<A: Element>(row: &[A]) -> f32 {
    let highest = lanes::max(row);
    highest + lanes::sum(row, |logit| lanes::exp(logit - highest)).ln()
}

/// Turns `[rows, V]` logits into (softmax − one-hot) · scale in place; returns the sum of the losses.
fn losses_into_gradients(logits: &mut Tensor, wanted: &[usize], scale: f32) -> f64 {
    debug_assert!(matches!(logits.kind(), Kind::Float | Kind::BFloat16));
    let width = logits.size()[1] as usize;
    by_element!(logits.kind(), A => {
        let rows = elements_mut::<A>(logits).par_chunks_mut(width).zip(wanted);
        let losses: Vec<f32> = rows
            .map(|(row, &target)| vectorised(#[inline(always)] || {
                let log_sum = log_sum(row);
                let logit = row[target].widen();
                row.iter_mut().for_each(|logit| *logit = A::narrow(lanes::exp(logit.widen() - log_sum) * scale));
                row[target] = A::narrow((lanes::exp(logit - log_sum) - 1.0) * scale);
                log_sum - logit
            }))
            .collect();
        losses.iter().map(|&loss| f64::from(loss)).sum()
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ops::oracle::{assert_close, random, zeros};

    #[test]
    fn gradients_agree_with_autograd_over_several_chunks() {
        let (h, head) = (random(&[600, 12], 1), random(&[40, 12], 2));
        let targets: Vec<i64> = (0..600).map(|row| if row % 3 == 0 { -1 } else { row * 7 % 40 }).collect();
        let (leaf_h, leaf_head) = (h.copy().set_requires_grad(true), head.copy().set_requires_grad(true));
        let expected = leaf_h.matmul(&leaf_head.tr()).cross_entropy_loss::<Tensor>(
            &Tensor::from_slice(&targets),
            None,
            tch::Reduction::Sum,
            -1,
            0.0,
        );
        (&expected / 400.0).backward();

        let mut dhead = zeros(&[40, 12]);
        let loss = forward_backward(&h, &head, &targets, 1.0 / 400.0, Some(&mut dhead));
        let expected_sum = expected.double_value(&[]);
        assert!((loss.sum - expected_sum).abs() / expected_sum < 1e-6);
        assert!((forward(&h, &head, &targets) - expected_sum).abs() / expected_sum < 1e-6);
        assert_close("dh", &loss.dh, &leaf_h.grad());
        assert_close("dhead", &dhead, &leaf_head.grad());
    }

    #[test]
    fn no_targets_is_no_loss() {
        let loss = forward_backward(&random(&[3, 4], 1), &random(&[5, 4], 2), &[-1, -1, -1], 1.0, None);
        assert_eq!(loss.sum, 0.0);
        assert_eq!(loss.dh.abs().max().double_value(&[]), 0.0);
    }
}
