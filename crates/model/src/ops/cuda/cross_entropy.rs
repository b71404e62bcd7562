//! The loss on a device, over chunks of logits: see `ops/cross_entropy.rs`, whose steps these are. The host waits once, for the sum.

use tch::{Device, Kind, Tensor};

use super::{one_a_row, typed, upload};
use crate::ops::cross_entropy::{Head, Loss, add_product};
use crate::raw::cuda::{Argument, launch};
use crate::seams::SeamError;

/// Rows of logits that exist at one time: enough to fill a device, 268 MB of bf16 at a vocabulary of 32 768.
const ROWS: i64 = 4096;

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
    let (rows, wanted) = rows_with_targets(targets, h.device());
    let picked = h.index_select(0, &rows);
    let dpicked = picked.empty_like();
    let mut sums = Vec::new();
    for (first, count) in chunks(&wanted) {
        let (h, wanted) = (picked.narrow(0, first, count), wanted.narrow(0, first, count));
        let mut logits = h.matmul(&head.weight.tr());
        let known = joined(&head.exchange.gather_tensors(normalisers(&logits, &wanted, head.first))?);
        sums.push(sum_of_losses(&known));
        into_gradients(&mut logits, &known, (&wanted, head.first), scale as f32);
        dpicked.narrow(0, first, count).copy_(&logits.matmul(head.weight));
        if let Some(dhead) = dhead.as_deref_mut() {
            add_product(dhead, &logits, &h);
        }
    }
    let dh = h.zeros_like().index_copy_(0, &rows, &dpicked);
    Ok(Loss { sum: total(&sums), dh })
}

/// The loss alone.
///
/// # Errors
/// As [`forward_backward`].
pub fn forward(h: &Tensor, head: Head<'_>, targets: &[i64]) -> Result<f64, SeamError> {
    let (rows, wanted) = rows_with_targets(targets, h.device());
    let picked = h.index_select(0, &rows);
    let mut sums = Vec::new();
    for (first, count) in chunks(&wanted) {
        let logits = picked.narrow(0, first, count).matmul(&head.weight.tr());
        let own = normalisers(&logits, &wanted.narrow(0, first, count), head.first);
        sums.push(sum_of_losses(&joined(&head.exchange.gather_tensors(own)?)));
    }
    Ok(total(&sums))
}

/// Rows that have a target, and their targets, on the device.
fn rows_with_targets(targets: &[i64], device: Device) -> (Tensor, Tensor) {
    let (rows, wanted): (Vec<i64>, Vec<i64>) =
        targets.iter().enumerate().filter(|&(_, &target)| target >= 0).map(|(row, &target)| (row as i64, target)).unzip();
    (upload(&rows, device), upload(&wanted, device))
}

/// First row and number of rows of each chunk.
fn chunks(wanted: &Tensor) -> impl Iterator<Item = (i64, i64)> + use<> {
    let rows = wanted.size()[0];
    (0..rows).step_by(ROWS as usize).map(move |first| (first, ROWS.min(rows - first)))
}

/// Fetches the sum of all chunks' losses.
fn total(sums: &[Tensor]) -> f64 {
    if sums.is_empty() { 0.0 } else { Tensor::stack(sums, 0).sum(Kind::Double).double_value(&[]) }
}

/// Of each row of `logits [rows, v]`, the columns of which are the ids from `first` on: log Σ exp, and the logit of `wanted [rows]`, zero
/// where it is not here. `[2, rows]`, fp32.
fn normalisers(logits: &Tensor, wanted: &Tensor, first: i64) -> Tensor {
    let (rows, width) = (logits.size()[0], logits.size()[1] as usize);
    let mut known = Tensor::empty([2, rows], (Kind::Float, logits.device()));
    launch(
        &typed("normalisers", logits),
        one_a_row(rows as usize),
        &mut [
            Argument::Out(&mut known),
            Argument::In(logits),
            Argument::In(wanted),
            Argument::Signed(first),
            Argument::Int(rows as usize),
            Argument::Int(width),
        ],
    );
    known
}

/// The same over the whole vocabulary, from those of all slices.
fn joined(parts: &[Tensor]) -> Tensor {
    let parts = Tensor::stack(parts, 0);
    let log_sum = parts.select(1, 0).logsumexp(&[0i64][..], false);
    // The target's logit is in one slice; the others hold zero for it.
    let logit = parts.select(1, 1).sum_dim_intlist(&[0i64][..], false, Kind::Float);
    Tensor::stack(&[log_sum, logit], 0)
}

/// Σ −log p(target) of the rows of `known [2, rows]`: one fp64 number, still on the device.
fn sum_of_losses(known: &Tensor) -> Tensor {
    (known.get(0) - known.get(1)).sum(Kind::Double)
}

/// Turns `logits [rows, v]` into (softmax − one-hot) · scale in place; `known [2, rows]` is over the whole vocabulary.
fn into_gradients(logits: &mut Tensor, known: &Tensor, (wanted, first): (&Tensor, i64), scale: f32) {
    let (rows, width) = (logits.size()[0] as usize, logits.size()[1] as usize);
    let kernel = typed("logits_into_gradients", logits);
    launch(
        &kernel,
        one_a_row(rows),
        &mut [
            Argument::Out(logits),
            Argument::In(known),
            Argument::In(wanted),
            Argument::Signed(first),
            Argument::Int(rows),
            Argument::Int(width),
            Argument::Float(scale),
        ],
    );
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ops::cross_entropy as cpu;
    use crate::ops::oracle::{RELATIVE, RELATIVE_BF16, assert_close, difference, random};
    use crate::placement::Whole;
    use crate::raw::emulated;

    fn reference(logits: &Tensor, wanted: &Tensor) -> (f64, Tensor) {
        let leaf = logits.to_kind(Kind::Float).copy().set_requires_grad(true);
        let loss = leaf.cross_entropy_loss::<Tensor>(wanted, None, tch::Reduction::Sum, -1, 0.0);
        (&loss * 0.25).backward();
        (loss.double_value(&[]), leaf.grad())
    }

    #[test]
    fn the_whole_agrees_with_the_cpu() {
        if !emulated::available() {
            return;
        }
        let (h, weight) = (random(&[70, 12], 1), random(&[40, 12], 2));
        let targets: Vec<i64> = (0..70).map(|row| if row % 3 == 0 { -1 } else { row * 7 % 40 }).collect();
        let head = Head { weight: &weight, first: 0, exchange: &Whole };
        let (mut dhead, mut expected_dhead) = (random(&[40, 12], 3), random(&[40, 12], 3));
        let found = forward_backward(&h, head, &targets, 0.02, Some(&mut dhead)).unwrap();
        let expected = cpu::forward_backward(&h, head, &targets, 0.02, Some(&mut expected_dhead)).unwrap();
        let alone = forward(&h, head, &targets).unwrap();
        for sum in [found.sum, alone] {
            assert!((sum - expected.sum).abs() / expected.sum < RELATIVE, "{sum} {}", expected.sum);
        }
        assert_close("dh", &found.dh, &expected.dh);
        assert_close("dhead", &dhead, &expected_dhead);
        assert_eq!(forward_backward(&h, head, &[-1; 70], 1.0, None).unwrap().sum, 0.0);
    }

    #[test]
    fn slices_of_the_vocabulary_give_the_loss_and_the_gradient_of_autograd() {
        if !emulated::available() {
            return;
        }
        for (kind, tolerance) in [(Kind::Float, RELATIVE), (Kind::BFloat16, RELATIVE_BF16)] {
            let logits = (random(&[9, 2100], 1) * 5.0).to_kind(kind);
            let wanted = Tensor::from_slice(&[0i64, 2099, 7, 1000, 1001, 3, 5, 8, 999]);
            let (expected, gradient) = reference(&logits, &wanted);
            for cuts in [&[0, 2100][..], &[0, 1000, 2100], &[0, 3, 1001, 2100]] {
                let slice = |from: i64, to: i64| logits.narrow(1, from, to - from).copy();
                let parts: Vec<Tensor> =
                    cuts.windows(2).map(|cut| normalisers(&slice(cut[0], cut[1]), &wanted, cut[0])).collect();
                let known = joined(&parts);
                let sum = sum_of_losses(&known).double_value(&[]);
                assert!((sum - expected).abs() / expected < RELATIVE, "{sum} {expected}");
                let gradients: Vec<Tensor> = cuts
                    .windows(2)
                    .map(|cut| {
                        let mut slice = slice(cut[0], cut[1]);
                        into_gradients(&mut slice, &known, (&wanted, cut[0]), 0.25);
                        slice
                    })
                    .collect();
                let found = difference(&Tensor::cat(&gradients, 1), &gradient);
                assert!(found <= tolerance, "{kind:?} {cuts:?}: {found:.3e}");
            }
        }
    }
}
