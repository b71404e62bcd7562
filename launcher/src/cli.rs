//! The command line: every command, its options, and an example of each.
//!
//! `eval`, `export` and `serve` pass everything on to the program that does the work; its own `--help` is theirs.
use std::ffi::OsString;
use std::path::PathBuf;

use clap::{Args, Parser, Subcommand, ValueEnum};
use sirocco_config::shell_word;

/// Fine-tunes Mistral-family language models on supercomputers and serves the result, without a byte leaving the machine.
#[derive(Debug, Parser)]
#[command(
    name = "sirocco",
    version,
    propagate_version = true,
    max_term_width = 110,
    after_help = "\
Exit codes:
   0  done
   1  failed while running
   2  the command line or the configuration is wrong
   3  a policy refused
   4  a data, model or checkpoint file is wrong
   5  the machine lacks something
  75  stopped early, to be resumed

Start here:
  sirocco doctor
  sirocco init my-run && sirocco check my-run/run.toml
  sirocco train my-run/run.toml"
)]
pub(crate) struct Cli {
    #[command(subcommand)]
    pub(crate) command: Command,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Write a commented run file to start from
    #[command(after_help = "Example:\n  sirocco init my-run --recipe lora\n  sirocco check my-run/run.toml")]
    Init(Init),
    /// Look at a model, convert one, or verify one
    Model(ModelCommand),
    /// Text or conversations to token ids, one JSON object per line
    #[command(after_help = "\
Each line is {\"ids\":[…],\"assistant_spans\":[[a,b],…]}: the token ids, and the half-open ranges of those whose loss counts.

Examples:
  sirocco tokenize --tokenizer models/smollm2-135m --text notes.txt
  sirocco tokenize --tokenizer models/smollm2-135m --chat data/darija/valid.jsonl | head -n 3")]
    Tokenize(Tokenize),
    /// Check a corpus, prepare it, or report on it
    Data(DataCommand),
    /// Every refusal that would come later, now, of a run to start or one to resume
    #[command(after_help = "\
Run file, model, data and machine are looked at; nothing is written. The data is read and tokenised
as training would do it. Of a run directory the newest checkpoint is read, too, and compared with its
digests.

Examples:
  sirocco check run.toml
  sirocco check run.toml --set train.micro_batch=4 --json
  sirocco check runs/demo --set parallel.dp=1      would this run go on, on another mesh?")]
    Check(Check),
    /// Train here, under mpirun when there are several ranks; given a run directory, resume it
    #[command(after_help = "\
SIGTERM, SIGINT (Ctrl-C), SIGHUP and SIGUSR1 stop the run at the next step with a checkpoint and
exit code 75. A second Ctrl-C stops it at once: it will go on from the checkpoint before.

Examples:
  sirocco train run.toml                           into runs/NAME
  sirocco train run.toml --ranks 2 --dir /scratch/demo
  sirocco train run.toml --set parallel.fsdp=4     four ranks that hold the weights together
  sirocco train runs/demo                          resume
  sirocco train runs/demo --set train.steps=80     resume and go on for longer
  sirocco train runs/demo --set parallel.dp=1      resume on another mesh; other axes stay")]
    Train(Train),
    /// What a run is doing: step, loss, newest checkpoint
    #[command(after_help = "Example:\n  sirocco status runs/demo --json")]
    Status(Status),
    /// Loss, perplexity and tokens of a model on data (sirocco eval --help)
    #[command(disable_help_flag = true, disable_version_flag = true)]
    Eval(PassedOn),
    /// A run's adapter in PEFT's layout, or a merged model (sirocco export --help)
    #[command(disable_help_flag = true, disable_version_flag = true)]
    Export(PassedOn),
    /// An OpenAI-compatible endpoint for a model and its adapters (sirocco serve --help)
    #[command(disable_help_flag = true, disable_version_flag = true)]
    Serve(PassedOn),
    /// Clusters: what one has and demands, and whether that holds here
    Site(SiteCommand),
    /// What this machine has and lacks
    #[command(after_help = "\
Exit code 5 only if something is missing that training needs.

Example:
  sirocco doctor --json")]
    Doctor(Doctor),
}

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
    #[command(after_help = "Example:\n  sirocco model convert SmolLM2-135M-Instruct.Q8_0.gguf models/smollm2-135m")]
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
    /// Write training and validation files, and the report beside them
    #[command(after_help = "Example:\n  sirocco data prepare datasets/doda.toml")]
    Prepare(Spec),
    /// Show the report of a prepared corpus
    #[command(after_help = "Example:\n  sirocco data report datasets/doda.toml --json")]
    Report(Spec),
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

#[derive(Debug, Args)]
pub(crate) struct Overrides {
    /// MPI ranks: sets parallel.dp to what pp × fsdp × tp leave of N
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=65536))]
    pub(crate) ranks: Option<u32>,
    /// Set any value of the run file
    #[arg(long = "set", value_name = "SECTION.KEY=VALUE")]
    pub(crate) set: Vec<String>,
}

impl Overrides {
    /// The options as they would be typed again, each with a blank before it.
    pub(crate) fn again(&self) -> String {
        let sets = self.set.iter().map(|set| format!(" --set {}", shell_word(set)));
        self.ranks.iter().map(|ranks| format!(" --ranks {ranks}")).chain(sets).collect()
    }
}

#[derive(Debug, Args)]
pub(crate) struct Check {
    /// A run file, or a run directory that would be resumed
    #[arg(value_name = "RUN.toml|RUN_DIR")]
    pub(crate) run: PathBuf,
    #[command(flatten)]
    pub(crate) overrides: Overrides,
    /// Print the result as a JSON object
    #[arg(long)]
    pub(crate) json: bool,
}

#[derive(Debug, Args)]
pub(crate) struct Train {
    /// A run file to start from, or a run directory to resume
    #[arg(value_name = "RUN.toml|RUN_DIR")]
    pub(crate) run: PathBuf,
    /// The run directory [default: runs/NAME]
    #[arg(long, value_name = "D")]
    pub(crate) dir: Option<PathBuf>,
    #[command(flatten)]
    pub(crate) overrides: Overrides,
    /// Stop after this step, with a checkpoint
    #[arg(long, value_name = "STEP", value_parser = clap::value_parser!(u64).range(1..))]
    pub(crate) until: Option<u64>,
    /// Print the summary as a JSON object
    #[arg(long)]
    pub(crate) json: bool,
}

#[derive(Debug, Args)]
pub(crate) struct Status {
    /// The run directory
    #[arg(value_name = "RUN_DIR")]
    pub(crate) run: PathBuf,
    /// Print the result as a JSON object
    #[arg(long)]
    pub(crate) json: bool,
}

#[derive(Debug, Args)]
#[command(after_help = "Example:\n  sirocco site show meluxina")]
pub(crate) struct SiteCommand {
    #[command(subcommand)]
    pub(crate) action: SiteAction,
}

#[derive(Debug, Subcommand)]
pub(crate) enum SiteAction {
    /// The sites that have a profile
    #[command(after_help = "\
A profile is a file NAME.toml in configs/sites beside the programs (after make install, in
share/sirocco). It takes the place of the built-in profile of that name; a new site is a new file.

Example:
  sirocco site list")]
    List(SiteList),
    /// Every fact of a profile, each with where and when it was read; what nobody knows is not known
    #[command(after_help = "\
Examples:
  sirocco site show meluxina
  sirocco site show ./my-cluster.toml --json")]
    Show(SiteShow),
    /// What of a profile holds here, line by line
    #[command(after_help = "\
Asks Slurm, each command for 10 seconds at most, and looks at this host; sends nothing elsewhere.
What only compute nodes have is looked at inside a job. Exit code 5 if something is missing that
a run needs there.

Examples:
  sirocco site check                       the profile slurm where Slurm is, else local
  sirocco site check meluxina
  srun --nodes=1 sirocco site check meluxina --json")]
    Check(SiteCheck),
}

#[derive(Debug, Args)]
pub(crate) struct SiteList {
    /// Print the result as a JSON object
    #[arg(long)]
    pub(crate) json: bool,
}

#[derive(Debug, Args)]
pub(crate) struct SiteShow {
    /// The name of a site, or the path of a profile
    #[arg(value_name = "NAME|FILE.toml")]
    pub(crate) site: String,
    /// Print the result as a JSON object
    #[arg(long)]
    pub(crate) json: bool,
}

#[derive(Debug, Args)]
pub(crate) struct SiteCheck {
    /// The name of a site, or the path of a profile
    #[arg(value_name = "NAME|FILE.toml")]
    pub(crate) site: Option<String>,
    /// Print the result as a JSON object
    #[arg(long)]
    pub(crate) json: bool,
}

#[derive(Debug, Args)]
pub(crate) struct PassedOn {
    /// Options of the program that does the work
    #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
    pub(crate) arguments: Vec<OsString>,
}

#[derive(Debug, Args)]
pub(crate) struct Doctor {
    /// Print the result as a JSON object
    #[arg(long)]
    pub(crate) json: bool,
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory as _;

    #[test]
    fn the_command_line_is_consistent() {
        Cli::command().debug_assert();
    }

    #[test]
    fn passed_on_commands_take_anything() {
        let cli = Cli::try_parse_from(["sirocco", "eval", "models/m", "--data", "f", "--help", "--version"]).unwrap();
        assert!(matches!(cli.command, Command::Eval(PassedOn { arguments }) if arguments.len() == 5));
    }
}
