//! `sirocco train`: check, prepare the directory, tokenise, start the ranks, say how it ended.

pub(crate) mod alarms;
pub(crate) mod directory;
pub(crate) mod ended;
pub(crate) mod holder;
pub(crate) mod interrupt;
mod marks;
pub(crate) mod metrics;
pub(crate) mod outcome;
mod progress;
pub(crate) mod ranks;
pub(crate) mod requests;
pub(crate) mod several;
pub(crate) mod summary;
pub(crate) mod tokens;
pub(crate) mod voices;

use std::fs::File;
use std::path::{Path, PathBuf};

use sirocco_config::{Length, Run, RunFile};
use sirocco_policy::Action;

use crate::cli::{self, Overrides, Wanted};
use crate::confined;
use crate::failure::{Failure, Kind};
use crate::gate::{RunPolicy, next_action};
use crate::output::{count, mesh, say};
use crate::plan::expect_disk;
use crate::preflight::{Place, preflight};
use crate::report::tensorboard;
use directory::RunDirectory;
use interrupt::unless_interrupted;
use metrics::Curve;
use outcome::{STOPPED, State};
use progress::Progress;
use summary::Summary;
use tokens::Source;

/// What a stop ends before the ranks are started.
const TOKENISING: &str = "the data was tokenised";
const READING: &str = "the data was read";

/// A run that is ready for its ranks.
pub(crate) struct Ready {
    /// What `run` was made of.
    pub(crate) file: RunFile,
    pub(crate) run: Run,
    pub(crate) directory: RunDirectory,
    lock: File,
    /// Optimizer steps of the whole run.
    pub(crate) steps: u64,
}

impl Ready {
    /// A run that another process has just prepared.
    pub(crate) fn again(wanted: &Wanted) -> Result<Ready, Failure> {
        let (file, run, directory) = if wanted.run.is_dir() {
            let directory = RunDirectory::existing(&wanted.run)?;
            let (file, run) = run_to_resume(&directory, &wanted.overrides)?;
            (file, run, directory)
        } else {
            let file = read_run_file(&wanted.run, &wanted.overrides)?;
            let run = file.check(&here()?)?;
            let directory = RunDirectory::existing(&directory_of(&run, wanted.dir.as_deref()))?;
            (file, run, directory)
        };
        let (lock, steps) = (directory.lock()?, steps_of(&directory, &run)?);
        Ok(Ready { file, run, directory, lock, steps })
    }
}

/// What the policy is asked about a run before its ranks are started, which ask again.
#[derive(Clone, Copy)]
pub(crate) enum Asks {
    /// May its data be tokenised, and may it be trained?
    All,
    /// The first alone: no rank will be started, and others may have to approve of the training first.
    Preparing,
}

/// Trains or resumes. Returns the exit code: 0, or 75 after an early stop with a checkpoint.
pub(crate) fn run(arguments: &cli::Train) -> Result<u8, Failure> {
    let only_prepares = arguments.until == Some(0);
    let asks = if only_prepares { Asks::Preparing } else { Asks::All };
    let Ready { run, directory, lock, steps, .. } = prepare(&arguments.wanted, arguments.json, (Place::Here, asks))?;
    let done = directory.newest_checkpoint()?.unwrap_or(0);
    if only_prepares {
        confined::record(&directory, &run)?;
        say(format_args!("{}: prepared, {done} of {steps} steps done", directory.shown()));
        return Summary::of(&directory, &run, steps, State::Stopped)?.print(arguments.json).map(|()| 0);
    }
    let goal = arguments.until.map_or(steps, |until| until.min(steps));
    let only_evaluation = done == steps && curve(&directory)?.lacks_last_evaluation(&run, steps);
    if done >= goal && !only_evaluation {
        let (state, code) = if done >= steps { (State::Complete, 0) } else { (State::Stopped, STOPPED) };
        return Summary::of(&directory, &run, steps, state)?.print(arguments.json).or_else(Failure::unless_unread).map(|()| code);
    }
    let (mesh, threads) = (mesh(&run.parallel), count(ranks::threads(run.ranks()), "thread"));
    let left = if only_evaluation { " and the last evaluation left" } else { "" };
    say(format_args!("{}: {done} of {steps} steps done{left}, {mesh} of {threads}", directory.shown()));
    confined::record(&directory, &run)?;
    let mut progress = Progress::new(done, steps);
    let start = ranks::Start { directory: &directory, ranks: run.ranks(), until: arguments.until, lock };
    let ended = ranks::run(start, &mut progress)?;
    if let Err(failure) = tensorboard::write_for(&directory) {
        // What was trained is there; curves can be written again.
        say(format_args!("note: no curves for TensorBoard: {}", failure.message));
    }
    let (state, code) = outcome::judge(&ended, &directory, run.ranks())?;
    Summary::of(&directory, &run, steps, state)?.print(arguments.json).or_else(Failure::unless_unread)?;
    Ok(code)
}

/// Everything that has to be done and refused before ranks can start.
pub(crate) fn prepare(wanted: &Wanted, as_json: bool, how: (Place, Asks)) -> Result<Ready, Failure> {
    if wanted.run.is_dir() { resume(wanted, as_json, how) } else { begin(wanted, as_json, how) }
}

/// The run file with the overrides of the command line, and a note about each setting that changes nothing.
pub(crate) fn read_run_file(path: &Path, overrides: &Overrides) -> Result<RunFile, Failure> {
    let mut file = RunFile::read(path)?;
    overrides.set.iter().try_for_each(|text| file.set(text))?;
    if let Some(ranks) = overrides.ranks {
        file.set_ranks(ranks)?;
    }
    for ignored in file.ignored() {
        say(format_args!("note: {}: {} has no effect: {}", ignored.at, ignored.setting, ignored.because));
    }
    Ok(file)
}

/// The directory where relative paths start.
pub(crate) fn here() -> Result<PathBuf, Failure> {
    std::env::current_dir().map_err(|error| Failure::new(Kind::Failed, format_args!("the working directory: {error}")))
}

/// The run directory of a run file: as typed, or `runs/NAME`.
pub(crate) fn directory_of(run: &Run, typed: Option<&Path>) -> PathBuf {
    typed.map_or_else(|| Path::new("runs").join(&run.name), Path::to_owned)
}

fn begin(arguments: &Wanted, as_json: bool, (place, asks): (Place, Asks)) -> Result<Ready, Failure> {
    let file = read_run_file(&arguments.run, &arguments.overrides)?;
    let run = file.check(&here()?)?;
    let policy = RunPolicy::for_place(&run, place)?;
    let found = preflight(&file, &run, place)?;
    let directory = directory_of(&run, arguments.dir.as_deref());
    expect_disk(&run, &found.architecture, &directory, false)?;
    RunDirectory::free(&directory)?;
    let data = unless_interrupted(as_json, READING, || {}, || policy.measure(&run, None))?;
    match asks {
        Asks::All => policy.expect(Action::Train, &data, None)?,
        Asks::Preparing => policy.expect_preparing(&data, None)?,
    }
    let (directory, made) = RunDirectory::for_new_run(&directory)?;
    let lock = directory.lock()?;
    // Another command may have made a run here since the first look.
    directory.refuse_other_contents(None)?;
    let prepare = || {
        let book = policy.book(directory.path())?;
        let data = policy.admit(data, &book)?;
        let source = Source { run: &run, tokenizer: &found.tokenizer, data: &data };
        let work = || tokens::prepare(&source, &directory.tokens());
        let tokens = unless_interrupted(as_json, TOKENISING, || directory.clear(made), work)?;
        let steps = tokens.steps(&file, &run)?;
        policy.prepared(&data, &tokens, &book)?;
        directory.write_run(&run)?;
        Ok(steps)
    };
    match prepare() {
        Ok(steps) => Ok(Ready { file, run, directory, lock, steps }),
        Err(failure) => {
            directory.clear(made);
            Err(failure)
        }
    }
}

fn resume(arguments: &Wanted, as_json: bool, (place, asks): (Place, Asks)) -> Result<Ready, Failure> {
    let directory = RunDirectory::existing(&arguments.run)?;
    if arguments.dir.is_some() {
        let message = format!("--dir: {} is a run directory already", directory.shown());
        return Err(Failure::usage(message).help("--dir names the directory of a new run; leave it out to resume"));
    }
    // Whatever else is wrong: of a run that is in progress that is what to say.
    directory.refuse_at_work()?;
    let (file, run) = run_to_resume(&directory, &arguments.overrides)?;
    let policy = RunPolicy::for_place(&run, place)?;
    let found = preflight(&file, &run, place)?;
    expect_disk(&run, &found.architecture, &arguments.run, true)?;
    let tokens = directory.tokens();
    let data = unless_interrupted(as_json, READING, || {}, || policy.measure(&run, Some(&tokens)))?;
    match asks {
        Asks::All => policy.expect(next_action(directory.path()), &data, Some(directory.path()))?,
        Asks::Preparing => policy.expect_preparing(&data, Some(directory.path()))?,
    }
    let lock = directory.lock()?;
    directory.warn_of_missing_latest()?;
    directory.warn_of_lost_steps(curve(&directory)?.step())?;
    let book = policy.book(directory.path())?;
    let data = policy.admit(data, &book)?;
    let source = Source { run: &run, tokenizer: &found.tokenizer, data: &data };
    let work = || tokens::open_or_build(&source, &tokens, &tokens);
    let made = unless_interrupted(as_json, TOKENISING, || directory.clear_partial_tokens(), work)?;
    policy.prepared(&data, &made, &book)?;
    let steps = made.steps(&file, &run).map_err(Failure::on_resuming)?;
    if !arguments.overrides.set.is_empty() || arguments.overrides.ranks.is_some() {
        directory.write_run(&run)?;
    }
    Ok(Ready { file, run, directory, lock, steps })
}

/// The run file of a run directory with the overrides of the command line, as resuming it takes them.
pub(crate) fn run_to_resume(directory: &RunDirectory, overrides: &Overrides) -> Result<(RunFile, Run), Failure> {
    let file = read_run_file(&directory.typed_run_file(), overrides)?;
    file.refuse_fixed_overrides()?;
    let run = file.check(&here()?).map_err(Failure::on_resuming)?;
    Ok((file, run))
}

/// Optimizer steps of a run that was prepared.
pub(crate) fn steps_of(directory: &RunDirectory, run: &Run) -> Result<u64, Failure> {
    match run.train.length {
        Length::Steps(steps) => Ok(steps),
        Length::Epochs(_) => Ok(run.steps(tokens::open(run, &directory.tokens())?.train.sequences)?),
    }
}

/// Reads a run's metrics.
pub(crate) fn curve(directory: &RunDirectory) -> Result<Curve, Failure> {
    let path = directory.metrics();
    Curve::read(&path).map_err(|error| Failure::new(Kind::Failed, format_args!("{}: cannot be read: {error}", path.display())))
}
