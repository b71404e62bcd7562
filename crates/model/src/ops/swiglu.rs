//! SwiGLU (Shazeer 2020, *GLU Variants Improve Transformer*): a = silu(gate) · up, with silu(z) = z · σ(z).

use rayon::prelude::*;
use tch::Tensor;

use super::{by_element, cuda, empty, lanes, on_device};
use crate::raw::{Element, elements, elements_mut, vectorised};

const BLOCK: usize = 1 << 14;

/// `gate [T, F]`, `up [T, F]` → `[T, F]`.
pub fn forward(gate: &Tensor, up: &Tensor) -> Tensor {
    if on_device(gate) {
        return cuda::swiglu::forward(gate, up);
    }
    let mut out = empty(&gate.size(), gate.kind());
    by_element!(gate.kind(), A => {
        let (gate, up) = (elements::<A>(gate), elements::<A>(up));
        let chunks = elements_mut::<A>(&mut out).par_chunks_mut(BLOCK).zip(gate.par_chunks(BLOCK)).zip(up.par_chunks(BLOCK));
        chunks.for_each(|((out, gate), up)| vectorised(#[inline(always)] || forward_block(out, gate, up)));
    });
    out
}

#[inline(always)]
fn forward_block<A: Element>(out: &mut [A], gate: &[A], up: &[A]) {
    for ((out, gate), up) in out.iter_mut().zip(gate).zip(up) {
        let z = gate.widen();
        *out = A::narrow(z * lanes::logistic(z) * up.widen());
    }
}

/// Takes the saved inputs by value and turns them into their own gradients, `(dgate, dup)`, each `[T, F]`, without new memory.
/// With s = σ(gate): dgate = dy · up · s · (1 + gate · (1 − s)), dup = dy · gate · s.
pub fn backward(dy: &Tensor, mut gate: Tensor, mut up: Tensor) -> (Tensor, Tensor) {
    if on_device(&gate) {
        return cuda::swiglu::backward(dy, gate, up);
    }
    by_element!(gate.kind(), A => {
        let dy = elements::<A>(dy);
        let (gate, up) = (elements_mut::<A>(&mut gate), elements_mut::<A>(&mut up));
        let chunks = gate.par_chunks_mut(BLOCK).zip(up.par_chunks_mut(BLOCK)).zip(dy.par_chunks(BLOCK));
        chunks.for_each(|((gate, up), dy)| vectorised(#[inline(always)] || backward_block(dy, gate, up)));
    });
    (gate, up)
}

#[inline(always)]
fn backward_block<A: Element>(dy: &[A], gate: &mut [A], up: &mut [A]) {
    for ((dy, gate), up) in dy.iter().zip(gate).zip(up) {
        let (dy, z, u) = (dy.widen(), gate.widen(), up.widen());
        let s = lanes::logistic(z);
        *gate = A::narrow(dy * u * s * (1.0 + z * (1.0 - s)));
        *up = A::narrow(dy * z * s);
    }
}

#[cfg(test)]
mod tests {
    use tch::Kind;

    use super::*;
    use crate::ops::oracle::{assert_close, random};

    #[test]
    fn gradients_agree_with_autograd() {
        let (gate, up, dy) = (random(&[37, 50], 1) * 3.0, random(&[37, 50], 2), random(&[37, 50], 3));
        let (leaf_gate, leaf_up) = (gate.copy().set_requires_grad(true), up.copy().set_requires_grad(true));
        let expected = leaf_gate.silu() * &leaf_up;
        (&expected * &dy).sum(Kind::Float).backward();
        assert_close("a", &forward(&gate, &up), &expected.detach());
        let (dgate, dup) = backward(&dy, gate, up);
        assert_close("dgate", &dgate, &leaf_gate.grad());
        assert_close("dup", &dup, &leaf_up.grad());
    }
}
