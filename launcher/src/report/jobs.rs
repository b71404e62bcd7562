//! The jobs of a run as a table: what each held, what it did, why it ended and what followed.
use serde::Serialize;

use crate::chain::record::Unfit;
use crate::output::duration;
use crate::report::chain::{Attempt, Stint};
use crate::report::clock;
use crate::report::facts::Facts;

/// One start of ranks, or a job that started none.
#[derive(Debug, PartialEq, Serialize)]
pub(crate) struct Row {
    job: String,
    nodes: String,
    began: String,
    lasted: String,
    ranks: String,
    steps: String,
    end: String,
    then: String,
}

/// The table, in the order of time.
pub(crate) fn rows(facts: &Facts) -> Vec<Row> {
    let stints = &facts.stints;
    let row = |(index, stint): (usize, &Stint)| {
        let next = stints.get(index + 1);
        let running = next.is_none() && facts.directory.at_work().is_some();
        of_stint(index, stint, next, running)
    };
    stints.iter().enumerate().flat_map(row).collect()
}

/// Where the table comes from.
pub(crate) fn source(facts: &Facts) -> &'static str {
    match facts.stints.first() {
        Some(stint) if stint.job.is_some() => "From jobs.jsonl, and where it lacks an end, the log of rank 0.",
        Some(_) => "The run was started without Slurm; this is what the log of rank 0 says.",
        None => "Neither jobs.jsonl nor the log of rank 0 is there: when and where the run was at work is not recorded.",
    }
}

/// Nodes that were unfit, with the reason and the job.
pub(crate) fn unfit(facts: &Facts) -> Vec<(String, String, String)> {
    let of = |stint: &Stint| {
        let job = stint.job.clone().unwrap_or_default();
        stint.unfit.iter().map(move |Unfit { node, why }| (node.clone(), why.clone(), job.clone())).collect::<Vec<_>>()
    };
    facts.stints.iter().flat_map(of).collect()
}

fn of_stint(index: usize, stint: &Stint, next: Option<&Stint>, running: bool) -> Vec<Row> {
    let job = match (&stint.job, stint.restarts) {
        (None, _) => format!("start {}", index + 1),
        (Some(job), 0) => job.clone(),
        (Some(job), restarts) => format!("{job}, restart {restarts}"),
    };
    let nodes = match (&stint.job, stint.nodes.is_empty()) {
        (None, _) => "this machine".to_owned(),
        (Some(_), true) => "none".to_owned(),
        (Some(_), false) => stint.nodes.join(", "),
    };
    let excluded =
        if stint.excluded.is_empty() { String::new() } else { format!("; kept away from {}", stint.excluded.join(", ")) };
    let held = Row {
        job,
        nodes: nodes + &excluded,
        began: stint.began.or(stint.submitted).map_or_else(String::new, clock::show),
        lasted: stint.seconds().map_or_else(|| "never started".to_owned(), duration),
        ranks: String::new(),
        steps: String::new(),
        end: if stint.cancelled { "cancelled".to_owned() } else { String::new() },
        then: String::new(),
    };
    if stint.attempts.is_empty() {
        return vec![held];
    }
    let last = stint.attempts.len() - 1;
    let of_attempt = |(index, attempt): (usize, &Attempt)| {
        let (is_first, is_last) = (index == 0, index == last);
        let end = match (attempt.outcome, running && is_last) {
            (Some(outcome), _) => ended(outcome, attempt.why.as_deref()),
            (None, true) => "running".to_owned(),
            (None, false) => attempt.why.clone().unwrap_or_else(|| "its end was not recorded".to_owned()),
        };
        let cancelled = if stint.cancelled && is_last { "; cancelled" } else { "" };
        let only_first = |text: &String| if is_first { text.clone() } else { String::new() };
        Row {
            job: only_first(&held.job),
            nodes: only_first(&held.nodes),
            began: if is_first { held.began.clone() } else { clock::show(attempt.began) },
            lasted: only_first(&held.lasted),
            ranks: attempt.ranks.map_or_else(String::new, |ranks| ranks.to_string()),
            steps: steps(attempt),
            end: end + cancelled,
            then: attempt.next.clone().unwrap_or_else(|| followed(stint, next, is_last)),
        }
    };
    stint.attempts.iter().enumerate().map(of_attempt).collect()
}

/// The outcome and the reason; a reason that begins with the outcome says both.
fn ended(outcome: &str, why: Option<&str>) -> String {
    match why {
        None => outcome.to_owned(),
        Some(why) if why.starts_with(outcome) => why.to_owned(),
        Some(why) => format!("{outcome}: {why}"),
    }
}

/// What came after a start that does not say so itself.
fn followed(stint: &Stint, next: Option<&Stint>, is_last: bool) -> String {
    match next {
        Some(next) if is_last => match &next.job {
            Some(job) if next.job == stint.job => format!("job {job} again"),
            Some(job) => format!("job {job}"),
            None => "it was started again".to_owned(),
        },
        _ => String::new(),
    }
}

fn steps(attempt: &Attempt) -> String {
    match (attempt.from_step, attempt.step) {
        (Some(from), Some(to)) if to > from => format!("{} to {to}", from + 1),
        (Some(_), Some(_) | None) => "none".to_owned(),
        (None, Some(to)) => format!("to {to}"),
        (None, None) => "none".to_owned(),
    }
}
