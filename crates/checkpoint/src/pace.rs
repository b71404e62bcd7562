//! How much of a core saving takes while others compute.

use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use rustix::time::{ClockId, clock_gettime};

/// Less work than this earns no rest yet: a wake-up costs the others something, too.
const SHORT: Duration = Duration::from_micros(500);

/// The share of a core's time that each thread of a save takes: it rests after each piece of work, until the save has had its leisure or
/// somebody waits for it.
///
/// A lower priority is not enough: compute threads that wait for each other leave gaps, a thread of any priority fills them, and each of
/// their wake-ups is then a little later (benches/tried.md).
#[derive(Debug)]
pub struct Pace {
    share: f64,
    /// When rests end; never, if that is too far away to be told.
    end: Option<Instant>,
    hurried: Mutex<bool>,
    wake: Condvar,
}

impl Pace {
    /// No rests.
    pub fn full() -> Self {
        Self::share(1.0, Duration::ZERO)
    }

    /// A share of a core in 0 to 1 (at least a thousandth) for as long as `leisure`, and then no more rests.
    pub fn share(share: f64, leisure: Duration) -> Self {
        let end = Instant::now().checked_add(leisure);
        Self { share: share.clamp(0.001, 1.0), end, hurried: Mutex::new(false), wake: Condvar::new() }
    }

    /// Ends all rests, those under way included.
    pub fn hurry(&self) {
        *self.is_hurried() = true;
        self.wake.notify_all();
    }

    fn is_hurried(&self) -> MutexGuard<'_, bool> {
        self.hurried.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What is left of the leisure.
    fn left(&self) -> Duration {
        self.end.map_or(Duration::MAX, |end| end.saturating_duration_since(Instant::now()))
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
        let rest = work.mul_f64(1.0 / self.pace.share - 1.0).min(self.pace.left());
        if work < SHORT || rest.is_zero() {
            return;
        }
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
    use super::*;

    const LONG: Duration = Duration::from_secs(3600);

    fn work_for(time: Duration) {
        let start = thread_time();
        while thread_time().saturating_sub(start) < time {
            std::hint::spin_loop();
        }
    }

    /// How long ten pieces of work of 2 ms take with their rests.
    fn ten_pieces(pace: &Pace) -> Duration {
        let (start, mut work) = (Instant::now(), pace.begin());
        for _ in 0..10 {
            work_for(Duration::from_millis(2));
            work.rest();
        }
        start.elapsed()
    }

    #[test]
    fn a_share_of_a_core_is_kept() {
        let took = ten_pieces(&Pace::share(0.1, LONG));
        assert!(took >= Duration::from_millis(200), "{took:?}");
    }

    /// At a thousandth of a core, ten pieces take 20 s: the bounds below leave a busy machine half of that.
    const UNHURRIED: Duration = Duration::from_secs(20);

    #[test]
    fn whoever_waits_for_a_save_does_not_wait_for_its_rests() {
        let pace = Pace::share(0.001, LONG);
        let took = std::thread::scope(|scope| {
            let working = scope.spawn(|| ten_pieces(&pace));
            // By now it rests for the first time.
            std::thread::sleep(Duration::from_secs(1));
            assert!(!working.is_finished());
            pace.hurry();
            working.join().unwrap()
        });
        assert!(took < UNHURRIED / 2, "{took:?}");
    }

    #[test]
    fn rests_end_with_the_leisure() {
        let took = ten_pieces(&Pace::share(0.001, Duration::from_secs(1)));
        assert!(took >= Duration::from_secs(1) && took < UNHURRIED / 2, "{took:?}");
        assert!(ten_pieces(&Pace::full()) < UNHURRIED / 2);
    }
}
