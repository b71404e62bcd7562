//! What a checkpoint belongs to: settings that must not change, the base it started from, the data it has seen.

use std::collections::BTreeMap;

use sirocco_checkpoint::{FileDigest, ModelDir, RunState};
use sirocco_comm::Communicator;
use sirocco_config::{Origin, Run};
use sirocco_corpus::sha256_hex;

use super::data::Sequences;
use super::together::{Round, everyone, together};
use crate::failure::Failure;

/// Digests that a run and its checkpoints must have in common.
pub(crate) struct Identity {
    pub(super) config_digest: String,
    pub(super) model_digest: String,
    /// None where only weights are wanted, as for an export.
    pub(super) data_digest: Option<String>,
}

/// SHA-256 of the base's files, of which each rank reads some; and whether every rank has the same base and the same data
/// before it.
pub(crate) fn agreed_base(
    communicator: &dyn Communicator,
    base: &ModelDir,
    data: &[&Sequences],
) -> Result<Vec<FileDigest>, Failure> {
    let specs: Vec<_> = base.specs().collect();
    let headers = sha256_hex(format!("{}{specs:?}", base.config_text()).as_bytes());
    let tokens = data.iter().map(|side| side.digest()).collect::<Vec<_>>().join(" ");
    let round = Round { name: "base and data", failed: "could not read the base" };
    let all = everyone(communicator, round, Ok([headers, tokens]))?;
    for (rank, what) in all.iter().enumerate() {
        for (number, name) in ["base model (config.json or a header)", "token cache"].into_iter().enumerate() {
            if what[number] != all[0][number] {
                return Err(Failure::data(format!("rank {rank} has another {name} than rank 0"))
                    .help("put the base model and the run directory on a file system that all nodes share"));
            }
        }
    }
    let (rank, ranks) = (communicator.rank(), communicator.size());
    let shares = together(communicator, round, || base.digests_of(rank, ranks).map_err(Failure::file))?;
    let files: BTreeMap<usize, FileDigest> = shares.into_iter().flatten().collect();
    Ok(files.into_values().collect())
}

impl Identity {
    /// The identity of a run as its directory and its base are now.
    pub(crate) fn new(run: &Run, model_digest: String, data_digest: Option<&str>) -> Self {
        Self { config_digest: run.settled_digest(), model_digest, data_digest: data_digest.map(str::to_string) }
    }

    /// Refuses a checkpoint that belongs to something else.
    pub(crate) fn verify(&self, state: &RunState) -> Result<(), Failure> {
        let step = state.step;
        let tokens = || match &self.data_digest {
            Some(found) => Origin::Tokens.compare(step, &state.data_digest, found),
            None => Ok(()),
        };
        Origin::Settings
            .compare(step, &state.config_digest, &self.config_digest)
            .and_then(|()| Origin::Base.compare(step, &state.model_digest, &self.model_digest))
            .and_then(|()| tokens())
            .map_err(|error| Failure::origin(&error))
    }
}
