//! Options of the command that writes evidence bundles.
use std::path::PathBuf;

use clap::Args;

#[derive(Debug, Args)]
pub(crate) struct Evidence {
    /// The run directory
    #[arg(value_name = "RUN_DIR")]
    pub(crate) run: PathBuf,
    /// The bundle: a new directory, or a new file that ends in .tar
    #[arg(long, value_name = "DIR|FILE.tar")]
    pub(crate) to: PathBuf,
    /// An export of the run, besides those whose places the ledger names
    #[arg(long = "export", value_name = "DIR")]
    pub(crate) exports: Vec<PathBuf>,
    /// Print the result as a JSON object
    #[arg(long)]
    pub(crate) json: bool,
}
