//! A linear without bias: y = x · Wᵀ, with LoRA on it or without.
//!
//! It may hold a slice of W. Of its outputs (rows of W and B): y is the slice's, and dx a partial sum. Of its inputs (columns of W and A):
//! y is a partial sum, and dx the slice's. Either way the gradient of a factor that is held whole (A, or B) is a partial sum, too.

use tch::Tensor;

use crate::lora::Lora;
use crate::weight::Weight;

/// A named weight's forward and backward: the seam at which parallelism, adapters and quantised weights attach.
#[derive(Debug)]
pub struct Linear {
    /// W, `[out, in]`.
    pub weight: Weight,
    /// The factors on it, if it is adapted.
    pub lora: Option<Lora>,
}

/// What the backward needs besides the input: s · x · Aᵀ, `[T, R]`, where there is LoRA.
#[derive(Debug)]
pub struct Saved(Option<Tensor>);

impl Linear {
    /// `x [T, in]` → `[T, out]`.
    pub fn forward(&self, x: &Tensor) -> (Tensor, Saved) {
        let saved = self.prepare(x);
        (self.finish(x, &saved), saved)
    }

    /// The first, small part of a forward: all that the backward needs.
    pub fn prepare(&self, x: &Tensor) -> Saved {
        Saved(self.lora.as_ref().map(|lora| x.matmul(&lora.a.value().tr()) * lora.scale))
    }

    /// The rest of a forward: `[T, out]`.
    ///
    /// The factors' term comes first: the product with W is added to it in fp32 and rounded once. The other way round, what a young
    /// adapter adds to a bf16 output would be less than half of its last place, and rounded away.
    pub fn finish(&self, x: &Tensor, saved: &Saved) -> Tensor {
        let weight = self.weight.value().tr();
        match (&self.lora, &saved.0) {
            (Some(lora), Some(low)) => low.matmul(&lora.b.value().tr()).addmm_(x, &weight),
            _ => x.matmul(&weight),
        }
    }

    /// The gradient of `x` from `dy [T, out]`, added to `dx` if one is given; gradients of what is trained are accumulated:
    /// dW = dyᵀ · x, dB = dyᵀ · (s x Aᵀ), dA = (s dy B)ᵀ · x.
    pub fn backward(&mut self, x: &Tensor, saved: &Saved, dy: &Tensor, dx: Option<Tensor>) -> Tensor {
        self.weight.accumulate(&dy.tr(), x);
        let (Some(lora), Some(low)) = (&mut self.lora, &saved.0) else { return plus(dx, dy, self.weight.value()) };
        let dlow = dy.matmul(lora.b.value()) * lora.scale;
        lora.b.accumulate(&dy.tr(), low);
        lora.a.accumulate(&dlow.tr(), x);
        // The small term first, as in the forward.
        let own = dlow.matmul(lora.a.value()).addmm_(dy, self.weight.value());
        match dx {
            None => own,
            Some(mut dx) => dx.g_add_(&own),
        }
    }

    /// Its weights: W, then the factors A and B where there are any.
    pub fn weights(&self) -> impl Iterator<Item = &Weight> {
        std::iter::once(&self.weight).chain(self.lora.iter().flat_map(|lora| [&lora.a, &lora.b]))
    }

    /// As [`Linear::weights`], to write to.
    pub fn weights_mut(&mut self) -> impl Iterator<Item = &mut Weight> {
        std::iter::once(&mut self.weight).chain(self.lora.iter_mut().flat_map(|lora| [&mut lora.a, &mut lora.b]))
    }
}

/// `sum + a · b`, in the memory of `sum` where there is one.
fn plus(sum: Option<Tensor>, a: &Tensor, b: &Tensor) -> Tensor {
    match sum {
        None => a.matmul(b),
        Some(mut sum) => sum.addmm_(a, b),
    }
}

#[cfg(test)]
mod tests {
    use tch::Kind;

    use super::*;
    use crate::lora::merge;
    use crate::ops::oracle::{assert_close, random, zeros};

    #[test]
    fn gradients_agree_with_autograd_with_and_without_lora() {
        let (x, w, dy) = (random(&[9, 12], 1), random(&[7, 12], 2), random(&[9, 7], 3));
        for adapted in [false, true] {
            let mut linear = Linear { weight: Weight::frozen("w", w.copy()), lora: None };
            let leaves = [&x, &w].map(|tensor| tensor.copy().set_requires_grad(true));
            let mut expected = leaves[0].matmul(&leaves[1].tr());
            let mut factors = Vec::new();
            if adapted {
                let [a, b] = [random(&[3, 12], 6), random(&[7, 3], 4)];
                factors = vec![a.copy().set_requires_grad(true), b.copy().set_requires_grad(true)];
                expected += leaves[0].matmul(&factors[0].tr()).matmul(&factors[1].tr()) * 0.5;
                linear.lora = Some(Lora { a: Weight::frozen("a", a), b: Weight::frozen("b", b), scale: 0.5 });
            }
            for weight in linear.weights_mut() {
                weight.set_gradient(zeros(&weight.shape())).unwrap();
            }
            (&expected * &dy).sum(Kind::Float).backward();

            let (y, saved) = linear.forward(&x);
            assert_close("y", &y, &expected.detach());
            let start = random(&[9, 12], 5);
            let dx = linear.backward(&x, &saved, &dy, Some(start.copy()));
            assert_close("dx", &(dx - start), &leaves[0].grad());
            assert_close("dw", linear.weight.gradient().unwrap(), &leaves[1].grad());
            for (weight, leaf) in linear.weights().skip(1).zip(&factors) {
                assert_close(weight.name(), weight.gradient().unwrap(), &leaf.grad());
            }
            if let Some(lora) = &linear.lora {
                let merged = merge(linear.weight.value(), (lora.a.value(), lora.b.value()), lora.scale);
                assert_close("merged", &x.matmul(&merged.tr()), &y);
            }
        }
    }

    /// In bf16 the last place of an output, or of a gradient, is much larger than what a young adapter adds. On average over many that must
    /// remain.
    #[test]
    fn what_a_young_adapter_adds_is_not_rounded_away() {
        for (rows, inputs, outputs) in [(1, 64, 50_000), (7, 64, 7_000), (96, 64, 500), (96, 500, 64)] {
            let (x, w) = (random(&[rows, inputs], 1), random(&[outputs, inputs], 2));
            let (a, b) = (random(&[4, inputs], 3) * 0.01, random(&[outputs, 4], 4) * 0.01);
            let (dy, start) = (random(&[rows, outputs], 5), random(&[rows, inputs], 6));
            let [x, w, a, b, dy, start] = [x, w, a, b, dy, start].map(|tensor| tensor.to_kind(Kind::BFloat16));
            let product = |x: &Tensor, y: &Tensor| x.to_kind(Kind::Float).matmul(&y.to_kind(Kind::Float));
            let expected = [product(&x.matmul(&a.tr()), &b.tr()), product(&dy.matmul(&b), &a), product(&dy.matmul(&b), &a)];
            let frozen = |name: &str, value| Weight::frozen(name, value);
            let lora = Lora { a: frozen("a", a), b: frozen("b", b), scale: 1.0 };
            let mut linear = Linear { weight: frozen("w", w), lora: Some(lora) };
            let mut both = || {
                let (y, saved) = linear.forward(&x);
                let found = [linear.backward(&x, &saved, &dy, None), linear.backward(&x, &saved, &dy, Some(start.copy()))];
                linear.lora = None;
                let [alone, added] = found;
                [y, alone, added].map(|tensor| tensor.to_kind(Kind::Float))
            };
            let (with, without) = (both(), both());
            for (((with, without), expected), name) in with.iter().zip(&without).zip(&expected).zip(["y", "dx", "dx added to"]) {
                // A part of too few numbers says nothing.
                if expected.numel() < 45_000 {
                    continue;
                }
                // The regression of what was added on what should have been: 1, where nothing is lost.
                let part = ((with - without) * expected).sum(Kind::Double) / expected.square().sum(Kind::Double);
                let (part, size) = (part.double_value(&[]), expected.abs().mean(Kind::Double).double_value(&[]));
                assert!(size < 2e-3 && (part - 1.0).abs() < 0.3, "{name} of {rows} rows: {part} of a mean of {size}");
            }
        }
    }
}
