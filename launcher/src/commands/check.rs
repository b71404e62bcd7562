//! `sirocco check`: everything that would be refused later, now, of a run that would be started or resumed.
use std::fs::Permissions;
use std::os::unix::fs::PermissionsExt as _;
use std::path::PathBuf;

use serde::Serialize;
use sirocco_checkpoint::{ModelDir, RunState};
use sirocco_config::{Run, RunFile};
use tempfile::TempDir;

use crate::cli;
use crate::output::{self, count, grouped};
use crate::preflight::{Preflight, preflight};
use crate::report::{Failure, Kind};
use crate::train::directory::RunDirectory;
use crate::train::interrupt::unless_interrupted;
use crate::train::ranks::threads;
use crate::train::tokens::{self, Split, Tokens};
use crate::train::{directory_of, here, read_run_file, run_to_resume};

/// The fields of `--json`, in their order.
#[derive(Serialize)]
struct Checked<'a> {
    ok: bool,
    /// The complete run file.
    run: &'a Run,
    run_dir: String,
    parameters: u64,
    ranks: u64,
    threads: u64,
    steps: u64,
    /// Step of the newest checkpoint of a run that would be resumed.
    checkpoint: Option<u64>,
    data: &'a Tokens,
}

/// What was asked about.
struct Subject {
    file: RunFile,
    run: Run,
    found: Preflight,
    /// Where the run is or would be.
    directory: PathBuf,
    /// That it is there already.
    begun: Option<RunDirectory>,
}

pub(crate) fn run(arguments: &cli::Check) -> Result<(), Failure> {
    let subject = if arguments.run.is_dir() { to_resume(arguments)? } else { to_begin(arguments)? };
    let Subject { file, run, found, directory, begun } = &subject;
    let scratch = scratch()?;
    // The command ends then, with nobody left to care about what cannot be removed.
    let clear = || drop(std::fs::remove_dir_all(scratch.path()));
    let cached = begun.as_ref().map_or_else(|| scratch.path().to_owned(), RunDirectory::tokens);
    let data = unless_interrupted(arguments.json, clear, || tokens::open_or_build(run, &cached, scratch.path()))?;
    let wrong_length = if begun.is_some() { Failure::on_resuming } else { Failure::from };
    let steps = data.steps(file, run).map_err(wrong_length)?;
    let state = begun.as_ref().map_or(Ok(None), RunDirectory::whole_checkpoint)?;
    state.as_ref().map_or(Ok(()), |state| belongs(state, run, &data.train))?;
    let checkpoint = state.map(|state| state.step);
    let (ranks, threads) = (run.ranks(), threads(run.ranks()));
    if arguments.json {
        let (parameters, run_dir) = (found.parameters, directory.display().to_string());
        return output::json(&Checked { ok: true, run, run_dir, parameters, ranks, threads, steps, checkpoint, data: &data });
    }
    let sizes = (grouped(found.parameters), &found.architecture.class);
    output::line(format_args!("model      {}: {}, {} parameters", run.model.path.display(), sizes.1, sizes.0))?;
    describe("train", &data.train)?;
    data.valid.iter().try_for_each(|split| describe("valid", split))?;
    let (each, shown) = (run.train.global_batch, directory.display());
    match (begun, checkpoint) {
        (None, _) => output::line(format_args!("run        {steps} steps of {each} sequences, into {shown}"))?,
        (Some(_), step) => {
            let done = step.unwrap_or(0);
            output::line(format_args!("run        {done} of {steps} steps of {each} sequences done, in {shown}"))?;
            let step = step.map_or_else(|| "none yet: from the beginning".to_owned(), |step| format!("step {step}, whole"));
            output::line(format_args!("checkpoint {step}"))?;
        }
    }
    let under = found.mpirun.as_ref().map_or_else(String::new, |mpirun| format!(", {}", mpirun.version));
    output::line(format_args!("mesh       {}", output::mesh(&run.parallel)))?;
    output::line(format_args!("machine    {} of {}{under}", count(ranks, "rank"), count(threads, "thread")))?;
    if checkpoint.is_some_and(|step| step >= steps) {
        return output::line("ok: nothing is left to do");
    }
    let typed = output::shell_word(&arguments.run.display().to_string());
    output::line(format_args!("ok: sirocco train {typed}{}", arguments.overrides.again()))
}

/// A run that `sirocco train RUN.toml` would start.
fn to_begin(arguments: &cli::Check) -> Result<Subject, Failure> {
    let file = read_run_file(&arguments.run, &arguments.overrides)?;
    let run = file.check(&here()?)?;
    let found = preflight(&file, &run)?;
    let directory = directory_of(&run, None);
    RunDirectory::free(&directory)?;
    Ok(Subject { file, run, found, directory, begun: None })
}

/// A run that `sirocco train RUN_DIR` would resume.
fn to_resume(arguments: &cli::Check) -> Result<Subject, Failure> {
    let directory = RunDirectory::existing(&arguments.run)?;
    directory.refuse_at_work()?;
    let (file, run) = run_to_resume(&directory, &arguments.overrides)?;
    let found = preflight(&file, &run)?;
    directory.warn_of_missing_latest()?;
    Ok(Subject { file, run, found, directory: arguments.run.clone(), begun: Some(directory) })
}

/// Compares what a checkpoint was made of with what is there now, as the ranks do.
fn belongs(state: &RunState, run: &Run, train: &Split) -> Result<(), Failure> {
    let of = format!("the checkpoint of step {}", state.step);
    let differs = |what: &str, [made, found]: [&str; 2], help: &str| {
        Err(Failure::new(Kind::Input, format_args!("{of} was made on {what} with SHA-256 {made}, found {found}")).help(help))
    };
    let base = ModelDir::open(&run.model.path)?.digest()?;
    if base != state.model_digest {
        return differs("base weights", [&state.model_digest, &base], "put the base model back as it was, or start a new run");
    }
    if train.digest != state.data_digest {
        let help = "put the data files back as they were and remove RUN/tokens, or start a new run";
        return differs("training tokens", [&state.data_digest, &train.digest], help);
    }
    Ok(())
}

fn describe(name: &str, split: &Split) -> Result<(), Failure> {
    let Split { documents, tokens, target_tokens, sequences, skipped, .. } = *split;
    let skipped = if skipped == 0 { String::new() } else { format!(", {} records skipped", grouped(skipped)) };
    let (documents, sequences) = (count(documents, "document"), count(sequences, "sequence"));
    let (tokens, targets) = (grouped(tokens), grouped(target_tokens));
    output::line(format_args!("{name:11}{documents} in {sequences}, {tokens} tokens, {targets} of them targets{skipped}"))
}

/// A new directory that nobody else can look into, for what is made only to see whether it can be. Removed when dropped.
fn scratch() -> Result<TempDir, Failure> {
    let made = tempfile::Builder::new().prefix("sirocco-check-").permissions(Permissions::from_mode(0o700)).tempdir();
    let temporary = std::env::temp_dir();
    made.map_err(|error| Failure::new(Kind::Failed, format_args!("{}: no directory can be made: {error}", temporary.display())))
}
