//! The command line: every command, its options, and an example of each.
//!
//! `eval`, `export` and `serve` pass everything on to the program that does the work; its own `--help` is theirs.
mod files;
mod plan;
mod run;
mod site;

use std::ffi::OsString;

use clap::{Args, Parser, Subcommand};

pub(crate) use files::{Convert, DataAction, DataCommand, Init, ModelAction, ModelCommand, OnePath, Recipe, Spec, Tokenize};
pub(crate) use plan::Plan;
pub(crate) use run::{Check, Overrides, Status, Train};
pub(crate) use site::{SiteAction, SiteCheck, SiteCommand, SiteList, SiteShow};

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
    /// What a run will need and take: memory of a rank, seconds of a step, hours, energy, and how it scales
    #[command(after_help = "\
Every legal mesh of the run's ranks is compared, with each choice of recompute: what fits first, the
fastest of it first. Nothing is started; of the data a few records are read. What is counted, and how
far predictions were off: docs/plan.md.

Examples:
  sirocco plan run.toml
  sirocco plan run.toml --site meluxina --nodes 4
  sirocco plan run.toml --site leonardo --model-config mistral-7b.json      no weights are needed
  sirocco plan run.toml --json")]
    Plan(Plan),
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
