//! Networks of random weights, made on the device that they are to run on.

use sirocco_model::{Dtype, LoraConfig, ModelConfig, Network, Projection, Trained, Whole};
use tch::{Device, Kind, Tensor};

use super::compare::seeded;
use crate::failure::Failure;

/// Mistral 7B v0.3, or as many of its blocks.
pub(super) fn mistral_7b(layers: usize) -> ModelConfig {
    ModelConfig {
        layers,
        hidden: 4096,
        heads: 32,
        kv_heads: 8,
        head_dim: 128,
        intermediate: 14_336,
        vocabulary: 32_768,
        rope_theta: 1e6,
        rms_norm_eps: 1e-5,
        tied: false,
        context: 32_768,
        sliding_window: None,
    }
}

/// Small enough for the CPU, with every feature of the large ones: groups of query heads, a head dim that is not D ÷ H.
pub(super) fn small() -> ModelConfig {
    ModelConfig {
        layers: 2,
        hidden: 96,
        heads: 6,
        kv_heads: 2,
        head_dim: 32,
        intermediate: 200,
        vocabulary: 160,
        ..mistral_7b(2)
    }
}

/// LoRA on all seven projections.
pub(super) fn lora(rank: usize) -> Trained {
    Trained::Lora(LoraConfig { rank, scale: 2.0, targets: Projection::ALL.to_vec() })
}

/// Parameters of the base.
pub(super) fn parameters(config: &ModelConfig) -> f64 {
    let ModelConfig { hidden: d, heads, kv_heads, head_dim, intermediate: f, vocabulary, .. } = *config;
    let block = d * head_dim * 2 * (heads + kv_heads) + 3 * d * f + 2 * d;
    let ends = vocabulary * d * if config.tied { 1 } else { 2 } + d;
    (block * config.layers as i64 + ends) as f64
}

/// How the random numbers of a network are made.
#[derive(Debug, Clone, Copy)]
pub(super) struct Draw {
    /// Where the weights are to be.
    pub(super) device: Device,
    /// Where they are drawn: two networks drawn in one place are the same.
    pub(super) drawn_on: Device,
}

/// A network of random weights, ready to be trained: gradients at zero.
pub(super) fn network(config: &ModelConfig, dtype: Dtype, trained: &Trained, draw: Draw) -> Result<Network, Failure> {
    let mut network = Network::absent(config, dtype, &Whole);
    network.choose(trained, &Whole);
    let spread = 1.0 / (config.hidden as f64).sqrt();
    let _drawing = seeded(1);
    for weight in network.weights_mut() {
        let shape = weight.shape();
        let normal = Tensor::randn(&shape, (dtype.kind(), draw.drawn_on)).g_mul_scalar_(spread);
        // The norms' weights are about one.
        let value = if shape.len() == 1 { normal + 1.0 } else { normal };
        weight.set_value(value.to_device(draw.device)).map_err(Failure::model)?;
        if weight.is_trained() {
            weight.set_gradient(Tensor::zeros(&shape, (Kind::Float, draw.device))).map_err(Failure::model)?;
        }
    }
    Ok(network)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_count_of_parameters_is_that_of_the_weights() {
        assert_eq!(parameters(&mistral_7b(32)), 7_248_023_552.0);
        let draw = Draw { device: Device::Cpu, drawn_on: Device::Cpu };
        let whole = network(&small(), Dtype::Fp32, &Trained::Full, draw).unwrap();
        let held: i64 = whole.weights().map(|weight| weight.shape().iter().product::<i64>()).sum();
        assert_eq!(parameters(&small()), held as f64);
        let adapted = network(&small(), Dtype::Fp32, &lora(4), draw).unwrap();
        assert_eq!(adapted.weights().filter(|weight| weight.is_trained()).count(), 2 * 2 * 7);
    }
}
