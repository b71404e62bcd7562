//! Twenty training steps against PEFT and PyTorch's AdamW from the same start on the same data, in fp32
//! (tests/oracle/make_tiny_mistral.py made the files): forward, backward, clipping, schedule and optimizer together.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::path::{Path, PathBuf};

use safetensors::SafeTensors;
use sirocco_comm::Solo;
use sirocco_model::weight::FileTensor;
use sirocco_model::{Batch, Dtype, LoraConfig, ModelConfig, Projection, Recompute, Trained};
use sirocco_optim::{AdamW, AdamWConfig, Parameter, Schedule, Shape, clip, sum_of_squares};
use sirocco_parallel::{Engine, Mesh, Setup, World};

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

/// One rank's engine on the whole model.
fn engine(trained: Trained) -> Engine {
    let config = ModelConfig::from_json(&std::fs::read_to_string(directory().join("config.json")).unwrap()).unwrap();
    let (mesh, recompute) = (Mesh::new(1, 1, 1, 1).unwrap(), Recompute::None);
    let (dtype, device) = (Dtype::Fp32, tch::Device::Cpu);
    let setup = Setup { config, dtype, trained, seed: 1, mesh, recompute, bucket_bytes: 1 << 20, device };
    let file = File::open("model.safetensors");
    Engine::new(&setup, World::on_host(&Solo::new()), &mut |name, _, piece| {
        let (dtype, _, bytes) = file.tensor(name);
        Ok((dtype, vec![piece.len()], bytes))
    })
    .unwrap()
}

fn follow(mut engine: Engine, oracle: &File, peak: f64) {
    // Full fine-tuning sees the same batches; they are stored once, beside the LoRA losses.
    let batches = File::open("lora.safetensors");
    let (losses, norms) = (oracle.doubles("losses"), oracle.doubles("grad_norms"));
    let schedule = Schedule { peak, warmup_steps: 4, steps: STEPS as u64, shape: Shape::Cosine };
    let mut optimizer = AdamW::new(AdamWConfig { beta1: 0.9, beta2: 0.999, epsilon: 1e-8, weight_decay: 0.01 });
    for step in 0..STEPS {
        let batch = batches.batch(step);
        let count = batch.target_count() as f64;
        let (found, expected) = (engine.gradients(&[batch], 1.0 / count).unwrap() / count, losses[step]);
        assert!((found - expected).abs() / expected < LOSS, "step {step}: loss {found}, expected {expected}");
        let norm = engine.led().map(|shard| sum_of_squares(shard.gradient())).sum::<f64>().sqrt();
        assert!((norm - norms[step]).abs() / norms[step] < NORM, "step {step}: norm {norm}, expected {}", norms[step]);

        let names: Vec<String> = engine.trained_mut().map(|shard| shard.name().to_string()).collect();
        let parameters = engine.trained_mut().zip(&names).map(|(shard, name)| {
            let (values, gradient) = shard.master_and_gradient();
            Parameter { name, values, gradient }
        });
        optimizer.step(schedule.rate(step as u64), clip(norm, 1.0), parameters).unwrap();
        engine.refresh();
    }
}

#[test]
fn lora_follows_peft() {
    let oracle = File::open("lora.safetensors");
    let lora = LoraConfig { rank: 4, scale: 2.0, targets: Projection::ALL.to_vec() };
    let mut engine = engine(Trained::Lora(lora));
    for shard in engine.trained_mut() {
        let (_, _, initial) = oracle.tensor(&format!("initial.{}", shard.name()));
        let values = initial.chunks(4).map(|bytes| f32::from_le_bytes(bytes.try_into().unwrap()));
        shard.master_and_gradient().0.iter_mut().zip(values).for_each(|(to, from)| *to = from);
    }
    engine.refresh();
    follow(engine, &oracle, 2e-2);
}

#[test]
fn full_fine_tuning_follows_pytorch() {
    follow(engine(Trained::Full), &File::open("full.safetensors"), 1e-3);
}
