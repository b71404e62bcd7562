//! Time on a device, and what a plain matrix product reaches there.

use std::time::Instant;

use tch::{Cuda, Device, Kind, Tensor};

/// Sides of the matrices whose product is taken as the device's peak.
const SIDE: i64 = 8192;

/// Seconds that `work` takes on the device, from an idle device to an idle device.
pub(super) fn seconds<T>(device: Device, work: impl FnOnce() -> T) -> (f64, T) {
    wait(device);
    let start = Instant::now();
    let result = work();
    wait(device);
    (start.elapsed().as_secs_f64(), result)
}

fn wait(device: Device) {
    if let Device::Cuda(ordinal) = device {
        Cuda::synchronize(ordinal as i64);
    }
}

/// FLOP/s of bf16 products of square matrices of random numbers: the mean of ten after three to warm up.
pub(super) fn matrix_peak(device: Device) -> f64 {
    const PRODUCTS: i32 = 10;
    let [a, b] = [1, 2].map(|seed| {
        tch::manual_seed(seed);
        Tensor::randn([SIDE, SIDE], (Kind::BFloat16, device))
    });
    for _ in 0..3 {
        let _ = a.matmul(&b);
    }
    let (seconds, ()) = seconds(device, || {
        for _ in 0..PRODUCTS {
            let _ = a.matmul(&b);
        }
    });
    2.0 * (SIDE as f64).powi(3) * f64::from(PRODUCTS) / seconds
}
