//! What `sirocco train` says at the end, in words or as one object.
use serde::Serialize;
use sirocco_config::{Method, Run, shell_word};

use crate::confined;
use crate::failure::Failure;
use crate::output::{self, bytes, duration, named};
use crate::train::directory::RunDirectory;
use crate::train::metrics::{Curve, OnMesh};
use crate::train::outcome::State;

/// The fields of `--json`, in their order.
#[derive(Debug, Serialize)]
pub(crate) struct Summary {
    /// `done`, `complete` (nothing was left to do) or `stopped`.
    state: &'static str,
    name: String,
    run_dir: String,
    ranks: u64,
    /// Steps done of `steps`.
    step: u64,
    steps: u64,
    /// Of the first and the last step that the metrics hold.
    first_loss: Option<f64>,
    loss: Option<f64>,
    /// Of the first and the last evaluation.
    first_valid_loss: Option<f64>,
    valid_loss: Option<f64>,
    /// Over all steps.
    tokens: u64,
    seconds: f64,
    /// Over the steps since the mesh last changed, and the largest memory of a rank in these.
    tokens_per_s: f64,
    peak_memory_bytes: u64,
    /// The rank with that memory, where the metrics name it.
    peak_memory_rank: Option<u64>,
    /// Steps whose loss or gradients were not finite.
    skipped_steps: u64,
    /// Step of the newest checkpoint.
    checkpoint: Option<u64>,
    /// How this command and its ranks were kept from the network.
    confinement: confined::Summary,
    #[serde(skip)]
    adapter: bool,
    /// The name of the run directory, for that of an export.
    #[serde(skip)]
    directory_name: String,
    #[serde(skip)]
    losses: u64,
    #[serde(skip)]
    evaluations: u64,
    #[serde(skip)]
    on_mesh: OnMesh,
}

impl Summary {
    /// Of a run as its directory shows it now.
    pub(crate) fn of(directory: &RunDirectory, run: &Run, steps: u64, state: State) -> Result<Summary, Failure> {
        let curve: Curve = crate::train::curve(directory)?;
        let checkpoint = directory.newest_checkpoint()?;
        let step = checkpoint.unwrap_or(0).max(curve.step());
        let state = match state {
            // `--until` before the end is a stop, whatever the exit code.
            State::Done if step < steps => "stopped",
            State::Done => "done",
            State::Complete => "complete",
            State::Stopped => "stopped",
        };
        Ok(Summary {
            state,
            name: run.name.clone(),
            run_dir: directory.shown().to_string(),
            ranks: run.ranks(),
            step,
            steps,
            first_loss: curve.first_loss,
            loss: curve.last_loss,
            first_valid_loss: curve.first_valid,
            valid_loss: curve.last_valid,
            tokens: curve.tokens,
            seconds: curve.seconds,
            tokens_per_s: curve.on_mesh.tokens_per_s(),
            peak_memory_bytes: curve.on_mesh.peak_memory_bytes,
            peak_memory_rank: curve.on_mesh.peak_memory_rank,
            skipped_steps: curve.skipped_steps,
            checkpoint,
            confinement: confined::summary(),
            adapter: matches!(run.method, Method::Lora { .. }),
            directory_name: directory.path().file_name().map_or_else(|| run.name.clone(), |name| name.display().to_string()),
            losses: curve.losses,
            evaluations: curve.evaluations,
            on_mesh: curve.on_mesh,
        })
    }

    /// On standard output.
    pub(crate) fn print(&self, as_json: bool) -> Result<(), Failure> {
        if as_json {
            return output::json(self);
        }
        let head = match self.state {
            "complete" => "nothing left to do",
            state => state,
        };
        output::line(format_args!("{head}: {}, step {} of {}", self.run_dir, self.step, self.steps))?;
        fall("loss", (self.first_loss, self.loss), self.losses)?;
        fall("held-out loss", (self.first_valid_loss, self.valid_loss), self.evaluations)?;
        if self.on_mesh.seconds > 0.0 {
            let several = self.peak_memory_rank.filter(|_| self.ranks > 1);
            let on = several.map_or_else(String::new, |rank| format!(" on rank {rank}"));
            let memory = format!("{}{on}", bytes(self.peak_memory_bytes));
            let time = duration(self.on_mesh.seconds);
            let since = self.on_mesh.is_later.then(|| format!(", since step {}, when the mesh changed", self.on_mesh.from));
            let since = since.unwrap_or_default();
            let speed = self.tokens_per_s;
            output::line(format_args!("{}{speed:.0} tokens/s over {time}, peak memory {memory}{since}", named("speed")))?;
        }
        if self.skipped_steps > 0 {
            output::line(format_args!("{}{}", named("skipped"), skipped(self.skipped_steps)))?;
        }
        if let Some(step) = self.checkpoint {
            output::line(format_args!("{}step {step}", named("checkpoint")))?;
        }
        output::line(self.next())
    }

    fn next(&self) -> String {
        let run_dir = shell_word(&self.run_dir);
        let export = shell_word(&format!("exports/{}", self.directory_name));
        match (self.state, self.checkpoint) {
            ("stopped", Some(step)) => format!("next: sirocco train {run_dir} goes on from step {step}"),
            ("stopped", None) => format!("next: sirocco train {run_dir} starts from the beginning"),
            _ if self.adapter => format!("next: sirocco export {run_dir} --to {export} --adapter"),
            _ => format!("next: sirocco export {run_dir} --to {export} --merge"),
        }
    }
}

/// In words, of at least one step.
pub(crate) fn skipped(steps: u64) -> String {
    format!("{}, with a loss or gradients that were not finite", output::count(steps, "step"))
}

/// From the first value to the last of `count`; one alone did not fall.
fn fall(name: &str, (first, last): (Option<f64>, Option<f64>), count: u64) -> Result<(), Failure> {
    match (first, last) {
        (Some(_), Some(only)) if count == 1 => output::line(format_args!("{}{only:.4}", named(name))),
        (Some(first), Some(last)) => output::line(format_args!("{}{first:.4} → {last:.4}", named(name))),
        _ => Ok(()),
    }
}
