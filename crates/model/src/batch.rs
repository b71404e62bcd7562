//! What the network is fed: token ids of several documents in one flat list.

use crate::ModelError;

/// Where the documents of a flat batch begin and end. Documents never see each other, and each starts at position 0.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Documents {
    /// Cumulative: document `i` holds tokens `offsets[i]..offsets[i + 1]`.
    offsets: Vec<usize>,
}

impl Documents {
    /// Takes cumulative offsets: first 0, rising, last T.
    ///
    /// # Errors
    /// If they are not that.
    pub fn new(offsets: &[i64], tokens: usize) -> Result<Self, ModelError> {
        let rising = offsets.windows(2).all(|pair| pair[0] < pair[1]);
        if offsets.first() != Some(&0) || offsets.last() != Some(&(tokens as i64)) || !rising {
            let problem = format!("document offsets {offsets:?}, expected numbers rising from 0 to {tokens}");
            return Err(ModelError::Batch { tokens, problem });
        }
        Ok(Self { offsets: offsets.iter().map(|&offset| offset as usize).collect() })
    }

    /// One document of `tokens` tokens.
    pub fn single(tokens: usize) -> Self {
        Self { offsets: vec![0, tokens] }
    }

    /// T.
    pub fn tokens(&self) -> usize {
        self.offsets.last().copied().unwrap_or(0)
    }

    /// Start and length of each document.
    pub fn iter(&self) -> impl Iterator<Item = (usize, usize)> + '_ {
        self.offsets.windows(2).map(|pair| (pair[0], pair[1] - pair[0]))
    }

    /// Length of the longest document.
    pub fn longest(&self) -> usize {
        self.iter().map(|(_, length)| length).max().unwrap_or(0)
    }
}

/// One micro-batch: the token ids of several documents, and which next token each position is to predict.
#[derive(Debug, Clone)]
pub struct Batch {
    /// Token ids, `[T]`.
    pub ids: Vec<i64>,
    /// `[T]`: the id to be predicted at each position, or -1 where no loss is taken.
    pub targets: Vec<i64>,
    /// Where documents begin and end.
    pub documents: Documents,
}

impl Batch {
    /// Puts a batch together and checks every id against the vocabulary.
    ///
    /// # Errors
    /// Lists of different lengths, offsets that do not cover them, an id outside the vocabulary, no tokens.
    pub fn new(ids: Vec<i64>, targets: Vec<i64>, offsets: &[i64], vocabulary: i64) -> Result<Self, ModelError> {
        let tokens = ids.len();
        if targets.len() != tokens || tokens == 0 {
            return Err(ModelError::Batch { tokens, problem: format!("{} targets", targets.len()) });
        }
        let outside = |&(_, &id): &(usize, &i64)| id < 0 || id >= vocabulary;
        if let Some((position, &id)) = ids.iter().enumerate().find(outside) {
            return Err(ModelError::TokenId { id, position, vocabulary });
        }
        if let Some((position, &id)) = targets.iter().enumerate().find(|&(_, &id)| id < -1 || id >= vocabulary) {
            return Err(ModelError::TokenId { id, position, vocabulary });
        }
        Ok(Self { documents: Documents::new(offsets, tokens)?, ids, targets })
    }

    /// How many positions count towards the loss.
    pub fn target_count(&self) -> usize {
        self.targets.iter().filter(|&&target| target >= 0).count()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn offsets_that_do_not_cover_the_tokens_are_refused() {
        for offsets in [&[0, 2][..], &[1, 3], &[0, 2, 2, 3], &[0, 3, 2], &[]] {
            assert!(Batch::new(vec![1, 2, 3], vec![2, 3, -1], offsets, 10).is_err(), "{offsets:?}");
        }
        assert!(Batch::new(vec![1, 2, 3], vec![2, 3, -1], &[0, 1, 3], 10).is_ok());
    }

    #[test]
    fn an_id_outside_the_vocabulary_is_named() {
        let error = Batch::new(vec![1, 10], vec![2, -1], &[0, 2], 10).unwrap_err().to_string();
        assert_eq!(error, "token id 10 at position 1 is outside the vocabulary of 10");
    }
}
