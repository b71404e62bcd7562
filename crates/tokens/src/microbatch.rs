//! Documents laid end to end: what one forward pass of the model takes.

use crate::document::Document;

/// Documents of one micro-batch as flat lists of T tokens. There is no padding.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct MicroBatch {
    /// Token ids, `[T]`.
    pub ids: Vec<i64>,
    /// Position of each token within its document, `[T]`: 0 at the start of every document.
    pub positions: Vec<i64>,
    /// Where documents start and end, `[documents + 1]`: document i has the tokens `offsets[i]..offsets[i + 1]`.
    pub offsets: Vec<i64>,
    /// `[T]`: what the token at t must predict, `ids[t + 1]`, where that one is a target of the same document; else -1.
    pub targets: Vec<i64>,
}

impl MicroBatch {
    /// How many tokens count in the loss.
    pub fn target_count(&self) -> usize {
        self.targets.iter().filter(|target| **target >= 0).count()
    }

    /// Tokens in all.
    pub fn len(&self) -> usize {
        self.ids.len()
    }

    /// Whether there is no token.
    pub fn is_empty(&self) -> bool {
        self.ids.is_empty()
    }
}

/// Lays documents end to end, in the order given. Empty documents are left out.
pub fn assemble(documents: &[&Document]) -> MicroBatch {
    let mut batch = MicroBatch { offsets: vec![0], ..MicroBatch::default() };
    for document in documents.iter().filter(|document| !document.ids.is_empty()) {
        let start = batch.ids.len();
        batch.ids.extend(document.ids.iter().map(|id| i64::from(*id)));
        batch.positions.extend(0..document.ids.len() as i64);
        batch.targets.resize(batch.ids.len(), -1);
        for span in &document.targets {
            let end = (span.end as usize).min(document.ids.len());
            for token in (span.start as usize).max(1)..end {
                batch.targets[start + token - 1] = i64::from(document.ids[token]);
            }
        }
        batch.offsets.push(batch.ids.len() as i64);
    }
    batch
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn targets_stay_within_their_document() {
        let chat = Document { ids: vec![1, 7, 8, 9, 2, 5], targets: vec![2..5] };
        let text = Document { ids: vec![3, 4, 2], targets: vec![0..3] };
        let batch = assemble(&[&chat, &Document::default(), &text]);
        assert_eq!(batch.ids, [1, 7, 8, 9, 2, 5, 3, 4, 2]);
        assert_eq!(batch.positions, [0, 1, 2, 3, 4, 5, 0, 1, 2]);
        assert_eq!(batch.offsets, [0, 6, 9]);
        assert_eq!(batch.targets, [-1, 8, 9, 2, -1, -1, 4, 2, -1]);
        assert_eq!(batch.target_count(), chat.target_count() + text.target_count());
    }

    #[test]
    fn an_end_token_that_doubles_as_padding_is_learnt() {
        let batch = assemble(&[&Document { ids: vec![2, 2, 2], targets: vec![1..3] }]);
        assert_eq!(batch.targets, [2, 2, -1]);
    }

    proptest! {
        #[test]
        fn every_target_is_the_next_token(lengths in proptest::collection::vec(0usize..9, 0..8), start in 0u32..5, more in 0u32..6) {
            let make = |n: &usize| Document { ids: (0..*n as u32).map(|i| i + 10).collect(), targets: vec![start..start + more] };
            let documents: Vec<Document> = lengths.iter().map(make).collect();
            let batch = assemble(&documents.iter().collect::<Vec<_>>());
            prop_assert_eq!(batch.target_count(), documents.iter().map(Document::target_count).sum::<usize>());
            prop_assert_eq!(*batch.offsets.last().unwrap() as usize, batch.len());
            for t in 0..batch.len() {
                if batch.targets[t] >= 0 {
                    prop_assert_eq!(batch.targets[t], batch.ids[t + 1]);
                    prop_assert_eq!(batch.positions[t] + 1, batch.positions[t + 1]);
                }
            }
        }
    }
}
