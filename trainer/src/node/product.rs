//! A matrix product whose result is known to the last bit: are a device's numbers right, and how many of them come in a second?
//!
//! `C = A·B` of square matrices of −1, 0 and 1: every sum is a small whole number, exact in fp32 and in bf16 in whatever order it is formed.
//! Each row of the result is compared by `C·w = A·(B·w)`, where all of the right side are whole numbers computed without the device and no
//! weight is 0: one wrong element makes its row wrong.

use std::time::{Duration, Instant};

use rustix::time::{ClockId, Timespec, clock_gettime};
use tch::{Device, Kind, Tensor};

use crate::failure::Failure;

/// Both matrices, and what their product must be.
pub(super) struct Known {
    side: usize,
    a: Vec<f32>,
    b: Vec<f32>,
    /// Of each row of the product, with the weights.
    expected: Vec<i64>,
}

/// What products have shown.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Measured {
    /// Operations a second of the fastest, by the time that the device spent on it: what else runs there does not count.
    pub(super) per_second: f64,
    pub(super) rows: u64,
    pub(super) wrong_rows: u64,
}

impl Known {
    /// Matrices with `side` rows and columns.
    pub(super) fn new(side: usize) -> Self {
        let matrix = |seed: u64| -> Vec<i8> { (0..side * side).map(|at| entry(seed, at as u64)).collect() };
        let (a, b) = (matrix(1), matrix(2));
        let times = |matrix: &[i8], vector: &[i64]| -> Vec<i64> {
            let row = |row: &[i8]| row.iter().zip(vector).map(|(&entry, &with)| i64::from(entry) * with).sum();
            matrix.chunks(side).map(row).collect()
        };
        let weights: Vec<i64> = (0..side).map(weight).collect();
        let expected = times(&a, &times(&b, &weights));
        let floats = |matrix: &[i8]| matrix.iter().map(|&entry| f32::from(entry)).collect();
        Self { side, a: floats(&a), b: floats(&b), expected }
    }

    /// Multiplies on `device` for as long as `span`, three times at least. The first product, which warms up, and the last are compared.
    pub(super) fn measure(&self, device: Device, kind: Kind, span: Duration) -> Result<Measured, Failure> {
        let side = self.side as i64;
        let on_device = |elements: &[f32]| Tensor::from_slice(elements).reshape([side, side]).to_device(device).to_kind(kind);
        let (a, b) = (on_device(&self.a), on_device(&self.b));
        let mut product = a.matmul(&b);
        let first = self.wrong_rows(&product)?;
        let (begun, mut best, mut done) = (Instant::now(), f64::INFINITY, 0);
        while done < 3 || begun.elapsed() < span {
            let one = Clock::start(device);
            product = a.matmul(&b);
            finish(device);
            best = best.min(one.seconds());
            done += 1;
        }
        let operations = 2.0 * (self.side as f64).powi(3);
        let wrong_rows = first + self.wrong_rows(&product)?;
        Ok(Measured { per_second: operations / best, rows: 2 * self.side as u64, wrong_rows })
    }

    /// Rows of a product that are not what they must be.
    fn wrong_rows(&self, product: &Tensor) -> Result<u64, Failure> {
        let host = product.to_device(Device::Cpu).to_kind(Kind::Float).flatten(0, 1);
        let found = Vec::<f32>::try_from(&host).map_err(Failure::failed)?;
        // Whole numbers below 2^53 as long as the product is right; NaN is equal to nothing.
        let row = |row: &[f32]| row.iter().enumerate().map(|(column, &entry)| f64::from(entry) * weight(column) as f64).sum();
        let sums: Vec<f64> = found.chunks(self.side).map(row).collect();
        Ok(sums.iter().zip(&self.expected).filter(|(found, expected)| **found != **expected as f64).count() as u64)
    }
}

/// −1, 0, 0 or 1, drawn by SplitMix64's output function (Steele et al., 2014).
fn entry(seed: u64, at: u64) -> i8 {
    let mut bits = (seed << 40 | at).wrapping_add(1).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    bits = (bits ^ (bits >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    bits = (bits ^ (bits >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    [-1, 0, 0, 1][((bits ^ (bits >> 31)) & 3) as usize]
}

/// Of a column; never 0.
fn weight(column: usize) -> i64 {
    (column % 61) as i64 + 1
}

/// The time that a product takes. On a core it is that of this thread alone, so that a program which takes turns with it does not make a
/// sound core look slow; a device's is that of the wall.
enum Clock {
    Thread(Timespec),
    Wall(Instant),
}

impl Clock {
    fn start(device: Device) -> Self {
        match device {
            Device::Cpu => Self::Thread(clock_gettime(ClockId::ThreadCPUTime)),
            _ => Self::Wall(Instant::now()),
        }
    }

    fn seconds(self) -> f64 {
        match self {
            Self::Thread(start) => {
                let end = clock_gettime(ClockId::ThreadCPUTime);
                // No product takes less than a tick of this clock.
                ((end.tv_sec - start.tv_sec) as f64 + (end.tv_nsec - start.tv_nsec) as f64 * 1e-9).max(1e-9)
            }
            Self::Wall(start) => start.elapsed().as_secs_f64(),
        }
    }
}

fn finish(device: Device) {
    if let Device::Cuda(ordinal) = device {
        tch::Cuda::synchronize(ordinal as i64);
    }
}

#[cfg(test)]
mod tests {
    use super::super::devices::{SIDE_ON_CORE, SIDE_ON_GPU};
    use super::*;

    #[test]
    fn a_right_product_is_right_in_both_types() {
        let known = Known::new(96);
        for kind in [Kind::Float, Kind::BFloat16] {
            let measured = known.measure(Device::Cpu, kind, Duration::ZERO).unwrap();
            assert_eq!((measured.rows, measured.wrong_rows), (192, 0), "{kind:?}");
            assert!(measured.per_second > 1e6 && measured.per_second.is_finite(), "{measured:?}");
        }
    }

    #[test]
    fn one_wrong_element_makes_its_row_wrong() {
        let known = Known::new(64);
        let matrix = |elements: &[f32]| Tensor::from_slice(elements).reshape([64, 64]);
        let product = matrix(&known.a).matmul(&matrix(&known.b));
        assert_eq!(known.wrong_rows(&product).unwrap(), 0);
        for (row, column, by) in [(0, 0, 1.0), (63, 63, -1.0), (5, 60, f64::NAN), (7, 61, 1e-3)] {
            let bad = product.copy();
            let mut place = bad.get(row).get(column);
            let _ = place.g_add_scalar_(by);
            assert_eq!(known.wrong_rows(&bad).unwrap(), 1, "{row}, {column} + {by}");
        }
    }

    #[test]
    fn sums_are_exact_in_bf16() {
        // Its whole numbers end at 256.
        for side in [SIDE_ON_CORE, SIDE_ON_GPU] {
            let known = Known::new(side);
            let matrix = |elements: &[f32]| Tensor::from_slice(elements).reshape([side as i64, side as i64]);
            let largest = matrix(&known.a).matmul(&matrix(&known.b)).abs().max().double_value(&[]);
            assert!((8.0..=256.0).contains(&largest), "{side}: {largest}");
            let zeros = known.a.iter().filter(|entry| **entry == 0.0).count() as f64 / known.a.len() as f64;
            assert!((0.45..0.55).contains(&zeros), "{side}: {zeros} of the entries are 0, expected half");
        }
    }
}
