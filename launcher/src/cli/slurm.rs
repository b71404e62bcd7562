//! Options of the commands that submit a run and end it.
use std::path::PathBuf;

use clap::Args;

use super::run::Wanted;

#[derive(Debug, Args)]
pub(crate) struct Submit {
    #[command(flatten)]
    pub(crate) wanted: Wanted,
    /// Several runs, one for each value; given more than once: one for each combination
    #[arg(long, value_name = "SECTION.KEY=VALUE,VALUE…")]
    pub(crate) sweep: Vec<String>,
    /// Several runs: the settings of one on each line, SECTION.KEY=VALUE between blanks
    #[arg(long, value_name = "FILE")]
    pub(crate) sweep_file: Option<PathBuf>,
    /// Print the job script; nothing is made, asked or submitted
    #[arg(long)]
    pub(crate) dry_run: bool,
    /// Print the result as a JSON object
    #[arg(long)]
    pub(crate) json: bool,
}

#[derive(Debug, Args)]
pub(crate) struct Cancel {
    /// The run directory, or a directory of runs
    #[arg(value_name = "RUN_DIR")]
    pub(crate) run: PathBuf,
    /// At once, without a checkpoint
    #[arg(long)]
    pub(crate) now: bool,
    /// Print the result as a JSON object
    #[arg(long)]
    pub(crate) json: bool,
}

#[derive(Debug, Args)]
pub(crate) struct Job {
    /// The run directory
    #[arg(value_name = "RUN_DIR")]
    pub(crate) run: PathBuf,
}
