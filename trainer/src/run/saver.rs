//! Saves a run while it goes on: a snapshot at the end of a step, a thread that writes it, publication at the end of a later step.
//!
//! One save is under way at a time. What ranks must agree on, they agree on at step boundaries, in the order of their program; the threads
//! that write make no collective.

use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use sirocco_checkpoint::{CheckpointWriter, Checkpoints, Cursor, Mesh, Pace, RunState, ShardRecord};
use sirocco_comm::Communicator;
use sirocco_config::Run;
use sirocco_tokens::Order;
use tch::Device;

use super::fitting::Save;
use super::identity::Identity;
use super::kept::Kept;
use super::saved::Snapshot;
use super::step::State;
use super::together::{Round, everyone, until_all};
use crate::failure::Failure;

/// Saves a run.
pub(crate) struct Saver<'a> {
    pub(crate) run: &'a Run,
    pub(crate) checkpoints: Checkpoints,
    pub(crate) identity: Identity,
    pub(crate) order: Order,
    pub(crate) communicator: &'a dyn Communicator,
    /// Memory for the next snapshot, while no thread writes from it.
    pub(crate) memory: Snapshot,
    /// What is known of a save of this run.
    pub(crate) like: Save,
    pub(crate) under_way: UnderWay,
    /// Of rank 0, which publishes.
    pub(super) kept: Option<Arc<Kept>>,
}

/// How far the newest save is: the same on every rank.
#[derive(Default)]
pub(crate) enum UnderWay {
    /// There is none.
    #[default]
    Nothing,
    /// Every rank writes its shard; the first one owns the directory.
    Writing { step: u64, pace: Arc<Pace>, writer: Option<Arc<CheckpointWriter>>, is_awaited: bool, thread: Thread<Written> },
    /// Every shard is written; the first rank publishes them.
    Publishing { thread: Option<Thread<()>> },
}

type Thread<T> = JoinHandle<Result<T, Failure>>;

/// What a thread has that wrote a shard.
pub(crate) struct Written {
    snapshot: Snapshot,
    shard: Shard,
}

/// A shard on disk.
struct Shard {
    record: ShardRecord,
    /// How long it took to write, if that did not rest.
    seconds: Option<f64>,
}

/// The nice value of threads that save: the cores belong to the threads that compute.
const NICE: i32 = 19;

/// Bytes that a disk writes in a second, as long as none has been seen to.
const EXPECTED_SPEED: f64 = 100e6;

/// Of a save that does not fit a step, the share of a core that each of its two threads takes while the cores compute and nobody waits for it.
/// What they take from one thread that computes, all wait for (benches/tried.md).
const SHARE: f64 = 0.006;

/// For how long it is content with that: what is done while a save is written is lost with what was done before, if a rank dies.
const LEISURE: Duration = Duration::from_secs(120);

/// Said where a small save is not waited for.
const OUTLASTS: &str = "a save took longer than a step: steps do not wait for this one";

const SAVING: Round = Round { name: "checkpoint", failed: "could not save" };

impl Saver<'_> {
    /// Whether this rank has done, or failed to do, what the newest save wants of it now: what it tells the others at the end of a step.
    pub(crate) fn is_settled(&self) -> bool {
        match &self.under_way {
            UnderWay::Nothing => true,
            UnderWay::Writing { thread, .. } => thread.is_finished(),
            UnderWay::Publishing { thread } => thread.as_ref().is_none_or(JoinHandle::is_finished),
        }
    }

    /// Starts to save `step` completed steps, after the save before is complete. Returns as soon as the values are copied.
    pub(crate) fn start(&mut self, state: &State, step: u64) -> Result<(), Failure> {
        self.complete()?;
        let rank = self.communicator.rank();
        let (begun, outcome) = match (rank == 0).then(|| self.checkpoints.begin(step)).transpose() {
            Ok(writer) => (writer.map(Arc::new), Ok(())),
            Err(error) => (None, Err(Failure::file(error))),
        };
        everyone(self.communicator, SAVING, outcome)?;
        let mut snapshot = std::mem::take(&mut self.memory);
        snapshot.take(&state.engine, &state.optimizer);
        let (is_small, outlasts) = (self.like.is_small(state.step_seconds), self.like.outlasts(state.step_seconds));
        if is_small && outlasts {
            tracing::info!(step, seconds = self.like.seconds, "{OUTLASTS}");
        }
        let is_awaited = is_small && !outlasts;
        // A small one costs the cores little at full speed, too, and says whether the disk is still slow.
        let rests = !is_small && state.engine.device() == Device::Cpu;
        let pace = Arc::new(if rests { Pace::share(SHARE, LEISURE) } else { Pace::full() });
        let (writer, checkpoints, paced) = (begun.clone(), self.checkpoints.clone(), pace.clone());
        let write = move || {
            let start = Instant::now();
            let record = match writer {
                Some(writer) => snapshot.write(&writer, rank, &paced)?,
                None => snapshot.write(&checkpoints.join(step).map_err(Failure::file)?, rank, &paced)?,
            };
            let seconds = (!rests).then(|| start.elapsed().as_secs_f64());
            Ok(Written { snapshot, shard: Shard { record, seconds } })
        };
        let thread = in_the_background(write)?;
        self.under_way = UnderWay::Writing { step, pace, writer: begun, is_awaited, thread };
        Ok(())
    }

    /// How long it takes until the state of now is saved, if somebody waits for it: that of before may have to be written first.
    pub(crate) fn expected(&self) -> Duration {
        let Save { bytes, seconds } = self.like;
        let one = if seconds > 0.0 { seconds } else { bytes as f64 / EXPECTED_SPEED };
        Duration::from_secs_f64(if matches!(self.under_way, UnderWay::Nothing) { one } else { 2.0 * one })
    }

    /// Whether the save under way is to be published before another step counts as done.
    pub(crate) fn is_awaited(&self) -> bool {
        matches!(self.under_way, UnderWay::Writing { is_awaited: true, .. })
    }

    /// After `completed` steps: a save that is still being written after half of the steps to the next one no longer takes its time.
    pub(crate) fn keep_up(&self, completed: u64) {
        if let UnderWay::Writing { step, pace, .. } = &self.under_way
            && completed - step >= self.run.checkpoint.every_steps.div_ceil(2)
        {
            pace.hurry();
        }
    }

    /// Every rank has told that it is settled: takes the newest save one stage further.
    pub(crate) fn advance(&mut self) -> Result<(), Failure> {
        match std::mem::take(&mut self.under_way) {
            UnderWay::Nothing => Ok(()),
            UnderWay::Writing { step, writer, thread, .. } => {
                let written = joined(thread).map(|Written { snapshot, shard }| {
                    self.memory = snapshot;
                    shard
                });
                let thread = match self.records(written)? {
                    None => None,
                    Some(records) => Some(self.publish(step, writer, records)?),
                };
                self.under_way = UnderWay::Publishing { thread };
                Ok(())
            }
            UnderWay::Publishing { thread } => {
                everyone(self.communicator, SAVING, thread.map_or(Ok(()), joined))?;
                Ok(())
            }
        }
    }

    /// Tells all ranks how long the slowest took, and brings the records of all shards to the first rank.
    fn records(&mut self, mine: Result<Shard, Failure>) -> Result<Option<Vec<ShardRecord>>, Failure> {
        let (mine, outcome) = match mine {
            Ok(Shard { record, seconds }) => (Some(record), Ok(seconds)),
            Err(failure) => (None, Err(failure)),
        };
        let seconds = everyone(self.communicator, SAVING, outcome)?;
        // A save that rests says nothing of its time, and one hiccup of the disk is forgotten with the next one that does not.
        self.like.seconds = seconds.into_iter().flatten().reduce(f64::max).unwrap_or(self.like.seconds);
        let (name, mine) = ("shard record", mine.into_iter());
        if self.communicator.rank() != 0 {
            for record in mine {
                let record = serde_json::to_vec(&record).map_err(Failure::failed)?;
                self.communicator.send_bytes(name, 0, record).wait().map_err(Failure::collective)?;
            }
            return Ok(None);
        }
        let others = (1..self.communicator.size()).map(|rank| {
            let record = self.communicator.receive_bytes(name, rank).wait().map_err(Failure::collective)?;
            serde_json::from_slice(&record).map_err(Failure::failed)
        });
        mine.map(Ok).chain(others).collect::<Result<_, _>>().map(Some)
    }

    fn publish(
        &self,
        step: u64,
        writer: Option<Arc<CheckpointWriter>>,
        records: Vec<ShardRecord>,
    ) -> Result<Thread<()>, Failure> {
        // The thread that wrote has ended, and with it the other handle.
        let Some(writer) = writer.and_then(|writer| Arc::try_unwrap(writer).ok()) else {
            return Err(Failure::failed("the checkpoint's writer is still in use after its shard was written"));
        };
        let Some(kept) = self.kept.clone() else {
            return Err(Failure::failed("a checkpoint was to be published by a rank that does not sign"));
        };
        let (checkpoints, state, keep) = (self.checkpoints.clone(), self.state(step), self.run.checkpoint.keep as usize);
        in_the_background(move || {
            kept.publish(&checkpoints, writer, records, state)?;
            tracing::info!(step, "checkpoint published");
            if let Err(error) = checkpoints.prune(keep) {
                // The new checkpoint is whole; an old one that somebody still reads is no reason to end the run.
                tracing::warn!("an old checkpoint stays: {error}");
            }
            kept.seal()
        })
    }

    /// Waits until the newest save is published, however long that takes. All ranks learn of any rank's failure; the checkpoint published
    /// before stays whole.
    pub(crate) fn complete(&mut self) -> Result<(), Failure> {
        if let UnderWay::Writing { pace, .. } = &self.under_way {
            pace.hurry();
        }
        while !matches!(self.under_way, UnderWay::Nothing) {
            until_all(self.communicator, || self.is_settled())?;
            self.advance()?;
        }
        Ok(())
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
}

/// Bytes of the rank that has the largest snapshot: the same on every rank.
pub(crate) fn largest(communicator: &dyn Communicator, snapshot: &Snapshot) -> Result<usize, Failure> {
    Ok(everyone(communicator, SAVING, Ok(snapshot.bytes()))?.into_iter().max().unwrap_or(0))
}

/// Starts a thread that gives way to those that compute; so do threads that it starts.
fn in_the_background<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, Failure> + Send + 'static,
) -> Result<Thread<T>, Failure> {
    let work = move || {
        // Linux takes it for this thread alone. Where it is refused, saving disturbs a little more.
        if let Err(error) = rustix::process::setpriority_process(None, NICE) {
            tracing::debug!("saving at the priority of computing: {error}");
        }
        work()
    };
    std::thread::Builder::new().name("checkpoint".to_string()).spawn(work).map_err(Failure::failed)
}

/// What a thread returned. One that panicked has printed why.
fn joined<T>(thread: Thread<T>) -> Result<T, Failure> {
    thread.join().unwrap_or_else(|_| Err(Failure::failed("the thread that saves ended before its work was done")))
}
