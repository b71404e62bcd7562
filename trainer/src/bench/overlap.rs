//! How much of the communication of data parallelism is hidden behind computing: a step with both, beside each of them alone.

use std::time::{Duration, Instant};

use serde_json::{Value, json};
use sirocco_comm::{Communicator, Event, Solo};
use sirocco_parallel::{Engine, Mesh};

use super::{Batches, bucket_bytes, engine, print};
use crate::args::BenchJob;
use crate::failure::Failure;
use crate::median::median;

/// One way of taking a step, measured.
#[derive(Default)]
struct Seconds {
    computing: Vec<f64>,
    communication: Vec<f64>,
    both: Vec<f64>,
}

/// Takes turns: computing alone, communication alone, both; as many rounds as steps were asked for. Of every rank.
pub(super) fn run(job: &BenchJob, world: &dyn Communicator) -> Result<(), Failure> {
    let mesh = |dp| Mesh::new(1, dp, 1, 1).map_err(Failure::usage);
    let solo = Solo::new();
    let mut alone = engine(job, mesh(1)?, &solo)?;
    let mut together = engine(job, mesh(world.size())?, world)?;
    let batches = Batches::new(job, alone.config().vocabulary);
    let elements: usize = alone.shards().iter().map(|shard| shard.gradient().len()).sum();
    let mut seconds = Seconds::default();
    let mut timeline = Value::Null;
    for round in 0..=job.steps {
        let own = batches.of_step(u64::from(round) * 64 + world.rank() as u64)?;
        let step = |engine: &mut Engine| engine.gradients(&own, batches.scale()).map_err(Failure::parallel).map(|_| ());
        let computing = timed(world, || step(&mut alone))?;
        let communication = timed(world, || reduce(world, elements, bucket_bytes(job) / size_of::<f32>()))?;
        let both = timed(world, || step(&mut together))?;
        alone.refresh();
        together.refresh();
        if round > 0 {
            seconds.computing.push(computing);
            seconds.communication.push(communication);
            seconds.both.push(both);
            timeline = spans(&world.history());
        }
    }
    let middle = |seconds: &[f64]| median(seconds).unwrap_or(0.0);
    let slower = middle(&seconds.computing).max(middle(&seconds.communication));
    let report = json!({
        "rank": world.rank(), "ranks": world.size(), "gradient_bytes": elements * size_of::<f32>(),
        "computing_s": seconds.computing, "communication_s": seconds.communication, "both_s": seconds.both,
        "ratio": middle(&seconds.both) / slower, "timeline": timeline,
    });
    print(world, report)
}

/// Seconds of something that all ranks begin at the same time, until the last has done it.
fn timed(world: &dyn Communicator, work: impl FnOnce() -> Result<(), Failure>) -> Result<f64, Failure> {
    world.barrier("begin").wait().map_err(Failure::collective)?;
    let start = Instant::now();
    work()?;
    world.barrier("end").wait().map_err(Failure::collective)?;
    Ok(start.elapsed().as_secs_f64())
}

/// The same sums as a step's, of nothing.
fn reduce(world: &dyn Communicator, elements: usize, bucket: usize) -> Result<(), Failure> {
    let started: Vec<_> = (0..elements)
        .step_by(bucket)
        .map(|first| world.all_reduce_f32("sums alone", vec![0.0; bucket.min(elements - first)]))
        .collect();
    started.into_iter().try_for_each(|pending| pending.wait().map(|_| ()).map_err(Failure::collective))
}

/// The collectives of the newest step with both, in seconds since it began.
fn spans(history: &[Event]) -> Value {
    let Some(begin) = history.iter().rposition(|event| event.name == "begin") else { return Value::Null };
    let zero = history[begin].done.unwrap_or_default();
    let since = |time: Option<Duration>| time.map(|time| time.saturating_sub(zero).as_secs_f64());
    let span = |event: &Event| {
        json!({
            "name": event.name, "group": event.group, "bytes": event.bytes, "submitted": since(Some(event.submitted)),
            "entered": since(event.entered), "together": since(event.together), "done": since(event.done),
        })
    };
    // What a group of one does is done when it is asked for.
    history[begin + 1..].iter().filter(|event| event.done != Some(event.submitted)).map(span).collect()
}
