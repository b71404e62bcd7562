//! The end of the job as a contract: a run stops, with a checkpoint, after the last step that leaves time for it.

use std::collections::VecDeque;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

/// The next step is expected to take as long as the longest of so many.
const REMEMBERED: usize = 16;

/// What may come on top of what was measured.
const LATENESS: f64 = 1.25;

/// For ranks to leave each other, and for whoever started them to see to what follows.
const FAREWELL: Duration = Duration::from_secs(10);

/// When the job ends, and how long its steps take. A clock that is set meanwhile changes nothing: what counts is the time that was left when
/// the rank started.
pub(super) struct Deadline {
    end: Instant,
    /// When the newest step began.
    began: Option<Instant>,
    steps: VecDeque<Duration>,
}

impl Deadline {
    /// Of a job that ends at `ends`, in seconds since 1970.
    pub(super) fn new(ends: f64) -> Option<Self> {
        let ends = UNIX_EPOCH.checked_add(Duration::try_from_secs_f64(ends).ok()?)?;
        let left = ends.duration_since(SystemTime::now()).unwrap_or_default();
        Some(Self { end: Instant::now().checked_add(left)?, began: None, steps: VecDeque::new() })
    }

    /// A step begins, and the one before it has ended.
    pub(super) fn step_begins(&mut self) {
        let now = Instant::now();
        if let Some(began) = self.began.replace(now) {
            self.steps.truncate(REMEMBERED - 1);
            self.steps.push_front(now - began);
        }
    }

    /// Whether there is no time for another step after the one that is being done, and for a checkpoint, which takes so long.
    pub(super) fn is_near(&self, save: Duration) -> bool {
        let now = Instant::now();
        // Of the first step all that is known is how long it has taken so far.
        let first = self.began.map(|began| now - began);
        let step = self.steps.iter().copied().max().or(first).unwrap_or_default();
        now + (step + save).mul_f64(LATENESS) + FAREWELL >= self.end
    }

    /// Whether there is no time left but for a checkpoint.
    pub(super) fn is_here(&self, save: Duration) -> bool {
        Instant::now() + save.mul_f64(LATENESS) + FAREWELL >= self.end
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ending_in(seconds: f64) -> Deadline {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs_f64();
        Deadline::new(now + seconds).unwrap()
    }

    #[test]
    fn there_must_be_time_for_a_step_a_checkpoint_and_a_farewell() {
        let mut deadline = ending_in(1000.0);
        deadline.steps.extend([30, 400, 20].map(Duration::from_secs));
        for (save, near) in [(0, false), (300, false), (400, true)] {
            assert_eq!(deadline.is_near(Duration::from_secs(save)), near, "(400 + {save}) × 1.25 + 10 of 1000");
        }
        assert!(!deadline.is_here(Duration::from_secs(700)) && deadline.is_here(Duration::from_secs(800)));
        assert!(ending_in(5.0).is_near(Duration::ZERO) && ending_in(-5.0).is_here(Duration::ZERO));
    }

    #[test]
    fn old_steps_are_forgotten_and_the_first_one_is_not() {
        let mut deadline = ending_in(1000.0);
        deadline.steps.push_front(Duration::from_secs(900));
        for _ in 0..=REMEMBERED {
            assert!(deadline.is_near(Duration::ZERO));
            deadline.step_begins();
        }
        assert!(!deadline.is_near(Duration::ZERO));
        for nonsense in [f64::NAN, f64::INFINITY, -1.0, 1e300] {
            assert!(Deadline::new(nonsense).is_none(), "{nonsense}");
        }
    }
}
