//! Options of the commands that carry artefacts and data to sites without a network.
use std::path::PathBuf;

use clap::{Args, Subcommand};

use super::policy::PolicyOptions;

#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  sirocco bundle pack exports/demo-adapter --to demo.tar --recipient ministry
  sirocco bundle check demo.tar --trust trust
  sirocco bundle open demo.tar --to demo --trust trust")]
pub(crate) struct BundleCommand {
    #[command(subcommand)]
    pub(crate) action: BundleAction,
}

#[derive(Debug, Subcommand)]
pub(crate) enum BundleAction {
    /// Put artefacts and data, with their labels, into one signed file to be carried elsewhere
    #[command(after_help = "\
Adapters, models, checkpoints and evidence are directories, data is a file or a directory. What is signed \
         is verified first; what has no record of its own has the labels that facts give it. The policy is asked \
         whether each may be sent to the recipients (sendOut), and the answer and the sending are recorded: in \
         the account's ledger, or with --run in the run's, whose approvals then count. Nothing is sent anywhere.

Examples:
  sirocco bundle pack exports/demo-adapter --to demo.tar --recipient ministry
  sirocco bundle pack exports/demo-adapter --to demo.tar --run runs/demo
  sirocco bundle pack data/darija/train.jsonl --to darija.tar --policy rules
  sirocco bundle pack models/smollm2-135m --to base.tar --facts mine.toml")]
    Pack(BundlePack),
    /// Verify a bundle, ask whether it may come in, and unpack it
    #[command(after_help = "\
Every byte is compared with the signature of a trusted key that has the role release or import; then the \
         policy is asked about each part (import), under the labels that came with it. Only then DIR is made, \
         whole or not at all. Where parts have no record of their own, DIR/facts.toml has their labels: name it \
         in [policy] facts of a run file. A refusal is exit code 3, a bundle that was changed 4.

Examples:
  sirocco bundle open demo.tar --to demo --trust trust
  sirocco bundle open demo.tar --to demo --trust trust --policy rules")]
    Open(BundleOpen),
    /// Verify a bundle and say what is in it; nothing is written and nobody is asked
    #[command(after_help = "\
Exit code 4 if a byte of it is not what a trusted key signed.

Examples:
  sirocco bundle check demo.tar --trust trust
  sirocco bundle check demo.tar --trust trust --json")]
    Check(BundleCheck),
}

#[derive(Debug, Args)]
pub(crate) struct BundlePack {
    /// Signed directories, models, and files of data
    #[arg(value_name = "ARTEFACT", required = true)]
    pub(crate) artefacts: Vec<PathBuf>,
    /// The bundle: a new file
    #[arg(long, value_name = "FILE.tar")]
    pub(crate) to: PathBuf,
    /// For whom, by their name in the facts; may be given several times
    #[arg(long = "recipient", value_name = "NAME")]
    pub(crate) recipients: Vec<String>,
    /// The run that made the artefacts: its policy is asked, its approvals count, its ledger records
    #[arg(long, value_name = "RUN_DIR", conflicts_with_all = ["policy", "facts", "purpose", "site", "trust", "keys"])]
    pub(crate) run: Option<PathBuf>,
    #[command(flatten)]
    pub(crate) options: PolicyOptions,
    /// The keys that sign [default: those of this account]
    #[arg(long, value_name = "DIR")]
    pub(crate) keys: Option<PathBuf>,
    /// Print the result as a JSON object
    #[arg(long)]
    pub(crate) json: bool,
}

#[derive(Debug, Args)]
pub(crate) struct BundleOpen {
    /// The bundle
    #[arg(value_name = "FILE.tar")]
    pub(crate) bundle: PathBuf,
    /// The directory to make
    #[arg(long, value_name = "DIR")]
    pub(crate) to: PathBuf,
    #[command(flatten)]
    pub(crate) options: PolicyOptions,
    /// Print the result as a JSON object
    #[arg(long)]
    pub(crate) json: bool,
}

#[derive(Debug, Args)]
pub(crate) struct BundleCheck {
    /// The bundle
    #[arg(value_name = "FILE.tar")]
    pub(crate) bundle: PathBuf,
    /// Public keys whose signatures are believed [default: those of this account]
    #[arg(long, value_name = "DIR")]
    pub(crate) trust: Option<PathBuf>,
    /// Print the result as a JSON object
    #[arg(long)]
    pub(crate) json: bool,
}
