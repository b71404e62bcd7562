//! LoRA (Hu et al. 2021, section 4.1): a linear's output gains s · (x · Aᵀ) · Bᵀ with A `[R, in]`, B `[out, R]`, s = α ÷ R.

use tch::Tensor;

use crate::placement::Placement;
use crate::weight::{Origin, Weight};

/// The seven linears of a block.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Projection {
    /// Queries.
    Q,
    /// Keys.
    K,
    /// Values.
    V,
    /// Attention's output.
    O,
    /// The gate of the feed-forward part.
    Gate,
    /// What is gated.
    Up,
    /// Back to the residual stream.
    Down,
}

impl Projection {
    /// All seven, in the order of a forward.
    pub const ALL: [Self; 7] = [Self::Q, Self::K, Self::V, Self::O, Self::Gate, Self::Up, Self::Down];

    /// The name in PEFT's `target_modules`.
    pub fn name(self) -> &'static str {
        match self {
            Self::Q => "q_proj",
            Self::K => "k_proj",
            Self::V => "v_proj",
            Self::O => "o_proj",
            Self::Gate => "gate_proj",
            Self::Up => "up_proj",
            Self::Down => "down_proj",
        }
    }

    /// Finds a projection by [`Projection::name`].
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|projection| projection.name() == name)
    }

    /// The module's full name in Hugging Face's layout, without `.weight`.
    pub fn module(self, layer: usize) -> String {
        let part = match self {
            Self::Q | Self::K | Self::V | Self::O => "self_attn",
            Self::Gate | Self::Up | Self::Down => "mlp",
        };
        format!("model.layers.{layer}.{part}.{}", self.name())
    }
}

/// What to adapt, and how strongly.
#[derive(Debug, Clone, PartialEq)]
pub struct LoraConfig {
    /// R.
    pub rank: usize,
    /// s, as multiplied: α ÷ R, or α ÷ √R for rank-stabilised adapters.
    pub scale: f64,
    /// Which linears.
    pub targets: Vec<Projection>,
}

/// The two factors on one linear.
#[derive(Debug)]
pub struct Lora {
    /// A, `[R, in]`.
    pub a: Weight,
    /// B, `[out, R]`.
    pub b: Weight,
    /// s.
    pub scale: f64,
}

impl Lora {
    /// Factors that are not here yet, on the linear `module` whose whole weight is `[out, in]`. Fresh ones have A uniform in ±1/√in
    /// (PEFT's Kaiming initialisation with a = √5) and B zero, so that the network starts as the base.
    pub(crate) fn absent(module: &str, (outputs, inputs): (i64, i64), config: &LoraConfig, placement: &dyn Placement) -> Self {
        let [a_name, b_name] = factor_names(module);
        let rank = config.rank as i64;
        let a = placement.slice(&a_name, &[rank, inputs]);
        let b = placement.slice(&b_name, &[outputs, rank]);
        let bound = 1.0 / (inputs as f64).sqrt();
        Self {
            a: Weight::absent(a_name, a, Origin::Uniform(bound)),
            b: Weight::absent(b_name, b, Origin::Zero),
            scale: config.scale,
        }
    }
}

/// W + s · B · A in fp32: what a merged model holds. `base [out, in]`, `a [R, in]`, `b [out, R]`.
pub fn merge(base: &Tensor, (a, b): (&Tensor, &Tensor), scale: f64) -> Tensor {
    let [base, a, b] = [base, a, b].map(|tensor| tensor.to_kind(tch::Kind::Float));
    base + b.matmul(&a) * scale
}

/// PEFT's names of the two factors on a module.
pub fn factor_names(module: &str) -> [String; 2] {
    ["A", "B"].map(|factor| format!("base_model.model.{module}.lora_{factor}.weight"))
}

/// Uniform numbers in ±bound. They depend on the seed and the name alone: every replica draws the same.
pub fn uniform(seed: u64, name: &str, count: usize, bound: f64) -> Vec<f32> {
    // FNV-1a over the name, so that each weight has its own sequence.
    let hash = name.bytes().fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3));
    let mut state = splitmix(seed) ^ hash;
    (0..count)
        .map(|_| {
            state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
            let unit = (splitmix(state) >> 11) as f64 / (1u64 << 53) as f64;
            ((2.0 * unit - 1.0) * bound) as f32
        })
        .collect()
}

/// The output function of SplitMix64 (Steele, Lea and Flood 2014).
pub(crate) fn splitmix(state: u64) -> u64 {
    let mut z = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::placement::Whole;

    #[test]
    fn fresh_factors_are_a_pure_function_of_seed_and_name() {
        let first = uniform(1, "q", 400, 0.1);
        assert_eq!(first, uniform(1, "q", 400, 0.1));
        assert_ne!(first, uniform(2, "q", 400, 0.1));
        assert_ne!(first, uniform(1, "k", 400, 0.1));
        let largest = first.iter().fold(0.0f32, |largest, x| largest.max(x.abs()));
        assert!(largest <= 0.1 && largest > 0.09, "{largest}");
    }

    #[test]
    fn fresh_factors_start_as_the_base() {
        let config = LoraConfig { rank: 4, scale: 2.0, targets: vec![] };
        let lora = Lora::absent("q", (6, 100), &config, &Whole);
        assert_eq!((lora.a.origin(), lora.b.origin()), (Origin::Uniform(0.1), Origin::Zero));
        assert_eq!((lora.a.shape(), lora.b.shape()), (vec![4, 100], vec![6, 4]));
    }
}
