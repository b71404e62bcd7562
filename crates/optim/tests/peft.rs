//! Twenty training steps against PEFT and PyTorch's AdamW from the same start on the same data, in fp32
//! (tests/oracle/make_tiny_mistral.py made the files): forward, backward, clipping, schedule and optimizer together.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::path::{Path, PathBuf};

use safetensors::SafeTensors;
use sirocco_model::weight::FileTensor;
use sirocco_model::{Batch, Dtype, LoraConfig, ModelConfig, Network, Projection, Recompute, Trained};
use sirocco_optim::{AdamW, AdamWConfig, Parameter, Schedule, Shape, clip, sum_of_squares};

/// The project's bound: relative difference of the loss at every step.
const LOSS: f64 = 1e-4;
/// Relative difference of gradient norms.
const NORM: f64 = 1e-3;

const STEPS: usize = 20;

fn directory() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/oracle/tiny-mistral")
}

struct File(Vec<u8>);

impl File {
    fn open(name: &str) -> Self {
        Self(std::fs::read(directory().join(name)).unwrap())
    }

    fn tensor(&self, name: &str) -> FileTensor {
        let view = SafeTensors::deserialize(&self.0).unwrap().tensor(name).unwrap();
        (view.dtype(), view.shape().to_vec(), view.data().to_vec())
    }

    fn doubles(&self, name: &str) -> Vec<f64> {
        self.tensor(name).2.chunks(8).map(|bytes| f64::from_le_bytes(bytes.try_into().unwrap())).collect()
    }

    fn integers(&self, name: &str) -> Vec<i64> {
        self.tensor(name).2.chunks(8).map(|bytes| i64::from_le_bytes(bytes.try_into().unwrap())).collect()
    }

    fn batch(&self, step: usize) -> Batch {
        let part = |name: &str| self.integers(&format!("batch.{step:02}.{name}"));
        Batch::new(part("ids"), part("targets"), &part("offsets"), 320).unwrap()
    }
}

fn base() -> Network {
    let config = ModelConfig::from_json(&std::fs::read_to_string(directory().join("config.json")).unwrap()).unwrap();
    let file = File::open("model.safetensors");
    Network::load(&config, Dtype::Fp32, &mut |name| Ok(file.tensor(name))).unwrap()
}

fn follow(mut network: Network, oracle: &File, peak: f64) {
    // Full fine-tuning sees the same batches; they are stored once, beside the LoRA losses.
    let batches = File::open("lora.safetensors");
    let (losses, norms) = (oracle.doubles("losses"), oracle.doubles("grad_norms"));
    let schedule = Schedule { peak, warmup_steps: 4, steps: STEPS as u64, shape: Shape::Cosine };
    let mut optimizer = AdamW::new(AdamWConfig { beta1: 0.9, beta2: 0.999, epsilon: 1e-8, weight_decay: 0.01 });
    for step in 0..STEPS {
        let batch = batches.batch(step);
        let count = batch.target_count() as f64;
        let loss = network.loss_and_gradients(&batch, 1.0 / count, Recompute::None, &mut ()).unwrap();
        let (found, expected) = (loss.sum / count, losses[step]);
        assert!((found - expected).abs() / expected < LOSS, "step {step}: loss {found}, expected {expected}");
        let norm = network.trained().iter().map(|weight| sum_of_squares(weight.gradient_elements())).sum::<f64>().sqrt();
        assert!((norm - norms[step]).abs() / norms[step] < NORM, "step {step}: norm {norm}, expected {}", norms[step]);

        let names: Vec<String> = network.trained().iter().map(|weight| weight.name().to_string()).collect();
        let mut weights = network.trained_mut();
        let parameters = weights.iter_mut().zip(&names).map(|(weight, name)| {
            let (values, gradient) = weight.master_and_gradient();
            Parameter { name, values, gradient }
        });
        optimizer.step(schedule.rate(step as u64), clip(norm, 1.0), parameters).unwrap();
        for weight in weights {
            weight.master_and_gradient().1.fill(0.0);
            weight.refresh();
        }
    }
}

#[test]
fn lora_follows_peft() {
    let oracle = File::open("lora.safetensors");
    let lora = LoraConfig { rank: 4, scale: 2.0, targets: Projection::ALL.to_vec() };
    let mut network = base();
    network.train(&Trained::Lora(lora, 1));
    for weight in network.trained_mut() {
        let initial = oracle.tensor(&format!("initial.{}", weight.name()));
        weight.restore_from(&initial).unwrap();
    }
    follow(network, &oracle, 2e-2);
}

#[test]
fn full_fine_tuning_follows_pytorch() {
    let mut network = base();
    network.train(&Trained::Full);
    follow(network, &File::open("full.safetensors"), 1e-3);
}
