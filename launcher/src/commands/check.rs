//! `sirocco check`: everything that would be refused later, now, of a run that would be started or resumed.
use std::fs::Permissions;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use serde::Serialize;
use sirocco_checkpoint::{ModelDir, RunState};
use sirocco_config::{LOCAL_SITE, Origin, Run, RunFile, shell_word};
use sirocco_policy::{Action, Decision};
use tempfile::TempDir;

use crate::allowed::{Allowed, Asked, QUICKLY, Question};
use crate::chain::needs::site_of;
use crate::cli;
use crate::confined::in_job;
use crate::failure::{Failure, Kind};
use crate::gate::{DataFile, RunPolicy, next_action};
use crate::output::{self, count, grouped};
use crate::plan::{Room, expect_disk, expect_room, sample_by};
use crate::policy::words;
use crate::preflight::{Place, Preflight, preflight};
use crate::quota::Quota;
use crate::train::directory::RunDirectory;
use crate::train::interrupt::unless_interrupted;
use crate::train::ranks::threads;
use crate::train::tokens::{self, Source, Split, Tokens};
use crate::train::{curve, directory_of, here, read_run_file, run_to_resume};
use crate::waiting;

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
    /// Of the rank that needs most, as `sirocco plan` counts it, and what it may take; `null` where that is not known.
    memory_bytes: Option<u64>,
    room_bytes: Option<u64>,
    /// What Slurm would take the job for; `null` where it was not asked.
    slurm: Option<&'a Allowed>,
    /// What the policy says to the plan.
    policy: Decided<'a>,
    /// Of the file system of the run directory.
    quotas: &'a [Quota],
    /// Step of the newest checkpoint of a run that would be resumed.
    checkpoint: Option<u64>,
    data: &'a Tokens,
}

/// The fields of `policy`.
#[derive(Serialize)]
struct Decided<'a> {
    set: String,
    rules: Vec<&'a str>,
    assumed: &'a [String],
}

/// What was asked about.
struct Subject {
    file: RunFile,
    run: Run,
    found: Preflight,
    policy: RunPolicy,
    /// What it needs of memory.
    room: Option<Room>,
    /// What Slurm takes it for.
    allowed: Option<Allowed>,
    quotas: Vec<Quota>,
    /// Where the run is or would be.
    directory: PathBuf,
    /// That it is there already.
    begun: Option<RunDirectory>,
}

/// What its files say.
struct Contents {
    /// What the policy says to training it on them.
    decision: Decision,
    data: Tokens,
    /// Optimizer steps of the whole run.
    steps: u64,
    /// Step of the newest checkpoint.
    checkpoint: Option<u64>,
    /// Every step was done and, where something is held out, the loss on it measured.
    complete: bool,
}

pub(crate) fn run(arguments: &cli::Check) -> Result<(), Failure> {
    let subject = if arguments.run.is_dir() { to_resume(arguments)? } else { to_begin(arguments)? };
    let scratch = scratch()?;
    // The command ends then, with nobody left to care about what cannot be removed.
    let clear = || drop(std::fs::remove_dir_all(scratch.path()));
    let read = || subject.read(scratch.path());
    let contents = unless_interrupted(arguments.json, "the run was checked", clear, read)?;
    if arguments.json { subject.print_json(&contents) } else { subject.print(&contents, arguments) }
}

impl Subject {
    /// Reads all that a run reads before its first step: data, checkpoint, base. Token caches that are not there are made in
    /// `scratch`.
    fn read(&self, scratch: &Path) -> Result<Contents, Failure> {
        let Subject { file, run, found, policy, begun, .. } = self;
        let cached = begun.as_ref().map_or_else(|| scratch.to_owned(), RunDirectory::tokens);
        let (decision, data) = self.ask()?;
        // What is made here is removed, and so is what is recorded of it.
        let data = policy.admit(data, &policy.book(scratch)?)?;
        let data = tokens::open_or_build(&Source { run, tokenizer: &found.tokenizer, data: &data }, &cached, scratch)?;
        let wrong_length = if begun.is_some() { Failure::on_resuming } else { Failure::from };
        let steps = data.steps(file, run).map_err(wrong_length)?;
        let Some(directory) = begun else { return Ok(Contents { decision, data, steps, checkpoint: None, complete: false }) };
        let checkpoint = directory.whole_checkpoint()?;
        if let Some(checkpoint) = &checkpoint {
            belongs(checkpoint.state(), run, &data.train)?;
            policy.expect_signed(checkpoint)?;
        }
        let checkpoint = checkpoint.map(|checkpoint| checkpoint.state().step);
        let complete = checkpoint.is_some_and(|step| step >= steps) && !curve(directory)?.lacks_last_evaluation(run, steps);
        Ok(Contents { decision, data, steps, checkpoint, complete })
    }

    /// Asks whether it may be trained on this data, and the data be tokenised.
    fn ask(&self) -> Result<(Decision, Vec<DataFile>), Failure> {
        let directory = self.begun.as_ref();
        let path = directory.map(RunDirectory::path);
        let data = self.policy.measure(&self.run, directory.map(RunDirectory::tokens).as_deref())?;
        let decision = self.policy.plan(path.map_or(Action::Train, next_action), &data, path)?;
        self.policy.may_prepare(&data)?;
        self.policy.expect_signer()?;
        Ok((decision, data))
    }

    fn print_json(&self, contents: &Contents) -> Result<(), Failure> {
        let Contents { data, steps, checkpoint, .. } = contents;
        let ranks = self.run.ranks();
        output::json(&Checked {
            ok: true,
            run: &self.run,
            run_dir: self.directory.display().to_string(),
            parameters: self.found.parameters,
            ranks,
            threads: threads(ranks),
            steps: *steps,
            memory_bytes: self.room.map(|room| room.needed),
            room_bytes: self.room.and_then(|room| room.there),
            slurm: self.allowed.as_ref(),
            policy: Decided {
                set: self.policy.custody().set().path.display().to_string(),
                rules: contents.decision.rule_ids().collect(),
                assumed: &contents.decision.assumed,
            },
            quotas: &self.quotas,
            checkpoint: *checkpoint,
            data,
        })
    }

    fn print(&self, contents: &Contents, arguments: &cli::Check) -> Result<(), Failure> {
        let (run, Preflight { architecture, parameters, mpirun, .. }) = (&self.run, &self.found);
        let (model, parameters) = (run.model.path.display(), grouped(*parameters));
        output::line(format_args!("model      {model}: {}, {parameters} parameters", architecture.class))?;
        describe("train", &contents.data.train)?;
        contents.data.valid.iter().try_for_each(|split| describe("valid", split))?;
        self.print_steps(contents)?;
        let under = mpirun.as_ref().map_or_else(String::new, |mpirun| format!(", {}", mpirun.version));
        let ranks = run.ranks();
        output::line(format_args!("mesh       {}", output::mesh(&run.parallel)))?;
        output::line(format_args!("machine    {} of {}{under}", count(ranks, "rank"), count(threads(ranks), "thread")))?;
        if let Some(Room { needed, there }) = self.room {
            let there = there.map_or_else(
                || "how much there is is not known".to_owned(),
                |there| format!("of {} that it may take", output::bytes(there)),
            );
            output::line(format_args!("memory     {} on the rank that needs most, {there}", output::bytes(needed)))?;
        }
        output::line(format_args!("policy     {}", words(&self.policy, &contents.decision)))?;
        for quota in &self.quotas {
            let left =
                quota.left().map_or_else(|| "a number of files only".to_owned(), |left| format!("{} left", output::bytes(left)));
            output::line(format_args!("quota      of {}: {left}", quota.of))?;
        }
        if let Some(words) = self.allowed.as_ref().and_then(Allowed::words) {
            output::line(format_args!("slurm      {words}"))?;
        }
        if contents.complete {
            return output::line("ok: nothing is left to do");
        }
        let typed = shell_word(&arguments.run.display().to_string());
        let command = if run.site.profile == LOCAL_SITE { "train" } else { "submit" };
        output::line(format_args!("ok: sirocco {command} {typed}{}", arguments.overrides.again()))
    }

    /// How long the run is, and how far it is if it has begun.
    fn print_steps(&self, contents: &Contents) -> Result<(), Failure> {
        let (steps, each, shown) = (contents.steps, self.run.train.global_batch, self.directory.display());
        if self.begun.is_none() {
            return output::line(format_args!("run        {steps} steps of {each} sequences, into {shown}"));
        }
        let done = contents.checkpoint.unwrap_or(0);
        output::line(format_args!("run        {done} of {steps} steps of {each} sequences done, in {shown}"))?;
        match contents.checkpoint {
            Some(step) => output::line(format_args!("checkpoint step {step}, whole")),
            None => output::line("checkpoint none yet: from the beginning"),
        }
    }
}

/// A run that `sirocco train RUN.toml` would start.
fn to_begin(arguments: &cli::Check) -> Result<Subject, Failure> {
    let file = read_run_file(&arguments.run, &arguments.overrides)?;
    let run = file.check(&here()?)?;
    let policy = policy_of(&run, Action::Train)?;
    let (found, room, allowed) = look(&file, &run)?;
    let directory = directory_of(&run, None);
    let quotas = expect_disk(&run, &found.architecture, &directory, false)?.quotas;
    RunDirectory::free(&directory)?;
    Ok(Subject { file, run, found, policy, room, allowed, quotas, directory, begun: None })
}

/// A run that `sirocco train RUN_DIR` would resume.
fn to_resume(arguments: &cli::Check) -> Result<Subject, Failure> {
    let directory = RunDirectory::existing(&arguments.run)?;
    directory.refuse_at_work()?;
    let (file, run) = run_to_resume(&directory, &arguments.overrides)?;
    let policy = policy_of(&run, next_action(directory.path()))?;
    let (found, room, allowed) = look(&file, &run)?;
    let quotas = expect_disk(&run, &found.architecture, &arguments.run, true)?.quotas;
    directory.warn_of_missing_latest()?;
    Ok(Subject { file, run, found, policy, room, allowed, quotas, directory: arguments.run.clone(), begun: Some(directory) })
}

/// Whom to ask. For a cluster a policy that needs more confinement than such a job can have is told first.
fn policy_of(run: &Run, action: Action) -> Result<RunPolicy, Failure> {
    let place = place_of(run);
    if place == Place::Cluster {
        in_job::means(run, action)?;
    }
    RunPolicy::for_place(run, place)
}

fn place_of(run: &Run) -> Place {
    if run.site.profile == LOCAL_SITE { Place::Here } else { Place::Cluster }
}

/// What model, machine, site and Slurm say.
fn look(file: &RunFile, run: &Run) -> Result<(Preflight, Option<Room>, Option<Allowed>), Failure> {
    let place = place_of(run);
    // Slurm thinks about it while the model is read.
    let question = match place {
        Place::Here => None,
        Place::Cluster => Some(Question::begin(Asked::of(run, &site_of(file, run)?), QUICKLY)),
    };
    let found = preflight(file, run, place)?;
    let room = match place {
        Place::Cluster => found.room,
        Place::Here => expect_room(file, run, &found.architecture, sample_by(run, &found.tokenizer).texture)?,
    };
    let allowed = question.map(|question| question.answer(file)).transpose()?;
    Ok((found, room, allowed))
}

/// Compares what a checkpoint was made of with what is there now, as the ranks do; the base, which takes long, last.
fn belongs(state: &RunState, run: &Run, train: &Split) -> Result<(), Failure> {
    Origin::Settings.compare(state.step, &state.config_digest, &run.settled_digest())?;
    Origin::Tokens.compare(state.step, &state.data_digest, &train.digest)?;
    let base = ModelDir::open(&run.model.path)?;
    let base = waiting::shown(&format!("reading {}", base.path().display()), || base.digest())?;
    Ok(Origin::Base.compare(state.step, &state.model_digest, &base)?)
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
