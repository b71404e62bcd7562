//! A document: token ids and the spans of them that are learnt.

use serde::{Deserialize, Serialize};
use std::ops::Range;

/// A chat or a text (or a piece of a text) as tokens. It is never cut further and never sees another document.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Document {
    /// The tokens.
    pub ids: Vec<u32>,
    /// The spans of tokens that are targets, ascending and apart: answers with their end-of-turn token, and nothing else.
    pub targets: Vec<Range<u32>>,
}

impl Document {
    /// How many of its tokens count in the loss. The first token never does: nothing stands before it to predict it from.
    pub fn target_count(&self) -> usize {
        count_targets(&self.targets, self.ids.len() as u32)
    }
}

/// [`Document::target_count`] of a document with these target spans and so many tokens.
pub(crate) fn count_targets(targets: &[Range<u32>], length: u32) -> usize {
    targets.iter().map(|span| span.end.min(length).saturating_sub(span.start.max(1)) as usize).sum()
}
