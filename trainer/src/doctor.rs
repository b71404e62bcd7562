//! What this program found of libtorch. That it starts at all says that the libraries are there.

use serde_json::json;
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
    print_line(&json!({"libtorch": tch_version(), "threads": threads, "cuda": tch::Cuda::is_available()}).to_string());
    Ok(())
}

/// The libtorch that this program is built against; another one does not load.
fn tch_version() -> &'static str {
    "2.11.0"
}
