//! RMSNorm (Zhang and Sennrich 2019, equation 4): y = w · x / √(mean(x²) + ε), with the residual addition before it fused in.

use rayon::prelude::*;
use tch::{Kind, Tensor};

use super::{by_element, cuda, empty, lanes, on_device};
use crate::raw::{Element, elements, elements_mut, vectorised};

/// Rows that one task of the thread pool takes; also where sums over rows are cut.
const ROWS: usize = 32;

/// What the backward needs besides the input.
#[derive(Debug)]
pub struct Saved {
    /// 1 / √(mean(x²) + ε) of each row, `[T]`, fp32.
    inverse_rms: Tensor,
}

/// `x [T, D]`, `w [D]` → `y [T, D]`.
pub fn forward(x: &Tensor, w: &Tensor, eps: f64) -> (Tensor, Saved) {
    if on_device(x) {
        return saving(cuda::rmsnorm::forward(x, w, eps));
    }
    by_element!(x.kind(), A => forward_rows::<A>(x, w, eps as f32))
}

fn saving((y, inverse_rms): (Tensor, Tensor)) -> (Tensor, Saved) {
    (y, Saved { inverse_rms })
}

/// Adds `delta [T, D]` to the residual stream `x [T, D]` in place, then normalises the sum.
pub fn forward_residual(x: &mut Tensor, delta: &Tensor, w: &Tensor, eps: f64) -> (Tensor, Saved) {
    if on_device(x) {
        return saving(cuda::rmsnorm::forward_residual(x, delta, w, eps));
    }
    add(x, delta);
    forward(x, w, eps)
}

/// x += delta, element by element.
pub fn add(x: &mut Tensor, delta: &Tensor) {
    if on_device(x) {
        return cuda::rmsnorm::add(x, delta);
    }
    by_element!(x.kind(), A => add_elements(elements_mut::<A>(x), elements::<A>(delta)));
}

fn add_elements<A: Element>(x: &mut [A], delta: &[A]) {
    const BLOCK: usize = 1 << 14;
    x.par_chunks_mut(BLOCK).zip(delta.par_chunks(BLOCK)).for_each(|(x, delta)| {
        vectorised(
            #[inline(always)]
            || x.iter_mut().zip(delta).for_each(|(x, delta)| *x = A::narrow(x.widen() + delta.widen())),
        );
    });
}

fn forward_rows<A: Element>(x: &Tensor, w: &Tensor, eps: f32) -> (Tensor, Saved) {
    let (tokens, width) = (x.size()[0], x.size()[1] as usize);
    let mut y = empty(&x.size(), A::KIND);
    let mut inverse_rms = empty(&[tokens], Kind::Float);
    {
        let (x, w) = (elements::<A>(x), elements::<A>(w));
        let (y, inverse_rms) = (elements_mut::<A>(&mut y), elements_mut::<f32>(&mut inverse_rms));
        let rows = ROWS * width;
        y.par_chunks_mut(rows).zip(x.par_chunks(rows)).zip(inverse_rms.par_chunks_mut(ROWS)).for_each(|((y, x), inverse_rms)| {
            vectorised(
                #[inline(always)]
                || {
                    for ((y, x), inverse_rms) in y.chunks_mut(width).zip(x.chunks(width)).zip(inverse_rms) {
                        *inverse_rms = 1.0 / (lanes::sum(x, |x| x * x) / width as f32 + eps).sqrt();
                        for ((y, x), w) in y.iter_mut().zip(x).zip(w) {
                            *y = A::narrow(x.widen() * *inverse_rms * w.widen());
                        }
                    }
                },
            );
        });
    }
    (y, Saved { inverse_rms })
}

/// Adds the gradient with respect to `x` to `dx [T, D]` (which comes in holding the residual's) and, where `dw [D]` (fp32) is given,
/// the weight's to it. With x̂ = x · r and g = dy · w: dx = r · (g − x̂ · mean(g · x̂)), dw = Σ_T dy · x̂.
pub fn backward(dy: &Tensor, (x, saved): (&Tensor, &Saved), w: &Tensor, dx: &mut Tensor, dw: Option<&mut Tensor>) {
    if on_device(x) {
        return cuda::rmsnorm::backward(dy, (x, &saved.inverse_rms), w, dx, dw);
    }
    by_element!(x.kind(), A => {
        backward_input::<A>(dy, x, saved, w, dx);
        if let Some(dw) = dw {
            backward_weight::<A>(dy, x, saved, dw);
        }
    });
}

fn backward_input<A: Element>(dy: &Tensor, x: &Tensor, saved: &Saved, w: &Tensor, dx: &mut Tensor) {
    let width = x.size()[1] as usize;
    let rows = ROWS * width;
    let (dy, x, w) = (elements::<A>(dy), elements::<A>(x), elements::<A>(w));
    let (inverse_rms, dx) = (elements::<f32>(&saved.inverse_rms), elements_mut::<A>(dx));
    let chunks = dx.par_chunks_mut(rows).zip(dy.par_chunks(rows)).zip(x.par_chunks(rows)).zip(inverse_rms.par_chunks(ROWS));
    chunks.for_each(|(((dx, dy), x), inverse_rms)| {
        vectorised(
            #[inline(always)]
            || {
                let mut g = vec![0.0f32; width];
                let mut normal = vec![0.0f32; width];
                let rows = dx.chunks_mut(width).zip(dy.chunks(width)).zip(x.chunks(width)).zip(inverse_rms);
                for (((dx, dy), x), &r) in rows {
                    for ((((g, normal), dy), x), w) in g.iter_mut().zip(&mut normal).zip(dy).zip(x).zip(w) {
                        *g = dy.widen() * w.widen();
                        *normal = x.widen() * r;
                    }
                    let mean = lanes::sum2(&g, &normal, |g, normal| g * normal) / width as f32;
                    for ((dx, g), normal) in dx.iter_mut().zip(&g).zip(&normal) {
                        *dx = A::narrow(dx.widen() + r * (g - normal * mean));
                    }
                }
            },
        );
    });
}

fn backward_weight<A: Element>(dy: &Tensor, x: &Tensor, saved: &Saved, dw: &mut Tensor) {
    let width = x.size()[1] as usize;
    let rows = ROWS * width;
    let (dy, x, inverse_rms) = (elements::<A>(dy), elements::<A>(x), elements::<f32>(&saved.inverse_rms));
    let partial: Vec<Vec<f32>> = dy
        .par_chunks(rows)
        .zip(x.par_chunks(rows))
        .zip(inverse_rms.par_chunks(ROWS))
        .map(|((dy, x), inverse_rms)| {
            vectorised(
                #[inline(always)]
                || {
                    let mut sum = vec![0.0f32; width];
                    for ((dy, x), &r) in dy.chunks(width).zip(x.chunks(width)).zip(inverse_rms) {
                        for ((sum, dy), x) in sum.iter_mut().zip(dy).zip(x) {
                            *sum += dy.widen() * x.widen() * r;
                        }
                    }
                    sum
                },
            )
        })
        .collect();
    let dw = elements_mut::<f32>(dw);
    for sum in partial {
        dw.iter_mut().zip(sum).for_each(|(dw, sum)| *dw += sum);
    }
}

#[cfg(test)]
mod tests {
    use tch::Device;

    use super::*;
    use crate::ops::oracle::{assert_close, random};

    fn reference(x: &Tensor, w: &Tensor) -> Tensor {
        x * (x.square().mean_dim(&[-1i64][..], true, Kind::Float) + 1e-5).rsqrt() * w
    }

    #[test]
    fn gradients_agree_with_autograd() {
        for tokens in [1, 31, 70] {
            let (x, w, dy) = (random(&[tokens, 50], 1), random(&[50], 2), random(&[tokens, 50], 3));
            let (leaf_x, leaf_w) = (x.copy().set_requires_grad(true), w.copy().set_requires_grad(true));
            (reference(&leaf_x, &leaf_w) * &dy).sum(Kind::Float).backward();

            let (y, saved) = forward(&x, &w, 1e-5);
            assert_close("y", &y, &reference(&x, &w));
            let mut dx = Tensor::zeros_like(&x);
            let mut dw = Tensor::zeros([50], (Kind::Float, Device::Cpu));
            backward(&dy, (&x, &saved), &w, &mut dx, Some(&mut dw));
            assert_close("dx", &dx, &leaf_x.grad());
            assert_close("dw", &dw, &leaf_w.grad());
        }
    }

    #[test]
    fn the_residual_is_added_before_and_its_gradient_kept() {
        let (x, delta, w) = (random(&[5, 8], 1), random(&[5, 8], 2), random(&[8], 3));
        let mut sum = x.copy();
        let (y, saved) = forward_residual(&mut sum, &delta, &w, 1e-5);
        assert_close("sum", &sum, &(&x + &delta));
        assert_close("y", &y, &reference(&(&x + &delta), &w));
        let (mut alone, mut with) = (Tensor::zeros_like(&x), delta.copy());
        backward(&y, (&sum, &saved), &w, &mut alone, None);
        backward(&y, (&sum, &saved), &w, &mut with, None);
        assert_close("dx", &with, &(alone + delta));
    }
}
