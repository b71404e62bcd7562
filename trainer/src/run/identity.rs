//! What a checkpoint belongs to: settings that must not change, the base it started from, the data it has seen.

use std::collections::BTreeMap;

use serde_json::json;
use sirocco_checkpoint::{FileDigest, ModelDir, RunState, digest_of};
use sirocco_comm::Communicator;
use sirocco_config::{Run, free_on_resume};
use sirocco_corpus::sha256_hex;

use super::together::{Round, everyone, together};
use crate::failure::Failure;

/// Digests that a run and its checkpoints must have in common.
pub(crate) struct Identity {
    pub(super) config_digest: String,
    pub(super) model_digest: String,
    /// None where only weights are wanted, as for an export.
    pub(super) data_digest: Option<String>,
}

/// SHA-256 of the base, of which each rank reads some of the files; and whether every rank has the same base and the same data before it.
pub(crate) fn agreed_base(communicator: &dyn Communicator, base: &ModelDir, data_digest: &str) -> Result<String, Failure> {
    let specs: Vec<_> = base.specs().collect();
    let headers = sha256_hex(format!("{}{specs:?}", base.config_text()).as_bytes());
    let round = Round { name: "base and data", failed: "could not read the base" };
    let all = everyone(communicator, round, Ok([headers, data_digest.to_string()]))?;
    for (rank, what) in all.iter().enumerate() {
        for (number, name) in ["base model (config.json or a header)", "token cache"].into_iter().enumerate() {
            if what[number] != all[0][number] {
                return Err(Failure::data(format!("rank {rank} has another {name} than rank 0"))
                    .help("put the base model and the run directory on a file system that all nodes share"));
            }
        }
    }
    let (rank, ranks) = (communicator.rank(), communicator.size());
    let shares = together(communicator, round, || base.digests_of(rank, ranks).map_err(Failure::file))?;
    let files: BTreeMap<usize, FileDigest> = shares.into_iter().flatten().collect();
    Ok(digest_of(&files.into_values().collect::<Vec<_>>()))
}

impl Identity {
    /// The identity of a run as its directory and its base are now.
    pub(crate) fn new(run: &Run, model_digest: String, data_digest: Option<&str>) -> Self {
        let (data, train) = (&run.data, &run.train);
        let fixed = json!([
            [run.seed, run.model.dtype, run.method, data.format, data.sequence_length, data.packing, data.on_bad],
            [train.global_batch, train.learning_rate, train.schedule, train.warmup_steps, train.weight_decay],
            [train.max_grad_norm, train.betas, train.epsilon],
        ]);
        let config_digest = sha256_hex(fixed.to_string().as_bytes());
        Self { config_digest, model_digest, data_digest: data_digest.map(str::to_string) }
    }

    /// Refuses a checkpoint that belongs to something else.
    pub(crate) fn verify(&self, state: &RunState) -> Result<(), Failure> {
        let of = format!("the checkpoint of step {}", state.step);
        if state.config_digest != self.config_digest {
            return Err(Failure::usage(format!(
                "{of} was made with other settings than run.toml has now; of a run that has begun only {} may change",
                free_on_resume()
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
