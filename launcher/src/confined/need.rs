//! Which level a command needs: the least at which the policy allows it, and never less than `[policy] confinement`.

use std::ffi::OsString;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::path::Path;

use sirocco_config::{Run, RunFile, places};
use sirocco_confine::child::probe;
use sirocco_confine::{Allowed, Connects, Demand, Level};
use sirocco_custody::{Custody, CustodyError, Lineage, Question, Settings};
use sirocco_policy::{Action, Confinement, Kind as Of, Name};
use sirocco_signing::trust::Trust;

use crate::cli::{Command, Overrides, Wanted};
use crate::commands::export;
use crate::confined::{HELPER, called, files};
use crate::failure::{Failure, Kind};
use crate::train::directory::RunDirectory;
use crate::train::{directory_of, here};

/// What to be confined to; `None` where nothing needs it, or where the command itself says best what is wrong with it.
pub(super) fn of(command: &Command) -> Result<Option<Demand>, Failure> {
    match command {
        Command::Train(arguments) => training(&arguments.wanted),
        Command::Export(passed) => exporting(&passed.arguments),
        _ => Ok(None),
    }
}

fn training(wanted: &Wanted) -> Result<Option<Demand>, Failure> {
    let resumes = wanted.run.is_dir();
    let file = if resumes {
        let Ok(directory) = RunDirectory::existing(&wanted.run) else { return Ok(None) };
        directory.typed_run_file()
    } else {
        wanted.run.clone()
    };
    let Some(run) = read(&file, Some(&wanted.overrides)) else { return Ok(None) };
    let action = if resumes { Action::Resume } else { Action::Train };
    let directory = if resumes { wanted.run.clone() } else { directory_of(&run, wanted.dir.as_deref()) };
    let allowed = if run.ranks() > 1 { Allowed::Loopback } else { Allowed::Nothing };
    demand(&run, action, &[&directory], allowed)
}

/// An adapter leaves the run, or goes into its base.
fn exporting(arguments: &[OsString]) -> Result<Option<Demand>, Failure> {
    let Some(directory) = export::run_of(arguments) else { return Ok(None) };
    let Some(run) = read(&directory.join("run.toml"), None) else { return Ok(None) };
    let action = if arguments.iter().any(|word| word == "--merge") { Action::Merge } else { Action::Export };
    let to = export::target_of(arguments).unwrap_or(Path::new("."));
    let beside = to.parent().filter(|path| !path.as_os_str().is_empty()).unwrap_or(Path::new("."));
    demand(&run, action, &[directory, beside], Allowed::Nothing)
}

/// The run, without a word about it: the command itself says what is wrong.
fn read(file: &Path, overrides: Option<&Overrides>) -> Option<Run> {
    let mut file = RunFile::read(file).ok()?;
    if let Some(overrides) = overrides {
        overrides.set.iter().try_for_each(|text| file.set(text)).ok()?;
        overrides.ranks.map_or(Ok(()), |ranks| file.set_ranks(ranks)).ok()?;
    }
    file.check(&here().ok()?).ok()
}

/// Reads the rules; `written` are the directories that the command writes.
fn demand(run: &Run, action: Action, written: &[&Path], allowed: Allowed) -> Result<Option<Demand>, Failure> {
    let custody = custody(run)?;
    let wanted = Level::of_number(run.policy.confinement).unwrap_or(Level::Site);
    let (least, lists) = match allowing(&custody, run, action) {
        Some(level) if wanted.max(level) == Level::Environment => return Ok(None),
        Some(level) => (wanted.max(level), wanted.max(level) >= Level::Landlock),
        // Refused at every level, as far as names tell: who asks with what is known of the bytes does so at the highest there is.
        None => (wanted, true),
    };
    let paths = if lists { Some(files::lists(run, written)?) } else { None };
    let best = Demand::best(possible(allowed, least)?, paths);
    Ok(Some(Demand { least, most: best.most.max(least), ..best }))
}

/// The rules of a run, signed or not.
pub(super) fn custody(run: &Run) -> Result<Custody, Failure> {
    let trust = run.policy.trust.clone().or_else(|| run.policy.keys.clone()).or_else(places::keys);
    let trust = trust.filter(|path| path.is_dir()).and_then(|path| Trust::read(&path).ok());
    Custody::open(Settings::of_run(run), &here()?, trust.as_ref()).map_err(failure)
}

/// The least level at which the policy would allow this; `None` where it would at none that a process can have.
fn allowing(custody: &Custody, run: &Run, action: Action) -> Option<Level> {
    let lineage = lineage(custody, run);
    let levels = [Level::Environment, Level::Seccomp, Level::NetworkNamespace, Level::Landlock];
    levels.into_iter().find(|level| {
        let of = match action {
            Action::Export => Of::Adapter,
            Action::Merge => Of::Merged,
            _ => Of::Checkpoint,
        };
        let artefact = Name::new(of, run.name.clone());
        let confinement = Confinement::ALL.into_iter().find(|known| known.number() == level.number());
        // As for a plan: what bytes have which digests is looked at inside.
        let question = Question { confinement, planned: true, ..Question::new(action, artefact, lineage.clone()) };
        custody.ask(question).is_ok()
    })
}

/// What a run is made from, by the places where it lies.
fn lineage(custody: &Custody, run: &Run) -> Lineage {
    let mut lineage = Lineage::default();
    let data = run.data.train.iter().chain(&run.data.valid).map(|path| (Of::Data, path));
    let parts: Vec<_> =
        data.chain([(Of::Model, &run.model.path)]).map(|(kind, path)| named(custody, &mut lineage, kind, path)).collect();
    let [checkpoint, adapter, merged] = [Of::Checkpoint, Of::Adapter, Of::Merged].map(|kind| Name::new(kind, run.name.clone()));
    lineage.makes(&adapter, [checkpoint.clone()]);
    lineage.makes(&merged, [checkpoint.clone()]);
    lineage.makes(&checkpoint, parts);
    lineage
}

fn named(custody: &Custody, lineage: &mut Lineage, kind: Of, path: &Path) -> Name {
    let facts = custody.gate().facts();
    let real = std::fs::canonicalize(path).unwrap_or_else(|_| path.to_owned());
    let base = here().ok().and_then(|base| std::fs::canonicalize(base).ok());
    // Facts may write either.
    let relative = base.and_then(|base| Some(real.strip_prefix(base).ok()?.display().to_string()));
    let known = |written: &String| facts.known_as(kind, Some(written), None);
    let absolute = real.display().to_string();
    let written = relative.filter(|relative| known(&absolute).is_none() && known(relative).is_some()).unwrap_or(absolute);
    let name = known(&written).unwrap_or_else(|| Name::new(kind, path.display().to_string()));
    lineage.uses(name, None, Some(written))
}

/// Ranks speak TCP with each other. Where there is no loopback of their own for that, they share the machine's, which is level 1.
fn possible(allowed: Allowed, least: Level) -> Result<Allowed, Failure> {
    if allowed != Allowed::Loopback || least >= Level::NetworkNamespace {
        return Ok(allowed);
    }
    let helper = called(HELPER)?;
    let offer = probe(&helper).map_err(|error| Failure::new(Kind::Machine, error))?;
    let hosts = vec![IpAddr::V4(Ipv4Addr::LOCALHOST), IpAddr::V6(Ipv6Addr::LOCALHOST)];
    Ok(if offer.namespace.is_some() { allowed } else { Allowed::Hosts { hosts, by: Connects::Itself } })
}

/// An error of the rules, of the facts, or of the ledger.
pub(super) fn failure(error: CustodyError) -> Failure {
    match error {
        CustodyError::Refused(_) => Failure::new(Kind::Policy, error),
        CustodyError::NoSet { .. } | CustodyError::Set { .. } | CustodyError::NotTaken { .. } => {
            Failure::usage(error).help("[policy] set names the directory of the rules")
        }
        _ => Failure::new(Kind::Failed, error),
    }
}
