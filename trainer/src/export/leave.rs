//! Leave to export: asked before anything is written, signed with what is written, and written down in the run's ledger.

use std::collections::BTreeSet;
use std::path::Path;

use sirocco_checkpoint::{Checkpoint, FileDigest, SealError};
use sirocco_config::Run;
use sirocco_custody::{Custody, CustodyError, Deed, Lineage, Origin, Question};
use sirocco_ledger::Fact;
use sirocco_policy::{Action, Admitted, Decision, Kind, Name, verb};
use sirocco_signing::provenance::Facts;

use crate::args::ExportJob;
use crate::custody::{Keeper, Made, inputs, log};
use crate::failure::Failure;

/// What the policy has let pass, by the form of the export.
enum Leave {
    Adapter(Admitted<verb::Export, Name>),
    Merged(Admitted<verb::Merge, Name>),
}

impl Leave {
    fn parts(&self) -> (&Name, &Decision) {
        match self {
            Self::Adapter(admitted) => (admitted.thing(), admitted.decision()),
            Self::Merged(admitted) => (admitted.thing(), admitted.decision()),
        }
    }
}

/// An export that may be written.
pub(super) struct Permit<'a> {
    keeper: &'a Keeper,
    leave: Leave,
    lineage: Lineage,
    facts: Facts,
    run: (&'a str, u64),
    to: &'a Path,
}

/// Asks whether this checkpoint may leave its run in the form that is wanted.
pub(super) fn ask<'a>(
    keeper: &'a Keeper,
    (custody, run): (&Custody, &'a Run),
    (job, checkpoint): (&'a ExportJob, &Checkpoint),
    origin: Origin,
) -> Result<Permit<'a>, Failure> {
    let (kind, action) = if job.adapter { (Kind::Adapter, Action::Export) } else { (Kind::Merged, Action::Merge) };
    let made = Name::new(kind, run.name.clone());
    let lineage = lineage(&made, origin);
    let question = Question {
        approved_by: keeper.approved_by((run, &checkpoint.state().data_digest), action, &made)?,
        confinement: crate::confined::level(),
        ..Question::new(action, made.clone(), lineage.clone())
    };
    let leave = if job.adapter {
        custody.admit(question, made.clone(), keeper.book()).map(Leave::Adapter)
    } else {
        custody.admit(question, made.clone(), keeper.book()).map(Leave::Merged)
    };
    let leave = match leave {
        Ok(leave) => leave,
        Err(refused) => {
            // A refusal is in the ledger before it is told.
            keeper.seal(&run.name).map_err(|error| keeper.failed(error))?;
            return Err(keeper.failed(refused));
        }
    };
    log(leave.parts().1);
    let facts = keeper.facts(custody, run, (&made, &lineage)).map_err(|error| keeper.failed(error))?;
    let run = (run.name.as_str(), checkpoint.state().step);
    Ok(Permit { keeper, leave, lineage, facts, run, to: &job.to })
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
        let (artefact, decision) = self.leave.parts();
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
