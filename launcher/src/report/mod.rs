//! `sirocco report`: one page of a run, or of several beside each other, and their curves for TensorBoard.

mod accounting;
mod chain;
pub(crate) mod clock;
mod compare;
mod cost;
mod curves;
mod facts;
pub(crate) mod html;
mod jobs;
mod log;
mod outcome;
mod page;
mod place;
mod plots;
mod samples;
mod scale;
mod series;
pub(crate) mod tensorboard;
mod terminal;
mod which;

use std::path::Path;

use serde::Serialize;

use crate::cli;
use crate::failure::Failure;
use crate::output;
use compare::Comparison;
use facts::Facts;
use outcome::Outcome;
use which::Which;

/// The fields of `--json`, in their order.
#[derive(Serialize)]
struct Report<'a> {
    /// The page that was written.
    report: String,
    /// Settings in which the runs differ; none of one run.
    differ: Vec<&'a str>,
    runs: Vec<&'a Outcome>,
}

pub(crate) fn run(arguments: &cli::Report) -> Result<(), Failure> {
    let which = which::find(&arguments.runs)?;
    let to = match &arguments.to {
        Some(to) => to.clone(),
        None => which.page()?,
    };
    place::refuse_other_files(&to)?;
    match which.runs.as_slice() {
        [one] if !which.is_comparison => of_one(one, &to, arguments),
        _ if arguments.samples.is_some() => {
            let message = "--samples asks one run, and here are several: expected one run directory";
            Err(Failure::usage(message).help("take the samples of each run, then compare"))
        }
        _ => of_several(&which, &to, arguments.json),
    }
}

fn of_one(run: &Path, to: &Path, arguments: &cli::Report) -> Result<(), Failure> {
    let mut facts = Facts::of(run)?;
    if let Some(prompts) = &arguments.samples {
        facts.samples = samples::take(&facts, prompts)?;
    }
    let events = events(&mut facts);
    let outcome = Outcome::of(&facts, events);
    place::replace(to, page::page(&facts, &outcome)?.as_bytes())?;
    if arguments.json {
        return output::json(&Report { report: to.display().to_string(), differ: vec![], runs: vec![&outcome] });
    }
    terminal::of_one(to, &outcome)
}

/// A run that was found, not typed, and cannot be read is left out with its reason: a sweep may have runs that have not begun.
fn of_several(which: &Which, to: &Path, as_json: bool) -> Result<(), Failure> {
    let (mut runs, mut left_out) = (Vec::new(), Vec::new());
    for run in &which.runs {
        match Facts::of(run) {
            Ok(mut facts) => {
                let events = events(&mut facts);
                let outcome = Outcome::of(&facts, events);
                runs.push((facts, outcome));
            }
            Err(failure) if which.found.contains(run) => left_out.push(failure),
            Err(failure) => return Err(failure),
        }
    }
    if runs.is_empty() {
        return left_out.into_iter().next().map_or(Ok(()), Err);
    }
    let comparison = Comparison::of(runs, left_out.into_iter().map(|failure| format!("left out: {}", failure.message)).collect());
    place::replace(to, comparison.page()?.as_bytes())?;
    if as_json {
        let (differ, runs) = (comparison.differ(), comparison.outcomes());
        return output::json(&Report { report: to.display().to_string(), differ, runs });
    }
    terminal::of_several(to, &comparison)
}

/// Writes the curves for TensorBoard. Of a run in a place that cannot be written there is a page all the same.
fn events(facts: &mut Facts) -> Option<String> {
    match tensorboard::write(&facts.directory, &facts.series, &facts.log) {
        Ok(path) => path.map(|path| path.display().to_string()),
        Err(failure) => {
            facts.notes.push(format!("no curves for TensorBoard: {}", failure.message));
            None
        }
    }
}
