//! One rank of a run, from the run directory to its last checkpoint. The order of construction is that of the numbered parts.

mod agreement;
mod custody;
mod data;
mod deadline;
mod evaluate;
mod fitting;
pub(crate) mod identity;
mod kept;
mod meeting;
mod metrics;
pub(crate) mod newest;
pub(crate) mod optimizer;
pub(crate) mod saved;
mod saver;
pub(crate) mod settings;
pub(crate) mod setup;
mod signals;
pub(crate) mod step;
mod together;
mod trace;
mod training;
mod watch;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use sirocco_checkpoint::{Checkpoints, ModelDir, digest_of};
use sirocco_comm::{Communicator, Mpi, Options, Solo};
use sirocco_config::{Place, Run};
use sirocco_custody::approvals::run_id;
use sirocco_policy::{Confinement, Kind, Name};
use sirocco_tokens::Order;

use self::custody::{Admission, Materials};
use self::data::Sequences;
use self::deadline::Deadline;
use self::fitting::Save;
use self::identity::{Identity, agreed_base};
use self::kept::{Beginning, Kept};
use self::metrics::Metrics;
use self::newest::newest;
use self::optimizer::Optimizer;
use self::saved::Snapshot;
use self::saver::{Saver, UnderWay};
use self::signals::Signalled;
use self::step::{Plan, State};
use self::together::{Round, everyone};
use self::training::Training;
use self::watch::Watch;
use crate::args::{Group, RunJob};
use crate::caught::caught;
use crate::confined;
use crate::failure::{self, Failure};
use crate::{logging, threads};

/// Runs one rank. Every rank gets the same command line.
pub(crate) fn run(job: &RunJob) -> Result<(), Failure> {
    let (signalled, run, communicator) = join(job).inspect_err(failure::tell)?;
    let outcome = run_rank(job, &run, &signalled, communicator.as_ref());
    if let Err(failure) = &outcome {
        if failure.is_stop() {
            tracing::info!("{}", failure.message());
        } else {
            tracing::error!("{}", failure.message());
        }
        if failure.is_of_a_collective() {
            trace::write(&job.dir, communicator.as_ref());
        }
        // Before the group is left, which waits for ranks that may be in the middle of a step.
        failure::tell(failure);
    }
    tracing::info!(traffic = ?communicator.traffic(), "collectives");
    outcome
}

/// 1. What signals do, the settings, the other ranks, what is logged. In this order: a signal that comes early must not kill the rank, and
///    the launcher takes an open log as the sign that it may send one.
fn join(job: &RunJob) -> Result<(Signalled, Run, Arc<dyn Communicator>), Failure> {
    let signalled = Signalled::listen()?;
    threads::use_threads(Some(job.threads))?;
    let run = settings::read_run(&job.dir)?;
    let options = Options { timeout: Duration::from_secs(run.parallel.timeout_s) };
    let communicator: Arc<dyn Communicator> = match job.comm {
        Group::Solo => Arc::new(Solo::new()),
        Group::Mpi => Arc::new(Mpi::start(options).map_err(Failure::collective)?),
    };
    signalled.watch_peers(&communicator);
    logging::start(&job.dir, communicator.rank())?;
    let host = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
    let (rank, ranks, threads, version) = (communicator.rank(), communicator.size(), job.threads, env!("CARGO_PKG_VERSION"));
    // sirocco status and sirocco report read this line.
    let confinement = confined::level().map_or("unknown", Confinement::word);
    tracing::info!(rank, ranks, host = host.trim(), process = std::process::id(), threads, version, confinement, "started");
    Ok((signalled, run, communicator))
}

fn run_rank(job: &RunJob, run: &Run, signalled: &Signalled, communicator: &dyn Communicator) -> Result<(), Failure> {
    // 2. Whether all ranks are of one mind: program, settings, clocks; and as many as the mesh has.
    let run_file = job.dir.join("run.toml");
    let text = std::fs::read_to_string(&run_file).map_err(|error| Failure::usage(format!("{}: {error}", run_file.display())))?;
    meeting::meet(communicator, &text)?;
    run.parallel.check_ranks(communicator.size() as u64, Place::File(run_file)).map_err(Failure::usage)?;
    let (custody, keeper) = custody::begin(&job.dir, run, communicator)?;

    // 3. The network, laid out on the mesh, and what of it is trained.
    let base = ModelDir::open(&run.model.path).map_err(Failure::file)?;
    let mut engine = caught(|| setup::engine(&job.dir, run, &base, communicator))?;

    // 4. The data, tokenised before any rank started.
    let open = |name| Sequences::open(&job.dir, name, run, engine.config().vocabulary);
    let training = open("train")?;
    let held_out = if run.data.valid.is_empty() { None } else { Some(open("valid")?) };
    let steps = run.steps(training.len() as u64).map_err(Failure::usage)?;
    let order = Order { seed: run.seed, sequences: training.len(), global_batch: run.train.global_batch as usize };

    // 5. The newest checkpoint, or the start.
    let data: Vec<&Sequences> = [Some(&training), held_out.as_ref()].into_iter().flatten().collect();
    let base_files = agreed_base(communicator, &base, &data)?;
    let identity = Identity::new(run, digest_of(&base_files), Some(training.digest()));
    let mut checkpoints = Checkpoints::new(&job.dir);
    if let Some(staging) = &run.checkpoint.staging {
        checkpoints = checkpoints.with_staging(staging.clone());
    }
    let newest = newest(&checkpoints, keeper.as_ref(), communicator)?;
    if let Some((checkpoint, _)) = &newest {
        identity.verify(checkpoint.state())?;
    }

    // 6. Whether the policy allows it, here and now, with this data and this base.
    let made = Name::new(Kind::Checkpoint, run.name.clone());
    let (newest, origin) = newest.unzip();
    let materials = Materials { base: &base, base_files: &base_files, data: &data, origin };
    let lineage = materials.lineage(&custody, &made, (keeper.as_ref(), communicator))?;
    let Admission { permit, nodes } =
        custody::admit((&job.dir, communicator), (&custody, run, &data), keeper.as_ref(), (made, &lineage, newest.is_some()))?;

    // 7. The state to begin with.
    let optimizer = match &newest {
        None => Optimizer::resume(settings::optimizer(run), 0, BTreeMap::new(), engine.device()),
        Some(checkpoint) => saved::restore(checkpoint, &mut engine, settings::optimizer(run))?,
    };
    let first = newest.map_or(0, |checkpoint| checkpoint.state().step);
    let metrics = if communicator.rank() == 0 { Some(Metrics::open(&job.dir, first, &run.parallel)?) } else { None };
    // The memory of saves is taken now rather than during a step.
    let mut memory = Snapshot::default();
    memory.take(&engine, &optimizer);
    let largest_bytes = saver::largest(communicator, &memory)?;
    let (held_bytes, largest_unit_bytes) = engine.held_bytes();
    let (mesh, saved_bytes) = (engine.layout().mesh(), memory.bytes());
    tracing::info!(first, steps, sequences = training.len(), %mesh, held_bytes, largest_unit_bytes, saved_bytes, "training");

    // 8. The steps.
    let beginning = Beginning { first, nodes: &nodes, run_id: run_id(run, training.digest()) };
    let begin = |keeper| Kept::begin(keeper, (&custody, run), &permit, &lineage, beginning);
    let kept = keeper.map(begin).transpose();
    let kept = begun(communicator, kept)?.map(Arc::new);
    let schedule = settings::schedule(run, steps);
    let plan = Plan { run, data: &training, order, schedule, communicator };
    let saver = Saver {
        run,
        checkpoints,
        identity,
        order,
        communicator,
        memory,
        like: Save { bytes: largest_bytes, seconds: 0.0 },
        under_way: UnderWay::Nothing,
        kept: kept.clone(),
    };
    let state = State { engine, optimizer, watch: Watch::new(run.train.max_skipped_steps), step_seconds: 0.0 };
    let deadline = job.ends.and_then(Deadline::new);
    let mut training = Training { permit, plan, saver, held_out: held_out.as_ref(), state, metrics, deadline };
    let outcome = training.go(first, job.until.map_or(steps, |until| until.min(steps)), signalled);
    let written = kept.map_or(Ok(()), |kept| kept.end(&outcome));
    outcome.and(written)
}

/// Whether the first rank could write down that the run begins.
fn begun<T>(communicator: &dyn Communicator, kept: Result<Option<T>, Failure>) -> Result<Option<T>, Failure> {
    let (kept, outcome) = match kept {
        Ok(kept) => (kept, Ok(())),
        Err(failure) => (None, Err(failure)),
    };
    everyone(communicator, Round { name: "ledger", failed: "could not write the ledger" }, outcome)?;
    Ok(kept)
}
