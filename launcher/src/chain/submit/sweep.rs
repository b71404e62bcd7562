//! Submits the runs of a sweep as one array of jobs.
use std::path::{Path, PathBuf};

use sirocco_config::Run;
use sirocco_policy::Action;

use super::points;
use super::prepared::prepared;
use super::{Submitted, dropped, note, signals, write_script};
use crate::chain::needs::site_of;
use crate::chain::script::job_name;
use crate::chain::slurm::{self, Submission};
use crate::cli::{self, Overrides, Wanted};
use crate::confined::in_job;
use crate::failure::Failure;
use crate::gate::RunPolicy;
use crate::preflight::Place;
use crate::programs::absolute;
use crate::train::{Ready, here, read_run_file};

/// The settings of each run of the sweep that is asked for; `None` for one run.
pub(super) fn points_of(arguments: &cli::Submit) -> Result<Option<Vec<Vec<String>>>, Failure> {
    if arguments.sweep.is_empty() && arguments.sweep_file.is_none() {
        return Ok(None);
    }
    let points = points::points(&arguments.sweep, arguments.sweep_file.as_deref())?;
    if arguments.wanted.run.is_dir() {
        let message = format!("{} is a run directory: expected a run file to sweep", arguments.wanted.run.display());
        return Err(Failure::usage(message).help("a sweep begins new runs; each of them goes on with sirocco submit RUN_DIR"));
    }
    Ok(Some(points))
}

/// Where its runs will be.
pub(super) fn directories(directory: &Path, runs: usize) -> Vec<String> {
    (0..runs).map(|number| directory.join(points::name(number)).display().to_string()).collect()
}

/// Many new runs, each below `directory`.
pub(super) fn submit(arguments: &cli::Submit, directory: &Path, points: &[Vec<String>]) -> Result<Submitted, Failure> {
    if directory.exists() {
        let message = format!("{} is there already: expected a new directory for the sweep", directory.display());
        return Err(Failure::usage(message).help("choose another name for the runs, or --dir"));
    }
    let wanted: Vec<Wanted> =
        points.iter().enumerate().map(|(number, point)| wanted_of(&arguments.wanted, directory, number, point)).collect();
    // All are looked at before the first is made.
    expect_alike(&wanted.iter().map(checked).collect::<Result<Vec<_>, _>>()?)?;
    let ready: Vec<Ready> = wanted.iter().map(|wanted| prepared(wanted, arguments.json)).collect::<Result<_, _>>()?;
    signals::obey()?;
    points::write(directory, points)?;
    let mut path = PathBuf::new();
    for (number, run) in ready.iter().enumerate() {
        write_script(run, None)?;
        if number == 0 {
            path = write_script(run, Some((directory, points.len())))?;
        }
    }
    let first = &ready[0].run;
    let (name, dropped) = (job_name(&first.name, &absolute(directory)?), dropped(first));
    let job = slurm::submit(&Submission { script: &path, name: &name, known: &[], excluded: &[], leading_out: &dropped })?;
    for (number, run) in ready.iter().enumerate() {
        note(run.directory.path(), &format!("{job}_{number}"))?;
    }
    Ok(Submitted {
        name: first.name.clone(),
        run_dir: directory.display().to_string(),
        job,
        job_name: name,
        script: path.display().to_string(),
        runs: ready.iter().map(|run| run.directory.shown().to_string()).collect(),
        dropped_environment: dropped,
    })
}

fn wanted_of(all: &Wanted, directory: &Path, number: usize, point: &[String]) -> Wanted {
    let set = [&all.overrides.set[..], point].concat();
    Wanted {
        run: all.run.clone(),
        dir: Some(directory.join(points::name(number))),
        overrides: Overrides { ranks: all.overrides.ranks, set },
    }
}

/// The run that was meant, if it can work on its site.
fn checked(wanted: &Wanted) -> Result<Run, Failure> {
    let file = read_run_file(&wanted.run, &wanted.overrides)?;
    let run = file.check(&here()?)?;
    site_of(&file, &run)?;
    in_job::means(&run, Action::Train)?;
    RunPolicy::for_place(&run, Place::Cluster)?.plan_early(Action::Train, &run, None)?;
    Ok(run)
}

/// Refuses runs that one array of jobs cannot hold.
fn expect_alike(runs: &[Run]) -> Result<(), Failure> {
    let Some(number) = runs.iter().position(|run| run.ranks() != runs[0].ranks() || run.site != runs[0].site) else {
        return Ok(());
    };
    let name = points::name(number);
    let message = format!("run {name} of the sweep asks Slurm for something else than the first: expected one size for all");
    Err(Failure::usage(message)
        .help("jobs of an array are alike: submit runs that differ in [site] or in their number of ranks one by one"))
}
