//! A run's status in words.
use crate::chain::history::JobState;
use crate::failure::Failure;
use crate::output::{self, count, duration, named};
use crate::train::summary::skipped;
use crate::watch::state::State;
use crate::watch::words::{nodes_words, one_line, what_next};
use crate::watch::{now, slow_words};

use super::ranks::Rank;
use super::{Link, Status};

/// Rows for ranks; a larger run has the others in its JSON.
const RANKS: usize = 16;

pub(super) fn show(status: &Status) -> Result<(), Failure> {
    let steps = status.steps.map_or_else(|| "?".to_owned(), |steps| steps.to_string());
    output::line(format_args!("{}: {}, step {} of {steps}", status.run_dir, status.state.word(), status.step))?;
    let memory = status.peak_memory_bytes.map(output::bytes).map(|bytes| {
        let rank = status.peak_memory_rank.filter(|_| status.ranks.len() > 1);
        bytes + &rank.map_or_else(String::new, |rank| format!(" on rank {rank}"))
    });
    let rows = [
        ("loss", status.loss.map(|loss| format!("{loss:.4}"))),
        ("held-out loss", status.valid_loss.map(|loss| format!("{loss:.4}"))),
        ("speed", status.tokens_per_s.map(|speed| format!("{speed:.0} tokens/s"))),
        ("left", status.left_s.map(duration)),
        ("skipped", (status.skipped_steps > 0).then(|| skipped(status.skipped_steps))),
        ("peak memory", memory),
        ("slowest", status.slowest_rank.map(slow_words)),
        ("checkpoint", Some(status.checkpoint.map_or_else(|| "none yet".to_owned(), |step| format!("step {step}")))),
        ("last failure", status.last_end.as_ref().map(|words| one_line(words.lines().next().unwrap_or_default()))),
        ("record", status.record.as_ref().map(|path| format!("{path} has what it wrote"))),
    ];
    let known = rows.into_iter().filter_map(|(name, value)| Some((name, value?)));
    known.into_iter().try_for_each(|(name, value)| output::line(format_args!("{}{value}", named(name))))?;
    show_chain(status)?;
    show_ranks(status)
}

fn show_chain(status: &Status) -> Result<(), Failure> {
    if let Some(why) = &status.slurm_silence {
        output::line(format_args!("{}{}; what follows is what was recorded", named("slurm"), one_line(why)))?;
    }
    status.chain.iter().try_for_each(|link| output::line(job_words(link, status.slurm_answers == Some(true))))
}

/// `job 8          queued, after job 7; Slurm: PENDING, Dependency`
fn job_words(link: &Link, slurm_answers: bool) -> String {
    let Link { job, .. } = link;
    let mut said = vec![job.state.word().to_owned()];
    if let (Some(done), Some(from)) = (link.steps_done, job.from_step) {
        said.push(format!("steps {from} to {}", from + done));
    }
    if !job.nodes.is_empty() {
        said.push(format!("on {}", nodes_words(&job.nodes)));
    }
    let waits_for = job.after.as_ref().filter(|_| job.state == JobState::Queued && job.started.is_none());
    said.extend(waits_for.map(|after| format!("after job {after}")));
    said.extend(left(link).map(|left| format!("{left} left")));
    let mut parts = vec![said.join(", ")];
    parts.extend(what_next(job));
    parts.extend(job.unfit.iter().map(|unfit| format!("{} is not fit: {}", unfit.node, one_line(&unfit.why))));
    match &link.slurm {
        Some(seen) => {
            let start = seen.expected_start.as_ref().map(|start| format!("expected to start {start}"));
            let words: Vec<_> = [Some(seen.state.clone()), seen.reason.clone(), start].into_iter().flatten().collect();
            parts.push(format!("Slurm: {}", one_line(&words.join(", "))));
        }
        None if slurm_answers && !job.state.is_over() => parts.push("Slurm does not know it, or not any more".to_owned()),
        None => {}
    }
    format!("{}{}", named(&format!("job {}", one_line(&job.job))), parts.join("; "))
}

/// Until Slurm ends a job that runs.
fn left(link: &Link) -> Option<String> {
    let is_there = matches!(link.job.state, JobState::Starting | JobState::Running);
    link.job.ends.filter(|_| is_there).map(|ends| duration(ends - now()))
}

/// Of a run that goes on or failed: of others nobody asks where the ranks were.
fn show_ranks(status: &Status) -> Result<(), Failure> {
    if status.state.is_over() && status.state != State::Failed {
        return Ok(());
    }
    let shown = status.ranks.iter().take(RANKS);
    shown.into_iter().try_for_each(|rank| output::line(rank_words(rank)))?;
    match status.ranks.len().saturating_sub(RANKS) {
        0 => Ok(()),
        more => output::line(format_args!("{}{} more: --json names them all", named(""), count(more as u64, "rank"))),
    }
}

/// `rank 3         on n2, process 123, newest line 2 s ago`
fn rank_words(rank: &Rank) -> String {
    let process = rank.process.map(|process| match rank.alive {
        Some(false) => format!("process {process} (gone)"),
        _ => format!("process {process}"),
    });
    let host = rank.host.as_ref().map(|host| format!("on {}", one_line(host)));
    let line = rank.last_line.map(|time| format!("newest line {} ago", duration(now() - time)));
    let words: Vec<_> = [host, process, line].into_iter().flatten().collect();
    format!("{}{}", named(&format!("rank {}", rank.rank)), words.join(", "))
}
