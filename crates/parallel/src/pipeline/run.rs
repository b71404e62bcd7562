//! Carries out a stage's list of actions: activations come from the stage before, gradients from the stage after.

use sirocco_comm::Pending;
use sirocco_model::block::Saved;
use sirocco_model::{Around, Batch, Downstream, Network, Recompute};
use tch::{Device, Kind, Tensor};

use super::schedule::{Action, Neighbours};
use crate::ParallelError;
use crate::data::Reduction;
use crate::fsdp::{Residence, Residents, Shard};
use crate::tensor::Rows;
use crate::tensors::Host;

/// The way to the neighbouring stages: the ranks at the same place on all other axes.
pub(crate) struct Links {
    pub(crate) group: Host,
    pub(crate) neighbours: Neighbours,
}

/// What a stage works with during a step.
pub(crate) struct Stage<'a> {
    pub(crate) network: &'a mut Network,
    pub(crate) shards: &'a mut [Shard],
    pub(crate) residence: &'a Residence,
    pub(crate) rows: &'a Rows,
    pub(crate) links: &'a Links,
    pub(crate) recompute: Recompute,
    /// Where this rank computes.
    pub(crate) device: Device,
}

/// A micro-batch between two actions.
#[derive(Default)]
struct InFlight {
    input: Option<Tensor>,
    output: Option<Tensor>,
    kept: Option<Vec<Saved>>,
    gradient: Option<Tensor>,
}

impl Stage<'_> {
    /// A training step's actions. Adds to the gradients; returns Σ loss of what this stage's head saw (0 where it has none).
    ///
    /// # Errors
    /// What ended a collective; input that the network refuses.
    pub(crate) fn train(
        &mut self,
        actions: &[Action],
        batches: &[Batch],
        scale: f64,
        reduction: &mut Reduction,
    ) -> Result<f64, ParallelError> {
        let mut flights: Vec<InFlight> = batches.iter().map(|_| InFlight::default()).collect();
        let (mut sum, mut sent) = (0.0, Vec::new());
        for &action in actions {
            match action {
                Action::Receive { micro_batch } => {
                    flights[micro_batch].input = Some(self.receive(&batches[micro_batch], micro_batch)?);
                }
                Action::Forward { micro_batch } => {
                    let flight = &mut flights[micro_batch];
                    let (output, kept) =
                        self.forward(&batches[micro_batch], flight.input.take(), (self.recompute, &mut *reduction))?;
                    (flight.output, flight.kept) = (Some(output), Some(kept));
                }
                Action::Send { micro_batch } => sent.push(self.send(flights[micro_batch].output.take(), micro_batch)?),
                Action::ReceiveGradient { micro_batch } => {
                    flights[micro_batch].gradient = Some(self.receive_gradient(&batches[micro_batch], micro_batch)?);
                }
                Action::Backward { micro_batch, last } => {
                    let flight = &mut flights[micro_batch];
                    let missing = |what| ParallelError::Schedule { micro_batch, what };
                    let kept = flight.kept.take().ok_or_else(|| missing("forward"))?;
                    let downstream = match (flight.gradient.take(), flight.output.take()) {
                        (Some(gradient), _) => Downstream::Gradient(gradient),
                        (None, Some(output)) => Downstream::Loss { output, scale },
                        (None, None) => return Err(missing("gradient")),
                    };
                    let (loss, dx) = self.backward((&batches[micro_batch], last), kept, downstream, reduction)?;
                    flight.gradient = dx;
                    sum += loss;
                }
                Action::SendGradient { micro_batch } => {
                    sent.push(self.send_gradient(flights[micro_batch].gradient.take(), micro_batch)?);
                }
            }
        }
        sent.into_iter().try_for_each(Pending::wait)?;
        Ok(sum)
    }

    /// An evaluation's actions: forwards alone. Returns Σ loss as [`Stage::train`].
    ///
    /// # Errors
    /// As [`Stage::train`].
    pub(crate) fn evaluate(
        &mut self,
        actions: &[Action],
        batches: &[Batch],
        reduction: &mut Reduction,
    ) -> Result<f64, ParallelError> {
        let (mut sum, mut sent) = (0.0, Vec::new());
        let (mut input, mut output) = (None, None);
        for &action in actions {
            match action {
                Action::Receive { micro_batch } => input = Some(self.receive(&batches[micro_batch], micro_batch)?),
                Action::Forward { micro_batch } => {
                    let batch = &batches[micro_batch];
                    let (x, _) = self.forward(batch, input.take(), (Recompute::Full, &mut *reduction))?;
                    match self.links.neighbours.after {
                        Some(_) => output = Some(x),
                        None => sum += self.loss(&x, batch, reduction)?,
                    }
                }
                Action::Send { micro_batch } => sent.push(self.send(output.take(), micro_batch)?),
                Action::ReceiveGradient { micro_batch }
                | Action::Backward { micro_batch, .. }
                | Action::SendGradient { micro_batch } => {
                    return Err(ParallelError::Schedule { micro_batch, what: "backward in an evaluation" });
                }
            }
        }
        sent.into_iter().try_for_each(Pending::wait)?;
        Ok(sum)
    }

    fn forward(
        &mut self,
        batch: &Batch,
        input: Option<Tensor>,
        (recompute, reduction): (Recompute, &mut Reduction),
    ) -> Result<(Tensor, Vec<Saved>), ParallelError> {
        let mut hooks = Residents::new(self.residence, self.shards, reduction, false);
        let passed = self.network.forward(batch, input, recompute, &mut Around { hooks: &mut hooks, exchange: self.rows })?;
        hooks.finish()?;
        Ok(passed)
    }

    fn backward(
        &mut self,
        (batch, last): (&Batch, bool),
        kept: Vec<Saved>,
        downstream: Downstream,
        reduction: &mut Reduction,
    ) -> Result<(f64, Option<Tensor>), ParallelError> {
        let mut hooks = Residents::new(self.residence, self.shards, reduction, last);
        let passed = self.network.backward(batch, kept, downstream, &mut Around { hooks: &mut hooks, exchange: self.rows })?;
        hooks.finish()?;
        Ok(passed)
    }

    fn loss(&mut self, x: &Tensor, batch: &Batch, reduction: &mut Reduction) -> Result<f64, ParallelError> {
        let mut hooks = Residents::new(self.residence, self.shards, reduction, false);
        let sum = self.network.loss_of(x, batch, &mut Around { hooks: &mut hooks, exchange: self.rows })?;
        hooks.finish()?;
        Ok(sum)
    }

    /// `[t, D]`: the rows of a micro-batch that are held here between two blocks.
    fn form(&self, batch: &Batch) -> ([i64; 2], Kind) {
        ([self.rows.own(batch.ids.len()) as i64, self.network.config().hidden], self.network.dtype().kind())
    }

    fn receive(&self, batch: &Batch, micro_batch: usize) -> Result<Tensor, ParallelError> {
        self.receive_from(self.links.neighbours.before, "activations", (batch, micro_batch))
    }

    fn receive_gradient(&self, batch: &Batch, micro_batch: usize) -> Result<Tensor, ParallelError> {
        self.receive_from(self.links.neighbours.after, "activation gradients", (batch, micro_batch))
    }

    fn receive_from(
        &self,
        neighbour: Option<usize>,
        name: &'static str,
        (batch, micro_batch): (&Batch, usize),
    ) -> Result<Tensor, ParallelError> {
        let from = neighbour.ok_or(ParallelError::Schedule { micro_batch, what: "stage to receive from" })?;
        let (shape, kind) = self.form(batch);
        Ok(self.links.group.receive(name, from, (&shape, kind))?.to_device(self.device))
    }

    fn send(&self, output: Option<Tensor>, micro_batch: usize) -> Result<Pending<()>, ParallelError> {
        self.send_to(self.links.neighbours.after, "activations", (output, micro_batch))
    }

    fn send_gradient(&self, gradient: Option<Tensor>, micro_batch: usize) -> Result<Pending<()>, ParallelError> {
        self.send_to(self.links.neighbours.before, "activation gradients", (gradient, micro_batch))
    }

    fn send_to(
        &self,
        neighbour: Option<usize>,
        name: &'static str,
        (tensor, micro_batch): (Option<Tensor>, usize),
    ) -> Result<Pending<()>, ParallelError> {
        let missing = |what| ParallelError::Schedule { micro_batch, what };
        let to = neighbour.ok_or_else(|| missing("stage to send to"))?;
        Ok(self.links.group.send(name, to, &tensor.ok_or_else(|| missing("result to send"))?))
    }
}
