//! The sizes of a dense Mistral network, and the weights that follow from them.

use serde::Serialize;
use sirocco_config::{ModelSizes, Projection};

/// Sizes as config.json says them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct Model {
    /// Transformer blocks.
    pub layers: u64,
    /// D, the width of the residual stream.
    pub hidden: u64,
    /// H, query heads.
    pub heads: u64,
    /// K, key and value heads.
    pub kv_heads: u64,
    /// E, the width of a head.
    pub head_dim: u64,
    /// F, the width between the feed-forward projections.
    pub intermediate: u64,
    /// V, rows of the embedding.
    pub vocabulary: u64,
    /// Whether the output head is the embedding.
    pub tied: bool,
}

/// One of the seven weights of a block, or the part of it that a rank of a tp axis holds: `[outputs, inputs]`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Linear {
    pub(crate) projection: Projection,
    pub(crate) outputs: u64,
    pub(crate) inputs: u64,
    /// Whether tp divides the outputs (else the inputs).
    pub(crate) by_outputs: bool,
}

impl Linear {
    pub(crate) fn elements(&self) -> u64 {
        self.outputs * self.inputs
    }
}

impl Model {
    /// What a mesh has to fit.
    pub fn sizes(&self) -> ModelSizes {
        let Model { layers, heads, kv_heads, intermediate, vocabulary, .. } = *self;
        ModelSizes { layers, heads, kv_heads, intermediate, vocabulary }
    }

    /// Elements of all weights; a tied head counts once.
    pub fn parameters(&self) -> u64 {
        let block: u64 = self.linears(1).iter().map(Linear::elements).sum::<u64>() + 2 * self.hidden;
        let ends = if self.tied { 1 } else { 2 };
        self.layers * block + ends * self.vocabulary * self.hidden + self.hidden
    }

    /// Key and value heads that each of `tp` ranks holds: where there are more ranks than heads, each head is on several.
    pub(crate) fn kv_heads_of(&self, tp: u64) -> u64 {
        (self.kv_heads / tp).max(1)
    }

    /// The seven weights of a block as each of `tp` ranks holds them, in the order of a forward.
    pub(crate) fn linears(&self, tp: u64) -> [Linear; 7] {
        let queries = self.heads * self.head_dim / tp;
        let keys = self.kv_heads_of(tp) * self.head_dim;
        let (hidden, feed_forward) = (self.hidden, self.intermediate / tp);
        let of = |projection, outputs, inputs, by_outputs| Linear { projection, outputs, inputs, by_outputs };
        [
            of(Projection::Query, queries, hidden, true),
            of(Projection::Key, keys, hidden, true),
            of(Projection::Value, keys, hidden, true),
            of(Projection::Output, hidden, queries, false),
            of(Projection::Gate, feed_forward, hidden, true),
            of(Projection::Up, feed_forward, hidden, true),
            of(Projection::Down, hidden, feed_forward, false),
        ]
    }
}

/// Models that tests of this crate plan for.
#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    /// SmolLM2-135M.
    pub(crate) const SMALL: Model =
        Model { layers: 30, hidden: 576, heads: 9, kv_heads: 3, head_dim: 64, intermediate: 1536, vocabulary: 49152, tied: true };
    /// Mistral-7B v0.3.
    pub(crate) const SEVEN: Model = Model {
        layers: 32,
        hidden: 4096,
        heads: 32,
        kv_heads: 8,
        head_dim: 128,
        intermediate: 14336,
        vocabulary: 32768,
        tied: false,
    };
    /// Mistral Large 2, 123B.
    pub(crate) const LARGE: Model = Model {
        layers: 88,
        hidden: 12288,
        heads: 96,
        kv_heads: 8,
        head_dim: 128,
        intermediate: 28672,
        vocabulary: 32768,
        tied: false,
    };

    #[test]
    fn parameters_are_the_published_ones() {
        assert_eq!(SMALL.parameters(), 134_515_008);
        assert_eq!(SEVEN.parameters(), 7_248_023_552);
        assert_eq!(LARGE.parameters(), 122_610_069_504);
    }

    #[test]
    fn ranks_of_a_tp_axis_share_products_and_repeat_key_heads_when_there_are_too_few() {
        let of = |model: &Model, tp| model.linears(tp).iter().map(Linear::elements).sum::<u64>();
        assert_eq!(4 * of(&SEVEN, 4), of(&SEVEN, 1));
        let repeated = 16 * of(&SEVEN, 16) - of(&SEVEN, 1);
        assert_eq!(repeated, 2 * 8 * 128 * 4096, "keys and values are there twice");
    }
}
