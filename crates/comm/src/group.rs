//! The group of all ranks of an MPI job.

use std::{
    collections::BTreeMap,
    sync::{
        Arc, OnceLock,
        atomic::{AtomicI64, Ordering},
        mpsc::{self, Receiver, Sender},
    },
    thread,
    time::Duration,
};

use crate::{
    CommError, Communicator, DeadPeer, Operation, Peer, Pending, Place, Traffic,
    peers::Roster,
    traffic::Meter,
    wire::{self, Job, NO_ABORT, Shared, Wire},
};

/// How long MPI_Abort may take before the process ends itself.
const ABORT_WITHIN: Duration = Duration::from_secs(5);
/// How long finalising may take after all ranks have said goodbye.
const FINALISE_WITHIN: Duration = Duration::from_secs(10);

/// How an MPI group behaves.
#[derive(Debug, Clone, Copy)]
pub struct Options {
    /// How long a collective may stand still before it fails; the start and the end of the group are collectives too. Must be
    /// longer than the longest time that ranks can be apart, say because one of them writes an export alone.
    pub timeout: Duration,
}

impl Default for Options {
    fn default() -> Self {
        Options { timeout: Duration::from_secs(300) }
    }
}

/// All ranks of an MPI job. See the crate's documentation for what it promises, and for what dropping it does.
pub struct Mpi {
    rank: usize,
    size: usize,
    shared: Arc<Shared>,
    timeout: Duration,
    /// `None` only while being dropped.
    jobs: Option<Sender<Job>>,
    /// Says (by closing) that the wire has ended.
    ended: std::sync::Mutex<Receiver<()>>,
}

impl Mpi {
    /// Starts MPI and meets the other ranks. Once per process, on all ranks.
    ///
    /// # Errors
    /// [`CommError::Start`] if MPI cannot be started here; any other if the ranks do not meet.
    pub fn start(options: Options) -> Result<Self, CommError> {
        let Options { timeout } = options;
        let shared = Arc::new(Shared { meter: Meter::default(), roster: OnceLock::new(), abort: AtomicI64::new(NO_ABORT) });
        let (jobs, inbox) = mpsc::channel();
        let (ready, started) = mpsc::sync_channel(1);
        let (alive, ended) = mpsc::channel::<()>();
        let for_wire = shared.clone();
        thread::Builder::new()
            .name("comm".to_owned())
            .spawn(move || {
                wire::run(timeout, for_wire, &inbox, &ready);
                drop(alive);
            })
            .map_err(|error| CommError::Start { found: format!("no thread for it: {error}") })?;
        // Twice: MPI's own start may take as long as the meeting.
        let (rank, size) = started.recv_timeout(timeout * 2).unwrap_or_else(|_| {
            Err(CommError::Start { found: format!("not all ranks came within {:.0} s", 2.0 * timeout.as_secs_f64()) })
        })?;
        Ok(Mpi { rank, size, shared, timeout, jobs: Some(jobs), ended: std::sync::Mutex::new(ended) })
    }

    /// Hands `work` to the wire.
    fn submit<T, F>(&self, name: &'static str, work: F) -> Pending<T>
    where
        T: Send + 'static,
        F: FnOnce(&mut Wire) -> Result<T, CommError> + Send + 'static,
    {
        let (answer, result) = mpsc::sync_channel(1);
        // Neither side minds when the other is gone: a dropped `Pending` wants no result, and a wire that has ended drops the job
        // with its `answer`, which `Pending::wait` reports.
        let job: Job = Box::new(move |wire| {
            let _ = answer.send(work(wire));
        });
        if let Some(jobs) = &self.jobs {
            let _ = jobs.send(job);
        }
        Pending::coming(name, result)
    }

    fn roster<T: Default>(&self, read: impl FnOnce(&Roster) -> T) -> T {
        self.shared.roster.get().map(read).unwrap_or_default()
    }
}

impl Communicator for Mpi {
    fn rank(&self) -> usize {
        self.rank
    }

    fn size(&self) -> usize {
        self.size
    }

    fn all_reduce_f32(&self, name: &'static str, data: Vec<f32>) -> Pending<Vec<f32>> {
        self.submit(name, move |wire| wire.all_reduce(name, Operation::AllReduceF32, data))
    }

    fn all_reduce_f64(&self, name: &'static str, data: Vec<f64>) -> Pending<Vec<f64>> {
        self.submit(name, move |wire| wire.all_reduce(name, Operation::AllReduceF64, data))
    }

    fn all_gather_bytes(&self, name: &'static str, data: Vec<u8>) -> Pending<Vec<Vec<u8>>> {
        self.submit(name, move |wire| wire.all_gather(name, data))
    }

    fn broadcast_bytes(&self, name: &'static str, root: usize, data: Vec<u8>) -> Pending<Vec<u8>> {
        if root >= self.size {
            return Pending::done(name, Err(CommError::NoSuchRoot { name: name.to_owned(), root, size: self.size }));
        }
        self.submit(name, move |wire| wire.broadcast(name, root, data))
    }

    fn barrier(&self, name: &'static str) -> Pending<()> {
        self.submit(name, move |wire| wire.barrier(name))
    }

    fn traffic(&self) -> BTreeMap<&'static str, Traffic> {
        self.shared.meter.read()
    }

    fn place(&self) -> Place {
        self.roster(|roster| Some(roster.place())).unwrap_or(Place { host: String::new(), local_rank: 0, local_size: 1 })
    }

    fn peers(&self) -> Vec<Peer> {
        self.roster(Roster::peers)
    }

    fn dead_peers(&self) -> Vec<DeadPeer> {
        self.roster(Roster::dead)
    }

    fn abort(&self, code: i32) -> ! {
        self.shared.abort.store(i64::from(code), Ordering::Release);
        // A wire at work looks at `abort` by itself; an idle one needs something to wake up for.
        if let Some(jobs) = &self.jobs {
            let _ = jobs.send(Box::new(|_| {}));
        }
        thread::sleep(ABORT_WITHIN);
        std::process::exit(code)
    }
}

impl Drop for Mpi {
    fn drop(&mut self) {
        // The wire finishes what was submitted, says goodbye and ends. It cannot be stopped inside MPI_Finalize, so after a while
        // it is left behind; the end of the process takes it along.
        self.jobs = None;
        let ended = self.ended.get_mut().unwrap_or_else(std::sync::PoisonError::into_inner);
        let _ = ended.recv_timeout(self.timeout + FINALISE_WITHIN);
    }
}
