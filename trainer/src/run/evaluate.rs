//! Loss on held-out sequences, shared out over the ranks.

use sirocco_comm::Communicator;
use sirocco_model::Batch;
use sirocco_parallel::Engine;
use sirocco_tokens::Order;

use super::data::Sequences;
use crate::failure::Failure;

/// Micro-batches that are in memory at one time; a pipeline fills anew after as many.
const AT_A_TIME: usize = 16;

/// What came of an evaluation, the same on every rank.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) enum Evaluated {
    /// The loss per target token over all sequences; none where nothing is held out.
    Whole(Option<f64>),
    /// Some rank was asked to stop: nobody waits for the rest.
    Stopped,
}

/// Loss over all held-out sequences. `stop` says whether this rank was asked to stop; the ranks compare it every few
/// micro-batches.
pub(super) fn held_out_loss(
    engine: &mut Engine,
    held_out: &Sequences,
    micro_batch: usize,
    communicator: &dyn Communicator,
    stop: &dyn Fn() -> bool,
) -> Result<Evaluated, Failure> {
    let every: Vec<usize> = (0..held_out.len()).collect();
    let targets = held_out.count(&every).targets;
    if targets == 0 {
        return Ok(Evaluated::Whole(None));
    }
    let share = Share::new(held_out, &every, engine.data_share(), micro_batch);
    let mut sum = 0.0;
    for first in (0..share.micro_batches).step_by(AT_A_TIME) {
        if any_rank(communicator, stop())? {
            return Ok(Evaluated::Stopped);
        }
        let batches: Vec<Batch> =
            (first..share.micro_batches.min(first + AT_A_TIME)).map(|number| share.batch(number)).collect::<Result<_, _>>()?;
        sum += engine.loss(&batches).map_err(Failure::parallel)?;
    }
    engine.health().map_err(Failure::parallel)?;
    let sums = communicator.all_reduce_f64("held-out loss", vec![sum]).wait().map_err(Failure::collective)?;
    Ok(Evaluated::Whole(sums.first().map(|sum| sum / targets as f64)))
}

fn any_rank(communicator: &dyn Communicator, stop: bool) -> Result<bool, Failure> {
    let wishes =
        communicator.all_reduce_f64("stop evaluation", vec![f64::from(u8::from(stop))]).wait().map_err(Failure::collective)?;
    Ok(wishes.iter().any(|wishes| *wishes > 0.0))
}

/// This rank's part of the held-out sequences. Ranks that hold pieces of the same weights must use them equally often, so a share
/// that is shorter than the longest is filled up with a sequence of which nothing is a target.
struct Share<'a> {
    held_out: &'a Sequences,
    own: Vec<usize>,
    micro_batch: usize,
    /// As many as those of the longest share.
    micro_batches: usize,
}

impl<'a> Share<'a> {
    fn new(held_out: &'a Sequences, every: &[usize], (share, shares): (usize, usize), micro_batch: usize) -> Self {
        let micro_batches = every.len().div_ceil(shares).div_ceil(micro_batch);
        Self { held_out, own: Order::share(every, share, shares), micro_batch, micro_batches }
    }

    fn batch(&self, number: usize) -> Result<Batch, Failure> {
        match self.own.chunks(self.micro_batch).nth(number) {
            Some(sequences) => self.held_out.batch(sequences),
            None => {
                let mut silent = self.held_out.batch(&[0])?;
                silent.targets.fill(-1);
                Ok(silent)
            }
        }
    }
}
