//! What the record of a run says of each of its jobs, put together from the events one by one.
use serde::Serialize;

use crate::chain::record::{Event, Next, Outcome, Unfit, What};

/// Where a job is, as far as it was recorded.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum JobState {
    /// Slurm has it and has not started it, or will start it again.
    Queued,
    /// It runs, and has no ranks at the moment.
    Starting,
    /// Its ranks train.
    Running,
    /// Every step of the run is done.
    Done,
    /// It ended with a checkpoint, before the run did.
    Stopped,
    Failed,
    /// A person ended the chain.
    Cancelled,
}

impl JobState {
    /// The same word as in JSON.
    pub(crate) fn word(self) -> &'static str {
        match self {
            JobState::Queued => "queued",
            JobState::Starting => "starting",
            JobState::Running => "running",
            JobState::Done => "done",
            JobState::Stopped => "stopped",
            JobState::Failed => "failed",
            JobState::Cancelled => "cancelled",
        }
    }

    /// Whether nothing more will come of it.
    pub(crate) fn is_over(self) -> bool {
        matches!(self, JobState::Done | JobState::Stopped | JobState::Failed | JobState::Cancelled)
    }
}

/// One job of a chain. Times are seconds since 1970.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub(crate) struct Job {
    pub(crate) job: String,
    pub(crate) state: JobState,
    /// The job whose end it waits for.
    pub(crate) after: Option<String>,
    /// Those of its ranks; before there are any, those that Slurm gave.
    pub(crate) nodes: Vec<String>,
    pub(crate) submitted: Option<f64>,
    pub(crate) started: Option<f64>,
    /// When its ranks ended, or it was cancelled.
    pub(crate) ended: Option<f64>,
    /// When Slurm will end it.
    pub(crate) ends: Option<f64>,
    /// How often Slurm had started it before.
    pub(crate) restarts: u64,
    /// How often its ranks were started, since Slurm last started it.
    pub(crate) attempts: u64,
    pub(crate) ranks: Option<u64>,
    /// Of the checkpoint that its first ranks went on from.
    pub(crate) from_step: Option<u64>,
    /// Of the checkpoint that it left.
    pub(crate) step: Option<u64>,
    /// How its ranks ended last, and why, in words.
    pub(crate) outcome: Option<Outcome>,
    pub(crate) why: Option<String>,
    /// What follows: `nothing`, `again`, `requeued` or `{"job":ID}`.
    pub(crate) next: Option<Next>,
    /// Nodes that seem not to be fit for work.
    pub(crate) unfit: Vec<Unfit>,
}

impl Job {
    fn new(id: &str) -> Job {
        Job {
            job: id.to_owned(),
            state: JobState::Queued,
            after: None,
            nodes: Vec::new(),
            submitted: None,
            started: None,
            ended: None,
            ends: None,
            restarts: 0,
            attempts: 0,
            ranks: None,
            from_step: None,
            step: None,
            outcome: None,
            why: None,
            next: None,
            unfit: Vec::new(),
        }
    }

    fn hear(&mut self, event: Event) {
        let time = Some(event.time);
        match event.what {
            What::Submitted { after, .. } => (self.submitted, self.after) = (time, after),
            What::Started { nodes, ends, restarts } => {
                (self.started, self.ended, self.ends, self.next) = (time, None, ends, None);
                (self.state, self.nodes, self.restarts, self.attempts) = (JobState::Starting, nodes, restarts, 0);
            }
            What::Tested { unfit, .. } => self.blame(unfit),
            What::Ranks { attempt, nodes, ranks, from_step } => {
                (self.state, self.nodes, self.attempts, self.ranks) = (JobState::Running, nodes, attempt, Some(ranks));
                (self.ended, self.next) = (None, None);
                self.from_step.get_or_insert(from_step);
            }
            What::Ended { outcome, step, why, unfit, next, .. } => {
                self.state = match (&next, outcome) {
                    (Next::Again, _) => JobState::Starting,
                    (Next::Requeued, _) => JobState::Queued,
                    (_, Outcome::Done) => JobState::Done,
                    // The ranks end because somebody cancelled the chain.
                    _ if self.state == JobState::Cancelled => JobState::Cancelled,
                    (_, Outcome::Stopped) => JobState::Stopped,
                    (_, Outcome::Failed) => JobState::Failed,
                };
                // What a person ended has not failed, however it ended.
                let is_told = self.state != JobState::Cancelled || outcome != Outcome::Failed;
                (self.outcome, self.why) = (Some(outcome).filter(|_| is_told), Some(why).filter(|_| is_told));
                (self.ended, self.step, self.next) = (time, Some(step), Some(next));
                self.blame(unfit);
            }
            What::Cancelled => {
                if !matches!(self.state, JobState::Done | JobState::Failed) {
                    self.state = JobState::Cancelled;
                    // That was an attempt before; this is why nothing follows.
                    (self.outcome, self.why) = (None, None);
                }
                self.ended = self.ended.or(time);
                self.next = Some(Next::Nothing);
            }
        }
    }

    fn blame(&mut self, unfit: Vec<Unfit>) {
        let new: Vec<_> = unfit.into_iter().filter(|one| !self.unfit.contains(one)).collect();
        self.unfit.extend(new);
    }

    /// The last step that it did, while a run is at `step`; none before it had ranks.
    pub(crate) fn until(&self, step: u64) -> Option<u64> {
        let from = self.from_step?;
        let until = if self.state == JobState::Running { Some(step) } else { self.step };
        Some(until?.max(from))
    }

    /// What the attempt before failed of, while the next one is under way.
    pub(crate) fn failed_before(&self) -> Option<&str> {
        self.why.as_deref().filter(|_| self.next.is_none() && self.outcome == Some(Outcome::Failed))
    }

    /// Whether the chain ends with it, by what was recorded.
    pub(crate) fn is_last(&self) -> bool {
        self.state.is_over() && !matches!(self.next, Some(Next::Job(_)))
    }
}

/// The jobs, in the order in which they were first heard of.
pub(crate) fn jobs(events: impl IntoIterator<Item = Event>) -> Vec<Job> {
    let mut all: Vec<Job> = Vec::new();
    for event in events {
        let at = all.iter().position(|job| job.job == event.job).unwrap_or_else(|| {
            all.push(Job::new(&event.job));
            all.len() - 1
        });
        all[at].hear(event);
    }
    all
}

/// The job that says where the chain is: of those since a person last submitted the run the one that runs, or the first that waits, or the last.
pub(crate) fn current(jobs: &[Job]) -> Option<&Job> {
    let begins = jobs.iter().rposition(|job| job.submitted.is_some() && job.after.is_none()).unwrap_or(0);
    let chain = jobs.get(begins..)?;
    let runs = chain.iter().rfind(|job| matches!(job.state, JobState::Starting | JobState::Running));
    runs.or_else(|| chain.iter().find(|job| job.state == JobState::Queued)).or(chain.last())
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    pub(crate) fn event(time: f64, job: &str, what: &str) -> Event {
        serde_json::from_str(&format!(r#"{{"time":{time},"job":"{job}",{what}}}"#)).unwrap()
    }

    /// Job 7 stopped at step 40 and job 8 follows.
    pub(crate) fn two_jobs() -> Vec<Event> {
        vec![
            event(10.0, "7", r#""event":"submitted","after":null,"excluded":[]"#),
            event(11.0, "8", r#""event":"submitted","after":"7","excluded":[]"#),
            event(20.0, "7", r#""event":"started","nodes":["n1","n2","n3"],"ends":620.0,"restarts":0"#),
            event(21.0, "7", r#""event":"tested","seconds":0.5,"unfit":[{"node":"n3","why":"no memory"}]"#),
            event(22.0, "7", r#""event":"ranks","attempt":1,"nodes":["n1","n2"],"ranks":4,"from_step":0"#),
            event(
                600.0,
                "7",
                r#""event":"ended","attempt":1,"outcome":"stopped","step":40,"why":"the time was up","unfit":[],"next":{"job":"8"}"#,
            ),
        ]
    }

    #[test]
    fn a_chain_goes_from_job_to_job() {
        let mut events = two_jobs();
        let all = jobs(events.clone());
        let (first, second) = (&all[0], &all[1]);
        assert_eq!(
            (first.state, first.from_step, first.until(99), first.ends),
            (JobState::Stopped, Some(0), Some(40), Some(620.0))
        );
        assert_eq!((first.nodes.join(" "), first.unfit[0].node.as_str(), first.is_last()), ("n1 n2".to_owned(), "n3", false));
        assert_eq!((second.state, second.after.as_deref(), second.until(99)), (JobState::Queued, Some("7"), None));
        assert_eq!(current(&all).map(|job| job.job.as_str()), Some("8"));
        events.push(event(630.0, "8", r#""event":"started","nodes":["n1","n2"],"ends":1230.0,"restarts":0"#));
        events.push(event(631.0, "8", r#""event":"ranks","attempt":1,"nodes":["n1","n2"],"ranks":4,"from_step":40"#));
        let all = jobs(events);
        assert_eq!((all[1].state, all[1].until(52)), (JobState::Running, Some(52)));
        assert_eq!(current(&all).map(|job| job.job.as_str()), Some("8"));
    }

    #[test]
    fn a_job_that_is_requeued_or_tries_again_is_not_over() {
        let ended = |next: &str| {
            let mut events = two_jobs();
            events.push(event(
                601.0,
                "7",
                &format!(
                    r#""event":"ended","attempt":1,"outcome":"failed","step":40,"why":"n2 is gone","unfit":[],"next":{next}"#
                ),
            ));
            jobs(events).swap_remove(0)
        };
        let states = [r#""again""#, r#""requeued""#, r#""nothing""#, r#"{"job":"9"}"#].map(|next| ended(next).state);
        assert_eq!(states, [JobState::Starting, JobState::Queued, JobState::Failed, JobState::Failed]);
        assert!(ended(r#""nothing""#).is_last() && !ended(r#"{"job":"9"}"#).is_last() && !ended(r#""requeued""#).is_last());
    }

    #[test]
    fn a_cancelled_chain_is_over_and_what_was_done_stays_done() {
        let mut events = two_jobs();
        events.push(event(602.0, "8", r#""event":"cancelled""#));
        let all = jobs(events);
        assert_eq!((all[0].state, all[1].state, all[1].is_last()), (JobState::Stopped, JobState::Cancelled, true));
        assert_eq!(current(&all).map(|job| job.job.as_str()), Some("8"));
        // While its ranks run: they are told to stop, and do.
        let mut events = two_jobs();
        events.insert(5, event(599.0, "7", r#""event":"cancelled""#));
        let all = jobs(events.clone());
        assert_eq!((all[0].state, all[0].step), (JobState::Cancelled, Some(40)));
        assert_eq!(all[0].why.as_deref(), Some("the time was up"));
        // Submitted again, whatever became of the jobs before.
        events.push(event(700.0, "9", r#""event":"submitted","after":null,"excluded":[]"#));
        assert_eq!(current(&jobs(events)).map(|job| job.job.as_str()), Some("9"));
        assert!(current(&[]).is_none());
    }

    #[test]
    fn a_new_attempt_tells_what_the_one_before_failed_of_until_somebody_cancels() {
        let mut events = two_jobs();
        events.truncate(5);
        let failed = r#""event":"ended","attempt":1,"outcome":"failed","step":20,"why":"rank 1 was killed\n  rank 0: it died","unfit":[],"next":"again""#;
        let ranks = r#""event":"ranks","attempt":2,"nodes":["n1","n2"],"ranks":4,"from_step":20"#;
        events.extend([event(60.0, "7", failed), event(61.0, "7", ranks)]);
        let seventh = |events: &[Event]| jobs(events.to_vec()).swap_remove(0);
        let job = seventh(&events);
        assert_eq!(
            (job.attempts, job.state, job.failed_before()),
            (2, JobState::Running, Some("rank 1 was killed\n  rank 0: it died"))
        );
        events.push(event(70.0, "7", r#""event":"cancelled""#));
        let job = seventh(&events);
        assert_eq!((job.state, job.why.as_deref(), job.failed_before()), (JobState::Cancelled, None, None));
        // Ended at once: that a signal killed a rank is what was asked for.
        let killed =
            r#""event":"ended","attempt":2,"outcome":"failed","step":20,"why":"rank 0 was killed","unfit":[],"next":"nothing""#;
        events.push(event(71.0, "7", killed));
        let job = seventh(&events);
        assert_eq!((job.state, job.why, job.outcome), (JobState::Cancelled, None, None));
    }
}
