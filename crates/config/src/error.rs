//! What can be wrong with a run file.
use std::io;
use std::path::PathBuf;

use thiserror::Error;

use crate::parallel::{MOST_RANKS, ModelSizes};
use crate::place::Place;

/// A fault in the run file or in a `--set`. Each variant names the place, what was found and what was expected.
#[derive(Debug, Error)]
pub enum ConfigError {
    /// The run file cannot be read.
    #[error("{}: cannot read the run file: {source}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// The text is not TOML.
    #[error("{at}: not valid TOML: {message}")]
    Syntax {
        /// The line.
        at: Place,
        /// What the parser said.
        message: String,
    },
    /// A section that does not exist.
    #[error("{at}: unknown section [{section}]{}", did_you_mean(nearest, "sections", valid))]
    UnknownSection {
        /// Where.
        at: Place,
        /// As typed.
        section: String,
        /// The nearest valid name, if one is near.
        nearest: Option<String>,
        /// Every valid name.
        valid: String,
    },
    /// A setting that does not exist.
    #[error("{at}: unknown setting {setting}{}", did_you_mean(nearest, "settings", valid))]
    UnknownSetting {
        /// Where.
        at: Place,
        /// Section and name as typed.
        setting: String,
        /// The nearest valid name, if one is near.
        nearest: Option<String>,
        /// Every valid name of the section.
        valid: String,
    },
    /// A `--set` without the form SECTION.KEY=VALUE.
    #[error("--set {text}: expected SECTION.KEY=VALUE, such as --set train.steps=80")]
    Override {
        /// As typed.
        text: String,
    },
    /// A value of the wrong type or out of its range.
    #[error("{at}: {setting} = {found}: expected {expected}")]
    Value {
        /// Where.
        at: Place,
        /// Section and name.
        setting: String,
        /// The value as TOML.
        found: String,
        /// What it may be.
        expected: String,
    },
    /// A setting without a default is absent.
    #[error("{at}: {setting} is missing: expected {expected}")]
    Missing {
        /// The run file.
        at: Place,
        /// Section and name.
        setting: String,
        /// What it may be.
        expected: String,
    },
    /// Both `steps` and `epochs`.
    #[error("{at}: [train] epochs and [train] steps ({other}) are both set: expected exactly one of them")]
    TwoLengths {
        /// Where `epochs` stands.
        at: Place,
        /// Where `steps` stands.
        other: Place,
    },
    /// `--ranks` beside an override of the setting that it stands for.
    #[error("{at} and {other} both set {setting}: expected one of them")]
    SetTwice {
        /// The one option.
        at: Place,
        /// The other.
        other: Place,
        /// Section and name.
        setting: String,
    },
    /// More ranks than a run can have.
    #[error(
        "{at}: the mesh has pp × dp × fsdp × tp = {} = {} ranks: expected at most {MOST_RANKS}",
        axes.map(|axis| axis.to_string()).join(" × "), axes.iter().map(|axis| u128::from(*axis)).product::<u128>()
    )]
    MeshTooLarge {
        /// Where the first axis of those that were typed stands.
        at: Place,
        /// pp, dp, fsdp, tp.
        axes: [u64; 4],
    },
    /// Nodes of which some would have more ranks than others.
    #[error("{at}: the mesh has {ranks} ranks and [site] nodes is {nodes}: expected a number of nodes that divides the ranks")]
    Nodes {
        /// Where the first of nodes and axes that were typed stands.
        at: Place,
        /// Of the mesh.
        ranks: u64,
        /// Of a job.
        nodes: u64,
    },
    /// Ranks that the other axes of the mesh do not divide.
    #[error(
        "{at}: {ranks} ranks: expected a multiple of pp × fsdp × tp = {pp} × {fsdp} × {tp} = {}, and dp is what remains",
        pp * fsdp * tp
    )]
    RanksForMesh {
        /// The option.
        at: Place,
        /// As typed.
        ranks: u64,
        /// Pipeline stages.
        pp: u64,
        /// Ranks that share a replica's weights.
        fsdp: u64,
        /// Ranks that share each matrix product.
        tp: u64,
    },
    /// Another number of ranks was started than the mesh has.
    #[error("{at}: the mesh has {product} ranks: found {started} ranks started")]
    Ranks {
        /// Where the mesh stands.
        at: Place,
        /// The product of the axes, spelled out.
        product: String,
        /// Ranks that were started.
        started: u64,
    },
    /// Tensor parallelism that does not divide the model.
    #[error(
        "{at}: [parallel] tp = {tp}: expected a divisor of the model's {} heads, feed-forward width {} and vocabulary {} that \
         divides its {} key/value heads or is a multiple of them: {}",
        sizes.heads, sizes.intermediate, sizes.vocabulary, sizes.kv_heads, either(works)
    )]
    TensorAxis {
        /// Where `tp` stands.
        at: Place,
        /// As typed.
        tp: u64,
        /// Of the model.
        sizes: ModelSizes,
        /// Every tp that fits.
        works: Vec<u64>,
    },
    /// More pipeline stages than layers.
    #[error("{at}: [parallel] pp = {pp}: expected at most the model's {layers} layers: 1 to {layers}")]
    PipelineAxis {
        /// Where `pp` stands.
        at: Place,
        /// As typed.
        pp: u64,
        /// Transformer blocks of the model.
        layers: u64,
    },
    /// The global batch does not divide into whole micro-batches.
    #[error(
        "{at}: [train] global_batch = {global_batch}{}: expected a multiple of dp × fsdp × micro_batch = {dp} × {fsdp} × \
         {micro_batch} = {}",
        elsewhere(stands, at), dp * fsdp * micro_batch
    )]
    GlobalBatch {
        /// Which of the four numbers was typed last: on the command line, else in the file.
        at: Place,
        /// Where `global_batch` stands, unless it is the default.
        stands: Option<Place>,
        /// Sequences per optimizer step over all ranks.
        global_batch: u64,
        /// Replicas.
        dp: u64,
        /// Ranks that share a replica's weights, and its part of the batch.
        fsdp: u64,
        /// Sequences per forward on one rank.
        micro_batch: u64,
    },
    /// The warm-up would never end.
    #[error("{at}: [train] warmup_steps = {warmup_steps}: expected fewer than the {steps} steps of the run")]
    Warmup {
        /// Where `warmup_steps` stands.
        at: Place,
        /// Steps of linear warm-up.
        warmup_steps: u64,
        /// Steps of the run.
        steps: u64,
    },
    /// An override, on resuming, of something that was settled when the run began.
    #[error("{at}: {setting} was settled when the run began and cannot change on resuming")]
    FixedAtStart {
        /// Where.
        at: Place,
        /// Section and name.
        setting: String,
    },
    /// A path that a run file cannot hold.
    #[error("the complete run file cannot be written as TOML: {message}")]
    Write {
        /// What the writer said.
        message: String,
    },
}

/// Where a value stands, if an error is about another place.
fn elsewhere(stands: &Option<Place>, at: &Place) -> String {
    stands.as_ref().filter(|stands| *stands != at).map_or_else(String::new, |stands| format!(" ({stands})"))
}

/// The end of a message about an unknown name.
fn did_you_mean(nearest: &Option<String>, what: &str, valid: &str) -> String {
    match nearest {
        Some(name) => format!("; did you mean {name}?"),
        None => format!("; the {what} are {valid}"),
    }
}

/// `1`, `1 or 3`, `1, 2 or 4`.
fn either(numbers: &[u64]) -> String {
    let words: Vec<_> = numbers.iter().map(u64::to_string).collect();
    match words.as_slice() {
        [] => "none does".to_owned(),
        [one] => one.clone(),
        [first @ .., last] => format!("{} or {last}", first.join(", ")),
    }
}
