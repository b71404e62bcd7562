//! AdamW on flat fp32 tensors of a device: the update of `sirocco-optim`, whose constants the caller brings.

use tch::Tensor;

use super::spread;
use crate::raw::cuda::{Argument, launch};

/// One step's constants.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Update {
    /// Gradients are multiplied by this: clipping's factor.
    pub gradient_scale: f32,
    /// Decay of the first moment.
    pub beta1: f32,
    /// Decay of the second moment.
    pub beta2: f32,
    /// Weights are multiplied by this: 1 − rate · weight decay.
    pub decay: f32,
    /// Rate ÷ (1 − beta1ⁿ) at step n.
    pub step_size: f32,
    /// √(1 − beta2ⁿ) at step n.
    pub root_correction: f32,
    /// Added to the root of the second moment.
    pub epsilon: f32,
}

/// One step of `values` against `gradient`; `first` and `second` are the moments. All `[n]`, fp32, contiguous, on one device.
///
/// # Panics
/// If they are not of one length.
pub fn step(values: &mut Tensor, gradient: &Tensor, (first, second): (&mut Tensor, &mut Tensor), update: Update) {
    let elements = values.numel();
    let lengths = [gradient.numel(), first.numel(), second.numel()];
    assert!(lengths == [elements; 3], "{elements} values, but gradient and moments of {lengths:?} elements");
    let constants = [
        update.gradient_scale,
        update.beta1,
        update.beta2,
        update.decay,
        update.step_size,
        update.root_correction,
        update.epsilon,
    ];
    let mut arguments =
        vec![Argument::Out(values), Argument::In(gradient), Argument::Out(first), Argument::Out(second), Argument::Int(elements)];
    arguments.extend(constants.map(Argument::Float));
    launch("adamw", spread(elements), &mut arguments);
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ops::oracle::{RELATIVE, difference, random};
    use crate::raw::emulated;

    #[test]
    fn a_step_is_the_formula() {
        if !emulated::available() {
            return;
        }
        let update = Update {
            gradient_scale: 0.5,
            beta1: 0.9,
            beta2: 0.99,
            decay: 0.999,
            step_size: 0.02,
            root_correction: 0.3,
            epsilon: 1e-6,
        };
        let flat = random(&[1003], 1);
        // A piece begins anywhere.
        let mut values = flat.narrow(0, 3, 1000);
        let [gradient, mut first] = [2, 3].map(|seed| random(&[1000], seed));
        let mut second = random(&[1000], 4).square();
        let (w, g, m, v) = (values.copy(), &gradient * 0.5, first.copy(), second.copy());
        let m = &m + (&g - &m) * 0.1;
        let v = v * 0.99 + g.square() * 0.01;
        let expected = w * 0.999 - &m * 0.02 / (v.sqrt() / 0.3 + 1e-6);
        step(&mut values, &gradient, (&mut first, &mut second), update);
        for (found, expected) in [(&values, &expected), (&first, &m), (&second, &v)] {
            assert!(difference(found, expected) <= RELATIVE);
        }
        // In the order of the optimizer on the host, to the last bit.
        let numbers = |tensor: &Tensor| Vec::<f32>::try_from(tensor).unwrap();
        let [start, gradient] = [numbers(&random(&[1003], 1).narrow(0, 3, 1000)), numbers(&gradient)];
        let [mut m, mut v] = [numbers(&random(&[1000], 3)), numbers(&random(&[1000], 4).square())];
        let one = |(((w, g), m), v): (((&f32, &f32), &mut f32), &mut f32)| {
            let g = g * update.gradient_scale;
            *m += (g - *m) * (1.0 - update.beta1);
            *v = *v * update.beta2 + g * g * (1.0 - update.beta2);
            w * update.decay - update.step_size * *m / (v.sqrt() / update.root_correction + update.epsilon)
        };
        let expected: Vec<f32> = start.iter().zip(&gradient).zip(&mut m).zip(&mut v).map(one).collect();
        let bits = |numbers: &[f32]| numbers.iter().map(|number| number.to_bits()).collect::<Vec<_>>();
        for (found, expected) in [(&values, &expected), (&first, &m), (&second, &v)] {
            assert_eq!(bits(&numbers(found)), bits(expected));
        }
        assert!(difference(&flat.narrow(0, 0, 3), &random(&[1003], 1).narrow(0, 0, 3)) == 0.0, "nothing before it is touched");
    }
}
