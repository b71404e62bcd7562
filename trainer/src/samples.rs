//! Greedy answers to the conversations of a data file, beside the file's own.

use std::path::Path;

use serde::Serialize;
use sirocco_corpus::{Conversation, read_chat};
use sirocco_model::{KvCache, Network, Wanted};
use sirocco_tokens::Tokenizer;

use crate::failure::Failure;

/// Longest answer, in tokens.
const LONGEST: usize = 64;

/// One conversation answered.
#[derive(Debug, Serialize)]
pub(crate) struct Sample {
    /// The last message before the answer.
    pub(crate) prompt: String,
    /// What the file answers.
    pub(crate) reference: String,
    /// What the model answers.
    pub(crate) answer: String,
}

/// Answers the first `count` good conversations of a chat file.
pub(crate) fn answer(network: &Network, tokenizer: &Tokenizer, file: &Path, count: usize) -> Result<Vec<Sample>, Failure> {
    let conversations = read_chat(file).map_err(Failure::data)?;
    let good = conversations.filter_map(|record| record.ok()).map(|located| located.value);
    good.take(count).map(|conversation| answer_one(network, tokenizer, conversation)).collect()
}

fn answer_one(network: &Network, tokenizer: &Tokenizer, conversation: Conversation) -> Result<Sample, Failure> {
    let mut messages = conversation.messages;
    let reference = messages.pop().map(|message| message.content).unwrap_or_default();
    let prompt = messages.last().map(|message| message.content.clone()).unwrap_or_default();
    let ids = tokenizer.chat_prompt(&messages).map_err(Failure::data)?;
    // A prompt that fills the context leaves no room for an answer; the evaluation before it still counts.
    let room = network.config().longest_document().saturating_sub(ids.len()).min(LONGEST);
    let mut cache = KvCache::new(network, ids.len() + room);
    let mut answer = Vec::new();
    let mut next = ids;
    while answer.len() < room {
        let logits = network.decode(&next, &mut cache, Wanted::Last).map_err(Failure::model)?;
        let token = logits.argmax(-1, false).int64_value(&[0]) as u32;
        if Some(token) == tokenizer.eos_id() {
            break;
        }
        answer.push(token);
        next = vec![token];
    }
    Ok(Sample { prompt, reference, answer: tokenizer.decode(&answer).trim().to_string() })
}
