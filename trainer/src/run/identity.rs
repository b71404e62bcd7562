//! What a checkpoint belongs to: settings that must not change, the base it started from, the data it has seen.

use serde_json::json;
use sha2::{Digest, Sha256};
use sirocco_checkpoint::{ModelDir, RunState};
use sirocco_config::Run;

use crate::failure::Failure;

/// Digests that a run and its checkpoints must have in common.
pub(crate) struct Identity {
    pub(super) config_digest: String,
    pub(super) model_digest: String,
    /// None where only weights are wanted, as for an export.
    pub(super) data_digest: Option<String>,
}

impl Identity {
    /// The identity of a run as its directory and its base are now.
    pub(crate) fn new(run: &Run, base: &ModelDir, data_digest: Option<&str>) -> Result<Self, Failure> {
        let (data, train) = (&run.data, &run.train);
        let fixed = json!([
            [run.seed, run.model.dtype, run.method, data.format, data.sequence_length, data.packing, data.on_bad],
            [train.global_batch, train.learning_rate, train.schedule, train.warmup_steps, train.weight_decay],
            [train.max_grad_norm, train.betas, train.epsilon],
        ]);
        let digest = Sha256::digest(fixed.to_string().as_bytes());
        Ok(Self {
            config_digest: digest.iter().map(|byte| format!("{byte:02x}")).collect(),
            model_digest: base.digest().map_err(Failure::file)?,
            data_digest: data_digest.map(str::to_string),
        })
    }

    /// Refuses a checkpoint that belongs to something else.
    pub(crate) fn verify(&self, state: &RunState) -> Result<(), Failure> {
        let of = format!("the checkpoint of step {}", state.step);
        if state.config_digest != self.config_digest {
            return Err(Failure::usage(format!(
                "{of} was made with other settings than run.toml has now; of a run that has begun only train.steps, train.epochs, \
                 train.micro_batch, [parallel], [checkpoint] and [eval] may change"
            ))
            .help("put the settings back as the run was started, or start a new run"));
        }
        let differs = |what: &str, found: &str, expected: &str| format!("{of} was made {what} {expected}, found {found}");
        if state.model_digest != self.model_digest {
            let words = differs("on base weights with SHA-256", &self.model_digest, &state.model_digest);
            return Err(Failure::data(words).help("put the base model back as it was, or start a new run"));
        }
        match &self.data_digest {
            Some(found) if *found != state.data_digest => {
                let words = differs("on training tokens with SHA-256", found, &state.data_digest);
                Err(Failure::data(words).help("put the data files back as they were and remove RUN/tokens, or start a new run"))
            }
            _ => Ok(()),
        }
    }
}
