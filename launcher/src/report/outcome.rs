//! What a run amounts to in numbers: an entry of `--json`, a line of the comparison.
use serde::Serialize;

use crate::report::cost::Cost;
use crate::report::facts::Facts;

/// The fields of an entry of `runs`, in their order.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Outcome {
    pub(crate) name: String,
    pub(crate) run_dir: String,
    /// As `sirocco status` has it.
    pub(crate) state: &'static str,
    pub(crate) step: u64,
    /// `null` while the number of sequences is not known.
    pub(crate) steps: Option<u64>,
    /// Of the last step that has one.
    pub(crate) loss: Option<f64>,
    /// Of the last evaluation, and of the best.
    pub(crate) valid_loss: Option<f64>,
    pub(crate) best_valid_loss: Option<f64>,
    pub(crate) best_valid_step: Option<u64>,
    /// Seen, over all steps.
    pub(crate) tokens: u64,
    /// Of all steps.
    pub(crate) seconds: f64,
    /// Since the mesh last changed.
    pub(crate) tokens_per_s: Option<f64>,
    pub(crate) peak_memory_bytes: Option<u64>,
    pub(crate) skipped_steps: u64,
    /// Steps whose loss was far above those before it.
    pub(crate) loss_spikes: u64,
    /// Steps that were done more than once, after a restart.
    pub(crate) repeated_steps: u64,
    /// Times that the ranks were started.
    pub(crate) starts: usize,
    /// Step of the newest checkpoint.
    pub(crate) checkpoint: Option<u64>,
    pub(crate) cost: Cost,
    /// Conversations answered before and after.
    pub(crate) samples: usize,
    /// The event file for TensorBoard; none for a run without a step.
    pub(crate) events: Option<String>,
    /// What is missing or wrong in the run's files.
    pub(crate) notes: Vec<String>,
}

impl Outcome {
    /// Of one run; `events` is where its curves were written for TensorBoard.
    pub(crate) fn of(facts: &Facts, events: Option<String>) -> Outcome {
        let (curve, best) = (&facts.series.curve, facts.series.best());
        let has_steps = curve.on_mesh.seconds > 0.0;
        Outcome {
            name: facts.run.name.clone(),
            run_dir: facts.directory.shown().to_string(),
            state: facts.state().word(),
            step: curve.step(),
            steps: facts.steps,
            loss: curve.last_loss,
            valid_loss: curve.last_valid,
            best_valid_loss: best.map(|best| best.loss),
            best_valid_step: best.map(|best| best.step),
            tokens: curve.tokens,
            seconds: curve.seconds,
            tokens_per_s: has_steps.then(|| curve.on_mesh.tokens_per_s()),
            peak_memory_bytes: Some(curve.on_mesh.peak_memory_bytes).filter(|bytes| *bytes > 0),
            skipped_steps: curve.skipped_steps,
            loss_spikes: facts.series.steps.iter().filter(|step| step.loss_spike).count() as u64,
            repeated_steps: facts.log.repeated,
            starts: facts.stints.iter().map(|stint| stint.attempts.len()).sum(),
            checkpoint: facts.saved.newest,
            cost: facts.cost.clone(),
            samples: facts.samples.len(),
            events,
            notes: facts.notes.clone(),
        }
    }
}
