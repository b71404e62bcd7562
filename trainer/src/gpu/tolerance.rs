//! How far a GPU's results may be from the CPU's: the one place of these numbers.
//!
//! They follow from the element types (fp32 has 24 bits of mantissa, bf16 eight) and from sums being taken in another order; they were
//! not measured on a GPU.

use tch::Kind;

/// For one operation.
pub(super) fn operation(kind: Kind) -> f64 {
    match kind {
        Kind::BFloat16 => 2e-2,
        _ => 1e-5,
    }
}

/// For the loss of a small network; its sums are fp32 in either type.
pub(super) fn loss(kind: Kind) -> f64 {
    match kind {
        Kind::BFloat16 => 1e-2,
        _ => 1e-5,
    }
}

/// For the gradients of a small network, through which the differences of some forty operations go.
pub(super) fn gradients(kind: Kind) -> f64 {
    match kind {
        Kind::BFloat16 => 1e-1,
        _ => 1e-4,
    }
}

/// For collectives of a group of one, which change nothing.
pub(super) const EXACT: f64 = 0.0;
