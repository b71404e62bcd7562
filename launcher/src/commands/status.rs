//! `sirocco status`: what a run is doing.
use serde::Serialize;
use sirocco_config::{Length, RunFile};

use crate::cli;
use crate::failure::Failure;
use crate::output;
use crate::train::directory::RunDirectory;
use crate::train::summary::skipped;
use crate::train::{curve, here, tokens};

/// The fields of `--json`, in their order.
#[derive(Debug, Serialize)]
struct Status {
    name: String,
    run_dir: String,
    /// `running`, `done`, `stopped` (it can be resumed) or `ready` (no step was done).
    state: &'static str,
    step: u64,
    /// `null` while the number of sequences is not known.
    steps: Option<u64>,
    loss: Option<f64>,
    valid_loss: Option<f64>,
    tokens_per_s: Option<f64>,
    /// Steps whose loss or gradients were not finite.
    skipped_steps: u64,
    /// Step of the newest checkpoint.
    checkpoint: Option<u64>,
}

pub(crate) fn run(arguments: &cli::Status) -> Result<(), Failure> {
    let directory = RunDirectory::existing(&arguments.run)?;
    let run = RunFile::read(&directory.run_file())?.check(&here()?)?;
    let curve = curve(&directory)?;
    let steps = match run.train.length {
        Length::Steps(steps) => Some(steps),
        Length::Epochs(_) => {
            tokens::open(&run, &directory.tokens()).ok().and_then(|tokens| run.steps(tokens.train.sequences).ok())
        }
    };
    let checkpoint = directory.newest_checkpoint()?;
    let step = curve.step();
    let state = match steps {
        _ if directory.at_work().is_some() => "running",
        Some(steps) if checkpoint.is_some_and(|step| step >= steps) && !curve.lacks_last_evaluation(&run, steps) => "done",
        _ if step > 0 => "stopped",
        _ => "ready",
    };
    let status = Status {
        name: run.name,
        run_dir: directory.shown().to_string(),
        state,
        step,
        steps,
        loss: curve.last_loss,
        valid_loss: curve.last_valid,
        tokens_per_s: curve.last.as_ref().map(|step| step.tokens_per_s),
        skipped_steps: curve.skipped_steps,
        checkpoint,
    };
    if arguments.json { output::json(&status) } else { show(&status) }
}

fn show(status: &Status) -> Result<(), Failure> {
    let steps = status.steps.map_or_else(|| "?".to_owned(), |steps| steps.to_string());
    output::line(format_args!("{}: {}, step {} of {steps}", status.run_dir, status.state, status.step))?;
    let rows = [
        ("loss", status.loss.map(|loss| format!("{loss:.4}"))),
        ("valid loss", status.valid_loss.map(|loss| format!("{loss:.4}"))),
        ("speed", status.tokens_per_s.map(|speed| format!("{speed:.0} tokens/s"))),
        ("skipped", (status.skipped_steps > 0).then(|| skipped(status.skipped_steps))),
        ("checkpoint", Some(status.checkpoint.map_or_else(|| "none yet".to_owned(), |step| format!("step {step}")))),
    ];
    let known = rows.into_iter().filter_map(|(name, value)| Some((name, value?)));
    known.into_iter().try_for_each(|(name, value)| output::line(format_args!("{name:12}{value}")))
}
