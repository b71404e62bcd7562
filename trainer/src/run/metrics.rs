//! metrics.jsonl: one object for each optimizer step, one for each evaluation.

use std::collections::BTreeMap;
use std::fs::{File, OpenOptions};
use std::io::Write;
use std::path::Path;

use serde::Serialize;
use serde_json::{Value, json};
use sirocco_comm::Traffic;
use sirocco_config::Parallel;

use super::agreement::Straggler;
use crate::failure::Failure;

/// One optimizer step. Floating-point numbers are written with all digits; what is not finite as null.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct StepRecord {
    /// Completed steps, from 1.
    pub(crate) step: u64,
    /// Mean over the target tokens of the global batch, before the update.
    pub(crate) loss: f64,
    pub(crate) target_tokens: usize,
    pub(crate) tokens: usize,
    /// Before clipping.
    pub(crate) grad_norm: f64,
    pub(crate) learning_rate: f64,
    /// Nothing was changed: the loss or the gradient was not finite.
    #[serde(skip_serializing_if = "is_false")]
    pub(crate) skipped: bool,
    /// The loss is far above those before it.
    #[serde(skip_serializing_if = "is_false")]
    pub(crate) loss_spike: bool,
    pub(crate) seconds: f64,
    pub(crate) tokens_per_s: f64,
    /// Of `seconds`: waiting for this rank's batches.
    pub(crate) data_seconds: f64,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) slowest_rank: Option<Straggler>,
    /// The highest of all ranks so far.
    pub(crate) peak_memory_bytes: u64,
    pub(crate) peak_memory_rank: usize,
    /// Of this rank, in this step.
    pub(crate) collectives: Collectives,
}

fn is_false(value: &bool) -> bool {
    !value
}

/// What collectives did during a step, by name.
#[derive(Debug, Clone, Default, Serialize)]
pub(crate) struct Collectives(BTreeMap<String, Counts>);

/// See [`Traffic`].
#[derive(Debug, Clone, Copy, Serialize)]
struct Counts {
    calls: u64,
    bytes: u64,
    seconds: f64,
    waited: f64,
}

impl Collectives {
    /// What came to the totals from one moment to another.
    pub(crate) fn between(before: &BTreeMap<String, Traffic>, after: &BTreeMap<String, Traffic>) -> Self {
        let since = |(name, after): (&String, &Traffic)| {
            let before = before.get(name).copied().unwrap_or_default();
            let counts = Counts {
                calls: after.calls - before.calls,
                bytes: after.bytes - before.bytes,
                seconds: after.seconds - before.seconds,
                waited: after.waited - before.waited,
            };
            (counts.calls > 0).then(|| (name.clone(), counts))
        };
        Self(after.iter().filter_map(since).collect())
    }
}

/// The axes of a mesh: speed and memory of two steps can be compared only where they are the same.
#[derive(Debug, Clone, Copy, Serialize)]
struct Axes {
    pp: u64,
    dp: u64,
    fsdp: u64,
    tp: u64,
}

/// A step as it is written.
#[derive(Serialize)]
struct Line<'a> {
    #[serde(flatten)]
    record: &'a StepRecord,
    mesh: Axes,
}

/// The file, open for appending. Only rank 0 has one.
pub(crate) struct Metrics {
    file: File,
    mesh: Axes,
}

impl Metrics {
    /// Opens the file and drops what it says of steps after `step`: a run that resumes there does them again. One that starts over
    /// (`step` 0) keeps nothing.
    pub(crate) fn open(directory: &Path, step: u64, mesh: &Parallel) -> Result<Self, Failure> {
        let path = directory.join("metrics.jsonl");
        let failed = |error: std::io::Error| Failure::failed(format!("{}: {error}", path.display()));
        let text = match std::fs::read_to_string(&path) {
            Ok(text) => text,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => String::new(),
            Err(error) => return Err(failed(error)),
        };
        let kept: String = text.lines().filter(|line| is_before(line, step)).flat_map(|line| [line, "\n"]).collect();
        if kept != text {
            let partial = path.with_extension("jsonl.partial");
            std::fs::write(&partial, kept).and_then(|()| std::fs::rename(&partial, &path)).map_err(failed)?;
        }
        let file = OpenOptions::new().create(true).append(true).open(&path).map_err(failed)?;
        let Parallel { pp, dp, fsdp, tp, .. } = *mesh;
        Ok(Self { file, mesh: Axes { pp, dp, fsdp, tp } })
    }

    /// Appends a step.
    pub(crate) fn step(&mut self, record: &StepRecord) -> Result<(), Failure> {
        let line = serde_json::to_string(&Line { record, mesh: self.mesh }).map_err(Failure::failed)?;
        self.line(&line)
    }

    /// Appends an evaluation and how long it took.
    pub(crate) fn held_out(&mut self, step: u64, loss: f64, seconds: f64) -> Result<(), Failure> {
        self.line(&json!({"step": step, "valid_loss": loss, "seconds": seconds}).to_string())
    }

    fn line(&mut self, line: &str) -> Result<(), Failure> {
        // One write a line, so that a reader never sees half of one.
        self.file.write_all(format!("{line}\n").as_bytes()).map_err(|error| Failure::failed(format!("metrics.jsonl: {error}")))
    }
}

/// Whether a line is whole and of a step up to `step`.
fn is_before(line: &str, step: u64) -> bool {
    let value: Result<Value, _> = serde_json::from_str(line);
    value.ok().and_then(|value| value.get("step")?.as_u64()).is_some_and(|found| found <= step && step > 0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use sirocco_config::Recompute;

    #[test]
    fn what_a_resumed_run_does_again_is_dropped_with_half_lines() {
        let directory = std::env::temp_dir().join(format!("sirocco-metrics-{}", std::process::id()));
        std::fs::create_dir_all(&directory).unwrap();
        let path = directory.join("metrics.jsonl");
        std::fs::write(
            &path,
            "{\"step\":1,\"loss\":3.5}\n{\"step\":1,\"valid_loss\":3.0}\n{\"step\":2,\"loss\":3.25}\n{\"step\":2,\"va",
        )
        .unwrap();
        let mesh = Parallel { dp: 2, fsdp: 1, tp: 1, pp: 1, recompute: Recompute::None, bucket_mb: 25, timeout_s: 300 };
        Metrics::open(&directory, 1, &mesh).unwrap().held_out(2, 2.5, 0.75).unwrap();
        let text = std::fs::read_to_string(&path).unwrap();
        assert_eq!(
            text,
            "{\"step\":1,\"loss\":3.5}\n{\"step\":1,\"valid_loss\":3.0}\n{\"step\":2,\"valid_loss\":2.5,\"seconds\":0.75}\n"
        );
        Metrics::open(&directory, 0, &mesh).unwrap().held_out(0, 4.5, 1.5).unwrap();
        assert_eq!(std::fs::read_to_string(&path).unwrap(), "{\"step\":0,\"valid_loss\":4.5,\"seconds\":1.5}\n");
        std::fs::remove_dir_all(&directory).unwrap();
    }
}
