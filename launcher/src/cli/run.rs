//! Options of the commands that begin a run here and look at one.
use std::path::PathBuf;

use clap::Args;
use sirocco_config::shell_word;

#[derive(Debug, Args)]
pub(crate) struct Overrides {
    /// MPI ranks: sets parallel.dp to what pp × fsdp × tp leave of N
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=65536))]
    pub(crate) ranks: Option<u32>,
    /// Set any value of the run file; SECTION.KEY= alone unsets it
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
pub(crate) struct Wanted {
    /// A run file to start from, or a run directory to resume
    #[arg(value_name = "RUN.toml|RUN_DIR")]
    pub(crate) run: PathBuf,
    /// The run directory [default: runs/NAME]
    #[arg(long, value_name = "D")]
    pub(crate) dir: Option<PathBuf>,
    #[command(flatten)]
    pub(crate) overrides: Overrides,
}

#[derive(Debug, Args)]
pub(crate) struct Train {
    #[command(flatten)]
    pub(crate) wanted: Wanted,
    /// Stop after this step, with a checkpoint; 0 only prepares the run
    #[arg(long, value_name = "STEP")]
    pub(crate) until: Option<u64>,
    /// Print the summary as a JSON object
    #[arg(long)]
    pub(crate) json: bool,
}
