//! `sirocco export`, as far as the launcher is concerned: whether the run is in progress. The rest is the trainer's.
use std::ffi::OsString;
use std::path::Path;

use crate::output::say;
use crate::report::{Failure, Kind};
use crate::train::directory::RunDirectory;

/// Looks at the run directory among the arguments, which the trainer reads: of a run in progress only what it has saved can be exported.
pub(crate) fn look(arguments: &[OsString]) -> Result<(), Failure> {
    let Some(path) = arguments.iter().map(Path::new).find(|path| path.join("run.toml").is_file()) else { return Ok(()) };
    let directory = RunDirectory::existing(path)?;
    let Some(who) = directory.at_work() else { return directory.warn_of_missing_latest() };
    let shown = directory.shown();
    match directory.newest_checkpoint()? {
        Some(step) => {
            say(format_args!("note: {shown} is in progress ({who}); what it has saved so far goes up to step {step}"));
            Ok(())
        }
        None => {
            let message = format!("{shown} is in progress ({who}) and has saved no checkpoint yet");
            Err(Failure::new(Kind::Input, message).help(format_args!("sirocco status {shown} says when there is one")))
        }
    }
}
