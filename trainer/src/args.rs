//! The command line. `sirocco eval` and `sirocco export` hand theirs to this program unread.

use std::path::PathBuf;

use clap::{Parser, Subcommand, ValueEnum};

#[derive(Debug, Parser)]
#[command(
    name = "sirocco-train",
    version,
    about = "One rank of a Sirocco run, and the jobs that need tensors. People type `sirocco`, which runs this."
)]
pub(crate) struct Args {
    #[command(subcommand)]
    pub(crate) job: Job,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Job {
    /// Writes the logits of given tokens, for comparisons.
    #[command(hide = true)]
    Logits(LogitsJob),
    /// Measures training speed on random tokens.
    #[command(hide = true)]
    Bench(BenchJob),
}

impl Args {
    /// Whether errors are wanted as JSON, too.
    pub(crate) fn json(&self) -> bool {
        match &self.job {
            Job::Logits(_) | Job::Bench(_) => false,
        }
    }
}

/// Element type of weights and products.
#[derive(Debug, Clone, Copy, ValueEnum)]
pub(crate) enum Dtype {
    /// bfloat16
    Bf16,
    /// IEEE single precision
    Fp32,
}

impl From<Dtype> for sirocco_model::Dtype {
    fn from(dtype: Dtype) -> Self {
        match dtype {
            Dtype::Bf16 => Self::Bf16,
            Dtype::Fp32 => Self::Fp32,
        }
    }
}

#[derive(Debug, clap::Args)]
pub(crate) struct LogitsJob {
    /// Model directory in Hugging Face's layout.
    pub(crate) model: PathBuf,
    /// Adapter directory in PEFT's layout.
    #[arg(long, value_name = "DIR")]
    pub(crate) adapter: Option<PathBuf>,
    /// JSON file {"ids":[[…],[…]]}: documents, each run alone.
    #[arg(long, value_name = "FILE")]
    pub(crate) ids: PathBuf,
    /// safetensors file to write; the tensor is named logits.
    #[arg(long, value_name = "FILE")]
    pub(crate) to: PathBuf,
    /// Element type of weights and products.
    #[arg(long, value_enum, default_value = "fp32")]
    pub(crate) dtype: Dtype,
}

#[derive(Debug, clap::Args)]
pub(crate) struct BenchJob {
    /// Model directory in Hugging Face's layout.
    #[arg(long)]
    pub(crate) model: PathBuf,
    /// Sequences in a step.
    #[arg(long, default_value_t = 4)]
    pub(crate) sequences: usize,
    /// Tokens in a sequence.
    #[arg(long, default_value_t = 512)]
    pub(crate) length: usize,
    /// Tokens in a document, if not the whole sequence.
    #[arg(long)]
    pub(crate) document: Option<usize>,
    /// Micro-batches in a step.
    #[arg(long, default_value_t = 1)]
    pub(crate) micro_batches: usize,
    /// LoRA rank, on all seven projections.
    #[arg(long, default_value_t = 16)]
    pub(crate) rank: usize,
    /// Threads; all cores if not given.
    #[arg(long)]
    pub(crate) threads: Option<usize>,
    /// Steps to measure, after one to warm up.
    #[arg(long, default_value_t = 3)]
    pub(crate) steps: usize,
    /// Element type of weights and products.
    #[arg(long, value_enum, default_value = "bf16")]
    pub(crate) dtype: Dtype,
}
