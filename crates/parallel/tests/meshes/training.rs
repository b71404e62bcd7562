//! Ten steps on a mesh, and their comparison with ten steps on one rank.

use std::collections::BTreeMap;

use sirocco_comm::Communicator;
use sirocco_model::{Dtype, Recompute, Slice};
use sirocco_optim::{AdamW, AdamWConfig, Parameter, clip, sum_of_squares};
use sirocco_parallel::{Engine, Mesh, Setup, World};
use tch::{Device, Kind, Tensor};

use crate::material::{GLOBAL_BATCH, Material, Method};

/// The project's bound for a mesh against one rank, in fp32: relative difference of the loss, and of each weight's gradient (largest
/// difference ÷ largest element), at each of ten steps.
const RELATIVE: f64 = 1e-5;
const STEPS: usize = 10;

/// How a step is worked through.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Way {
    pub(crate) mesh: Mesh,
    pub(crate) micro_batch: usize,
    pub(crate) recompute: Recompute,
    pub(crate) bucket_bytes: usize,
    /// A rank's whole share in one micro-batch.
    pub(crate) together: bool,
}

impl Way {
    pub(crate) fn alone() -> Self {
        let mesh = Mesh::new(1, 1, 1, 1).unwrap();
        Self { mesh, micro_batch: 3, recompute: Recompute::None, bucket_bytes: 10_000, together: false }
    }
}

/// A piece of a weight's gradient.
struct Gradient {
    slice: Slice,
    piece: std::ops::Range<usize>,
    elements: Vec<f32>,
}

/// What came of a step.
pub(crate) struct Step {
    loss: f64,
    norm: f64,
    /// By name: this rank's pieces.
    gradients: BTreeMap<String, Gradient>,
}

/// Ten steps of AdamW with clipping.
pub(crate) fn train(material: &Material, method: Method, way: Way, world: &dyn Communicator) -> Vec<Step> {
    let setup = Setup {
        config: material.config.clone(),
        dtype: Dtype::Fp32,
        trained: method.trained(),
        seed: 7,
        mesh: way.mesh,
        recompute: way.recompute,
        bucket_bytes: way.bucket_bytes,
        device: Device::Cpu,
    };
    let mut engine =
        Engine::new(&setup, World::on_host(world), &mut |name, slice, piece| material.piece(name, slice, piece)).unwrap();
    as_after_some_training(&mut engine);
    let mut optimizer = AdamW::new(AdamWConfig { beta1: 0.9, beta2: 0.999, epsilon: 1e-8, weight_decay: 0.01 });
    (0..STEPS)
        .map(|step| {
            let targets = material.targets(step) as f64;
            let micro_batch = if way.together { GLOBAL_BATCH } else { way.micro_batch };
            let batches = material.batches(step, engine.data_share(), micro_batch);
            let loss = engine.gradients(&batches, 1.0 / targets).unwrap();
            let squares: f64 = engine.led().map(|shard| sum_of_squares(shard.gradient())).sum();
            let sums = world.all_reduce_f64("step", vec![loss, squares]).wait().unwrap();
            let (loss, norm) = (sums[0] / targets, sums[1].sqrt());
            let gradient = |shard: &sirocco_parallel::Shard| {
                let (slice, piece, elements) = (shard.slice().clone(), shard.piece(), shard.gradient().to_vec());
                (shard.name().to_string(), Gradient { slice, piece, elements })
            };
            let gradients = engine.shards().iter().filter(|shard| shard.is_trained()).map(gradient).collect();
            let names: Vec<String> = engine.trained_mut().map(|shard| shard.name().to_string()).collect();
            let parameters = engine.trained_mut().zip(&names).map(|(shard, name)| {
                let (values, gradient) = shard.master_and_gradient();
                Parameter { name, values, gradient }
            });
            optimizer.step(method.learning_rate(), clip(norm, 1.0), parameters).unwrap();
            engine.refresh();
            // What an evaluation sees must be what training sees.
            if step == 0 || step + 1 == STEPS {
                let batches = material.batches(step, engine.data_share(), micro_batch);
                let held_out = world.all_reduce_f64("held out", vec![engine.loss(&batches).unwrap()]).wait().unwrap();
                assert!(held_out[0] / targets < loss, "a step should lower the loss of its own batch");
            }
            Step { loss, norm, gradients }
        })
        .collect()
}

/// Gives the factors B values that depend on each element's place in the whole tensor. Zero, as they start, they leave A without a
/// gradient; and one step later, A's gradient would be made of AdamW's first step, which turns fp32's rounding of small gradients of B
/// into whole steps.
fn as_after_some_training(engine: &mut Engine) {
    for shard in engine.trained_mut().filter(|shard| shard.name().contains("lora_B")) {
        let (slice, piece) = (shard.slice().clone(), shard.piece());
        let width = slice.full[1] as usize;
        let first = slice.start as usize * width + piece.start;
        let (values, _) = shard.master_and_gradient();
        values.iter_mut().enumerate().for_each(|(index, value)| *value = ((first + index) % 7) as f32 * 0.02 - 0.05);
    }
    engine.refresh();
}

/// The part of a whole gradient that a piece covers.
fn part_of(whole: &Gradient, part: &Gradient) -> Vec<f32> {
    let slice = &part.slice;
    let whole = Tensor::from_slice(&whole.elements).view(&slice.full[..]);
    let cut = whole.narrow(slice.dim as i64, slice.start, slice.length).contiguous().view([-1]);
    let mut elements = vec![0.0; part.piece.len()];
    cut.narrow(0, part.piece.start as i64, part.piece.len() as i64)
        .to_kind(Kind::Float)
        .to_device(Device::Cpu)
        .copy_data(&mut elements, part.piece.len());
    elements
}

/// Fails where a mesh's loss, norm or any gradient is not that of one rank.
pub(crate) fn assert_same(alone: &[Step], meshed: &[Step], what: &str) {
    let difference = |a: f64, b: f64| (a - b).abs() / a.abs();
    for (step, (alone, meshed)) in alone.iter().zip(meshed).enumerate() {
        let (loss, norm) = (difference(alone.loss, meshed.loss), difference(alone.norm, meshed.norm));
        assert!(loss <= RELATIVE, "{what}, step {step}: loss {} against {}: {loss:e}", meshed.loss, alone.loss);
        assert!(norm <= RELATIVE, "{what}, step {step}: norm {} against {}: {norm:e}", meshed.norm, alone.norm);
        for (name, part) in &meshed.gradients {
            let whole = &alone.gradients[name];
            let expected = part_of(whole, part);
            let largest = whole.elements.iter().fold(0.0f32, |largest, x| largest.max(x.abs()));
            let worst = expected.iter().zip(&part.elements).fold(0.0f32, |worst, (a, b)| worst.max((a - b).abs()));
            let relative = f64::from(worst) / f64::from(largest).max(1e-30);
            assert!(relative <= RELATIVE, "{what}, step {step}, {name}: gradient differs by {relative:e}");
        }
    }
}
