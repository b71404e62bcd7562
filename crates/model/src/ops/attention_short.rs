//! Attention for short documents: plain loops in fp32, one task for each document and key/value head.
//!
//! Packed chats are dozens of documents of a few dozen tokens; for those the calls into a matrix library would cost more than the work.
//! Keys and values are transposed first, so that every inner loop runs along memory.

use rayon::prelude::*;
use tch::Tensor;

use super::attention::Inputs;
use super::heads::HeadShape;
use super::{by_element, lanes};
use crate::batch::Documents;
use crate::raw::{Element, elements, elements_mut, vectorised};

/// Which documents: all of the batch up to a length.
pub(super) type Of<'a> = (&'a Documents, HeadShape, usize);

/// Fills `out` and `log_sum` (head layout) for the documents of at most `of.2` tokens.
pub(super) fn forward(inputs: &Inputs, out: &mut Tensor, log_sum: &mut Tensor, of: Of<'_>) {
    let shape = of.1;
    by_element!(inputs.q.kind(), A => {
        let (q, k, v) = (elements::<A>(&inputs.q), elements::<A>(&inputs.k), elements::<A>(&inputs.v));
        let outs = heads_mut(elements_mut::<A>(out), shape.group * shape.head_dim, of);
        let sums = heads_mut(elements_mut::<f32>(log_sum), shape.group, of);
        outs.into_par_iter().zip(sums).for_each(|((head, out), (_, sums))| {
            let (q, k, v) = (head.queries(q, shape), head.keys(k, shape), head.keys(v, shape));
            vectorised(#[inline(always)] || forward_head(&Head { q, k, v, shape }, out, sums));
        });
    });
}

/// Fills the gradients (head layout) for the documents of at most `of.2` tokens.
pub(super) fn backward(dout: &Tensor, inputs: &Inputs, (out, log_sum): (&Tensor, &Tensor), gradients: &mut Inputs, of: Of<'_>) {
    let shape = of.1;
    by_element!(inputs.q.kind(), A => {
        let (q, k, v) = (elements::<A>(&inputs.q), elements::<A>(&inputs.k), elements::<A>(&inputs.v));
        let (dout, out, log_sum) = (elements::<A>(dout), elements::<A>(out), elements::<f32>(log_sum));
        let dq = heads_mut(elements_mut::<A>(&mut gradients.q), shape.group * shape.head_dim, of);
        let dk = heads_mut(elements_mut::<A>(&mut gradients.k), shape.head_dim, of);
        let dv = heads_mut(elements_mut::<A>(&mut gradients.v), shape.head_dim, of);
        dq.into_par_iter().zip(dk).zip(dv).for_each(|(((at, dq), (_, dk)), (_, dv))| {
            let head = Head { q: at.queries(q, shape), k: at.keys(k, shape), v: at.keys(v, shape), shape };
            let (dout, out) = (at.queries(dout, shape), at.queries(out, shape));
            let log_sum = &log_sum[at.base(shape.group, shape)..][..at.length * shape.group];
            vectorised(#[inline(always)] || backward_head(&head, (dout, out, log_sum), (dq, dk, dv)));
        });
    });
}

/// One key/value head of one document.
#[derive(Clone, Copy)]
struct At {
    start: usize,
    length: usize,
    kv_head: usize,
}

impl At {
    /// Where this head begins in a flat tensor with `width` elements for each token of the head.
    fn base(&self, width: usize, shape: HeadShape) -> usize {
        (self.start * shape.kv_heads + self.kv_head * self.length) * width
    }

    fn queries<'a, A>(&self, flat: &'a [A], shape: HeadShape) -> &'a [A] {
        let width = shape.group * shape.head_dim;
        &flat[self.base(width, shape)..][..self.length * width]
    }

    fn keys<'a, A>(&self, flat: &'a [A], shape: HeadShape) -> &'a [A] {
        &flat[self.base(shape.head_dim, shape)..][..self.length * shape.head_dim]
    }
}

/// The memory of each head of the short documents, `width` elements a token.
fn heads_mut<'a, A>(flat: &'a mut [A], width: usize, (documents, shape, longest): Of<'_>) -> Vec<(At, &'a mut [A])> {
    let mut heads = Vec::new();
    let mut rest = flat;
    for (start, length) in documents.iter() {
        let (document, after) = rest.split_at_mut(length * shape.kv_heads * width);
        rest = after;
        if length <= longest {
            let parts = document.chunks_mut(length * width).enumerate();
            heads.extend(parts.map(|(kv_head, part)| (At { start, length, kv_head }, part)));
        }
    }
    heads
}

struct Head<'a, A> {
    q: &'a [A],
    k: &'a [A],
    v: &'a [A],
    shape: HeadShape,
}

impl<A: Element> Head<'_, A> {
    #[inline(always)]
    fn scale(&self) -> f32 {
        1.0 / (self.shape.head_dim as f32).sqrt()
    }
}

/// `[L, E]` → `[E, L]` in fp32.
#[inline(always)]
fn transposed<A: Element>(rows: &[A], head_dim: usize) -> Vec<f32> {
    let length = rows.len() / head_dim;
    let mut columns = vec![0.0f32; rows.len()];
    for (token, row) in rows.chunks(head_dim).enumerate() {
        for (dim, value) in row.iter().enumerate() {
            columns[dim * length + token] = value.widen();
        }
    }
    columns
}

/// out[j] = Σ_E row[e] · columns[e][j] for the first `out.len()` columns.
#[inline(always)]
fn times_columns<A: Element>(row: &[A], columns: &[f32], length: usize, out: &mut [f32]) {
    out.fill(0.0);
    for (value, column) in row.iter().zip(columns.chunks(length)) {
        let value = value.widen();
        out.iter_mut().zip(column).for_each(|(out, column)| *out += value * column);
    }
}

#[inline(always)]
fn forward_head<A: Element>(head: &Head<'_, A>, out: &mut [A], log_sums: &mut [f32]) {
    let (group, head_dim) = (head.shape.group, head.shape.head_dim);
    let length = head.k.len() / head_dim;
    let keys = transposed(head.k, head_dim);
    let mut scores = vec![0.0f32; length];
    let mut sum = vec![0.0f32; head_dim];
    for (row, ((q, out), log_sum)) in head.q.chunks(head_dim).zip(out.chunks_mut(head_dim)).zip(log_sums).enumerate() {
        let scores = &mut scores[..row / group + 1];
        times_columns(q, &keys, length, scores);
        let highest = lanes::max(scores) * head.scale();
        scores.iter_mut().for_each(|score| *score = lanes::exp(*score * head.scale() - highest));
        let normaliser = lanes::sum(scores, |score| score);
        *log_sum = highest + normaliser.ln();
        sum.fill(0.0);
        for (&p, v) in scores.iter().zip(head.v.chunks(head_dim)) {
            sum.iter_mut().zip(v).for_each(|(sum, v)| *sum += p * v.widen());
        }
        out.iter_mut().zip(&sum).for_each(|(out, sum)| *out = A::narrow(sum / normaliser));
    }
}

#[inline(always)]
fn backward_head<A: Element>(
    head: &Head<'_, A>,
    (dout, out, log_sums): (&[A], &[A], &[f32]),
    (dq, dk_out, dv_out): (&mut [A], &mut [A], &mut [A]),
) {
    let (group, head_dim) = (head.shape.group, head.shape.head_dim);
    let length = head.k.len() / head_dim;
    let (keys, values) = (transposed(head.k, head_dim), transposed(head.v, head_dim));
    let (mut dk, mut dv) = (vec![0.0f32; length * head_dim], vec![0.0f32; length * head_dim]);
    let (mut p, mut ds, mut sum) = (vec![0.0f32; length], vec![0.0f32; length], vec![0.0f32; head_dim]);
    let rows = head.q.chunks(head_dim).zip(dout.chunks(head_dim)).zip(out.chunks(head_dim)).zip(log_sums);
    for (row, ((((q, dout), out), log_sum), dq)) in rows.zip(dq.chunks_mut(head_dim)).enumerate() {
        let (p, ds) = (&mut p[..row / group + 1], &mut ds[..row / group + 1]);
        times_columns(q, &keys, length, p);
        times_columns(dout, &values, length, ds);
        let delta = lanes::sum2(dout, out, |dout, out| dout * out);
        for (p, ds) in p.iter_mut().zip(ds.iter_mut()) {
            *p = lanes::exp(*p * head.scale() - log_sum);
            *ds = *p * (*ds - delta) * head.scale();
        }
        sum.fill(0.0);
        for ((&p, &ds), (key, (dk, dv))) in
            p.iter().zip(ds.iter()).zip(head.k.chunks(head_dim).zip(dk.chunks_mut(head_dim).zip(dv.chunks_mut(head_dim))))
        {
            sum.iter_mut().zip(key).for_each(|(sum, key)| *sum += ds * key.widen());
            dk.iter_mut().zip(q).for_each(|(dk, q)| *dk += ds * q.widen());
            dv.iter_mut().zip(dout).for_each(|(dv, dout)| *dv += p * dout.widen());
        }
        dq.iter_mut().zip(&sum).for_each(|(dq, &sum)| *dq = A::narrow(sum));
    }
    dk_out.iter_mut().zip(&dk).for_each(|(out, &dk)| *out = A::narrow(dk));
    dv_out.iter_mut().zip(&dv).for_each(|(out, &dv)| *out = A::narrow(dv));
}
