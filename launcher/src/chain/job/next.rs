//! Does what was decided when ranks have ended: another job, the same one again, or nothing.
use super::Job;
use super::decide::{CANCELLED, Decision};
use crate::chain::history::Past;
use crate::chain::record::{self, Event, Next, What};
use crate::chain::script::job_name;
use crate::chain::slurm::{self, Submission};
use crate::failure::{Failure, Kind};
use crate::output::say;
use crate::train::outcome::STOPPED;

impl Job {
    /// What comes next, and the exit code of this job. Another one keeps away from nodes that are `unfit`.
    pub(super) fn follow(&self, decision: &Decision, past: &Past, unfit: Vec<String>) -> Result<(Next, u8), Failure> {
        Ok(match decision {
            Decision::Done => (Next::Nothing, 0),
            Decision::Again => (Next::Again, STOPPED),
            Decision::LeaveToSlurm => (Next::Requeued, STOPPED),
            Decision::GiveUp(reason) => (Next::Nothing, if reason == CANCELLED { STOPPED } else { 1 }),
            Decision::Successor => match self.submit(past, unfit) {
                Ok(job) => (Next::Job(job), STOPPED),
                Err(failure) if failure.kind == Kind::Stopped => (Next::Nothing, STOPPED),
                Err(failure) => {
                    say(format_args!(
                        "no other job could be submitted from here ({}): asking Slurm to start this one again",
                        failure.message
                    ));
                    slurm::requeue(&self.allocation.id)?;
                    (Next::Requeued, STOPPED)
                }
            },
        })
    }

    /// Submits the job that follows this one.
    fn submit(&self, past: &Past, excluded: Vec<String>) -> Result<String, Failure> {
        let known: Vec<String> = past.jobs().chain([self.allocation.id.as_str()]).map(str::to_owned).collect();
        let submission = Submission {
            script: &self.directory.path().join("job.sh"),
            name: &job_name(&self.run.name, self.directory.path()),
            known: &known,
            excluded: &excluded,
            leading_out: &[],
        };
        let job = slurm::submit(&submission)?;
        if self.past()?.is_cancelled() {
            slurm::cancel(&job, None)?;
            return Err(Failure::new(Kind::Stopped, "this run was cancelled"));
        }
        let after = Some(self.allocation.id.clone());
        record::add(self.directory.path(), &Event::now(&job, What::Submitted { after, excluded }))?;
        Ok(job)
    }
}

/// The same for people.
pub(super) fn words(next: &Next, decision: &Decision) -> String {
    match (next, decision) {
        (Next::Again, _) => "starting the ranks again".to_owned(),
        (Next::Job(job), _) => format!("the run goes on in job {job}"),
        (Next::Requeued, _) => "Slurm starts this job again, unless it was cancelled".to_owned(),
        (Next::Nothing, Decision::Done) => "nothing is left to do".to_owned(),
        (Next::Nothing, _) => "the chain ends here".to_owned(),
    }
}
