//! Options of the commands about clusters.
use clap::{Args, Subcommand};

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
A profile is a file NAME.toml in configs/sites beside the programs (after make install, in \
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
Asks Slurm, each command for 10 seconds at most, and looks at this host; sends nothing elsewhere. \
         What only compute nodes have is looked at inside a job. Exit code 5 if something is missing that \
         a run needs there.

Examples:
  sirocco site check                  slurm where Slurm is, else local
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
