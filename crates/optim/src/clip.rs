//! Clipping by the global norm (Pascanu et al. 2013, section 3.2), in two halves, so that parts on several ranks can be summed between.

use rayon::prelude::*;

/// Elements that are summed before partial sums are added up, in order: the result does not depend on the number of threads.
const BLOCK: usize = 1 << 14;

/// Σ g², in fp64.
pub fn sum_of_squares(gradient: &[f32]) -> f64 {
    let partial: Vec<f64> =
        gradient.par_chunks(BLOCK).map(|block| block.iter().map(|&g| f64::from(g) * f64::from(g)).sum()).collect();
    partial.iter().sum()
}

/// The factor that brings gradients of global norm `norm` to at most `max_norm`; 1 if they are there already. The 10⁻⁶ is PyTorch's.
pub fn clip(norm: f64, max_norm: f64) -> f64 {
    (max_norm / (norm + 1e-6)).min(1.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_gradients_above_the_bound_are_scaled() {
        let norm = sum_of_squares(&[3.0, -4.0]).sqrt();
        assert_eq!(norm, 5.0);
        assert_eq!(clip(norm, 10.0), 1.0);
        assert!((clip(norm, 1.0) * norm - 1.0).abs() < 1e-6);
        assert_eq!(clip(0.0, 1.0), 1.0);
    }
}
