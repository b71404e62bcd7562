//! What follows when ranks have ended: nothing, the same again, or another job. A pure function of what was recorded.
use std::time::Duration;

use crate::chain::history::Past;
use crate::chain::record::{Outcome, Unfit};
use crate::failure::Kind;

/// In less than this nothing worth its start is done; it is more than the two minutes by which Slurm's signal may precede the end of a job.
const ENOUGH: Duration = Duration::from_secs(180);

/// A job that Slurm ends with no more than this left has come to the end of its time.
const OVER: Duration = Duration::from_secs(10);

/// Why a chain ends that a person has cancelled.
pub(crate) const CANCELLED: &str = "cancelled";

/// How ranks have ended.
pub(crate) struct Ending {
    pub(crate) outcome: Outcome,
    /// Of a failure.
    pub(crate) kind: Kind,
    /// Of the checkpoint that they began with, and of the newest one now.
    pub(crate) steps: (u64, u64),
    pub(crate) why: String,
    pub(crate) unfit: Vec<Unfit>,
    /// Slurm is ending the job.
    pub(crate) terminated: bool,
    /// The ranks left because they knew that the job was about to end.
    pub(crate) in_time: bool,
}

/// What the job has left to go on with.
pub(crate) struct Left {
    /// Until its end; `None` without one.
    pub(crate) time: Option<Duration>,
    /// Nodes that are fit beyond those that are needed, or how many are missing.
    pub(crate) nodes: i64,
}

/// What to do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Decision {
    /// The run is done.
    Done,
    /// Start the ranks again, here.
    Again,
    /// Submit another job.
    Successor,
    /// Slurm is ending this job and knows what follows.
    LeaveToSlurm,
    /// A person has to look, for this reason.
    GiveUp(String),
}

/// Decides. `past` is the record of the run before this ending, `restarts` how many failures in a row without a new checkpoint are too many.
pub(crate) fn decide(past: &Past, ending: &Ending, left: &Left, restarts: u64) -> Decision {
    let (from, to) = ending.steps;
    let time_is_up = ending.in_time || left.time.is_some_and(|time| time < ENOUGH);
    let is_over = left.time.is_some_and(|time| time < OVER);
    if ending.outcome == Outcome::Done {
        return Decision::Done;
    }
    if past.is_cancelled() {
        return Decision::GiveUp(CANCELLED.to_owned());
    }
    if ending.outcome == Outcome::Failed {
        if matches!(ending.kind, Kind::Usage | Kind::Policy | Kind::Input) {
            return Decision::GiveUp("this does not go away by itself".to_owned());
        }
        let before: Vec<_> = past.failures().take_while(|failure| failure.step == to).collect();
        if from == to && before.first().is_some_and(|failure| essence(failure.why) == essence(&ending.why)) {
            return Decision::GiveUp(format!("the same error twice at step {to}"));
        }
        if before.len() as u64 >= restarts {
            return Decision::GiveUp(format!("{} failures in a row without a new checkpoint", before.len() + 1));
        }
    } else if ending.in_time && from == to && past.last_job_did_no_step() {
        return Decision::GiveUp(format!(
            "two jobs in a row have done no step after step {to}: [site] time is too short for one"
        ));
    }
    match ending.terminated {
        // A requeue starts it again; a person who ended it has their reasons.
        true if !is_over => Decision::LeaveToSlurm,
        true => Decision::Successor,
        false if time_is_up || left.nodes < 0 => Decision::Successor,
        false => Decision::Again,
    }
}

/// A message without what differs whenever the same thing happens: process ids and times.
fn essence(why: &str) -> String {
    let mut words = why.split_whitespace().peekable();
    let mut kept = Vec::new();
    while let Some(word) = words.next() {
        let is_time = word.parse::<f64>().is_ok()
            && words.peek().is_some_and(|next| next.trim_end_matches([',', ';', '.', ')', ':']) == "s");
        let is_process = word.trim_start_matches('(') == "process";
        kept.push(if is_time { "#" } else { word });
        if is_process && words.next().is_some() {
            kept.push("#");
        }
    }
    kept.join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::chain::record::{Event, Next, What};

    const HOUR: Left = Left { time: Some(Duration::from_secs(3600)), nodes: 0 };

    fn submitted(job: &str, after: Option<&str>) -> Event {
        Event::now(job, What::Submitted { after: after.map(str::to_owned), excluded: vec![] })
    }

    fn ended(job: &str, outcome: Outcome, step: u64, why: &str) -> Event {
        Event::now(job, What::Ended { attempt: 1, outcome, step, why: why.to_owned(), unfit: vec![], next: Next::Again })
    }

    /// Decides after these events.
    fn after(past: &[Event], ending: &Ending, left: &Left, restarts: u64) -> Decision {
        decide(&Past::from(past.to_vec()), ending, left, restarts)
    }

    fn ending(outcome: Outcome, steps: (u64, u64), why: &str) -> Ending {
        Ending { outcome, kind: Kind::Failed, steps, why: why.to_owned(), unfit: vec![], terminated: false, in_time: false }
    }

    #[test]
    fn a_stop_goes_on_where_there_is_time_and_else_in_another_job() {
        let past = [submitted("1", None)];
        let stop = ending(Outcome::Stopped, (0, 5), "asked");
        assert_eq!(after(&past, &stop, &HOUR, 3), Decision::Again);
        let minute = Left { time: Some(Duration::from_secs(100)), nodes: 0 };
        let in_time = Ending { in_time: true, ..ending(Outcome::Stopped, (0, 5), "the job ends") };
        assert_eq!(after(&past, &in_time, &HOUR, 3), Decision::Successor);
        assert_eq!(after(&past, &stop, &minute, 3), Decision::Successor);
        assert_eq!(after(&past, &stop, &Left { time: None, nodes: -1 }, 3), Decision::Successor);
        let by_slurm = Ending { terminated: true, ..ending(Outcome::Stopped, (0, 5), "asked") };
        assert_eq!(after(&past, &by_slurm, &HOUR, 3), Decision::LeaveToSlurm);
        assert_eq!(after(&past, &by_slurm, &minute, 3), Decision::LeaveToSlurm, "somebody has cancelled it");
        let over = Left { time: Some(Duration::from_secs(2)), nodes: 0 };
        assert_eq!(after(&past, &by_slurm, &over, 3), Decision::Successor);
        assert_eq!(after(&past, &ending(Outcome::Done, (5, 9), ""), &minute, 3), Decision::Done);
    }

    #[test]
    fn an_error_that_repeats_at_the_same_step_ends_the_chain() {
        let failed = |steps, why| ending(Outcome::Failed, steps, why);
        let past = [submitted("1", None), ended("1", Outcome::Failed, 4, "NaN")];
        assert_eq!(after(&past, &failed((4, 4), "NaN"), &HOUR, 3), Decision::GiveUp("the same error twice at step 4".to_owned()));
        assert_eq!(after(&past, &failed((4, 4), "rank 1 died"), &HOUR, 3), Decision::Again);
        assert_eq!(after(&past, &failed((4, 8), "NaN"), &HOUR, 3), Decision::Again, "there was progress");
        let later = [&past[..], &[submitted("2", None)]].concat();
        assert_eq!(after(&later, &failed((4, 4), "NaN"), &HOUR, 3), Decision::Again, "a person has looked");
    }

    #[test]
    fn different_errors_without_progress_end_it_too() {
        let mut past = vec![submitted("1", None)];
        let next = |past: &[Event], number: u64| after(past, &ending(Outcome::Failed, (4, 4), &number.to_string()), &HOUR, 2);
        for number in 0..2 {
            assert_eq!(next(&past, number), Decision::Again);
            past.push(ended("1", Outcome::Failed, 4, &number.to_string()));
        }
        assert_eq!(next(&past, 2), Decision::GiveUp("3 failures in a row without a new checkpoint".to_owned()));
    }

    #[test]
    fn what_cannot_go_away_is_not_tried_again() {
        let wrong = Ending { kind: Kind::Input, ..ending(Outcome::Failed, (0, 0), "no model") };
        assert!(matches!(after(&[], &wrong, &HOUR, 3), Decision::GiveUp(_)));
        let cancelled = [submitted("1", None), Event::now("1", What::Cancelled)];
        let stop = ending(Outcome::Stopped, (0, 5), "asked");
        assert_eq!(after(&cancelled, &stop, &HOUR, 3), Decision::GiveUp("cancelled".to_owned()));
        let again = [&cancelled[..], &[submitted("2", None)]].concat();
        assert_eq!(after(&again, &stop, &HOUR, 3), Decision::Again);
    }

    #[test]
    fn jobs_that_are_too_short_for_a_step_do_not_go_on_for_ever() {
        let ranks = |job: &str, from_step| Event::now(job, What::Ranks { attempt: 1, nodes: vec![], ranks: 2, from_step });
        let job = |from, to| {
            [
                submitted("1", None),
                ranks("1", from),
                ended("1", Outcome::Stopped, to, "time"),
                submitted("2", Some("1")),
                ranks("2", to),
            ]
        };
        let stop = |steps| Ending { in_time: true, ..ending(Outcome::Stopped, steps, "time") };
        assert!(matches!(after(&job(4, 4), &stop((4, 4)), &HOUR, 3), Decision::GiveUp(why) if why.contains("too short")));
        assert_eq!(after(&job(0, 4), &stop((4, 4)), &HOUR, 3), Decision::Successor, "the job before did four steps");
        assert_eq!(after(&job(4, 4), &stop((4, 5)), &HOUR, 3), Decision::Successor);
        assert_eq!(after(&job(4, 4), &ending(Outcome::Stopped, (4, 4), "asked"), &HOUR, 3), Decision::Again, "asked to");
    }

    #[test]
    fn the_same_accident_has_another_process_and_another_time() {
        let died = |process: u64| format!("rank 2 (process {process} on n1) died; noticed 2.{process} s after");
        assert_eq!(essence(&died(11)), essence(&died(12)));
        assert_ne!(essence("rank 2 (process 1 on n1) died"), essence("rank 3 (process 1 on n1) died"));
    }
}
