//! One running request: its prompt is read in chunks, then it grows by one token at each step.

use sirocco_tokens::Tokenizer;
use tracing::info;

use super::handle::Models;
use super::sampler::{Sampler, score};
use super::transcript::Transcript;
use super::{Context, EngineError, Event, FinishReason, Job, Rows, Usage};

/// Tokens of a prompt that are read in one step. It does not depend on the load, so neither do the numbers.
const PROMPT_CHUNK: usize = 256;

/// A request that has its turns.
pub(crate) struct Sequence<'a> {
    job: Job,
    context: Box<dyn Context + 'a>,
    end_tokens: &'a [u32],
    transcript: Transcript<'a>,
    sampler: Sampler,
    read: usize,
    generated: usize,
    last: u32,
}

/// Whether a sequence needs more turns.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Progress {
    /// It does.
    Going,
    /// The end has been sent.
    Done,
}

impl<'a> Sequence<'a> {
    /// A sequence whose prompt is yet to be read into `context`.
    pub(crate) fn new(job: Job, context: Box<dyn Context + 'a>, models: &'a Models, tokenizer: &'a Tokenizer) -> Sequence<'a> {
        let plan = &job.plan;
        let mut transcript = Transcript::new(tokenizer, plan.stop.clone(), plan.logprobs.is_some());
        if !plan.echo {
            transcript.skip(&plan.prompt);
        }
        let sampler = Sampler::new(plan.sampling.clone());
        Sequence { job, context, end_tokens: &models.end_tokens, transcript, sampler, read: 0, generated: 0, last: 0 }
    }

    /// The request.
    pub(crate) fn job(&self) -> &Job {
        &self.job
    }

    /// Whether the next step reads a chunk of the prompt.
    pub(crate) fn is_reading_prompt(&self) -> bool {
        self.read < self.job.plan.prompt.len()
    }

    /// Reads a chunk of the prompt or generates a token.
    pub(crate) fn step(&mut self) -> Result<Progress, EngineError> {
        if self.is_reading_prompt() {
            return self.read_chunk();
        }
        let logits = self.context.extend(&[self.last], Rows::Last)?;
        self.generate(&logits)
    }

    fn read_chunk(&mut self) -> Result<Progress, EngineError> {
        let plan = &self.job.plan;
        let end = (self.read + PROMPT_CHUNK).min(plan.prompt.len());
        let chunk = &plan.prompt[self.read..end];
        let scored = plan.logprobs.filter(|_| plan.echo);
        let rows = if scored.is_some() { Rows::All } else { Rows::Last };
        let logits = self.context.extend(chunk, rows)?;
        let vocabulary = if scored.is_some() { logits.len() / chunk.len() } else { logits.len() };

        if plan.echo {
            if self.read == 0 {
                self.transcript.prompt(plan.prompt[0], None);
            }
            // Row i of the chunk is about the token after it; the last row of the prompt is about the first new token.
            for (row, next) in (self.read + 1..=end).filter(|&at| at < plan.prompt.len()).enumerate() {
                let id = plan.prompt[next];
                let score = match scored {
                    Some(count) => Some(score(&logits[row * vocabulary..(row + 1) * vocabulary], id, count)?),
                    None => None,
                };
                self.transcript.prompt(id, score);
            }
            if let Some(piece) = self.transcript.take() {
                self.job.send(Event::Piece(piece));
            }
        }
        self.read = end;
        if self.is_reading_prompt() {
            return Ok(Progress::Going);
        }
        if plan.max_tokens == 0 {
            return Ok(self.finish(FinishReason::Length));
        }
        self.generate(&logits[logits.len() - vocabulary..])
    }

    /// The next token from `logits` [V].
    fn generate(&mut self, logits: &[f32]) -> Result<Progress, EngineError> {
        let id = self.sampler.choose(logits)?;
        self.last = id;
        self.generated += 1;
        if self.end_tokens.contains(&id) {
            return Ok(self.finish(FinishReason::Stop));
        }
        let score = match self.job.plan.logprobs {
            Some(count) => Some(score(logits, id, count)?),
            None => None,
        };
        self.transcript.answer(id, score);
        if self.transcript.stopped() {
            return Ok(self.finish(FinishReason::Stop));
        }
        if self.generated == self.job.plan.max_tokens {
            return Ok(self.finish(FinishReason::Length));
        }
        if let Some(piece) = self.transcript.take() {
            self.job.send(Event::Piece(piece));
        }
        Ok(Progress::Going)
    }

    fn finish(&mut self, reason: FinishReason) -> Progress {
        self.transcript.finish();
        if let Some(piece) = self.transcript.take() {
            self.job.send(Event::Piece(piece));
        }
        let usage = Usage { prompt: self.job.plan.prompt.len(), completion: self.generated };
        info!(
            request = self.job.id(),
            prompt_tokens = usage.prompt,
            completion_tokens = usage.completion,
            reason = reason.as_str(),
            seconds = self.job.arrived.elapsed().as_secs_f64(),
            "finished"
        );
        self.job.send(Event::Finished { reason, usage });
        Progress::Done
    }
}
