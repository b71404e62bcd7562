//! Reductions and the exponential in a form that compilers turn into vector code, with a fixed order of additions.

use crate::raw::Element;

/// Partial results that a reduction keeps side by side: two vectors of sixteen.
const LANES: usize = 32;

/// Σ f(x), in fp32.
#[inline(always)]
pub fn sum<A: Element>(row: &[A], f: impl Fn(f32) -> f32) -> f32 {
    let mut lanes = [0.0f32; LANES];
    let chunks = row.chunks_exact(LANES);
    let rest = chunks.remainder();
    for chunk in chunks {
        for (lane, value) in lanes.iter_mut().zip(chunk) {
            *lane += f(value.widen());
        }
    }
    for (lane, value) in lanes.iter_mut().zip(rest) {
        *lane += f(value.widen());
    }
    total(&lanes)
}

/// Σ f(a, b) over two rows of one length, in fp32.
#[inline(always)]
pub fn sum2<A: Element, B: Element>(a: &[A], b: &[B], f: impl Fn(f32, f32) -> f32) -> f32 {
    let mut lanes = [0.0f32; LANES];
    let (a_chunks, b_chunks) = (a.chunks_exact(LANES), b.chunks_exact(LANES));
    let (a_rest, b_rest) = (a_chunks.remainder(), b_chunks.remainder());
    for (a, b) in a_chunks.zip(b_chunks) {
        for ((lane, a), b) in lanes.iter_mut().zip(a).zip(b) {
            *lane += f(a.widen(), b.widen());
        }
    }
    for ((lane, a), b) in lanes.iter_mut().zip(a_rest).zip(b_rest) {
        *lane += f(a.widen(), b.widen());
    }
    total(&lanes)
}

/// Largest element; negative infinity of an empty row.
#[inline(always)]
pub fn max<A: Element>(row: &[A]) -> f32 {
    let mut lanes = [f32::NEG_INFINITY; LANES];
    let chunks = row.chunks_exact(LANES);
    let rest = chunks.remainder();
    for chunk in chunks {
        for (lane, value) in lanes.iter_mut().zip(chunk) {
            *lane = larger(*lane, value.widen());
        }
    }
    for (lane, value) in lanes.iter_mut().zip(rest) {
        *lane = larger(*lane, value.widen());
    }
    lanes.iter().fold(f32::NEG_INFINITY, |a, &b| larger(a, b))
}

/// One comparison, so that it becomes one vector instruction. A NaN may get lost here; it shows in the sum that follows.
#[inline(always)]
fn larger(a: f32, b: f32) -> f32 {
    if b > a { b } else { a }
}

#[inline(always)]
fn total(lanes: &[f32; LANES]) -> f32 {
    let mut width = LANES / 2;
    let mut folded = *lanes;
    while width > 0 {
        for index in 0..width {
            folded[index] += folded[index + width];
        }
        width /= 2;
    }
    folded[0]
}

/// eˣ to about two units in the last place; 0 is never returned (the smallest normal number is), infinity stays out of reach of
/// softmax and the logistic function, a NaN stays a NaN.
///
/// Cody-Waite range reduction with the polynomial of Cephes' `expf` (Moshier, *Methods and Programs for Mathematical Functions*, 1989).
#[inline(always)]
pub fn exp(x: f32) -> f32 {
    const ROUND: f32 = 12_582_912.0; // 1.5 · 2²³: adding it leaves the nearest whole number in the low bits
    let x = x.clamp(-87.336_54, 88.722_84);
    let shifted = x * std::f32::consts::LOG2_E + ROUND;
    let n = shifted - ROUND;
    let r = x - n * 0.693_359_4 - n * -2.121_944_4e-4;
    let mut p = 1.987_569_1e-4;
    p = p * r + 1.398_199_9e-3;
    p = p * r + 8.333_452e-3;
    p = p * r + 4.166_579_6e-2;
    p = p * r + 1.666_666_5e-1;
    p = p * r + 0.5;
    let mantissa = p * r * r + r + 1.0;
    // 2ⁿ in two factors, because n reaches 128.
    let n = (shifted.to_bits() as i32).wrapping_sub(ROUND.to_bits() as i32);
    let half = n >> 1;
    mantissa * power_of_two(half) * power_of_two(n.wrapping_sub(half))
}

#[inline(always)]
fn power_of_two(n: i32) -> f32 {
    f32::from_bits((n.wrapping_add(127) << 23) as u32)
}

/// 1 / (1 + e⁻ˣ).
#[inline(always)]
pub fn logistic(x: f32) -> f32 {
    1.0 / (1.0 + exp(-x))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn exp_is_accurate_over_its_whole_range() {
        let worst =
            (-87_000..88_000).map(|n| n as f32 / 1000.0).map(|x| ((exp(x) - x.exp()) / x.exp()).abs()).fold(0.0, f32::max);
        assert!(worst < 3e-7, "relative error {worst}");
        assert!(exp(f32::NAN).is_nan());
        assert!(exp(-1e30) < 1e-37 && exp(0.0) == 1.0);
    }

    #[test]
    fn reductions_cover_every_length() {
        for length in [0usize, 1, 31, 32, 33, 100] {
            let row: Vec<f32> = (0..length).map(|n| n as f32).collect();
            assert_eq!(sum(&row, |x| x), (length * length.saturating_sub(1) / 2) as f32);
            assert_eq!(sum2(&row, &row, |a, b| a - b), 0.0);
            assert_eq!(max(&row), if length == 0 { f32::NEG_INFINITY } else { (length - 1) as f32 });
        }
    }
}
