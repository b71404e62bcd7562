//! `sirocco plan`: what a run will need and take. Reads sizes, a few records and what was measured; the arithmetic is `sirocco-plan`'s.

mod calibration;
mod page;
mod peak;
mod place;
mod room;
mod sample;

use serde::Serialize;
use sirocco_checkpoint::{Architecture, ModelDir};
use sirocco_config::{Length, Run};
use sirocco_plan::{Candidate, Cost, Model, Saving, Scaled, Work, candidates, cost, evaluate, scaling};

use crate::cli;
use crate::failure::{Failure, Kind};
use crate::output;
use crate::train::{here, read_run_file};
pub(crate) use peak::peak_tokens_per_s;
use place::{Found, find};
pub(crate) use room::{Room, expect_disk, expect_room};
pub(crate) use sample::sample_by;
use sample::{Sample, sample};

/// Rows that are shown of the meshes that were compared.
const SHOWN: usize = 8;

/// The fields of `--json`, in their order.
#[derive(Serialize)]
pub(crate) struct Planned {
    pub(crate) model: Model,
    pub(crate) parameters: u64,
    pub(crate) place: Found,
    pub(crate) data: Sample,
    /// Optimizer steps of the run, if that is known.
    pub(crate) steps: Option<u64>,
    /// The run file's own mesh with its own number of ranks, if the place has as many.
    pub(crate) as_typed: Option<Candidate>,
    pub(crate) chosen: Option<Candidate>,
    pub(crate) candidates: Vec<Candidate>,
    pub(crate) compared: usize,
    /// Of those, neither among the candidates nor typed.
    #[serde(skip)]
    pub(crate) not_shown: usize,
    pub(crate) cost: Option<Cost>,
    pub(crate) scaling: Vec<Scaled>,
    #[serde(skip)]
    pub(crate) run: Run,
    #[serde(skip)]
    pub(crate) work: Work,
}

pub(crate) fn run(arguments: &cli::Plan) -> Result<(), Failure> {
    let planned = plan(arguments)?;
    if arguments.json { output::json(&planned) } else { output::text(&page::page(&planned)) }
}

fn plan(arguments: &cli::Plan) -> Result<Planned, Failure> {
    let file = read_run_file(&arguments.run, &arguments.overrides)?;
    let run = file.check(&here()?)?;
    let model = sizes(arguments, &run)?;
    let parameters = model.parameters();
    let place = find(arguments.site.as_deref(), arguments.nodes, &run)?;
    let data = sample(&run);
    let work = Work::of(&run, data.texture);
    let ranks = place.ranks();
    let as_typed = place.of_mesh(run.ranks()).and_then(|place| evaluate(&model, &work, &run.parallel, &place).ok());
    let all = candidates(&model, &work, &run.parallel, &place.place, ranks);
    if all.is_empty() {
        return Err(no_mesh(&run, &place, ranks));
    }
    let chosen = all.first().filter(|best| best.fits != Some(false)).cloned();
    let steps = steps(&run, &data);
    let cost = chosen.as_ref().zip(steps).map(|(chosen, steps)| {
        let saving = Saving {
            steps,
            every_steps: run.checkpoint.every_steps,
            job_seconds: run.site.time.map(sirocco_config::WallTime::seconds),
            disk: place.disk,
            watts: place.watts(),
        };
        cost(&model, &work, &chosen.parallel, (&saving, chosen.step.map(|step| step.seconds)))
    });
    let scaling = if place.scales { scaling(&model, &work, &run.parallel, &place.place, place.nodes) } else { Vec::new() };
    let typed_too = as_typed.as_ref().is_some_and(|typed| all.iter().skip(SHOWN).any(|one| one.parallel == typed.parallel));
    let (compared, not_shown) = (all.len(), all.len().saturating_sub(SHOWN) - usize::from(typed_too));
    let candidates = all.into_iter().take(SHOWN).collect();
    Ok(Planned {
        model,
        parameters,
        place,
        data,
        steps,
        as_typed,
        chosen,
        candidates,
        compared,
        not_shown,
        cost,
        scaling,
        run,
        work,
    })
}

/// The model's sizes: from the file that was given, or from the model directory, whose weights are not looked at.
fn sizes(arguments: &cli::Plan, run: &Run) -> Result<Model, Failure> {
    let architecture = match &arguments.model_config {
        Some(path) => Architecture::read(path)?,
        None if run.model.path.is_dir() => ModelDir::open(&run.model.path)?.architecture()?,
        None => {
            let message =
                format!("[model] path: {} is not there: expected a Hugging Face model directory", run.model.path.display());
            return Err(Failure::new(Kind::Input, message).help("--model-config FILE plans from a config.json alone"));
        }
    };
    Ok(model(&architecture))
}

/// The sizes that a plan is made of.
pub(crate) fn model(architecture: &Architecture) -> Model {
    Model {
        layers: architecture.layers as u64,
        hidden: architecture.hidden_size as u64,
        heads: architecture.heads as u64,
        kv_heads: architecture.kv_heads as u64,
        head_dim: architecture.head_dim as u64,
        intermediate: architecture.ffn_size as u64,
        vocabulary: architecture.vocab_size as u64,
        tied: architecture.tied_embeddings,
    }
}

/// Steps of the run: as typed, or from the number of sequences that the sample lets expect.
fn steps(run: &Run, data: &Sample) -> Option<u64> {
    match run.train.length {
        Length::Steps(steps) => Some(steps),
        Length::Epochs(_) => run.steps(data.sequences?).ok(),
    }
}

fn no_mesh(run: &Run, place: &Found, ranks: u64) -> Failure {
    let (batch, micro) = (run.train.global_batch, run.train.micro_batch);
    let message = format!(
        "{}: no mesh of {} fits this model and a global_batch of {batch} sequences in micro-batches of {micro}",
        place.title,
        output::count(ranks, "rank")
    );
    Failure::usage(message).help(format_args!(
        "dp × fsdp must divide {}: another number of nodes, or train.global_batch = {}",
        batch / micro,
        (micro * ranks).max(batch)
    ))
}
