//! Sums of buffers. The order of additions is fixed by the callers: rank order, always.

use std::ops::AddAssign;

use bytemuck::Pod;

/// The numbers that ranks add up.
pub(crate) trait Element: Pod + AddAssign + Send {}

impl Element for f32 {}
impl Element for f64 {}

/// `total[i] += part[i]`.
pub(super) fn add<E: Element>(total: &mut [E], part: &[E]) {
    for (sum, &value) in total.iter_mut().zip(part) {
        *sum += value;
    }
}
