//! The wire: the one thread of a rank that makes MPI calls. It runs collectives one after the other, in the order submitted.

mod buffer;
mod call;
mod collectives;
mod fitting;
mod inquiry;
mod letters;
mod message;
mod neighbours;
mod patience;
mod raw;
mod reduce;
mod report;
mod roll_call;
mod sum;
mod transfer;

use std::{
    cell::RefCell,
    mem::ManuallyDrop,
    sync::{
        Arc, OnceLock,
        atomic::{AtomicI64, Ordering},
        mpsc::{Receiver, RecvTimeoutError, SyncSender},
    },
    time::{Duration, Instant},
};

use mpi::{Threading, environment::Universe};

use self::{call::Trouble, letters::Outbox, neighbours::Watch, raw::World};
use crate::{
    CommError,
    entry::{Collective, Operation},
    membership::{Membership, WORLD},
    peers::{Identity, Roster},
    record::Record,
};
pub(crate) use call::{Call, Request};
pub(crate) use inquiry::Question;
pub(crate) use letters::Fate;
pub(crate) use sum::Element;

/// Work for the wire.
pub(crate) type Job = Box<dyn FnOnce(&mut Wire) + Send>;

/// `Shared::abort` while nobody has asked to abort; exit codes are smaller.
pub(crate) const NO_ABORT: i64 = i64::MIN;

/// What the wire and its callers both see.
pub(crate) struct Shared {
    pub(crate) record: Record,
    pub(crate) roster: OnceLock<Roster>,
    pub(crate) abort: AtomicI64,
    /// The first error; all later collectives end with it.
    pub(crate) broken: OnceLock<CommError>,
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
    Letter,
    Parcel,
    Ask,
    Answer,
    Farewell,
}

/// The state of the wire thread.
pub(crate) struct Wire {
    world: World,
    everybody: Arc<Membership>,
    timeout: Duration,
    outbox: RefCell<Outbox>,
    watch: Watch,
    questions: Receiver<Question>,
    shared: Arc<Shared>,
}

/// What the wire is given to do, until the other ends are dropped.
pub(crate) struct Inbox {
    pub(crate) jobs: Receiver<Job>,
    pub(crate) questions: Receiver<Question>,
}

/// The wire thread: starts MPI, reports through `ready`, works until the other end of the jobs is dropped, finalises MPI.
pub(crate) fn run(
    timeout: Duration,
    shared: Arc<Shared>,
    Inbox { jobs, questions }: Inbox,
    ready: &SyncSender<Result<Arc<Membership>, CommError>>,
) {
    let (mut wire, universe) = match start(timeout, shared, questions) {
        Ok(started) => started,
        Err(error) => {
            let _ = ready.send(Err(error));
            return;
        }
    };
    let greeted = wire.greet().map(|()| wire.everybody.clone());
    let _ = ready.send(greeted);
    let mut quiet = Instant::now();
    loop {
        match jobs.recv_timeout(wire.nap(quiet.elapsed())) {
            Ok(job) => {
                job(&mut wire);
                wire.obey_abort();
                quiet = Instant::now();
            }
            Err(RecvTimeoutError::Timeout) => wire.idle(),
            Err(RecvTimeoutError::Disconnected) => break,
        }
    }
    // Finalising waits for all ranks, so it comes only after all ranks have said goodbye; else MPI is left as it is.
    if wire.leave().is_ok() {
        drop(ManuallyDrop::into_inner(universe));
    }
}

/// Starts MPI on this thread.
fn start(
    timeout: Duration,
    shared: Arc<Shared>,
    questions: Receiver<Question>,
) -> Result<(Wire, ManuallyDrop<Universe>), CommError> {
    let cannot = |found: &str| CommError::Start { found: found.to_owned() };
    let (universe, threading) = mpi::initialize_with_threading(Threading::Funneled)
        .ok_or_else(|| cannot("it was started before in this process, expected one group per process"))?;
    // Never finalised by accident (a panic, an early return): see `run`.
    let universe = ManuallyDrop::new(universe);
    if threading < Threading::Funneled {
        return Err(cannot("this MPI library offers no thread support, expected at least MPI_THREAD_FUNNELED"));
    }
    let world = World::open(&universe).map_err(|failure| cannot(&format!("{}: {}", failure.call, failure.message)))?;
    let everybody = Arc::new(Membership::world(world.rank, world.size));
    Ok((Wire { world, everybody, timeout, outbox: RefCell::default(), watch: Watch::new(), questions, shared }, universe))
}

impl Wire {
    /// Learns who the other ranks are.
    fn greet(&mut self) -> Result<(), CommError> {
        let own = serde_json::to_vec(&Identity::own()).unwrap_or_default();
        let name = "sirocco/roster";
        let request = Request { name, elements: own.len(), width: 1, ..Request::default() };
        let call = Call::new(&self.everybody, Operation::AllGather, request, &self.shared.record);
        let cards = self.all_gather(call, own)?;
        let mut identities = Vec::with_capacity(cards.len());
        for (rank, card) in cards.iter().enumerate() {
            let found = "an introduction that cannot be read".to_owned();
            let collective = Collective { name: name.to_owned(), group: WORLD.to_owned(), sequence: 0, message: None };
            let garbled = CommError::Garbled { rank, found, expected: "host and process".to_owned(), collective };
            identities.push(serde_json::from_slice(card).map_err(|_| garbled)?);
        }
        self.shared.roster.get_or_init(|| Roster::new(self.world.rank, identities));
        Ok(())
    }

    /// Delivers what is still on its way out and says goodbye to the other ranks.
    fn leave(&mut self) -> Result<(), CommError> {
        let request = Request { name: "sirocco/leave", ..Request::default() };
        let call = Call::new(&self.everybody, Operation::Leave, request, &self.shared.record);
        self.enter(call, |wire, call| {
            wire.deliver(call)?;
            wire.roll_call(call, None)?;
            wire.clear_away();
            Ok((Some(0), ()))
        })
    }

    /// One collective or message: notes how it goes, and keeps and reports its error. `body` gives the result and, once it has
    /// ended, the bytes.
    fn enter<T>(
        &mut self,
        mut call: Call,
        body: impl FnOnce(&Wire, &Call) -> Result<(Option<usize>, T), Trouble>,
    ) -> Result<T, CommError> {
        let record = &self.shared.record;
        if let Some(error) = self.shared.broken.get() {
            record.failed(call.event);
            return Err(error.clone());
        }
        call.started = Instant::now();
        record.entered(call.event);
        match body(self, &call) {
            Ok((bytes, result)) => {
                if let Some(bytes) = bytes {
                    record.done(call.event, bytes as u64);
                }
                self.watch.ended(call);
                Ok(result)
            }
            Err(trouble) => {
                record.failed(call.event);
                Err(self.break_off(trouble))
            }
        }
    }

    /// Ends everything that comes with this error, if it is the first; tells the other ranks unless they know. Returns the first.
    fn break_off(&self, trouble: Trouble) -> CommError {
        if !trouble.told {
            self.report(&trouble.error);
        }
        self.shared.broken.get_or_init(|| *trouble.error).clone()
    }

    /// Ends the job if somebody asked for it.
    fn obey_abort(&self) {
        let code = self.shared.abort.load(Ordering::Acquire);
        if code != NO_ABORT {
            self.world.abort(i32::try_from(code).unwrap_or(1));
        }
    }
}
