//! Whether a save fits a step: whether it is written during one step without being felt.

/// Bytes of a rank that are written during one step without being felt, for each second that the step takes: a disk keeps up with that, and it
/// is a fortieth of two cores.
const FITS_A_SECOND: f64 = 64e6;

/// Bytes that fit any step.
const FITS_ANY_STEP: f64 = 16e6;

/// Seconds that fit any step: less than that is not worth what a kill costs more where nobody waits.
const SHORT: f64 = 1.0;

/// A save by the size of the largest rank's and the time that the slowest took for one, at full speed; 0 before that is known. Both are the same on
/// every rank, and so is what follows from them.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Save {
    pub(super) bytes: usize,
    pub(super) seconds: f64,
}

impl Save {
    /// Whether so much can be expected of a disk that it is not felt during a step of so many seconds.
    pub(super) fn is_small(self, step_seconds: f64) -> bool {
        self.bytes as f64 <= (FITS_A_SECOND * step_seconds).max(FITS_ANY_STEP)
    }

    /// Whether one like it took longer than such a step: the file system is slow.
    pub(super) fn outlasts(self, step_seconds: f64) -> bool {
        self.seconds > step_seconds.max(SHORT)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_small_grows_with_the_step() {
        for (bytes, step, small) in
            [(16_000_000, 0.0, true), (17_000_000, 0.1, false), (60_000_000, 1.0, true), (1_600_000_000, 5.0, false)]
        {
            assert_eq!(Save { bytes, seconds: 0.0 }.is_small(step), small, "{bytes} bytes, {step} s");
        }
    }

    #[test]
    fn what_was_slow_outlasts_a_step_that_is_shorter() {
        for (seconds, step, outlasts) in
            [(0.0, 0.0, false), (0.9, 0.1, false), (1.1, 0.1, true), (4.0, 5.0, false), (6.0, 5.0, true)]
        {
            assert_eq!(Save { bytes: 1, seconds }.outlasts(step), outlasts, "{seconds} s, a step of {step} s");
        }
    }
}
