//! Attention by plain products, for exact comparisons in fp32 on any device: the formulas of `ops/attention.rs`, a block of queries at a
//! time, with the query heads of a key/value head as rows of one matrix.

use tch::{Kind, Tensor};

use crate::batch::Documents;

/// Queries of a document that are taken at one time, which bounds the memory of the scores.
const QUERIES: i64 = 512;

/// `q [T, H, E]`, `k`, `v [T, K, E]` → `[T, H, E]` and the logarithms of the normalisers `[T, H]`, fp32.
pub(super) fn forward([q, k, v]: [&Tensor; 3], documents: &Documents) -> (Tensor, Tensor) {
    let out = q.empty_like();
    let log_sum = Tensor::empty(&q.size()[..2], (Kind::Float, q.device()));
    for block in blocks(documents) {
        let (keys, values) = (block.keys(k), block.keys(v));
        let scores = block.scores(&block.rows(q, k.size()[1]), &keys);
        let sums = scores.logsumexp(&[-1i64][..], true);
        let made = (scores - &sums).exp().to_kind(q.kind()).bmm(&values);
        block.of(&out).copy_(&block.tokens(&made));
        block.of(&log_sum.unsqueeze(-1)).copy_(&block.tokens(&sums));
    }
    (out, log_sum)
}

/// The gradients of q, k and v.
pub(super) fn backward(
    dout: &Tensor,
    [q, k, v]: [&Tensor; 3],
    (out, log_sum): (&Tensor, &Tensor),
    documents: &Documents,
) -> [Tensor; 3] {
    let (dq, dk, dv) = (q.zeros_like(), k.zeros_like(), v.zeros_like());
    let kv_heads = k.size()[1];
    let scale = 1.0 / (q.size()[2] as f64).sqrt();
    for block in blocks(documents) {
        let (keys, values, queries) = (block.keys(k), block.keys(v), block.rows(q, kv_heads));
        let (dout, out) = (block.rows(dout, kv_heads), block.rows(out, kv_heads));
        let sums = block.rows(&log_sum.unsqueeze(-1), kv_heads);
        let p = (block.scores(&queries, &keys) - sums).exp();
        let delta = (&dout * &out).to_kind(Kind::Float).sum_dim_intlist(&[-1i64][..], true, Kind::Float);
        let dp = dout.bmm(&values.transpose(1, 2)).to_kind(Kind::Float);
        let ds = (&p * (dp - delta) * scale).to_kind(q.kind());
        block.of(&dq).copy_(&block.tokens(&ds.bmm(&keys)));
        let add = |sum: &Tensor, more: Tensor| {
            let _ = block.seen(sum).g_add_(&more.transpose(0, 1));
        };
        add(&dk, ds.transpose(1, 2).bmm(&queries));
        add(&dv, p.to_kind(q.kind()).transpose(1, 2).bmm(&dout));
    }
    [dq, dk, dv]
}

/// Consecutive queries of one document.
#[derive(Debug, Clone, Copy)]
struct Block {
    /// First token of the document.
    start: i64,
    /// First query, from there.
    first: i64,
    count: i64,
}

fn blocks(documents: &Documents) -> Vec<Block> {
    let of = |(start, length): (usize, usize)| {
        let (start, length) = (start as i64, length as i64);
        let firsts = (0..length).step_by(QUERIES as usize);
        firsts.map(move |first| Block { start, first, count: QUERIES.min(length - first) })
    };
    documents.iter().flat_map(of).collect()
}

impl Block {
    /// This block's tokens of `x [T, …]`.
    fn of(self, x: &Tensor) -> Tensor {
        x.narrow(0, self.start + self.first, self.count)
    }

    /// The tokens of `x [T, …]` that the block's queries see some of.
    fn seen(self, x: &Tensor) -> Tensor {
        x.narrow(0, self.start, self.first + self.count)
    }

    /// Keys or values `[T, K, E]` → `[K, seen, E]`.
    fn keys(self, x: &Tensor) -> Tensor {
        self.seen(x).transpose(0, 1)
    }

    /// `[T, H, E]` → `[K, G · count, E]`.
    fn rows(self, x: &Tensor, kv_heads: i64) -> Tensor {
        let width = x.size()[2];
        self.of(x).view([self.count, kv_heads, -1, width]).permute([1, 2, 0, 3]).reshape([kv_heads, -1, width])
    }

    /// The inverse: `[K, G · count, E]` → `[count, H, E]`.
    fn tokens(self, x: &Tensor) -> Tensor {
        let (kv_heads, width) = (x.size()[0], x.size()[2]);
        x.view([kv_heads, -1, self.count, width]).permute([2, 0, 1, 3]).reshape([self.count, -1, width])
    }

    /// Scaled scores in fp32, −∞ where a key comes after its query: `[K, G · count, seen]`.
    fn scores(self, queries: &Tensor, keys: &Tensor) -> Tensor {
        let (kv_heads, width) = (queries.size()[0], queries.size()[2]);
        let scores = queries.bmm(&keys.transpose(1, 2)).to_kind(Kind::Float) / (width as f64).sqrt();
        let seen = self.first + self.count;
        let hidden = Tensor::ones([self.count, seen], (Kind::Bool, queries.device())).triu(self.first + 1);
        scores.view([kv_heads, -1, self.count, seen]).masked_fill(&hidden, f64::NEG_INFINITY).view([kv_heads, -1, seen])
    }
}

#[cfg(test)]
mod tests {
    use super::super::attention as device;
    use super::*;
    use crate::ops::attention::{self, Inputs};
    use crate::ops::heads::{self, HeadShape};
    use crate::ops::oracle::{assert_close, random};

    #[test]
    fn it_agrees_with_the_cpu_s_attention() {
        let shape = HeadShape { kv_heads: 2, group: 3, head_dim: 16 };
        let keys = HeadShape { group: 1, ..shape };
        let documents = Documents::new(&[0, 1, 8, 80, 700], 700).unwrap();
        let own = Inputs { q: random(&[700 * 96], 1), k: random(&[700 * 32], 2), v: random(&[700 * 32], 3) };
        let dout = random(&[700 * 96], 4);
        let split = |x: &Tensor, shape: HeadShape| heads::split(&x.view([700, -1]), &documents, shape, None);
        let merge = |x: &Tensor, shape: HeadShape| heads::merge(x, &documents, shape, None).view([-1]);
        let cpu = Inputs { q: split(&own.q, shape), k: split(&own.k, keys), v: split(&own.v, keys) };
        let saved = attention::forward(&cpu, &documents, shape);
        let expected = attention::backward(&split(&dout, shape), &cpu, &saved, &documents, shape);

        let (out, log_sum) = device::forward(&own, &documents, shape);
        assert_close("out", &out, &merge(&saved.out, shape));
        let found = device::backward(&dout, &own, (&out, &log_sum), &documents, shape);
        assert_close("dq", &found.q, &merge(&expected.q, shape));
        assert_close("dk", &found.k, &merge(&expected.k, keys));
        assert_close("dv", &found.v, &merge(&expected.v, keys));
    }
}
