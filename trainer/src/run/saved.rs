//! What a checkpoint of a run holds: master copies and the optimizer's moments, each weight on one rank, and where the run stands.

use std::collections::BTreeMap;

use serde_json::json;
use sha2::{Digest, Sha256};
use sirocco_checkpoint::{Checkpoint, Checkpoints, Cursor, Dtype, Mesh, ModelDir, RunState, ShardRecord, TensorView};
use sirocco_comm::Communicator;
use sirocco_config::Run;
use sirocco_model::Network;
use sirocco_optim::{AdamW, AdamWConfig, Moments};
use sirocco_tokens::Order;

use crate::failure::Failure;

/// What the names of master copies begin with in a checkpoint.
pub(crate) const MASTER: &str = "master/";

/// Names of a weight's three tensors in a checkpoint.
pub(crate) fn names(weight: &str) -> [String; 3] {
    [format!("{MASTER}{weight}"), format!("first_moment/{weight}"), format!("second_moment/{weight}")]
}

/// What a checkpoint belongs to: settings that must not change, the base it started from, the data it has seen.
pub(crate) struct Identity {
    config_digest: String,
    model_digest: String,
    /// None where only weights are wanted, as for an export.
    data_digest: Option<String>,
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

/// Saves a run.
pub(crate) struct Saver<'a> {
    pub(crate) run: &'a Run,
    pub(crate) checkpoints: Checkpoints,
    pub(crate) identity: Identity,
    pub(crate) order: Order,
    pub(crate) communicator: &'a dyn Communicator,
}

impl Saver<'_> {
    /// Writes the checkpoint of `step` completed steps, every rank its share, and publishes it. All ranks learn of any rank's failure;
    /// the checkpoint published before stays whole.
    pub(crate) fn save(&self, network: &Network, optimizer: &AdamW, step: u64) -> Result<(), Failure> {
        let first = self.communicator.rank() == 0;
        if self.everyone(self.checkpoints.latest().map_err(Failure::file).map(|latest| latest == Some(step)))?.contains(&true) {
            return Ok(());
        }
        let begun = if first { self.checkpoints.begin(step).map(Some).map_err(Failure::file) } else { Ok(None) };
        let (begun, outcome) = match begun {
            Ok(writer) => (writer, Ok(())),
            Err(failure) => (None, Err(failure)),
        };
        self.everyone(outcome)?;
        let writer = match begun {
            Some(writer) => Ok(writer),
            None => self.checkpoints.join(step).map_err(Failure::file),
        };
        let (writer, written) = match writer {
            Ok(writer) => {
                let record = self.write_share(&writer, network, optimizer);
                (Some(writer), record)
            }
            Err(failure) => (None, Err(failure)),
        };
        let records: Vec<ShardRecord> = self.everyone(written)?;
        let published = match writer {
            Some(writer) if first => {
                self.checkpoints.publish(writer, records, self.state(step)).map(|_| ()).map_err(Failure::file)
            }
            _ => Ok(()),
        };
        self.everyone(published)?;
        if first && let Err(error) = self.checkpoints.prune(self.run.checkpoint.keep as usize) {
            // The new checkpoint is whole; an old one that somebody still reads is no reason to end the run.
            tracing::warn!("an old checkpoint stays: {error}");
        }
        Ok(())
    }

    /// This rank's weights: every n-th of the list, so that shares are about equal.
    fn write_share(
        &self,
        writer: &sirocco_checkpoint::CheckpointWriter,
        network: &Network,
        optimizer: &AdamW,
    ) -> Result<ShardRecord, Failure> {
        let (rank, size) = (self.communicator.rank(), self.communicator.size());
        let mut tensors = Vec::new();
        for weight in network.trained().into_iter().skip(rank).step_by(size) {
            let [master, first, second] = names(weight.name());
            tensors.push((master, weight.shape(), weight.master_elements()));
            if let Some(moments) = optimizer.moments().get(weight.name()) {
                tensors.push((first, weight.shape(), &moments.first));
                tensors.push((second, weight.shape(), &moments.second));
            }
        }
        let views: Result<Vec<(String, TensorView<'_>)>, _> = tensors
            .into_iter()
            .map(|(name, shape, elements)| {
                TensorView::new(Dtype::F32, shape, bytemuck::cast_slice(elements)).map(|view| (name, view))
            })
            .collect();
        writer.write_shard(rank, &views.map_err(Failure::failed)?).map_err(Failure::file)
    }

    fn state(&self, step: u64) -> RunState {
        let sample = u128::from(step) * self.order.global_batch as u128;
        let sequences = (self.order.sequences as u128).max(1);
        let [pp, dp, fsdp, tp] = [self.run.parallel.pp, self.run.parallel.dp, self.run.parallel.fsdp, self.run.parallel.tp];
        RunState {
            step,
            cursor: Cursor { seed: self.run.seed, epoch: (sample / sequences) as u64, sample: (sample % sequences) as u64 },
            mesh: Mesh { pp: pp as usize, dp: dp as usize, fsdp: fsdp as usize, tp: tp as usize },
            config_digest: self.identity.config_digest.clone(),
            model_digest: self.identity.model_digest.clone(),
            data_digest: self.identity.data_digest.clone().unwrap_or_default(),
        }
    }

    /// Every rank's outcome, or the first failure with the rank it happened on. All ranks return the same.
    fn everyone<T: serde::Serialize + serde::de::DeserializeOwned>(&self, mine: Result<T, Failure>) -> Result<Vec<T>, Failure> {
        let told = match &mine {
            Ok(value) => json!({ "ok": value }),
            Err(failure) => json!({ "failed": failure.message() }),
        };
        let all = self
            .communicator
            .all_gather_bytes("checkpoint", told.to_string().into_bytes())
            .wait()
            .map_err(Failure::collective)?;
        mine?;
        let mut values = Vec::with_capacity(all.len());
        for (rank, told) in all.iter().enumerate() {
            let mut told: serde_json::Value = serde_json::from_slice(told).map_err(Failure::failed)?;
            if let Some(message) = told.get("failed").and_then(serde_json::Value::as_str) {
                return Err(Failure::failed(format!("rank {rank} could not save: {message}")));
            }
            values.push(serde_json::from_value(told["ok"].take()).map_err(Failure::failed)?);
        }
        Ok(values)
    }
}

/// Puts a checkpoint's weights into the network and gives the optimizer that goes on from there.
pub(crate) fn restore(
    checkpoint: &Checkpoint,
    identity: &Identity,
    network: &mut Network,
    config: AdamWConfig,
) -> Result<AdamW, Failure> {
    let state = checkpoint.state();
    identity.verify(state)?;
    let mut moments = BTreeMap::new();
    for weight in network.trained_mut() {
        let [master, first, second] = names(weight.name());
        weight.restore_from(&checkpoint.tensor_bytes(&master).map_err(Failure::file)?).map_err(Failure::model)?;
        let shape = weight.shape();
        let read = |name: &str| read_elements(checkpoint, name, &shape);
        moments.insert(weight.name().to_string(), Moments { first: read(&first)?, second: read(&second)? });
    }
    Ok(AdamW::resume(config, state.step, moments))
}

fn read_elements(checkpoint: &Checkpoint, name: &str, expected: &[usize]) -> Result<Vec<f32>, Failure> {
    let (dtype, shape, bytes) = checkpoint.tensor_bytes(name).map_err(Failure::file)?;
    if dtype != Dtype::F32 || shape != expected {
        return Err(Failure::data(format!("tensor {name} is {dtype:?} {shape:?}, expected F32 {expected:?}")));
    }
    Ok(bytes.chunks_exact(4).map(|bytes| f32::from_le_bytes([bytes[0], bytes[1], bytes[2], bytes[3]])).collect())
}
