//! The same work on the CPU and on a device, and how far apart the results are.

use std::fmt;
use std::sync::{Mutex, MutexGuard, PoisonError};

use serde_json::{Value, json};
use tch::{Device, Kind, Tensor};

use crate::failure::Failure;

/// One comparison.
#[derive(Debug)]
pub(super) struct Finding {
    /// What was compared.
    pub(super) name: String,
    /// Element type of the activations.
    pub(super) kind: Kind,
    /// Largest difference ÷ largest magnitude of what is expected.
    pub(super) difference: f64,
    /// The most that is allowed.
    pub(super) allowed: f64,
}

impl Finding {
    /// Whether it is within its tolerance; a NaN is not.
    pub(super) fn holds(&self) -> bool {
        self.difference <= self.allowed
    }

    pub(super) fn json(&self) -> Value {
        let Self { name, difference, allowed, .. } = self;
        json!({"name": name, "dtype": self.dtype(), "difference": difference, "allowed": allowed, "holds": self.holds()})
    }

    fn dtype(&self) -> &'static str {
        if self.kind == Kind::BFloat16 { "bf16" } else { "fp32" }
    }
}

impl fmt::Display for Finding {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let verdict = if self.holds() { "ok" } else { "WRONG" };
        let Self { name, difference, allowed, .. } = self;
        write!(out, "{verdict:<5} {:<5} {name:<44} {difference:>9.2e}   (at most {allowed:.0e})", self.dtype())
    }
}

/// Results by name.
pub(super) type Results = Vec<(&'static str, Tensor)>;

/// Does `work` with copies of `inputs` on the CPU and on `device` and compares each result.
pub(super) fn compare(
    (name, kind, allowed): (&str, Kind, f64),
    inputs: &[Tensor],
    device: Device,
    work: impl Fn(&[Tensor]) -> Result<Results, Failure>,
) -> Result<Vec<Finding>, Failure> {
    let on = |device: Device| -> Vec<Tensor> { inputs.iter().map(|input| input.copy().to_device(device)).collect() };
    let (expected, found) = (work(&on(Device::Cpu))?, work(&on(device))?);
    let finding = |((what, expected), (_, found)): ((&str, Tensor), (&str, Tensor))| Finding {
        name: format!("{name}: {what}"),
        kind,
        difference: difference(&found, &expected),
        allowed,
    };
    Ok(expected.into_iter().zip(found).map(finding).collect())
}

/// Largest difference ÷ largest magnitude of what is expected.
pub(super) fn difference(found: &Tensor, expected: &Tensor) -> f64 {
    let exact = |tensor: &Tensor| tensor.to_device(Device::Cpu).to_kind(Kind::Double);
    let (found, expected) = (exact(found), exact(expected));
    if found.size() != expected.size() {
        return f64::INFINITY;
    }
    let scale = expected.abs().max().double_value(&[]).max(1e-30);
    (found - expected).abs().max().double_value(&[]) / scale
}

/// libtorch has one generator for all threads: who seeds it keeps it until all numbers are drawn.
pub(super) fn seeded(seed: i64) -> MutexGuard<'static, ()> {
    static DRAWING: Mutex<()> = Mutex::new(());
    let guard = DRAWING.lock().unwrap_or_else(PoisonError::into_inner);
    tch::manual_seed(seed);
    guard
}

/// Standard normal numbers on the CPU that depend on the seed alone.
pub(super) fn random(shape: &[i64], seed: i64, kind: Kind) -> Tensor {
    let _drawing = seeded(seed);
    Tensor::randn(shape, (Kind::Float, Device::Cpu)).to_kind(kind)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_differs_or_is_no_number_is_wrong() {
        let finding = |difference| Finding { name: "y".to_owned(), kind: Kind::Float, difference, allowed: 1e-5 };
        assert!(finding(1e-5).holds() && !finding(2e-5).holds() && !finding(f64::NAN).holds());
        let two = Tensor::from_slice(&[1.0f32, -2.0]);
        assert_eq!(difference(&Tensor::from_slice(&[1.0f32, -1.5]), &two), 0.25);
        assert_eq!(difference(&Tensor::from_slice(&[1.0f32]), &two), f64::INFINITY);
        assert!(finding(0.5).to_string().starts_with("WRONG fp32  y"));
    }
}
