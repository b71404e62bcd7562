//! The run file in the terms of the network and the optimizer.

use std::path::Path;

use sirocco_config::{Method, Run, RunFile};
use sirocco_model::{LoraConfig, Projection, Recompute, Trained};
use sirocco_optim::{AdamWConfig, Schedule, Shape};

use crate::failure::Failure;

/// Reads and checks `RUN/run.toml`.
pub(crate) fn read_run(directory: &Path) -> Result<Run, Failure> {
    let file = RunFile::read(&directory.join("run.toml")).map_err(Failure::usage)?;
    file.check(directory).map_err(Failure::usage)
}

/// Element type of base weights and products.
pub(crate) fn dtype(run: &Run) -> sirocco_model::Dtype {
    match run.model.dtype {
        sirocco_config::Dtype::Bf16 => sirocco_model::Dtype::Bf16,
        sirocco_config::Dtype::Fp32 => sirocco_model::Dtype::Fp32,
    }
}

/// What is trained.
pub(crate) fn trained(run: &Run) -> Trained {
    match &run.method {
        Method::Full => Trained::Full,
        Method::Lora { rank, alpha, targets } => {
            let targets = targets.projections().iter().filter_map(|target| Projection::from_name(target.name())).collect();
            Trained::Lora(LoraConfig { rank: *rank as usize, scale: alpha / *rank as f64, targets })
        }
    }
}

/// What blocks keep for their backward.
pub(crate) fn recompute(run: &Run) -> Recompute {
    match run.parallel.recompute {
        sirocco_config::Recompute::None => Recompute::None,
        sirocco_config::Recompute::Attention => Recompute::Attention,
        sirocco_config::Recompute::Full => Recompute::Full,
    }
}

/// The learning rate of each of `steps` steps.
pub(crate) fn schedule(run: &Run, steps: u64) -> Schedule {
    let shape = match run.train.schedule {
        sirocco_config::Schedule::Cosine => Shape::Cosine,
        sirocco_config::Schedule::Constant => Shape::Constant,
    };
    Schedule { peak: run.train.learning_rate, warmup_steps: run.train.warmup_steps, steps, shape }
}

/// The optimizer's constants.
pub(crate) fn optimizer(run: &Run) -> AdamWConfig {
    let (beta1, beta2) = run.train.betas;
    AdamWConfig { beta1, beta2, epsilon: run.train.epsilon, weight_decay: run.train.weight_decay }
}
