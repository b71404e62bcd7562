//! Passes through the network, or the part of it held here: forward, the loss, backward. The order of calls is that of the data.

use tch::{Kind, Tensor};

use crate::ModelError;
use crate::batch::{Batch, Documents};
use crate::block::{Recompute, Saved, norm_backward};
use crate::network::Network;
use crate::ops::{cross_entropy, embedding, rmsnorm};
use crate::placement::Whole;
use crate::seams::{Exchange, Hooks, Pass, Unit};
use crate::weight::Weight;

/// A loss before division.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct LossSum {
    /// Σ −log p(target), natural logarithm.
    pub sum: f64,
    /// Target tokens in the sum.
    pub targets: usize,
}

/// What surrounds a pass.
pub struct Around<'a> {
    /// Brings weights and takes gradients.
    pub hooks: &'a mut dyn Hooks,
    /// Holds the other slices.
    pub exchange: &'a dyn Exchange,
}

/// Where the backward of a part begins.
#[derive(Debug)]
pub enum Downstream {
    /// At the loss: the forward's output, and the factor of Σ loss whose gradient is wanted. For the part with the head.
    Loss {
        /// `[t, D]`.
        output: Tensor,
        /// Usually one over the target tokens of the global batch.
        scale: f64,
    },
    /// At the gradient of the forward's output, `[t, D]`, from the part that follows.
    Gradient(Tensor),
}

impl Network {
    /// From token ids, or from the output of the part before (`input [t, D]`), to this part's output `[t, D]`, and what each block keeps.
    ///
    /// # Errors
    /// A document longer than the model's context or attention window; what went wrong beyond a seam.
    pub fn forward(
        &mut self,
        batch: &Batch,
        input: Option<Tensor>,
        recompute: Recompute,
        around: &mut Around<'_>,
    ) -> Result<(Tensor, Vec<Saved>), ModelError> {
        let _no_grad = tch::no_grad_guard();
        let table = self.table_for(&batch.documents)?;
        let mut x = self.enter(batch, input, around)?;
        let mut kept = Vec::with_capacity(self.blocks.len());
        for index in 0..self.blocks.len() {
            let unit = Unit::Block(self.blocks[index].layer);
            around.hooks.before(unit, Pass::Forward, self.blocks[index].weights_mut().collect())?;
            let context = self.context(&batch.documents, &table, 0, around.exchange);
            let (y, saved) = self.blocks[index].forward(x, context)?;
            kept.push(saved.keep(recompute));
            x = y;
            around.hooks.after(unit, Pass::Forward, self.blocks[index].weights_mut().collect())?;
        }
        Ok((x, kept))
    }

    /// The input of the first block: embedded token ids, or what the part before sent.
    fn enter(&mut self, batch: &Batch, input: Option<Tensor>, around: &mut Around<'_>) -> Result<Tensor, ModelError> {
        match (&mut self.embedding, input) {
            (Some(weight), None) => {
                around.hooks.before(Unit::Embedding, Pass::Forward, vec![&mut *weight])?;
                let rows = embedding::forward(&batch.ids, weight.value(), weight.slice().start);
                let x = around.exchange.sum_rows(rows)?;
                around.hooks.after(Unit::Embedding, Pass::Forward, vec![&mut *weight])?;
                Ok(x)
            }
            (None, Some(x)) => Ok(x),
            _ => Err(ModelError::Part),
        }
    }

    /// Adds the gradients of one micro-batch to those of the trained weights, from `downstream` back to this part's input, whose
    /// gradient `[t, D]` is returned (none where the input is token ids), with Σ loss (0 where the head is elsewhere).
    ///
    /// # Errors
    /// As [`Network::forward`].
    pub fn backward(
        &mut self,
        batch: &Batch,
        mut kept: Vec<Saved>,
        downstream: Downstream,
        around: &mut Around<'_>,
    ) -> Result<(f64, Option<Tensor>), ModelError> {
        let _no_grad = tch::no_grad_guard();
        let table = self.table_for(&batch.documents)?;
        let (sum, mut dx) = match downstream {
            Downstream::Gradient(dx) => (0.0, dx),
            Downstream::Loss { output, scale } => self.head_backward(&output, batch, scale, around)?,
        };
        for index in (0..self.blocks.len()).rev() {
            let Some(saved) = kept.pop() else { return Err(ModelError::Part) };
            let unit = Unit::Block(self.blocks[index].layer);
            around.hooks.before(unit, Pass::Backward, self.blocks[index].weights_mut().collect())?;
            let context = self.context(&batch.documents, &table, 0, around.exchange);
            dx = self.blocks[index].backward(saved, dx, context)?;
            around.hooks.after(unit, Pass::Backward, self.blocks[index].weights_mut().collect())?;
        }
        let Some(weight) = &mut self.embedding else { return Ok((sum, Some(dx))) };
        // A frozen embedding takes no gradient, so its rows need not be gathered.
        if weight.is_trained() {
            around.hooks.before(Unit::Embedding, Pass::Backward, vec![&mut *weight])?;
            let dx = around.exchange.gather_rows(dx, batch.ids.len())?;
            let first = weight.slice().start;
            if let Some(gradient) = weight.gradient_mut() {
                embedding::backward(&batch.ids, &dx, gradient, first);
            }
            around.hooks.after(Unit::Embedding, Pass::Backward, vec![&mut *weight])?;
        }
        Ok((sum, None))
    }

    /// Norm, head and loss, forward and backward: `x [t, D]` → Σ loss and `dx [t, D]`.
    fn head_backward(
        &mut self,
        x: &Tensor,
        batch: &Batch,
        scale: f64,
        around: &mut Around<'_>,
    ) -> Result<(f64, Tensor), ModelError> {
        around.hooks.before(Unit::Head, Pass::Backward, self.unit_mut(Unit::Head))?;
        let (Some(last), eps) = (&mut self.last, self.config.rms_norm_eps) else { return Err(ModelError::Part) };
        let (h, saved) = rmsnorm::forward(x, last.norm.value(), eps);
        let h = around.exchange.gather_rows(h, batch.ids.len())?;
        let Some(head) = last.head.as_mut().or(self.embedding.as_mut()) else { return Err(ModelError::Part) };
        let value = head.value().shallow_clone();
        let slice = cross_entropy::Head { weight: &value, first: head.slice().start, exchange: around.exchange };
        let loss = cross_entropy::forward_backward(&h, slice, &batch.targets, scale, head.gradient_mut())?;
        let dh = around.exchange.sum_rows(loss.dh)?;
        let mut dx = x.zeros_like();
        norm_backward(&mut last.norm, &dh, (x, &saved), &mut dx);
        around.hooks.after(Unit::Head, Pass::Backward, self.unit_mut(Unit::Head))?;
        Ok((loss.sum, dx))
    }

    /// Σ loss of a forward's output `x [t, D]`, no gradients. For the part with the head.
    ///
    /// # Errors
    /// As [`Network::forward`].
    pub fn loss_of(&mut self, x: &Tensor, batch: &Batch, around: &mut Around<'_>) -> Result<f64, ModelError> {
        let _no_grad = tch::no_grad_guard();
        around.hooks.before(Unit::Head, Pass::Forward, self.unit_mut(Unit::Head))?;
        let (Some(last), eps) = (&self.last, self.config.rms_norm_eps) else { return Err(ModelError::Part) };
        let (h, _) = rmsnorm::forward(x, last.norm.value(), eps);
        let h = around.exchange.gather_rows(h, batch.ids.len())?;
        let Some(head) = last.head.as_ref().or(self.embedding.as_ref()) else { return Err(ModelError::Part) };
        let slice = cross_entropy::Head { weight: head.value(), first: head.slice().start, exchange: around.exchange };
        let sum = cross_entropy::forward(&h, slice, &batch.targets)?;
        around.hooks.after(Unit::Head, Pass::Forward, self.unit_mut(Unit::Head))?;
        Ok(sum)
    }

    /// Loss of a batch through a whole network; adds the gradients of `scale · Σ loss` to those of the trained weights.
    ///
    /// # Errors
    /// As [`Network::forward`].
    pub fn loss_and_gradients(&mut self, batch: &Batch, scale: f64, recompute: Recompute) -> Result<LossSum, ModelError> {
        let mut around = Around { hooks: &mut (), exchange: &Whole };
        let (output, kept) = self.forward(batch, None, recompute, &mut around)?;
        let (sum, _) = self.backward(batch, kept, Downstream::Loss { output, scale }, &mut around)?;
        Ok(LossSum { sum, targets: batch.target_count() })
    }

    /// Loss of a batch through a whole network, no gradients.
    ///
    /// # Errors
    /// As [`Network::forward`].
    pub fn loss(&self, batch: &Batch) -> Result<LossSum, ModelError> {
        let _no_grad = tch::no_grad_guard();
        let (h, head) = self.last_hidden(&batch.ids, &batch.documents)?;
        let head = cross_entropy::Head { weight: head.value(), first: 0, exchange: &Whole };
        Ok(LossSum { sum: cross_entropy::forward(&h, head, &batch.targets)?, targets: batch.target_count() })
    }

    /// Logits of every position, `[T, V]` fp32: for comparisons on small inputs.
    ///
    /// # Errors
    /// As [`Network::forward`].
    pub fn logits(&self, batch: &Batch) -> Result<Tensor, ModelError> {
        let _no_grad = tch::no_grad_guard();
        let (h, head) = self.last_hidden(&batch.ids, &batch.documents)?;
        Ok(h.matmul(&head.value().tr()).to_kind(Kind::Float))
    }

    fn last_hidden(&self, ids: &[i64], documents: &Documents) -> Result<(Tensor, &Weight), ModelError> {
        let (embedding, norm, head) = self.ends()?;
        let table = self.table_for(documents)?;
        let context = self.context(documents, &table, 0, &Whole);
        let mut x = embedding::forward(ids, embedding.value(), 0);
        for block in &self.blocks {
            x = block.forward(x, context)?.0;
        }
        Ok((rmsnorm::forward(&x, norm.value(), self.config.rms_norm_eps).0, head))
    }
}
