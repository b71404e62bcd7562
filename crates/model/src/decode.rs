//! Inference: a few new tokens at a time, against the keys and values of those before them.

use tch::{Device, Kind, Tensor};

use crate::ModelError;
use crate::batch::Documents;
use crate::block::{Block, Context};
use crate::network::Network;
use crate::ops::{attention, embedding, rmsnorm};
use crate::placement::Whole;
use crate::weight::Dtype;

/// New tokens that attention takes at one time, which bounds the memory of the scores.
const QUERIES: usize = 128;

/// Tokens that a new cache has room for; it doubles when full.
const FIRST_ROOM: i64 = 256;

/// Keys and values of one sequence, for every block.
#[derive(Debug)]
pub struct KvCache {
    /// One pair a block, each `[K, room, E]`.
    layers: Vec<(Tensor, Tensor)>,
    tokens: usize,
    limit: usize,
}

impl KvCache {
    /// An empty cache for a sequence of at most `limit` tokens.
    pub fn new(network: &Network, limit: usize) -> Self {
        let config = network.config();
        let limit = limit.min(config.longest_document());
        let shape = [config.kv_heads, FIRST_ROOM.min(limit as i64), config.head_dim];
        let empty = || Tensor::empty(shape, (kind(network.dtype), Device::Cpu));
        Self { layers: (0..config.layers).map(|_| (empty(), empty())).collect(), tokens: 0, limit }
    }

    /// Tokens in the cache.
    pub fn tokens(&self) -> usize {
        self.tokens
    }

    /// Makes room for `tokens` tokens in all.
    fn grow(&mut self, tokens: usize) {
        for layer in &mut self.layers {
            for tensor in [&mut layer.0, &mut layer.1] {
                let [heads, room, head_dim] = [0, 1, 2].map(|dim| tensor.size()[dim]);
                if room < tokens as i64 {
                    let wider = Tensor::empty(
                        [heads, (2 * room).max(tokens as i64).min(self.limit as i64), head_dim],
                        (tensor.kind(), Device::Cpu),
                    );
                    wider.narrow(1, 0, self.tokens as i64).copy_(&tensor.narrow(1, 0, self.tokens as i64));
                    *tensor = wider;
                }
            }
        }
    }
}

fn kind(dtype: Dtype) -> Kind {
    dtype.kind()
}

/// Which of the new tokens' logits are wanted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Wanted {
    /// The last one's, to sample from.
    Last,
    /// Every one's, to score a prompt.
    All,
}

impl Network {
    /// Runs `ids` (the next tokens of the cache's sequence) and returns logits, `[1, V]` or `[ids, V]`, fp32.
    ///
    /// # Errors
    /// An id outside the vocabulary, no ids, or more tokens than the cache's limit.
    pub fn decode(&self, ids: &[u32], cache: &mut KvCache, wanted: Wanted) -> Result<Tensor, ModelError> {
        let _no_grad = tch::no_grad_guard();
        let ids: Vec<i64> = ids.iter().map(|&id| i64::from(id)).collect();
        let vocabulary = self.config().vocabulary;
        if let Some((position, &id)) = ids.iter().enumerate().find(|&(_, &id)| id >= vocabulary) {
            return Err(ModelError::TokenId { id, position, vocabulary });
        }
        let (first, new) = (cache.tokens, ids.len());
        if new == 0 {
            return Err(ModelError::Batch { tokens: 0, problem: "nothing to decode".to_string() });
        }
        if first + new > cache.limit {
            return Err(ModelError::ContextFull { found: first + new, limit: cache.limit });
        }
        cache.grow(first + new);
        let table = self.rope_table(first + new);
        let documents = Documents::single(new);
        let (embedding, norm, head) = self.ends()?;
        let context = self.context(&documents, &table, first, &Whole);
        let mut x = embedding::forward(&ids, embedding.value(), 0);
        for (block, layer) in self.blocks.iter().zip(&cache.layers) {
            x = decode_block(block, &x, layer, context);
        }
        cache.tokens += new;
        let x = if wanted == Wanted::Last { x.narrow(0, new as i64 - 1, 1) } else { x };
        let (h, _) = rmsnorm::forward(&x, norm.value(), self.config.rms_norm_eps);
        Ok(h.matmul(&head.value().tr()).to_kind(Kind::Float))
    }
}

fn decode_block(block: &Block, x: &Tensor, (keys, values): &(Tensor, Tensor), context: Context<'_>) -> Tensor {
    let (normal, _) = rmsnorm::forward(x, block.attention_norm.value(), block.eps);
    let (new, _) = block.project(&normal, context);
    let [kv_heads, group, head_dim] =
        [context.shape.kv_heads, context.shape.group, context.shape.head_dim].map(|size| size as i64);
    let (first, count) = (context.rotation.first, context.documents.tokens());
    for (cache, new) in [(keys, &new.k), (values, &new.v)] {
        cache.narrow(1, first as i64, count as i64).copy_(&new.view([kv_heads, count as i64, head_dim]));
    }
    let q = new.q.view([kv_heads, count as i64 * group, head_dim]);
    let out = Tensor::empty_like(&q);
    for start in (0..count).step_by(QUERIES) {
        let length = QUERIES.min(count - start);
        let (rows, row_count, seen) = (start as i64 * group, length as i64 * group, (first + start + length) as i64);
        let (k, v) = (keys.narrow(1, 0, seen), values.narrow(1, 0, seen));
        let (part, _) = attention::attend(&q.narrow(1, rows, row_count), &k, &v, first + start, group as usize);
        out.narrow(1, rows, row_count).copy_(&part);
    }
    block.finish(x, &out.view([-1]), context)
}
