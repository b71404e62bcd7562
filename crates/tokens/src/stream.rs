//! Decoding one token at a time, for a streamed answer: never half a character.

use crate::tokenizer::Tokenizer;

/// Most tokens that are held back. A character has at most four bytes, so after this many the bytes are no character at all.
const MOST_HELD: usize = 8;

/// Turns tokens into text as they come; see [`Tokenizer::decode_stream`]. The pieces joined are the text of all the tokens.
#[derive(Debug)]
pub struct DecodeStream<'a> {
    tokenizer: &'a Tokenizer,
    /// Tokens that were emitted last (`..emitted`), as context for spacing, and those held back.
    ids: Vec<u32>,
    emitted: usize,
}

impl<'a> DecodeStream<'a> {
    pub(crate) fn new(tokenizer: &'a Tokenizer) -> DecodeStream<'a> {
        DecodeStream { tokenizer, ids: Vec::new(), emitted: 0 }
    }

    /// Takes a token and gives the text that is now certain; `None` while a character is unfinished, and for control tokens.
    pub fn push(&mut self, id: u32) -> Option<String> {
        // What has no text is left out, as when all tokens are decoded together; it must not take the place of the context.
        if self.tokenizer.is_control(id) || id as usize >= self.tokenizer.vocab_size() {
            return None;
        }
        self.ids.push(id);
        let unfinished = self.pending().is_none_or(|text| text.is_empty() || text.ends_with('\u{FFFD}'));
        if unfinished && self.ids.len() - self.emitted < MOST_HELD { None } else { self.finish() }
    }

    /// Ends the stream: the text that was held back, its unfinished bytes as U+FFFD.
    pub fn finish(&mut self) -> Option<String> {
        let text = self.pending().unwrap_or_else(|| self.tokenizer.decode(&self.ids[self.emitted..]));
        self.ids.drain(..self.emitted);
        self.emitted = self.ids.len();
        (!text.is_empty()).then_some(text)
    }

    /// The text of the tokens held back, as it follows on the emitted ones; `None` where an unfinished character changes even
    /// these, as it does when a tokenizer decodes a run of byte tokens together.
    fn pending(&self) -> Option<String> {
        let before = self.tokenizer.decode(&self.ids[..self.emitted]);
        let all = self.tokenizer.decode(&self.ids);
        all.strip_prefix(before.as_str()).map(str::to_owned)
    }
}
