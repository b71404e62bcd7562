//! The functions of libtorch that tch has no wrapper for: see `torch.cpp`.

use std::ffi::{CStr, c_char, c_void};

use tch::{TchError, Tensor};

type Handle = *const c_void;

unsafe extern "C" {
    fn sirocco_flash_forward(
        q: Handle,
        k: Handle,
        v: Handle,
        offsets: Handle,
        longest: i64,
        scale: f64,
        results: *mut *mut c_void,
    ) -> *mut c_char;
    fn sirocco_flash_backward(
        dout: Handle,
        kept: *const Handle,
        offsets: Handle,
        longest: i64,
        scale: f64,
        results: *mut *mut c_void,
    ) -> *mut c_char;
    fn sirocco_sums_in_fp32() -> *mut c_char;
    fn sirocco_upload(host: Handle, ordinal: i64, result: *mut *mut c_void) -> *mut c_char;
    fn free(text: *mut c_void);
}

/// Where documents begin and end, for attention.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Bounds<'a> {
    /// Cumulative, `[documents + 1]`, int32, on the device.
    pub(crate) offsets: &'a Tensor,
    /// Length of the longest.
    pub(crate) longest: i64,
    /// 1 / √E.
    pub(crate) scale: f64,
}

/// Causal attention of every document to itself (flash attention 2, Dao 2023): `q [T, H, E]`, `k`, `v [T, K, E]`, bf16 on a CUDA device
/// → `[T, H, E]` and the logarithms of the normalisers, `[H, T]`, fp32.
///
/// # Errors
/// In libtorch's words.
pub(crate) fn flash_forward([q, k, v]: [&Tensor; 3], bounds: Bounds<'_>) -> Result<(Tensor, Tensor), TchError> {
    let mut made = [std::ptr::null_mut(); 2];
    let Bounds { offsets, longest, scale } = bounds;
    // SAFETY: the handles are live tensors for the length of the call, and there is room for the two results.
    let error = unsafe { sirocco_flash_forward(of(q), of(k), of(v), of(offsets), longest, scale, made.as_mut_ptr()) };
    taken(error, made).map(|[out, log_sum]| (out, log_sum))
}

/// The gradients of q, k and v from that of the output. `kept`: q, k, v, the output, the logarithms.
///
/// # Errors
/// In libtorch's words.
pub(crate) fn flash_backward(dout: &Tensor, kept: [&Tensor; 5], bounds: Bounds<'_>) -> Result<[Tensor; 3], TchError> {
    let mut made = [std::ptr::null_mut(); 3];
    let Bounds { offsets, longest, scale } = bounds;
    let kept = kept.map(of);
    // SAFETY: as in `flash_forward`; `kept` has the five handles that are read, and there is room for the three results.
    let error = unsafe { sirocco_flash_backward(of(dout), kept.as_ptr(), of(offsets), longest, scale, made.as_mut_ptr()) };
    taken(error, made)
}

/// Has libtorch sum in fp32 inside bf16 products on CUDA devices, as it does on the CPU.
///
/// # Errors
/// In libtorch's words.
pub(crate) fn sums_in_fp32() -> Result<(), TchError> {
    // SAFETY: it sets a flag of libtorch.
    let error = unsafe { sirocco_sums_in_fp32() };
    taken(error, []).map(|[]| ())
}

/// A copy on CUDA device `ordinal`; the host does not wait for it.
///
/// # Errors
/// In libtorch's words.
pub(crate) fn upload(host: &Tensor, ordinal: usize) -> Result<Tensor, TchError> {
    let mut made = [std::ptr::null_mut(); 1];
    // SAFETY: as in `flash_forward`, with one result.
    let error = unsafe { sirocco_upload(of(host), ordinal as i64, made.as_mut_ptr()) };
    taken(error, made).map(|[copy]| copy)
}

fn of(tensor: &Tensor) -> Handle {
    tensor.as_ptr().cast()
}

/// The results, or the error, of a call. One without words (there was no memory for them) is seen by its missing results.
fn taken<const N: usize>(error: *mut c_char, made: [*mut c_void; N]) -> Result<[Tensor; N], TchError> {
    let failed = !error.is_null() || made.iter().any(|tensor| tensor.is_null());
    // SAFETY: a result that is there is a new tensor and ours, also where a later one failed.
    let made = made.map(|tensor| (!tensor.is_null()).then(|| unsafe { Tensor::from_ptr(tensor.cast()) }));
    if !failed {
        let all: Vec<Tensor> = made.into_iter().flatten().collect();
        return all.try_into().map_err(|_| TchError::Torch("results are missing".to_owned()));
    }
    if error.is_null() {
        return Err(TchError::Torch("no result, and no memory for words".to_owned()));
    }
    // SAFETY: an error is a terminated text that was allocated for us.
    let text = unsafe {
        let text = CStr::from_ptr(error).to_string_lossy().into_owned();
        free(error.cast());
        text
    };
    Err(TchError::Torch(text))
}

#[cfg(test)]
mod tests {
    use tch::{Device, Kind};

    use super::*;

    #[test]
    fn errors_are_libtorch_s_own_words() {
        let zeros = Tensor::zeros([4, 2, 8], (Kind::BFloat16, Device::Cpu));
        let offsets = Tensor::from_slice(&[0i32, 4]);
        let bounds = Bounds { offsets: &offsets, longest: 4, scale: 1.0 };
        let error = flash_forward([&zeros, &zeros, &zeros], bounds).unwrap_err().to_string();
        assert!(error.contains("_flash_attention_forward"), "{error}");
        let error = flash_backward(&zeros, [&zeros, &zeros, &zeros, &zeros, &zeros], bounds).unwrap_err().to_string();
        assert!(error.contains("_flash_attention_backward"), "{error}");
        // Setting a flag needs no device; a copy to one does.
        assert!(sums_in_fp32().is_ok());
        assert!(tch::Cuda::is_available() || upload(&offsets, 0).is_err());
    }

    #[test]
    fn missing_results_are_an_error_also_without_words() {
        let error = taken(std::ptr::null_mut(), [std::ptr::null_mut(); 2]).unwrap_err().to_string();
        assert!(error.contains("no result"), "{error}");
    }
}
