//! The network's operations: one file each, forward and backward side by side.
//!
//! Element-wise work is fused into loops over rows that several threads share; rows and reductions are cut at fixed places, so that a
//! result does not depend on how many threads there are.

pub mod attention;
mod attention_short;
pub mod cross_entropy;
pub mod cuda;
pub mod embedding;
pub mod heads;
pub mod lanes;
#[cfg(test)]
pub(crate) mod oracle;
pub mod rmsnorm;
pub mod rope;
pub mod swiglu;

use tch::{Device, Kind, Tensor};

/// Whether operations on `tensor` are those of [`cuda`]. (Tests can have them emulated for tensors on the CPU.)
pub(crate) fn on_device(tensor: &Tensor) -> bool {
    #[cfg(test)]
    if crate::raw::emulated::wanted() {
        return true;
    }
    tensor.device() != Device::Cpu
}

/// An uninitialised-by-meaning tensor on the CPU that the caller fills completely.
pub(crate) fn empty(shape: &[i64], kind: Kind) -> Tensor {
    Tensor::empty(shape, (kind, Device::Cpu))
}

/// Calls `$body` with the type `$element` bound to the Rust type of a tensor's elements.
macro_rules! by_element {
    ($kind:expr, $element:ident => $body:expr) => {
        match $kind {
            tch::Kind::Float => {
                type $element = f32;
                $body
            }
            tch::Kind::BFloat16 => {
                type $element = half::bf16;
                $body
            }
            other => unreachable!("activations are fp32 or bf16, not {other:?}: Dtype offers nothing else"),
        }
    };
}
pub(crate) use by_element;
