//! Causal grouped-query attention within documents: softmax(q · kᵀ / √E) · v (Vaswani et al. 2017, equation 1).
//!
//! Everything is in head layout (see [`super::heads`]): the G query heads of a key/value head are rows of one matrix, so that keys and
//! values are never repeated. Long documents go through batched matrix products in blocks of queries, each against the keys up to it
//! only (half the work of a full square); short ones, of which a packed batch has dozens, through [`super::attention_short`]. The
//! probabilities are not kept: the backward recomputes them from the logarithm of each row's normaliser (Dao et al. 2022, section 3).

use rayon::prelude::*;
use tch::{Kind, Tensor};

use super::attention_short;
use super::heads::HeadShape;
use super::{by_element, cuda, empty, lanes, on_device};
use crate::batch::Documents;
use crate::raw::{Element, elements, elements_mut, vectorised};

/// Documents up to this length take the loops of `attention_short`, longer ones the matrix products.
const SHORT: usize = 64;

/// Queries in one block of matrix products.
const QUERIES: usize = 128;

/// What the backward needs.
#[derive(Debug)]
pub struct Saved {
    /// The result, in head layout.
    pub out: Tensor,
    /// Logarithm of each row's normaliser, flat `[T · H]` in head layout without the dims, fp32.
    log_sum: Tensor,
}

/// Queries, keys and values in head layout; `shape` is the queries'.
#[derive(Debug)]
pub struct Inputs {
    /// `[T · H · E]`.
    pub q: Tensor,
    /// `[T · K · E]`.
    pub k: Tensor,
    /// `[T · K · E]`.
    pub v: Tensor,
}

/// One long document's views: q, out and their gradients `[K, L · G, E]`, k and v `[K, L, E]`.
struct View {
    kv_heads: i64,
    group: i64,
    head_dim: i64,
    start: i64,
    length: i64,
}

impl View {
    fn new(shape: HeadShape, start: usize, length: usize) -> Self {
        let [kv_heads, group, head_dim, start, length] =
            [shape.kv_heads, shape.group, shape.head_dim, start, length].map(|size| size as i64);
        Self { kv_heads, group, head_dim, start, length }
    }

    fn queries(&self, flat: &Tensor) -> Tensor {
        let width = self.kv_heads * self.group * self.head_dim;
        flat.narrow(0, self.start * width, self.length * width).view([self.kv_heads, self.length * self.group, self.head_dim])
    }

    fn keys(&self, flat: &Tensor) -> Tensor {
        let width = self.kv_heads * self.head_dim;
        flat.narrow(0, self.start * width, self.length * width).view([self.kv_heads, self.length, self.head_dim])
    }

    fn rows(&self, flat: &Tensor) -> Tensor {
        let heads = self.kv_heads * self.group;
        flat.narrow(0, self.start * heads, self.length * heads).view([self.kv_heads, self.length * self.group])
    }

    /// First query and number of queries of each block.
    fn blocks(&self) -> impl Iterator<Item = (i64, i64)> + use<> {
        let length = self.length;
        (0..length).step_by(QUERIES).map(move |first| (first, (length - first).min(QUERIES as i64)))
    }
}

/// Attention of every document of a batch to itself.
pub fn forward(inputs: &Inputs, documents: &Documents, shape: HeadShape) -> Saved {
    if on_device(&inputs.q) {
        let (out, log_sum) = cuda::attention::forward(inputs, documents, shape);
        return Saved { out, log_sum };
    }
    let mut out = empty(&inputs.q.size(), inputs.q.kind());
    let mut log_sum = empty(&[(documents.tokens() * shape.kv_heads * shape.group) as i64], Kind::Float);
    attention_short::forward(inputs, &mut out, &mut log_sum, (documents, shape, SHORT));
    for (start, length) in documents.iter().filter(|&(_, length)| length > SHORT) {
        let view = View::new(shape, start, length);
        let (q, k, v) = (view.queries(&inputs.q), view.keys(&inputs.k), view.keys(&inputs.v));
        let (out, log_sum) = (view.queries(&out), view.rows(&log_sum));
        for (first, count) in view.blocks() {
            let (rows, keys) = (first * view.group, first + count);
            let q = q.narrow(1, rows, count * view.group);
            let (block, sums) = attend(&q, &k.narrow(1, 0, keys), &v.narrow(1, 0, keys), first as usize, shape.group);
            out.narrow(1, rows, count * view.group).copy_(&block);
            log_sum.narrow(1, rows, count * view.group).copy_(&sums);
        }
    }
    Saved { out, log_sum }
}

/// Attention of consecutive queries `q [K, n · G, E]`, the first at position `first`, to `k`, `v [K, keys, E]` → `[K, n · G, E]` and the
/// logarithms of the normalisers `[K, n · G]`.
pub fn attend(q: &Tensor, k: &Tensor, v: &Tensor, first: usize, group: usize) -> (Tensor, Tensor) {
    let scale = scale(q.size()[2]);
    let mut scores = q.bmm(&k.transpose(1, 2)).contiguous();
    let [kv_heads, rows, keys] = [0, 1, 2].map(|dim| scores.size()[dim]);
    let mut log_sum = empty(&[kv_heads, rows], Kind::Float);
    by_element!(scores.kind(), A => {
        let sums = elements_mut::<f32>(&mut log_sum);
        let scores = elements_mut::<A>(&mut scores);
        scores.par_chunks_mut(keys as usize).zip(sums).enumerate().for_each(|(index, (scores, sum))| {
            let visible = first + (index % rows as usize) / group + 1;
            *sum = vectorised(#[inline(always)] || softmax_row(scores, visible, scale));
        });
    });
    (scores.bmm(v), log_sum)
}

/// Turns a row of scores into probabilities over its first `visible` keys and returns log Σ exp(score · scale).
#[inline(always)]
fn softmax_row<A: Element>(scores: &mut [A], visible: usize, scale: f32) -> f32 {
    let (seen, hidden) = scores.split_at_mut(visible);
    let highest = lanes::max(seen) * scale;
    let sum = lanes::sum(seen, |score| lanes::exp(score * scale - highest));
    let inverse = 1.0 / sum;
    seen.iter_mut().for_each(|score| *score = A::narrow(lanes::exp(score.widen() * scale - highest) * inverse));
    hidden.fill(A::narrow(0.0));
    highest + sum.ln()
}

fn scale(head_dim: i64) -> f32 {
    1.0 / (head_dim as f32).sqrt()
}

/// Gradients of q, k and v, each in its input's layout, from `dout` in head layout. With P the probabilities and
/// δ = Σ_E dout · out: dP = dout · vᵀ, dS = P ∘ (dP − δ) / √E, dq = dS · k, dk = dSᵀ · q, dv = Pᵀ · dout.
pub fn backward(dout: &Tensor, inputs: &Inputs, saved: &Saved, documents: &Documents, shape: HeadShape) -> Inputs {
    if on_device(dout) {
        return cuda::attention::backward(dout, inputs, (&saved.out, &saved.log_sum), documents, shape);
    }
    let mut gradients = Inputs {
        q: empty(&inputs.q.size(), inputs.q.kind()),
        k: empty(&inputs.k.size(), inputs.k.kind()),
        v: empty(&inputs.v.size(), inputs.v.kind()),
    };
    attention_short::backward(dout, inputs, (&saved.out, &saved.log_sum), &mut gradients, (documents, shape, SHORT));
    for (start, length) in documents.iter().filter(|&(_, length)| length > SHORT) {
        backward_document(dout, inputs, saved, &gradients, &View::new(shape, start, length));
    }
    gradients
}

fn backward_document(dout: &Tensor, inputs: &Inputs, saved: &Saved, gradients: &Inputs, view: &View) {
    let (q, k, v) = (view.queries(&inputs.q), view.keys(&inputs.k), view.keys(&inputs.v));
    let (dout, out, log_sum) = (view.queries(dout), view.queries(&saved.out), view.rows(&saved.log_sum));
    let dq = view.queries(&gradients.q);
    // Sums over the blocks stay in fp32 until the last one is in.
    let dk = Tensor::zeros(k.size(), (Kind::Float, k.device()));
    let dv = Tensor::zeros(v.size(), (Kind::Float, v.device()));
    for (first, count) in view.blocks() {
        let (rows, row_count, keys) = (first * view.group, count * view.group, first + count);
        let block = |tensor: &Tensor| tensor.narrow(1, rows, row_count);
        let (q, dout, out) = (block(&q), block(&dout), block(&out).contiguous());
        let mut p = q.bmm(&k.narrow(1, 0, keys).transpose(1, 2)).contiguous();
        let mut ds = dout.bmm(&v.narrow(1, 0, keys).transpose(1, 2)).contiguous();
        let rows_of =
            Rows { first: first as usize, group: view.group as usize, rows: row_count as usize, scale: scale(view.head_dim) };
        probabilities_and_score_gradients(&mut p, &mut ds, (&dout.contiguous(), &out), &block(&log_sum).contiguous(), rows_of);
        dq.narrow(1, rows, row_count).copy_(&ds.bmm(&k.narrow(1, 0, keys)));
        let _ = dk.narrow(1, 0, keys).g_add_(&ds.transpose(1, 2).bmm(&q));
        let _ = dv.narrow(1, 0, keys).g_add_(&p.transpose(1, 2).bmm(&dout));
    }
    view.keys(&gradients.k).copy_(&dk);
    view.keys(&gradients.v).copy_(&dv);
}

#[derive(Clone, Copy)]
struct Rows {
    first: usize,
    group: usize,
    rows: usize,
    scale: f32,
}

/// Scores → probabilities in `p`, dP → dS in `ds`, row by row in place.
fn probabilities_and_score_gradients(
    p: &mut Tensor,
    ds: &mut Tensor,
    (dout, out): (&Tensor, &Tensor),
    log_sum: &Tensor,
    of: Rows,
) {
    let (keys, width) = (p.size()[2] as usize, out.size()[2] as usize);
    by_element!(p.kind(), A => {
        let (p, ds) = (elements_mut::<A>(p), elements_mut::<A>(ds));
        let (dout, out, log_sum) = (elements::<A>(dout), elements::<A>(out), elements::<f32>(log_sum));
        let rows = p.par_chunks_mut(keys).zip(ds.par_chunks_mut(keys)).zip(dout.par_chunks(width)).zip(out.par_chunks(width));
        rows.zip(log_sum).enumerate().for_each(|(index, ((((p, ds), dout), out), &log_sum))| {
            let visible = of.first + (index % of.rows) / of.group + 1;
            vectorised(#[inline(always)] || {
                let delta = lanes::sum2(dout, out, |dout, out| dout * out);
                for (p, ds) in p[..visible].iter_mut().zip(&mut ds[..visible]) {
                    let probability = lanes::exp(p.widen() * of.scale - log_sum);
                    *ds = A::narrow(probability * (ds.widen() - delta) * of.scale);
                    *p = A::narrow(probability);
                }
                p[visible..].fill(A::narrow(0.0));
                ds[visible..].fill(A::narrow(0.0));
            });
        });
    });
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ops::oracle::{RELATIVE_BF16, assert_close, difference, random};

    const SHAPE: HeadShape = HeadShape { kv_heads: 2, group: 3, head_dim: 16 };

    /// Plain attention of one document over `[K, L · G, E]` and `[K, L, E]`, for autograd.
    fn reference(q: &Tensor, k: &Tensor, v: &Tensor) -> Tensor {
        let (length, group) = (k.size()[1], SHAPE.group as i64);
        let mask = Tensor::ones([length, length], (Kind::Bool, k.device())).tril(0).repeat_interleave_self_int(group, 0, None);
        let scores = q.bmm(&k.transpose(1, 2)) * f64::from(scale(SHAPE.head_dim as i64));
        scores.masked_fill(&mask.logical_not(), f64::NEG_INFINITY).softmax(-1, Kind::Float).bmm(v)
    }

    fn inputs(tokens: i64) -> Inputs {
        let (heads, kv_heads, head_dim) = (6, 2, 16);
        Inputs {
            q: random(&[tokens * heads * head_dim], 1),
            k: random(&[tokens * kv_heads * head_dim], 2),
            v: random(&[tokens * kv_heads * head_dim], 3),
        }
    }

    #[test]
    fn gradients_agree_with_autograd_for_short_and_long_documents() {
        let offsets = [0i64, 1, 8, 72, 73, 373];
        let documents = Documents::new(&offsets, 373).unwrap();
        let inputs = inputs(373);
        let dout = random(&inputs.q.size(), 4);
        let leaves = [&inputs.q, &inputs.k, &inputs.v].map(|input| input.copy().set_requires_grad(true));
        let expected: Vec<Tensor> = documents
            .iter()
            .map(|(start, length)| {
                let view = View::new(SHAPE, start, length);
                reference(&view.queries(&leaves[0]), &view.keys(&leaves[1]), &view.keys(&leaves[2])).reshape([-1])
            })
            .collect();
        let expected = Tensor::cat(&expected, 0);
        (&expected * &dout).sum(Kind::Float).backward();

        let saved = forward(&inputs, &documents, SHAPE);
        assert_close("out", &saved.out, &expected.detach());
        let gradients = backward(&dout, &inputs, &saved, &documents, SHAPE);
        assert_close("dq", &gradients.q, &leaves[0].grad());
        assert_close("dk", &gradients.k, &leaves[1].grad());
        assert_close("dv", &gradients.v, &leaves[2].grad());
    }

    #[test]
    fn bf16_stays_near_fp32_in_both_paths() {
        let documents = Documents::new(&[0, 50, 350], 350).unwrap();
        let exact = inputs(350);
        let dout = random(&exact.q.size(), 4);
        let half = |tensor: &Tensor| tensor.to_kind(Kind::BFloat16);
        let rounded = Inputs { q: half(&exact.q), k: half(&exact.k), v: half(&exact.v) };
        let (saved, saved_half) = (forward(&exact, &documents, SHAPE), forward(&rounded, &documents, SHAPE));
        let gradients = backward(&dout, &exact, &saved, &documents, SHAPE);
        let gradients_half = backward(&half(&dout), &rounded, &saved_half, &documents, SHAPE);
        for (found, expected) in [
            (&saved_half.out, &saved.out),
            (&gradients_half.q, &gradients.q),
            (&gradients_half.k, &gradients.k),
            (&gradients_half.v, &gradients.v),
        ] {
            assert!(difference(found, expected) < RELATIVE_BF16, "{}", difference(found, expected));
        }
    }

    #[test]
    fn a_document_does_not_see_its_neighbour() {
        let inputs = inputs(100);
        let together = forward(&inputs, &Documents::new(&[0, 30, 100], 100).unwrap(), SHAPE);
        let alone = Inputs {
            q: inputs.q.narrow(0, 30 * 96, 70 * 96),
            k: inputs.k.narrow(0, 30 * 32, 70 * 32),
            v: inputs.v.narrow(0, 30 * 32, 70 * 32),
        };
        let alone = forward(&alone, &Documents::single(70), SHAPE);
        assert!(together.out.narrow(0, 30 * 96, 70 * 96).equal(&alone.out));
    }
}
