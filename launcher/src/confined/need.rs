//! Which level a command needs: the least at which the policy allows it, and never less than `[policy] confinement`.

use std::ffi::OsString;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::path::{Path, PathBuf};

use sirocco_config::{LOCAL_SITE, Run, RunFile};
use sirocco_confine::child::probe;
use sirocco_confine::{Allowed, Connects, Demand, Level, Paths};
use sirocco_corpus::Spec;
use sirocco_custody::{Custody, Lineage, Naming, Question};
use sirocco_policy::{Action, Confinement, Kind as Of, Name};

use crate::cli::{BundleAction, BundleOpen, BundlePack, Command, Convert, DataAction, ModelAction, Overrides, Prepare};
use crate::commands::export;
use crate::confined::files::{self, Used};
use crate::confined::{HELPER, called};
use crate::failure::{Failure, Kind};
use crate::gate::{self, RunPolicy, next_action, remember};
use crate::train::directory::RunDirectory;
use crate::train::{directory_of, here};

/// What to be confined to; `None` where no policy speaks of the command, or where the command itself says best what is wrong with it.
pub(super) fn of(command: &Command) -> Result<Option<Demand>, Failure> {
    match command {
        Command::Train(arguments) => {
            training(&arguments.wanted.run, arguments.wanted.dir.as_deref(), &arguments.wanted.overrides)
        }
        Command::Check(arguments) => checking(&arguments.run, &arguments.overrides),
        Command::Export(passed) => exporting(&passed.arguments),
        Command::Data(data) => match &data.action {
            DataAction::Prepare(arguments) => preparing(arguments),
            DataAction::Check(_) | DataAction::Report(_) => Ok(None),
        },
        Command::Model(model) => match &model.action {
            ModelAction::Convert(arguments) => importing(arguments),
            ModelAction::Inspect(_) | ModelAction::Verify(_) => Ok(None),
        },
        Command::Bundle(bundle) => match &bundle.action {
            BundleAction::Pack(arguments) => packing(arguments),
            BundleAction::Open(arguments) => opening(arguments),
            BundleAction::Check(_) => Ok(None),
        },
        _ => Ok(None),
    }
}

/// What training here needs.
fn training(typed: &Path, into: Option<&Path>, overrides: &Overrides) -> Result<Option<Demand>, Failure> {
    let resumes = typed.is_dir();
    let file = if resumes {
        let Ok(directory) = RunDirectory::existing(typed) else { return Ok(None) };
        directory.typed_run_file()
    } else {
        typed.to_owned()
    };
    let Some(run) = read(&file, Some(overrides)) else { return Ok(None) };
    let action = if resumes { next_action(typed) } else { Action::Train };
    let directory = if resumes { typed.to_owned() } else { directory_of(&run, into) };
    together(&run, action, &directory)
}

/// What ranks on one machine need, that are started inside.
pub(super) fn together(run: &Run, action: Action, directory: &Path) -> Result<Option<Demand>, Failure> {
    let allowed = if run.ranks() > 1 { Allowed::Loopback } else { Allowed::Nothing };
    demand(run, (Of::Checkpoint, &[action]), &[directory], allowed)
}

/// Checking reads the data as training would. For a cluster Slurm is asked, which is outside.
fn checking(typed: &Path, overrides: &Overrides) -> Result<Option<Demand>, Failure> {
    let file = if typed.is_dir() { typed.join("run.toml") } else { typed.to_owned() };
    let is_here = read(&file, Some(overrides)).is_some_and(|run| run.site.profile == LOCAL_SITE);
    if is_here { training(typed, None, overrides) } else { Ok(None) }
}

/// An adapter leaves the run, or goes into its base, and that leaves.
fn exporting(arguments: &[OsString]) -> Result<Option<Demand>, Failure> {
    let Some(directory) = export::run_of(arguments) else { return Ok(None) };
    let Some(run) = read(&directory.join("run.toml"), None) else { return Ok(None) };
    let merges = arguments.iter().any(|word| word == "--merge");
    let (made, actions): (_, &[_]) =
        if merges { (Of::Merged, &[Action::Merge, Action::Export]) } else { (Of::Adapter, &[Action::Export]) };
    let to = export::target_of(arguments).unwrap_or(Path::new("."));
    demand(&run, (made, actions), &[directory, beside(to)], Allowed::Nothing)
}

/// Data is cleaned: every source of it may need another level.
fn preparing(arguments: &Prepare) -> Result<Option<Demand>, Failure> {
    let Ok(spec) = Spec::open(&arguments.spec.spec) else { return Ok(None) };
    let custody = gate::custody(&arguments.policy)?;
    let sources = || spec.sources.iter();
    let needs = custody
        .needs(|naming| sources().map(|source| using(&custody, naming, (Action::Prepare, Of::Data), &source.path)).collect());
    let read = sources().flat_map(|source| [&source.path, &source.licence.file]).chain([&arguments.spec.spec]).cloned();
    let written = if spec.output.is_dir() { spec.output.clone() } else { above(&spec.output) };
    let used = Used { read: read.collect(), written };
    of_tool(level(needs), || files::of_tool(&arguments.policy, None, &used)).map(Some)
}

/// What tokenising the data of a run needs where it is submitted; `None` where that is nothing above level 0.
pub(crate) fn tokenising(run: &Run, directory: &Path) -> Result<Option<Demand>, Failure> {
    let policy = RunPolicy::open(run)?;
    let data = || run.data.train.iter().chain(&run.data.valid);
    let custody = policy.custody();
    let needs = custody.needs(|naming| data().map(|path| using(custody, naming, (Action::Prepare, Of::Data), path)).collect());
    let wanted = Level::of_number(run.policy.confinement).unwrap_or(Level::Site);
    match wanted.max(level(needs)) {
        Level::Environment => Ok(None),
        least => of_tool(least, || files::of_run(run, &[directory])).map(Some),
    }
}

/// A model comes in.
fn importing(arguments: &Convert) -> Result<Option<Demand>, Failure> {
    let custody = gate::custody(&arguments.policy)?;
    let needs = custody.needs(|naming| vec![using(&custody, naming, (Action::Import, Of::Model), &arguments.from)]);
    let used = || Used { read: vec![arguments.from.clone()], written: above(&arguments.to) };
    of_tool(level(needs), || files::of_tool(&arguments.policy, None, &used())).map(Some)
}

/// Artefacts are to be sent; what is in directories is looked at inside.
fn packing(arguments: &BundlePack) -> Result<Option<Demand>, Failure> {
    let kind = |path: &Path| if path.is_dir() { Of::Model } else { Of::Data };
    let needs = |custody: &Custody| {
        let sending = |naming, path: &PathBuf| Question {
            recipients: arguments.recipients.iter().cloned().collect(),
            ..using(custody, naming, (Action::SendOut, kind(path)), path)
        };
        level(custody.needs(|naming| arguments.artefacts.iter().map(|path| sending(naming, path)).collect()))
    };
    let written = above(&arguments.to);
    let Some(directory) = &arguments.run else {
        let used = Used { read: arguments.artefacts.clone(), written };
        let paths = || files::of_tool(&arguments.options, arguments.keys.as_deref(), &used);
        return of_tool(needs(&gate::custody(&arguments.options)?), paths).map(Some);
    };
    let Some(run) = read(&directory.join("run.toml"), None) else { return Ok(None) };
    let paths = || {
        let mut paths = files::of_run(&run, &[directory, &written])?;
        arguments.artefacts.iter().for_each(|path| paths.read(path));
        Ok(paths)
    };
    of_tool(needs(RunPolicy::open(&run)?.custody()), paths).map(Some)
}

/// A bundle comes in; what is in it is not known before it was read.
fn opening(arguments: &BundleOpen) -> Result<Option<Demand>, Failure> {
    let custody = gate::custody(&arguments.options)?;
    let needs = custody.needs(|naming| vec![using(&custody, naming, (Action::Import, Of::Data), &arguments.to)]);
    let used = || Used { read: vec![arguments.bundle.clone()], written: above(&arguments.to) };
    of_tool(level(needs), || files::of_tool(&arguments.options, None, &used())).map(Some)
}

fn using(custody: &Custody, naming: Naming, (action, kind): (Action, Of), path: &Path) -> Question {
    let mut lineage = Lineage::default();
    let name = naming(custody, &mut lineage, kind, path);
    Question::new(action, name, lineage)
}

/// The directory in which something is made.
fn beside(path: &Path) -> &Path {
    path.parent().filter(|path| !path.as_os_str().is_empty()).unwrap_or(Path::new("."))
}

/// The same among those that are there: the command makes others, or says that they are not there.
fn above(path: &Path) -> PathBuf {
    let mut above = path.ancestors().skip(1);
    above.find(|path| path.is_dir()).unwrap_or(Path::new(".")).to_owned()
}

/// What needs no network at all.
fn of_tool(least: Level, paths: impl FnOnce() -> Result<Paths, Failure>) -> Result<Demand, Failure> {
    let paths = match least {
        Level::Environment => return Ok(only_variables()),
        least if least >= Level::Landlock => Some(paths()?),
        _ => None,
    };
    let best = Demand::best(Allowed::Nothing, paths);
    Ok(Demand { least, most: best.most.max(least), ..best })
}

/// Level 0: variables that lead out are left behind.
fn only_variables() -> Demand {
    Demand { most: Level::Environment, ..Demand::best(Allowed::Nothing, None) }
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

/// Reads the rules; `made` is what comes of the run by these actions, `written` are the directories that the command writes.
fn demand(run: &Run, (made, actions): (Of, &[Action]), written: &[&Path], allowed: Allowed) -> Result<Option<Demand>, Failure> {
    let policy = RunPolicy::open(run)?;
    let wanted = Level::of_number(run.policy.confinement).unwrap_or(Level::Site);
    let mut questions: Vec<_> = actions.iter().map(|action| of_run(policy.custody(), run, (made, *action))).collect();
    questions.iter_mut().for_each(|question| remember(&mut question.lineage, written.first().copied()));
    let least = match allowing(policy.custody(), &questions) {
        Some(level) if wanted.max(level) == Level::Environment => return Ok(Some(only_variables())),
        Some(level) => wanted.max(level),
        // Refused at every level, as far as names tell: who asks with what is known of the bytes does so at the highest there is without
        // lists. Those need the directory of a run that may be refused.
        None => wanted,
    };
    let paths = if least >= Level::Landlock { Some(files::of_run(run, written)?) } else { None };
    let best = Demand::best(possible(allowed, least)?, paths);
    Ok(Some(Demand { least, most: best.most.max(least), ..best }))
}

/// The least level at which the policy would allow all of this; `None` where it would at none that a process can have.
pub(super) fn allowing(custody: &Custody, questions: &[Question]) -> Option<Level> {
    custody.allowing(questions).map(level)
}

fn level(confinement: Confinement) -> Level {
    Level::of_number(confinement.number()).unwrap_or(Level::Site)
}

/// What a run is made from, by the places where it lies, and what is `made` of that.
pub(super) fn of_run(custody: &Custody, run: &Run, (made, action): (Of, Action)) -> Question {
    let mut lineage = Lineage::default();
    let data = run.data.train.iter().chain(&run.data.valid).map(|path| (Of::Data, path));
    let parts = data.chain([(Of::Model, &run.model.path)]);
    let parts: Vec<_> = parts.map(|(kind, path)| custody.will_use(&mut lineage, kind, path)).collect();
    let [checkpoint, adapter, merged] = [Of::Checkpoint, Of::Adapter, Of::Merged].map(|kind| Name::new(kind, run.name.clone()));
    lineage.makes(&adapter, [checkpoint.clone()]);
    lineage.makes(&merged, [checkpoint.clone()]);
    lineage.makes(&checkpoint, parts);
    let artefact = match made {
        Of::Adapter => adapter,
        Of::Merged => merged,
        _ => checkpoint,
    };
    Question::new(action, artefact, lineage)
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
