//! What a sequence shows: tokens become text, never half a character, and never a part of a stop string.

use std::collections::VecDeque;

use sirocco_tokens::{DecodeStream, Tokenizer};

use super::sampler::Score;
use super::stop::StopBuffer;

/// Tokens of the prompt that the text decoder sees before the answer, so that a first space or the end of a split
/// character comes out as it would in the whole text.
const LEAD: usize = 16;

/// Text that may be shown and the tokens that begin in it.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Piece {
    /// The text.
    pub(crate) text: String,
    /// Its tokens; a token without a score has no log probability (the first of all).
    pub(crate) tokens: Vec<TokenScore>,
}

/// A token of the transcript.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct TokenScore {
    /// Its text alone; control tokens as they are written.
    pub(crate) text: String,
    /// Characters of the shown text before it.
    pub(crate) offset: usize,
    /// Its log probability.
    pub(crate) logprob: Option<f64>,
    /// The most probable tokens in its place with their log probabilities, best first.
    pub(crate) top: Vec<(String, f64)>,
}

/// The text of one sequence as it grows.
pub(crate) struct Transcript<'a> {
    tokenizer: &'a Tokenizer,
    with_tokens: bool,
    decoder: DecodeStream<'a>,
    stop: StopBuffer,
    /// Characters that the decoder has given so far.
    decoded: usize,
    /// Characters released so far.
    released: usize,
    text: String,
    tokens: VecDeque<TokenScore>,
}

impl<'a> Transcript<'a> {
    /// An empty transcript that ends at any of `stop`; without `with_tokens` its pieces have text only.
    pub(crate) fn new(tokenizer: &'a Tokenizer, stop: Vec<String>, with_tokens: bool) -> Transcript<'a> {
        Transcript {
            tokenizer,
            with_tokens,
            decoder: tokenizer.decode_stream(),
            stop: StopBuffer::new(stop),
            decoded: 0,
            released: 0,
            text: String::new(),
            tokens: VecDeque::new(),
        }
    }

    /// Lets the decoder know the end of a prompt that is not shown.
    pub(crate) fn skip(&mut self, prompt: &[u32]) {
        for &id in &prompt[prompt.len().saturating_sub(LEAD)..] {
            self.decoder.push(id);
        }
    }

    /// Adds a token of the prompt, where stop strings do not count.
    pub(crate) fn prompt(&mut self, id: u32, score: Option<Score>) {
        self.note(id, score);
        if let Some(text) = self.decoder.push(id) {
            let count = text.chars().count();
            self.decoded += count;
            self.released += count;
            self.text.push_str(&text);
        }
    }

    /// Adds a token of the answer.
    pub(crate) fn answer(&mut self, id: u32, score: Option<Score>) {
        self.note(id, score);
        if let Some(text) = self.decoder.push(id) {
            self.decoded += text.chars().count();
            let shown = self.stop.push(&text);
            self.release(&shown);
        }
    }

    /// Whether a stop string was found.
    pub(crate) fn stopped(&self) -> bool {
        self.stop.stopped()
    }

    /// Releases what was held back, for nothing follows.
    pub(crate) fn finish(&mut self) {
        // A character that was never completed may still complete a stop string's beginning, so it takes the same way.
        let last = self.decoder.finish().unwrap_or_default();
        let shown = self.stop.push(&last);
        self.release(&shown);
        let rest = self.stop.finish();
        self.release(&rest);
        if self.stopped() {
            // Tokens of the stop string are not part of the answer.
            self.tokens.retain(|token| token.offset < self.released);
        } else {
            self.released = usize::MAX;
        }
    }

    /// What may be shown since the last call, if there is anything.
    pub(crate) fn take(&mut self) -> Option<Piece> {
        let ready = self.tokens.iter().take_while(|token| token.offset < self.released).count();
        if self.text.is_empty() && ready == 0 {
            return None;
        }
        Some(Piece { text: std::mem::take(&mut self.text), tokens: self.tokens.drain(..ready).collect() })
    }

    fn release(&mut self, text: &str) {
        self.released += text.chars().count();
        self.text.push_str(text);
    }

    /// Remembers a token that begins where the decoded text ends.
    fn note(&mut self, id: u32, score: Option<Score>) {
        if !self.with_tokens {
            return;
        }
        let logprob = score.as_ref().map(|score| score.logprob);
        let best = score.map(|score| score.top).unwrap_or_default();
        let top = best.into_iter().map(|(id, logprob)| (self.token_text(id), logprob)).collect();
        self.tokens.push_back(TokenScore { text: self.token_text(id), offset: self.decoded, logprob, top });
    }

    fn token_text(&self, id: u32) -> String {
        self.tokenizer.decode_control(&[id])
    }
}
