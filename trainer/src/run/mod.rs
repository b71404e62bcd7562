//! One rank of a run, from the run directory to its last checkpoint. The order of construction is that of the numbered parts.

mod data;
mod evaluate;
mod metrics;
pub(crate) mod saved;
pub(crate) mod settings;
mod signals;
pub(crate) mod step;
mod training;

use std::sync::Arc;

use sirocco_checkpoint::{Checkpoints, ModelDir};
use sirocco_comm::{Communicator, Mpi, Options, Solo};
use sirocco_optim::AdamW;
use sirocco_tokens::Order;

use self::data::Sequences;
use self::metrics::Metrics;
use self::saved::{Identity, Saver};
use self::signals::Signalled;
use self::step::Plan;
use self::training::Training;
use crate::args::{Group, RunJob};
use crate::failure::{self, Failure};
use crate::{logging, models, threads};

/// Runs one rank. Every rank gets the same command line.
pub(crate) fn run(job: &RunJob) -> Result<(), Failure> {
    let (signalled, communicator) = join(job).inspect_err(failure::tell)?;
    let outcome = run_rank(job, &signalled, communicator.as_ref());
    if let Err(failure) = &outcome {
        tracing::error!("{}", failure.message());
        // Before the group is left, which waits for ranks that may be in the middle of a step.
        failure::tell(failure);
    }
    tracing::info!(traffic = ?communicator.traffic(), "collectives");
    outcome
}

/// 1. What signals do, the other ranks, what is logged. In this order: a signal that comes early must not kill the rank, and the launcher
///    takes an open log as the sign that it may send one.
fn join(job: &RunJob) -> Result<(Signalled, Arc<dyn Communicator>), Failure> {
    let signalled = Signalled::listen()?;
    threads::use_threads(Some(job.threads))?;
    let communicator: Arc<dyn Communicator> = match job.comm {
        Group::Solo => Arc::new(Solo::new()),
        Group::Mpi => Arc::new(Mpi::start(Options::default()).map_err(Failure::collective)?),
    };
    signalled.watch_peers(&communicator);
    logging::start(&job.dir, communicator.rank())?;
    tracing::info!(rank = communicator.rank(), ranks = communicator.size(), "started");
    Ok((signalled, communicator))
}

fn run_rank(job: &RunJob, signalled: &Signalled, communicator: &dyn Communicator) -> Result<(), Failure> {
    // 2. The settings, complete and checked again.
    let run = settings::read_run(&job.dir)?;
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
    let base = ModelDir::open(&run.model.path).map_err(Failure::file)?;
    let mut network = models::network(&base, settings::dtype(&run))?;
    network.train(&settings::trained(&run));
    let identity = Identity::new(&run, &base, Some(training.digest()))?;

    // 5. The newest checkpoint, or the start.
    let checkpoints = Checkpoints::new(&job.dir);
    let newest = checkpoints.load_latest().map_err(Failure::file)?;
    let optimizer = match &newest {
        None => AdamW::new(settings::optimizer(&run)),
        Some(checkpoint) => saved::restore(checkpoint, &identity, &mut network, settings::optimizer(&run))?,
    };
    let first = newest.map_or(0, |checkpoint| checkpoint.state().step);
    let metrics = if communicator.rank() == 0 { Some(Metrics::open(&job.dir, first)?) } else { None };
    tracing::info!(first, steps, sequences = training.len(), ranks = communicator.size(), "training");

    // 6. The steps.
    let schedule = settings::schedule(&run, steps);
    let plan = Plan { run: &run, data: &training, order, schedule, communicator };
    let saver = Saver { run: &run, checkpoints, identity, order, communicator };
    let mut training = Training { plan, saver, held_out: held_out.as_ref(), network, optimizer, metrics };
    training.go(first, job.until.map_or(steps, |until| until.min(steps)), signalled)
}
