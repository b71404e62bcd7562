//! `sirocco status`: what a run is doing, the jobs of its chain, and where its ranks are.

mod ranks;
mod several;
mod show;
mod slurm;

use std::path::Path;

use serde::Serialize;
use sirocco_config::{Run, RunFile};

use crate::chain::history::{Job, current, jobs};
use crate::chain::record::{self, Outcome};
use crate::cli;
use crate::failure::{Failure, Kind};
use crate::output;
use crate::train::directory::RunDirectory;
use crate::train::ended::last_end;
use crate::train::here;
use crate::train::metrics::SlowRank;
use crate::train::several::members;
use crate::watch::recorded::Recorded;
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
    /// Seconds to the end of the run, as fast as the newest steps and as long as the newest evaluation.
    left_s: Option<f64>,
    /// Steps whose loss or gradients were not finite.
    skipped_steps: u64,
    /// Step of the newest checkpoint.
    checkpoint: Option<u64>,
    /// Of the newest step, if it was much slower than the others.
    slowest_rank: Option<SlowRank>,
    /// The most memory of a rank since the mesh last changed.
    peak_memory_bytes: Option<u64>,
    peak_memory_rank: Option<u64>,
    /// Of what the newest attempt failed; `null` where it did not.
    last_end: Option<String>,
    /// Where more of that stands.
    record: Option<String>,
    /// That runs or comes next.
    #[serde(skip)]
    job: Option<String>,
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
    let members = members(&arguments.run)?;
    if !members.is_empty() {
        return several::run(&arguments.run, &members, arguments.json);
    }
    let found = Found::of(&arguments.run)?;
    let asked = ask_about(&found.jobs);
    let status = found.status(&asked);
    if arguments.json { output::json(&status) } else { show::show(&status) }
}

/// What the files of a run say, before Slurm is asked.
struct Found {
    directory: RunDirectory,
    run: Run,
    recorded: Recorded,
    steps: Option<u64>,
    checkpoint: Option<u64>,
    jobs: Vec<Job>,
}

impl Found {
    fn of(path: &Path) -> Result<Found, Failure> {
        let directory = RunDirectory::existing(path)?;
        let run = RunFile::read(&directory.run_file())?.check(&here()?)?;
        let metrics = directory.metrics();
        let recorded = Recorded::read(&metrics)
            .map_err(|error| Failure::new(Kind::Failed, format_args!("{}: cannot be read: {error}", metrics.display())))?;
        let steps = whole_steps(&run, &directory);
        let checkpoint = directory.newest_checkpoint()?;
        let jobs = jobs(record::read(directory.path())?);
        Ok(Found { directory, run, recorded, steps, checkpoint, jobs })
    }

    fn status(self, asked: &Asked) -> Status {
        let Found { directory, run, recorded, steps, checkpoint, jobs } = self;
        let curve = &recorded.curve;
        let job = current(&jobs);
        let state = State::of(directory.at_work().is_some(), job, is_done(&run, curve, steps, checkpoint), curve.step());
        let ranks = ranks(&directory, run.ranks(), job);
        let end = (job.is_none() && state == State::Stopped).then(|| last_end(&directory, run.ranks())).flatten();
        let (last_end, record) = match end {
            Some(end) => (Some(end.words), Some(end.record)),
            None => {
                failed_last(&jobs, state).map(|why| (Some(why), Some(directory.typed(Path::new("logs"))))).unwrap_or_default()
            }
        };
        let last = curve.last.as_ref();
        let link = |job: Job| {
            let steps_done = job.until(curve.step()).zip(job.from_step).map(|(until, from)| until - from);
            Link { slurm: asked.of(&job.job).cloned(), steps_done, job }
        };
        Status {
            job: job.map(|job| job.job.clone()),
            left_s: steps.filter(|_| !state.is_over()).and_then(|steps| recorded.left(&run, steps)),
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
            last_end,
            record: record.map(|path| path.display().to_string()),
            chain: jobs.into_iter().map(link).collect(),
            slurm_answers: (*asked != Asked::Nothing).then_some(matches!(asked, Asked::Answered(_))),
            slurm_silence: if let Asked::Silent(why) = asked { Some(why.clone()) } else { None },
            ranks,
        }
    }
}

/// Why the newest attempt of a chain failed, unless the run came to its end or to that of a person all the same.
fn failed_last(jobs: &[Job], state: State) -> Option<String> {
    if matches!(state, State::Done | State::Cancelled) {
        return None;
    }
    let newest = jobs.iter().rfind(|job| job.outcome.is_some())?;
    newest.why.clone().filter(|_| newest.outcome == Some(Outcome::Failed))
}
