//! The gate of a run: every rank asks for itself, and all of them learn what any of them was told; the first one writes it down.

use std::collections::BTreeSet;
use std::path::Path;
use std::time::Instant;

use sirocco_checkpoint::{FileDigest, ModelDir};
use sirocco_comm::Communicator;
use sirocco_config::Run;
use sirocco_custody::{Custody, Deed, Lineage, Origin, Question, RUN_STARTED, host};
use sirocco_files::BareDigest;
use sirocco_policy::{Action, Admitted, Decision, Kind, Name, verb};

use super::data::Sequences;
use super::together::{Round, everyone, together};
use crate::confined;
use crate::custody::{Keeper, log, open};
use crate::failure::Failure;

const OPENING: Round = Round { name: "rules", failed: "could not open its rules, keys or ledger" };
const ASKING: Round = Round { name: "policy", failed: "may not go on" };
const BASE: Round = Round { name: "base's files", failed: "could not verify the base" };

/// Leave to train: what [`super::training::Training`] cannot be made without.
pub(super) enum Permit {
    /// From the beginning.
    Train(Admitted<verb::Train, Name>),
    /// From a checkpoint.
    Resume(Admitted<verb::Resume, Name>),
}

/// Leave to train, on these machines, each named once.
pub(super) struct Admission {
    pub(super) permit: Permit,
    pub(super) nodes: BTreeSet<String>,
}

impl Permit {
    /// What let it pass.
    pub(super) fn decision(&self) -> &Decision {
        match self {
            Self::Train(admitted) => admitted.decision(),
            Self::Resume(admitted) => admitted.decision(),
        }
    }

    /// The checkpoint that may be written.
    pub(super) fn artefact(&self) -> &Name {
        match self {
            Self::Train(admitted) => admitted.thing(),
            Self::Resume(admitted) => admitted.thing(),
        }
    }

    /// The verb of the run's first entry.
    pub(super) fn verb(&self) -> &'static str {
        match self {
            Self::Train(_) => RUN_STARTED,
            Self::Resume(_) => "run.resumed",
        }
    }
}

/// Reads the rules on every rank, and on the first one the keys and the ledger. No rank goes on where one is less confined than demanded.
pub(super) fn begin(directory: &Path, run: &Run, communicator: &dyn Communicator) -> Result<(Custody, Option<Keeper>), Failure> {
    let own = || {
        confined::expect(run.policy.confinement)?;
        let custody = open(directory, run)?;
        let keeper = (communicator.rank() == 0).then(|| Keeper::open(directory, run, &custody)).transpose()?;
        Ok((custody, keeper))
    };
    let own = own();
    let (opened, outcome) = match own {
        Ok(opened) => (Some(opened), Ok(())),
        Err(failure) => (None, Err(failure)),
    };
    everyone(communicator, OPENING, outcome)?;
    opened.ok_or_else(|| Failure::failed("the rules were opened and are not there"))
}

/// What a run is made from.
pub(super) struct Materials<'a> {
    pub(super) base: &'a ModelDir,
    pub(super) base_files: &'a [FileDigest],
    pub(super) data: &'a [&'a Sequences],
    /// Of the checkpoint that it goes on from.
    pub(super) origin: Option<Origin>,
}

impl Materials<'_> {
    /// Where the checkpoint `made` will come from, down to the data and the base.
    pub(super) fn lineage(
        self,
        custody: &Custody,
        made: &Name,
        (keeper, communicator): (Option<&Keeper>, &dyn Communicator),
    ) -> Result<Lineage, Failure> {
        let mut lineage = Lineage::default();
        let mut parts = Vec::new();
        for (file, sha256) in self.data.iter().flat_map(|data| data.files()) {
            let digest = BareDigest::from_hex(sha256).ok_or_else(|| {
                Failure::data(format!("the token cache gives {} the digest {sha256:?}, expected a SHA-256", file.display()))
            })?;
            parts.push(custody.uses(&mut lineage, Kind::Data, file, digest));
        }
        let read = || keeper.map(|keeper| keeper.base(self.base, self.base_files)).transpose();
        let read = together(communicator, BASE, read)?.into_iter().next().flatten();
        let (digest, origin) = read.ok_or_else(|| Failure::failed("the first rank has read no base"))?;
        parts.push(match origin.map(verified) {
            Some(origin) => {
                lineage.joins(&origin.lineage);
                custody.holds(&mut lineage, origin.artefact, self.base.path(), digest)
            }
            None => custody.uses(&mut lineage, Kind::Model, self.base.path(), digest),
        });
        if let Some(origin) = self.origin {
            lineage.joins(&origin.lineage);
            // A run that has another name now.
            parts.extend(Some(origin.artefact).filter(|artefact| artefact != made));
        }
        lineage.makes(made, parts);
        Ok(lineage)
    }
}

/// An origin that the first rank has verified and the others have from it.
pub(super) fn verified(mut origin: Origin) -> Origin {
    origin.lineage.verified = origin.lineage.recorded.keys().cloned().collect();
    origin
}

/// Asks whether the run may start, or go on, here. Where any rank may not, none does.
pub(super) fn admit(
    (directory, communicator): (&Path, &dyn Communicator),
    (custody, run, data): (&Custody, &Run, &[&Sequences]),
    keeper: Option<&Keeper>,
    made: (Name, &Lineage, bool),
) -> Result<Admission, Failure> {
    let began = Instant::now();
    let (made, lineage, resumes) = made;
    let action = if resumes { Action::Resume } else { Action::Train };
    let node = host().map_err(|error| Failure::custody(error, directory));
    let mut hosts = everyone(communicator, ASKING, node)?;
    let nodes = hosts.iter().cloned().collect();
    let node = hosts.swap_remove(communicator.rank());
    let approved_by = keeper.map_or_else(
        || Ok(BTreeSet::new()),
        |keeper| {
            data.iter().try_for_each(|side| keeper.expect_prepared(side.side(), side.digest()))?;
            let training = data.first().map(|side| side.digest()).unwrap_or_default();
            keeper.approved_by((run, training), action, &made)
        },
    );
    let approved_by = everyone(communicator, ASKING, approved_by)?.into_iter().flatten().collect();
    let question = Question {
        node: Some(node),
        confinement: confined::level(),
        approved_by,
        ..Question::new(action, made.clone(), lineage.clone())
    };
    let (deed, answer) = if resumes {
        let (deed, answer) = custody.decide::<verb::Resume, _>(question, made.clone());
        (deed, answer.map(Permit::Resume))
    } else {
        let (deed, answer) = custody.decide::<verb::Train, _>(question, made.clone());
        (deed, answer.map(Permit::Train))
    };
    let answer = answer.map_err(|error| Failure::custody(error, directory));
    let deeds = everyone(communicator, ASKING, Ok(deed))?;
    let is_refused = deeds.iter().any(|deed| deed.decision.as_ref().is_none_or(|decision| !decision.allowed));
    let recorded = keeper.map_or(Ok(()), |keeper| record(keeper, deeds, is_refused.then_some(&*made.name)));
    let mine = recorded.and(answer);
    let (permit, outcome) = match mine {
        Ok(permit) => (Some(permit), Ok(())),
        Err(failure) => (None, Err(failure)),
    };
    everyone(communicator, ASKING, outcome)?;
    let permit = permit.ok_or_else(|| Failure::failed("the policy was asked and did not answer"))?;
    log(permit.decision());
    tracing::info!(seconds = began.elapsed().as_secs_f64(), "asked the policy");
    Ok(Admission { permit, nodes })
}

/// Writes the decisions of all ranks down, those of ranks that asked the same once. A refusal is the last that this program writes.
fn record(keeper: &Keeper, deeds: Vec<Deed>, refused: Option<&str>) -> Result<(), Failure> {
    let mut seen = BTreeSet::new();
    let write = || {
        for deed in deeds {
            if seen.insert(format!("{deed:?}")) {
                keeper.book().write(deed)?;
            }
        }
        refused.map_or_else(|| keeper.sync(), |run| keeper.seal(run))
    };
    write().map_err(|error| keeper.failed(error))
}
