//! The thread that watches a group's operations on the device: counts those that end, and ends those that do not.
//!
//! The host only queues work, so an operation that hangs would be noticed nowhere: the next question to the device would hang, too. This
//! thread asks the driver which operations have begun and ended, the communicator for its asynchronous error, and the host's group for
//! dead ranks and for a collective of the host that has failed. At the first trouble it keeps the error, which every later call returns,
//! and aborts the communicator, which frees the device and with it a host that waits for it.

use std::{
    collections::{BTreeMap, VecDeque},
    sync::{Arc, Condvar, Mutex, MutexGuard, OnceLock, PoisonError},
    thread::{self, JoinHandle},
    time::{Duration, Instant},
};

use super::{Failure, bounds::Standing};
use crate::{
    Collective, CommError, DeadPeer, Event, Traffic,
    record::{Asked, EventId, Record},
};

/// Pause between two looks while something is under way.
const PAUSE: Duration = Duration::from_millis(2);
/// How often it is asked who is dead.
const LOOK: Duration = Duration::from_millis(200);
/// What is asked of one operation.
pub(super) trait Progress: Send {
    /// Whether the device has come to it: what was queued before it is done.
    fn begun(&self) -> Result<bool, Failure>;
    /// Whether it is done.
    fn done(&self) -> Result<bool, Failure>;
    /// Seconds on the device from beginning to end; asked when it is done.
    fn seconds(&self) -> f64;
}

/// What is asked of a group.
pub(super) trait Lifeline: Send + Sync {
    /// Called once, on the thread of the watch.
    fn prepare(&self) -> Result<(), Failure>;
    /// The communicator's asynchronous error.
    fn trouble(&self) -> Result<(), Failure>;
    /// A rank that has died.
    fn dead(&self) -> Option<DeadPeer>;
    /// What has ended the collectives of the host: the ranks that they lost will not come to the device's either.
    fn host(&self) -> Result<(), Failure>;
    /// Ends all that is under way.
    fn abort(&self);
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
}

/// What the watch and the group's callers share.
pub(super) struct Shared {
    /// The newest operations, with the times at which the watch saw them begin and end.
    record: Record,
    line: Mutex<Line>,
    wake: Condvar,
    broken: OnceLock<CommError>,
}

#[derive(Default)]
struct Line {
    entries: VecDeque<Entry>,
    /// When the group was dropped.
    closed: Option<Instant>,
    /// Totals by name, with the device's own times.
    totals: BTreeMap<&'static str, Traffic>,
}

/// The name and number of an operation.
pub(super) fn collective(asked: &Asked) -> Collective {
    Collective { name: asked.name.to_owned(), group: asked.group.to_owned(), sequence: asked.sequence, message: None }
}

impl Shared {
    pub(super) fn new() -> Self {
        Shared { record: Record::new(), line: Mutex::default(), wake: Condvar::new(), broken: OnceLock::new() }
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

    /// Gives an operation to the watch.
    pub(super) fn add(&self, asked: Asked, progress: Box<dyn Progress>) {
        let event = self.record.submit(asked);
        self.line().entries.push_back(Entry { asked, event, progress, oldest: None, begun: None });
        self.wake.notify_all();
    }

    pub(super) fn traffic(&self) -> BTreeMap<&'static str, Traffic> {
        self.line().totals.clone()
    }

    pub(super) fn history(&self) -> Vec<Event> {
        self.record.history()
    }

    /// Waits until something is under way; `false` when nothing will be any more.
    fn wait_for_work(&self) -> bool {
        let idle = |line: &mut Line| line.entries.is_empty() && line.closed.is_none();
        let line = self.wake.wait_while(self.line(), idle).unwrap_or_else(PoisonError::into_inner);
        !line.entries.is_empty()
    }

    /// Counts what has ended and checks how long the oldest of the rest has been at it.
    fn look(&self, timeout: Duration) -> Result<(), CommError> {
        let mut line = self.line();
        let line = &mut *line;
        while let Some(front) = line.entries.front_mut() {
            let asked = front.asked;
            let named = |failure: Failure| failure.in_collective(collective(&asked));
            let oldest = *front.oldest.get_or_insert_with(Instant::now);
            if front.begun.is_none() && front.progress.begun().map_err(named)? {
                front.begun = Some(Instant::now());
                self.record.entered(front.event);
            }
            if front.progress.done().map_err(named)? {
                self.record.done(front.event, asked.bytes);
                let total = line.totals.entry(asked.name).or_default();
                total.calls += 1;
                total.bytes += asked.bytes;
                total.seconds += front.progress.seconds();
                line.entries.pop_front();
                continue;
            }
            let standing = Standing { closed: line.closed, oldest, begun: front.begun };
            return standing.overdue(timeout).map_or(Ok(()), |failure| Err(named(failure)));
        }
        Ok(())
    }

    /// The oldest operation under way.
    pub(super) fn front(&self) -> Collective {
        let none = || Collective { name: "nothing".to_owned(), group: String::new(), sequence: 0, message: None };
        self.line().entries.front().map_or_else(none, |entry| collective(&entry.asked))
    }

    /// Nothing that is under way will end well, and nothing new comes after an error.
    fn give_up(&self) {
        for entry in self.line().entries.drain(..) {
            self.record.failed(entry.event);
        }
    }
}

/// The running watch. Dropping it waits until nothing is under way, which ends in any case after a few seconds (see `bounds`).
pub(super) struct Watch {
    shared: Arc<Shared>,
    thread: Option<JoinHandle<()>>,
}

impl Watch {
    pub(super) fn start(shared: Arc<Shared>, group: Arc<dyn Lifeline>, timeout: Duration) -> Result<Self, Failure> {
        let for_thread = shared.clone();
        let builder = thread::Builder::new().name("nccl watch".to_owned());
        let thread = builder.spawn(move || run(&for_thread, group.as_ref(), timeout));
        let thread = thread.map_err(|error| Failure { call: "spawn", message: format!("no thread to watch NCCL: {error}") })?;
        Ok(Watch { shared, thread: Some(thread) })
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        self.shared.line().closed.get_or_insert_with(Instant::now);
        self.shared.wake.notify_all();
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

fn run(shared: &Shared, group: &dyn Lifeline, timeout: Duration) {
    let mut outcome = group.prepare().map_err(|failure| failure.in_collective(shared.front()));
    let mut looked = Instant::now();
    while outcome.is_ok() && shared.wait_for_work() {
        outcome = group.trouble().map_err(|failure| failure.in_collective(shared.front()));
        if outcome.is_ok() && looked.elapsed() >= LOOK {
            outcome = bury(shared, group).and_then(|()| group.host().map_err(|failure| failure.in_collective(shared.front())));
            looked = Instant::now();
        }
        outcome = outcome.and_then(|()| shared.look(timeout));
        thread::sleep(PAUSE);
    }
    if let Err(error) = outcome {
        shared.fail(error);
        group.abort();
        shared.give_up();
    }
}

/// An error if a rank has died.
fn bury(shared: &Shared, group: &dyn Lifeline) -> Result<(), CommError> {
    let Some(DeadPeer { peer, .. }) = group.dead() else { return Ok(()) };
    Err(CommError::RankDied { rank: peer.rank, host: peer.host, pid: peer.pid, collective: shared.front() })
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicBool, Ordering};

    use super::*;
    use crate::{Peer, WhyDead, entry::Operation};

    /// An operation that has begun and is done when it is told so.
    #[derive(Clone, Default)]
    struct Made {
        begun: Arc<AtomicBool>,
        done: Arc<AtomicBool>,
    }

    impl Progress for Made {
        fn begun(&self) -> Result<bool, Failure> {
            Ok(self.begun.load(Ordering::Acquire))
        }
        fn done(&self) -> Result<bool, Failure> {
            Ok(self.done.load(Ordering::Acquire))
        }
        fn seconds(&self) -> f64 {
            0.25
        }
    }

    #[derive(Default)]
    struct Ranks {
        ill: AtomicBool,
        dead: AtomicBool,
        host_failed: AtomicBool,
        aborted: AtomicBool,
    }

    impl Lifeline for Ranks {
        fn prepare(&self) -> Result<(), Failure> {
            Ok(())
        }
        fn trouble(&self) -> Result<(), Failure> {
            let failure = Failure { call: "ncclAllReduce", message: "remote process exited".to_owned() };
            if self.ill.load(Ordering::Acquire) { Err(failure) } else { Ok(()) }
        }
        fn dead(&self) -> Option<DeadPeer> {
            let peer = Peer { rank: 2, host: "node7".to_owned(), pid: 41 };
            self.dead.load(Ordering::Acquire).then_some(DeadPeer { peer, why: WhyDead::Gone })
        }
        fn host(&self) -> Result<(), Failure> {
            let failure = Failure { call: "the host", message: "`step` of world (collective 9) failed here".to_owned() };
            if self.host_failed.load(Ordering::Acquire) { Err(failure) } else { Ok(()) }
        }
        fn abort(&self) {
            self.aborted.store(true, Ordering::Release);
        }
    }

    fn started(timeout: Duration) -> (Arc<Shared>, Arc<Ranks>, Watch) {
        let (shared, ranks) = (Arc::new(Shared::new()), Arc::new(Ranks::default()));
        let watch = Watch::start(shared.clone(), ranks.clone(), timeout).unwrap();
        (shared, ranks, watch)
    }

    fn until(condition: impl Fn() -> bool) {
        let started = Instant::now();
        while !condition() {
            assert!(started.elapsed() < Duration::from_secs(20), "it never came");
            thread::sleep(Duration::from_millis(1));
        }
    }

    fn asked(name: &'static str, sequence: u64, bytes: u64) -> Asked {
        Asked { group: "dp", name, operation: Operation::AllReduceF32, sequence, message: None, bytes }
    }

    const LONG: Duration = Duration::from_secs(60);

    #[test]
    fn what_ends_is_counted_and_the_watch_ends_with_it() {
        let (shared, ranks, watch) = started(LONG);
        let (first, second) = (Made::default(), Made::default());
        shared.add(asked("gradients", 0, 100), Box::new(first.clone()));
        shared.add(asked("gradients", 1, 50), Box::new(second.clone()));
        assert!(shared.history().iter().all(|event| event.done.is_none()));
        for operation in [&first, &second] {
            operation.done.store(true, Ordering::Release);
        }
        drop(watch);
        assert!(shared.history().iter().all(|event| event.done.is_some() && !event.failed));
        let traffic = shared.traffic()["gradients"];
        assert_eq!((traffic.calls, traffic.bytes, traffic.seconds), (2, 150, 0.5));
        assert!(shared.health().is_ok() && !ranks.aborted.load(Ordering::Acquire));
    }

    #[test]
    fn time_counts_from_when_the_device_came_to_it() {
        let (shared, ranks, _watch) = started(Duration::from_millis(400));
        let operation = Made::default();
        shared.add(asked("gather", 7, 1), Box::new(operation.clone()));
        thread::sleep(Duration::from_millis(450));
        assert!(shared.health().is_ok());
        operation.begun.store(true, Ordering::Release);
        until(|| ranks.aborted.load(Ordering::Acquire));
        until(|| shared.history()[0].failed);
        let text = shared.health().unwrap_err().to_string();
        assert!(
            text.starts_with("NCCL failed in `gather` of dp (collective 7): not done 0.") && text.contains("has not entered it"),
            "{text}"
        );
    }

    #[test]
    fn what_the_device_never_comes_to_is_given_up_too() {
        let (shared, ranks, _watch) = started(Duration::from_millis(50));
        shared.add(asked("gather", 7, 1), Box::new(Made::default()));
        until(|| ranks.aborted.load(Ordering::Acquire));
        let text = shared.health().unwrap_err().to_string();
        assert!(text.starts_with("NCCL failed in `gather` of dp (collective 7): not begun on the device after 0."), "{text}");
    }

    #[test]
    fn a_group_that_is_dropped_waits_for_what_is_under_way_for_a_few_seconds_only() {
        for begun in [false, true] {
            let (shared, ranks, watch) = started(LONG);
            let operation = Made::default();
            operation.begun.store(begun, Ordering::Release);
            shared.add(asked("gather", 2, 1), Box::new(operation));
            let dropped = Instant::now();
            drop(watch);
            assert!(ranks.aborted.load(Ordering::Acquire));
            assert!((Duration::from_secs(5)..LONG / 2).contains(&dropped.elapsed()), "{:?}", dropped.elapsed());
            let text = shared.health().unwrap_err().to_string();
            assert!(text.contains("`gather` of dp (collective 2): not done 5.") && text.contains("left the group"), "{text}");
        }
    }

    #[test]
    fn an_asynchronous_error_a_dead_rank_and_a_failed_host_abort() {
        let (shared, ranks, _watch) = started(LONG);
        shared.add(asked("gather", 3, 1), Box::new(Made::default()));
        ranks.ill.store(true, Ordering::Release);
        until(|| ranks.aborted.load(Ordering::Acquire));
        let text = shared.health().unwrap_err().to_string();
        assert_eq!(text, "ncclAllReduce failed in `gather` of dp (collective 3): remote process exited");

        let (shared, ranks, _watch) = started(LONG);
        shared.add(asked("gather", 3, 1), Box::new(Made::default()));
        ranks.dead.store(true, Ordering::Release);
        until(|| ranks.aborted.load(Ordering::Acquire));
        assert!(matches!(shared.health().unwrap_err(), CommError::RankDied { rank: 2, .. }));

        let (hosts, ranks, _watch) = started(LONG);
        hosts.add(asked("gather", 3, 1), Box::new(Made::default()));
        ranks.host_failed.store(true, Ordering::Release);
        until(|| ranks.aborted.load(Ordering::Acquire));
        let text = hosts.health().unwrap_err().to_string();
        assert_eq!(text, "the host failed in `gather` of dp (collective 3): `step` of world (collective 9) failed here");
        // The first error stays.
        let other = CommError::WireEnded { name: "later".to_owned() };
        assert!(matches!(shared.fail(other), CommError::RankDied { .. }));
    }
}
