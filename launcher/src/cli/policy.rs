//! Options of the commands about rules: what is allowed, approvals, and the keys that sign.
use std::path::PathBuf;

use clap::{Args, Subcommand};
use sirocco_config::{LOCAL_SITE, OPEN_POLICY};
use sirocco_policy::{Action, Day};

use super::run::Overrides;

/// Whom a command asks that belongs to no run.
#[derive(Clone, Debug, Args)]
pub(crate) struct PolicyOptions {
    /// The policy set that is asked
    #[arg(long, value_name = "SET", default_value = OPEN_POLICY)]
    pub(crate) policy: String,
    /// Facts of your own about data and models, besides those of the set
    #[arg(long, value_name = "FILE")]
    pub(crate) facts: Vec<PathBuf>,
    /// For what, by its name in the facts
    #[arg(long, value_name = "NAME")]
    pub(crate) purpose: Option<String>,
    /// Where, by the site's name in the facts
    #[arg(long, value_name = "NAME", default_value = LOCAL_SITE)]
    pub(crate) site: String,
    /// Public keys whose signatures are believed [default: those of this account]
    #[arg(long, value_name = "DIR")]
    pub(crate) trust: Option<PathBuf>,
}

#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  sirocco policy init rules --from luxembourg-public
  sirocco policy test rules
  sirocco policy check run.toml --set policy.set=rules")]
pub(crate) struct PolicyCommand {
    #[command(subcommand)]
    pub(crate) action: PolicyAction,
}

#[derive(Debug, Subcommand)]
pub(crate) enum PolicyAction {
    /// May this run be trained? As a plan, before anything is queued
    #[command(after_help = "\
Exit code 3 if not. The data files are read once, for their digests; nothing is written.

Examples:
  sirocco policy check run.toml
  sirocco policy check run.toml --set site.profile=leonardo
  sirocco policy check runs/demo             may it go on?")]
    Check(PolicyCheck),
    /// Why: which rules, which facts, and which single changes would turn the answer
    #[command(after_help = "\
A request is what ledgers hold of every question, as JSON.

Examples:
  sirocco policy explain run.toml
  sirocco policy explain runs/demo --action export
  sirocco policy explain --request request.json --policy rules")]
    Explain(PolicyExplain),
    /// Run the table of cases of a set
    #[command(after_help = "\
Exit code 1 if a case has another answer than it expects.

Example:
  sirocco policy test configs/policies/luxembourg-public")]
    Test(PolicyTest),
    /// Write a ready set to start from
    #[command(after_help = "Example:\n  sirocco policy init rules --from luxembourg-public\n  sirocco policy test rules")]
    Init(PolicyInit),
    /// Sign a set, as it is now, with a key for policies
    #[command(after_help = "\
What is written is model.sig (OpenSSF Model Signing) over all files of the directory. A set with a rule \
         that does not parse, or a case that fails, is not signed.

Example:
  sirocco policy sign rules --key office/release.key")]
    Sign(PolicySign),
    /// Approve an action on a run that somebody else will do
    #[command(after_help = "\
The approval is a signed file in RUN_DIR/approvals. It counts where your public key lies in the trusted \
         directory as NAME.pub, and roles.json there gives NAME the role approve. It is good for this action \
         with this artefact of this run, until the last day.

Examples:
  sirocco policy approve runs/demo --action export --as amal --key amal.key
  sirocco policy approve runs/demo --action export --artefact merged:demo \\
      --as amal --key amal.key")]
    Approve(PolicyApprove),
}

#[derive(Debug, Args)]
pub(crate) struct PolicyCheck {
    /// A run file, or a run directory that would be resumed
    #[arg(value_name = "RUN.toml|RUN_DIR")]
    pub(crate) run: PathBuf,
    #[command(flatten)]
    pub(crate) overrides: Overrides,
    /// Print the decision as a JSON object
    #[arg(long)]
    pub(crate) json: bool,
}

#[derive(Debug, Args)]
pub(crate) struct PolicyExplain {
    /// A run file or a run directory
    #[arg(value_name = "RUN.toml|RUN_DIR", required_unless_present = "request")]
    pub(crate) run: Option<PathBuf>,
    /// What would be done with it: train, resume, export, merge, serve, sendOut [default: train; of a directory resume]
    #[arg(long, value_parser = action)]
    pub(crate) action: Option<Action>,
    /// A request as a ledger holds it, instead of a run
    #[arg(long, value_name = "FILE", conflicts_with_all = ["run", "action", "ranks", "set"])]
    pub(crate) request: Option<PathBuf>,
    #[command(flatten)]
    pub(crate) overrides: Overrides,
    #[command(flatten)]
    pub(crate) policy: RequestOptions,
    /// Print the explanation as a JSON object
    #[arg(long)]
    pub(crate) json: bool,
}

/// Whom to ask about a request, which says itself who, where and for what.
#[derive(Clone, Debug, Args)]
pub(crate) struct RequestOptions {
    /// The policy set that is asked about a request
    #[arg(long, value_name = "SET", requires = "request", default_value = OPEN_POLICY)]
    pub(crate) policy: String,
    /// Facts of your own, besides those of the set
    #[arg(long, value_name = "FILE", requires = "request")]
    pub(crate) facts: Vec<PathBuf>,
}

#[derive(Debug, Args)]
pub(crate) struct PolicyTest {
    /// The set
    pub(crate) dir: PathBuf,
    /// Print the result as a JSON object
    #[arg(long)]
    pub(crate) json: bool,
}

#[derive(Debug, Args)]
pub(crate) struct PolicyInit {
    /// The directory to write; must not hold anything
    pub(crate) dir: PathBuf,
    /// The ready set
    #[arg(long, value_parser = ["luxembourg-public", "france-defence", "morocco-public", "open"])]
    pub(crate) from: String,
    /// Print the result as a JSON object
    #[arg(long)]
    pub(crate) json: bool,
}

#[derive(Debug, Args)]
pub(crate) struct PolicySign {
    /// The set
    pub(crate) dir: PathBuf,
    /// The private key
    #[arg(long, value_name = "FILE")]
    pub(crate) key: PathBuf,
    /// Print the result as a JSON object
    #[arg(long)]
    pub(crate) json: bool,
}

#[derive(Debug, Args)]
pub(crate) struct PolicyApprove {
    /// The run directory
    #[arg(value_name = "RUN_DIR")]
    pub(crate) run: PathBuf,
    /// What may be done: train, resume, export, merge, sendOut
    #[arg(long, value_parser = action)]
    pub(crate) action: Action,
    /// With what, such as merged:demo [default: what the action makes of the run]
    #[arg(long, value_name = "KIND:NAME")]
    pub(crate) artefact: Option<sirocco_policy::Name>,
    /// Your name, as your key is called in the trusted directory
    #[arg(long = "as", value_name = "NAME")]
    pub(crate) approver: String,
    /// Your private key
    #[arg(long, value_name = "FILE")]
    pub(crate) key: PathBuf,
    /// The last day on which it is good [default: in 30 days]
    #[arg(long, value_name = "DAY")]
    pub(crate) until: Option<Day>,
    /// Print the result as a JSON object
    #[arg(long)]
    pub(crate) json: bool,
}

#[derive(Debug, Args)]
#[command(after_help = "Example:\n  sirocco keys new office\n  sirocco keys show office")]
pub(crate) struct KeysCommand {
    #[command(subcommand)]
    pub(crate) action: KeysAction,
}

#[derive(Debug, Subcommand)]
pub(crate) enum KeysAction {
    /// Make the pairs that sign: one for what is published, one for ledgers
    #[command(after_help = "\
Nothing is replaced. [policy] keys of a run file names the directory; without it, the account's own keys \
         are used, which are made when they are first needed.

Example:
  sirocco keys new office --name ministry")]
    New(KeysNew),
    /// The public halves, and their fingerprints
    #[command(after_help = "Example:\n  sirocco keys show office")]
    Show(KeysShow),
}

#[derive(Debug, Args)]
pub(crate) struct KeysNew {
    /// The directory to make
    pub(crate) dir: PathBuf,
    /// Whose ledgers it signs [default: this account]
    #[arg(long)]
    pub(crate) name: Option<String>,
    /// Print the result as a JSON object
    #[arg(long)]
    pub(crate) json: bool,
}

#[derive(Debug, Args)]
pub(crate) struct KeysShow {
    /// The directory of keys
    pub(crate) dir: PathBuf,
    /// Print the result as a JSON object
    #[arg(long)]
    pub(crate) json: bool,
}

fn action(text: &str) -> Result<Action, String> {
    let words = || Action::ALL.map(Action::word).join(", ");
    Action::ALL.into_iter().find(|action| action.word() == text).ok_or_else(|| format!("expected one of {}", words()))
}
