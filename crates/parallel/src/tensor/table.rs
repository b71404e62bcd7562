//! The sharding table: which dim of which weight is split, and by what.
//!
//! A linear is split by its outputs (dim 0 of `[out, in]`) or by its inputs (dim 1), always the two kinds in turn, so that between them
//! no rank needs what another computed (Shoeybi et al. 2019, section 3). Another architecture is another table.

use sirocco_model::{ModelConfig, Slice};

/// What a dim counts, and therefore where it may be cut.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Cut {
    /// Query heads.
    Heads,
    /// Key/value heads; each is on several ranks where there are more ranks than heads.
    KvHeads,
    /// The feed-forward part's width.
    Hidden,
    /// Token ids.
    Vocabulary,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Split {
    /// Every rank holds all of it.
    Whole,
    /// Dim 0: the product's result is split, too.
    Outputs(Cut),
    /// Dim 1: the product's input is split, and its result a partial sum.
    Inputs(Cut),
}

use Cut::{Heads, Hidden, KvHeads, Vocabulary};
use Split::{Inputs, Outputs, Whole};

/// Mistral and Llama, by a part of the weight's name.
const TABLE: [(&str, Split); 12] = [
    ("embed_tokens", Outputs(Vocabulary)),
    ("lm_head", Outputs(Vocabulary)),
    ("q_proj", Outputs(Heads)),
    ("k_proj", Outputs(KvHeads)),
    ("v_proj", Outputs(KvHeads)),
    ("o_proj", Inputs(Heads)),
    ("gate_proj", Outputs(Hidden)),
    ("up_proj", Outputs(Hidden)),
    ("down_proj", Inputs(Hidden)),
    ("input_layernorm", Whole),
    ("post_attention_layernorm", Whole),
    ("model.norm", Whole),
];

/// The sizes by which weights are cut.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct CutSizes {
    heads: i64,
    kv_heads: i64,
    head_dim: i64,
    intermediate: i64,
    vocabulary: i64,
}

impl From<&ModelConfig> for CutSizes {
    fn from(config: &ModelConfig) -> Self {
        let ModelConfig { heads, kv_heads, head_dim, intermediate, vocabulary, .. } = *config;
        Self { heads, kv_heads, head_dim, intermediate, vocabulary }
    }
}

/// The slice of the tensor `name`, whose whole shape is `full`, that place `index` of `count` on the tp axis holds.
///
/// LoRA's factors follow their linear: of one that is split by outputs B `[out, R]` is, of one that is split by inputs A `[R, in]`.
pub(crate) fn slice(sizes: &CutSizes, name: &str, full: &[i64], (index, count): (usize, usize)) -> Slice {
    let split = TABLE.iter().find(|(part, _)| name.contains(part)).map_or(Whole, |(_, split)| *split);
    let (dim, cut) = match split {
        Outputs(cut) if !name.contains("lora_A") => (0, cut),
        Inputs(cut) if !name.contains("lora_B") => (1, cut),
        _ => return Slice::whole(full),
    };
    let (start, length) = sizes.range(cut, index as i64, count as i64);
    Slice { full: full.to_vec(), dim, start, length }
}

impl CutSizes {
    /// Start and length of one place's share of a dim.
    fn range(&self, cut: Cut, index: i64, count: i64) -> (i64, i64) {
        let (entries, width) = match cut {
            Heads => (self.heads, self.head_dim),
            KvHeads => (self.kv_heads, self.head_dim),
            Hidden => (self.intermediate, 1),
            Vocabulary => (self.vocabulary, 1),
        };
        // With more places than entries (key/value heads alone may be fewer), neighbours hold the same one.
        let start = index * entries / count;
        let length = (entries / count).max(1);
        (start * width, length * width)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SIZES: CutSizes = CutSizes { heads: 8, kv_heads: 2, head_dim: 4, intermediate: 24, vocabulary: 40 };

    fn ranges(name: &str, full: &[i64], count: usize) -> Vec<(usize, i64, i64)> {
        let held = |index| slice(&SIZES, name, full, (index, count));
        (0..count).map(held).map(|slice| (slice.dim, slice.start, slice.length)).collect()
    }

    #[test]
    fn linears_are_split_by_outputs_and_inputs_in_turn() {
        assert_eq!(ranges("model.layers.0.self_attn.q_proj.weight", &[32, 16], 2), [(0, 0, 16), (0, 16, 16)]);
        assert_eq!(ranges("model.layers.0.self_attn.o_proj.weight", &[16, 32], 2), [(1, 0, 16), (1, 16, 16)]);
        assert_eq!(ranges("model.layers.0.mlp.down_proj.weight", &[16, 24], 3), [(1, 0, 8), (1, 8, 8), (1, 16, 8)]);
        assert_eq!(ranges("model.embed_tokens.weight", &[40, 16], 4)[3], (0, 30, 10));
        assert!(slice(&SIZES, "model.layers.0.input_layernorm.weight", &[16], (1, 4)).is_whole());
    }

    #[test]
    fn key_value_heads_are_shared_by_neighbours_where_there_are_more_ranks_than_heads() {
        let name = "model.layers.0.self_attn.k_proj.weight";
        assert_eq!(ranges(name, &[8, 16], 2), [(0, 0, 4), (0, 4, 4)]);
        assert_eq!(ranges(name, &[8, 16], 4), [(0, 0, 4), (0, 0, 4), (0, 4, 4), (0, 4, 4)]);
        // Each rank's query heads belong to its key/value head: heads 2 and 3 of 8 to the first of 2.
        assert_eq!(ranges("model.layers.0.self_attn.q_proj.weight", &[32, 16], 4)[1], (0, 8, 8));
    }

    #[test]
    fn factors_follow_their_linear() {
        let factor = |linear: &str, factor: &str, full: &[i64]| {
            slice(&SIZES, &format!("base_model.model.model.layers.0.x.{linear}.lora_{factor}.weight"), full, (1, 2))
        };
        assert!(factor("up_proj", "A", &[4, 16]).is_whole());
        assert_eq!(factor("up_proj", "B", &[24, 4]).shape(), [12, 4]);
        assert_eq!(factor("down_proj", "A", &[4, 24]).shape(), [4, 12]);
        assert!(factor("down_proj", "B", &[16, 4]).is_whole());
    }
}
