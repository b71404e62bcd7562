//! Loss on held-out sequences, shared out over the ranks.

use sirocco_comm::Communicator;
use sirocco_model::{LossSum, Network};
use sirocco_tokens::Order;

use super::data::Sequences;
use crate::failure::Failure;

/// Loss per target token over all sequences, the same on every rank; none where nothing is held out.
pub(crate) fn held_out_loss(
    network: &Network,
    held_out: &Sequences,
    micro_batch: usize,
    communicator: &dyn Communicator,
) -> Result<Option<f64>, Failure> {
    let every: Vec<usize> = (0..held_out.len()).collect();
    let share = Order::share(&every, communicator.rank(), communicator.size());
    let mut sum = LossSum::default();
    for sequences in share.chunks(micro_batch) {
        let batch = held_out.batch(sequences, network.config().vocabulary)?;
        let part = network.loss(&batch).map_err(Failure::model)?;
        sum.sum += part.sum;
        sum.targets += part.targets;
    }
    let totals =
        communicator.all_reduce_f64("held-out loss", vec![sum.sum, sum.targets as f64]).wait().map_err(Failure::collective)?;
    match totals[..] {
        [sum, targets] if targets > 0.0 => Ok(Some(sum / targets)),
        _ => Ok(None),
    }
}
