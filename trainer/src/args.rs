//! The command line. `sirocco eval` and `sirocco export` hand theirs to this program unread.

use std::path::PathBuf;

use clap::{Parser, Subcommand, ValueEnum};

use crate::gpu::GpuJob;
use crate::node::NodeJob;

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
    /// One rank of a run; `sirocco train` starts as many as the run asks for.
    Run(RunJob),
    /// Loss, perplexity and tokens of a model on data, per file.
    Eval(EvalJob),
    /// Writes what a run has learnt in a form that other programs read.
    Export(ExportJob),
    /// What this program found of libtorch.
    #[command(hide = true)]
    Doctor(DoctorJob),
    /// What this node has and how fast it is, before ranks start on it.
    #[command(hide = true)]
    Node(NodeJob),
    /// Writes the logits of given tokens, for comparisons.
    #[command(hide = true)]
    Logits(LogitsJob),
    /// Measures training speed on random tokens.
    #[command(hide = true)]
    Bench(BenchJob),
    /// Compares every operation on a GPU with the CPU's.
    #[command(hide = true)]
    GpuCheck(GpuJob),
    /// Measures training speed on a GPU.
    #[command(hide = true)]
    GpuBench(GpuJob),
}

impl Args {
    /// Whether errors are wanted as JSON, too.
    pub(crate) fn json(&self) -> bool {
        match &self.job {
            Job::Eval(job) => job.json,
            Job::Export(job) => job.json,
            Job::GpuCheck(job) | Job::GpuBench(job) => job.json,
            Job::Run(_) | Job::Doctor(_) | Job::Node(_) | Job::Logits(_) | Job::Bench(_) => false,
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

/// Where the other ranks are.
#[derive(Debug, Clone, Copy, ValueEnum)]
pub(crate) enum Group {
    /// There are none.
    Solo,
    /// In the MPI job that started this process.
    Mpi,
}

#[derive(Debug, clap::Args)]
pub(crate) struct RunJob {
    /// Run directory, with run.toml and tokens/.
    #[arg(long, value_name = "RUN")]
    pub(crate) dir: PathBuf,
    /// Where the other ranks are.
    #[arg(long, value_enum)]
    pub(crate) comm: Group,
    /// Threads that this rank computes with.
    #[arg(long, value_parser = clap::value_parser!(u16).range(1..=4096))]
    pub(crate) threads: u16,
    /// Stop after this step, with a checkpoint.
    #[arg(long, value_name = "STEP", value_parser = clap::value_parser!(u64).range(1..))]
    pub(crate) until: Option<u64>,
    /// When the job ends, in seconds since 1970: stop before, in time for a checkpoint.
    #[arg(long, value_name = "SECONDS")]
    pub(crate) ends: Option<f64>,
}

/// How a data file is written.
#[derive(Debug, Clone, Copy, ValueEnum)]
pub(crate) enum DataFormat {
    /// {"messages":[{"role","content"}…]} a line: the loss is that of the answers.
    Chat,
    /// {"text"} a line, or a .txt file: the loss is that of every token.
    Text,
}

#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  sirocco eval models/smollm2-135m --data data/darija/valid.jsonl
  sirocco eval models/smollm2-135m --adapter exports/demo-adapter --data data/darija/valid.jsonl --samples 5
  sirocco eval exports/demo-merged --data data/darija/valid.jsonl --json")]
pub(crate) struct EvalJob {
    /// Model directory in Hugging Face's layout.
    pub(crate) model: PathBuf,
    /// Data files; each is accounted for by itself.
    #[arg(long, value_name = "FILE", required = true, num_args = 1..)]
    pub(crate) data: Vec<PathBuf>,
    /// Adapter directory in PEFT's layout.
    #[arg(long, value_name = "DIR")]
    pub(crate) adapter: Option<PathBuf>,
    /// How the data files are written.
    #[arg(long, value_enum, default_value = "chat")]
    pub(crate) format: DataFormat,
    /// Most tokens of a document; the model's context if not given.
    #[arg(long, value_name = "TOKENS")]
    pub(crate) sequence_length: Option<usize>,
    /// Leave bad records out, counted, instead of stopping at the first.
    #[arg(long)]
    pub(crate) skip_bad: bool,
    /// Also answer the first N conversations of the first file, greedily, beside what the file answers.
    #[arg(long, value_name = "N", default_value_t = 0)]
    pub(crate) samples: usize,
    /// Element type of weights and products.
    #[arg(long, value_enum, default_value = "bf16")]
    pub(crate) dtype: Dtype,
    /// Threads; all cores if not given.
    #[arg(long, value_parser = clap::value_parser!(u16).range(1..=4096))]
    pub(crate) threads: Option<u16>,
    /// Print one JSON object instead of a table.
    #[arg(long)]
    pub(crate) json: bool,
}

#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  sirocco export runs/demo --to exports/demo-adapter --adapter     for PEFT, vLLM and sirocco serve --adapter
  sirocco export runs/demo --to exports/demo-merged --merge        for whatever reads Hugging Face models")]
#[command(group = clap::ArgGroup::new("form").required(true))]
pub(crate) struct ExportJob {
    /// Run directory.
    pub(crate) run: PathBuf,
    /// Directory to write; must not exist yet.
    #[arg(long, value_name = "DIR")]
    pub(crate) to: PathBuf,
    /// Write the adapter alone, in PEFT's layout, fp32.
    #[arg(long, group = "form")]
    pub(crate) adapter: bool,
    /// Write a whole model in Hugging Face's layout: base plus adapter, or what full fine-tuning made of it.
    #[arg(long, group = "form")]
    pub(crate) merge: bool,
    /// Checkpoint to export; the newest if not given.
    #[arg(long, value_name = "STEP")]
    pub(crate) step: Option<u64>,
    /// Element type of a merged model.
    #[arg(long, value_enum, default_value = "bf16")]
    pub(crate) dtype: Dtype,
    /// Print one JSON object instead of a sentence.
    #[arg(long)]
    pub(crate) json: bool,
}

#[derive(Debug, clap::Args)]
pub(crate) struct DoctorJob {
    /// Print JSON; there is no other form.
    #[arg(long)]
    pub(crate) json: bool,
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
    #[arg(long, default_value_t = 4, value_parser = clap::value_parser!(u16).range(1..))]
    pub(crate) sequences: u16,
    /// Tokens in a sequence.
    #[arg(long, default_value_t = 512, value_parser = clap::value_parser!(u16).range(1..))]
    pub(crate) length: u16,
    /// Tokens in a document, if not the whole sequence.
    #[arg(long, value_parser = clap::value_parser!(u16).range(1..))]
    pub(crate) document: Option<u16>,
    /// Micro-batches in a step.
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u16).range(1..))]
    pub(crate) micro_batches: u16,
    /// LoRA rank, on all seven projections.
    #[arg(long, default_value_t = 16, value_parser = clap::value_parser!(u16).range(1..))]
    pub(crate) rank: u16,
    /// Train every weight instead.
    #[arg(long)]
    pub(crate) full: bool,
    /// How ranks talk.
    #[arg(long, value_enum, default_value = "solo")]
    pub(crate) comm: Group,
    /// Length of each axis of the mesh.
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u16).range(1..))]
    pub(crate) pp: u16,
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u16).range(1..))]
    pub(crate) dp: u16,
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u16).range(1..))]
    pub(crate) fsdp: u16,
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u16).range(1..))]
    pub(crate) tp: u16,
    /// Size of the buckets in which gradients are summed.
    #[arg(long, value_name = "MIB", default_value_t = 25, value_parser = clap::value_parser!(u16).range(1..))]
    pub(crate) bucket_mb: u16,
    /// Measure a step with dp = the number of ranks beside its computing alone and its communication alone.
    #[arg(long)]
    pub(crate) overlap: bool,
    /// Threads; all cores if not given.
    #[arg(long, value_parser = clap::value_parser!(u16).range(1..=4096))]
    pub(crate) threads: Option<u16>,
    /// Steps to measure, after one to warm up.
    #[arg(long, default_value_t = 3, value_parser = clap::value_parser!(u16).range(1..))]
    pub(crate) steps: u16,
    /// Element type of weights and products.
    #[arg(long, value_enum, default_value = "bf16")]
    pub(crate) dtype: Dtype,
}
