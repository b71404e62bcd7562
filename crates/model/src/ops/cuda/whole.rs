//! A whole network through the device's operations, emulated, against the CPU's: layouts, work in place and what is kept for the backward.

use tch::{Device, Kind, Tensor};

use crate::ops::oracle::{RELATIVE_BF16, difference, random};
use crate::raw::emulated;
use crate::{Batch, Dtype, LoraConfig, LossSum, ModelConfig, Network, Projection, Recompute, Trained, Whole};

/// Groups of query heads, a head dim that is not D ÷ H, widths that are no multiple of what a thread loads.
fn config(tied: bool) -> ModelConfig {
    ModelConfig {
        layers: 2,
        hidden: 36,
        heads: 4,
        kv_heads: 2,
        head_dim: 12,
        intermediate: 50,
        vocabulary: 70,
        rope_theta: 1e4,
        rms_norm_eps: 1e-5,
        tied,
        context: 64,
        sliding_window: None,
    }
}

/// The network with gradients, and their loss; the loss alone must be the same number.
fn run(tied: bool, dtype: Dtype, trained: &Trained, recompute: Recompute) -> (Network, LossSum) {
    let mut network = Network::absent(&config(tied), dtype, &Whole);
    network.choose(trained, &Whole);
    for (seed, weight) in (1..).zip(network.weights_mut()) {
        let shape = weight.shape();
        let value = random(&shape, seed) * 0.2 + if shape.len() == 1 { 1.0 } else { 0.0 };
        weight.set_value(value.to_kind(dtype.kind())).unwrap();
        if weight.is_trained() {
            weight.set_gradient(Tensor::zeros(&shape, (Kind::Float, Device::Cpu))).unwrap();
        }
    }
    let ids: Vec<i64> = (0..30).map(|token| token * 31 % 70).collect();
    let targets = ids.iter().map(|id| if id % 5 == 0 { -1 } else { (id + 7) % 70 }).collect();
    let batch = Batch::new(ids, targets, &[0, 1, 13, 30], 70).unwrap();
    let loss = network.loss_and_gradients(&batch, 1.0 / 30.0, recompute).unwrap();
    assert_eq!(network.loss(&batch).unwrap().sum, loss.sum);
    (network, loss)
}

#[test]
fn loss_and_gradients_are_those_of_the_cpu() {
    if !emulated::available() {
        return;
    }
    let lora = || Trained::Lora(LoraConfig { rank: 3, scale: 2.0, targets: Projection::ALL.to_vec() });
    for dtype in [Dtype::Fp32, Dtype::Bf16] {
        // The differences of some forty operations add up.
        let allowed = if dtype == Dtype::Fp32 { 1e-4 } else { 5.0 * RELATIVE_BF16 };
        for (tied, trained, recompute) in [
            (false, Trained::Full, Recompute::None),
            (true, Trained::Full, Recompute::Attention),
            (false, lora(), Recompute::Full),
            (true, lora(), Recompute::Attention),
            (false, lora(), Recompute::None),
        ] {
            let (expected, expected_loss) = run(tied, dtype, &trained, recompute);
            let (found, loss) = emulated::instead(|| run(tied, dtype, &trained, recompute));
            assert!((loss.sum / expected_loss.sum - 1.0).abs() < allowed, "{dtype:?} {trained:?} {loss:?} {expected_loss:?}");
            let mut worst = 0.0;
            for (found, expected) in found.weights().zip(expected.weights()) {
                let (Some(gradient), Some(expected)) = (found.gradient(), expected.gradient()) else { continue };
                let difference = difference(gradient, expected);
                assert!(difference <= allowed, "{} {dtype:?} {recompute:?}: {difference:.3e}", found.name());
                worst = difference.max(worst);
            }
            assert!(worst > 0.0, "the device's operations add in another order: these were the CPU's own");
        }
    }
}
