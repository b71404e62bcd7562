//! LoRA (Hu et al. 2021, section 4.1): a linear's output gains s · (x · Aᵀ) · Bᵀ with A `[R, in]`, B `[out, R]`, s = α ÷ R.

use tch::Tensor;

use crate::weight::{Dtype, Weight, from_file};
use crate::{ModelError, Source};

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
    /// Fresh factors: A uniform in ±1/√in (PEFT's Kaiming initialisation with a = √5), B zero, so that the network starts as the base.
    /// The numbers depend on the seed and the name alone: every replica draws the same.
    pub(crate) fn fresh(module: &str, (outputs, inputs): (i64, i64), config: &LoraConfig, (seed, dtype): (u64, Dtype)) -> Self {
        let [a_name, b_name] = factor_names(module);
        let bound = 1.0 / (inputs as f64).sqrt();
        let a = uniform(seed, &a_name, config.rank * inputs as usize, bound).view([config.rank as i64, inputs]);
        let b = Tensor::zeros([outputs, config.rank as i64], (tch::Kind::Float, tch::Device::Cpu));
        Self { a: Weight::trained(a_name, a, dtype), b: Weight::trained(b_name, b, dtype), scale: config.scale }
    }

    /// Factors from an adapter's file, for inference.
    pub(crate) fn load(
        module: &str,
        (outputs, inputs): (i64, i64),
        config: &LoraConfig,
        source: (Source<'_>, Dtype),
    ) -> Result<Self, ModelError> {
        let (source, dtype) = source;
        let rank = config.rank as i64;
        let mut factor = |name: String, shape: [i64; 2]| {
            let stored = source(&name).map_err(|reason| ModelError::Source { name: name.clone(), reason: reason.to_string() })?;
            let value = from_file(&name, &stored, &shape, dtype.kind())?;
            Ok::<_, ModelError>(Weight::frozen(name, value))
        };
        let [a_name, b_name] = factor_names(module);
        Ok(Self { a: factor(a_name, [rank, inputs])?, b: factor(b_name, [outputs, rank])?, scale: config.scale })
    }
}

/// PEFT's names of the two factors on a module.
fn factor_names(module: &str) -> [String; 2] {
    ["A", "B"].map(|factor| format!("base_model.model.{module}.lora_{factor}.weight"))
}

/// Uniform numbers in ±bound, drawn from the seed and the name.
fn uniform(seed: u64, name: &str, count: usize, bound: f64) -> Tensor {
    // FNV-1a over the name, so that each weight has its own sequence.
    let hash = name.bytes().fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3));
    let mut state = splitmix(seed) ^ hash;
    let values: Vec<f32> = (0..count)
        .map(|_| {
            state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
            let unit = (splitmix(state) >> 11) as f64 / (1u64 << 53) as f64;
            ((2.0 * unit - 1.0) * bound) as f32
        })
        .collect();
    Tensor::from_slice(&values)
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

    #[test]
    fn fresh_factors_are_a_pure_function_of_seed_and_name_and_b_is_zero() {
        let config = LoraConfig { rank: 4, scale: 2.0, targets: Projection::ALL.to_vec() };
        let make = |seed, module: &str| Lora::fresh(module, (6, 100), &config, (seed, Dtype::Fp32));
        let (first, same) = (make(1, "q"), make(1, "q"));
        assert!(first.a.value().equal(same.a.value()));
        assert!(!first.a.value().equal(make(2, "q").a.value()));
        assert!(!first.a.value().equal(make(1, "k").a.value()));
        assert_eq!(first.b.value().abs().max().double_value(&[]), 0.0);
        let largest = first.a.value().abs().max().double_value(&[]);
        assert!(largest <= 0.1 && largest > 0.09, "{largest}");
    }

    #[test]
    fn master_copies_keep_what_bf16_rounds() {
        let config = LoraConfig { rank: 4, scale: 2.0, targets: vec![] };
        let lora = Lora::fresh("q", (6, 100), &config, (1, Dtype::Bf16));
        let exact = Lora::fresh("q", (6, 100), &config, (1, Dtype::Fp32));
        assert!(lora.a.master().unwrap().equal(exact.a.value()));
        assert_eq!(lora.a.value().kind(), tch::Kind::BFloat16);
    }
}
