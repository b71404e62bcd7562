//! Where a run is: what its directory and the record of its jobs say together.
use serde::Serialize;
use sirocco_config::{Length, Run};

use crate::chain::history::{Job, JobState};
use crate::train::directory::RunDirectory;
use crate::train::metrics::Curve;
use crate::train::tokens;

/// A run as a whole.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum State {
    /// No step was done, and nobody is at work.
    Ready,
    /// Its next job waits for Slurm.
    Queued,
    /// Its job runs, and has no ranks at the moment.
    Starting,
    Running,
    /// It can be resumed.
    Stopped,
    Done,
    /// Its last job failed, and a person has to look.
    Failed,
    /// A person ended its chain.
    Cancelled,
}

impl State {
    /// The same word as in JSON.
    pub(crate) fn word(self) -> &'static str {
        match self {
            State::Ready => "ready",
            State::Queued => "queued",
            State::Starting => "starting",
            State::Running => "running",
            State::Stopped => "stopped",
            State::Done => "done",
            State::Failed => "failed",
            State::Cancelled => "cancelled",
        }
    }

    /// Whether nothing more happens by itself.
    pub(crate) fn is_over(self) -> bool {
        !matches!(self, State::Queued | State::Starting | State::Running)
    }

    /// `is_at_work`: this machine sees somebody at work. `job`: where the chain is. `is_done`: every step and evaluation is.
    pub(crate) fn of(is_at_work: bool, job: Option<&Job>, is_done: bool, step: u64) -> State {
        match job.map(|job| job.state) {
            Some(JobState::Starting) => State::Starting,
            _ if is_at_work => State::Running,
            Some(JobState::Queued) => State::Queued,
            _ if job.is_some_and(|job| job.state.is_over() && !job.is_last()) => State::Queued,
            Some(JobState::Running) => State::Running,
            Some(JobState::Failed) if !is_done => State::Failed,
            Some(JobState::Cancelled) if !is_done => State::Cancelled,
            _ if is_done => State::Done,
            _ if step > 0 => State::Stopped,
            _ => State::Ready,
        }
    }
}

/// Optimizer steps of the whole run; none while the number of sequences is not known.
pub(crate) fn whole_steps(run: &Run, directory: &RunDirectory) -> Option<u64> {
    match run.train.length {
        Length::Steps(steps) => Some(steps),
        Length::Epochs(_) => run.steps(tokens::open(run, &directory.tokens()).ok()?.train.sequences).ok(),
    }
}

/// Whether nothing of the run is left to do.
pub(crate) fn is_done(run: &Run, curve: &Curve, steps: Option<u64>, checkpoint: Option<u64>) -> bool {
    steps.is_some_and(|steps| checkpoint.is_some_and(|step| step >= steps) && !curve.lacks_last_evaluation(run, steps))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::chain::history::{current, jobs, tests};

    #[test]
    fn without_jobs_the_directory_says_it_and_with_jobs_the_record_does() {
        assert_eq!(State::of(true, None, false, 0), State::Running);
        assert_eq!(
            [(false, 0), (false, 3), (true, 9)].map(|(done, step)| State::of(false, None, done, step)),
            [State::Ready, State::Stopped, State::Done]
        );
        let mut events = tests::two_jobs();
        let of = |events: &[_], done| State::of(false, current(&jobs(events.to_vec())), done, 40);
        assert_eq!(of(&events, false), State::Queued);
        events.push(tests::event(601.0, "8", r#""event":"cancelled""#));
        assert_eq!((of(&events, false), of(&events, true)), (State::Cancelled, State::Done));
        assert!(State::Cancelled.is_over() && !State::Queued.is_over());
    }
}
