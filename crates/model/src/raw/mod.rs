//! The one module of this crate with `unsafe`: a tensor's memory as a slice, code compiled for the widest vector unit there is, kernels on
//! CUDA devices and what tch does not wrap of libtorch.
//!
//! Everything that computes element by element is safe code over these slices.
#![expect(
    unsafe_code,
    reason = "libtorch hands out raw pointers; calling code compiled for a vector unit needs a run-time check; CUDA is C"
)]

pub(crate) mod cuda;
#[cfg(test)]
pub(crate) mod emulated;
pub(crate) mod nvrtc;
mod signature;
pub(crate) mod torch;

use half::bf16;
use tch::{Device, Kind, Tensor};

/// A Rust type with the memory layout of a libtorch element type.
///
/// # Safety
/// Every bit pattern of an element of `KIND` must be a value of the type, of the same size and alignment.
pub unsafe trait Plain: Copy + Send + Sync + 'static {
    /// libtorch's name for it.
    const KIND: Kind;
}

// SAFETY: libtorch's Float is an IEEE single.
unsafe impl Plain for f32 {
    const KIND: Kind = Kind::Float;
}
// SAFETY: libtorch's BFloat16 is the upper half of an IEEE single in 16 bits, as is `half::bf16`.
unsafe impl Plain for bf16 {
    const KIND: Kind = Kind::BFloat16;
}
// SAFETY: the same integer.
unsafe impl Plain for i64 {
    const KIND: Kind = Kind::Int64;
}

/// An element of activations: computed on in fp32, stored as itself.
pub trait Element: Plain {
    /// Widens; exact.
    fn widen(self) -> f32;
    /// Rounds to nearest even; a NaN stays a NaN.
    fn narrow(value: f32) -> Self;
}

impl Element for f32 {
    #[inline(always)]
    fn widen(self) -> f32 {
        self
    }
    #[inline(always)]
    fn narrow(value: f32) -> Self {
        value
    }
}

impl Element for bf16 {
    #[inline(always)]
    fn widen(self) -> f32 {
        f32::from_bits(u32::from(self.to_bits()) << 16)
    }
    // `half`'s own conversion branches on NaN, which keeps loops from being vectorised; this selects.
    #[inline(always)]
    fn narrow(value: f32) -> Self {
        let bits = value.to_bits();
        let rounded = (bits.wrapping_add(0x7fff + ((bits >> 16) & 1)) >> 16) as u16;
        Self::from_bits(if value.is_nan() { 0x7fc0 } else { rounded })
    }
}

/// The elements of a contiguous tensor on the CPU, row-major.
///
/// # Panics
/// If the tensor has another element type, is not contiguous or is not on the CPU: a mistake in this crate, never in its input.
pub(crate) fn elements<P: Plain>(tensor: &Tensor) -> &[P] {
    check::<P>(tensor);
    if tensor.numel() == 0 {
        return &[];
    }
    // SAFETY: `check` established element type, contiguity and device, so `data_ptr` points to `numel` elements (of any bit pattern where fresh, which `Plain` allows), which live
    // as long as the tensor. Writers take `&mut Tensor`; operations of this crate never write to a tensor that another one still reads.
    unsafe { std::slice::from_raw_parts(tensor.data_ptr() as *const P, tensor.numel()) }
}

/// The elements of a contiguous tensor on the CPU, to write to.
///
/// # Panics
/// As [`elements`].
pub(crate) fn elements_mut<P: Plain>(tensor: &mut Tensor) -> &mut [P] {
    check::<P>(tensor);
    if tensor.numel() == 0 {
        return &mut [];
    }
    // SAFETY: as in `elements`; `&mut Tensor` makes this the only slice made through this handle, and callers pass tensors that they
    // have just made or own, of which no other view is in use.
    unsafe { std::slice::from_raw_parts_mut(tensor.data_ptr() as *mut P, tensor.numel()) }
}

fn check<P: Plain>(tensor: &Tensor) {
    assert!(
        tensor.kind() == P::KIND && tensor.is_contiguous() && tensor.device() == Device::Cpu,
        "expected a contiguous {:?} tensor on the CPU, found {:?} {:?} on {:?}",
        P::KIND,
        tensor.kind(),
        tensor.size(),
        tensor.device()
    );
}

/// Runs `work`, compiled for the widest vector unit of this processor. The loops inside must be inlined into `work` to profit.
#[inline(always)]
pub(crate) fn vectorised<R>(work: impl FnOnce() -> R) -> R {
    #[cfg(target_arch = "x86_64")]
    {
        if std::is_x86_feature_detected!("avx512f")
            && std::is_x86_feature_detected!("avx512bw")
            && std::is_x86_feature_detected!("avx512vl")
            && std::is_x86_feature_detected!("avx512dq")
        {
            // SAFETY: the processor has what the function is compiled for, checked in the line above.
            return unsafe { with_avx512(work) };
        }
        if std::is_x86_feature_detected!("avx2") && std::is_x86_feature_detected!("fma") {
            // SAFETY: as above.
            return unsafe { with_avx2(work) };
        }
    }
    work()
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512dq,avx2,fma")]
fn with_avx512<R>(work: impl FnOnce() -> R) -> R {
    work()
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx2,fma")]
fn with_avx2<R>(work: impl FnOnce() -> R) -> R {
    work()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn narrowing_agrees_with_half_on_every_kind_of_number() {
        for value in [0.0, -0.0, 1.0, 1.003_906_3, 1.011_718_8, -3.4e38, f32::INFINITY, f32::NEG_INFINITY, 1e-40, 65_504.0] {
            assert_eq!(<bf16 as Element>::narrow(value), bf16::from_f32(value), "{value}");
        }
        assert!(<bf16 as Element>::narrow(f32::NAN).is_nan());
        assert!(<bf16 as Element>::narrow(f32::from_bits(0x7fff_ffff)).is_nan());
    }

    #[test]
    #[should_panic(expected = "expected a contiguous BFloat16 tensor")]
    fn a_view_of_another_type_is_refused() {
        let _ = elements::<bf16>(&Tensor::zeros([2], (Kind::Float, Device::Cpu)));
    }
}
