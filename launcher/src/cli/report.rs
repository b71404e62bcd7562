//! Options of the command that reports on runs.
use std::path::PathBuf;

use clap::Args;

#[derive(Debug, Args)]
pub(crate) struct Report {
    /// Run directories, or a directory of them
    #[arg(value_name = "RUN_DIR", required = true)]
    pub(crate) runs: Vec<PathBuf>,
    /// The page [default: RUN_DIR/report.html; of several runs in one directory, report.html beside them]
    #[arg(long, value_name = "FILE")]
    pub(crate) to: Option<PathBuf>,
    /// Ask base and trained model the first 20 conversations of a file, and show both answers
    #[arg(long, value_name = "PROMPTS.jsonl")]
    pub(crate) samples: Option<PathBuf>,
    /// Print the numbers as a JSON object
    #[arg(long)]
    pub(crate) json: bool,
}
