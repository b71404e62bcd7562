//! `sirocco report`: one page of a run, or of several beside each other, and their curves for TensorBoard.

mod accounting;
mod chain;
mod clock;
mod compare;
mod cost;
mod curves;
mod facts;
mod html;
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
        several => {
            if arguments.samples.is_some() {
                let message = "--samples asks one run, and here are several: expected one run directory";
                return Err(Failure::usage(message).help("take the samples of each run, then compare"));
            }
            of_several(several, &to, arguments.json)
        }
    }
}

fn of_one(run: &Path, to: &Path, arguments: &cli::Report) -> Result<(), Failure> {
    let mut facts = Facts::of(run)?;
    if let Some(prompts) = &arguments.samples {
        facts.samples = samples::take(&facts, prompts)?;
    }
    let events = tensorboard::write(&facts.directory, &facts.series, &facts.log)?;
    let outcome = Outcome::of(&facts, events.map(|path| path.display().to_string()));
    place::replace(to, page::page(&facts, &outcome)?.as_bytes())?;
    if arguments.json {
        return output::json(&Report { report: to.display().to_string(), differ: vec![], runs: vec![&outcome] });
    }
    terminal::of_one(to, &outcome)
}

fn of_several(runs: &[std::path::PathBuf], to: &Path, as_json: bool) -> Result<(), Failure> {
    let all = runs.iter().map(|run| Facts::of(run)).collect::<Result<Vec<_>, _>>()?;
    let outcomes = all
        .iter()
        .map(|facts| {
            let events = tensorboard::write(&facts.directory, &facts.series, &facts.log)?;
            Ok(Outcome::of(facts, events.map(|path| path.display().to_string())))
        })
        .collect::<Result<Vec<_>, Failure>>()?;
    let comparison = Comparison::of(all.into_iter().zip(outcomes).collect());
    place::replace(to, comparison.page()?.as_bytes())?;
    if as_json {
        return output::json(&Report { report: to.display().to_string(), differ: comparison.differ(), runs: comparison.outcomes() });
    }
    terminal::of_several(to, &comparison)
}
