//! What this program found of libtorch. That it starts at all says that the libraries are there.

use serde_json::json;
use sirocco_model::ops::cuda;
use tch::{Device, Kind, Tensor};

use crate::failure::{Failure, print_line};
use crate::threads;

pub(crate) fn run() -> Result<(), Failure> {
    let threads = threads::use_threads(None)?;
    let ones = Tensor::ones([64, 64], (Kind::BFloat16, Device::Cpu));
    let product = ones.matmul(&ones).double_value(&[0, 0]);
    if product != 64.0 {
        return Err(Failure::failed(format!("a bf16 matrix product gave {product}, expected 64")));
    }
    // As a run does it: nothing else makes libtorch's CUDA part known to this program. What is missing is no failure here.
    let (gpu, reason) = match cuda::prepare(0) {
        Ok(gpu) => (Some(gpu.name), None),
        Err(error) => (None, Some(error.to_string())),
    };
    let devices = cuda::devices().unwrap_or(0);
    let found = json!({
        "libtorch": LIBTORCH, "threads": threads, "cuda": gpu.is_some(), "gpu": gpu, "cuda_devices": devices,
        "cuda_error": reason,
    });
    print_line(&found.to_string());
    Ok(())
}

/// The libtorch that this program is built against; another one does not load.
pub(crate) const LIBTORCH: &str = "2.11.0";
