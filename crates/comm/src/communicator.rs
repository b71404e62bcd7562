//! The trait that a trainer talks to, and the handle that a collective returns.

use std::{
    collections::BTreeMap,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
        mpsc::{Receiver, TryRecvError},
    },
    time::{Duration, Instant},
};

use half::bf16;

use crate::{CommError, DeadPeer, Event, JobHandle, Peer, Place, Traffic, wire::Fate};

/// A group of ranks of a job. All ranks of the group call the same collectives, with the same names, in the same order; what a rank
/// calls on several groups has the same order on all ranks that it shares them with.
///
/// Ranks that are given or asked for count inside the group; ranks in errors, in [`Communicator::members`], in
/// [`Communicator::peers`] and in [`Communicator::dead_peers`] are those of the whole job.
pub trait Communicator: Send + Sync {
    /// This rank, from 0, in the group.
    fn rank(&self) -> usize;

    /// How many ranks the group has.
    fn size(&self) -> usize;

    /// The ranks of the job that make up the group, by rank in the group: rising.
    fn members(&self) -> &[usize];

    /// The group of `members`, ranks of the whole job. Nothing is communicated: ranks that disagree hear of it at the group's first
    /// collective. A group of one is a [`Solo`](crate::Solo) that counts into the same totals. A group that is made twice is two
    /// groups, each with its own numbers: keep it.
    ///
    /// # Errors
    /// [`CommError::NoSuchGroup`] unless the ranks rise, exist and include this one.
    fn group(&self, name: &'static str, members: &[usize]) -> Result<Arc<dyn Communicator>, CommError>;

    /// The element-wise sum over all ranks, in rank order; buffers of equal length on all ranks.
    fn all_reduce_f32(&self, name: &'static str, data: Vec<f32>) -> Pending<Vec<f32>>;

    /// The element-wise sum over all ranks, in rank order; buffers of equal length on all ranks.
    fn all_reduce_f64(&self, name: &'static str, data: Vec<f64>) -> Pending<Vec<f64>>;

    /// Part r of the element-wise sum on rank r, summed in rank order. `lengths`: the elements of each part, by rank, the same on all
    /// ranks; parts may be empty.
    fn reduce_scatter_f32(&self, name: &'static str, data: Vec<f32>, lengths: &[usize]) -> Pending<Vec<f32>>;

    /// The same for `bf16` buffers: summed in fp32, in rank order, and rounded once.
    fn reduce_scatter_bf16(&self, name: &'static str, data: Vec<bf16>, lengths: &[usize]) -> Pending<Vec<bf16>>;

    /// Every rank's bytes, by rank; lengths may differ.
    fn all_gather_bytes(&self, name: &'static str, data: Vec<u8>) -> Pending<Vec<Vec<u8>>>;

    /// The bytes of rank `root`; what the other ranks pass is dropped.
    fn broadcast_bytes(&self, name: &'static str, root: usize, data: Vec<u8>) -> Pending<Vec<u8>>;

    /// Done when every rank has entered it.
    fn barrier(&self, name: &'static str) -> Pending<()>;

    /// Hands bytes to rank `to`. Done when MPI has taken the buffer over, which comes after what was submitted before: it never waits for
    /// the receiver, and nothing behind it waits for it. Waiting for it later tells also whether MPI has failed to deliver it since.
    /// Buffers that nobody has received yet stay in memory, as many as were sent.
    fn send_bytes(&self, name: &'static str, to: usize, data: Vec<u8>) -> Pending<()>;

    /// The next bytes that rank `from` sends to this one; their name must be `name`. What is called after it waits for it.
    fn receive_bytes(&self, name: &'static str, from: usize) -> Pending<Vec<u8>>;

    /// Calls, bytes and seconds of each collective and message of this process so far, by name; "group/name" for groups other than
    /// the one of all ranks.
    fn traffic(&self) -> BTreeMap<String, Traffic>;

    /// The newest collectives and messages of this process, over all groups, oldest first. Works while one of them is stuck and
    /// after an error.
    fn history(&self) -> Vec<Event>;

    /// Where this rank stands among the ranks of its host: what threads and devices are chosen by.
    fn place(&self) -> Place;

    /// All ranks of the job, this one included, by rank.
    fn peers(&self) -> Vec<Peer>;

    /// The ranks of this host whose process no longer runs. Cheap, never blocks, and works while a collective is stuck or after an
    /// error; meant for the moment when SIGTERM arrives. A rank that ends itself then looks just as dead as the first victim: look
    /// at once, then wait a third of a second before exiting, so that the others' looks find this rank alive (mpirun sends SIGKILL
    /// one second after SIGTERM).
    fn dead_peers(&self) -> Vec<DeadPeer>;

    /// The job that this group is part of: what a [`DeviceGroup`](crate::nccl::DeviceGroup) over this group needs of it.
    fn job(&self) -> JobHandle;

    /// Ends this process, and the whole job where there is one, with exit code `code`, without waiting for anybody.
    fn abort(&self, code: i32) -> !;
}

/// Nanoseconds that threads of this process have spent in [`Pending::wait`].
static STOOD_STILL: AtomicU64 = AtomicU64::new(0);

/// How long threads of this process have stood still for collectives so far: what a rank took longer than that, it computed.
pub fn stood_still() -> Duration {
    Duration::from_nanos(STOOD_STILL.load(Ordering::Relaxed))
}

/// A collective in progress. It owns the buffer until [`Pending::wait`] hands out the result.
///
/// Handles may be waited for in any order. Dropping one gives up the result, not the collective.
#[must_use = "a collective's result, or its error, is only seen by waiting for it"]
#[derive(Debug)]
pub struct Pending<T> {
    name: &'static str,
    state: State<T>,
    /// Of a message: why it was not delivered after all.
    fate: Option<Fate>,
}

#[derive(Debug)]
enum State<T> {
    Done(Result<T, CommError>),
    Coming(Receiver<Result<T, CommError>>),
}

impl<T> Pending<T> {
    /// A collective that is done already.
    pub(crate) fn done(name: &'static str, result: Result<T, CommError>) -> Self {
        Pending { name, state: State::Done(result), fate: None }
    }

    /// A collective whose result will come through `receiver`.
    pub(crate) fn coming(name: &'static str, receiver: Receiver<Result<T, CommError>>) -> Self {
        Pending { name, state: State::Coming(receiver), fate: None }
    }

    /// The same, ending with what becomes known of the message until it is waited for.
    pub(crate) fn with_fate(self, fate: Fate) -> Self {
        Pending { fate: Some(fate), ..self }
    }

    /// Waits for the result.
    ///
    /// # Errors
    /// What ended the collective, or whichever collective failed first.
    pub fn wait(self) -> Result<T, CommError> {
        let result = match self.state {
            State::Done(result) => result,
            State::Coming(receiver) => {
                let start = Instant::now();
                let result = receiver.recv().unwrap_or_else(|_| Err(CommError::WireEnded { name: self.name.to_owned() }));
                STOOD_STILL.fetch_add(u64::try_from(start.elapsed().as_nanos()).unwrap_or(u64::MAX), Ordering::Relaxed);
                result
            }
        };
        let undelivered = self.fate.and_then(|fate| fate.get().cloned());
        result.and_then(|value| undelivered.map_or(Ok(value), Err))
    }

    /// Whether [`Pending::wait`] would return at once.
    pub fn is_done(&mut self) -> bool {
        if let State::Coming(receiver) = &self.state {
            match receiver.try_recv() {
                Ok(result) => self.state = State::Done(result),
                Err(TryRecvError::Disconnected) => {
                    self.state = State::Done(Err(CommError::WireEnded { name: self.name.to_owned() }));
                }
                Err(TryRecvError::Empty) => return false,
            }
        }
        true
    }
}
