//! The learning rate of each step: linear warm-up, then constant or half a cosine down to zero (Loshchilov and Hutter 2016, equation 5).

/// What follows the warm-up.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Shape {
    /// The peak for ever.
    Constant,
    /// From the peak to zero at the last step.
    Cosine,
}

/// A learning rate for every step of a run.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Schedule {
    /// The highest rate.
    pub peak: f64,
    /// Steps of linear warm-up; the first step already has peak ÷ `warmup_steps`.
    pub warmup_steps: u64,
    /// Steps of the whole run.
    pub steps: u64,
    /// What follows the warm-up.
    pub shape: Shape,
}

impl Schedule {
    /// The rate of `step`, counted from 0. Depends on the step alone, so a resumed run goes on exactly.
    pub fn rate(&self, step: u64) -> f64 {
        if step < self.warmup_steps {
            return self.peak * (step + 1) as f64 / self.warmup_steps as f64;
        }
        match self.shape {
            Shape::Constant => self.peak,
            Shape::Cosine => {
                let length = self.steps.saturating_sub(self.warmup_steps).max(1);
                let progress = (step - self.warmup_steps).min(length) as f64 / length as f64;
                self.peak * 0.5 * (1.0 + (std::f64::consts::PI * progress).cos())
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn warms_up_peaks_and_ends_at_zero() {
        let schedule = Schedule { peak: 2.0, warmup_steps: 4, steps: 20, shape: Shape::Cosine };
        assert_eq!((0..5).map(|step| schedule.rate(step)).collect::<Vec<_>>(), [0.5, 1.0, 1.5, 2.0, 2.0]);
        assert!((schedule.rate(12) - 1.0).abs() < 1e-12);
        assert!(schedule.rate(20).abs() < 1e-12 && schedule.rate(30).abs() < 1e-12);
        assert_eq!(Schedule { shape: Shape::Constant, ..schedule }.rate(19), 2.0);
    }

    #[test]
    fn no_warm_up_starts_at_the_peak() {
        assert_eq!(Schedule { peak: 1.0, warmup_steps: 0, steps: 1, shape: Shape::Cosine }.rate(0), 1.0);
    }
}
