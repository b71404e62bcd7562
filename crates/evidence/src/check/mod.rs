//! The checks of a bundle. Each stands for itself: what one cannot read another may still find in order.

mod artefacts;
mod confinement;
mod decisions;
mod ledger;
mod proofs;
mod record;
mod signature;
mod signers;
mod weights;

use std::path::PathBuf;

use serde::Serialize;
use sirocco_ledger::checkpoint::SignedCheckpoint;
use sirocco_ledger::source::Memory;

use crate::entries::{Numbered, sealed};
use crate::files::Files;
use crate::record::Record;
use crate::trusted::Trusted;

/// What a reader of a bundle measures it by.
pub struct Demand<'a> {
    /// Whom they believe.
    pub trusted: &'a Trusted,
    /// Checkpoints of the ledger that they have seen before.
    pub earlier: Vec<SignedCheckpoint>,
    /// Where the weights lie, if they have them.
    pub artefacts: Vec<PathBuf>,
}

/// One thing that is wrong.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Finding {
    /// The file or folder of the bundle.
    pub file: String,
    /// What is wrong with it.
    pub what: String,
}

impl Finding {
    pub(crate) fn new(file: impl Into<String>, what: impl Into<String>) -> Finding {
        Finding { file: file.into(), what: what.into() }
    }
}

/// The outcome of a check.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum State {
    /// Nothing is wrong.
    Ok,
    /// Something is.
    Failed,
    /// It was not asked for.
    Skipped,
}

/// A check and what it found.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Check {
    /// Its name.
    pub check: &'static str,
    /// Its outcome.
    pub state: State,
    /// What was looked at, in words.
    pub looked_at: String,
    /// Everything that is wrong.
    pub findings: Vec<Finding>,
}

impl Check {
    fn of(check: &'static str, looked_at: String, findings: Vec<Finding>) -> Check {
        let state = if findings.is_empty() { State::Ok } else { State::Failed };
        Check { check, state, looked_at, findings }
    }
}

/// All checks.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Report {
    /// Did all hold that were asked for?
    pub ok: bool,
    /// Each of them.
    pub checks: Vec<Check>,
}

/// A bundle as the checks see it.
struct Seen<'a> {
    files: &'a Files,
    memory: Memory,
    /// The ledger's checkpoint and entries; why not, where they cannot be read.
    ledger: Result<(SignedCheckpoint, Vec<Numbered>), String>,
    record: Option<Record>,
    demand: &'a Demand<'a>,
}

impl Seen<'_> {
    fn entries(&self) -> &[Numbered] {
        self.ledger.as_ref().map(|(_, entries)| entries.as_slice()).unwrap_or_default()
    }

    /// A finding where the entries cannot be read: what rests on them is not shown then.
    fn unread(&self) -> Vec<Finding> {
        let why = self.ledger.as_ref().err();
        why.map(|why| Finding::new("ledger/", format!("cannot be read: {why}"))).into_iter().collect()
    }
}

/// Checks a bundle.
pub fn verify(files: &Files, demand: &Demand<'_>) -> Report {
    let memory = files.ledger();
    let ledger = sealed(&memory).map_err(|error| error.to_string());
    let record = files.get(crate::layout::RECORD).and_then(|bytes| serde_json::from_slice(bytes).ok());
    let seen = Seen { files, memory, ledger, record, demand };
    let checks = vec![
        signature::check(&seen),
        record::check(&seen),
        ledger::check(&seen),
        proofs::check(&seen),
        decisions::check(&seen),
        signers::check(&seen),
        artefacts::check(&seen),
        confinement::check(&seen),
        weights::check(&seen),
    ];
    Report { ok: checks.iter().all(|check| check.state != State::Failed), checks }
}
