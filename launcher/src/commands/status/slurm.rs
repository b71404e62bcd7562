//! What Slurm says of the jobs of a chain that are not over.
use std::collections::BTreeMap;

use serde::Serialize;

use crate::chain::history::Job;
use crate::site::ask::{Answer, LIMIT, ask};

/// A job as Slurm sees it, in Slurm's words.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub(super) struct Seen {
    /// `PENDING`, `RUNNING`, …
    pub(super) state: String,
    /// Why it waits, such as `Resources` or `Dependency`.
    pub(super) reason: Option<String>,
    /// When it may start, local time of the cluster, as Slurm guesses it.
    pub(super) expected_start: Option<String>,
}

/// What came of asking.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Asked {
    /// No job is left to ask about.
    Nothing,
    /// By job; those that are not there Slurm does not know, or not any more.
    Answered(BTreeMap<String, Seen>),
    /// Why there is no answer.
    Silent(String),
}

impl Asked {
    pub(super) fn of(&self, job: &str) -> Option<&Seen> {
        if let Asked::Answered(seen) = self { seen.get(job) } else { None }
    }
}

/// Asks once for all jobs.
pub(super) fn ask_about(jobs: &[Job]) -> Asked {
    let open: Vec<_> =
        jobs.iter().filter(|job| !job.state.is_over() && is_number(&job.job)).map(|job| job.job.as_str()).collect();
    if open.is_empty() {
        return Asked::Nothing;
    }
    let jobs = format!("--jobs={}", open.join(","));
    understood(ask("squeue", &["--noheader", "--array", "--states=all", "--format=%A|%i|%T|%r|%S", &jobs]))
}

/// The record is a file that anybody may have written: what is no number of a job is no argument of a command.
fn is_number(id: &str) -> bool {
    id.starts_with(|first: char| first.is_ascii_digit())
        && id.chars().all(|letter| letter.is_ascii_digit() || "_+".contains(letter))
}

fn understood(answer: Answer) -> Asked {
    match answer {
        Answer::Said(said) => Asked::Answered(said.lines().filter_map(line).flatten().collect()),
        // Of one job alone Slurm says so; of several it leaves out those that it does not know.
        Answer::Failed(why) if why.contains("Invalid job id") => Asked::Answered(BTreeMap::new()),
        Answer::Failed(why) => Asked::Silent(format!("Slurm does not answer ({why})")),
        Answer::TooLate => Asked::Silent(format!("Slurm does not answer (squeue took more than {} s)", LIMIT.as_secs())),
        Answer::NotThere => Asked::Silent("squeue is not on PATH, so Slurm was not asked".to_owned()),
    }
}

/// `8|8|PENDING|Dependency|2026-11-22T13:30:00`, with `None` or `N/A` for what does not apply. A job of an array has two names, `9` and `8_1`.
fn line(said: &str) -> Option<[(String, Seen); 2]> {
    let fields: Vec<_> = said.trim().split('|').map(str::trim).collect();
    let [id, in_array, state, reason, start] = fields[..] else { return None };
    let is_known = |text: &&str| !["", "None", "N/A", "(null)", "Unknown"].contains(text);
    let is_pending = state == "PENDING";
    let reason = Some(reason).filter(is_known).map(str::to_owned);
    let expected_start = Some(start).filter(is_known).filter(|_| is_pending).map(str::to_owned);
    let seen = Seen { state: state.to_owned(), reason, expected_start };
    Some([(id.to_owned(), seen.clone()), (in_array.to_owned(), seen)])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn answers_are_read_and_silence_is_told() {
        let said = "8|8|PENDING|Dependency|N/A\n7|7|RUNNING|None|2026-11-22T13:00:00\n10|9_1|PENDING|Resources|2026-11-22T13:30:00\nnot this\n";
        let asked = understood(Answer::Said(said.to_owned()));
        assert_eq!(asked.of("9_1").and_then(|seen| seen.expected_start.as_deref()), Some("2026-11-22T13:30:00"));
        assert_eq!(
            asked.of("8").map(|seen| (seen.reason.as_deref(), seen.expected_start.as_deref())),
            Some((Some("Dependency"), None))
        );
        assert_eq!(
            asked.of("7").map(|seen| (seen.state.as_str(), seen.reason.as_deref(), seen.expected_start.as_deref())),
            Some(("RUNNING", None, None))
        );
        assert_eq!(asked.of("6"), None);
        let unknown = Answer::Failed("slurm_load_jobs error: Invalid job id specified".to_owned());
        assert_eq!(understood(unknown), Asked::Answered(BTreeMap::new()));
        let down = "slurm_load_jobs error: Unable to contact slurm controller (connect failure)";
        let silent = understood(Answer::Failed(down.to_owned()));
        assert!(matches!(&silent, Asked::Silent(why) if why.contains("Unable to contact")), "{silent:?}");
        assert!(matches!(understood(Answer::TooLate), Asked::Silent(why) if why.contains("10 s")));
        assert!(matches!(understood(Answer::NotThere), Asked::Silent(_)));
    }

    #[test]
    fn only_numbers_are_asked_about() {
        assert_eq!(["7", "7_1", "7+0", "", "x", "--all", "7;ls"].map(is_number), [true, true, true, false, false, false, false]);
    }
}
