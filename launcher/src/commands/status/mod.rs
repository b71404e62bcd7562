//! `sirocco status`: what a run is doing, the jobs of its chain, and where its ranks are.

mod ranks;
mod show;
mod slurm;

use serde::Serialize;
use sirocco_config::RunFile;

use crate::chain::history::{Job, current, jobs};
use crate::chain::record;
use crate::cli;
use crate::failure::Failure;
use crate::output;
use crate::train::directory::RunDirectory;
use crate::train::metrics::SlowRank;
use crate::train::{curve, here};
use crate::watch::state::{State, is_done, whole_steps};
use ranks::{Rank, ranks};
use slurm::{Asked, Seen, ask_about};

/// The fields of `--json`, in their order.
#[derive(Debug, Serialize)]
struct Status {
    name: String,
    run_dir: String,
    state: State,
    step: u64,
    /// `null` while the number of sequences is not known.
    steps: Option<u64>,
    loss: Option<f64>,
    valid_loss: Option<f64>,
    tokens_per_s: Option<f64>,
    /// Steps whose loss or gradients were not finite.
    skipped_steps: u64,
    /// Step of the newest checkpoint.
    checkpoint: Option<u64>,
    /// Of the newest step, if it was much slower than the others.
    slowest_rank: Option<SlowRank>,
    /// The most memory of a rank since the mesh last changed.
    peak_memory_bytes: Option<u64>,
    peak_memory_rank: Option<u64>,
    chain: Vec<Link>,
    /// Whether Slurm answered; `null` where no job was left to ask about.
    slurm_answers: Option<bool>,
    /// Why it did not.
    slurm_silence: Option<String>,
    ranks: Vec<Rank>,
}

/// A job of the chain.
#[derive(Debug, Serialize)]
struct Link {
    #[serde(flatten)]
    job: Job,
    /// The steps that it did; `null` before it had ranks.
    steps_done: Option<u64>,
    /// What Slurm says now; `null` where it was not asked, does not answer or does not know the job.
    slurm: Option<Seen>,
}

pub(crate) fn run(arguments: &cli::Status) -> Result<(), Failure> {
    let directory = RunDirectory::existing(&arguments.run)?;
    let run = RunFile::read(&directory.run_file())?.check(&here()?)?;
    let curve = curve(&directory)?;
    let steps = whole_steps(&run, &directory);
    let checkpoint = directory.newest_checkpoint()?;
    let jobs = jobs(record::read(directory.path())?);
    let job = current(&jobs);
    let state = State::of(directory.at_work().is_some(), job, is_done(&run, &curve, steps, checkpoint), curve.step());
    let ranks = ranks(&directory, run.ranks(), job);
    let asked = ask_about(&jobs);
    let last = curve.last.as_ref();
    let link = |job: Job| {
        let steps_done = job.until(curve.step()).zip(job.from_step).map(|(until, from)| until - from);
        Link { slurm: asked.of(&job.job).cloned(), steps_done, job }
    };
    let status = Status {
        name: run.name,
        run_dir: directory.shown().to_string(),
        state,
        step: curve.step(),
        steps,
        loss: curve.last_loss,
        valid_loss: curve.last_valid,
        tokens_per_s: last.map(|step| step.tokens_per_s),
        skipped_steps: curve.skipped_steps,
        checkpoint,
        slowest_rank: last.and_then(|step| step.slowest_rank),
        peak_memory_bytes: last.map(|_| curve.on_mesh.peak_memory_bytes),
        peak_memory_rank: curve.on_mesh.peak_memory_rank,
        chain: jobs.into_iter().map(link).collect(),
        slurm_answers: (asked != Asked::Nothing).then_some(matches!(asked, Asked::Answered(_))),
        slurm_silence: if let Asked::Silent(why) = &asked { Some(why.clone()) } else { None },
        ranks,
    };
    if arguments.json { output::json(&status) } else { show::show(&status) }
}
