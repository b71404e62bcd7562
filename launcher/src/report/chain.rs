//! The jobs of a run as its page tells them: one *stint* for each time that an allocation was held or, without Slurm, that ranks were started.
use crate::chain::record::{Event, Next, Outcome, Unfit, What};
use crate::report::log::{Log, Start};

/// A stretch of time in which nodes were held for the run.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Stint {
    /// Slurm's number; none for a run without Slurm.
    pub(crate) job: Option<String>,
    /// How often Slurm had started the job before.
    pub(crate) restarts: u64,
    /// None are named for a run without Slurm: it has one, this machine.
    pub(crate) nodes: Vec<String>,
    /// Seconds since 1970.
    pub(crate) submitted: Option<f64>,
    pub(crate) began: Option<f64>,
    /// Of the last sign of life.
    pub(crate) last: Option<f64>,
    /// Whether the end was recorded: a power cut records nothing.
    pub(crate) has_end: bool,
    /// Nodes that failed their test or seem to have failed the run, and those that the job kept away from.
    pub(crate) unfit: Vec<Unfit>,
    pub(crate) excluded: Vec<String>,
    pub(crate) attempts: Vec<Attempt>,
    pub(crate) cancelled: bool,
}

/// Ranks from their start to their end.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Attempt {
    pub(crate) ranks: Option<u64>,
    pub(crate) threads: Option<u64>,
    pub(crate) began: f64,
    pub(crate) from_step: Option<u64>,
    pub(crate) step: Option<u64>,
    /// `done`, `stopped`, `failed`; none where nobody recorded it.
    pub(crate) outcome: Option<&'static str>,
    pub(crate) why: Option<String>,
    pub(crate) next: Option<String>,
}

impl Stint {
    /// Seconds that the nodes were held, as far as is known.
    pub(crate) fn seconds(&self) -> Option<f64> {
        Some((self.last? - self.began?).max(0.0))
    }

    /// A machine without Slurm is one node.
    pub(crate) fn node_count(&self) -> u64 {
        if self.job.is_none() { 1 } else { self.nodes.len() as u64 }
    }
}

/// The stints of a run in the order of their beginning: from the record of its jobs, or of a run without any from the log of its first rank.
/// `steps` is where the run ends.
pub(crate) fn stints(events: &[Event], log: &Log, steps: Option<u64>) -> Vec<Stint> {
    let mut stints = if events.is_empty() { of_log(log, steps) } else { of_events(events) };
    if !events.is_empty() {
        lived_longer(&mut stints, log);
    }
    stints
}

fn of_events(events: &[Event]) -> Vec<Stint> {
    let mut stints: Vec<Stint> = Vec::new();
    for event in events {
        let newest = stints.iter().rposition(|stint| stint.job.as_deref() == Some(&event.job));
        let index = match (&event.what, newest) {
            (What::Started { .. }, Some(index)) if stints[index].began.is_none() => index,
            (What::Started { .. } | What::Submitted { .. }, _) | (_, None) => {
                stints.push(Stint { job: Some(event.job.clone()), ..Stint::default() });
                stints.len() - 1
            }
            (_, Some(index)) => index,
        };
        stints[index].take(event);
    }
    stints
}

impl Stint {
    fn take(&mut self, event: &Event) {
        match &event.what {
            What::Submitted { excluded, .. } => (self.submitted, self.excluded) = (Some(event.time), excluded.clone()),
            What::Started { nodes, restarts, .. } => {
                (self.began, self.nodes, self.restarts) = (Some(event.time), nodes.clone(), *restarts);
            }
            What::Tested { unfit, .. } => self.unfit.extend(unfit.iter().cloned()),
            What::Ranks { ranks, from_step, .. } => self.attempts.push(Attempt {
                ranks: Some(*ranks),
                began: event.time,
                from_step: Some(*from_step),
                ..Attempt::default()
            }),
            What::Ended { outcome, step, why, unfit, next, .. } => {
                self.unfit.extend(unfit.iter().cloned());
                if self.attempts.last().is_none_or(|attempt| attempt.outcome.is_some()) {
                    self.attempts.push(Attempt { began: event.time, ..Attempt::default() });
                }
                if let Some(attempt) = self.attempts.last_mut() {
                    (attempt.step, attempt.outcome) = (Some(*step), Some(word(*outcome)));
                    (attempt.why, attempt.next) = (Some(why.clone()), Some(what_follows(next)));
                }
                self.has_end = *next != Next::Again;
            }
            What::Cancelled => (self.cancelled, self.has_end) = (true, true),
        }
        // A job that waits holds nothing.
        self.last = self.began.map(|_| event.time).or(self.last);
    }
}

fn word(outcome: Outcome) -> &'static str {
    match outcome {
        Outcome::Done => "done",
        Outcome::Stopped => "stopped",
        Outcome::Failed => "failed",
    }
}

fn what_follows(next: &Next) -> String {
    match next {
        Next::Nothing => "nothing".to_owned(),
        Next::Again => "the ranks were started again in the same job".to_owned(),
        Next::Requeued => "Slurm started the same job again".to_owned(),
        Next::Job(job) => format!("job {job}"),
    }
}

/// A job whose end nobody recorded was alive at least until its last line in the log.
fn lived_longer(stints: &mut [Stint], log: &Log) {
    let begins: Vec<f64> = stints.iter().map(|stint| stint.began.unwrap_or(f64::INFINITY)).collect();
    for (index, stint) in stints.iter_mut().enumerate().filter(|(_, stint)| !stint.has_end) {
        let Some(began) = stint.began else { continue };
        let next = begins.iter().copied().filter(|other| *other > began).fold(f64::INFINITY, f64::min);
        let own = log.starts.iter().filter(|start| start.began >= begins[index] && start.began < next);
        for start in own {
            stint.last = Some(stint.last.map_or(start.last, |last| last.max(start.last)));
            if let Some(attempt) = stint.attempts.last_mut() {
                (attempt.step, attempt.why) = (attempt.step.max(start.step), attempt.why.take().or_else(|| start.why.clone()));
            }
        }
    }
}

/// Without Slurm every start of the ranks is a stint of its own.
fn of_log(log: &Log, steps: Option<u64>) -> Vec<Stint> {
    let stint = |start: &Start| {
        let reached = start.step.or(start.from_step);
        let done = reached.is_some() && reached == start.steps.or(steps) && start.why.is_none();
        let stopped = start.why.as_deref().is_some_and(|why| why.starts_with("stopped "));
        let outcome = match (&start.why, done) {
            (_, true) => Some("done"),
            (Some(_), _) if stopped => Some("stopped"),
            (Some(_), _) => Some("failed"),
            (None, _) => None,
        };
        let attempt = Attempt {
            ranks: start.ranks,
            threads: start.threads,
            began: start.began,
            from_step: start.from_step,
            step: reached,
            outcome,
            why: start.why.clone(),
            next: None,
        };
        let (began, last) = (Some(start.began), Some(start.last));
        Stint { began, last, has_end: outcome.is_some(), attempts: vec![attempt], ..Stint::default() }
    };
    log.starts.iter().map(stint).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(time: f64, job: &str, what: What) -> Event {
        Event { time, job: job.to_owned(), what }
    }

    fn names(names: &[&str]) -> Vec<String> {
        names.iter().map(|name| (*name).to_owned()).collect()
    }

    fn ended(outcome: Outcome, step: u64, why: &str, next: Next) -> What {
        What::Ended { attempt: 1, outcome, step, why: why.to_owned(), unfit: vec![], next }
    }

    #[test]
    fn a_chain_is_told_job_by_job() {
        let unfit = vec![Unfit { node: "n3".to_owned(), why: "its disk is full".to_owned() }];
        let started = |restarts| What::Started { nodes: names(&["n1", "n2"]), ends: None, restarts };
        let ranks = |from_step| What::Ranks { attempt: 1, nodes: names(&["n1", "n2"]), ranks: 4, from_step };
        let events = [
            at(10.0, "7", What::Submitted { after: None, excluded: vec![] }),
            at(100.0, "7", started(0)),
            at(101.0, "7", What::Tested { seconds: 1.0, unfit: unfit.clone() }),
            at(102.0, "7", ranks(0)),
            at(150.0, "7", ended(Outcome::Failed, 5, "rank 1 was killed", Next::Again)),
            at(151.0, "7", ranks(5)),
            at(200.0, "7", ended(Outcome::Stopped, 9, "the time was up", Next::Requeued)),
            at(300.0, "7", started(1)),
            at(301.0, "7", ranks(9)),
            at(400.0, "8", What::Submitted { after: Some("7".to_owned()), excluded: names(&["n1"]) }),
        ];
        let log =
            Log { starts: vec![Start { began: 302.0, last: 360.0, step: Some(11), ..Default::default() }], ..Log::default() };
        let stints = stints(&events, &log, Some(20));
        let seconds: Vec<_> = stints.iter().map(|stint| (stint.seconds(), stint.has_end, stint.node_count())).collect();
        assert_eq!(seconds, [(Some(100.0), true, 2), (Some(60.0), false, 2), (None, false, 0)]);
        assert_eq!((stints[0].unfit.as_slice(), stints[0].attempts.len(), stints[1].restarts), (unfit.as_slice(), 2, 1));
        assert_eq!(stints[0].attempts[1].next.as_deref(), Some("Slurm started the same job again"));
        assert_eq!((stints[1].attempts[0].step, stints[1].attempts[0].outcome), (Some(11), None));
        assert_eq!(stints[2].excluded, ["n1"]);
    }

    #[test]
    fn a_cancelled_job_that_never_ran_held_nothing() {
        let submitted = What::Submitted { after: None, excluded: vec![] };
        let stints = stints(&[at(1.0, "7", submitted), at(9.0, "7", What::Cancelled)], &Log::default(), None);
        assert_eq!((stints.len(), stints[0].cancelled, stints[0].seconds()), (1, true, None));
    }

    #[test]
    fn without_slurm_the_log_tells_each_start() {
        let start = |from_step: u64, step: u64, why: Option<&str>| Start {
            last: 5.0,
            from_step: Some(from_step),
            step: Some(step).filter(|step| *step > from_step),
            why: why.map(str::to_owned),
            ..Start::default()
        };
        let log = Log {
            starts: vec![
                start(0, 4, None),
                start(3, 8, Some("stopped on request after step 8 of 20, with a checkpoint")),
                start(8, 8, Some("rank 1 closed its connection")),
                start(8, 20, None),
            ],
            ..Log::default()
        };
        let stints = stints(&[], &log, Some(20));
        let ends: Vec<_> =
            stints.iter().map(|stint| (stint.attempts[0].outcome, stint.attempts[0].step, stint.has_end)).collect();
        let expected = [
            (None, Some(4), false),
            (Some("stopped"), Some(8), true),
            (Some("failed"), Some(8), true),
            (Some("done"), Some(20), true),
        ];
        assert_eq!(ends, expected);
        assert_eq!((stints[0].node_count(), stints[0].seconds()), (1, Some(5.0)));
    }
}
