//! How much of a core saving takes while others compute.

use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use rustix::time::{ClockId, clock_gettime};

/// Less work than this earns no rest yet: a wake-up costs the others something, too.
const SHORT: Duration = Duration::from_micros(500);

/// The share of a core's time that each thread of a save takes: it rests after each piece of work, until somebody waits for the save.
///
/// A lower priority is not enough: compute threads that wait for each other leave gaps, a thread of any priority fills them, and each of
/// their wake-ups is then a little later (benches/tried.md).
#[derive(Debug)]
pub struct Pace {
    share: f64,
    hurried: Mutex<bool>,
    wake: Condvar,
}

impl Pace {
    /// No rests.
    pub fn full() -> Self {
        Self::share(1.0)
    }

    /// A share of a core in 0 to 1; at least a thousandth.
    pub fn share(share: f64) -> Self {
        Self { share: share.clamp(0.001, 1.0), hurried: Mutex::new(false), wake: Condvar::new() }
    }

    /// Ends all rests, those under way included.
    pub fn hurry(&self) {
        *self.is_hurried() = true;
        self.wake.notify_all();
    }

    fn is_hurried(&self) -> MutexGuard<'_, bool> {
        self.hurried.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Begins the work of the calling thread.
    pub(crate) fn begin(&self) -> Work<'_> {
        Work { pace: self, worked: thread_time() }
    }
}

/// One thread's work.
pub(crate) struct Work<'a> {
    pace: &'a Pace,
    /// The thread's processor time at the end of its last rest.
    worked: Duration,
}

impl Work<'_> {
    /// Rests for as long as the work since the last rest asks for.
    pub(crate) fn rest(&mut self) {
        let now = thread_time();
        let work = now.saturating_sub(self.worked);
        if work < SHORT || self.pace.share == 1.0 {
            return;
        }
        let rest = work.mul_f64(1.0 / self.pace.share - 1.0);
        let hurried = self.pace.is_hurried();
        drop(self.pace.wake.wait_timeout_while(hurried, rest, |hurried| !*hurried).unwrap_or_else(PoisonError::into_inner));
        self.worked = thread_time();
    }
}

/// Processor time of the calling thread.
fn thread_time() -> Duration {
    let time = clock_gettime(ClockId::ThreadCPUTime);
    Duration::new(u64::try_from(time.tv_sec).unwrap_or(0), u32::try_from(time.tv_nsec).unwrap_or(0))
}

#[cfg(test)]
mod tests {
    use std::time::Instant;

    use super::*;

    fn work_for(time: Duration) {
        let start = thread_time();
        while thread_time().saturating_sub(start) < time {
            std::hint::spin_loop();
        }
    }

    #[test]
    fn a_share_of_a_core_is_kept() {
        let pace = Pace::share(0.1);
        let (start, mut work) = (Instant::now(), pace.begin());
        for _ in 0..5 {
            work_for(Duration::from_millis(2));
            work.rest();
        }
        assert!(start.elapsed() >= Duration::from_millis(100), "{:?}", start.elapsed());
    }

    #[test]
    fn whoever_waits_for_a_save_does_not_wait_for_its_rests() {
        let pace = Pace::share(0.0);
        std::thread::scope(|scope| {
            let resting = scope.spawn(|| {
                let mut work = pace.begin();
                // Rests of a hundred seconds, if nobody hurries it.
                for _ in 0..10 {
                    work_for(Duration::from_millis(100));
                    work.rest();
                }
            });
            std::thread::sleep(Duration::from_millis(50));
            pace.hurry();
            resting.join().unwrap();
        });
    }
}
