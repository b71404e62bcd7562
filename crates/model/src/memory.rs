//! A tensor's memory as plain numbers or bytes, for optimizers, collectives and files.

use half::bf16;
use tch::{Kind, Tensor};

use crate::raw::{elements, elements_mut};

/// The elements of a contiguous fp32 tensor on the CPU, row-major.
///
/// # Panics
/// If the tensor is something else: a mistake of the program, never of its input.
pub fn floats(tensor: &Tensor) -> &[f32] {
    elements::<f32>(tensor)
}

/// As [`floats`], to write to.
///
/// # Panics
/// As [`floats`].
pub fn floats_mut(tensor: &mut Tensor) -> &mut [f32] {
    elements_mut::<f32>(tensor)
}

/// The bytes of a contiguous fp32 or bf16 tensor on the CPU, in the machine's order.
///
/// # Panics
/// As [`floats`].
pub fn bytes(tensor: &Tensor) -> &[u8] {
    match tensor.kind() {
        Kind::BFloat16 => bytemuck::cast_slice(elements::<bf16>(tensor)),
        _ => bytemuck::cast_slice(elements::<f32>(tensor)),
    }
}

/// As [`bytes`], to write to.
///
/// # Panics
/// As [`floats`].
pub fn bytes_mut(tensor: &mut Tensor) -> &mut [u8] {
    match tensor.kind() {
        Kind::BFloat16 => bytemuck::cast_slice_mut(elements_mut::<bf16>(tensor)),
        _ => bytemuck::cast_slice_mut(elements_mut::<f32>(tensor)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_are_those_of_the_elements() {
        let mut tensor = Tensor::from_slice(&[1.0f32, -2.0]);
        assert_eq!(bytes(&tensor), [1.0f32.to_ne_bytes(), (-2.0f32).to_ne_bytes()].concat());
        bytes_mut(&mut tensor)[..4].copy_from_slice(&3.0f32.to_ne_bytes());
        assert_eq!(floats(&tensor), [3.0, -2.0]);
        let half = tensor.to_kind(Kind::BFloat16);
        assert_eq!(bytes(&half), [bf16::from_f32(3.0).to_ne_bytes(), bf16::from_f32(-2.0).to_ne_bytes()].concat());
    }
}
