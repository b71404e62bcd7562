//! `sirocco export`, as far as the launcher is concerned: whether the run is in progress. The rest is the trainer's.
use std::ffi::OsString;
use std::path::Path;

use crate::failure::{Failure, Kind};
use crate::output::say;
use crate::train::directory::RunDirectory;

/// The options of the trainer's export with their value in the word behind them.
const WITH_VALUE: [&str; 3] = ["--to", "--step", "--dtype"];

/// Looks at the run directory among the arguments, which the trainer reads: of a run in progress only what it has saved can be
/// exported.
pub(crate) fn look(arguments: &[OsString]) -> Result<(), Failure> {
    let Some(path) = run_of(arguments).filter(|path| path.join("run.toml").is_file()) else { return Ok(()) };
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
            Err(Failure::new(Kind::Input, message)
                .help(format_args!("sirocco status {} says when there is one", directory.word())))
        }
    }
}

/// The first argument that is neither an option nor the value of one.
pub(crate) fn run_of(arguments: &[OsString]) -> Option<&Path> {
    let mut words = arguments.iter();
    while let Some(word) = words.next() {
        if WITH_VALUE.iter().any(|option| word == option) {
            words.next();
        } else if !word.as_encoded_bytes().starts_with(b"-") {
            return Some(Path::new(word));
        }
    }
    None
}

/// The directory to be written.
pub(crate) fn target_of(arguments: &[OsString]) -> Option<&Path> {
    let behind = arguments.iter().position(|word| word == "--to").and_then(|at| arguments.get(at.checked_add(1)?));
    let within = || arguments.iter().filter_map(|word| word.to_str()?.strip_prefix("--to=")).map(Path::new).next();
    behind.map(Path::new).or_else(within)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_run_is_found_wherever_the_options_stand() {
        let run = |line: &str| {
            let words: Vec<_> = line.split_whitespace().map(OsString::from).collect();
            run_of(&words).map(Path::to_owned)
        };
        for line in [
            "new --to old --adapter",
            "--to old new",
            "--to=old new",
            "--adapter --step 5 --dtype fp32 --to old --json new",
            "--merge -- new",
        ] {
            assert_eq!(run(line).as_deref(), Some(Path::new("new")), "{line}");
        }
        assert_eq!(run("--to old"), None);
    }
}
