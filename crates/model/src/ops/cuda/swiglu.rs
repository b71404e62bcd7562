//! SwiGLU on a device.

use tch::Tensor;

use super::{spread_eights, typed};
use crate::raw::cuda::{Argument, launch};

/// `gate [T, F]`, `up [T, F]` → `[T, F]`.
pub(crate) fn forward(gate: &Tensor, up: &Tensor) -> Tensor {
    let mut out = gate.empty_like();
    let elements = gate.numel();
    launch(
        &typed("swiglu_forward", gate),
        spread_eights(elements),
        &mut [Argument::Out(&mut out), Argument::In(gate), Argument::In(up), Argument::Int(elements)],
    );
    out
}

/// Turns the saved inputs into their own gradients, `(dgate, dup)`.
pub(crate) fn backward(dy: &Tensor, mut gate: Tensor, mut up: Tensor) -> (Tensor, Tensor) {
    let elements = dy.numel();
    launch(
        &typed("swiglu_backward", dy),
        spread_eights(elements),
        &mut [Argument::Out(&mut gate), Argument::Out(&mut up), Argument::In(dy), Argument::Int(elements)],
    );
    (gate, up)
}

#[cfg(test)]
mod tests {
    use tch::Kind;

    use super::*;
    use crate::ops::oracle::{RELATIVE, RELATIVE_BF16, difference, random};
    use crate::ops::swiglu as cpu;
    use crate::raw::emulated;

    #[test]
    fn it_agrees_with_the_cpu() {
        if !emulated::available() {
            return;
        }
        for shape in [[1, 5], [37, 56], [3, 4099]] {
            for (kind, tolerance) in [(Kind::Float, RELATIVE), (Kind::BFloat16, RELATIVE_BF16)] {
                let [gate, up, dy] = [1, 2, 3].map(|seed| (random(&shape, seed) * 3.0).to_kind(kind));
                let close = |name: &str, found: &Tensor, expected: &Tensor| {
                    assert!(difference(found, expected) <= tolerance, "{name} {shape:?} {kind:?}");
                };
                close("a", &forward(&gate, &up), &cpu::forward(&gate, &up));
                let (dgate, dup) = backward(&dy, gate.copy(), up.copy());
                let (expected_dgate, expected_dup) = cpu::backward(&dy, gate, up);
                close("dgate", &dgate, &expected_dgate);
                close("dup", &dup, &expected_dup);
            }
        }
    }
}
