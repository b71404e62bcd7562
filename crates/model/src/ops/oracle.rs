//! Helpers of the tests that hold operations against libtorch's autograd, and the one place of this crate's tolerances.

use tch::{Device, Kind, Tensor};

/// Largest difference ÷ largest magnitude that fp32 operations may show against autograd (the project's bound for gradients).
pub(crate) const RELATIVE: f64 = 1e-5;

/// The same for bf16: eight bits of mantissa, results of sums rounded once or twice.
pub(crate) const RELATIVE_BF16: f64 = 2e-2;

/// Standard normal numbers that depend on the seed alone.
pub(crate) fn random(shape: &[i64], seed: i64) -> Tensor {
    let mut state = (seed as u64).wrapping_mul(0x9e37_79b9_7f4a_7c15) ^ 0x1234_5678;
    let count: i64 = shape.iter().product();
    let uniform = |state: &mut u64| {
        *state = crate::lora::splitmix(*state);
        (*state >> 11) as f64 / (1u64 << 53) as f64
    };
    let values: Vec<f32> = (0..count)
        .map(|_| {
            let (u, v) = (uniform(&mut state).max(1e-12), uniform(&mut state));
            ((-2.0 * u.ln()).sqrt() * (std::f64::consts::TAU * v).cos()) as f32
        })
        .collect();
    Tensor::from_slice(&values).reshape(shape)
}

/// Relative difference: largest difference ÷ largest magnitude of what is expected.
pub(crate) fn difference(found: &Tensor, expected: &Tensor) -> f64 {
    assert_eq!(found.size(), expected.size());
    let (found, expected) = (found.to_kind(Kind::Double), expected.to_kind(Kind::Double));
    let scale = expected.abs().max().double_value(&[]).max(1e-30);
    (found - expected).abs().max().double_value(&[]) / scale
}

/// Fails with the name and both figures where the relative difference exceeds [`RELATIVE`].
pub(crate) fn assert_close(name: &str, found: &Tensor, expected: &Tensor) {
    let difference = difference(found, expected);
    assert!(difference <= RELATIVE, "{name}: relative difference {difference:.3e}, allowed {RELATIVE:e}");
}

/// Zeros in fp32.
pub(crate) fn zeros(shape: &[i64]) -> Tensor {
    Tensor::zeros(shape, (Kind::Float, Device::Cpu))
}
