//! The loss: the head's matrix product and cross-entropy in one, over a few rows at a time, so that the logits are never whole.
//!
//! Rows without a target are left out before the product. The logits have the activations' type (in bf16 each is rounded once, as in
//! Transformers); the softmax and the loss are computed in fp32. The sum of losses is fp32 within a row and fp64 over rows.

use rayon::prelude::*;
use tch::Tensor;

use super::{by_element, cuda, empty, lanes, on_device};
use crate::raw::{Element, elements, elements_mut, vectorised};
use crate::seams::{Exchange, SeamError};

/// Rows of logits that exist at one time: `[ROWS, V]`.
const ROWS: i64 = 256;
/// Rows of the head whose gradient is worked out at one time: `[IDS, D]`.
const IDS: i64 = 8192;

/// The head, or a slice of its vocabulary. Several networks with a slice each compute one loss.
#[derive(Clone, Copy)]
pub struct Head<'a> {
    /// `[v, D]`: the rows from token id `first` on.
    pub weight: &'a Tensor,
    /// The first id of the slice.
    pub first: i64,
    /// Who has the other slices.
    pub exchange: &'a dyn Exchange,
}

/// The loss and its gradient.
#[derive(Debug)]
pub struct Loss {
    /// Σ −log p(target) over the rows with a target.
    pub sum: f64,
    /// `[T, D]`: the gradient of `scale · sum`, a partial sum where the head is a slice.
    pub dh: Tensor,
}

/// Loss of `h [T, D]` through the head against `targets [T]` (-1: no loss), and the gradient of `scale · Σ`. The head's gradient,
/// where wanted, is added to `dhead [v, D]` (fp32).
///
/// # Errors
/// If the other slices cannot be reached.
pub fn forward_backward(
    h: &Tensor,
    head: Head<'_>,
    targets: &[i64],
    scale: f64,
    mut dhead: Option<&mut Tensor>,
) -> Result<Loss, SeamError> {
    if on_device(h) {
        return cuda::cross_entropy::forward_backward(h, head, targets, scale, dhead);
    }
    let (rows, wanted) = rows_with_targets(targets);
    let picked = h.index_select(0, &rows);
    let dpicked = empty(&picked.size(), picked.kind());
    let mut sum = 0.0;
    for first in (0..wanted.len() as i64).step_by(ROWS as usize) {
        let count = ROWS.min(wanted.len() as i64 - first);
        let h = picked.narrow(0, first, count);
        let mut logits = h.matmul(&head.weight.tr());
        let wanted = &wanted[first as usize..(first + count) as usize];
        let known = normalisers(&logits, wanted, head)?;
        sum += known.iter().map(|row| f64::from(row.log_sum - row.logit)).sum::<f64>();
        into_gradients(&mut logits, &known, (wanted, head.first), scale as f32);
        dpicked.narrow(0, first, count).copy_(&logits.matmul(head.weight));
        if let Some(dhead) = dhead.as_deref_mut() {
            add_product(dhead, &logits, &h);
        }
    }
    let dh = Tensor::zeros_like(h).index_copy(0, &rows, &dpicked);
    Ok(Loss { sum, dh })
}

/// The loss alone.
///
/// # Errors
/// As [`forward_backward`].
pub fn forward(h: &Tensor, head: Head<'_>, targets: &[i64]) -> Result<f64, SeamError> {
    if on_device(h) {
        return cuda::cross_entropy::forward(h, head, targets);
    }
    let (rows, wanted) = rows_with_targets(targets);
    let picked = h.index_select(0, &rows);
    let mut sum = 0.0;
    for first in (0..wanted.len() as i64).step_by(ROWS as usize) {
        let count = ROWS.min(wanted.len() as i64 - first);
        let logits = picked.narrow(0, first, count).matmul(&head.weight.tr());
        let known = normalisers(&logits, &wanted[first as usize..(first + count) as usize], head)?;
        sum += known.iter().map(|row| f64::from(row.log_sum - row.logit)).sum::<f64>();
    }
    Ok(sum)
}

/// Adds `dlogitsᵀ · h` to `dhead [v, D]` over a part of the vocabulary at a time: the product, of another type than the sum, is never whole.
pub(super) fn add_product(dhead: &mut Tensor, dlogits: &Tensor, h: &Tensor) {
    let vocabulary = dhead.size()[0];
    for first in (0..vocabulary).step_by(IDS as usize) {
        let count = IDS.min(vocabulary - first);
        let product = dlogits.narrow(1, first, count).tr().matmul(h);
        let _ = dhead.narrow(0, first, count).g_add_(&product);
    }
}

fn rows_with_targets(targets: &[i64]) -> (Tensor, Vec<i64>) {
    let (rows, wanted): (Vec<i64>, Vec<i64>) =
        targets.iter().enumerate().filter(|&(_, &target)| target >= 0).map(|(row, &target)| (row as i64, target)).unzip();
    (Tensor::from_slice(&rows), wanted)
}

/// What the loss needs to know of a row of logits.
#[derive(Clone, Copy)]
struct Row {
    /// log Σ exp over the whole vocabulary.
    log_sum: f32,
    /// The target's logit.
    logit: f32,
}

/// Each row's normaliser and target logit, from all slices.
fn normalisers(logits: &Tensor, wanted: &[i64], head: Head<'_>) -> Result<Vec<Row>, SeamError> {
    let width = logits.size()[1] as usize;
    let mut own: Vec<f32> = by_element!(logits.kind(), A => {
        let rows = elements::<A>(logits).par_chunks(width);
        rows.map(|row| vectorised(#[inline(always)] || log_sum(row))).collect()
    });
    by_element!(logits.kind(), A => {
        let rows = elements::<A>(logits).chunks(width).zip(wanted);
        own.extend(rows.map(|(row, target)| place(target - head.first, width).map_or(0.0, |place| row[place].widen())));
    });
    let parts = head.exchange.gather_numbers(own)?;
    let count = wanted.len();
    let row = |row: usize| {
        let highest = parts.iter().map(|part| part[row]).fold(f32::NEG_INFINITY, f32::max);
        let sum: f32 = parts.iter().map(|part| (part[row] - highest).exp()).sum();
        // The target's logit is in one slice; the others hold zero for it.
        Row { log_sum: highest + sum.ln(), logit: parts.iter().map(|part| part[count + row]).sum() }
    };
    Ok((0..count).map(row).collect())
}

/// The target's column in a slice of `width` columns, if it is there.
fn place(target: i64, width: usize) -> Option<usize> {
    usize::try_from(target).ok().filter(|&target| target < width)
}

/// log Σ exp(row).
#[inline(always)]
fn log_sum<A: Element>(row: &[A]) -> f32 {
    let highest = lanes::max(row);
    highest + lanes::sum(row, |logit| lanes::exp(logit - highest)).ln()
}

/// Turns `[rows, v]` logits into (softmax − one-hot) · scale in place.
fn into_gradients(logits: &mut Tensor, known: &[Row], (wanted, first): (&[i64], i64), scale: f32) {
    let width = logits.size()[1] as usize;
    by_element!(logits.kind(), A => {
        let rows = elements_mut::<A>(logits).par_chunks_mut(width).zip(known).zip(wanted);
        rows.for_each(|((row, known), target)| vectorised(#[inline(always)] || {
            row.iter_mut().for_each(|logit| *logit = A::narrow(lanes::exp(logit.widen() - known.log_sum) * scale));
            if let Some(place) = place(target - first, width) {
                row[place] = A::narrow((lanes::exp(known.logit - known.log_sum) - 1.0) * scale);
            }
        }));
    });
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ops::oracle::{assert_close, random, zeros};
    use crate::placement::Whole;

    fn whole(weight: &Tensor) -> Head<'_> {
        Head { weight, first: 0, exchange: &Whole }
    }

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
        let loss = forward_backward(&h, whole(&head), &targets, 1.0 / 400.0, Some(&mut dhead)).unwrap();
        let expected_sum = expected.double_value(&[]);
        assert!((loss.sum - expected_sum).abs() / expected_sum < 1e-6);
        assert!((forward(&h, whole(&head), &targets).unwrap() - expected_sum).abs() / expected_sum < 1e-6);
        assert_close("dh", &loss.dh, &leaf_h.grad());
        assert_close("dhead", &dhead, &leaf_head.grad());
    }

    #[test]
    fn the_heads_gradient_is_that_of_one_product_however_large_the_vocabulary() {
        let vocabulary = 2 * IDS + 3;
        let (dlogits, h, start) = (random(&[5, vocabulary], 1), random(&[5, 4], 2), random(&[vocabulary, 4], 3));
        let mut found = start.copy();
        add_product(&mut found, &dlogits, &h);
        assert_close("dhead", &found, &(start + dlogits.tr().matmul(&h)));
    }

    #[test]
    fn no_targets_is_no_loss() {
        let loss = forward_backward(&random(&[3, 4], 1), whole(&random(&[5, 4], 2)), &[-1, -1, -1], 1.0, None).unwrap();
        assert_eq!(loss.sum, 0.0);
        assert_eq!(loss.dh.abs().max().double_value(&[]), 0.0);
    }

    /// The second slice, whose first sibling's numbers are known beforehand.
    struct Second(std::cell::RefCell<std::collections::VecDeque<Vec<f32>>>);

    impl Exchange for Second {
        fn gather_rows(&self, own: Tensor, _: usize) -> Result<Tensor, SeamError> {
            Ok(own)
        }
        fn sum_rows(&self, partial: Tensor) -> Result<Tensor, SeamError> {
            Ok(partial)
        }
        fn gather_numbers(&self, own: Vec<f32>) -> Result<Vec<Vec<f32>>, SeamError> {
            let sibling = self.0.borrow_mut().pop_front().unwrap();
            assert_eq!(sibling.len(), own.len());
            Ok(vec![sibling, own])
        }
    }

    /// Notes what it is given.
    struct Noting(std::cell::RefCell<std::collections::VecDeque<Vec<f32>>>);

    impl Exchange for Noting {
        fn gather_rows(&self, own: Tensor, _: usize) -> Result<Tensor, SeamError> {
            Ok(own)
        }
        fn sum_rows(&self, partial: Tensor) -> Result<Tensor, SeamError> {
            Ok(partial)
        }
        fn gather_numbers(&self, own: Vec<f32>) -> Result<Vec<Vec<f32>>, SeamError> {
            self.0.borrow_mut().push_back(own.clone());
            Ok(vec![own])
        }
    }

    #[test]
    fn slices_of_the_vocabulary_give_the_loss_and_the_gradient_of_the_whole() {
        let (h, weight) = (random(&[300, 12], 1), random(&[40, 12], 2));
        let targets: Vec<i64> = (0..300).map(|row| if row % 3 == 0 { -1 } else { row * 7 % 40 }).collect();
        let mut dweight = zeros(&[40, 12]);
        let expected = forward_backward(&h, whole(&weight), &targets, 0.01, Some(&mut dweight)).unwrap();
        let (low, high) = (weight.narrow(0, 0, 15), weight.narrow(0, 15, 25));
        let noting = Noting(Default::default());
        forward(&h, Head { weight: &low, first: 0, exchange: &noting }, &targets).unwrap();
        let second = Second(noting.0);
        let head = Head { weight: &high, first: 15, exchange: &second };
        let mut dhigh = zeros(&[25, 12]);
        let found = forward_backward(&h, head, &targets, 0.01, Some(&mut dhigh)).unwrap();
        assert!((found.sum - expected.sum).abs() / expected.sum < 1e-6, "{} {}", found.sum, expected.sum);
        assert_close("dhead", &dhigh, &dweight.narrow(0, 15, 25));
    }
}
