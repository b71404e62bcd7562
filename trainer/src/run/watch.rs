//! Whether training still goes well: steps that must be skipped, losses that jump.

use std::collections::VecDeque;

/// Losses that a new one is compared with.
const WINDOW: usize = 50;
/// Losses that must have been seen before one can be called far off.
const ENOUGH: usize = 10;
/// A jump is this many standard deviations above the mean …
const DEVIATIONS: f64 = 6.0;
/// … and this share of the mean.
const SHARE: f64 = 0.1;

/// What to do with a step.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// Its gradients are applied.
    Apply,
    /// Its loss or its gradient is not finite: nothing is changed, training goes on.
    Skip,
    /// As [`Verdict::Skip`], once too often.
    Stop,
}

/// The losses of the newest steps, and how many steps in a row were skipped.
#[derive(Debug)]
pub(crate) struct Watch {
    most_skipped: u64,
    skipped: u64,
    losses: VecDeque<f64>,
}

impl Watch {
    /// At most `most_skipped` steps in a row may be skipped.
    pub(crate) fn new(most_skipped: u64) -> Self {
        Self { most_skipped, skipped: 0, losses: VecDeque::new() }
    }

    /// Judges a step by its loss and its gradient's norm.
    pub(crate) fn judge(&mut self, loss: f64, norm: f64) -> Verdict {
        if loss.is_finite() && norm.is_finite() {
            self.skipped = 0;
            return Verdict::Apply;
        }
        self.skipped += 1;
        if self.skipped > self.most_skipped { Verdict::Stop } else { Verdict::Skip }
    }

    /// Steps in a row that were skipped.
    pub(crate) fn skipped(&self) -> u64 {
        self.skipped
    }

    /// Whether a loss is far above those before it; remembers it.
    pub(crate) fn is_spike(&mut self, loss: f64) -> bool {
        let count = self.losses.len() as f64;
        let mean = self.losses.iter().sum::<f64>() / count;
        let deviation = (self.losses.iter().map(|seen| (seen - mean).powi(2)).sum::<f64>() / count).sqrt();
        let spike = self.losses.len() >= ENOUGH && loss > mean + DEVIATIONS * deviation && loss > mean * (1.0 + SHARE);
        if self.losses.len() == WINDOW {
            self.losses.pop_front();
        }
        self.losses.push_back(loss);
        spike
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn steps_without_a_number_are_skipped_until_there_are_too_many_in_a_row() {
        let mut watch = Watch::new(2);
        assert_eq!(watch.judge(1.0, 1.0), Verdict::Apply);
        assert_eq!(watch.judge(f64::NAN, 1.0), Verdict::Skip);
        assert_eq!(watch.judge(1.0, f64::INFINITY), Verdict::Skip);
        assert_eq!(watch.judge(1.0, 1.0), Verdict::Apply);
        assert_eq!([f64::NAN; 3].map(|loss| watch.judge(loss, 1.0)), [Verdict::Skip, Verdict::Skip, Verdict::Stop]);
        assert_eq!(Watch::new(0).judge(f64::NAN, 1.0), Verdict::Stop);
    }

    #[test]
    fn a_jump_is_a_spike_and_noise_is_not() {
        let mut watch = Watch::new(0);
        for step in 0..40 {
            assert!(!watch.is_spike(3.0 - 0.01 * f64::from(step) + if step % 2 == 0 { 0.2 } else { -0.2 }));
        }
        assert!(watch.is_spike(6.0));
        assert!(!watch.is_spike(2.7));
    }
}
