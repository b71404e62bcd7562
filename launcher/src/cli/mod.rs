//! The command line: every command, its options, and an example of each.
//!
//! `eval`, `export` and `serve` pass everything on to the program that does the work; its own `--help` is theirs.
mod bundle;
mod evidence;
mod files;
mod ledger;
mod plan;
mod policy;
mod report;
mod run;
mod site;
mod slurm;
mod watch;

use std::ffi::OsString;

use clap::{Args, Parser, Subcommand};

pub(crate) use bundle::{BundleAction, BundleCheck, BundleCommand, BundleOpen, BundlePack};
pub(crate) use evidence::Evidence;
pub(crate) use files::{
    Convert, DataAction, DataCommand, Init, ModelAction, ModelCommand, OnePath, Prepare, Recipe, Spec, Tokenize,
};
pub(crate) use ledger::{LedgerAction, LedgerCommand, LedgerProve, LedgerShow, LedgerVerify};
pub(crate) use plan::Plan;
pub(crate) use policy::{
    KeysAction, KeysCommand, PolicyAction, PolicyApprove, PolicyCheck, PolicyCommand, PolicyExplain, PolicyInit, PolicyOptions,
    PolicySign, PolicyTest,
};
pub(crate) use report::Report;
pub(crate) use run::{Check, Overrides, Train, Wanted};
pub(crate) use site::{SiteAction, SiteCheck, SiteCommand, SiteList, SiteShow};
pub(crate) use slurm::{Cancel, Job, Submit};
pub(crate) use watch::{Logs, Status, Watch};

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
  sirocco tokenize --tokenizer models/smollm2-135m --chat talks.jsonl")]
    Tokenize(Tokenize),
    /// Check a corpus, prepare it, or report on it
    Data(DataCommand),
    /// Every refusal that would come later, now, of a run to start or one to resume
    #[command(after_help = "\
Run file, model, data and machine are looked at; nothing is written. The data is read and tokenised \
         as training would do it. Of a run directory the newest checkpoint is read, too, and compared with its \
         digests. Quotas of the disk are asked for and, where Slurm is, whether account, partition and QOS take \
         the job, and its time and nodes: sbatch takes jobs that never start.

Examples:
  sirocco check run.toml
  sirocco check run.toml --set train.micro_batch=4 --json
  sirocco check run.toml --set site.qos=long       is that QOS allowed?
  sirocco check runs/demo --set parallel.dp=1      would it go on like that?")]
    Check(Check),
    /// What a run will need and take: memory of a rank, seconds of a step, hours, energy, and how it scales
    #[command(after_help = "\
Every legal mesh of the run's ranks is compared, with each choice of recompute: what fits first, the \
         fastest of it first. Nothing is started; of the data a few records are read. What is counted, and how \
         far predictions were off: docs/plan.md.

Examples:
  sirocco plan run.toml
  sirocco plan run.toml --site meluxina --nodes 4
  sirocco plan run.toml --site leonardo --model-config mistral-7b.json
  sirocco plan run.toml --json")]
    Plan(Plan),
    /// Train here, under mpirun when there are several ranks; given a run directory, resume it
    #[command(after_help = "\
SIGTERM, SIGINT (Ctrl-C), SIGHUP and SIGUSR1 stop the run at the next step with a checkpoint and \
         exit code 75. A second Ctrl-C stops it at once: it will go on from the checkpoint before.

Examples:
  sirocco train run.toml                           into runs/NAME
  sirocco train run.toml --ranks 2 --dir /scratch/demo
  sirocco train run.toml --set parallel.fsdp=4     weights over four ranks
  sirocco train runs/demo                          resume
  sirocco train runs/demo --set train.steps=80     resume and go on for longer
  sirocco train runs/demo --set parallel.dp=1      resume on another mesh")]
    Train(Train),
    /// Train on a cluster with Slurm: a job, and others after it until the run is done
    #[command(after_help = "\
Checks the run, tokenises its data, writes RUN_DIR/job.sh and submits it. The job goes on by itself \
         over the end of its time, lost nodes and dead ranks; an error that repeats ends it. [site] says where: \
         profile, account, partition, qos, time, nodes.

Examples:
  sirocco submit run.toml --set site.profile=meluxina --dry-run
  sirocco submit run.toml
  sirocco submit run.toml --set site.profile=slurm --set site.account=
  sirocco submit runs/demo                   go on with one that ended early
  sirocco submit run.toml --sweep seed=1,2 --sweep method.rank=8,16")]
    Submit(Submit),
    /// End the jobs of a run or of a whole sweep, with a checkpoint
    #[command(after_help = "\
Jobs that run stop at their next step with a checkpoint; jobs that wait are removed, also those of an \
         array. Given a directory of runs, as a sweep leaves one, every one of them is cancelled.

Examples:
  sirocco cancel runs/demo
  sirocco cancel runs/demo --now      at once, without another checkpoint
  sirocco cancel runs/NAME            of a sweep: every run of it")]
    Cancel(Cancel),
    /// What RUN_DIR/job.sh does inside a job: start the ranks, record their end, see to what follows
    #[command(hide = true)]
    Job(Job),
    /// What this program starts itself as, to be kept from the network
    #[command(hide = true, disable_help_flag = true, disable_version_flag = true)]
    Confined(PassedOn),
    /// What a run is doing: step, loss, newest checkpoint, its jobs and its ranks
    #[command(after_help = "\
Of jobs that are not over, Slurm is asked why they wait and when they may start; where its controller \
         does not answer, what was recorded is shown. Given a directory of runs, as a sweep leaves one, there \
         is a line for each of them.

Examples:
  sirocco status runs/demo
  sirocco status runs/NAME            of a sweep: a line for each run
  sirocco status runs/demo --json")]
    Status(Status),
    /// A run as it goes on: a live view on a terminal, plain lines elsewhere
    #[command(after_help = "\
Keys: q leaves (the run goes on), Tab and arrows change the page, ? helps. Only files of the run \
         directory are read. Where standard output is no terminal, or TERM is dumb, there is a line for each \
         step until the run ends. With NO_COLOR there are no colours. Given a directory of runs, as a sweep \
         leaves one, there is a table of them, and elsewhere a line when a run has another state and about its \
         steps once a minute.

Examples:
  sirocco watch runs/demo
  sirocco watch runs/demo --every 60 | tee watch.txt     a line a minute")]
    Watch(Watch),
    /// The last lines of the logs of ranks and of jobs
    #[command(after_help = "\
Without --rank and --job these are the logs of all ranks; before there are any, what the newest job \
         has written. Several are told apart by `rank 3: ` at the beginning of each line.

Examples:
  sirocco logs runs/demo
  sirocco logs runs/demo --rank 0 --lines 100 --follow
  sirocco logs runs/demo --job 1234")]
    Logs(Logs),
    /// One page of a run: what was trained on what, curves, jobs, cost; or several runs compared
    #[command(after_help = "\
The page is one file that needs nothing else. The curves are written for TensorBoard, too, into the \
         run directory. What nobody measured is said to be \"not measured\".

Examples:
  sirocco report runs/demo
  sirocco report runs/demo --samples data/darija/valid.jsonl
  sirocco report runs                 which was better, at what cost")]
    Report(Report),
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
    /// What is allowed, and which rule said so; sets of rules, approvals
    Policy(PolicyCommand),
    /// The keys that sign what runs publish, and ledgers
    Keys(KeysCommand),
    /// Who did what, when, in a history that nobody can change unnoticed
    Ledger(LedgerCommand),
    /// A bundle from which others can see what was done in a run, without Sirocco
    #[command(after_help = "\
The bundle has the sealed ledger, proofs, every decision with the rules and facts that made it, the \
         signatures of checkpoints and exports that are there, and what nodes let out. It is signed, then read \
         again as others will: sirocco-verify BUNDLE --trust DIR. Nothing is sent anywhere; who hands it on \
         answers for that.

Examples:
  sirocco evidence runs/demo --to demo-evidence
  sirocco evidence runs/demo --to demo-evidence.tar
  sirocco evidence runs/demo --to demo-evidence --export exports/demo-adapter")]
    Evidence(Evidence),
    /// Artefacts and data in one signed file, for sites without a network
    Bundle(BundleCommand),
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

    /// A terminal of 80 columns breaks paragraphs itself, and would break a line that has its own end a second time.
    #[test]
    fn help_fits_80_columns() {
        let mut commands = vec![Cli::command()];
        while let Some(command) = commands.pop() {
            let help = command.get_after_help().map(ToString::to_string).unwrap_or_default();
            let is_prose = |line: &str| !line.is_empty() && !line.starts_with(' ') && !line.ends_with(':');
            let lines: Vec<&str> = help.lines().collect();
            for line in lines.iter().filter(|line| line.starts_with(' ')) {
                assert!(line.chars().count() <= 80, "{}: {line}", command.get_name());
            }
            for pair in lines.windows(2) {
                assert!(!is_prose(pair[0]) || !is_prose(pair[1]), "{}: a paragraph is one line: {}", command.get_name(), pair[1]);
            }
            commands.extend(command.get_subcommands().cloned());
        }
    }

    #[test]
    fn passed_on_commands_take_anything() {
        let cli = Cli::try_parse_from(["sirocco", "eval", "models/m", "--data", "f", "--help", "--version"]).unwrap();
        assert!(matches!(cli.command, Command::Eval(PassedOn { arguments }) if arguments.len() == 5));
    }
}
