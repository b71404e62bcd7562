//! The thread that watches a group's operations on the device: counts those that end, and ends those that do not.
//!
//! The host only queues work, so an operation that hangs would be noticed nowhere: the next question to the device would hang, too. This
//! thread asks the driver which operations have begun and ended, the communicator for its asynchronous error, and the job for dead ranks and
//! for an error that has ended the collectives of the host. At the first trouble it keeps the error, which every later call returns, and
//! aborts the communicator, which frees the device and with it a host that waits for it.

use std::{
    sync::Arc,
    thread::{self, JoinHandle},
    time::{Duration, Instant},
};

use super::{Failure, line::Shared};

/// Pause between two looks while something is under way.
const PAUSE: Duration = Duration::from_millis(2);
/// How often it is asked who is dead.
const LOOK: Duration = Duration::from_millis(200);

/// What is asked of a group's communicator.
pub(super) trait Lifeline: Send + Sync {
    /// Called once, on the thread of the watch.
    fn prepare(&self) -> Result<(), Failure>;
    /// Its asynchronous error.
    fn trouble(&self) -> Result<(), Failure>;
    /// Ends all that is under way.
    fn abort(&self);
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
        let thread = thread.map_err(|error| Failure::new("spawn", format!("no thread to watch NCCL: {error}")))?;
        Ok(Watch { shared, thread: Some(thread) })
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        self.shared.close();
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

fn run(shared: &Shared, group: &dyn Lifeline, timeout: Duration) {
    let at_front = |failure: Failure| failure.in_collective(shared.front());
    let mut outcome = group.prepare().map_err(at_front);
    let mut looked = Instant::now();
    while outcome.is_ok() && shared.wait_for_work() {
        outcome = group.trouble().map_err(at_front);
        if outcome.is_ok() && looked.elapsed() >= LOOK {
            outcome = shared.losses();
            looked = Instant::now();
        }
        outcome = outcome.and_then(|()| {
            shared.look(timeout).map_err(|found| {
                let (asked, failure) = *found;
                shared.error(&asked, failure)
            })
        });
        thread::sleep(PAUSE);
    }
    if let Err(error) = outcome {
        shared.fail(error);
        group.abort();
        shared.give_up();
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicBool, Ordering};

    use std::sync::{Mutex, PoisonError};

    use super::super::line::Progress;
    use super::*;
    use crate::{
        CommError, Communicator, DeadPeer, Event, Peer, Place, WhyDead,
        entry::Operation,
        error::Missing,
        job::Job,
        record::{Asked, Record},
        standing::{Standing, Wait},
    };

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
        aborted: AtomicBool,
    }

    /// A job of ranks 0 to 2, of which this one is 0.
    struct Host {
        record: Record,
        dead: AtomicBool,
        broken: Mutex<Option<CommError>>,
        /// Whether its ranks can be asked; whether all have entered what is waited for.
        answers: (bool, bool),
    }

    impl Host {
        fn new(answers: (bool, bool)) -> Self {
            Host { record: Record::new(), dead: AtomicBool::new(false), broken: Mutex::default(), answers }
        }
    }

    impl Job for Host {
        fn record(&self) -> &Record {
            &self.record
        }
        fn broken(&self) -> Option<CommError> {
            self.broken.lock().unwrap_or_else(PoisonError::into_inner).clone()
        }
        fn blame(&self, wait: Wait, otherwise: CommError) -> Option<CommError> {
            let Wait { collective, seconds, missing } = wait;
            let standing = Standing::Idle { last: None, seconds: 9.0 };
            match self.answers {
                (false, _) => None,
                (true, true) => Some(otherwise),
                (true, false) => {
                    let missing = Box::new(Missing { ranks: missing, hosts: Vec::new(), standing });
                    Some(CommError::TimedOut { collective, rank: 0, seconds, missing })
                }
            }
        }
        fn place(&self) -> Place {
            Place { host: "node7".to_owned(), local_rank: 0, local_size: 3 }
        }
        fn peers(&self) -> Vec<Peer> {
            Vec::new()
        }
        fn dead_peers(&self) -> Vec<DeadPeer> {
            let peer = Peer { rank: 2, host: "node7".to_owned(), pid: 41 };
            self.dead.load(Ordering::Acquire).then_some(DeadPeer { peer, why: WhyDead::Gone }).into_iter().collect()
        }
        fn abort(&self, code: i32) -> ! {
            std::process::exit(code)
        }
        fn group(self: Arc<Self>, _: &'static str, _: &[usize]) -> Result<Arc<dyn Communicator>, CommError> {
            Err(CommError::WireEnded { name: "no groups here".to_owned() })
        }
    }

    impl Lifeline for Ranks {
        fn prepare(&self) -> Result<(), Failure> {
            Ok(())
        }
        fn trouble(&self) -> Result<(), Failure> {
            let failure = Failure::new("ncclAllReduce", "remote process exited".to_owned());
            if self.ill.load(Ordering::Acquire) { Err(failure) } else { Ok(()) }
        }
        fn abort(&self) {
            self.aborted.store(true, Ordering::Release);
        }
    }

    /// A group "dp" of ranks 0 to 2.
    struct Group {
        shared: Arc<Shared>,
        ranks: Arc<Ranks>,
        host: Arc<Host>,
        watch: Watch,
    }

    impl Group {
        fn add(&self, asked: Asked, operation: &Made) {
            let event = self.shared.begin(asked);
            self.shared.add(asked, event, Box::new(operation.clone()));
        }

        fn history(&self) -> Vec<Event> {
            self.host.record.history()
        }

        /// Waits for the end and gives the error.
        fn error(&self) -> String {
            until(|| self.ranks.aborted.load(Ordering::Acquire));
            until(|| self.history()[0].failed);
            self.shared.health().unwrap_err().to_string()
        }
    }

    fn started(timeout: Duration) -> Group {
        with_host(timeout, (true, true))
    }

    fn with_host(timeout: Duration, answers: (bool, bool)) -> Group {
        let (host, ranks) = (Arc::new(Host::new(answers)), Arc::new(Ranks::default()));
        let shared = Arc::new(Shared::new("dp", vec![1, 2], host.clone()));
        let watch = Watch::start(shared.clone(), ranks.clone(), timeout).unwrap();
        Group { shared, ranks, host, watch }
    }

    fn until(condition: impl Fn() -> bool) {
        let started = Instant::now();
        while !condition() {
            assert!(started.elapsed() < Duration::from_secs(20), "it never came");
            thread::sleep(Duration::from_millis(1));
        }
    }

    fn asked(name: &'static str, sequence: u64, bytes: u64) -> Asked {
        Asked { group: "dp", name, operation: Operation::AllReduceF32, sequence, message: None, bytes, device: true }
    }

    const LONG: Duration = Duration::from_secs(60);

    #[test]
    fn what_ends_is_counted_in_the_record_of_the_job_and_the_watch_ends_with_it() {
        let group = started(LONG);
        let (first, second) = (Made::default(), Made::default());
        group.add(asked("gradients", 0, 100), &first);
        group.add(asked("gradients", 1, 50), &second);
        assert!(group.history().iter().all(|event| event.done.is_none() && event.device));
        for operation in [&first, &second] {
            operation.done.store(true, Ordering::Release);
        }
        drop(group.watch);
        let history = group.host.record.history();
        assert!(history.iter().all(|event| event.done.is_some() && !event.failed));
        let traffic = group.host.record.traffic()["dp/gradients"];
        assert_eq!((traffic.calls, traffic.bytes, traffic.seconds), (2, 150, 0.5));
        assert!(group.shared.health().is_ok() && !group.ranks.aborted.load(Ordering::Acquire));
    }

    #[test]
    fn time_counts_from_when_the_device_came_to_it() {
        let group = started(Duration::from_millis(400));
        let operation = Made::default();
        group.add(asked("gather", 7, 1), &operation);
        thread::sleep(Duration::from_millis(450));
        assert!(group.shared.health().is_ok());
        operation.begun.store(true, Ordering::Release);
        until(|| group.history()[0].waits_for == [1, 2]);
        let text = group.error();
        assert!(text.starts_with("NCCL failed in `gather` of dp (collective 7): not done 0."), "{text}");
        let cannot = "every rank of the group has entered it, and NCCL does not tell which one does not get on";
        assert!(text.ends_with(&format!(" s after it began on the device; {cannot}")), "{text}");
    }

    #[test]
    fn the_ranks_that_are_waited_for_are_named_where_they_can_be_asked() {
        let operation = Made { begun: Arc::new(AtomicBool::new(true)), ..Made::default() };
        let group = with_host(Duration::from_millis(50), (true, false));
        group.add(asked("gather", 7, 1), &operation);
        let text = group.error();
        assert!(text.starts_with("no progress in `gather` of dp (collective 7) 0."), "{text}");
        assert!(text.ends_with("waiting for rank 1, 2: rank 1 has entered nothing for 9.0 s"), "{text}");
        let group = with_host(Duration::from_millis(50), (false, false));
        group.add(asked("gather", 7, 1), &operation);
        let text = group.error();
        assert!(text.ends_with("; NCCL does not tell which rank it waits for, and no rank could be asked"), "{text}");
    }

    #[test]
    fn what_the_device_never_comes_to_is_given_up_too() {
        let group = started(Duration::from_millis(50));
        group.add(asked("gather", 7, 1), &Made::default());
        let text = group.error();
        assert!(text.starts_with("NCCL failed in `gather` of dp (collective 7): not begun on the device after 0."), "{text}");
        // What comes too late for the watch does not stay open for ever.
        until(|| {
            group.add(asked("late", 8, 1), &Made::default());
            group.history().iter().all(|event| event.failed)
        });
    }

    #[test]
    fn a_group_that_is_dropped_waits_for_what_is_under_way_for_a_few_seconds_only() {
        for begun in [false, true] {
            let group = started(LONG);
            let operation = Made::default();
            operation.begun.store(begun, Ordering::Release);
            group.add(asked("gather", 2, 1), &operation);
            let dropped = Instant::now();
            drop(group.watch);
            assert!(group.ranks.aborted.load(Ordering::Acquire));
            assert!((Duration::from_secs(5)..LONG / 2).contains(&dropped.elapsed()), "{:?}", dropped.elapsed());
            let text = group.shared.health().unwrap_err().to_string();
            assert!(text.contains("`gather` of dp (collective 2): not done 5.") && text.contains("left the group"), "{text}");
        }
    }

    #[test]
    fn an_asynchronous_error_a_dead_rank_and_a_broken_host_abort() {
        let group = started(LONG);
        group.add(asked("gather", 3, 1), &Made::default());
        group.ranks.ill.store(true, Ordering::Release);
        assert_eq!(group.error(), "ncclAllReduce failed in `gather` of dp (collective 3): remote process exited");

        let group = started(LONG);
        // Also while NCCL is still being given it.
        let event = group.shared.begin(asked("gather", 3, 1));
        group.host.dead.store(true, Ordering::Release);
        until(|| group.ranks.aborted.load(Ordering::Acquire));
        group.shared.refuse(event);
        assert_eq!(group.error(), "rank 2 (process 41 on node7) died; noticed in `gather` of dp (collective 3)");
        // The first error stays.
        let other = CommError::WireEnded { name: "later".to_owned() };
        assert!(matches!(group.shared.fail(other.clone()), CommError::RankDied { .. }));

        let group = started(LONG);
        group.add(asked("gather", 3, 1), &Made::default());
        *group.host.broken.lock().unwrap() = Some(other.clone());
        assert_eq!(group.error(), other.to_string());
    }
}
