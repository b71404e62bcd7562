//! The wire: the one thread of a rank that makes MPI calls. It runs collectives one after the other, in the order submitted.

mod call;
mod message;
mod patience;
mod raw;
mod roll_call;
mod sum;
mod transfer;

use std::{
    cell::OnceCell,
    mem::ManuallyDrop,
    sync::{
        Arc, OnceLock,
        atomic::{AtomicI64, Ordering},
        mpsc::{Receiver, SyncSender},
    },
    time::{Duration, Instant},
};

use mpi::{Threading, environment::Universe};

use self::{
    call::{Call, Trouble},
    message::INLINE_MAX,
    raw::World,
    roll_call::Roll,
};
use crate::{
    Collective, CommError, Operation,
    peers::{Identity, Roster},
    traffic::Meter,
};
pub(crate) use sum::Element;

/// Work for the wire.
pub(crate) type Job = Box<dyn FnOnce(&mut Wire) + Send>;

/// `Shared::abort` while nobody has asked to abort; exit codes are smaller.
pub(crate) const NO_ABORT: i64 = i64::MIN;

/// What the wire and its callers both see.
pub(crate) struct Shared {
    pub(crate) meter: Meter,
    pub(crate) roster: OnceLock<Roster>,
    pub(crate) abort: AtomicI64,
}

/// What messages are about.
#[derive(Debug, Clone, Copy)]
enum Tag {
    Header = 1,
    Verdict,
    Report,
    Scatter,
    Gather,
    Pass,
}

/// The state of the wire thread.
pub(crate) struct Wire {
    world: World,
    timeout: Duration,
    /// Collectives entered so far.
    entered: u64,
    /// The first error; all later collectives end with it.
    broken: Option<CommError>,
    shared: Arc<Shared>,
}

/// The wire thread: starts MPI, reports through `ready`, works until the other end of `jobs` is dropped, finalises MPI.
pub(crate) fn run(
    timeout: Duration,
    shared: Arc<Shared>,
    jobs: &Receiver<Job>,
    ready: &SyncSender<Result<(usize, usize), CommError>>,
) {
    let (mut wire, universe) = match start(timeout, shared) {
        Ok(started) => started,
        Err(error) => {
            let _ = ready.send(Err(error));
            return;
        }
    };
    let greeted = wire.greet().map(|()| (wire.world.rank, wire.world.size));
    let _ = ready.send(greeted);
    for job in jobs {
        job(&mut wire);
        wire.obey_abort();
    }
    // Finalising waits for all ranks, so it comes only after all ranks have said goodbye; else MPI is left as it is.
    if wire.enter("sirocco/leave", Operation::Leave, (0, 0), |wire, call| wire.roll_call(call, None)).is_ok() {
        drop(ManuallyDrop::into_inner(universe));
    }
}

/// Starts MPI on this thread.
fn start(timeout: Duration, shared: Arc<Shared>) -> Result<(Wire, ManuallyDrop<Universe>), CommError> {
    let cannot = |found: &str| CommError::Start { found: found.to_owned() };
    let (universe, threading) = mpi::initialize_with_threading(Threading::Funneled)
        .ok_or_else(|| cannot("it was started before in this process, expected one group per process"))?;
    // Never finalised by accident (a panic, an early return): see `run`.
    let universe = ManuallyDrop::new(universe);
    if threading < Threading::Funneled {
        return Err(cannot("this MPI library offers no thread support, expected at least MPI_THREAD_FUNNELED"));
    }
    let world = World::open(&universe).map_err(|failure| cannot(&format!("{}: {}", failure.call, failure.message)))?;
    Ok((Wire { world, timeout, entered: 0, broken: None, shared }, universe))
}

impl Wire {
    /// Learns who the other ranks are.
    fn greet(&mut self) -> Result<(), CommError> {
        let own = serde_json::to_vec(&Identity::own()).unwrap_or_default();
        let operation = Operation::AllGather;
        let cards = self.enter("sirocco/roster", operation, (own.len(), 0), |wire, call| wire.all_gather_parts(call, own))?;
        let mut identities = Vec::with_capacity(cards.len());
        for (rank, card) in cards.iter().enumerate() {
            let found = "an introduction that cannot be read".to_owned();
            let collective = Collective { name: "sirocco/roster".to_owned(), sequence: 0 };
            let garbled = CommError::Garbled { rank, found, expected: "host and process".to_owned(), collective };
            identities.push(serde_json::from_slice(card).map_err(|_| garbled)?);
        }
        self.shared.roster.get_or_init(|| Roster::new(self.world.rank, identities));
        Ok(())
    }

    /// The sum over all ranks.
    pub(crate) fn all_reduce<E: Element>(
        &mut self,
        name: &'static str,
        operation: Operation,
        data: Vec<E>,
    ) -> Result<Vec<E>, CommError> {
        self.metered(name, operation, (data.len(), 0), |wire, call| {
            let bytes: &[u8] = bytemuck::cast_slice(&data);
            let total = match wire.roll_call(call, (bytes.len() <= INLINE_MAX).then(|| bytes.to_vec()))? {
                Roll::Result(_, total) => bytemuck::pod_collect_to_vec(&total),
                Roll::Proceed(_) => wire.reduce(call, data)?,
            };
            Ok((size_of_val(total.as_slice()), total))
        })
    }

    /// Every rank's bytes.
    pub(crate) fn all_gather(&mut self, name: &'static str, data: Vec<u8>) -> Result<Vec<Vec<u8>>, CommError> {
        self.metered(name, Operation::AllGather, (data.len(), 0), |wire, call| {
            let parts = wire.all_gather_parts(call, data)?;
            Ok((parts.iter().map(Vec::len).sum(), parts))
        })
    }

    fn all_gather_parts(&self, call: &Call, data: Vec<u8>) -> Result<Vec<Vec<u8>>, Trouble> {
        match self.roll_call(call, (data.len() <= INLINE_MAX).then(|| data.clone()))? {
            Roll::Proceed(lengths) => self.gather(call, data, &lengths),
            Roll::Result(lengths, bytes) => {
                let mut rest = bytes.as_slice();
                let mut parts = Vec::with_capacity(lengths.len());
                for length in lengths {
                    let short = || Trouble::own(call.garbled(0, "a short result", "every rank's bytes"));
                    let (part, after) = rest.split_at_checked(length).ok_or_else(short)?;
                    parts.push(part.to_vec());
                    rest = after;
                }
                Ok(parts)
            }
        }
    }

    /// The bytes of rank `root`.
    pub(crate) fn broadcast(&mut self, name: &'static str, root: usize, data: Vec<u8>) -> Result<Vec<u8>, CommError> {
        let data = if self.world.rank == root { data } else { Vec::new() };
        self.metered(name, Operation::Broadcast, (data.len(), root), |wire, call| {
            let small = wire.world.rank == root && data.len() <= INLINE_MAX;
            let bytes = match wire.roll_call(call, small.then(|| data.clone()))? {
                Roll::Result(_, bytes) => bytes,
                Roll::Proceed(lengths) => wire.pass_on(call, data, lengths.get(root).copied().unwrap_or(0))?,
            };
            Ok((bytes.len(), bytes))
        })
    }

    /// Waits for all ranks.
    pub(crate) fn barrier(&mut self, name: &'static str) -> Result<(), CommError> {
        self.metered(name, Operation::Barrier, (0, 0), |wire, call| wire.roll_call(call, None).map(|_| (0, ())))
    }

    /// One collective, counted in the traffic; `body` gives the bytes and the result.
    fn metered<T>(
        &mut self,
        name: &'static str,
        operation: Operation,
        extent: (usize, usize),
        body: impl FnOnce(&Wire, &Call) -> Result<(usize, T), Trouble>,
    ) -> Result<T, CommError> {
        let (bytes, result, took, waited) = self.enter(name, operation, extent, |wire, call| {
            let (bytes, result) = body(wire, call)?;
            Ok((bytes, result, call.started.elapsed(), call.together.get().copied().unwrap_or_default()))
        })?;
        self.shared.meter.add(name, bytes, took, waited);
        Ok(result)
    }

    /// One collective: gives it its number, and keeps and reports its error. `extent`: elements, root.
    fn enter<T>(
        &mut self,
        name: &'static str,
        operation: Operation,
        (elements, root): (usize, usize),
        body: impl FnOnce(&Wire, &Call) -> Result<T, Trouble>,
    ) -> Result<T, CommError> {
        if let Some(error) = &self.broken {
            return Err(error.clone());
        }
        let (sequence, elements) = (self.entered, elements as u64);
        self.entered += 1;
        let call = Call { name, operation, sequence, elements, root, started: Instant::now(), together: OnceCell::new() };
        body(self, &call).map_err(|trouble| {
            if !trouble.told {
                self.report(&trouble.error);
            }
            self.broken.insert(trouble.error).clone()
        })
    }

    /// Ends the job if somebody asked for it.
    fn obey_abort(&self) {
        let code = self.shared.abort.load(Ordering::Acquire);
        if code != NO_ABORT {
            self.world.abort(i32::try_from(code).unwrap_or(1));
        }
    }
}
