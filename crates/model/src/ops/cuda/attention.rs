//! Attention on a device: libtorch's flash attention for bf16 and the head dims that it knows, plain products for fp32 and all others.
//!
//! Queries, keys and values are `[T, H, E]` and `[T, K, E]`, seen flat by the caller; nothing is moved or repeated.

use tch::{Device, Kind, Tensor};

use super::{attention_plain, documents};
use crate::batch::Documents;
use crate::ops::attention::Inputs;
use crate::ops::heads::HeadShape;
use crate::raw::torch::{self, Bounds};

/// Attention of every document of a batch to itself: the result, flat `[T · H · E]`, and the logarithms of the normalisers, in an order
/// that only the backward needs to know.
pub(crate) fn forward(inputs: &Inputs, documents: &Documents, shape: HeadShape) -> (Tensor, Tensor) {
    let [q, k, v] = heads(inputs, shape);
    let (out, log_sum) = if is_flash(&q) {
        let made = documents::on(q.device(), documents, 0);
        unwrap(torch::flash_forward([&q, &k, &v], bounds(&made.offsets, documents, shape)))
    } else {
        attention_plain::forward([&q, &k, &v], documents)
    };
    (out.view([-1]), log_sum)
}

/// Gradients of q, k and v, each in its input's layout.
pub(crate) fn backward(
    dout: &Tensor,
    inputs: &Inputs,
    (out, log_sum): (&Tensor, &Tensor),
    documents: &Documents,
    shape: HeadShape,
) -> Inputs {
    let [q, k, v] = heads(inputs, shape);
    let (out, dout) = (out.view_as(&q), dout.view_as(&q));
    let [dq, dk, dv] = if is_flash(&q) {
        let made = documents::on(q.device(), documents, 0);
        let bounds = bounds(&made.offsets, documents, shape);
        unwrap(torch::flash_backward(&dout, [&q, &k, &v, &out, log_sum], bounds))
    } else {
        attention_plain::backward(&dout, [&q, &k, &v], (&out, log_sum), documents)
    };
    let flat = |gradient: Tensor| gradient.contiguous().view([-1]);
    Inputs { q: flat(dq), k: flat(dk), v: flat(dv) }
}

/// Whether libtorch has a flash kernel for it.
fn is_flash(q: &Tensor) -> bool {
    let head_dim = q.size()[2];
    q.kind() == Kind::BFloat16 && q.device() != Device::Cpu && head_dim % 8 == 0 && head_dim <= 256
}

/// The inputs as `[T, heads, E]`.
fn heads(inputs: &Inputs, shape: HeadShape) -> [Tensor; 3] {
    let [kv_heads, group, head_dim] = [shape.kv_heads, shape.group, shape.head_dim].map(|size| size as i64);
    [
        inputs.q.view([-1, kv_heads * group, head_dim]),
        inputs.k.view([-1, kv_heads, head_dim]),
        inputs.v.view([-1, kv_heads, head_dim]),
    ]
}

fn bounds<'a>(offsets: &'a Tensor, documents: &Documents, shape: HeadShape) -> Bounds<'a> {
    // Where no document has more than one token, the forward would take another path, whose logarithms the backward cannot read. The
    // length only bounds the kernel's grid.
    let longest = documents.longest().max(2) as i64;
    Bounds { offsets, longest, scale: 1.0 / (shape.head_dim as f64).sqrt() }
}

/// libtorch's own operations end in the same way where the device refuses.
fn unwrap<T>(made: Result<T, tch::TchError>) -> T {
    made.unwrap_or_else(|error| panic!("attention: {error}"))
}
