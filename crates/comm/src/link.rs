//! The callers' end of the wire, shared by all groups of a process: hands work over, and ends the job when the last of them is gone.

use std::{
    sync::{
        Arc, Mutex, MutexGuard, OnceLock, PoisonError,
        atomic::{AtomicI64, Ordering},
        mpsc::{self, Receiver, Sender},
    },
    thread,
    time::Duration,
};

use crate::{
    CommError, Communicator, DeadPeer, Mpi, Peer, Pending, Place, Solo,
    entry::Operation,
    job::Job,
    membership::Membership,
    peers::Roster,
    record::Record,
    standing::Wait,
    wire::{self, Call, Inbox, NO_ABORT, Question, Request, Shared, Wire},
};

/// How long MPI_Abort may take before the process ends itself.
const ABORT_WITHIN: Duration = Duration::from_secs(5);
/// How long it may take to find out whom a device waits for: the wire may be asking for another one, and silent ranks take their time.
const BLAME_WITHIN: Duration = Duration::from_secs(15);
/// How long finalising may take after all ranks have said goodbye.
const FINALISE_WITHIN: Duration = Duration::from_secs(10);

/// The link to the wire.
pub(crate) struct Link {
    everybody: Arc<Membership>,
    shared: Arc<Shared>,
    timeout: Duration,
    /// `None` only while being dropped. Locked while a call gets its number, so that numbers go in the order of submission.
    jobs: Mutex<Option<Sender<wire::Job>>>,
    /// From the devices to the wire.
    questions: Sender<Question>,
    /// Says (by closing) that the wire has ended.
    ended: Mutex<Receiver<()>>,
}

impl Link {
    /// Starts the wire, which starts MPI and meets the other ranks.
    pub(crate) fn start(timeout: Duration) -> Result<Self, CommError> {
        let (record, roster, broken) = (Record::new(), OnceLock::new(), OnceLock::new());
        let shared = Arc::new(Shared { record, roster, abort: AtomicI64::new(NO_ABORT), broken });
        let ((jobs, for_jobs), (questions, for_questions)) = (mpsc::channel(), mpsc::channel());
        let inbox = Inbox { jobs: for_jobs, questions: for_questions };
        let (ready, started) = mpsc::sync_channel(1);
        let (alive, ended) = mpsc::channel::<()>();
        let for_wire = shared.clone();
        thread::Builder::new()
            .name("comm".to_owned())
            .spawn(move || {
                wire::run(timeout, for_wire, inbox, &ready);
                drop(alive);
            })
            .map_err(|error| CommError::Start { found: format!("no thread for it: {error}") })?;
        // Twice: MPI's own start may take as long as the meeting.
        let everybody = started.recv_timeout(timeout * 2).unwrap_or_else(|_| {
            Err(CommError::Start { found: format!("not all ranks came within {:.0} s", 2.0 * timeout.as_secs_f64()) })
        })?;
        Ok(Link { everybody, shared, timeout, jobs: Mutex::new(Some(jobs)), questions, ended: Mutex::new(ended) })
    }

    /// The group of all ranks.
    pub(crate) fn everybody(&self) -> &Arc<Membership> {
        &self.everybody
    }

    /// Hands `work` to the wire, as the next collective or message of `group`.
    pub(crate) fn submit<T, F>(&self, group: &Arc<Membership>, operation: Operation, request: Request, work: F) -> Pending<T>
    where
        T: Send + 'static,
        F: FnOnce(&mut Wire, Call) -> Result<T, CommError> + Send + 'static,
    {
        let name = request.name;
        let (answer, result) = mpsc::sync_channel(1);
        let jobs = self.jobs();
        let call = Call::new(group, operation, request, &self.shared.record);
        let event = call.event();
        // Neither side minds when the other is gone: a dropped `Pending` wants no result, and a wire that has ended drops the job
        // with its `answer`, which `Pending::wait` reports.
        let job: wire::Job = Box::new(move |wire| {
            let _ = answer.send(work(wire, call));
        });
        if jobs.as_ref().is_none_or(|jobs| jobs.send(job).is_err()) {
            self.shared.record.failed(event);
        }
        Pending::coming(name, result)
    }

    fn roster<T: Default>(&self, read: impl FnOnce(&Roster) -> T) -> T {
        self.shared.roster.get().map(read).unwrap_or_default()
    }

    fn jobs(&self) -> MutexGuard<'_, Option<Sender<wire::Job>>> {
        self.jobs.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Job for Link {
    fn record(&self) -> &Record {
        &self.shared.record
    }

    fn broken(&self) -> Option<CommError> {
        self.shared.broken.get().cloned()
    }

    fn blame(&self, wait: Wait, otherwise: CommError) -> Option<CommError> {
        let (answer, answered) = mpsc::sync_channel(1);
        self.questions.send(Question { wait, otherwise, answer }).ok()?;
        answered.recv_timeout(BLAME_WITHIN).ok()
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
        if let Some(jobs) = &*self.jobs() {
            let _ = jobs.send(Box::new(|_| {}));
        }
        thread::sleep(ABORT_WITHIN);
        std::process::exit(code)
    }

    fn group(self: Arc<Self>, name: &'static str, members: &[usize]) -> Result<Arc<dyn Communicator>, CommError> {
        let membership = Membership::new(name, members, self.everybody.own(), self.everybody.size())?;
        Ok(match members {
            [_] => Arc::new(Solo::within(self, membership)),
            _ => Arc::new(Mpi::within(self, membership)),
        })
    }
}

impl Drop for Link {
    fn drop(&mut self) {
        // The wire finishes what was submitted, says goodbye and ends. It cannot be stopped inside MPI_Finalize, so after a while
        // it is left behind; the end of the process takes it along.
        *self.jobs() = None;
        let ended = self.ended.get_mut().unwrap_or_else(PoisonError::into_inner);
        let _ = ended.recv_timeout(self.timeout + FINALISE_WITHIN);
    }
}
