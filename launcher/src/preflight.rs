//! What model and machine say about a run, asked before anything is written: the refusals that `sirocco check` and
//! `sirocco train` share.
use std::path::PathBuf;

use sirocco_checkpoint::{Architecture, CheckpointError, ModelDir};
use sirocco_config::{Data, Device, Run, RunFile};
use sirocco_tokens::Tokenizer;

use crate::failure::{Failure, Kind};
use crate::machine;
use crate::output;
use crate::plan::{self, Room, expect_room, sample_by};
use crate::programs::{Mpirun, TRAINER, beside};

/// Where the ranks will be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Place {
    /// On this machine.
    Here,
    /// On compute nodes, of which this machine knows nothing.
    Cluster,
}

/// What was found, read from headers only.
pub(crate) struct Preflight {
    pub(crate) architecture: Architecture,
    pub(crate) parameters: u64,
    pub(crate) tokenizer: Tokenizer,
    /// What it needs of memory, where that is asked here: of compute nodes.
    pub(crate) room: Option<Room>,
    /// `None` for one rank, which needs none, and for ranks that others start.
    pub(crate) mpirun: Option<Mpirun>,
}

/// Refuses a run whose model, mesh, tokenizer or programs would fail it after its directory was made. `file` is what `run` was
/// made of.
pub(crate) fn preflight(file: &RunFile, run: &Run, place: Place) -> Result<Preflight, Failure> {
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
    run.parallel.check_model(&plan::model(&architecture).sizes(), |setting| file.place_of(setting))?;
    note_shared_files(&run.data);
    let tokenizer = Tokenizer::open(&run.model.path)?;
    if tokenizer.vocab_size() > architecture.vocab_size {
        let (path, ids, rows) = (run.model.path.display(), tokenizer.vocab_size(), architecture.vocab_size);
        let message = format!("{path}: the tokenizer has ids up to {}: expected fewer than the embedding's {rows} rows", ids - 1);
        return Err(Failure::new(Kind::Input, message).help("tokenizer and weights are of different models"));
    }
    let room = match place {
        Place::Cluster => expect_room(file, run, &architecture, sample_by(run, &tokenizer).texture)?,
        Place::Here => None,
    };
    beside(TRAINER)?;
    if run.model.device == Device::Cuda && place == Place::Here {
        machine::expect_devices(run.ranks(), &file.place_of("model.device"))?;
    }
    let mpirun = if run.ranks() == 1 || place == Place::Cluster { None } else { Some(Mpirun::find()?) };
    Ok(Preflight { architecture, parameters, tokenizer, room, mpirun })
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

/// A held-out loss on what is learnt by heart says nothing; it may still be meant, to see whether a model can learn at all.
fn note_shared_files(data: &Data) {
    let real = |path: &PathBuf| std::fs::canonicalize(path).ok();
    let train: Vec<_> = data.train.iter().filter_map(real).collect();
    for path in data.valid.iter().filter(|path| real(path).is_some_and(|path| train.contains(&path))) {
        let path = path.display();
        output::say(format_args!(
            "note: {path} is in [data] train and in valid: the held-out loss is of what was learnt, not of new text"
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
