//! One rank of a run, from the run directory to its last checkpoint. The order of construction is the order of the numbered parts.

mod data;
mod evaluate;
mod metrics;
pub(crate) mod saved;
mod signals;
mod step;

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use sirocco_checkpoint::{Checkpoints, ModelDir};
use sirocco_comm::{Communicator, Mpi, Options, Solo};
use sirocco_config::{Method, Run, RunFile};
use sirocco_model::{LoraConfig, Network, Projection, Trained};
use sirocco_optim::{AdamW, AdamWConfig, Schedule, Shape};
use sirocco_tokens::Order;

use self::data::Sequences;
use self::metrics::Metrics;
use self::saved::{Identity, Saver};
use self::step::{Plan, step};
use crate::args::{Group, RunJob};
use crate::failure::Failure;
use crate::{logging, models, threads};

/// Runs one rank. Every rank gets the same command line.
pub(crate) fn run(job: &RunJob) -> Result<(), Failure> {
    // 1. The ranks, what they log, what signals do.
    threads::use_threads(Some(job.threads));
    let communicator: Arc<dyn Communicator> = match job.comm {
        Group::Solo => Arc::new(Solo::new()),
        Group::Mpi => Arc::new(Mpi::start(Options::default()).map_err(Failure::collective)?),
    };
    logging::start(&job.dir, communicator.rank())?;
    let outcome = run_rank(job, &communicator);
    if let Err(failure) = &outcome {
        tracing::error!("{}", failure.message());
    }
    tracing::info!(traffic = ?communicator.traffic(), "collectives");
    outcome
}

fn run_rank(job: &RunJob, communicator: &Arc<dyn Communicator>) -> Result<(), Failure> {
    let stop = signals::listen(communicator)?;
    let communicator: &dyn Communicator = communicator.as_ref();

    // 2. The settings, complete and checked again.
    let run = read_run(&job.dir)?;
    if run.ranks() != communicator.size() as u64 {
        let (expected, found) = (run.ranks(), communicator.size());
        return Err(Failure::usage(format!("the mesh of run.toml has {expected} ranks, {found} were started")));
    }

    // 3. The data, tokenised before any rank started.
    let training = Sequences::open(&job.dir, "train", &run)?;
    let held_out = if run.data.valid.is_empty() { None } else { Some(Sequences::open(&job.dir, "valid", &run)?) };
    let steps = run.steps(training.len() as u64).map_err(Failure::usage)?;
    let order = Order { seed: run.seed, sequences: training.len(), global_batch: run.train.global_batch as usize };

    // 4. The network and what of it is trained.
    let mut network = models::base(&run.model.path, dtype(&run))?;
    network.train(&trained(&run));
    let model_digest = ModelDir::open(&run.model.path).and_then(|model| model.digest()).map_err(Failure::file)?;
    let identity = Identity::new(&run, model_digest);

    // 5. The newest checkpoint, or the start.
    let checkpoints = Checkpoints::new(&job.dir);
    let newest = checkpoints.load_latest().map_err(Failure::file)?;
    let mut optimizer = match &newest {
        None => AdamW::new(optimizer_config(&run)),
        Some(checkpoint) => saved::restore(checkpoint, &identity, &mut network, optimizer_config(&run))?,
    };
    let first = newest.map_or(0, |checkpoint| checkpoint.state().step);
    let mut metrics = if communicator.rank() == 0 { Some(Metrics::open(&job.dir, first)?) } else { None };
    tracing::info!(first, steps, sequences = training.len(), ranks = communicator.size(), "training");

    // 6. The steps.
    let schedule = Schedule { peak: run.train.learning_rate, warmup_steps: run.train.warmup_steps, steps, shape: shape(&run) };
    let plan = Plan { run: &run, data: &training, order, schedule, communicator };
    let saver = Saver { run: &run, checkpoints, identity, order, communicator };
    let evaluate = |network: &Network, metrics: &mut Option<Metrics>, step: u64| {
        let Some(held_out) = &held_out else { return Ok(()) };
        let loss = evaluate::held_out_loss(network, held_out, run.train.micro_batch as usize, communicator)?;
        if let (Some(metrics), Some(loss)) = (metrics, loss) {
            tracing::info!(step, loss, "held out");
            metrics.held_out(step, loss)?;
        }
        Ok(())
    };
    if first == 0 && run.eval.every_steps > 0 {
        evaluate(&network, &mut metrics, 0)?;
    }
    let end = job.until.map_or(steps, |until| until.min(steps));
    let mut completed = first;
    while completed < end {
        let stepped = step(&plan, &mut network, &mut optimizer, completed, stop.load(Ordering::Relaxed))?;
        completed += 1;
        tracing::info!(step = completed, loss = stepped.record.loss, seconds = stepped.record.seconds, "step");
        if let Some(metrics) = &mut metrics {
            metrics.step(&stepped.record)?;
        }
        let due = |every: u64| every > 0 && completed.is_multiple_of(every);
        if due(run.eval.every_steps) || completed == steps {
            evaluate(&network, &mut metrics, completed)?;
        }
        if stepped.stop || due(run.checkpoint.every_steps) || completed == end {
            saver.save(&network, &optimizer, completed)?;
        }
        if stepped.stop {
            break;
        }
    }
    if completed < steps {
        return Err(Failure::stopped(format!("stopped on request after step {completed} of {steps}, with a checkpoint")));
    }
    Ok(())
}

/// Reads and checks `RUN/run.toml`.
pub(crate) fn read_run(directory: &Path) -> Result<Run, Failure> {
    let file = RunFile::read(&directory.join("run.toml")).map_err(Failure::usage)?;
    file.check(directory).map_err(Failure::usage)
}

/// The run's element type in the network's terms.
pub(crate) fn dtype(run: &Run) -> sirocco_model::Dtype {
    match run.model.dtype {
        sirocco_config::Dtype::Bf16 => sirocco_model::Dtype::Bf16,
        sirocco_config::Dtype::Fp32 => sirocco_model::Dtype::Fp32,
    }
}

/// The run's method in the network's terms.
pub(crate) fn trained(run: &Run) -> Trained {
    match &run.method {
        Method::Full => Trained::Full,
        Method::Lora { rank, alpha, targets } => {
            let targets = targets.projections().iter().filter_map(|target| Projection::from_name(target.name())).collect();
            Trained::Lora(LoraConfig { rank: *rank as usize, scale: alpha / *rank as f64, targets }, run.seed)
        }
    }
}

fn shape(run: &Run) -> Shape {
    match run.train.schedule {
        sirocco_config::Schedule::Cosine => Shape::Cosine,
        sirocco_config::Schedule::Constant => Shape::Constant,
    }
}

fn optimizer_config(run: &Run) -> AdamWConfig {
    let (beta1, beta2) = run.train.betas;
    AdamWConfig { beta1, beta2, epsilon: run.train.epsilon, weight_decay: run.train.weight_decay }
}
