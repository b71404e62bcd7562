//! Prepares a run that is submitted. Where its data may only be read by who is kept from the network, another process does that: this one
//! speaks with Slurm.
use std::ffi::OsString;
use std::process::{Command, Stdio};

use clap::Parser as _;
use serde_json::Value;

use crate::cli::{self, Cli, Wanted};
use crate::confined::{self, PREPARE, need};
use crate::failure::{Failure, Kind};
use crate::preflight::Place;
use crate::train::directory::RunDirectory;
use crate::train::{Asks, Ready, directory_of, here, prepare, read_run_file, run_to_resume};

/// A run that is ready for its jobs.
pub(super) fn prepared(wanted: &Wanted, as_json: bool) -> Result<Ready, Failure> {
    if demand(wanted)?.is_none() {
        return prepare(wanted, as_json, (Place::Cluster, Asks::All));
    }
    let own = std::env::current_exe()
        .map_err(|error| Failure::new(Kind::Machine, format_args!("cannot find the path of this program: {error}")))?;
    let mut command = Command::new(own);
    command.args(["confined", PREPARE]).args(words(wanted));
    let output = command.stdin(Stdio::null()).stderr(Stdio::inherit()).output();
    let output = output.map_err(|error| Failure::new(Kind::Machine, format_args!("this program cannot start again: {error}")))?;
    if output.status.success() {
        return Ready::again(wanted);
    }
    let message = "the data was not prepared: see above";
    Err(failure(&output.stdout).unwrap_or_else(|| Failure::new(Kind::Failed, message)))
}

/// What that process does: `words` are those of `sirocco submit`.
pub(crate) fn prepare_confined(words: &[OsString]) -> Result<(), Failure> {
    let typed = ["sirocco".into(), "submit".into()].into_iter().chain(words.iter().cloned());
    let Ok(Cli { command: cli::Command::Submit(arguments), .. }) = Cli::try_parse_from(typed) else {
        return Err(Failure::usage("sirocco confined is started by other commands"));
    };
    let Some(demand) = demand(&arguments.wanted)? else {
        return Err(Failure::usage("sirocco confined prepare: there is nothing to be confined for"));
    };
    confined::now(&demand)?;
    let ready = prepare(&arguments.wanted, true, (Place::Cluster, Asks::All))?;
    confined::record(&ready.directory, &ready.run)
}

/// What it is confined to; `None` where the policy needs nothing.
fn demand(wanted: &Wanted) -> Result<Option<sirocco_confine::Demand>, Failure> {
    let (run, directory) = if wanted.run.is_dir() {
        (run_to_resume(&RunDirectory::existing(&wanted.run)?, &wanted.overrides)?.1, wanted.run.clone())
    } else {
        let run = read_run_file(&wanted.run, &wanted.overrides)?.check(&here()?)?;
        let directory = directory_of(&run, wanted.dir.as_deref());
        (run, directory)
    };
    need::tokenising(&run, &directory)
}

/// What was typed, as a command line has it. Its errors come back as JSON.
fn words(wanted: &Wanted) -> Vec<OsString> {
    let mut words: Vec<OsString> = vec!["--json".into()];
    wanted.dir.iter().for_each(|dir| words.extend(["--dir".into(), dir.into()]));
    wanted.overrides.ranks.iter().for_each(|ranks| words.extend(["--ranks".into(), ranks.to_string().into()]));
    wanted.overrides.set.iter().for_each(|set| words.extend(["--set".into(), set.into()]));
    words.extend(["--".into(), wanted.run.clone().into()]);
    words
}

/// The error that it has told as an object.
fn failure(told: &[u8]) -> Option<Failure> {
    let object: Value = serde_json::from_slice(told).ok()?;
    let error = object.get("error")?;
    let kind = Kind::of_code(i32::try_from(error.get("exit_code")?.as_i64()?).ok()?);
    let failure = Failure::new(kind, error.get("message")?.as_str()?);
    Some(match error.get("help").and_then(Value::as_str) {
        Some(help) => failure.help(help),
        None => failure,
    })
}
