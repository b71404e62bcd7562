//! Options of the commands about what was done.
use std::path::PathBuf;

use clap::{Args, Subcommand};

#[derive(Debug, Args)]
#[command(after_help = "Example:\n  sirocco ledger show runs/demo")]
pub(crate) struct LedgerCommand {
    #[command(subcommand)]
    pub(crate) action: LedgerAction,
}

#[derive(Debug, Subcommand)]
pub(crate) enum LedgerAction {
    /// Is a ledger whole, signed by a key that is believed, and does it continue what was seen before?
    #[command(after_help = "\
Nothing is written. What is wrong is named with file, byte and entry, and the exit code is 4.

Examples:
  sirocco ledger verify runs/demo
  sirocco ledger verify runs/demo --trust ministry-keys
  sirocco ledger verify runs/demo --earlier seen/checkpoint")]
    Verify(LedgerVerify),
    /// Who did what, when; where a model comes from, or where data went
    #[command(after_help = "\
Entries are shown as they stand there: sirocco ledger verify says whether they are to be believed.

Examples:
  sirocco ledger show runs/demo
  sirocco ledger show runs/demo --of adapter:demo      made of what?
  sirocco ledger show runs/demo --data data/letters    gone where?")]
    Show(LedgerShow),
    /// A proof that an entry is in a ledger, in one file that can be checked without the others
    #[command(after_help = "\
The format is C2SP tlog-proof. The entry itself is in it, so whoever gets the file reads what it says:
sirocco-verify started.tlog-proof --trust DIR checks it and shows it.

Example:
  sirocco ledger prove runs/demo --entry 0 --to started.tlog-proof")]
    Prove(LedgerProve),
}

#[derive(Debug, Args)]
pub(crate) struct LedgerVerify {
    /// A run directory, or the directory of a ledger
    #[arg(value_name = "RUN_OR_DIR")]
    pub(crate) place: PathBuf,
    /// Public keys to believe [default: those of the run, or else the account's]
    #[arg(long, value_name = "DIR")]
    pub(crate) trust: Option<PathBuf>,
    /// A checkpoint of this ledger that was kept elsewhere
    #[arg(long, value_name = "FILE")]
    pub(crate) earlier: Vec<PathBuf>,
    /// Print the result as a JSON object
    #[arg(long)]
    pub(crate) json: bool,
}

#[derive(Debug, Args)]
pub(crate) struct LedgerShow {
    /// A run directory, or the directory of a ledger
    #[arg(value_name = "RUN_OR_DIR")]
    pub(crate) place: PathBuf,
    /// What this is made from, down to the data: adapter:NAME, or the directory of an export
    #[arg(long, value_name = "ARTEFACT", conflicts_with = "data")]
    pub(crate) of: Option<String>,
    /// What was made from this data: its name in the ledger, or the path of a file or a directory
    #[arg(long, value_name = "DATA")]
    pub(crate) data: Option<String>,
    /// Print the result as a JSON object
    #[arg(long)]
    pub(crate) json: bool,
}

#[derive(Debug, Args)]
pub(crate) struct LedgerProve {
    /// A run directory, or the directory of a ledger
    #[arg(value_name = "RUN_OR_DIR")]
    pub(crate) place: PathBuf,
    /// The entry's number, from 0
    #[arg(long, value_name = "N")]
    pub(crate) entry: u64,
    /// The proof, a new file
    #[arg(long, value_name = "FILE")]
    pub(crate) to: PathBuf,
    /// Print the result as a JSON object
    #[arg(long)]
    pub(crate) json: bool,
}
