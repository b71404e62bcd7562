//! Options of `sirocco plan`.
use std::path::PathBuf;

use clap::Args;

use super::Overrides;

#[derive(Debug, Args)]
pub(crate) struct Plan {
    /// The run file
    #[arg(value_name = "RUN.toml")]
    pub(crate) run: PathBuf,
    /// Where it would run: the name of a site, or the path of a profile [default: site.profile of the run file]
    #[arg(long, value_name = "NAME|FILE.toml")]
    pub(crate) site: Option<String>,
    /// On how many nodes; a rank for each GPU of them [default: site.nodes of the run file]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..=16384))]
    pub(crate) nodes: Option<u64>,
    /// Sizes of the model from this config.json, in place of model.path: no weights are needed
    #[arg(long, value_name = "FILE")]
    pub(crate) model_config: Option<PathBuf>,
    #[command(flatten)]
    pub(crate) overrides: Overrides,
    /// Print the result as a JSON object
    #[arg(long)]
    pub(crate) json: bool,
}
