//! One block: attention and feed-forward, each behind a norm and added to the residual stream.

use tch::Tensor;

use crate::batch::Documents;
use crate::linear::{Linear, Saved as LinearSaved};
use crate::lora::Projection;
use crate::ops::heads::{self, HeadShape, Rotation};
use crate::ops::{attention, rmsnorm, swiglu};
use crate::weight::Weight;

/// A block's weights. It knows its number in the whole network, so that names survive when a part of the network is held elsewhere.
#[derive(Debug)]
pub struct Block {
    /// Number in the whole network, from 0.
    pub layer: usize,
    /// Weight of the norm before attention, `[D]`.
    pub attention_norm: Weight,
    /// Weight of the norm before the feed-forward part, `[D]`.
    pub feed_forward_norm: Weight,
    /// The seven linears, in the order of [`Projection::ALL`].
    pub linears: [Linear; 7],
    /// ε of both norms.
    pub eps: f64,
}

/// What all tokens of a forward share.
#[derive(Debug, Clone, Copy)]
pub struct Context<'a> {
    /// Where documents begin and end.
    pub documents: &'a Documents,
    /// The queries' heads.
    pub shape: HeadShape,
    /// The rotary embedding.
    pub rotation: Rotation<'a>,
}

impl Context<'_> {
    /// The keys' and values' heads.
    pub fn key_shape(&self) -> HeadShape {
        HeadShape { group: 1, ..self.shape }
    }
}

/// What one block keeps for its backward.
#[derive(Debug)]
pub struct Saved {
    x: Tensor,
    activations: Option<Activations>,
}

/// Everything between a block's input and output.
#[derive(Debug)]
struct Activations {
    attention_norm: rmsnorm::Saved,
    normal: Tensor,
    heads: attention::Inputs,
    attention: attention::Saved,
    middle: Tensor,
    feed_forward_norm: rmsnorm::Saved,
    middle_normal: Tensor,
    gate: Tensor,
    up: Tensor,
    gated: Tensor,
    linears: [LinearSaved; 7],
}

impl Saved {
    /// Drops all but the input; [`Block::backward`] runs the forward again.
    pub fn input_only(self) -> Self {
        Self { x: self.x, activations: None }
    }
}

impl Block {
    /// The linear of a projection.
    pub fn linear(&self, projection: Projection) -> &Linear {
        &self.linears[projection as usize]
    }

    fn linear_mut(&mut self, projection: Projection) -> &mut Linear {
        &mut self.linears[projection as usize]
    }

    /// `x [T, D]` → `[T, D]`.
    pub fn forward(&self, x: Tensor, context: Context<'_>) -> (Tensor, Saved) {
        let (y, activations) = self.activate(&x, context);
        (y, Saved { x, activations: Some(activations) })
    }

    fn activate(&self, x: &Tensor, context: Context<'_>) -> (Tensor, Activations) {
        let (normal, attention_norm) = rmsnorm::forward(x, self.attention_norm.value(), self.eps);
        let (heads, [q, k, v]) = self.project(&normal, context);
        let attention = attention::forward(&heads, context.documents, context.shape);
        let mixed = heads::merge(&attention.out, context.documents, context.shape, None);
        let (mut middle, o) = self.linear(Projection::O).forward(&mixed);

        // The sum of residual and attention takes over the projection's memory; so does the block's output below.
        let (middle_normal, feed_forward_norm) =
            rmsnorm::forward_residual(&mut middle, x, self.feed_forward_norm.value(), self.eps);
        let (gate, saved_gate) = self.linear(Projection::Gate).forward(&middle_normal);
        let (up, saved_up) = self.linear(Projection::Up).forward(&middle_normal);
        let gated = swiglu::forward(&gate, &up);
        let (mut y, down) = self.linear(Projection::Down).forward(&gated);
        rmsnorm::add(&mut y, &middle);

        let linears = [q, k, v, o, saved_gate, saved_up, down];
        let activations = Activations {
            attention_norm,
            normal,
            heads,
            attention,
            middle,
            feed_forward_norm,
            middle_normal,
            gate,
            up,
            gated,
            linears,
        };
        (y, activations)
    }

    /// Queries, keys and values of normalised tokens, in head layout, queries and keys turned to their positions.
    pub(crate) fn project(&self, normal: &Tensor, context: Context<'_>) -> (attention::Inputs, [LinearSaved; 3]) {
        let rotation = Some(context.rotation);
        let (q, saved_q) = self.linear(Projection::Q).forward(normal);
        let (k, saved_k) = self.linear(Projection::K).forward(normal);
        let (v, saved_v) = self.linear(Projection::V).forward(normal);
        let heads = attention::Inputs {
            q: heads::split(&q, context.documents, context.shape, rotation),
            k: heads::split(&k, context.documents, context.key_shape(), rotation),
            v: heads::split(&v, context.documents, context.key_shape(), None),
        };
        (heads, [saved_q, saved_k, saved_v])
    }

    /// What attention's output (head layout) becomes: the block's output, nothing kept. The second half of a forward for inference.
    pub(crate) fn finish(&self, x: &Tensor, attention: &Tensor, context: Context<'_>) -> Tensor {
        let mixed = heads::merge(attention, context.documents, context.shape, None);
        let (mut middle, _) = self.linear(Projection::O).forward(&mixed);
        let (normal, _) = rmsnorm::forward_residual(&mut middle, x, self.feed_forward_norm.value(), self.eps);
        let (gate, _) = self.linear(Projection::Gate).forward(&normal);
        let (up, _) = self.linear(Projection::Up).forward(&normal);
        let (mut y, _) = self.linear(Projection::Down).forward(&swiglu::forward(&gate, &up));
        rmsnorm::add(&mut y, &middle);
        y
    }

    /// `dy [T, D]` → `dx [T, D]`, in the same memory; adds to the gradients of what is trained.
    pub fn backward(&mut self, saved: Saved, dy: Tensor, context: Context<'_>) -> Tensor {
        let Saved { x, activations } = saved;
        let kept = activations.unwrap_or_else(|| self.activate(&x, context).1);
        let [saved_q, saved_k, saved_v, saved_o, saved_gate, saved_up, saved_down] = &kept.linears;
        let mut dx = dy;

        let dgated = self.linear_mut(Projection::Down).backward(&kept.gated, saved_down, &dx, None);
        let (dgate, dup) = swiglu::backward(&dgated, kept.gate, kept.up);
        let dnormal = self.linear_mut(Projection::Gate).backward(&kept.middle_normal, saved_gate, &dgate, None);
        let dnormal = self.linear_mut(Projection::Up).backward(&kept.middle_normal, saved_up, &dup, Some(dnormal));
        norm_backward(&mut self.feed_forward_norm, &dnormal, (&kept.middle, &kept.feed_forward_norm), &mut dx);

        let mixed = heads::merge(&kept.attention.out, context.documents, context.shape, None);
        let dmixed = self.linear_mut(Projection::O).backward(&mixed, saved_o, &dx, None);
        let dout = heads::split(&dmixed, context.documents, context.shape, None);
        let dheads = attention::backward(&dout, &kept.heads, &kept.attention, context.documents, context.shape);
        let rotation = Some(context.rotation);
        let dq = heads::merge(&dheads.q, context.documents, context.shape, rotation);
        let dk = heads::merge(&dheads.k, context.documents, context.key_shape(), rotation);
        let dv = heads::merge(&dheads.v, context.documents, context.key_shape(), None);
        let dnormal = self.linear_mut(Projection::Q).backward(&kept.normal, saved_q, &dq, None);
        let dnormal = self.linear_mut(Projection::K).backward(&kept.normal, saved_k, &dk, Some(dnormal));
        let dnormal = self.linear_mut(Projection::V).backward(&kept.normal, saved_v, &dv, Some(dnormal));
        norm_backward(&mut self.attention_norm, &dnormal, (&x, &kept.attention_norm), &mut dx);
        dx
    }

    /// The trained weights of this block, in a fixed order.
    pub fn trained(&self) -> impl Iterator<Item = &Weight> {
        let norms = [&self.attention_norm, &self.feed_forward_norm].into_iter().filter(|weight| weight.master().is_some());
        norms.chain(self.linears.iter().flat_map(Linear::trained))
    }

    /// As [`Block::trained`], to write to.
    pub fn trained_mut(&mut self) -> impl Iterator<Item = &mut Weight> {
        let norms =
            [&mut self.attention_norm, &mut self.feed_forward_norm].into_iter().filter(|weight| weight.master().is_some());
        norms.chain(self.linears.iter_mut().flat_map(Linear::trained_mut))
    }
}

/// Norm backward with the weight's own gradient where it is trained.
pub(crate) fn norm_backward(weight: &mut Weight, dy: &Tensor, (x, saved): (&Tensor, &rmsnorm::Saved), dx: &mut Tensor) {
    let value = weight.value().shallow_clone();
    rmsnorm::backward(dy, (x, saved), &value, dx, weight.gradient_mut());
}
