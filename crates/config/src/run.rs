//! Stage two: a run that has been checked. Every field is filled in; nothing here can be refused any more.
use std::path::PathBuf;

use serde::Serialize;

use crate::error::ConfigError;
use crate::parallel::Parallel;
use crate::place::Place;
use crate::site::Site;

/// A whole run: what a trainer needs to know besides the model's own config.json and the data.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Run {
    /// The name; the run directory is `runs/NAME` unless the command line says otherwise.
    pub name: String,
    /// Decides the data order and the first values of adapters. At most `i64::MAX`, so that TOML can hold it.
    pub seed: u64,
    /// `[model]`
    pub model: Model,
    /// `[data]`
    pub data: Data,
    /// `[method]`
    pub method: Method,
    /// `[train]`
    pub train: Train,
    /// `[parallel]`
    pub parallel: Parallel,
    /// `[checkpoint]`
    pub checkpoint: CheckpointPlan,
    /// `[eval]`
    pub eval: EvalPlan,
    /// `[site]`
    pub site: Site,
    /// `[policy]`
    pub policy: Policy,
}

/// What stands above sections that nobody typed and whose one value does not explain itself.
const MEANINGS: [(&str, &str); 2] = [
    ("site", "# Where jobs of the run are submitted, and what they ask for. \"local\" is a machine without a scheduler."),
    (
        "policy",
        "# What is allowed, for what, and whose signatures are believed. The set configs/policies/open allows everything.",
    ),
];

impl Run {
    /// The complete run file: every setting, defaults included, paths absolute. [`crate::RunFile::parse`] and
    /// [`crate::RunFile::check`] make an equal `Run` of it.
    ///
    /// # Errors
    /// [`ConfigError::Write`] for a path that is not UTF-8.
    pub fn to_toml(&self) -> Result<String, ConfigError> {
        let mut body = toml::to_string(self).map_err(|error| ConfigError::Write { message: error.to_string() })?;
        for (section, meaning) in MEANINGS {
            body = body.replacen(&format!("\n[{section}]\n"), &format!("\n{meaning}\n[{section}]\n"), 1);
        }
        let free = crate::free_on_resume();
        Ok(format!(
            "# The complete run file: every setting, with defaults filled in and paths made absolute. `sirocco init DIR` writes one\n\
             # that explains each. `sirocco train RUN_DIR --set SECTION.KEY=VALUE` resumes the run with another value of\n\
             # {free}; all else is settled.\n\n{body}"
        ))
    }

    /// MPI ranks of the run: the product of the axes of the mesh.
    pub fn ranks(&self) -> u64 {
        self.parallel.ranks()
    }

    /// Optimizer steps of the run when an epoch has `sequences` sequences. The last, partial global batch of the run is
    /// filled from the epoch after it.
    ///
    /// # Errors
    /// [`ConfigError::Warmup`] when the warm-up would last to the end: with `epochs` this is known only here.
    pub fn steps(&self, sequences: u64) -> Result<u64, ConfigError> {
        let steps = match self.train.length {
            Length::Steps(steps) => steps,
            Length::Epochs(epochs) => ((epochs * sequences as f64 / self.train.global_batch as f64).ceil() as u64).max(1),
        };
        if self.train.warmup_steps >= steps {
            let at = Place::File(PathBuf::from("run.toml"));
            return Err(ConfigError::Warmup { at, warmup_steps: self.train.warmup_steps, steps });
        }
        Ok(steps)
    }
}

/// `[model]`: the base.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Model {
    /// A Hugging Face model directory, absolute.
    pub path: PathBuf,
    /// Of the base weights and the matrix products. What is trained, its gradients and its optimizer state are fp32 always.
    pub dtype: Dtype,
    /// Where the run computes.
    pub device: Device,
}

/// A number format of weights and matrix products.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Dtype {
    /// bfloat16
    Bf16,
    /// IEEE single precision, for exact comparisons
    Fp32,
}

/// Where a run computes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Device {
    /// The CPU: nothing has been run on a GPU yet, so nobody gets one unasked.
    Auto,
    /// The CPU.
    Cpu,
    /// One CUDA device for each rank of a host, in their order. Not run on a GPU yet.
    Cuda,
}

/// `[data]`: what is learnt and what it is measured on.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Data {
    /// Files to train on, absolute, at least one.
    pub train: Vec<PathBuf>,
    /// Files to evaluate on, absolute, perhaps none.
    pub valid: Vec<PathBuf>,
    /// What a record is.
    pub format: Format,
    /// Tokens of a sequence, at least 2.
    pub sequence_length: u64,
    /// Whether several documents share a sequence. They never see each other.
    pub packing: bool,
    /// What a record that cannot be used does.
    pub on_bad: OnBad,
}

/// What a record of a data file is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Format {
    /// `{"messages":[{"role","content"}…]}`: the answers are learnt.
    Chat,
    /// `{"text"}` or a .txt file: everything is learnt.
    Text,
}

/// What a record that cannot be used does.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum OnBad {
    /// Stops the run, naming file and line.
    Fail,
    /// Is left out, counted and named.
    Skip,
}

/// `[method]`: what is trained.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(tag = "kind", rename_all = "lowercase")]
pub enum Method {
    /// A low-rank adapter beside frozen base weights: `y = x Wᵀ + (alpha ÷ rank) · x Aᵀ Bᵀ`.
    Lora {
        /// Rows of A and columns of B, at least 1.
        rank: u64,
        /// The numerator of the scale.
        alpha: f64,
        /// The projections that get an adapter.
        targets: Targets,
    },
    /// Every weight.
    Full,
}

/// Projections that get an adapter: at least one, each once, in the order of [`Projection::ALL`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Targets(pub(crate) Vec<Projection>);

impl Targets {
    /// The projections.
    pub fn projections(&self) -> &[Projection] {
        &self.0
    }
}

impl Serialize for Targets {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self.0.as_slice() {
            all if all == Projection::ALL => serializer.serialize_str("all-linear"),
            some => some.iter().map(|projection| projection.name()).collect::<Vec<_>>().serialize(serializer),
        }
    }
}

/// A linear layer of a block.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[expect(missing_docs, reason = "the names are Hugging Face's own")]
pub enum Projection {
    Query,
    Key,
    Value,
    Output,
    Gate,
    Up,
    Down,
}

impl Projection {
    /// Every projection of a block, in the order of the forward pass.
    pub const ALL: [Projection; 7] = [
        Projection::Query,
        Projection::Key,
        Projection::Value,
        Projection::Output,
        Projection::Gate,
        Projection::Up,
        Projection::Down,
    ];

    /// Its name in run files, in tensor names and in PEFT's `target_modules`.
    pub fn name(self) -> &'static str {
        match self {
            Projection::Query => "q_proj",
            Projection::Key => "k_proj",
            Projection::Value => "v_proj",
            Projection::Output => "o_proj",
            Projection::Gate => "gate_proj",
            Projection::Up => "up_proj",
            Projection::Down => "down_proj",
        }
    }
}

/// `[train]`: the optimizer and its pace.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Train {
    /// `steps` or `epochs`.
    #[serde(flatten)]
    pub length: Length,
    /// Sequences per optimizer step over all ranks: a multiple of dp × fsdp × `micro_batch`.
    pub global_batch: u64,
    /// Sequences per forward on one rank.
    pub micro_batch: u64,
    /// The learning rate after warm-up.
    pub learning_rate: f64,
    /// How the learning rate falls.
    pub schedule: Schedule,
    /// Steps over which the learning rate rises linearly from 0; fewer than the run has.
    pub warmup_steps: u64,
    /// AdamW's decoupled weight decay.
    pub weight_decay: f64,
    /// The global norm above which gradients are scaled down.
    pub max_grad_norm: f64,
    /// AdamW's decay rates of the first and second moment.
    pub betas: (f64, f64),
    /// AdamW's epsilon.
    pub epsilon: f64,
    /// Steps in a row that are skipped for a loss or a gradient that is not finite; one more stops the run.
    pub max_skipped_steps: u64,
}

/// How long a run is.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Length {
    /// Optimizer steps.
    Steps(u64),
    /// Passes over the training data; need not be whole.
    Epochs(f64),
}

/// How the learning rate falls after warm-up.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Schedule {
    /// To 0 along half a cosine.
    Cosine,
    /// Not at all.
    Constant,
}

/// `[checkpoint]`: how often a run saves.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct CheckpointPlan {
    /// Steps between checkpoints; there is always one at the end.
    pub every_steps: u64,
    /// Checkpoints that stay; older ones are removed.
    pub keep: u64,
    /// A directory on node-local disk, absolute: ranks write there first and copy from there in the background.
    pub staging: Option<PathBuf>,
}

/// `[eval]`: how often a run measures itself on `[data] valid`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct EvalPlan {
    /// Steps between evaluations; 0 means only at the end.
    pub every_steps: u64,
}

/// `[policy]`: what is allowed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Policy {
    /// The directory of the rules: [`crate::OPEN_POLICY`], which every program knows, or a path, absolute.
    pub set: String,
    /// Files with facts about the data, models and adapters that the set does not describe, absolute.
    pub facts: Vec<PathBuf>,
    /// For what, by its name in the facts.
    pub purpose: Option<String>,
    /// The least level of confinement, 0 to 5, whatever the set demands.
    pub confinement: u8,
    /// The keys that sign what the run publishes, absolute; without it, the account's.
    pub keys: Option<PathBuf>,
    /// Public keys whose signatures are believed, absolute; without it, those beside the keys.
    pub trust: Option<PathBuf>,
}
