//! Everything that the files of one run say, read once. What is missing or damaged becomes a note: a report of a run that broke is worth more
//! than none.
use std::fs;
use std::path::Path;

use sirocco_checkpoint::{Architecture, Checkpoints, ModelDir, RunState};
use sirocco_config::{Length, Method, Run, RunFile};
use sirocco_tokens::{SourceCounts, TokenCache};

use crate::chain::history::{Job, current, jobs};
use crate::chain::record;
use crate::failure::{Failure, Kind};
use crate::report::chain::{Stint, stints};
use crate::report::cost::{Cost, cost};
use crate::report::log::Log;
use crate::report::samples::{self, Sample};
use crate::report::series::Series;
use crate::train::directory::RunDirectory;
use crate::train::{here, tokens};
use crate::watch::state::{State, is_done};

/// One run.
pub(crate) struct Facts {
    pub(crate) directory: RunDirectory,
    pub(crate) run: Run,
    /// run.toml as it stands.
    pub(crate) run_text: String,
    pub(crate) series: Series,
    pub(crate) log: Log,
    pub(crate) stints: Vec<Stint>,
    pub(crate) jobs: Vec<Job>,
    /// Of the whole run; none while the number of sequences is not known.
    pub(crate) steps: Option<u64>,
    pub(crate) base: Option<Architecture>,
    pub(crate) train: Option<Data>,
    pub(crate) valid: Option<Data>,
    pub(crate) saved: Saved,
    pub(crate) samples: Vec<Sample>,
    pub(crate) cost: Cost,
    /// What is missing or wrong.
    pub(crate) notes: Vec<String>,
}

/// The data of one side, as the token cache describes what it was made from.
pub(crate) struct Data {
    pub(crate) sources: Vec<SourceCounts>,
    /// SHA-256 of the tokens.
    pub(crate) digest: String,
    pub(crate) tokenizer: String,
}

/// The checkpoints that are there.
#[derive(Default)]
pub(crate) struct Saved {
    /// The step of each, rising, and its bytes.
    pub(crate) checkpoints: Vec<(u64, u64)>,
    /// The one to go on from.
    pub(crate) newest: Option<u64>,
    pub(crate) state: Option<RunState>,
}

impl Facts {
    /// Reads a run directory.
    pub(crate) fn of(path: &Path) -> Result<Facts, Failure> {
        let directory = RunDirectory::existing(path)?;
        let run = RunFile::read(&directory.typed_run_file())?.check(&here()?)?;
        let run_file = directory.run_file();
        let run_text = fs::read_to_string(&run_file)
            .map_err(|error| Failure::new(Kind::Failed, format_args!("{}: cannot be read: {error}", run_file.display())))?;
        let (series, log) = (Series::read(&directory.metrics())?, Log::read(&directory.log(0))?);
        let events = record::read(directory.path())?;
        let mut notes = series.notes.clone();
        let steps = steps(&run, &directory, &log);
        let stints = stints(&events, &log, steps);
        let base = noted(&mut notes, "the base model", ModelDir::open(&run.model.path).and_then(|model| model.architecture()));
        let train = noted(&mut notes, "the training tokens", data(&directory.tokens().join("train.tokens")));
        let valid = match run.data.valid.as_slice() {
            [] => None,
            _ => noted(&mut notes, "the held-out tokens", data(&directory.tokens().join("valid.tokens"))),
        };
        let (saved, samples) = (Saved::of(&directory, &mut notes), samples::read(&directory, &mut notes)?);
        let cost = cost(&run, &stints);
        Ok(Facts {
            directory,
            run,
            run_text,
            series,
            log,
            stints,
            jobs: jobs(events),
            steps,
            base,
            train,
            valid,
            saved,
            samples,
            cost,
            notes,
        })
    }

    /// As `sirocco status` says it.
    pub(crate) fn state(&self) -> State {
        let curve = &self.series.curve;
        let is_done = is_done(&self.run, curve, self.steps, self.saved.newest);
        State::of(self.directory.at_work().is_some(), current(&self.jobs), is_done, curve.step())
    }

    /// How many numbers are trained.
    pub(crate) fn trained(&self) -> Option<u64> {
        let tensors = self.base.as_ref()?.expected_tensors();
        let size = |shape: &[usize]| shape.iter().product::<usize>() as u64;
        Some(match &self.run.method {
            Method::Full => tensors.iter().map(|(_, shape)| size(shape)).sum(),
            Method::Lora { rank, targets, .. } => {
                let is_target = |name: &str| targets.projections().iter().any(|projection| name.contains(projection.name()));
                // A is rank × in, B is out × rank.
                let adapted = tensors.iter().filter(|(name, _)| is_target(name));
                adapted.map(|(_, shape)| rank * shape.iter().sum::<usize>() as u64).sum()
            }
        })
    }

    /// How many numbers the base has.
    pub(crate) fn parameters(&self) -> Option<u64> {
        let tensors = self.base.as_ref()?.expected_tensors();
        Some(tensors.iter().map(|(_, shape)| shape.iter().product::<usize>() as u64).sum())
    }

    /// Steps after which the ranks were started again.
    pub(crate) fn restarts(&self) -> Vec<u64> {
        let logged = self.log.starts.iter().skip(1).filter_map(|start| start.from_step);
        let attempts = self.stints.iter().flat_map(|stint| &stint.attempts);
        let mut steps: Vec<u64> = logged.chain(attempts.skip(1).filter_map(|attempt| attempt.from_step)).collect();
        steps.sort_unstable();
        steps.dedup();
        steps
    }
}

fn steps(run: &Run, directory: &RunDirectory, log: &Log) -> Option<u64> {
    match run.train.length {
        Length::Steps(steps) => Some(steps),
        Length::Epochs(_) => {
            let told = log.starts.iter().rev().find_map(|start| start.steps);
            told.or_else(|| run.steps(tokens::open(run, &directory.tokens()).ok()?.train.sequences).ok())
        }
    }
}

/// What was read, or a note that it was not.
fn noted<T, E: std::fmt::Display>(notes: &mut Vec<String>, what: &str, read: Result<T, E>) -> Option<T> {
    read.inspect_err(|error| notes.push(format!("{what} cannot be described: {error}"))).ok()
}

fn data(path: &Path) -> Result<Data, sirocco_tokens::TokensError> {
    let cache = TokenCache::open(path)?;
    let header = cache.header();
    Ok(Data { sources: header.sources.clone(), digest: cache.digest().to_owned(), tokenizer: header.inputs.tokenizer.clone() })
}

impl Saved {
    fn of(directory: &RunDirectory, notes: &mut Vec<String>) -> Saved {
        let checkpoints = Checkpoints::new(directory.path());
        let newest = noted(notes, "the newest checkpoint", checkpoints.latest()).flatten();
        let steps = noted(notes, "the checkpoints", checkpoints.steps()).unwrap_or_default();
        let size = |step: u64| {
            let entries = fs::read_dir(checkpoints.path().join(format!("step-{step:08}"))).into_iter().flatten().flatten();
            entries.filter_map(|entry| entry.metadata().ok()).filter(|found| found.is_file()).map(|found| found.len()).sum()
        };
        let opened = newest.and_then(|step| noted(notes, &format!("the checkpoint of step {step}"), checkpoints.open(step)));
        Saved {
            checkpoints: steps.into_iter().map(|step| (step, size(step))).collect(),
            newest,
            state: opened.map(|checkpoint| checkpoint.state().clone()),
        }
    }
}
