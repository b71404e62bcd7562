//! Options of the commands that look at a run while it goes on.
use std::path::PathBuf;

use clap::Args;

#[derive(Debug, Args)]
pub(crate) struct Status {
    /// The run directory, or a directory of runs
    #[arg(value_name = "RUN_DIR")]
    pub(crate) run: PathBuf,
    /// Print the result as a JSON object
    #[arg(long)]
    pub(crate) json: bool,
}

#[derive(Debug, Args)]
pub(crate) struct Watch {
    /// The run directory, or a directory of runs
    #[arg(value_name = "RUN_DIR")]
    pub(crate) run: PathBuf,
    /// Write plain lines, at most one in so many seconds for a run
    #[arg(long, value_name = "SECONDS", value_parser = clap::value_parser!(u64).range(1..=86400))]
    pub(crate) every: Option<u64>,
    /// Leave the screen when the run, or the last of several, has ended
    #[arg(long)]
    pub(crate) until_end: bool,
    /// Write a JSON object for each step and one for the end
    #[arg(long)]
    pub(crate) json: bool,
}

#[derive(Debug, Args)]
pub(crate) struct Logs {
    /// The run directory
    #[arg(value_name = "RUN_DIR")]
    pub(crate) run: PathBuf,
    /// Only the log of this rank; may be given several times
    #[arg(long, value_name = "N")]
    pub(crate) rank: Vec<u64>,
    /// What this job of Slurm has written; may be given several times
    #[arg(long, value_name = "ID", value_parser = job_id)]
    pub(crate) job: Vec<String>,
    /// Lines from the end of each
    #[arg(long, short = 'n', value_name = "N", default_value_t = 10)]
    pub(crate) lines: usize,
    /// Go on with what is written from now on, until Ctrl-C
    #[arg(long, short)]
    pub(crate) follow: bool,
    /// Print each line as a JSON object
    #[arg(long)]
    pub(crate) json: bool,
}

/// A number of Slurm, such as 123, 123_4 of an array, or 123+1 of a job of several parts.
fn job_id(typed: &str) -> Result<String, String> {
    let fits = |letter: char| letter.is_ascii_digit() || "_+".contains(letter);
    let is_number = typed.starts_with(|first: char| first.is_ascii_digit()) && typed.chars().all(fits);
    if is_number { Ok(typed.to_owned()) } else { Err("expected a number that Slurm gave, such as 123".to_owned()) }
}
