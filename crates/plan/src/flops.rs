//! Operations and bytes of one micro-batch, by class: what a rank does to the blocks and to the head it holds.
//!
//! A product with a weight takes two operations for each element of the weight and each token. Of frozen weights a backward takes the gradient
//! of the input alone, so a token of LoRA costs 4·N, one of full fine-tuning 6·N; attention comes on top.

use sirocco_config::{Parallel, Recompute};

use crate::machine::Kind;
use crate::model::Model;
use crate::work::Work;

/// How much of each class there is to do.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Flops {
    /// Operations of products with weights.
    pub products: f64,
    /// Operations of products that make the gradient of a weight.
    pub gradients: f64,
    /// Operations of attention's products.
    pub attention: f64,
    /// Bytes that products with the factors of LoRA read and write: they are too thin to be anything else.
    pub factors: f64,
    /// Bytes that pass between memory and processor outside of products.
    pub bytes: f64,
}

impl std::ops::Add for Flops {
    type Output = Flops;

    fn add(self, other: Flops) -> Flops {
        Flops {
            products: self.products + other.products,
            gradients: self.gradients + other.gradients,
            attention: self.attention + other.attention,
            factors: self.factors + other.factors,
            bytes: self.bytes + other.bytes,
        }
    }
}

/// Operations of a token by the convention in which shares of peak are published: 4·N for LoRA, 6·N for full fine-tuning, with N all weights;
/// and attention to half of the document, there and (twice as much) back. What is computed again does not count.
pub fn model_flops_per_token(model: &Model, work: &Work) -> f64 {
    let each = if work.is_full() { 6.0 } else { 4.0 };
    let attention = 4.0 * (model.layers * model.heads * model.head_dim) as f64 * work.texture.document / 2.0;
    each * model.parameters() as f64 + 3.0 * attention
}

/// Counts for one rank. `kind` decides how attention goes over a document.
pub(crate) struct Counter<'a> {
    pub(crate) model: &'a Model,
    pub(crate) work: &'a Work,
    pub(crate) parallel: &'a Parallel,
    pub(crate) kind: Kind,
}

impl Counter<'_> {
    fn tokens(&self) -> f64 {
        self.work.micro_batch_tokens() as f64 * self.work.texture.filled
    }

    fn tp(&self) -> f64 {
        self.parallel.tp as f64
    }

    /// Operations of all products with a block's weights in one direction.
    fn products(&self) -> f64 {
        let weights: u64 = self.model.linears(self.parallel.tp).iter().map(|linear| linear.elements()).sum();
        2.0 * weights as f64 * self.tokens()
    }

    /// Attention's two products. The CPU takes queries 128 at a time and lets each see the keys of the last; short documents go row by row.
    fn attention(&self) -> f64 {
        let document = self.work.texture.document;
        let attended = match self.kind {
            Kind::Cpu if document > 64.0 => (document + 128.0).min(2.0 * document) / 2.0,
            _ => (document + 1.0) / 2.0,
        };
        4.0 * (self.model.heads * self.model.head_dim) as f64 / self.tp() * attended * self.tokens()
    }

    /// Elements of `D`, `H·E`, `K·E` and `F` that are read and written for each token, as bytes.
    fn passes(&self, [stream, queries, keys, feed_forward]: [f64; 4]) -> f64 {
        let model = self.model;
        let query_width = (model.heads * model.head_dim) as f64 / self.tp();
        let key_width = (model.kv_heads_of(self.parallel.tp) * model.head_dim) as f64;
        let elements = stream * model.hidden as f64
            + queries * query_width
            + keys * key_width
            + feed_forward * model.intermediate as f64 / self.tp();
        elements * self.work.element() as f64 * self.tokens()
    }

    /// Bytes of the factors' products: `forward` the input and the output once, else the output's gradient twice, the input once and its
    /// gradient once.
    fn factors(&self, forward: bool) -> f64 {
        let linears = self.model.linears(self.parallel.tp);
        let adapted = linears.iter().filter(|linear| self.work.rank_on(linear.projection) > 0);
        let elements: u64 = adapted
            .map(|linear| if forward { linear.inputs + linear.outputs } else { 2 * linear.outputs + 2 * linear.inputs })
            .sum();
        elements as f64 * self.work.element() as f64 * self.tokens()
    }

    /// The forward of a block: norms, rotation, gate and sums beside the products.
    pub(crate) fn block_forward(&self) -> Flops {
        let (factors, bytes) = (self.factors(true), self.passes([9.0, 4.0, 4.0, 3.0]));
        Flops { products: self.products(), attention: self.attention(), factors, bytes, ..Flops::default() }
    }

    /// The backward of a block, with what is computed again.
    pub(crate) fn block_backward(&self) -> Flops {
        let mut own = Flops {
            products: self.products(),
            // Scores again, the gradients of probabilities, values, keys and queries: five products for the forward's two.
            attention: 2.5 * self.attention(),
            factors: self.factors(false),
            bytes: self.passes([17.0, 6.0, 4.0, 5.0]),
            ..Flops::default()
        };
        if self.work.is_full() {
            own.gradients = self.products();
            own.bytes += self.accumulation(self.products() / 2.0 / self.tokens());
        }
        own + self.again()
    }

    /// Adding the product of a micro-batch to `weights` gradients: it is written and read in its own type, they are read and written in fp32.
    fn accumulation(&self, weights: f64) -> f64 {
        let product = if self.work.element() < 4 { 2.0 * self.work.element() as f64 } else { 0.0 };
        weights * (8.0 + product)
    }

    fn again(&self) -> Flops {
        let linears = self.model.linears(self.parallel.tp);
        let forward = self.block_forward();
        let share = |some: &[usize]| {
            let of = |linear: &usize| linears.get(*linear).map_or(0, |linear| linear.elements());
            some.iter().map(of).sum::<u64>() as f64 / linears.iter().map(|linear| linear.elements()).sum::<u64>() as f64
        };
        match self.parallel.recompute {
            Recompute::None => Flops::default(),
            Recompute::Attention => Flops {
                products: forward.products * share(&[0, 1, 2]),
                attention: forward.attention,
                bytes: self.passes([0.0, 4.0, 4.0, 0.0]),
                ..Flops::default()
            },
            // All but the last product, which no backward needs.
            Recompute::Full => Flops { products: forward.products * (1.0 - share(&[6])), ..forward },
        }
    }

    /// Norm, head and loss of the rows with a target, there and back.
    pub(crate) fn head(&self) -> Flops {
        let weights = (self.model.vocabulary * self.model.hidden) as f64 / self.tp();
        let targets = self.tokens() * self.work.texture.targets;
        let one = 2.0 * weights * targets;
        let logits = 5.0 * targets * self.model.vocabulary as f64 / self.tp() * self.work.element() as f64;
        let bytes = logits + self.passes([10.0, 0.0, 0.0, 0.0]);
        match self.work.is_full() {
            false => Flops { products: 2.0 * one, bytes, ..Flops::default() },
            true => {
                let chunks = (targets / 256.0).ceil().max(1.0);
                let rows = if self.kind == Kind::Cpu { chunks } else { 1.0 };
                Flops {
                    products: 2.0 * one,
                    gradients: one,
                    bytes: bytes + rows * self.accumulation(weights),
                    ..Flops::default()
                }
            }
        }
    }

    /// AdamW over so many elements: value, gradient and two moments read, value and moments written, the copy in the base's type written, the
    /// gradient read for its norm and cleared.
    pub(crate) fn optimizer(&self, trained: u64) -> Flops {
        Flops { bytes: trained as f64 * (7.0 * 4.0 + 8.0 + self.work.element() as f64), ..Flops::default() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::mesh::tests::mesh;
    use crate::model::tests::{SEVEN, SMALL};
    use crate::work::Texture;
    use crate::work::tests::{full, lora};

    fn step(model: &Model, work: &Work, recompute: Recompute) -> Flops {
        let parallel = Parallel { recompute, ..mesh(1, 1, 1, 1) };
        let counter = Counter { model, work, parallel: &parallel, kind: Kind::Gpu };
        (0..model.layers).fold(counter.head(), |sum, _| sum + counter.block_forward() + counter.block_backward())
    }

    #[test]
    fn a_token_of_lora_costs_four_operations_a_weight_and_one_of_full_fine_tuning_six() {
        let tokens = lora().micro_batch_tokens() as f64;
        // Norms are not products, nor is the lookup of an embedding that is not also the head.
        let n = (SMALL.parameters() - 61 * 576) as f64;
        let adapter = step(&SMALL, &lora(), Recompute::None);
        assert_eq!((adapter.products, adapter.gradients), (4.0 * n * tokens, 0.0));
        let all = step(&SMALL, &full(), Recompute::None);
        assert_eq!((all.products, all.gradients), (4.0 * n * tokens, 2.0 * n * tokens));
    }

    #[test]
    fn computing_again_costs_a_forward_without_its_last_product() {
        let [none, attention, all] =
            [Recompute::None, Recompute::Attention, Recompute::Full].map(|recompute| step(&SEVEN, &lora(), recompute));
        let tokens = lora().micro_batch_tokens() as f64;
        let down = 2.0 * (4096 * 14336) as f64 * tokens * 32.0;
        let blocks = 2.0 * (SEVEN.parameters() - 2 * 32768 * 4096 - 65 * 4096) as f64 * tokens;
        assert!(((all.products - none.products) / (blocks - down) - 1.0).abs() < 1e-12);
        assert!(attention.products > none.products && attention.products < all.products);
        assert!((all.attention / none.attention - 4.5 / 3.5).abs() < 1e-12);
    }

    #[test]
    fn the_head_is_computed_for_targets_alone_and_attention_for_documents() {
        let mut work = lora();
        let whole = step(&SMALL, &work, Recompute::None);
        work.texture.targets = 0.5;
        let half = step(&SMALL, &work, Recompute::None);
        assert_eq!(whole.products - half.products, 2.0 * (49152 * 576) as f64 * 1024.0);
        work.texture = Texture { document: 32.0, ..work.texture };
        assert!(step(&SMALL, &work, Recompute::None).attention < half.attention / 10.0);
    }

    #[test]
    fn published_shares_of_peak_follow_from_the_formula() {
        // 402 TFLOP/s at 12,473 tokens/s for a model of 8.03e9 weights is 4.01 operations a weight and token (docs/plan.md).
        let eight = Model { vocabulary: 128_256, ..SEVEN };
        let work = Work { texture: Texture { document: 1e-9, targets: 1.0, filled: 1.0 }, ..lora() };
        assert!((model_flops_per_token(&eight, &work) * 12_473.0 / 402e12 - 1.0).abs() < 0.01);
    }
}
