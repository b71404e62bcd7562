//! What a group has under way on the device, in order: how far each has come, what it counts for, what went wrong first.

use std::{
    collections::VecDeque,
    sync::{Arc, Condvar, Mutex, MutexGuard, OnceLock, PoisonError},
    time::{Duration, Instant},
};

use super::{Failure, bounds::Standing};
use crate::{
    Collective, CommError, DeadPeer,
    job::Job,
    record::{Asked, EventId},
    standing::Wait,
};

/// An operation that began longer ago than this waits for the other ranks, as far as a trace is concerned.
const WAITS_AFTER: Duration = Duration::from_millis(200);

/// What is asked of one operation.
pub(super) trait Progress: Send {
    /// Whether the device has come to it: what was queued before it is done.
    fn begun(&self) -> Result<bool, Failure>;
    /// Whether it is done.
    fn done(&self) -> Result<bool, Failure>;
    /// Seconds on the device from beginning to end; asked when it is done.
    fn seconds(&self) -> f64;
}

/// One operation under way.
struct Entry {
    asked: Asked,
    event: EventId,
    progress: Box<dyn Progress>,
    /// When it was first seen as the oldest.
    oldest: Option<Instant>,
    /// When it was first seen to have begun.
    begun: Option<Instant>,
    /// Whether the record says whom it waits for.
    waits: bool,
}

/// What the watch and the group's callers share. What ends is counted in the job's record, beside the host's collectives.
pub(super) struct Shared {
    group: &'static str,
    /// The other ranks, as they count in the job.
    others: Vec<usize>,
    job: Arc<dyn Job>,
    line: Mutex<Line>,
    wake: Condvar,
    broken: OnceLock<CommError>,
}

#[derive(Default)]
struct Line {
    entries: VecDeque<Entry>,
    /// The operation that NCCL is being given.
    calling: Option<Asked>,
    /// When the group was dropped.
    closed: Option<Instant>,
    /// Nobody looks any more.
    over: bool,
}

/// The name and number of an operation.
pub(super) fn collective(asked: &Asked) -> Collective {
    Collective { name: asked.name.to_owned(), group: asked.group.to_owned(), sequence: asked.sequence, message: None }
}

impl Shared {
    pub(super) fn new(group: &'static str, others: Vec<usize>, job: Arc<dyn Job>) -> Self {
        Shared { group, others, job, line: Mutex::default(), wake: Condvar::new(), broken: OnceLock::new() }
    }

    fn line(&self) -> MutexGuard<'_, Line> {
        self.line.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The first error, if there was one.
    pub(super) fn health(&self) -> Result<(), CommError> {
        self.broken.get().map_or(Ok(()), |error| Err(error.clone()))
    }

    /// Keeps an error if it is the first; returns the first.
    pub(super) fn fail(&self, error: CommError) -> CommError {
        self.broken.get_or_init(|| error).clone()
    }

    /// An operation is about to be given to NCCL, which may have to wait for other ranks.
    pub(super) fn begin(&self, asked: Asked) -> EventId {
        let event = self.job.record().submit(asked);
        self.line().calling = Some(asked);
        self.wake.notify_all();
        event
    }

    /// NCCL has taken it: gives it to the watch.
    pub(super) fn add(&self, asked: Asked, event: EventId, progress: Box<dyn Progress>) {
        let mut line = self.line();
        line.calling = None;
        if line.over {
            self.job.record().failed(event);
            return;
        }
        line.entries.push_back(Entry { asked, event, progress, oldest: None, begun: None, waits: false });
        self.wake.notify_all();
    }

    /// NCCL has not taken it.
    pub(super) fn refuse(&self, event: EventId) {
        self.line().calling = None;
        self.job.record().failed(event);
    }

    /// The group is dropped.
    pub(super) fn close(&self) {
        self.line().closed.get_or_insert_with(Instant::now);
        self.wake.notify_all();
    }

    /// Waits until something is under way; `false` when nothing will be any more.
    pub(super) fn wait_for_work(&self) -> bool {
        let none = |line: &Line| line.entries.is_empty() && line.calling.is_none();
        let idle = |line: &mut Line| none(line) && line.closed.is_none();
        let line = self.wake.wait_while(self.line(), idle).unwrap_or_else(PoisonError::into_inner);
        !none(&line)
    }

    /// Counts what has ended and checks how long the oldest of the rest has been at it: it and what is wrong with it.
    pub(super) fn look(&self, timeout: Duration) -> Result<(), Box<(Asked, Failure)>> {
        let record = self.job.record();
        let mut line = self.line();
        let line = &mut *line;
        while let Some(front) = line.entries.front_mut() {
            let named = |failure: Failure| Box::new((front.asked, failure));
            let oldest = *front.oldest.get_or_insert_with(Instant::now);
            if front.begun.is_none() && front.progress.begun().map_err(named)? {
                front.begun = Some(Instant::now());
                record.entered(front.event);
            }
            if front.progress.done().map_err(named)? {
                record.done_on_device(front.event, front.progress.seconds());
                line.entries.pop_front();
                continue;
            }
            if !front.waits && front.begun.is_some_and(|begun| begun.elapsed() >= WAITS_AFTER) {
                record.waits_for(front.event, &self.others);
                front.waits = true;
            }
            let standing = Standing { closed: line.closed, oldest, begun: front.begun };
            return standing.overdue(timeout).map_or(Ok(()), |failure| Err(named(failure)));
        }
        Ok(())
    }

    /// A failure as the error of an operation. Where it has waited in vain, the ranks are asked whom it waits for.
    pub(super) fn error(&self, asked: &Asked, failure: Failure) -> CommError {
        let Some(waited) = failure.waited else { return failure.in_collective(collective(asked)) };
        let with = |more: &str| {
            let message = format!("{}; {more}", failure.message);
            Failure { message, ..failure.clone() }.in_collective(collective(asked))
        };
        let entered = with("every rank of the group has entered it, and NCCL does not tell which one does not get on");
        let unknown = with("NCCL does not tell which rank it waits for, and no rank could be asked");
        let wait = Wait { collective: collective(asked), seconds: waited.as_secs_f64(), missing: self.others.clone() };
        self.job.blame(wait, entered).unwrap_or(unknown)
    }

    /// An error if the collectives of the host have ended (the ranks that they lost will not come to the device's either) or a rank has
    /// died. In this order: ranks that have ended after an error are dead, too.
    pub(super) fn losses(&self) -> Result<(), CommError> {
        if let Some(error) = self.job.broken() {
            return Err(error);
        }
        if let Some(DeadPeer { peer, .. }) = self.job.dead_peers().into_iter().next() {
            return Err(CommError::RankDied { rank: peer.rank, host: peer.host, pid: peer.pid, collective: self.front() });
        }
        Ok(())
    }

    /// The oldest operation under way.
    pub(super) fn front(&self) -> Collective {
        let none = || Collective { name: "nothing".to_owned(), group: self.group.to_owned(), sequence: 0, message: None };
        let line = self.line();
        line.entries.front().map(|entry| &entry.asked).or(line.calling.as_ref()).map_or_else(none, collective)
    }

    /// Nothing that is under way will end well, and nothing new comes after an error.
    pub(super) fn give_up(&self) {
        let mut line = self.line();
        line.over = true;
        for entry in line.entries.drain(..) {
            self.job.record().failed(entry.event);
        }
    }
}
