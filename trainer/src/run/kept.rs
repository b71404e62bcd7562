//! What the first rank keeps of a run: every checkpoint signed and written down before it gets its name, the run's beginning and its end.

use std::collections::BTreeSet;

use sirocco_checkpoint::{CheckpointWriter, Checkpoints, FileDigest, RunState, ShardRecord};
use sirocco_config::Run;
use sirocco_custody::{CHECKPOINT_PUBLISHED, Custody, CustodyError, Deed, Lineage, settled};
use sirocco_ledger::Fact;
use sirocco_policy::{Labels, Name};
use sirocco_signing::provenance::Facts;

use super::custody::Permit;
use crate::custody::{Keeper, Made, inputs};
use crate::failure::Failure;

/// The keeper with what it says of every checkpoint.
pub(super) struct Kept {
    keeper: Keeper,
    run: String,
    artefact: Name,
    lineage: Lineage,
    labels: Labels,
    facts: Facts,
}

/// How a run begins, or goes on.
pub(super) struct Beginning<'a> {
    /// After so many steps.
    pub(super) first: u64,
    /// The machines.
    pub(super) nodes: &'a BTreeSet<String>,
    /// What approvals call it.
    pub(super) run_id: String,
}

impl Kept {
    /// Writes down that the run begins, or goes on.
    pub(super) fn begin(
        keeper: Keeper,
        (custody, run): (&Custody, &Run),
        permit: &Permit,
        lineage: &Lineage,
        beginning: Beginning<'_>,
    ) -> Result<Kept, Failure> {
        let Beginning { first, nodes, run_id } = beginning;
        let (artefact, lineage) = (permit.artefact().clone(), custody.remembered(lineage));
        let mut deed = Deed::new(permit.verb()).fact("step", number(first)).fact("ranks", number(run.ranks()));
        deed = deed.fact("nodes", Fact::List(nodes.iter().cloned().collect())).fact("run_id", Fact::Text(run_id));
        deed = deed.fact(settled::SETTLED, settled::policy(run));
        for (axis, length) in
            [("pp", run.parallel.pp), ("dp", run.parallel.dp), ("fsdp", run.parallel.fsdp), ("tp", run.parallel.tp)]
        {
            deed = deed.fact(axis, number(length));
        }
        deed.inputs = inputs(&lineage);
        keeper.write(deed).map_err(|error| keeper.failed(error))?;
        let facts = keeper.facts(custody, run, (&artefact, &lineage)).map_err(|error| keeper.failed(error))?;
        let labels = permit.decision().labels.clone();
        Ok(Kept { run: run.name.clone(), artefact, lineage, labels, facts, keeper })
    }

    /// Publishes a checkpoint, signed. The ledger names it before it can be found: whoever finds one that is not named there knows that it
    /// does not belong there, wherever a run was killed.
    pub(super) fn publish(
        &self,
        checkpoints: &Checkpoints,
        writer: CheckpointWriter,
        shards: Vec<ShardRecord>,
        state: RunState,
    ) -> Result<(), Failure> {
        let step = state.step;
        let mut failed = None;
        let published = checkpoints.publish_sealed(writer, shards, state, |directory, files| {
            self.sign(directory, step, files).map_err(|error| {
                let told = error.to_string();
                failed = Some(error);
                told.into()
            })
        });
        match (published, failed) {
            (Err(_), Some(error)) => Err(self.keeper.failed(error)),
            (published, _) => published.map(drop).map_err(Failure::file),
        }
    }

    /// Signs what the ledger holds by now.
    pub(super) fn seal(&self) -> Result<(), Failure> {
        self.keeper.seal(&self.run).map_err(|error| self.keeper.failed(error))
    }

    fn sign(&self, directory: &std::path::Path, step: u64, files: &[FileDigest]) -> Result<(), CustodyError> {
        let made = Made {
            artefact: &self.artefact,
            lineage: &self.lineage,
            labels: &self.labels,
            run: (&self.run, step),
            files,
            facts: &self.facts,
        };
        let digest = self.keeper.publish(directory, &made)?;
        let deed = Deed::new(CHECKPOINT_PUBLISHED).fact("step", number(step)).output(self.artefact.to_string(), digest.into());
        self.keeper.write(deed)?;
        self.keeper.sync()
    }

    /// Writes down how the run ended.
    pub(super) fn end(&self, outcome: &Result<(), Failure>) -> Result<(), Failure> {
        let (how, message) = match outcome {
            Ok(()) => ("done", String::new()),
            Err(failure) if failure.is_stop() => ("stopped", failure.message().to_owned()),
            Err(failure) => ("failed", failure.message().to_owned()),
        };
        let deed = Deed::new("run.ended").fact("outcome", Fact::Text(how.to_owned())).fact("message", Fact::Text(message));
        self.keeper.write(deed).and_then(|()| self.keeper.seal(&self.run)).map_err(|error| self.keeper.failed(error))
    }
}

fn number(value: u64) -> Fact {
    i64::try_from(value).map_or_else(|_| Fact::Text(value.to_string()), Fact::Number)
}
