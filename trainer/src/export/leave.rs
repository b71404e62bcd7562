//! Leave to export: asked before anything is written, signed with what is written, and written down in the run's ledger.

use std::collections::BTreeSet;
use std::path::Path;

use sirocco_checkpoint::{Checkpoint, FileDigest, SealError};
use sirocco_config::Run;
use sirocco_custody::{Custody, CustodyError, Deed, Lineage, Origin, Question};
use sirocco_ledger::Fact;
use sirocco_policy::{Action, Admitted, Kind, Name, verb};
use sirocco_signing::provenance::Facts;

use crate::args::ExportJob;
use crate::custody::{Keeper, Made, inputs, log};
use crate::failure::Failure;

/// An export that may be written.
pub(super) struct Permit<'a> {
    keeper: &'a Keeper,
    leaves: Admitted<verb::Export, Name>,
    lineage: Lineage,
    facts: Facts,
    run: (&'a str, u64),
    to: &'a Path,
}

/// Asks whether this checkpoint may leave its run in the form that is wanted. A merged model is asked about twice: whether the adapter may go
/// into its base, and whether what comes of it may leave.
pub(super) fn ask<'a>(
    keeper: &'a Keeper,
    (custody, run): (&Custody, &'a Run),
    (job, checkpoint): (&'a ExportJob, &Checkpoint),
    origin: Origin,
) -> Result<Permit<'a>, Failure> {
    let made = Name::new(if job.adapter { Kind::Adapter } else { Kind::Merged }, run.name.clone());
    let lineage = lineage(&made, placed(custody, run, origin));
    let question = |action| -> Result<Question, Failure> {
        let approved_by = keeper.approved_by((run, &checkpoint.state().data_digest), action, &made)?;
        let confinement = crate::confined::level();
        Ok(Question { approved_by, confinement, ..Question::new(action, made.clone(), lineage.clone()) })
    };
    if !job.adapter {
        let merges = custody.admit::<verb::Merge, _>(question(Action::Merge)?, made.clone(), keeper.book());
        log(told(keeper, run, merges)?.decision());
    }
    let leaves = custody.admit::<verb::Export, _>(question(Action::Export)?, made.clone(), keeper.book());
    let leaves = told(keeper, run, leaves)?;
    log(leaves.decision());
    let facts = keeper.facts(custody, run, (&made, &lineage)).map_err(|error| keeper.failed(error))?;
    let run = (run.name.as_str(), checkpoint.state().step);
    Ok(Permit { keeper, leaves, lineage, facts, run, to: &job.to })
}

/// What was admitted. A refusal is in the sealed ledger before it is told.
fn told<T>(keeper: &Keeper, run: &Run, answer: Result<T, CustodyError>) -> Result<T, Failure> {
    match answer {
        Ok(admitted) => Ok(admitted),
        Err(refused) => {
            keeper.seal(&run.name).map_err(|error| keeper.failed(error))?;
            Err(keeper.failed(refused))
        }
    }
}

/// The same, with where data and base lie: what the facts say of these places holds for what was made of what lies there. It does not matter
/// whether it still does.
fn placed(custody: &Custody, run: &Run, mut origin: Origin) -> Origin {
    let checkpoint = origin.artefact.clone();
    let mut parts = Vec::new();
    for file in run.data.train.iter().chain(&run.data.valid) {
        parts.push(custody.will_use(&mut origin.lineage, Kind::Data, file));
    }
    let mut found = Lineage::default();
    let described = custody.will_use(&mut found, Kind::Model, &run.model.path);
    let of_checkpoint = origin.lineage.made.get(&checkpoint).into_iter().flatten();
    // A base that was made elsewhere has the name of its record.
    let base = of_checkpoint.into_iter().find(|part| matches!(part.kind, Kind::Model | Kind::Merged));
    let base = base.unwrap_or(&described).clone();
    origin.lineage.uses(base, None, found.paths.remove(&described));
    origin.lineage.makes(&checkpoint, parts);
    origin
}

/// Where an export comes from: its checkpoint, and for a whole model the base below that.
fn lineage(made: &Name, origin: Origin) -> Lineage {
    let mut lineage = origin.lineage;
    let mut parts = BTreeSet::from([origin.artefact.clone()]);
    if made.kind == Kind::Merged {
        let of_checkpoint = lineage.made.get(&origin.artefact).into_iter().flatten();
        parts.extend(of_checkpoint.filter(|part| matches!(part.kind, Kind::Model | Kind::Merged)).cloned());
    }
    lineage.makes(made, parts);
    lineage
}

impl Permit<'_> {
    /// Signs the directory before it gets its name.
    pub(super) fn seal(&self) -> impl Fn(&Path, &[FileDigest]) -> Result<(), SealError> {
        |directory, files| Ok(self.sign(directory, files)?)
    }

    fn sign(&self, directory: &Path, files: &[FileDigest]) -> Result<(), CustodyError> {
        let (artefact, decision) = (self.leaves.thing(), self.leaves.decision());
        let (lineage, facts, labels) = (&self.lineage, &self.facts, &decision.labels);
        let digest = self.keeper.publish(directory, &Made { artefact, lineage, labels, run: self.run, files, facts })?;
        let step = i64::try_from(self.run.1).map_or_else(|_| Fact::Text(self.run.1.to_string()), Fact::Number);
        let mut deed = Deed::new("artefact.exported").fact("step", step).fact("to", Fact::Text(self.to.display().to_string()));
        deed.inputs = inputs(lineage);
        // Before it can be found: nothing leaves a run that its ledger does not name.
        self.keeper.write(deed.output(artefact.to_string(), digest.into()))?;
        self.keeper.sync()
    }

    /// Seals the ledger with what was exported.
    pub(super) fn done(&self) -> Result<(), Failure> {
        self.keeper.seal(self.run.0).map_err(|error| self.keeper.failed(error))
    }
}
