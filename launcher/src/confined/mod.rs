//! Commands that are kept from the network: before any data is read this process confines itself as far as the policy needs, and a
//! witness outside measures that nothing gets out. What it starts, mpirun and ranks, is confined with it.

mod files;
pub(crate) mod in_job;
pub(crate) mod need;
pub(crate) mod task;

use std::ffi::OsString;
use std::io::{BufReader, stdin, stdout};
use std::os::unix::process::CommandExt as _;
use std::process::Command;
use std::sync::OnceLock;

use serde::Serialize;
use sirocco_config::environment::CONFINED;
use sirocco_confine::child::{Helper, serve};
use sirocco_confine::witness::{Measured, NotConfined, confined, testify};
use sirocco_confine::{Demand, Level, environment};
use sirocco_custody::{Account, Deed, host, kernel};
use sirocco_policy::Confinement;

use crate::chain::submit;
use crate::cli;
use crate::failure::{Failure, Kind};
use crate::gate::RunPolicy;
use crate::output::{count, say};
use crate::train::directory::RunDirectory;

/// What was measured of this process, once it is confined.
static MEASURED: OnceLock<Measured> = OnceLock::new();

/// Whose process this is, asked before: inside no directory service answers.
static ACCOUNT: OnceLock<String> = OnceLock::new();

/// `sirocco confined helper`: makes the attempts of the control, without confinement.
const HELPER: &str = "helper";
/// `sirocco confined witness`: has the listeners.
const WITNESS: &str = "witness";
/// `sirocco confined prepare`: what `sirocco submit` does with data, without what it asks Slurm.
pub(crate) const PREPARE: &str = "prepare";
/// What helps where a mechanism is missing.
const ADVICE: &str = "sirocco doctor says what this machine has; docs/confinement.md says what each level needs";

/// What `--json` says of it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub(crate) struct Summary {
    level: Option<&'static str>,
    number: Option<u8>,
    /// How many attempts to get out were made, all in vain.
    attempts: usize,
}

/// Confines this process where the command needs that. It has one thread.
pub(crate) fn apply(command: &cli::Command) -> Result<(), Failure> {
    let Some(demand) = need::of(command)? else { return Ok(()) };
    now(&demand)
}

/// Confines this process as demanded.
pub(crate) fn now(demand: &Demand) -> Result<(), Failure> {
    // Where nothing is demanded it is no news.
    without_ways_out(demand.most > Level::Environment)?;
    if demand.most == Level::Environment {
        return Ok(());
    }
    let _ = ACCOUNT.set(Account::own(None).name);
    let measured = confined(demand, &called(WITNESS)?).map_err(|error| {
        let failure = Failure::new(Kind::Machine, format_args!("{error}; nothing was started"));
        if matches!(error, NotConfined::Refused(_)) { failure.help(ADVICE) } else { failure }
    })?;
    let attempts = count(measured.report.attempts.len() as u64, "attempt");
    say(format_args!("confined: level {}, {attempts} to get out failed", measured.level));
    // Nobody confines a process twice.
    let _ = MEASURED.set(measured);
    Ok(())
}

/// `sirocco confined`: what this program starts itself as, outside.
pub(crate) fn assist(words: &[OsString]) -> Result<(), Failure> {
    let broken = |error| Failure::new(Kind::Failed, format_args!("the measurement of the confinement: {error}"));
    match words {
        [word] if word == HELPER => serve(stdin(), stdout()).map_err(broken),
        [word] if word == WITNESS => {
            testify(&called(HELPER)?, &std::env::temp_dir(), BufReader::new(stdin()), stdout()).map_err(broken)
        }
        [word, words @ ..] if word == task::NODE => task::node(words),
        [word, words @ ..] if word == task::RANK => task::rank(words),
        [word, words @ ..] if word == task::WHOLE => task::whole(words),
        [word, words @ ..] if word == PREPARE => submit::prepare_confined(words),
        _ => Err(Failure::usage("sirocco confined is started by other commands")),
    }
}

/// This program as it is called outside.
fn called(word: &str) -> Result<Helper, Failure> {
    let arguments = vec!["confined".into(), word.into()];
    Ok(Helper { program: own_program()?, arguments, environment: std::env::vars_os().collect(), identity: None })
}

fn own_program() -> Result<std::path::PathBuf, Failure> {
    std::env::current_exe().map_err(|error| Failure::new(Kind::Machine, format_args!("cannot find this program: {error}")))
}

/// Variables that lead out can only be left behind by starting once more: the same process, the same command.
fn without_ways_out(is_told: bool) -> Result<(), Failure> {
    let failed =
        |error: &dyn std::fmt::Display| Failure::new(Kind::Machine, format_args!("this program cannot start again: {error}"));
    if environment::left().map_err(|error| failed(&error))?.is_empty() {
        return Ok(());
    }
    let mut command = Command::new(own_program()?);
    command.args(std::env::args_os().skip(1));
    let left = environment::clean(&mut command, std::env::vars_os().map(|(name, _)| name));
    if is_told {
        tell(left.into_iter().map(|(name, _)| name));
    }
    Err(failed(&command.exec()))
}

fn tell(left: impl Iterator<Item = OsString>) {
    let names: Vec<String> = left.map(|name| name.display().to_string()).collect();
    if !names.is_empty() {
        say(format_args!("note: variables that lead out are not handed on: {}", names.join(", ")));
    }
}

/// Tells of the variables that many tasks will leave behind; none of them says so itself.
pub(crate) fn tell_for_all() {
    tell(environment::sort(std::env::vars_os().map(|(name, _)| name)).dropped.into_iter().map(|(name, _)| name));
}

/// The level that was measured; `None` where nothing needed that.
pub(crate) fn measured() -> Option<Confinement> {
    MEASURED.get().and_then(|_| level())
}

/// The level that holds for this process: what was measured, or else whether variables that lead out are gone. `None`: they are not.
pub(crate) fn level() -> Option<Confinement> {
    let level = match MEASURED.get() {
        Some(measured) => measured.level,
        None if environment::left().is_ok_and(|names| names.is_empty()) => Level::Environment,
        None => return None,
    };
    in_policy(level)
}

/// The account's name as it was found outside; `None` where nothing was confined.
pub(crate) fn account() -> Option<String> {
    ACCOUNT.get().cloned()
}

/// What `--json` says.
pub(crate) fn summary() -> Summary {
    let level = level().and_then(|level| Level::of_number(level.number()));
    let attempts = MEASURED.get().map_or(0, |measured| measured.report.attempts.len());
    Summary { level: level.map(Level::name), number: level.map(Level::number), attempts }
}

/// Takes from a program that is started what leads out, and tells it of the level that was measured here.
pub(crate) fn hand_on(command: &mut Command) {
    environment::clean(command, std::env::vars_os().map(|(name, _)| name));
    if let Some(measured) = MEASURED.get() {
        command.envs(environment::FOR_OPEN_MPI);
        let account = account().unwrap_or_default();
        command.env(CONFINED.name, format!("{} {} {account}", measured.level.number(), measured.outside));
    }
}

/// The entry of the ledger that says how this node is confined; `None` where nothing was measured.
pub(crate) fn deed() -> Result<Option<Deed>, Failure> {
    let Some(measured) = MEASURED.get() else { return Ok(None) };
    let host = host().map_err(|error| unreported(&error))?;
    let kernel = kernel().map_err(|error| unreported(&error))?;
    of_node(measured, host, kernel).map(Some)
}

/// The same of a node that was measured by itself.
pub(crate) fn of_node(measured: &Measured, host: String, kernel: String) -> Result<Deed, Failure> {
    let report = serde_json::to_string(&measured.report).map_err(|error| unreported(&error))?;
    Ok(Deed::node_confined(measured.level.number(), (host, kernel), report))
}

fn unreported(error: &dyn std::fmt::Display) -> Failure {
    Failure::new(Kind::Failed, format_args!("the report of the confinement: {error}"))
}

/// Writes that entry into a run's ledger.
pub(crate) fn record(directory: &RunDirectory, run: &sirocco_config::Run) -> Result<(), Failure> {
    let Some(deed) = deed()? else { return Ok(()) };
    let book = RunPolicy::open(run)?.book(directory.path())?;
    book.write(deed)?;
    Ok(book.sync()?)
}

/// A level under the name that policies have for it.
fn in_policy(level: Level) -> Option<Confinement> {
    Confinement::ALL.into_iter().find(|known| known.number() == level.number())
}
