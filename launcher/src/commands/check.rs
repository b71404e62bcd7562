//! `sirocco check`: everything that would be refused later, now. The first part is what `sirocco train` asks before it writes.
use std::fs::Permissions;
use std::os::unix::fs::PermissionsExt as _;
use std::path::PathBuf;

use serde::Serialize;
use sirocco_checkpoint::{Architecture, CheckpointError, ModelDir};
use sirocco_config::{Data, ModelSizes, Run, RunFile};
use sirocco_tokens::Tokenizer;
use tempfile::TempDir;

use crate::cli;
use crate::output::{self, count, grouped};
use crate::programs::{Mpirun, TRAINER, beside};
use crate::report::{Failure, Kind};
use crate::train::directory::RunDirectory;
use crate::train::interrupt::unless_interrupted;
use crate::train::ranks::threads;
use crate::train::tokens::{self, Split, Tokens};
use crate::train::{directory_of, here, read_run_file};

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
    data: &'a Tokens,
}

pub(crate) fn run(arguments: &cli::Check) -> Result<(), Failure> {
    let file = read_run_file(&arguments.run, &arguments.overrides)?;
    let run = file.check(&here()?)?;
    let found = preflight(&file, &run)?;
    let directory = directory_of(&run, None);
    RunDirectory::free(&directory)?;
    let scratch = scratch()?;
    // The command ends then, with nobody left to care about what cannot be removed.
    let clear = || drop(std::fs::remove_dir_all(scratch.path()));
    let data = unless_interrupted(arguments.json, clear, || tokens::prepare(&run, scratch.path()))?;
    let steps = data.steps(&run)?;
    let (ranks, threads) = (run.ranks(), threads(run.ranks()));
    if arguments.json {
        let (parameters, run_dir) = (found.parameters, directory.display().to_string());
        return output::json(&Checked { ok: true, run: &run, run_dir, parameters, ranks, threads, steps, data: &data });
    }
    let sizes = (grouped(found.parameters), &found.architecture.class);
    output::line(format_args!("model      {}: {}, {} parameters", run.model.path.display(), sizes.1, sizes.0))?;
    describe("train", &data.train)?;
    data.valid.iter().try_for_each(|split| describe("valid", split))?;
    output::line(format_args!("run        {steps} steps of {} sequences, into {}", run.train.global_batch, directory.display()))?;
    let under = found.mpirun.map_or_else(String::new, |mpirun| format!(", {}", mpirun.version));
    output::line(format_args!("mesh       {}", output::mesh(&run.parallel)))?;
    output::line(format_args!("machine    {} of {}{under}", count(ranks, "rank"), count(threads, "thread")))?;
    let run_file = output::shell_word(&arguments.run.display().to_string());
    output::line(format_args!("ok: sirocco train {run_file}{}", arguments.overrides.again()))
}

fn describe(name: &str, split: &Split) -> Result<(), Failure> {
    let Split { documents, tokens, target_tokens, sequences, skipped } = *split;
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

/// What the model and the machine say about a run, read from headers only.
pub(crate) struct Preflight {
    pub(crate) architecture: Architecture,
    pub(crate) parameters: u64,
    /// `None` for one rank, which needs none.
    pub(crate) mpirun: Option<Mpirun>,
}

/// Refuses a run whose model, mesh, tokenizer or programs would fail it after its directory was made. `file` is what `run` was
/// made of.
pub(crate) fn preflight(file: &RunFile, run: &Run) -> Result<Preflight, Failure> {
    if !run.model.path.is_dir() {
        let message = format!("[model] path: {} is not there: expected a Hugging Face model directory", run.model.path.display());
        let help = "sirocco model convert makes one from a GGUF file; relative paths start where the command is typed";
        return Err(Failure::new(Kind::Input, message).help(help));
    }
    let model = ModelDir::open(&run.model.path)?;
    let architecture = model.architecture()?;
    let mut parameters = 0;
    for (name, shape) in architecture.expected_tensors() {
        expect_shape(&model, &name, &shape)?;
        parameters += shape.iter().product::<usize>() as u64;
    }
    fits(run, &architecture)?;
    run.parallel.check_model(&sizes(&architecture), |setting| file.place_of(setting))?;
    note_shared_files(&run.data);
    let tokenizer = Tokenizer::open(&run.model.path)?;
    if tokenizer.vocab_size() > architecture.vocab_size {
        let (path, ids, rows) = (run.model.path.display(), tokenizer.vocab_size(), architecture.vocab_size);
        let message = format!("{path}: the tokenizer has ids up to {}: expected fewer than the embedding's {rows} rows", ids - 1);
        return Err(Failure::new(Kind::Input, message).help("tokenizer and weights are of different models"));
    }
    beside(TRAINER)?;
    let mpirun = if run.ranks() == 1 { None } else { Some(Mpirun::find()?) };
    Ok(Preflight { architecture, parameters, mpirun })
}

fn expect_shape(model: &ModelDir, name: &str, shape: &[usize]) -> Result<(), CheckpointError> {
    let (path, tensor, expected) = (model.path().to_owned(), name.to_owned(), format!("shape {shape:?}"));
    match model.spec(name) {
        None => Err(CheckpointError::MissingTensor { path, tensor, expected }),
        Some(spec) if spec.shape != shape => {
            Err(CheckpointError::TensorMismatch { path, tensor, found: format!("shape {:?}", spec.shape), expected })
        }
        Some(_) => Ok(()),
    }
}

/// What a mesh has to fit.
fn sizes(architecture: &Architecture) -> ModelSizes {
    ModelSizes {
        layers: architecture.layers as u64,
        heads: architecture.heads as u64,
        kv_heads: architecture.kv_heads as u64,
        intermediate: architecture.ffn_size as u64,
        vocabulary: architecture.vocab_size as u64,
    }
}

/// A validation loss on what is learnt by heart says nothing; it may still be meant, to see whether a model can learn at all.
fn note_shared_files(data: &Data) {
    let real = |path: &PathBuf| std::fs::canonicalize(path).ok();
    let train: Vec<_> = data.train.iter().filter_map(real).collect();
    for path in data.valid.iter().filter(|path| real(path).is_some_and(|path| train.contains(&path))) {
        let path = path.display();
        output::say(format_args!(
            "note: {path} is in [data] train and in valid: the validation loss is of what was learnt, not of new text"
        ));
    }
}

/// Positions beyond the context were never trained: a document must not reach them.
fn fits(run: &Run, architecture: &Architecture) -> Result<(), Failure> {
    let (asked, context) = (run.data.sequence_length, architecture.longest_document() as u64);
    if asked <= context {
        return Ok(());
    }
    let config = run.model.path.join("config.json");
    let message = format!(
        "[data] sequence_length = {asked}: expected at most {context}, the smaller of max_position_embeddings and sliding_window in {}",
        config.display()
    );
    Err(Failure::usage(message).help(format_args!("set data.sequence_length={context}")))
}
