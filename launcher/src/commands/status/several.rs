//! The status of every run in a directory, as a sweep leaves one: a line for each.
use std::path::Path;

use serde::Serialize;

use super::slurm::ask_about;
use super::{Found, Status};
use crate::failure::Failure;
use crate::output::{self, say};
use crate::train::several::Member;
use crate::watch::state::State;
use crate::watch::table::{Row, counted, table};
use crate::watch::words::one_line;

/// The fields of `--json`, in their order.
#[derive(Serialize)]
struct Several {
    run_dir: String,
    /// Each with the fields of one run.
    runs: Vec<Status>,
    /// Runs that could not be read, with the reason.
    left_out: Vec<String>,
}

pub(super) fn run(directory: &Path, members: &[Member], as_json: bool) -> Result<(), Failure> {
    let (mut found, mut left_out) = (Vec::new(), Vec::new());
    for member in members {
        match Found::of(&member.path) {
            Ok(run) => found.push((member, run)),
            Err(failure) => left_out.push(format!("left out: {}", failure.message)),
        }
    }
    // Slurm is asked once, for all.
    let asked = ask_about(&found.iter().flat_map(|(_, run)| run.jobs.iter().cloned()).collect::<Vec<_>>());
    let runs: Vec<(&Member, Status)> = found.into_iter().map(|(member, run)| (member, run.status(&asked))).collect();
    if as_json {
        let runs = runs.into_iter().map(|(_, status)| status).collect();
        return output::json(&Several { run_dir: directory.display().to_string(), runs, left_out });
    }
    left_out.iter().for_each(|reason| say(format_args!("note: {reason}")));
    let states: Vec<&str> = runs.iter().map(|(_, status)| status.state.word()).collect();
    output::line(format_args!("{}: {}", directory.display(), counted(&states)))?;
    if let Some(why) = runs.iter().find_map(|(_, status)| status.slurm_silence.as_ref()) {
        output::line(format_args!("{}; what follows is what was recorded", one_line(why)))?;
    }
    table(&runs.iter().map(|(member, status)| row(member, status)).collect::<Vec<_>>()).into_iter().try_for_each(output::line)
}

fn row(member: &Member, status: &Status) -> Row {
    let seen = status.chain.iter().rfind(|link| Some(&link.job.job) == status.job.as_ref()).and_then(|link| link.slurm.as_ref());
    let waits_for = seen.and_then(|seen| seen.reason.as_ref()).filter(|_| status.state == State::Queued);
    let waits_for = waits_for.map_or_else(String::new, |reason| format!(" ({})", one_line(reason)));
    Row {
        label: member.label.clone(),
        state: format!("{}{waits_for}", status.state.word()),
        step: status.step,
        steps: status.steps,
        loss: status.loss,
        held_out: status.valid_loss,
        left: status.left_s,
        job: status.job.clone(),
        settings: member.settings.clone(),
    }
}
