//! Training speed on random tokens, printed in the same form as the peers of `benches/peers/`.

mod memory;
mod overlap;

use std::collections::BTreeMap;
use std::time::Instant;

use serde_json::{Value, json};
use sirocco_checkpoint::ModelDir;
use sirocco_comm::{Communicator, Mpi, Options, Solo};
use sirocco_model::{Batch, LoraConfig, ModelConfig, Projection, Recompute, Trained};
use sirocco_optim::AdamWConfig;
use sirocco_parallel::{Engine, Mesh, Setup, World};
use tch::Device;

use self::memory::Resident;
use crate::args::{BenchJob, Group};
use crate::failure::Failure;
use crate::median::median;
use crate::random_batch::random_batch;
use crate::run::optimizer::Optimizer;
use crate::run::setup::piece_of;
use crate::{models, threads};

pub(crate) fn run(job: &BenchJob) -> Result<(), Failure> {
    let threads = threads::use_threads(job.threads)?;
    let world: Box<dyn Communicator> = match job.comm {
        Group::Solo => Box::new(Solo::new()),
        Group::Mpi => Box::new(Mpi::start(Options::default()).map_err(Failure::collective)?),
    };
    if job.overlap {
        return overlap::run(job, world.as_ref());
    }
    let before = Resident::now();
    let mut engine = engine(job, mesh(job)?, world.as_ref())?;
    let set_up = Resident::now();
    let batches = Batches::new(job, engine.config().vocabulary);
    let mut optimizer = optimizer();
    let mut seconds = Vec::new();
    for step in 0..=job.steps {
        let own = batches.of_step(u64::from(step) * 64 + engine.data_share().0 as u64)?;
        let start = Instant::now();
        engine.gradients(&own, batches.scale()).map_err(Failure::parallel)?;
        optimizer.step(&mut engine, 1e-4, 1.0)?;
        if step > 0 {
            seconds.push(start.elapsed().as_secs_f64());
        }
    }
    let (held_bytes, largest_unit_bytes) = engine.held_bytes();
    let trained: usize = engine.shards().iter().map(|shard| shard.gradient().len()).sum();
    let moments_bytes = trained * 2 * size_of::<f32>();
    let tokens = batches.tokens() * engine.data_share().1;
    let report = json!({
        "tokens_per_s": tokens as f64 / median(&seconds).unwrap_or(0.0), "seconds_per_step": seconds, "peak_rss_bytes": models::peak_memory(),
        "threads": threads, "rank": world.rank(), "mesh": engine.layout().mesh().to_string(),
        "held_bytes": held_bytes + moments_bytes, "largest_unit_bytes": largest_unit_bytes,
        "trained_elements": trained,
        "resident": { "before": before, "set_up": set_up, "end": Resident::now() },
    });
    print(world.as_ref(), report)
}

/// The first rank prints one line: what it measured, and under "ranks" what each rank did.
fn print(world: &dyn Communicator, mut own: Value) -> Result<(), Failure> {
    let all = world.all_gather_bytes("reports", own.to_string().into_bytes()).wait().map_err(Failure::collective)?;
    if world.rank() == 0 {
        let ranks: Result<Vec<Value>, _> = all.iter().map(|report| serde_json::from_slice(report)).collect();
        own["ranks"] = Value::Array(ranks.map_err(Failure::failed)?);
        crate::failure::print_line(&own.to_string());
    }
    Ok(())
}

/// Bytes of a bucket of gradients.
fn bucket_bytes(job: &BenchJob) -> usize {
    usize::from(job.bucket_mb) << 20
}

fn mesh(job: &BenchJob) -> Result<Mesh, Failure> {
    let [pp, dp, fsdp, tp] = [job.pp, job.dp, job.fsdp, job.tp].map(usize::from);
    Mesh::new(pp, dp, fsdp, tp).map_err(Failure::usage)
}

fn optimizer() -> Optimizer {
    let config = AdamWConfig { beta1: 0.9, beta2: 0.999, epsilon: 1e-8, weight_decay: 0.0 };
    Optimizer::resume(config, 0, BTreeMap::new(), Device::Cpu)
}

/// The model's engine on a mesh, with LoRA on all seven projections, or to train every weight.
fn engine(job: &BenchJob, mesh: Mesh, world: &dyn Communicator) -> Result<Engine, Failure> {
    let base = ModelDir::open(&job.model).map_err(Failure::file)?;
    let lora = LoraConfig { rank: usize::from(job.rank), scale: 2.0, targets: Projection::ALL.to_vec() };
    let setup = Setup {
        config: ModelConfig::from_json(base.config_text()).map_err(Failure::model)?,
        dtype: job.dtype.into(),
        trained: if job.full { Trained::Full } else { Trained::Lora(lora) },
        seed: 1,
        mesh,
        recompute: Recompute::None,
        bucket_bytes: bucket_bytes(job),
        device: Device::Cpu,
    };
    Engine::new(&setup, World::on_host(world), &mut |name, slice, range| piece_of(&base, name, slice, range))
        .map_err(Failure::parallel)
}

/// Random micro-batches of one rank.
struct Batches {
    sequences: usize,
    length: usize,
    micro_batches: usize,
    document: usize,
    vocabulary: i64,
}

impl Batches {
    fn new(job: &BenchJob, vocabulary: i64) -> Self {
        let [sequences, length, micro_batches, document] =
            [job.sequences, job.length, job.micro_batches, job.document.unwrap_or(job.length)].map(usize::from);
        Self { sequences, length, micro_batches, document, vocabulary }
    }

    /// Of one rank in one step.
    fn tokens(&self) -> usize {
        self.sequences * self.length
    }

    /// Every token is a target.
    fn scale(&self) -> f64 {
        1.0 / self.tokens() as f64
    }

    fn of_step(&self, seed: u64) -> Result<Vec<Batch>, Failure> {
        let micro_batch = self.sequences.div_ceil(self.micro_batches);
        let starts = (0..self.sequences).step_by(micro_batch);
        starts
            .map(|first| {
                let count = micro_batch.min(self.sequences - first) * self.length;
                random_batch(seed * 1000 + first as u64, (count, self.document), self.vocabulary)
            })
            .collect()
    }
}
