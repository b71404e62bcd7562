//! `sirocco submit`: everything that `sirocco train` does before ranks start, a script, and a job.
use std::fs;
use std::path::{Path, PathBuf};

use serde::Serialize;
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};
use signal_hook::iterator::Signals;
use sirocco_config::{Device, Run, RunFile, shell_word};
use sirocco_site::{Scheduler, Site};

use crate::allowed::{Asked, PATIENTLY, Question};
use crate::chain::cancel::active;
use crate::chain::record::{self, Event, What};
use crate::chain::script::{Script, job_name, lacking, needs};
use crate::chain::slurm::{self, Submission};
use crate::chain::{environment, sweep};
use crate::cli::{self, Overrides, Wanted};
use crate::failure::{Failure, Kind};
use crate::output::{self, count, say};
use crate::preflight::Place;
use crate::programs::absolute;
use crate::site::find;
use crate::train::directory::RunDirectory;
use crate::train::{Ready, curve, directory_of, here, prepare, read_run_file, run_to_resume, steps_of};

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

pub(crate) fn run(arguments: &cli::Submit) -> Result<(), Failure> {
    let points = sweep::points(&arguments.sweep, arguments.sweep_file.as_deref())?;
    let is_sweep = !arguments.sweep.is_empty() || arguments.sweep_file.is_some();
    if is_sweep && arguments.wanted.run.is_dir() {
        let message = format!("{} is a run directory: expected a run file to sweep", arguments.wanted.run.display());
        return Err(Failure::usage(message).help("a sweep begins new runs; each of them goes on with sirocco submit RUN_DIR"));
    }
    // What the site says is known at once, what the data says perhaps after an hour.
    let (file, run, directory) = typed(arguments)?;
    let site = site_of(&file, &run)?;
    if arguments.dry_run {
        let sweep = is_sweep.then_some(points.len());
        return output::text(&script(&run, &site, &absolute(&directory)?, sweep)?.render()?);
    }
    let sweep = is_sweep.then_some(points.len());
    // What Slurm refuses, it refuses before anything is made or changed here.
    refuse_early(arguments, &run, &directory)?;
    let text = script(&run, &site, &absolute(&directory)?, sweep)?.render()?;
    // It takes jobs, too, that will never start: those are refused here.
    Question::begin(Asked::of(&run, &site), PATIENTLY).answer(&file)?;
    slurm::test(&text, &environment::leading_out(&run.site.keep_environment))?;
    let submitted = if is_sweep { submit_sweep(arguments, &directory, &points)? } else { submit_run(arguments)? };
    if arguments.json {
        return output::json(&submitted);
    }
    let Submitted { run_dir, job, job_name, runs, .. } = submitted;
    let word = shell_word(&run_dir);
    if is_sweep {
        output::line(format_args!(
            "{run_dir}: {} submitted as the array of jobs {job} ({job_name})",
            count(runs.len() as u64, "run")
        ))?;
        return output::line(format_args!("next: sirocco status {}, and in the end sirocco report {word}", shell_word(&runs[0])));
    }
    output::line(format_args!("{run_dir}: submitted as job {job} ({job_name})"))?;
    output::line(format_args!("next: sirocco watch {word}"))
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
fn submit_run(arguments: &cli::Submit) -> Result<Submitted, Failure> {
    let ready = prepare(&arguments.wanted, arguments.json, Place::Cluster)?;
    obey_signals()?;
    let (directory, name) = (ready.directory.path(), job_name(&ready.run.name, ready.directory.path()));
    let path = write_script(&ready, None)?;
    let dropped = dropped(&ready.run);
    let known: Vec<String> =
        record::read(directory).map_err(|error| unwritten(&path, &error))?.into_iter().map(|event| event.job).collect();
    let submission = Submission { script: &path, name: &name, known: &known, excluded: &[], leading_out: &dropped };
    let job = slurm::submit(&submission)?;
    note(directory, &job)?;
    let run_dir = ready.directory.shown().to_string();
    let script = path.display().to_string();
    Ok(Submitted {
        name: ready.run.name.clone(),
        run_dir,
        job,
        job_name: name,
        script,
        runs: vec![],
        dropped_environment: dropped,
    })
}

/// Many new runs, each below `directory`.
fn submit_sweep(arguments: &cli::Submit, directory: &Path, points: &[Vec<String>]) -> Result<Submitted, Failure> {
    if directory.exists() {
        let message = format!("{} is there already: expected a new directory for the sweep", directory.display());
        return Err(Failure::usage(message).help("choose another name for the runs, or --dir"));
    }
    // All are looked at before the first is made.
    let wanted: Vec<Wanted> =
        points.iter().enumerate().map(|(number, point)| wanted_of(&arguments.wanted, directory, number, point)).collect();
    let runs: Vec<Run> = wanted.iter().map(checked).collect::<Result<_, _>>()?;
    if let Some(number) = runs.iter().position(|run| run.ranks() != runs[0].ranks() || run.site != runs[0].site) {
        let message = format!(
            "run {} of the sweep asks Slurm for something else than the first: expected one size for all",
            sweep::name(number)
        );
        return Err(Failure::usage(message)
            .help("jobs of an array are alike: submit runs that differ in [site] or in their number of ranks one by one"));
    }
    let ready: Vec<Ready> =
        wanted.iter().map(|wanted| prepare(wanted, arguments.json, Place::Cluster)).collect::<Result<_, _>>()?;
    obey_signals()?;
    sweep::write(directory, points)?;
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
    let mut runs = vec![];
    for (number, run) in ready.iter().enumerate() {
        note(run.directory.path(), &format!("{job}_{number}"))?;
        runs.push(run.directory.shown().to_string());
    }
    let (run_dir, script) = (directory.display().to_string(), path.display().to_string());
    Ok(Submitted { name: first.name.clone(), run_dir, job, job_name: name, script, runs, dropped_environment: dropped })
}

/// The run that was meant, if it can work on its site.
fn checked(wanted: &Wanted) -> Result<Run, Failure> {
    let file = read_run_file(&wanted.run, &wanted.overrides)?;
    let run = file.check(&here()?)?;
    site_of(&file, &run)?;
    Ok(run)
}

fn wanted_of(all: &Wanted, directory: &Path, number: usize, point: &[String]) -> Wanted {
    let set = [&all.overrides.set[..], point].concat();
    Wanted {
        run: all.run.clone(),
        dir: Some(directory.join(sweep::name(number))),
        overrides: Overrides { ranks: all.overrides.ranks, set },
    }
}

/// Writes the script of a run, or that of a sweep whose runs are like this one, and makes room for what its jobs write.
fn write_script(ready: &Ready, sweep: Option<(&Path, usize)>) -> Result<PathBuf, Failure> {
    let directory = sweep.map_or_else(|| Ok(ready.directory.path().to_owned()), |(directory, _)| absolute(directory))?;
    let site = site_of(&ready.file, &ready.run)?;
    let script = script(&ready.run, &site, &directory, sweep.map(|(_, runs)| runs))?;
    let path = directory.join(script.file());
    let text = script.render()?;
    let written = fs::create_dir_all(directory.join("logs")).and_then(|()| fs::write(&path, text));
    written.map_err(|error| unwritten(&path, &error))?;
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

fn note(directory: &Path, job: &str) -> Result<(), Failure> {
    let event = Event::now(job, What::Submitted { after: None, excluded: vec![] });
    record::add(directory, &event).map_err(|error| unwritten(&directory.join(record::FILE), &error))
}

fn unwritten(path: &Path, error: &std::io::Error) -> Failure {
    Failure::new(Kind::Failed, format_args!("{}: cannot be written: {error}", path.display()))
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

/// Preparing has taken the signals over: from here on they end this command again.
fn obey_signals() -> Result<(), Failure> {
    let failed = |error| Failure::new(Kind::Failed, format_args!("cannot watch for signals: {error}"));
    let mut signals = Signals::new([SIGINT, SIGTERM, SIGHUP]).map_err(failed)?;
    std::thread::spawn(move || {
        for signal in signals.forever() {
            // It ends the process, or another signal will.
            let _ = signal_hook::low_level::emulate_default_handler(signal);
        }
    });
    Ok(())
}

/// The site of a run, if the run can work there as far as its profile knows.
pub(crate) fn site_of(file: &RunFile, run: &Run) -> Result<Site, Failure> {
    let site = find::site(&run.site.profile)?.site;
    let at = file.place_of("site.profile");
    if site.scheduler != Scheduler::Slurm {
        let message = format!("{at}: [site] profile = {:?} has no scheduler: expected a site with Slurm", run.site.profile);
        return Err(Failure::usage(message).help(
            "--set site.profile=slurm is any cluster with Slurm; sirocco site list names others; sirocco train needs none",
        ));
    }
    let lacking = lacking(run, &site);
    if !lacking.is_empty() {
        let (title, names) = (&site.title, lacking.join(", "));
        let message = format!("{at}: {title} demands of every job: {names}; found none under [site]");
        let form = site.submit.iter().find_map(|known| known.facts.account_form.as_deref());
        let form = form
            .filter(|_| lacking.contains(&"account"))
            .map_or_else(String::new, |form| format!("; an account looks like {form}"));
        return Err(Failure::usage(message)
            .help(format_args!("--set site.{}=…; sirocco site show {} lists what there is{form}", lacking[0], site.name)));
    }
    if run.model.device == Device::Auto && partition_gpus(run, &site) > 0 {
        let (at, title) = (file.place_of("model.device"), &site.title);
        let message = format!(
            "{at}: [model] device = \"auto\" is the CPU, and the partition of {title} has GPUs: expected \"cuda\" or \"cpu\""
        );
        return Err(Failure::usage(message)
            .help("--set model.device=cuda computes on the GPUs; --set model.device=cpu leaves them unused"));
    }
    if let Some(reason) = site.refuses(&needs(run, gpus_per_node(run))) {
        let message = format!("{at}: this run cannot work on {}: {reason}", site.title);
        return Err(Failure::usage(message).help(format_args!("sirocco site show {} says what the site has", site.name)));
    }
    Ok(site)
}

/// GPUs that each node has to give: one for each of its ranks, unless the run computes on the hosts.
pub(crate) fn gpus_per_node(run: &Run) -> u64 {
    if run.model.device == Device::Cuda { run.ranks() / run.site.nodes } else { 0 }
}

/// GPUs of a node of the run's partition, as far as its profile knows.
fn partition_gpus(run: &Run, site: &Site) -> u64 {
    let name = run.site.partition.as_deref().or(site.default_partition.as_deref());
    let gpus = name.and_then(|name| site.partition(name)).and_then(|partition| partition.gpus.as_ref());
    gpus.map_or(0, |gpus| gpus.count)
}

fn script<'a>(run: &'a Run, site: &'a Site, directory: &'a Path, sweep: Option<usize>) -> Result<Script<'a>, Failure> {
    let own = |error| Failure::new(Kind::Machine, format_args!("cannot find the path of this program: {error}"));
    let sirocco = std::env::current_exe().map_err(own)?;
    Ok(Script { run, site, directory, sirocco, gpus_per_node: gpus_per_node(run), sweep })
}
