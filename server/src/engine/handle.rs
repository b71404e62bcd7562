//! The side of the engine that HTTP handlers hold: places in the queue, submission, the order to stop.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::mpsc;
use std::time::Instant;

use sirocco_tokens::Tokenizer;
use tokio::sync::mpsc::{UnboundedReceiver, unbounded_channel};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, oneshot};

use super::worker::Worker;
use super::{EngineError, Event, Job, LanguageModel, Plan};

/// How many requests the engine takes.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Limits {
    /// Sequences advanced in turn.
    pub(crate) running: usize,
    /// Requests that wait for their turn.
    pub(crate) waiting: usize,
}

/// What the engine's thread works with.
pub(crate) struct Models {
    /// One for each served name, in the order of the names.
    pub(crate) networks: Vec<Box<dyn LanguageModel>>,
    /// Tokens that end an answer.
    pub(crate) end_tokens: Vec<u32>,
}

/// Hands work to the engine's thread. Clones share the thread, which ends when the last of them is dropped.
#[derive(Clone)]
pub(crate) struct Engine {
    jobs: mpsc::Sender<Job>,
    places: Arc<Semaphore>,
    limits: Limits,
    stopping: Arc<AtomicBool>,
    submitted: Arc<AtomicU64>,
    salt: u64,
}

/// An accepted request: its id and its events. Dropping it cancels the sequence.
#[derive(Debug)]
pub(crate) struct Ticket {
    /// Unique among the requests of this server.
    pub(crate) id: String,
    /// Ends with [`Event::Finished`] or [`Event::Failed`].
    pub(crate) events: UnboundedReceiver<Event>,
}

/// One of the engine's places, to run or to wait. It is taken before any work for a request, and dropping it frees it.
#[derive(Debug)]
pub(crate) struct Place(#[expect(dead_code, reason = "what counts is that it is held")] OwnedSemaphorePermit);

/// Why a request was not accepted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Busy {
    /// Every place in the queue is taken.
    Full,
    /// The engine's thread has ended.
    Gone,
}

/// A started engine and the news of its thread.
pub(crate) struct Started {
    /// For submitting work.
    pub(crate) engine: Engine,
    /// Whether the models could be loaded.
    pub(crate) loaded: oneshot::Receiver<Result<(), EngineError>>,
    /// Resolves when the thread ends: with an error if it panicked.
    pub(crate) ended: oneshot::Receiver<()>,
}

impl Engine {
    /// Starts the engine's thread, which calls `load` there, since what it returns need not leave that thread.
    pub(crate) fn start(
        tokenizer: Arc<Tokenizer>,
        limits: Limits,
        load: impl FnOnce() -> Result<Models, EngineError> + Send + 'static,
    ) -> std::io::Result<Started> {
        let (jobs, queue) = mpsc::channel();
        let (report, loaded) = oneshot::channel();
        let stopping = Arc::new(AtomicBool::new(false));
        let orders = Arc::clone(&stopping);
        let (alive, ended) = oneshot::channel();
        std::thread::Builder::new().name("engine".to_owned()).spawn(move || {
            let models = match load() {
                Ok(models) => models,
                Err(error) => {
                    // Nobody listens only when the program is ending anyway.
                    let _ = report.send(Err(error));
                    return;
                }
            };
            let _ = report.send(Ok(()));
            Worker::new(&models, &tokenizer, limits.running, &orders).run(&queue);
            let _ = alive.send(());
        })?;
        let engine = Engine {
            jobs,
            places: Arc::new(Semaphore::new(limits.running + limits.waiting)),
            limits,
            stopping,
            submitted: Arc::new(AtomicU64::new(0)),
            salt: salt(),
        };
        Ok(Started { engine, loaded, ended })
    }

    /// Takes a place, if one is free.
    pub(crate) fn admit(&self) -> Result<Place, Busy> {
        Arc::clone(&self.places).try_acquire_owned().map(Place).map_err(|_| Busy::Full)
    }

    /// Queues `plan` at `place`; `prefix` begins its id, such as `chatcmpl`.
    pub(crate) fn submit(&self, prefix: &str, plan: Plan, place: Place) -> Result<Ticket, Busy> {
        let number = self.submitted.fetch_add(1, Ordering::Relaxed);
        let id = format!("{prefix}-{:016x}{number:08x}", self.salt);
        let (events, receiver) = unbounded_channel();
        let job = Job { id: id.clone(), plan, events, arrived: Instant::now(), _place: place };
        self.jobs.send(job).map_err(|_| Busy::Gone)?;
        Ok(Ticket { id, events: receiver })
    }

    /// Requests that are received, wait or run.
    pub(crate) fn active(&self) -> usize {
        (self.limits.running + self.limits.waiting).saturating_sub(self.places.available_permits())
    }

    /// Ends every sequence at its next step with [`Event::Failed`].
    pub(crate) fn abort(&self) {
        self.stopping.store(true, Ordering::Relaxed);
    }

    /// Whether [`Engine::abort`] has been called.
    #[cfg(test)]
    pub(crate) fn is_aborted(&self) -> bool {
        self.stopping.load(Ordering::Relaxed)
    }
}

/// Tells apart the ids of two runs of the server.
fn salt() -> u64 {
    use std::hash::{BuildHasher, Hasher};
    std::collections::hash_map::RandomState::new().build_hasher().finish()
}
