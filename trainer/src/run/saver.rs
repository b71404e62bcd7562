//! Saves a run while it goes on: a snapshot at the end of a step, a thread that writes it, publication at the end of a later step.
//!
//! One save is under way at a time. What ranks must agree on, they agree on at step boundaries, in the order of their program; the threads
//! that write make no collective.

use std::sync::Arc;
use std::thread::JoinHandle;

use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::json;
use sirocco_checkpoint::{CheckpointWriter, Checkpoints, Cursor, Mesh, RunState, ShardRecord};
use sirocco_comm::Communicator;
use sirocco_config::Run;
use sirocco_parallel::Engine;
use sirocco_tokens::Order;

use super::identity::Identity;
use super::optimizer::Optimizer;
use super::saved::Snapshot;
use crate::failure::Failure;

/// Saves a run.
pub(crate) struct Saver<'a> {
    pub(crate) run: &'a Run,
    pub(crate) checkpoints: Checkpoints,
    pub(crate) identity: Identity,
    pub(crate) order: Order,
    pub(crate) communicator: &'a dyn Communicator,
    pub(crate) under_way: UnderWay,
}

/// How far the newest save is.
#[derive(Default)]
pub(crate) enum UnderWay {
    /// There is none.
    #[default]
    Nothing,
    /// This rank's shard is being written.
    Writing { step: u64, writer: Arc<CheckpointWriter>, thread: JoinHandle<Result<ShardRecord, Failure>> },
    /// Every shard is written; on the first rank a thread publishes them.
    Publishing { thread: JoinHandle<Result<(), Failure>> },
}

impl Saver<'_> {
    /// Whether this rank's shard is written (or has failed) while others may still write: what it tells the others at the end of a step.
    pub(crate) fn has_written(&self) -> bool {
        matches!(&self.under_way, UnderWay::Writing { thread, .. } if thread.is_finished())
    }

    /// Starts to save `step` completed steps, after the save before is complete. Returns as soon as the values are copied.
    pub(crate) fn start(&mut self, engine: &Engine, optimizer: &Optimizer, step: u64) -> Result<(), Failure> {
        self.complete()?;
        let latest = self.checkpoints.latest().map_err(Failure::file).map(|latest| latest == Some(step));
        if self.everyone(latest)?.contains(&true) {
            return Ok(());
        }
        let rank = self.communicator.rank();
        let begun = match rank {
            0 => self.checkpoints.begin(step).map(Some).map_err(Failure::file),
            _ => Ok(None),
        };
        let (begun, outcome) = apart(begun);
        self.everyone(outcome)?;
        let (joined, outcome) = match begun.flatten() {
            Some(writer) => (Some(writer), Ok(())),
            None => apart(self.checkpoints.join(step).map_err(Failure::file)),
        };
        self.everyone(outcome)?;
        let Some(writer) = joined.map(Arc::new) else { return Ok(()) };
        let (snapshot, for_thread) = (Snapshot::take(engine, optimizer), Arc::clone(&writer));
        let write = move || snapshot.write(&for_thread, rank);
        let thread = std::thread::Builder::new().name("checkpoint".to_string()).spawn(write).map_err(Failure::failed)?;
        self.under_way = UnderWay::Writing { step, writer, thread };
        Ok(())
    }

    /// Every rank has told that its shard is written: hands them to the first rank, which publishes them while training goes on.
    pub(crate) fn publish(&mut self) -> Result<(), Failure> {
        let (step, writer, thread) = match std::mem::take(&mut self.under_way) {
            UnderWay::Writing { step, writer, thread } => (step, writer, thread),
            // A publication stays to be waited for: the next save would clear away what it has not renamed yet.
            other => {
                self.under_way = other;
                return Ok(());
            }
        };
        let records = self.everyone(joined(thread))?;
        if self.communicator.rank() != 0 {
            return Ok(());
        }
        // The thread that wrote has ended, and with it the other handle.
        let Ok(writer) = Arc::try_unwrap(writer) else {
            return Err(Failure::failed("the checkpoint's writer is still in use after its shard was written"));
        };
        let (checkpoints, state, keep) = (self.checkpoints.clone(), self.state(step), self.run.checkpoint.keep as usize);
        let publish = move || publish(&checkpoints, writer, records, (state, keep));
        let thread = std::thread::Builder::new().name("checkpoint".to_string()).spawn(publish).map_err(Failure::failed)?;
        self.under_way = UnderWay::Publishing { thread };
        Ok(())
    }

    /// Waits until the newest save is published. All ranks learn of any rank's failure; the checkpoint published before stays whole.
    pub(crate) fn complete(&mut self) -> Result<(), Failure> {
        self.publish()?;
        let published = match std::mem::take(&mut self.under_way) {
            UnderWay::Publishing { thread } => joined(thread),
            _ => Ok(()),
        };
        self.everyone(published).map(|_| ())
    }

    fn state(&self, step: u64) -> RunState {
        let sample = u128::from(step) * self.order.global_batch as u128;
        let sequences = (self.order.sequences as u128).max(1);
        let [pp, dp, fsdp, tp] = [self.run.parallel.pp, self.run.parallel.dp, self.run.parallel.fsdp, self.run.parallel.tp];
        RunState {
            step,
            cursor: Cursor { seed: self.run.seed, epoch: (sample / sequences) as u64, sample: (sample % sequences) as u64 },
            mesh: Mesh { pp: pp as usize, dp: dp as usize, fsdp: fsdp as usize, tp: tp as usize },
            config_digest: self.identity.config_digest.clone(),
            model_digest: self.identity.model_digest.clone(),
            data_digest: self.identity.data_digest.clone().unwrap_or_default(),
        }
    }

    /// Every rank's outcome, or the first failure with the rank it happened on.
    fn everyone<T: Serialize + DeserializeOwned>(&self, mine: Result<T, Failure>) -> Result<Vec<T>, Failure> {
        everyone(self.communicator, ("checkpoint", "could not save"), mine)
    }
}

fn publish(
    checkpoints: &Checkpoints,
    writer: CheckpointWriter,
    records: Vec<ShardRecord>,
    (state, keep): (RunState, usize),
) -> Result<(), Failure> {
    let step = state.step;
    checkpoints.publish(writer, records, state).map_err(Failure::file)?;
    tracing::info!(step, "checkpoint published");
    if let Err(error) = checkpoints.prune(keep) {
        // The new checkpoint is whole; an old one that somebody still reads is no reason to end the run.
        tracing::warn!("an old checkpoint stays: {error}");
    }
    Ok(())
}

/// What a thread returned. One that panicked has printed why.
fn joined<T>(thread: JoinHandle<Result<T, Failure>>) -> Result<T, Failure> {
    thread.join().unwrap_or_else(|_| Err(Failure::failed("the thread that saves ended before its work was done")))
}

/// A value for this rank, and an outcome for all.
fn apart<T>(result: Result<T, Failure>) -> (Option<T>, Result<(), Failure>) {
    match result {
        Ok(value) => (Some(value), Ok(())),
        Err(failure) => (None, Err(failure)),
    }
}

/// Every rank's outcome, or the first failure with the rank it happened on. All ranks return the same, but that the rank that failed
/// keeps its own words.
pub(crate) fn everyone<T: Serialize + DeserializeOwned>(
    communicator: &dyn Communicator,
    (name, could_not): (&'static str, &str),
    mine: Result<T, Failure>,
) -> Result<Vec<T>, Failure> {
    let told = match &mine {
        Ok(value) => json!({ "ok": value }),
        Err(failure) => json!({ "failed": failure.told() }),
    };
    let all = communicator.all_gather_bytes(name, told.to_string().into_bytes()).wait().map_err(Failure::collective)?;
    mine?;
    let mut values = Vec::with_capacity(all.len());
    for (rank, told) in all.iter().enumerate() {
        let mut told: serde_json::Value = serde_json::from_slice(told).map_err(Failure::failed)?;
        if let Some(failed) = told.get("failed") {
            return Err(Failure::of_another(failed, &format!("rank {rank} {could_not}")));
        }
        values.push(serde_json::from_value(told["ok"].take()).map_err(Failure::failed)?);
    }
    Ok(values)
}
