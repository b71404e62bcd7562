//! `sirocco cancel`: ends the chain of a run, or of every run in a directory, with a checkpoint if there is time for one.
use std::collections::BTreeSet;
use std::path::Path;
use std::time::{Duration, Instant};

use serde::Serialize;
use sirocco_config::{Run, RunFile, shell_word};

use crate::chain::history::Past;
use crate::chain::record::{self, Event, What};
use crate::chain::script::job_name;
use crate::chain::slurm::{self, Mine};
use crate::cli;
use crate::failure::Failure;
use crate::output::{self, count};
use crate::train::directory::RunDirectory;
use crate::train::here;
use crate::train::several::members;

/// How long the controller may take to name the jobs.
const PATIENCE: Duration = Duration::from_secs(120);

/// The fields of `--json`, in their order.
#[derive(Debug, Serialize)]
struct Cancelled {
    run_dir: String,
    /// Jobs that ran, and stop with a checkpoint unless `--now` was given.
    stopping: Vec<String>,
    /// Jobs that had not started.
    removed: Vec<String>,
}

/// The fields of `--json` of a directory of runs, in their order.
#[derive(Debug, Serialize)]
struct Several {
    run_dir: String,
    runs: Vec<Cancelled>,
}

/// A run, and the jobs of it that wait or run.
struct Chain {
    directory: RunDirectory,
    waiting: Vec<String>,
    running: Vec<String>,
}

pub(crate) fn run(arguments: &cli::Cancel) -> Result<(), Failure> {
    let members = members(&arguments.run)?;
    if members.is_empty() {
        let directory = RunDirectory::existing(&arguments.run)?;
        let run = RunFile::read(&directory.run_file())?.check(&here()?)?;
        let mut chain = Chain { waiting: vec![], running: vec![], directory };
        for id in active(&chain.directory, &run)? {
            let runs = slurm::job(&id)?.is_some_and(|job| job.state == "RUNNING");
            if runs { chain.running.push(id) } else { chain.waiting.push(id) }
        }
        end(std::slice::from_ref(&chain), arguments.now)?;
        let cancelled = chain.cancelled();
        return if arguments.json { output::json(&cancelled) } else { tell(&cancelled, &chain.directory.word(), arguments.now) };
    }
    let known = slurm::mine()?;
    let (mut chains, mut failed) = (Vec::new(), None);
    for member in &members {
        match Chain::of(&member.path, &known) {
            Ok(chain) => chains.push(chain),
            // One that cannot be read must not keep the others running; whether all were ended is told at the end.
            Err(failure) => failed = Some(failure),
        }
    }
    end(&chains, arguments.now)?;
    let (run_dir, runs) = (arguments.run.display().to_string(), chains.iter().map(Chain::cancelled).collect::<Vec<_>>());
    if let Some(failure) = failed {
        tell_several(&run_dir, &runs, arguments.now)?;
        return Err(failure);
    }
    if arguments.json {
        return output::json(&Several { run_dir, runs });
    }
    tell_several(&run_dir, &runs, arguments.now)
}

impl Chain {
    /// Of a run among the jobs that this user has now.
    fn of(path: &Path, known: &[Mine]) -> Result<Chain, Failure> {
        let directory = RunDirectory::existing(path)?;
        let run = RunFile::read(&directory.run_file())?.check(&here()?)?;
        let name = job_name(&run.name, directory.path());
        // A run of a sweep began as one job of an array, which has another name: the record knows it.
        let recorded: Vec<String> = record::read(directory.path())?.into_iter().map(|event| event.job).collect();
        let own = known.iter().filter(|job| job.name == name || recorded.contains(&job.id));
        let (running, waiting): (Vec<&Mine>, Vec<&Mine>) = own.partition(|job| job.runs);
        let ids = |jobs: Vec<&Mine>| jobs.into_iter().map(|job| job.id.clone()).collect();
        Ok(Chain { running: ids(running), waiting: ids(waiting), directory })
    }

    fn cancelled(&self) -> Cancelled {
        let (stopping, removed) = (self.running.clone(), self.waiting.clone());
        Cancelled { run_dir: self.directory.shown().to_string(), stopping, removed }
    }
}

/// First the record, which a job reads before it goes on; then what waits, so that it does not start on the nodes of what is stopped.
fn end(chains: &[Chain], now: bool) -> Result<(), Failure> {
    for chain in chains {
        for id in chain.waiting.iter().chain(&chain.running) {
            let event = Event::now(id, What::Cancelled);
            record::add(chain.directory.path(), &event)?;
        }
    }
    let all = |of: fn(&Chain) -> &Vec<String>| chains.iter().flat_map(of).cloned().collect::<Vec<_>>();
    let (waiting, running) = (all(|chain| &chain.waiting), all(|chain| &chain.running));
    slurm::cancel_all(&waiting, None)?;
    if !now {
        return slurm::cancel_all(&running, Some("USR1"));
    }
    // Ranks that are asked nicely save first.
    running.iter().try_for_each(|id| slurm::end_steps(id, PATIENCE))?;
    slurm::cancel_all(&running, None)
}

fn tell(cancelled: &Cancelled, word: &str, now: bool) -> Result<(), Failure> {
    let Cancelled { run_dir, stopping, removed } = cancelled;
    if !stopping.is_empty() {
        let how = if now { "was ended" } else { "stops at its next step, with a checkpoint" };
        output::line(format_args!("{run_dir}: job {} {how}", stopping.join(", ")))?;
    } else if removed.is_empty() {
        output::line(format_args!("{run_dir}: no job of this run waits or runs"))?;
    }
    if !removed.is_empty() {
        output::line(format_args!("{run_dir}: job {} was removed before it ran", removed.join(", ")))?;
    }
    output::line(format_args!("to go on: sirocco submit {word}"))
}

/// A line for each run that had jobs, and one for all others.
fn tell_several(run_dir: &str, runs: &[Cancelled], now: bool) -> Result<(), Failure> {
    let how = if now { "was ended" } else { "stops at its next step, with a checkpoint" };
    for run in runs {
        let stopping = run.stopping.iter().map(|job| format!("job {job} {how}"));
        let removed = run.removed.iter().map(|job| format!("job {job} was removed before it ran"));
        stopping.chain(removed).try_for_each(|words| output::line(format_args!("{}: {words}", run.run_dir)))?;
    }
    let ended: Vec<&Cancelled> = runs.iter().filter(|run| !run.stopping.is_empty() || !run.removed.is_empty()).collect();
    let (all, idle) = (count(runs.len() as u64, "run"), runs.len() - ended.len());
    let rest = if idle == 0 { String::new() } else { format!("; of {idle} no job waits or runs") };
    output::line(format_args!("{run_dir}: {all}, {} cancelled{rest}", ended.len()))?;
    match ended.first() {
        Some(first) => output::line(format_args!("to go on with one: sirocco submit {}", shell_word(&first.run_dir))),
        None => Ok(()),
    }
}

/// The jobs of a run that wait or run. A run of a sweep began as one job of an array, which has another name: the record knows it.
pub(crate) fn active(directory: &RunDirectory, run: &Run) -> Result<Vec<String>, Failure> {
    let mut jobs = slurm::jobs_called(&job_name(&run.name, directory.path()), Instant::now() + PATIENCE)?;
    let past = Past::read(directory.path())?;
    let known: BTreeSet<&str> = past.jobs().collect();
    for job in known {
        if !jobs.iter().any(|one| one == job) && slurm::job(job)?.is_some_and(|job| job.is_active()) {
            jobs.push(job.to_owned());
        }
    }
    Ok(jobs)
}
