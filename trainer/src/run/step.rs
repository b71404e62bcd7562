//! One optimizer step: gradients of this rank's share, summed over ranks while the backward runs, clipped, applied.

use std::time::Instant;

use sirocco_comm::Communicator;
use sirocco_config::Run;
use sirocco_model::Network;
use sirocco_optim::{AdamW, Parameter, Schedule, clip, sum_of_squares};
use sirocco_parallel::data::GradientReduction;
use sirocco_tokens::Order;

use super::data::Sequences;
use super::metrics::StepRecord;
use super::settings;
use crate::failure::Failure;
use crate::models::peak_memory;

/// What a step needs and does not change.
pub(crate) struct Plan<'a> {
    pub(crate) run: &'a Run,
    pub(crate) data: &'a Sequences,
    pub(crate) order: Order,
    pub(crate) schedule: Schedule,
    pub(crate) communicator: &'a dyn Communicator,
}

/// What came of a step.
pub(crate) struct Stepped {
    pub(crate) record: StepRecord,
    /// Whether any rank was asked to stop.
    pub(crate) stop: bool,
}

/// Takes step `step` (from 0). `stop` is this rank's wish to stop; the answer holds all ranks'.
pub(crate) fn step(
    plan: &Plan<'_>,
    network: &mut Network,
    optimizer: &mut AdamW,
    step: u64,
    stop: bool,
) -> Result<Stepped, Failure> {
    let start = Instant::now();
    let sequences = plan.order.step(step);
    let count = plan.data.count(&sequences);
    if count.targets == 0 {
        return Err(Failure::data(format!(
            "step {}: the global batch of {} sequences has no target tokens",
            step + 1,
            sequences.len()
        )));
    }
    let loss_sum = gradients(plan, network, &sequences, count.targets)?;
    let agreed = agree(plan.communicator, Local { loss_sum, stop })?;
    let loss = agreed.loss_sum / count.targets as f64;

    let norm = network.trained().iter().map(|weight| sum_of_squares(weight.gradient_elements())).sum::<f64>().sqrt();
    if !(loss.is_finite() && norm.is_finite()) {
        return Err(Failure::failed(format!(
            "step {}: the loss is {loss} and the gradient norm {norm}; nothing was changed",
            step + 1
        ))
        .help("lower train.learning_rate or train.max_grad_norm and resume from the newest checkpoint"));
    }
    let learning_rate = plan.schedule.rate(step);
    apply(network, optimizer, learning_rate, clip(norm, plan.run.train.max_grad_norm))?;
    let seconds = start.elapsed().as_secs_f64();
    let record = StepRecord {
        step: step + 1,
        loss,
        target_tokens: count.targets,
        tokens: count.tokens,
        grad_norm: norm,
        learning_rate,
        seconds,
        tokens_per_s: count.tokens as f64 / seconds,
        peak_memory_bytes: peak_memory(),
    };
    Ok(Stepped { record, stop: agreed.stop })
}

/// Leaves the gradient of the mean loss over the global batch in the network, the same on every rank; returns this rank's part of
/// the sum of losses.
fn gradients(plan: &Plan<'_>, network: &mut Network, sequences: &[usize], targets: usize) -> Result<f64, Failure> {
    let (communicator, run) = (plan.communicator, plan.run);
    let share = Order::share(sequences, communicator.rank(), communicator.size());
    let recompute = settings::recompute(run);
    let mut reduction = GradientReduction::new(communicator, (run.parallel.bucket_mb as usize) << 20);
    let micro_batches: Vec<&[usize]> = share.chunks(run.train.micro_batch as usize).collect();
    let mut loss_sum = 0.0;
    for (index, sequences) in micro_batches.iter().enumerate() {
        let batch = plan.data.batch(sequences, network.config().vocabulary)?;
        let scale = 1.0 / targets as f64;
        let last = index + 1 == micro_batches.len();
        let loss = if last {
            network.loss_and_gradients(&batch, scale, recompute, &mut reduction)
        } else {
            network.loss_and_gradients(&batch, scale, recompute, &mut ())
        };
        loss_sum += loss.map_err(Failure::model)?.sum;
    }
    reduction.finish(network).map_err(Failure::failed)?;
    Ok(loss_sum)
}

/// What ranks tell each other at the end of a backward.
#[derive(Clone, Copy)]
struct Local {
    loss_sum: f64,
    stop: bool,
}

fn agree(communicator: &dyn Communicator, local: Local) -> Result<Local, Failure> {
    let wish = f64::from(u8::from(local.stop));
    let sums = communicator.all_reduce_f64("step", vec![local.loss_sum, wish]).wait().map_err(Failure::collective)?;
    match sums[..] {
        [loss_sum, wishes] => Ok(Local { loss_sum, stop: wishes > 0.0 }),
        _ => Err(Failure::failed("the ranks' agreement on a step has another length than was sent")),
    }
}

/// Updates the master copies, brings the values up to date and clears the gradients.
pub(crate) fn apply(
    network: &mut Network,
    optimizer: &mut AdamW,
    learning_rate: f64,
    gradient_scale: f64,
) -> Result<(), Failure> {
    let names: Vec<String> = network.trained().iter().map(|weight| weight.name().to_string()).collect();
    let mut weights = network.trained_mut();
    let parameters = weights.iter_mut().zip(&names).map(|(weight, name)| {
        let (values, gradient) = weight.master_and_gradient();
        Parameter { name, values, gradient }
    });
    optimizer.step(learning_rate, gradient_scale, parameters).map_err(Failure::data)?;
    for weight in weights {
        weight.master_and_gradient().1.fill(0.0);
        weight.refresh();
    }
    Ok(())
}
