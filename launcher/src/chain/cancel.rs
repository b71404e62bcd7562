//! `sirocco cancel`: ends the chain of a run, with a checkpoint if there is time for one.
use std::time::{Duration, Instant};

use serde::Serialize;
use sirocco_config::{Run, RunFile};

use crate::chain::history::Past;
use crate::chain::record::{self, Event, What};
use crate::chain::script::job_name;
use crate::chain::slurm;
use crate::cli;
use crate::failure::Failure;
use crate::output;
use crate::train::directory::RunDirectory;
use crate::train::here;

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

pub(crate) fn run(arguments: &cli::Cancel) -> Result<(), Failure> {
    let directory = RunDirectory::existing(&arguments.run)?;
    let run = RunFile::read(&directory.run_file())?.check(&here()?)?;
    let jobs = active(&directory, &run)?;
    let (mut stopping, mut removed) = (vec![], vec![]);
    for id in jobs {
        // First the record, which the job reads before it goes on.
        record::add(directory.path(), &Event::now(&id, What::Cancelled))?;
        let runs = slurm::job(&id)?.is_some_and(|job| job.state == "RUNNING");
        match (runs, arguments.now) {
            (true, false) => slurm::cancel(&id, Some("USR1"))?,
            (true, true) => {
                // Ranks that are asked nicely save first.
                slurm::end_steps(&id)?;
                slurm::cancel(&id, None)?;
            }
            (false, _) => slurm::cancel(&id, None)?,
        }
        if runs { stopping.push(id) } else { removed.push(id) }
    }
    if arguments.json {
        return output::json(&Cancelled { run_dir: directory.shown().to_string(), stopping, removed });
    }
    let shown = directory.shown();
    if !stopping.is_empty() {
        let how = if arguments.now { "was ended" } else { "stops at its next step, with a checkpoint" };
        output::line(format_args!("{shown}: job {} {how}", stopping.join(", ")))?;
    } else if removed.is_empty() {
        output::line(format_args!("{shown}: no job of this run waits or runs"))?;
    }
    if !removed.is_empty() {
        output::line(format_args!("{shown}: job {} was removed before it ran", removed.join(", ")))?;
    }
    output::line(format_args!("to go on: sirocco submit {}", directory.word()))
}

/// The jobs of a run that wait or run. A run of a sweep began as one job of an array, which has another name: the record knows it.
pub(crate) fn active(directory: &RunDirectory, run: &Run) -> Result<Vec<String>, Failure> {
    let mut jobs = slurm::jobs_called(&job_name(&run.name, directory.path()), Instant::now() + PATIENCE)?;
    for job in Past::read(directory.path())?.jobs() {
        if !jobs.iter().any(|known| known == job) && slurm::job(job)?.is_some_and(|job| job.is_active()) {
            jobs.push(job.to_owned());
        }
    }
    Ok(jobs)
}
