//! Sums of buffers, in the order in which they are given: the rank order, always.

use bytemuck::Pod;
use half::bf16;

/// The numbers that ranks add up.
pub(crate) trait Element: Pod + Send + Sync {
    /// `total[i] = ((parts[0][i] + parts[1][i]) + parts[2][i]) + …`; all of one length.
    fn add_up(total: &mut [Self], parts: &[&[Self]]);
}

/// Elements that are added up at a time: their sums stay in the core's first cache while the parts go by.
const BLOCK: usize = 2048;

macro_rules! plain {
    ($number:ty) => {
        impl Element for $number {
            fn add_up(total: &mut [Self], parts: &[&[Self]]) {
                let Some((first, others)) = parts.split_first() else { return };
                for (at, total) in total.chunks_mut(BLOCK).enumerate() {
                    let here = at * BLOCK..at * BLOCK + total.len();
                    total.copy_from_slice(&first[here.clone()]);
                    for part in others {
                        total.iter_mut().zip(&part[here.clone()]).for_each(|(sum, value)| *sum += value);
                    }
                }
            }
        }
    };
}

plain!(f32);
plain!(f64);

/// In fp32, rounded once.
impl Element for bf16 {
    fn add_up(total: &mut [Self], parts: &[&[Self]]) {
        let mut sums = [0.0_f32; BLOCK];
        let Some((first, others)) = parts.split_first() else { return };
        for (at, total) in total.chunks_mut(BLOCK).enumerate() {
            let here = at * BLOCK..at * BLOCK + total.len();
            let sums = &mut sums[..total.len()];
            sums.iter_mut().zip(&first[here.clone()]).for_each(|(sum, value)| *sum = value.to_f32());
            for part in others {
                sums.iter_mut().zip(&part[here.clone()]).for_each(|(sum, value)| *sum += value.to_f32());
            }
            total.iter_mut().zip(sums).for_each(|(total, sum)| *total = bf16::from_f32(*sum));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sums_go_in_the_order_given() {
        let parts: [Vec<f32>; 3] = [vec![1e8; 5000], vec![1.0; 5000], vec![-1e8; 5000]];
        let mut total = vec![0.0; 5000];
        f32::add_up(&mut total, &parts.each_ref().map(Vec::as_slice));
        assert!(total.iter().all(|sum| *sum == 0.0));
        f32::add_up(&mut total, &[&parts[0], &parts[2], &parts[1]]);
        assert!(total.iter().all(|sum| *sum == 1.0));
    }

    #[test]
    fn bf16_is_rounded_once() {
        // Each addition of 1 to 256 alone would be rounded away in bf16 (8 bits): 256 + 1 + 1 + … must reach 260.
        let (large, one) = (vec![bf16::from_f32(256.0); 3000], vec![bf16::ONE; 3000]);
        let mut total = vec![bf16::ZERO; 3000];
        bf16::add_up(&mut total, &[&large, &one, &one, &one, &one]);
        assert!(total.iter().all(|sum| sum.to_f32() == 260.0));
    }
}
