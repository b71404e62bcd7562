//! RMSNorm with the residual addition before it, on a device.

use tch::{Kind, Tensor};

use super::{one_a_column, one_a_row, spread_eights, typed};
use crate::raw::cuda::{Argument, launch};

/// Rows whose share of the weight's gradient is summed by one thread a column.
const ROWS: usize = 64;

/// `x [T, D]`, `w [D]` → `y [T, D]`, 1 / √(mean(x²) + ε) `[T]`.
pub(crate) fn forward(x: &Tensor, w: &Tensor, eps: f64) -> (Tensor, Tensor) {
    normalise(Argument::In(x), x, Argument::Null, (w, eps))
}

/// The same after adding `delta` to `x` in place.
pub(crate) fn forward_residual(x: &mut Tensor, delta: &Tensor, w: &Tensor, eps: f64) -> (Tensor, Tensor) {
    let like = x.shallow_clone();
    normalise(Argument::Out(x), &like, Argument::In(delta), (w, eps))
}

fn normalise(x: Argument<'_>, like: &Tensor, delta: Argument<'_>, (w, eps): (&Tensor, f64)) -> (Tensor, Tensor) {
    let (tokens, width) = (like.size()[0], like.size()[1] as usize);
    let mut y = like.empty_like();
    let mut inverse_rms = Tensor::empty([tokens], (Kind::Float, like.device()));
    let sizes = [Argument::Int(width), Argument::Float(eps as f32)];
    let [width, eps] = sizes;
    launch(
        &typed("rmsnorm_forward", like),
        one_a_row(tokens as usize),
        &mut [Argument::Out(&mut y), Argument::Out(&mut inverse_rms), x, delta, Argument::In(w), width, eps],
    );
    (y, inverse_rms)
}

/// x += delta, element by element.
pub(crate) fn add(x: &mut Tensor, delta: &Tensor) {
    let elements = x.numel();
    launch(&typed("add", delta), spread_eights(elements), &mut [Argument::Out(x), Argument::In(delta), Argument::Int(elements)]);
}

/// Adds the gradient with respect to `x` to `dx [T, D]`, and the weight's, where wanted, to `dw [D]` (fp32).
pub(crate) fn backward(dy: &Tensor, (x, inverse_rms): (&Tensor, &Tensor), w: &Tensor, dx: &mut Tensor, dw: Option<&mut Tensor>) {
    let (tokens, width) = (x.size()[0] as usize, x.size()[1] as usize);
    launch(
        &typed("rmsnorm_backward", x),
        one_a_row(tokens),
        &mut [
            Argument::Out(dx),
            Argument::In(dy),
            Argument::In(x),
            Argument::In(w),
            Argument::In(inverse_rms),
            Argument::Int(width),
        ],
    );
    if let Some(dw) = dw {
        backward_weight(dy, (x, inverse_rms), dw);
    }
}

fn backward_weight(dy: &Tensor, (x, inverse_rms): (&Tensor, &Tensor), dw: &mut Tensor) {
    let (tokens, width) = (x.size()[0] as usize, x.size()[1] as usize);
    let chunks = tokens.div_ceil(ROWS);
    let mut partial = Tensor::empty([chunks as i64, width as i64], (Kind::Float, x.device()));
    launch(
        &typed("rmsnorm_backward_weight", x),
        one_a_column(width, chunks),
        &mut [
            Argument::Out(&mut partial),
            Argument::In(dy),
            Argument::In(x),
            Argument::In(inverse_rms),
            Argument::Int(tokens),
            Argument::Int(width),
            Argument::Int(ROWS),
        ],
    );
    launch(
        "sum_chunks",
        one_a_column(width, 1),
        &mut [Argument::Out(dw), Argument::In(&partial), Argument::Int(chunks), Argument::Int(width)],
    );
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ops::oracle::{RELATIVE, RELATIVE_BF16, difference, random, zeros};
    use crate::ops::rmsnorm as cpu;
    use crate::raw::emulated;

    fn agree(tokens: i64, width: i64, kind: Kind, tolerance: f64) {
        let [x, delta, dy, residual] = [1, 2, 3, 4].map(|seed| random(&[tokens, width], seed).to_kind(kind));
        let w = random(&[width], 5).to_kind(kind);
        let close = |name: &str, found: &Tensor, expected: &Tensor| {
            let found = difference(found, expected);
            assert!(found <= tolerance, "{name} [{tokens}, {width}] {kind:?}: {found:.3e}");
        };
        let (mut sum, mut expected_sum) = (x.copy(), x.copy());
        let (y, inverse_rms) = forward_residual(&mut sum, &delta, &w, 1e-5);
        let (expected, saved) = cpu::forward_residual(&mut expected_sum, &delta, &w, 1e-5);
        close("y", &y, &expected);
        assert!(sum.equal(&expected_sum), "the sum is rounded as on the CPU");
        close("y alone", &forward(&sum, &w, 1e-5).0, &expected);

        let (mut dx, mut expected_dx) = (residual.copy(), residual.copy());
        let (mut dw, mut expected_dw) = (zeros(&[width]), zeros(&[width]));
        backward(&dy, (&sum, &inverse_rms), &w, &mut dx, Some(&mut dw));
        cpu::backward(&dy, (&sum, &saved), &w, &mut expected_dx, Some(&mut expected_dw));
        close("dx", &dx, &expected_dx);
        close("dw", &dw, &expected_dw);
        add(&mut dx, &delta);
        cpu::add(&mut expected_dx, &delta);
        close("sum", &dx, &expected_dx);
    }

    #[test]
    fn it_agrees_with_the_cpu() {
        if !emulated::available() {
            return;
        }
        for (tokens, width) in [(1, 64), (67, 2056), (3, 50), (130, 8)] {
            agree(tokens, width, Kind::Float, RELATIVE);
            agree(tokens, width, Kind::BFloat16, RELATIVE_BF16);
        }
    }
}
