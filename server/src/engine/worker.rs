//! The engine's thread: takes jobs from the queue and gives every sequence its turn.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::Receiver;

use sirocco_tokens::Tokenizer;
use tracing::{info, warn};

use super::handle::Models;
use super::sequence::{Progress, Sequence};
use super::{EngineError, Event, Job};

/// The state of the engine's thread.
pub(crate) struct Worker<'a> {
    models: &'a Models,
    tokenizer: &'a Tokenizer,
    most_running: usize,
    stopping: &'a AtomicBool,
    waiting: VecDeque<Job>,
    running: Vec<Sequence<'a>>,
}

impl<'a> Worker<'a> {
    /// A worker that advances at most `most_running` sequences in turn, until `stopping` is set.
    pub(crate) fn new(models: &'a Models, tokenizer: &'a Tokenizer, most_running: usize, stopping: &'a AtomicBool) -> Worker<'a> {
        Worker { models, tokenizer, most_running, stopping, waiting: VecDeque::new(), running: Vec::new() }
    }

    /// Works until everybody who could send a job is gone.
    pub(crate) fn run(mut self, queue: &Receiver<Job>) {
        loop {
            if self.waiting.is_empty() && self.running.is_empty() {
                match queue.recv() {
                    Ok(job) => self.waiting.push_back(job),
                    Err(_) => return,
                }
            }
            self.waiting.extend(queue.try_iter());
            // A job whose client has left gives its place back at once, even when it never had its turn.
            self.waiting.retain(|job| !job.is_abandoned());
            if self.stopping.load(Ordering::Relaxed) {
                self.end_all();
            }
            self.admit();
            self.round();
        }
    }

    /// Starts waiting jobs, in the order of their arrival.
    fn admit(&mut self) {
        while self.running.len() < self.most_running {
            let Some(job) = self.waiting.pop_front() else { return };
            let capacity = job.plan.prompt.len() + job.plan.max_tokens;
            match self.models.networks[job.plan.model].context(capacity) {
                Ok(context) => self.running.push(Sequence::new(job, context, self.models, self.tokenizer)),
                Err(error) => job.fail(&error),
            }
        }
    }

    /// One token for every sequence that is being generated, and one chunk of one prompt: a long prompt delays the
    /// others by a chunk, not by its whole length.
    fn round(&mut self) {
        let mut prompt_had_its_turn = false;
        self.running.retain_mut(|sequence| {
            if sequence.job().is_abandoned() {
                info!(request = sequence.job().id(), "cancelled by the client");
                return false;
            }
            if sequence.is_reading_prompt() && std::mem::replace(&mut prompt_had_its_turn, true) {
                return true;
            }
            match sequence.step() {
                Ok(Progress::Going) => true,
                Ok(Progress::Done) => false,
                Err(error) => {
                    sequence.job().fail(&error);
                    false
                }
            }
        });
    }

    fn end_all(&mut self) {
        self.running.drain(..).for_each(|sequence| sequence.job().fail(&EngineError::Stopping));
        self.waiting.drain(..).for_each(|job| job.fail(&EngineError::Stopping));
    }
}

impl Job {
    /// The request's id.
    pub(crate) fn id(&self) -> &str {
        &self.id
    }

    /// Whether nobody reads the events any more.
    pub(crate) fn is_abandoned(&self) -> bool {
        self.events.is_closed()
    }

    /// Sends `event`, unless the client has left, which the next round notices.
    pub(crate) fn send(&self, event: Event) {
        let _ = self.events.send(event);
    }

    fn fail(&self, error: &EngineError) {
        warn!(request = self.id(), %error, "failed");
        self.send(Event::Failed { stopping: matches!(error, EngineError::Stopping), message: error.to_string() });
    }
}
