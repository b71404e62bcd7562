//! One optimizer step: gradients of the global batch, agreement with all ranks, clipping, update.

use std::time::Instant;

use sirocco_comm::{Communicator, stood_still};
use sirocco_config::Run;
use sirocco_model::Batch;
use sirocco_optim::{Schedule, clip};
use sirocco_parallel::Engine;
use sirocco_tokens::Order;

use super::agreement::{Told, agree};
use super::data::{Count, Sequences};
use super::metrics::{Collectives, StepRecord};
use super::optimizer::{Optimizer, squares};
use super::watch::{Verdict, Watch};
use crate::failure::Failure;
use crate::models::peak_memory;

/// A rank that computes this many times as long as the median of the others is named.
const STRAGGLES: f64 = 1.5;

/// What a step needs and does not change.
pub(crate) struct Plan<'a> {
    pub(crate) run: &'a Run,
    pub(crate) data: &'a Sequences,
    pub(crate) order: Order,
    pub(crate) schedule: Schedule,
    pub(crate) communicator: &'a dyn Communicator,
}

/// What a step changes.
pub(crate) struct State {
    pub(crate) engine: Engine,
    pub(crate) optimizer: Optimizer,
    pub(crate) watch: Watch,
    /// Seconds that the slowest rank computed in the newest step; the same on every rank.
    pub(crate) step_seconds: f64,
}

/// What this rank has to tell at the end of a step.
#[derive(Clone, Copy)]
pub(crate) struct Wishes {
    /// It was asked to stop.
    pub(crate) stop: bool,
    /// It has done what the checkpoint under way wants of it now.
    pub(crate) settled: bool,
}

/// What came of a step.
pub(crate) struct Stepped {
    pub(crate) record: StepRecord,
    /// Whether any rank was asked to stop.
    pub(crate) stop: bool,
    /// Whether every rank has done what the checkpoint under way wants of it now.
    pub(crate) all_settled: bool,
    /// Why the run cannot go on: too many steps in a row were skipped.
    pub(crate) failure: Option<Failure>,
}

/// Takes step `step` (from 0). `wishes` is asked as late as can be, so that a request is met by the step during which it came.
pub(crate) fn step(plan: &Plan<'_>, state: &mut State, step: u64, wishes: &dyn Fn() -> Wishes) -> Result<Stepped, Failure> {
    let start = Instant::now();
    let (before, still) = (plan.communicator.traffic(), stood_still());
    let (batches, count) = batches(plan, state.engine.data_share(), step)?;
    let data_seconds = start.elapsed().as_secs_f64();

    let loss_sum = state.engine.gradients(&batches, 1.0 / count.targets as f64).map_err(Failure::parallel)?;
    let squares = squares(&state.engine);
    // The norm has been read, so everything before it is done, well or not; nothing has changed yet.
    state.engine.health().map_err(Failure::parallel)?;
    let collectives = Collectives::between(&before, &plan.communicator.traffic());
    let seconds = start.elapsed().saturating_sub(stood_still() - still).as_secs_f64();
    let memory = peak_memory() as f64;
    let Wishes { stop, settled } = wishes();
    let own = Told { loss_sum, squares, seconds, memory, stop, settled };
    let agreed = agree(plan.communicator, own)?;
    state.step_seconds = agreed.slowest_seconds();

    let learning_rate = plan.schedule.rate(step);
    let (loss, norm) = (agreed.loss_sum() / count.targets as f64, agreed.norm());
    let verdict = state.watch.judge(loss, norm);
    match verdict {
        Verdict::Apply => {
            state.optimizer.step(&mut state.engine, learning_rate, clip(norm, plan.run.train.max_grad_norm))?;
        }
        Verdict::Skip | Verdict::Stop => {
            state.engine.refresh();
            state.optimizer.skip();
        }
    }
    let failure = (verdict == Verdict::Stop).then(|| too_many_skipped(&state.watch, step, (loss, norm)));
    let seconds = start.elapsed().as_secs_f64();
    let (peak_memory_rank, peak_memory_bytes) = agreed.memory();
    let record = StepRecord {
        step: step + 1,
        loss,
        target_tokens: count.targets,
        tokens: count.tokens,
        grad_norm: norm,
        learning_rate,
        skipped: verdict != Verdict::Apply,
        loss_spike: verdict == Verdict::Apply && state.watch.is_spike(loss),
        seconds,
        tokens_per_s: count.tokens as f64 / seconds,
        data_seconds,
        slowest_rank: agreed.straggler(STRAGGLES),
        peak_memory_bytes,
        peak_memory_rank,
        collectives,
    };
    Ok(Stepped { stop: agreed.stop(), all_settled: agreed.all_settled(), record, failure })
}

/// This rank's micro-batches of a step, and the size of the whole step.
fn batches(plan: &Plan<'_>, (share, shares): (usize, usize), step: u64) -> Result<(Vec<Batch>, Count), Failure> {
    let sequences = plan.order.step(step);
    let count = plan.data.count(&sequences);
    if count.targets == 0 {
        let words = format!("step {}: the global batch of {} sequences has no target tokens", step + 1, sequences.len());
        return Err(Failure::data(words));
    }
    let own = Order::share(&sequences, share, shares);
    let micro_batches = own.chunks(plan.run.train.micro_batch as usize);
    Ok((micro_batches.map(|sequences| plan.data.batch(sequences)).collect::<Result<_, _>>()?, count))
}

fn too_many_skipped(watch: &Watch, step: u64, (loss, norm): (f64, f64)) -> Failure {
    let words = format!(
        "step {}: the loss is {loss} and the gradient norm {norm}, and so it was for {} steps in a row; nothing was changed by them",
        step + 1,
        watch.skipped()
    );
    Failure::failed(words).help("lower train.learning_rate or train.max_grad_norm and resume from the newest checkpoint")
}
