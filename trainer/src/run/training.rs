//! The loop over steps: when to measure, when to save, when to stop.

use std::time::Instant;

use super::custody::Permit;
use super::data::Sequences;
use super::deadline::Deadline;
use super::evaluate::{Evaluated, held_out_loss};
use super::metrics::Metrics;
use super::saver::Saver;
use super::signals::Signalled;
use super::step::{Plan, State, Stepped, Wishes, step};
use crate::caught::caught;
use crate::failure::Failure;

/// A run in progress on one rank.
pub(super) struct Training<'a> {
    /// That the policy allows it.
    #[expect(dead_code, reason = "nothing reads it: it is there so that nobody can train who has not asked")]
    pub(super) permit: Permit,
    pub(super) plan: Plan<'a>,
    pub(super) saver: Saver<'a>,
    pub(super) held_out: Option<&'a Sequences>,
    pub(super) state: State,
    /// Of rank 0.
    pub(super) metrics: Option<Metrics>,
    /// Of the job, where it has one.
    pub(super) deadline: Option<Deadline>,
}

impl Training<'_> {
    /// Goes on from `first` completed steps to `end`, or until any rank is asked to stop.
    pub(super) fn go(&mut self, first: u64, end: u64, signalled: &Signalled) -> Result<(), Failure> {
        let (steps, run) = (self.plan.schedule.steps, self.plan.run);
        let mut completed = first;
        // Whoever asks for a stop may not wait for an evaluation. Of a run that was stopped in the last one, that is all that is
        // left.
        let at_once = first == steps || (first == 0 && run.eval.every_steps > 0);
        let mut given_up = at_once && self.evaluate(first, signalled)?;
        let (mut stopped, mut saved) = (given_up, first);
        while completed < end && !stopped {
            stopped = self.step(completed, signalled)?;
            completed += 1;
            let due = |every: u64| every > 0 && completed.is_multiple_of(every);
            if stopped || due(run.checkpoint.every_steps) || completed == end {
                self.saver.start(&self.state, completed)?;
                saved = completed;
            }
            if completed == steps {
                // What the run has learnt must not depend on whether it can be measured.
                self.saver.complete()?;
            }
            if completed == steps || (due(run.eval.every_steps) && !stopped) {
                given_up = self.evaluate(completed, signalled)?;
                stopped |= given_up;
            }
        }
        if saved < completed {
            self.saver.start(&self.state, completed)?;
        }
        self.saver.complete()?;
        let in_time = self.deadline.as_ref().is_some_and(|deadline| deadline.is_near(self.saver.expected()));
        ended(completed, steps, given_up, in_time && !signalled.stop_is_wanted())
    }

    /// One step and its record; whether any rank wants to stop.
    fn step(&mut self, completed: u64, signalled: &Signalled) -> Result<bool, Failure> {
        self.deadline.as_mut().map(Deadline::step_begins);
        let (saver, deadline) = (&self.saver, &self.deadline);
        let time_is_up = || deadline.as_ref().is_some_and(|deadline| deadline.is_near(saver.expected()));
        let wishes = || Wishes { stop: signalled.stop_is_wanted() || time_is_up(), settled: saver.is_settled() };
        let Stepped { record, stop, all_settled, failure } = caught(|| step(&self.plan, &mut self.state, completed, &wishes))?;
        tracing::info!(step = record.step, loss = record.loss, seconds = record.seconds, "step");
        if record.skipped {
            tracing::warn!(step = record.step, loss = record.loss, grad_norm = record.grad_norm, "skipped: not a finite number");
        }
        if self.saver.is_awaited() {
            // A step is done when it is recorded: no more than one interval of them is without a checkpoint.
            self.saver.complete()?;
        }
        if let Some(metrics) = &mut self.metrics {
            metrics.step(&record)?;
        }
        if all_settled {
            self.saver.advance()?;
        }
        self.saver.keep_up(completed + 1);
        match failure {
            Some(failure) => self.saver.complete().and(Err(failure)),
            None => Ok(stop),
        }
    }

    /// Measures the loss on what is held out, and writes it down; whether any rank was asked to stop before that was done.
    fn evaluate(&mut self, completed: u64, signalled: &Signalled) -> Result<bool, Failure> {
        let Some(held_out) = self.held_out else { return Ok(false) };
        let (micro_batch, communicator) = (self.plan.run.train.micro_batch as usize, self.plan.communicator);
        let save = self.saver.expected();
        let stop = || signalled.stop_is_wanted() || self.deadline.as_ref().is_some_and(|deadline| deadline.is_here(save));
        let began = Instant::now();
        let loss = match caught(|| held_out_loss(&mut self.state.engine, held_out, micro_batch, communicator, &stop))? {
            Evaluated::Whole(loss) => loss,
            Evaluated::Stopped => {
                tracing::info!(step = completed, "an evaluation was given up: asked to stop");
                return Ok(true);
            }
        };
        if let (Some(metrics), Some(loss)) = (&mut self.metrics, loss) {
            let seconds = began.elapsed().as_secs_f64();
            tracing::info!(step = completed, loss, seconds, "held out");
            metrics.held_out(completed, loss, seconds)?;
        }
        Ok(false)
    }
}

/// What a run that does no more has come to. `given_up` says that its newest evaluation was not done, `in_time` that nobody asked for a stop
/// but the job's end. `sirocco job` reads the beginning of these sentences.
fn ended(completed: u64, steps: u64, given_up: bool, in_time: bool) -> Result<(), Failure> {
    let why = if in_time { "in time for the end of the job" } else { "on request" };
    let stopped = |when: &str| Err(Failure::stopped(format!("stopped {why} {when}")));
    match completed {
        0 => stopped("before the first step"),
        _ if completed < steps => stopped(&format!("after step {completed} of {steps}, with a checkpoint")),
        _ if given_up => stopped(&format!("after the last of {steps} steps, with a checkpoint; the last evaluation is left")),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_run_is_done_when_its_last_step_is_done_and_measured() {
        let said = |completed, given_up| ended(completed, 10, given_up, false).map_err(|failure| failure.message().to_owned());
        assert_eq!(said(10, false), Ok(()));
        assert_eq!(said(12, false), Ok(()), "a run that was shortened");
        for (completed, given_up, when) in [
            (0, true, "before the first step"),
            (4, false, "after step 4 of 10, with a checkpoint"),
            (4, true, "after step 4 of 10, with a checkpoint"),
            (10, true, "after the last of 10 steps, with a checkpoint; the last evaluation is left"),
        ] {
            assert_eq!(said(completed, given_up), Err(format!("stopped on request {when}")));
        }
        let in_time = ended(4, 10, false, true).unwrap_err();
        assert_eq!(in_time.message(), "stopped in time for the end of the job after step 4 of 10, with a checkpoint");
    }
}
