//! Packing: which documents share a sequence. A document is never split, so some room stays free.

use crate::error::TokensError;
use crate::permutation::Permutation;
use std::collections::BTreeMap;

/// Puts documents of these lengths into sequences of at most `sequence_length` tokens: best fit, longest documents first, ties in
/// an order that the seed shuffles. Deterministic; each document is in exactly one sequence.
///
/// # Errors
/// A document is empty or longer than a sequence.
pub fn pack(lengths: &[usize], sequence_length: usize, seed: u64) -> Result<Vec<Vec<usize>>, TokensError> {
    check(lengths, sequence_length)?;
    let shuffle = Permutation::new(seed, u64::MAX, lengths.len() as u64);
    let mut documents: Vec<usize> = (0..lengths.len()).map(|place| shuffle.at(place as u64) as usize).collect();
    documents.sort_by_key(|document| std::cmp::Reverse(lengths[*document])); // stable: ties keep the shuffled order
    let mut sequences: Vec<Vec<usize>> = Vec::new();
    let mut by_room: BTreeMap<usize, Vec<usize>> = BTreeMap::new(); // free tokens -> sequences
    for document in documents {
        let length = lengths[document];
        let fitting = by_room.range(length..).next().map(|(room, _)| *room);
        let (room, sequence) = match fitting.and_then(|room| Some((room, take(&mut by_room, room)?))) {
            Some(found) => found,
            None => {
                sequences.push(Vec::new());
                (sequence_length, sequences.len() - 1)
            }
        };
        sequences[sequence].push(document);
        if room > length {
            by_room.entry(room - length).or_default().push(sequence);
        }
    }
    Ok(sequences)
}

/// Without packing: each document is a sequence of its own, in the order given.
///
/// # Errors
/// A document is empty or longer than a sequence.
pub fn one_per_sequence(lengths: &[usize], sequence_length: usize) -> Result<Vec<Vec<usize>>, TokensError> {
    check(lengths, sequence_length)?;
    Ok((0..lengths.len()).map(|document| vec![document]).collect())
}

/// Takes one sequence with exactly this much room.
fn take(by_room: &mut BTreeMap<usize, Vec<usize>>, room: usize) -> Option<usize> {
    let sequences = by_room.get_mut(&room)?;
    let sequence = sequences.pop();
    if sequences.is_empty() {
        by_room.remove(&room);
    }
    sequence
}

fn check(lengths: &[usize], sequence_length: usize) -> Result<(), TokensError> {
    match lengths.iter().position(|length| *length == 0 || *length > sequence_length) {
        None => Ok(()),
        Some(document) => Err(TokensError::Length {
            what: format!("the length of document {document}"),
            found: lengths[document],
            expected: format!("1 to {sequence_length} tokens (sequence_length)"),
        }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn golden_and_seeded() {
        let lengths = [5, 5, 5, 5, 3, 3, 2, 8, 1];
        assert_eq!(pack(&lengths, 8, 1).unwrap(), [vec![7], vec![1], vec![0, 6, 8], vec![3, 4], vec![2, 5]]);
        assert_ne!(pack(&lengths, 8, 1).unwrap(), pack(&lengths, 8, 2).unwrap());
        assert_eq!(pack(&[], 8, 1).unwrap(), Vec::<Vec<usize>>::new());
        assert_eq!(one_per_sequence(&[3, 2], 8).unwrap(), [[0], [1]]);
    }

    #[test]
    fn what_cannot_fit_is_named() {
        let words = pack(&[3, 9], 8, 1).unwrap_err().to_string();
        assert_eq!(words, "the length of document 1 is 9; expected 1 to 8 tokens (sequence_length)");
        assert!(one_per_sequence(&[0], 8).is_err());
    }

    proptest! {
        #[test]
        fn each_document_once_and_no_sequence_too_long(lengths in proptest::collection::vec(1usize..65, 0..300), seed: u64) {
            let sequences = pack(&lengths, 64, seed).unwrap();
            let size = |sequence: &Vec<usize>| sequence.iter().map(|d| lengths[*d]).sum::<usize>();
            prop_assert!(sequences.iter().all(|sequence| (1..=64).contains(&size(sequence))));
            let mut documents = sequences.concat();
            documents.sort_unstable();
            prop_assert!(documents.into_iter().eq(0..lengths.len()));
            // Best fit leaves at most one sequence half empty.
            prop_assert!(sequences.iter().filter(|sequence| size(sequence) <= 32).count() <= 1);
        }
    }
}
