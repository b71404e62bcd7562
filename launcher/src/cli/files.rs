//! Options of the commands that make and look at files: run files, models, tokens, corpora.
use std::path::PathBuf;

use clap::{Args, Subcommand, ValueEnum};

use super::policy::PolicyOptions;

#[derive(Debug, Args)]
pub(crate) struct Init {
    /// The directory for run.toml; made if it is not there
    pub(crate) dir: PathBuf,
    /// What to train
    #[arg(long, value_enum, default_value_t = Recipe::Lora)]
    pub(crate) recipe: Recipe,
    /// Print the result as a JSON object
    #[arg(long)]
    pub(crate) json: bool,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
pub(crate) enum Recipe {
    /// A small adapter beside frozen base weights
    Lora,
    /// Every weight
    Full,
}

#[derive(Debug, Args)]
#[command(after_help = "Example:\n  sirocco model convert SmolLM2-135M-Instruct.Q8_0.gguf models/smollm2-135m")]
pub(crate) struct ModelCommand {
    #[command(subcommand)]
    pub(crate) action: ModelAction,
}

#[derive(Debug, Subcommand)]
pub(crate) enum ModelAction {
    /// What a model is: architecture, tensors, sizes
    #[command(after_help = "\
Examples:
  sirocco model inspect models/smollm2-135m
  sirocco model inspect SmolLM2-135M-Instruct.Q8_0.gguf --json")]
    Inspect(OnePath),
    /// A GGUF file, or Mistral's consolidated weights, to a Hugging Face model directory
    #[command(after_help = "\
The policy is asked whether the model may come in. What was asked and done is recorded in the account's \
         ledger.

Example:
  sirocco model convert SmolLM2-135M-Instruct.Q8_0.gguf models/smollm2-135m")]
    Convert(Convert),
    /// Read every byte of a model directory: sizes, shapes, names, numbers that are not finite
    #[command(after_help = "Example:\n  sirocco model verify models/smollm2-135m")]
    Verify(OnePath),
}

#[derive(Debug, Args)]
pub(crate) struct OnePath {
    /// A Hugging Face model directory (inspect: or a GGUF file)
    pub(crate) path: PathBuf,
    /// Print the result as a JSON object
    #[arg(long)]
    pub(crate) json: bool,
}

#[derive(Debug, Args)]
pub(crate) struct Convert {
    /// The GGUF file, or the directory that holds consolidated.safetensors and params.json
    pub(crate) from: PathBuf,
    /// The model directory to write; must not hold a model already
    pub(crate) to: PathBuf,
    #[command(flatten)]
    pub(crate) policy: PolicyOptions,
    /// Print the result as a JSON object
    #[arg(long)]
    pub(crate) json: bool,
}

#[derive(Debug, Args)]
pub(crate) struct Tokenize {
    /// A model directory with tokenizer.json
    #[arg(long, value_name = "DIR")]
    pub(crate) tokenizer: PathBuf,
    /// Texts: .txt is one text, .jsonl has {"text"} on each line
    #[arg(long, value_name = "FILE", required_unless_present = "chat")]
    pub(crate) text: Option<PathBuf>,
    /// Conversations: {"messages":[{"role","content"}…]} on each line
    #[arg(long, value_name = "FILE", conflicts_with = "text")]
    pub(crate) chat: Option<PathBuf>,
    /// Accepted for uniformity: the results are JSON always
    #[arg(long)]
    pub(crate) json: bool,
}

#[derive(Debug, Args)]
#[command(after_help = "Example:\n  sirocco data prepare datasets/doda.toml")]
pub(crate) struct DataCommand {
    #[command(subcommand)]
    pub(crate) action: DataAction,
}

#[derive(Debug, Subcommand)]
pub(crate) enum DataAction {
    /// Read every source and say what preparing would do; nothing is written
    #[command(after_help = "Example:\n  sirocco data check datasets/doda.toml")]
    Check(Spec),
    /// Write training and held-out files, and the report beside them
    #[command(after_help = "\
The policy is asked about every source before it is read. What was asked and done is recorded in the \
         account's ledger.

Example:
  sirocco data prepare datasets/doda.toml")]
    Prepare(Prepare),
    /// Show the report of a prepared corpus
    #[command(after_help = "Example:\n  sirocco data report datasets/doda.toml --json")]
    Report(Spec),
}

#[derive(Debug, Args)]
pub(crate) struct Prepare {
    #[command(flatten)]
    pub(crate) spec: Spec,
    #[command(flatten)]
    pub(crate) policy: PolicyOptions,
}

#[derive(Debug, Args)]
pub(crate) struct Spec {
    /// The corpus specification
    #[arg(value_name = "SPEC.toml")]
    pub(crate) spec: PathBuf,
    /// Print the result as a JSON object
    #[arg(long)]
    pub(crate) json: bool,
}
