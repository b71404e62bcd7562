//! `sirocco submit`: everything that `sirocco train` does before ranks start, a script, and a job.

mod points;
mod prepared;
mod signals;
mod sweep;

use std::fs;
use std::path::{Path, PathBuf};

use serde::Serialize;
use sirocco_config::{Run, RunFile, shell_word};
use sirocco_policy::Action;

use crate::allowed::{Asked, PATIENTLY, Question};
use crate::chain::cancel::active;
use crate::chain::environment;
use crate::chain::history::Past;
use crate::chain::needs::site_of;
use crate::chain::record::{self, Event, What};
use crate::chain::script::{Script, job_name};
use crate::chain::slurm::{self, Submission};
use crate::cli;
use crate::confined::in_job;
use crate::failure::{Failure, Kind};
use crate::gate::{RunPolicy, next_action};
use crate::output::{self, count, say};
use crate::preflight::Place;
use crate::programs::absolute;
use crate::train::directory::RunDirectory;
use crate::train::{Ready, curve, directory_of, here, read_run_file, run_to_resume, steps_of};

pub(crate) use prepared::prepare_confined;

/// The fields of `--json`, in their order.
#[derive(Debug, Serialize)]
struct Submitted {
    name: String,
    run_dir: String,
    job: String,
    /// By which squeue knows every job of the run.
    job_name: String,
    script: String,
    /// Of a sweep: the directory of each run.
    runs: Vec<String>,
    /// Variables of the environment that stay behind.
    dropped_environment: Vec<String>,
}

/// The fields of `--dry-run --json`, in their order: as [`Submitted`], as far as that is known before anything is made.
#[derive(Debug, Serialize)]
struct Rendered {
    name: String,
    run_dir: String,
    job_name: String,
    script: String,
    /// What would be written there.
    text: String,
    /// sbatch's, as the text has them.
    options: Vec<String>,
    runs: Vec<String>,
    dropped_environment: Vec<String>,
}

pub(crate) fn run(arguments: &cli::Submit) -> Result<(), Failure> {
    let points = sweep::points_of(arguments)?;
    // What the site says is known at once, what the data says perhaps after an hour.
    let (file, run, directory) = typed(arguments)?;
    let (site, absolute) = (site_of(&file, &run)?, absolute(&directory)?);
    let script = Script::new(&run, &site, &absolute, points.as_ref().map(Vec::len))?;
    let text = script.render()?;
    ask_early(arguments, &run)?;
    if arguments.dry_run {
        if !arguments.json {
            return output::text(&text);
        }
        return output::json(&Rendered {
            job_name: job_name(&run.name, &absolute),
            name: run.name.clone(),
            run_dir: directory.display().to_string(),
            script: script.path().display().to_string(),
            text,
            options: script.options(),
            runs: points.map_or_else(Vec::new, |points| sweep::directories(&directory, points.len())),
            dropped_environment: environment::leading_out(&run.site.keep_environment),
        });
    }
    // What Slurm refuses, it refuses before anything is made or changed here.
    refuse_early(arguments, &run, &directory)?;
    // It takes jobs, too, that will never start: those are refused here.
    Question::begin(Asked::of(&run, &site), PATIENTLY).answer(&file)?;
    slurm::test(&text, &environment::leading_out(&run.site.keep_environment))?;
    let submitted = match &points {
        Some(points) => sweep::submit(arguments, &directory, points)?,
        None => submit(arguments)?,
    };
    if arguments.json { output::json(&submitted) } else { submitted.print() }
}

/// Asks the policy before anything is made or tested, about what is known so far: the data is measured later.
fn ask_early(arguments: &cli::Submit, run: &Run) -> Result<(), Failure> {
    let typed = &arguments.wanted.run;
    let directory = typed.is_dir().then_some(typed.as_path());
    let action = directory.map_or(Action::Train, next_action);
    in_job::means(run, action)?;
    let policy = RunPolicy::for_place(run, Place::Cluster)?;
    policy.plan_early(action, run, directory)?;
    policy.expect_signer()
}

impl Submitted {
    fn print(&self) -> Result<(), Failure> {
        let Submitted { run_dir, job, job_name, runs, .. } = self;
        let word = shell_word(run_dir);
        if runs.is_empty() {
            output::line(format_args!("{run_dir}: submitted as job {job} ({job_name})"))?;
        } else {
            let runs = count(runs.len() as u64, "run");
            output::line(format_args!("{run_dir}: {runs} submitted as the array of jobs {job} ({job_name})"))?;
        }
        output::line(format_args!("next: sirocco watch {word}, and in the end sirocco report {word}"))
    }
}

/// What was typed, and the directory that it is about.
fn typed(arguments: &cli::Submit) -> Result<(RunFile, Run, PathBuf), Failure> {
    let wanted = &arguments.wanted;
    if wanted.run.is_dir() {
        let directory = RunDirectory::existing(&wanted.run)?;
        let (file, run) = run_to_resume(&directory, &wanted.overrides)?;
        return Ok((file, run, wanted.run.clone()));
    }
    let file = read_run_file(&wanted.run, &wanted.overrides)?;
    let run = file.check(&here()?)?;
    let directory = directory_of(&run, wanted.dir.as_deref());
    Ok((file, run, directory))
}

/// One run, new or to go on.
fn submit(arguments: &cli::Submit) -> Result<Submitted, Failure> {
    let ready = prepared::prepared(&arguments.wanted, arguments.json)?;
    signals::obey()?;
    let (directory, name) = (ready.directory.path(), job_name(&ready.run.name, ready.directory.path()));
    let path = write_script(&ready, None)?;
    let dropped = dropped(&ready.run);
    let known: Vec<String> = Past::read(directory)?.jobs().map(str::to_owned).collect();
    let submission = Submission { script: &path, name: &name, known: &known, excluded: &[], leading_out: &dropped };
    let job = slurm::submit(&submission)?;
    note(directory, &job)?;
    Ok(Submitted {
        name: ready.run.name.clone(),
        run_dir: ready.directory.shown().to_string(),
        job,
        job_name: name,
        script: path.display().to_string(),
        runs: vec![],
        dropped_environment: dropped,
    })
}

/// Writes the script of a run, or that of a sweep whose runs are like this one, and makes room for what its jobs write.
fn write_script(ready: &Ready, sweep: Option<(&Path, usize)>) -> Result<PathBuf, Failure> {
    let directory = sweep.map_or_else(|| Ok(ready.directory.path().to_owned()), |(directory, _)| absolute(directory))?;
    let site = site_of(&ready.file, &ready.run)?;
    let script = Script::new(&ready.run, &site, &directory, sweep.map(|(_, runs)| runs))?;
    let (path, text) = (script.path(), script.render()?);
    let written = fs::create_dir_all(directory.join("logs")).and_then(|()| fs::write(&path, text));
    written.map_err(|error| Failure::new(Kind::Failed, format_args!("{}: cannot be written: {error}", path.display())))?;
    Ok(path)
}

/// What stays behind of the environment; said aloud.
fn dropped(run: &Run) -> Vec<String> {
    let dropped = environment::leading_out(&run.site.keep_environment);
    if !dropped.is_empty() {
        let names = dropped.join(", ");
        say(format_args!(
            "note: not taken into the job, because they lead out of the site: {names} ([site] keep_environment takes them)"
        ));
    }
    dropped
}

/// Writes down that a person has submitted a run.
fn note(directory: &Path, job: &str) -> Result<(), Failure> {
    record::add(directory, &Event::now(job, What::Submitted { after: None, excluded: vec![] }))
}

/// Refuses a run that has a job already, or of which nothing is left.
fn refuse_early(arguments: &cli::Submit, run: &Run, directory: &Path) -> Result<(), Failure> {
    if !arguments.wanted.run.is_dir() {
        return Ok(());
    }
    let directory = RunDirectory::existing(directory)?;
    let word = directory.word();
    if let Some(job) = active(&directory, run)?.first() {
        let message = format!("job {job} of this run waits or runs already: expected none");
        return Err(Failure::usage(message).help(format_args!("sirocco status {word} shows it, sirocco cancel {word} ends it")));
    }
    let done = directory.newest_checkpoint()?.unwrap_or(0);
    // Of a run in epochs whose tokens are gone nobody knows it yet.
    let Ok(steps) = steps_of(&directory, run) else { return Ok(()) };
    if done < steps || curve(&directory)?.lacks_last_evaluation(run, steps) {
        return Ok(());
    }
    let message = format!("{}: {done} of {steps} steps are done: there is nothing left to submit", directory.shown());
    Err(Failure::usage(message).help("--set train.steps=N goes on for longer; sirocco export takes out what was learnt"))
}
