//! Loss on held-out sequences, shared out over the ranks.

use sirocco_comm::Communicator;
use sirocco_model::Batch;
use sirocco_parallel::Engine;
use sirocco_tokens::Order;

use super::data::Sequences;
use crate::failure::Failure;

/// Loss per target token over all sequences, the same on every rank; none where nothing is held out.
pub(crate) fn held_out_loss(
    engine: &mut Engine,
    held_out: &Sequences,
    micro_batch: usize,
    communicator: &dyn Communicator,
) -> Result<Option<f64>, Failure> {
    let every: Vec<usize> = (0..held_out.len()).collect();
    let targets = held_out.count(&every).targets;
    if targets == 0 {
        return Ok(None);
    }
    let batches = batches(held_out, &every, engine.data_share(), micro_batch)?;
    let sum = engine.loss(&batches).map_err(Failure::parallel)?;
    let sums = communicator.all_reduce_f64("held-out loss", vec![sum]).wait().map_err(Failure::collective)?;
    Ok(sums.first().map(|sum| sum / targets as f64))
}

/// This rank's micro-batches. Ranks that hold pieces of the same weights must use them equally often, so a share that is one sequence
/// shorter than the longest is filled up with a sequence of which nothing is a target.
fn batches(
    held_out: &Sequences,
    every: &[usize],
    (share, shares): (usize, usize),
    micro_batch: usize,
) -> Result<Vec<Batch>, Failure> {
    let longest = every.len().div_ceil(shares);
    let mut batches: Vec<Batch> = Order::share(every, share, shares)
        .chunks(micro_batch)
        .map(|sequences| held_out.batch(sequences))
        .collect::<Result<_, _>>()?;
    while batches.len() < longest.div_ceil(micro_batch) {
        let mut silent = held_out.batch(&every[..1])?;
        silent.targets.fill(-1);
        batches.push(silent);
    }
    Ok(batches)
}
