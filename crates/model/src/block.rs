//! One block: attention and feed-forward, each behind a norm and added to the residual stream.

use tch::Tensor;

use crate::batch::Documents;
use crate::linear::{Linear, Saved as LinearSaved};
use crate::lora::Projection;
use crate::ops::heads::{self, HeadShape, Rotation};
use crate::ops::{attention, rmsnorm, swiglu};
use crate::seams::{Exchange, SeamError};
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

/// What each block keeps for its backward.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Recompute {
    /// Every activation: fastest, most memory.
    None,
    /// All but what lies between attention's products: queries, keys, values and the result are made again.
    Attention,
    /// Its input alone; the forward is run again: a third more work, least memory.
    Full,
}

/// What all tokens of a forward share.
#[derive(Clone, Copy)]
pub struct Context<'a> {
    /// Where documents begin and end.
    pub documents: &'a Documents,
    /// The queries' heads.
    pub shape: HeadShape,
    /// The rotary embedding.
    pub rotation: Rotation<'a>,
    /// Who holds the other slices of the block's weights.
    pub exchange: &'a dyn Exchange,
}

impl Context<'_> {
    /// The keys' and values' heads.
    pub fn key_shape(&self) -> HeadShape {
        HeadShape { group: 1, ..self.shape }
    }

    fn gather(&self, own: Tensor) -> Result<Tensor, SeamError> {
        self.exchange.gather_rows(own, self.documents.tokens())
    }
}

/// What one block keeps for its backward.
#[derive(Debug)]
pub struct Saved {
    x: Tensor,
    activations: Option<Activations>,
}

/// Everything between a block's input and output. What products read and write has all rows `[T, …]`, what norms read and write those
/// held here, `[t, D]`.
#[derive(Debug)]
struct Activations {
    attention_norm: rmsnorm::Saved,
    normal: Tensor,
    core: Option<Core>,
    middle: Tensor,
    feed_forward_norm: rmsnorm::Saved,
    middle_normal: Tensor,
    gate: Tensor,
    up: Tensor,
    gated: Tensor,
    linears: [LinearSaved; 7],
}

/// Attention's inputs and result, in head layout.
#[derive(Debug)]
struct Core {
    heads: attention::Inputs,
    attention: attention::Saved,
}

/// What half a block's backward needs of its norm and its linears.
#[derive(Clone, Copy)]
struct Norm<'a> {
    x: &'a Tensor,
    saved: &'a rmsnorm::Saved,
    linears: &'a [LinearSaved; 7],
}

impl Saved {
    /// Drops what is to be computed again in [`Block::backward`].
    pub fn keep(mut self, recompute: Recompute) -> Self {
        match recompute {
            Recompute::None => {}
            Recompute::Attention => self.activations.iter_mut().for_each(|activations| activations.core = None),
            Recompute::Full => self.activations = None,
        }
        self
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

    /// `x [t, D]` → `[t, D]`.
    ///
    /// # Errors
    /// If the networks that hold the other slices cannot be reached.
    pub fn forward(&self, x: Tensor, context: Context<'_>) -> Result<(Tensor, Saved), SeamError> {
        let activations = self.activate(&x, context)?;
        let [.., down] = &activations.linears;
        let down = self.linear(Projection::Down).finish(&activations.gated, down);
        // The block's output takes over the projection's memory, as the sum in the middle does.
        let mut y = context.exchange.sum_rows(down)?;
        rmsnorm::add(&mut y, &activations.middle);
        Ok((y, Saved { x, activations: Some(activations) }))
    }

    /// A forward without its last product, which no backward needs.
    fn activate(&self, x: &Tensor, context: Context<'_>) -> Result<Activations, SeamError> {
        let (normal, attention_norm) = rmsnorm::forward(x, self.attention_norm.value(), self.eps);
        let normal = context.gather(normal)?;
        let (heads, [q, k, v]) = self.project(&normal, context);
        let attention = attention::forward(&heads, context.documents, context.shape);
        let mixed = heads::merge(&attention.out, context.documents, context.shape, None);
        let (mixed, o) = self.linear(Projection::O).forward(&mixed);
        let mut middle = context.exchange.sum_rows(mixed)?;

        let (middle_normal, feed_forward_norm) =
            rmsnorm::forward_residual(&mut middle, x, self.feed_forward_norm.value(), self.eps);
        let middle_normal = context.gather(middle_normal)?;
        let (gate, saved_gate) = self.linear(Projection::Gate).forward(&middle_normal);
        let (up, saved_up) = self.linear(Projection::Up).forward(&middle_normal);
        let gated = swiglu::forward(&gate, &up);
        let saved_down = self.linear(Projection::Down).prepare(&gated);

        let linears = [q, k, v, o, saved_gate, saved_up, saved_down];
        let core = Some(Core { heads, attention });
        Ok(Activations { attention_norm, normal, core, middle, feed_forward_norm, middle_normal, gate, up, gated, linears })
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

    /// `dy [t, D]` → `dx [t, D]`, in the same memory; adds to the gradients of what is trained.
    ///
    /// # Errors
    /// As [`Block::forward`].
    pub fn backward(&mut self, saved: Saved, dy: Tensor, context: Context<'_>) -> Result<Tensor, SeamError> {
        let Saved { x, activations } = saved;
        let kept = match activations {
            Some(activations) => activations,
            None => self.activate(&x, context)?,
        };
        let Activations { attention_norm, normal, core, middle, feed_forward_norm, middle_normal, gate, up, gated, linears } =
            kept;
        let mut dx = dy;
        let norm = Norm { x: &middle, saved: &feed_forward_norm, linears: &linears };
        self.feed_forward_backward((&middle_normal, gate, up, gated), norm, &mut dx, context)?;
        drop((middle_normal, middle));
        let norm = Norm { x: &x, saved: &attention_norm, linears: &linears };
        self.attention_backward((&normal, core), norm, &mut dx, context)?;
        Ok(dx)
    }

    /// Adds to `dx [t, D]`, which comes in as the gradient of the block's output, what goes through the feed-forward part.
    fn feed_forward_backward(
        &mut self,
        (middle_normal, gate, up, gated): (&Tensor, Tensor, Tensor, Tensor),
        norm: Norm<'_>,
        dx: &mut Tensor,
        context: Context<'_>,
    ) -> Result<(), SeamError> {
        let [.., saved_gate, saved_up, saved_down] = norm.linears;
        let dy = context.gather(dx.shallow_clone())?;
        let dgated = self.linear_mut(Projection::Down).backward(&gated, saved_down, &dy, None);
        drop((dy, gated));
        let (dgate, dup) = swiglu::backward(&dgated, gate, up);
        let dnormal = self.linear_mut(Projection::Gate).backward(middle_normal, saved_gate, &dgate, None);
        let dnormal = self.linear_mut(Projection::Up).backward(middle_normal, saved_up, &dup, Some(dnormal));
        let dnormal = context.exchange.sum_rows(dnormal)?;
        norm_backward(&mut self.feed_forward_norm, &dnormal, (norm.x, norm.saved), dx);
        Ok(())
    }

    /// The same for attention.
    fn attention_backward(
        &mut self,
        (normal, core): (&Tensor, Option<Core>),
        norm: Norm<'_>,
        dx: &mut Tensor,
        context: Context<'_>,
    ) -> Result<(), SeamError> {
        let [saved_q, saved_k, saved_v, saved_o, ..] = norm.linears;
        let Core { heads, attention } = core.unwrap_or_else(|| {
            let (heads, _) = self.project(normal, context);
            let attention = attention::forward(&heads, context.documents, context.shape);
            Core { heads, attention }
        });
        let dy = context.gather(dx.shallow_clone())?;
        let mixed = heads::merge(&attention.out, context.documents, context.shape, None);
        let dmixed = self.linear_mut(Projection::O).backward(&mixed, saved_o, &dy, None);
        drop((dy, mixed));
        let dout = heads::split(&dmixed, context.documents, context.shape, None);
        let dheads = attention::backward(&dout, &heads, &attention, context.documents, context.shape);
        let rotation = Some(context.rotation);
        let dq = heads::merge(&dheads.q, context.documents, context.shape, rotation);
        let dk = heads::merge(&dheads.k, context.documents, context.key_shape(), rotation);
        let dv = heads::merge(&dheads.v, context.documents, context.key_shape(), None);
        let dnormal = self.linear_mut(Projection::Q).backward(normal, saved_q, &dq, None);
        let dnormal = self.linear_mut(Projection::K).backward(normal, saved_k, &dk, Some(dnormal));
        let dnormal = self.linear_mut(Projection::V).backward(normal, saved_v, &dv, Some(dnormal));
        let dnormal = context.exchange.sum_rows(dnormal)?;
        norm_backward(&mut self.attention_norm, &dnormal, (norm.x, norm.saved), dx);
        Ok(())
    }

    /// All weights of this block, in a fixed order: the two norms, then the linears in the order of [`Projection::ALL`].
    pub fn weights(&self) -> impl Iterator<Item = &Weight> {
        [&self.attention_norm, &self.feed_forward_norm].into_iter().chain(self.linears.iter().flat_map(Linear::weights))
    }

    /// As [`Block::weights`], to write to.
    pub fn weights_mut(&mut self) -> impl Iterator<Item = &mut Weight> {
        let norms = [&mut self.attention_norm, &mut self.feed_forward_norm].into_iter();
        norms.chain(self.linears.iter_mut().flat_map(Linear::weights_mut))
    }
}

/// Norm backward with the weight's own gradient where it is trained.
pub(crate) fn norm_backward(weight: &mut Weight, dy: &Tensor, (x, saved): (&Tensor, &rmsnorm::Saved), dx: &mut Tensor) {
    let value = weight.value().shallow_clone();
    rmsnorm::backward(dy, (x, saved), &value, dx, weight.gradient_mut());
}
