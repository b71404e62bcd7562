//! The checkpoint that a run goes on from: whole, signed, and the one that the run's ledger names.

use std::path::Path;

use serde::{Deserialize, Serialize};
use sirocco_checkpoint::{Checkpoint, Checkpoints};
use sirocco_comm::Communicator;
use sirocco_config::shell_word;
use sirocco_custody::{Origin, Published};
use sirocco_files::BareDigest;

use super::custody::verified;
use super::together::{Round, together};
use crate::custody::Keeper;
use crate::failure::Failure;

const NEWEST: Round = Round { name: "newest checkpoint", failed: "cannot use the newest checkpoint" };
const SIGNED: Round = Round { name: "checkpoint's signature", failed: "cannot use the newest checkpoint" };

/// Opens the newest checkpoint, the same on every rank, with where it comes from. Every file is compared with its digest, by one rank each;
/// the first one compares the digests with the signature, and that with the ledger.
pub(super) fn newest(
    checkpoints: &Checkpoints,
    keeper: Option<&Keeper>,
    communicator: &dyn Communicator,
) -> Result<Option<(Checkpoint, Origin)>, Failure> {
    loop {
        // Whichever rank found it, the first one writes it down.
        let whole = whole(checkpoints, communicator).map_err(|failure| match keeper {
            Some(keeper) => keeper.found(checkpoints.path(), failure),
            None => failure,
        });
        let Some(checkpoint) = whole? else { return Ok(None) };
        let vouched = || keeper.map(|keeper| vouched(&checkpoint, checkpoints, keeper)).transpose();
        match together(communicator, SIGNED, vouched)?.into_iter().next().flatten() {
            Some(Vouched::By(origin)) => return Ok(Some((checkpoint, verified(*origin)))),
            Some(Vouched::Newer) => {}
            None => return Err(Failure::failed("the first rank has verified no checkpoint")),
        }
    }
}

fn whole(checkpoints: &Checkpoints, communicator: &dyn Communicator) -> Result<Option<Checkpoint>, Failure> {
    let (rank, ranks) = (communicator.rank(), communicator.size());
    let mut opened = None;
    let open = || {
        let Some(checkpoint) = checkpoints.open_latest().map_err(Failure::file)? else { return Ok(None) };
        if checkpoints.lacks_latest().map_err(Failure::file)? {
            tracing::warn!(step = checkpoint.state().step, "LATEST is missing: going on from the newest checkpoint");
        }
        let step = checkpoint.state().step;
        checkpoint.verify(rank, ranks).map_err(|error| Failure::file(checkpoints.bad_latest(step, error)))?;
        opened = Some(checkpoint);
        Ok(Some(step))
    };
    let steps = together(communicator, NEWEST, open)?;
    if let Some(other) = steps.iter().position(|step| *step != steps[0]) {
        let name = |step: Option<u64>| step.map_or("no checkpoint".to_string(), |step| format!("the checkpoint of step {step}"));
        let (found, expected) = (name(steps[other]), name(steps[0]));
        return Err(Failure::data(format!("the newest that rank {other} sees is {found}, and rank 0 sees {expected}"))
            .help("the run directory must be on a file system that all nodes share; wait for it to catch up, and start again"));
    }
    Ok(opened)
}

/// What is known of the checkpoint that LATEST names.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) enum Vouched {
    /// It is the newest, and comes from there.
    By(Box<Origin>),
    /// A newer one was published by a process that died before it was named; it is named now.
    Newer,
}

/// Whether the newest checkpoint is signed, the one that the ledger names, and no older one than it has to be.
pub(crate) fn vouched(checkpoint: &Checkpoint, checkpoints: &Checkpoints, keeper: &Keeper) -> Result<Vouched, Failure> {
    let origin = Box::new(named(checkpoint, keeper)?);
    let step = checkpoint.state().step;
    let published = keeper.history().map_err(|error| keeper.failed(error))?.published();
    let Some(newest) = published.last().filter(|newest| newest.step != step) else { return Ok(Vouched::By(origin)) };
    // A later one that is lost or damaged is no reason to give a run up; one that is whole has been hidden, unless nobody came to naming it.
    let later = checkpoints.load(newest.step).map_err(Failure::file);
    if later.and_then(|later| keeper.verified(&later)).is_ok_and(|(digest, _)| digest == newest.digest) {
        let finished = checkpoints.finish_naming(newest.step).map_err(Failure::file)?;
        return if finished { Ok(Vouched::Newer) } else { Err(hidden(checkpoints.path(), step, newest.step)) };
    }
    tracing::warn!(step, newest = newest.step, "the newest checkpoint that the ledger names is lost: going on from an older one");
    Ok(Vouched::By(origin))
}

/// Verifies a whole checkpoint, and that it is the one that the run's ledger names for its step.
pub(crate) fn named(checkpoint: &Checkpoint, keeper: &Keeper) -> Result<Origin, Failure> {
    let (digest, origin) = keeper.verified(checkpoint)?;
    let published = keeper.history().map_err(|error| keeper.failed(error))?.published();
    let expected = published.iter().rev().find(|published| published.step == checkpoint.state().step);
    same(checkpoint.path(), digest, expected).map(|()| origin)
}

fn same(directory: &Path, digest: BareDigest, expected: Option<&Published>) -> Result<(), Failure> {
    let found = directory.display();
    match expected {
        Some(expected) if expected.digest == digest => Ok(()),
        Some(expected) => Err(Failure::data(format!(
            "{found}: is another checkpoint than the one that the run's ledger names: found digest {digest}, expected {}",
            expected.digest
        ))
        .help("somebody has put an older checkpoint, or that of another run, in its place; put back the one that was published")),
        None => Err(Failure::data(format!(
            "{found}: the run's ledger names no checkpoint of this step, expected it under checkpoint.published"
        ))
        .help("a run directory belongs together: copy its ledger/ with its checkpoints/")),
    }
}

fn hidden(checkpoints: &Path, step: u64, newest: u64) -> Failure {
    let latest = shell_word(&checkpoints.join("LATEST").to_string_lossy());
    Failure::data(format!(
        "{}: goes on from step {step}, but the checkpoint of step {newest}, which was published last, is there and whole",
        checkpoints.join("LATEST").display()
    ))
    .help(format!("to go on from it: echo step-{newest:08} > {latest}; to give it up, remove its directory"))
}
