//! Sums of buffers that are too large to ride on the roll call: for all ranks, or each rank its part.
//!
//! The buffer is cut into one part per rank, each part into segments. Round by round rank i collects segment k of part i from all
//! others and adds up in rank order: each element is computed once, by one rank, in one order. While one round is under way the one
//! before it is added up and, where all ranks want the sum, the one before that handed round.

use std::ops::Range;

use super::{
    Tag, Wire,
    buffer::Buffer,
    call::{Call, Trouble},
    raw::Message,
    sum::{Element, add_up},
    transfer::SEGMENT_BYTES,
};

/// One round: the segments that arrive for this rank, by rank, and the messages of all.
struct Round<E: Element> {
    arriving: Vec<Buffer<E>>,
    messages: Vec<Message>,
}

impl Wire {
    /// The sum over all ranks. Segments leave from `data` and arrive there.
    pub(super) fn sum_for_all<E: Element>(&self, call: &Call, data: Vec<E>) -> Result<Vec<E>, Trouble> {
        let parts = Parts::equal::<E>(data.len(), call.group.size());
        let mut data = Buffer::new(data);
        let (mut scattered, mut shared) = (None, None);
        let mut spare = Vec::new();
        for number in 0..parts.rounds() + 2 {
            let next = self.scatter(call, &data, (&parts, number), &mut spare)?;
            let summed = match scattered.take() {
                None => None,
                Some(round) => {
                    let own = parts.piece(number - 1, call.group.rank);
                    let total = data.write(own).ok_or_else(|| call.busy())?;
                    self.add_arriving(call, total, round, &mut spare)?;
                    Some(self.share(call, &mut data, (&parts, number - 1))?)
                }
            };
            if let Some(messages) = shared.take() {
                self.exchange(call, messages)?;
            }
            (scattered, shared) = (next, summed);
        }
        data.into_vec().ok_or_else(|| call.busy())
    }

    /// This rank's part of the sum.
    pub(super) fn sum_of_part<E: Element>(&self, call: &Call, data: Vec<E>) -> Result<Vec<E>, Trouble> {
        let parts = Parts::of::<E>(&call.lengths);
        let data = Buffer::new(data);
        let mut scattered = None;
        let mut spare = Vec::new();
        let mut sums: Vec<E> = Vec::with_capacity(parts.whole(call.group.rank).len());
        for number in 0..=parts.rounds() {
            let next = self.scatter(call, &data, (&parts, number), &mut spare)?;
            if let Some(round) = scattered.take() {
                let own = data.read(parts.piece(number - 1, call.group.rank)).ok_or_else(|| call.busy())?;
                let start = sums.len();
                sums.extend_from_slice(own);
                self.add_arriving(call, &mut sums[start..], round, &mut spare)?;
            }
            scattered = next;
        }
        Ok(sums)
    }

    /// Sends each rank its segment of the round and starts to receive this rank's from everybody; `None` after the last round.
    fn scatter<E: Element>(
        &self,
        call: &Call,
        data: &Buffer<E>,
        (parts, number): (&Parts, usize),
        spare: &mut Vec<Buffer<E>>,
    ) -> Result<Option<Round<E>>, Trouble> {
        if number >= parts.rounds() {
            return Ok(None);
        }
        let own = parts.piece(number, call.group.rank);
        let mut round = Round { arriving: Vec::new(), messages: Vec::new() };
        for peer in call.group.others().filter(|_| !own.is_empty()) {
            // Buffers are used again: fresh memory must be faulted in, which costs more than a copy.
            let mut room = spare.pop().unwrap_or_else(|| Buffer::room(parts.longest(call.group.rank)));
            round.messages.push(self.receive_part(call, &mut room, 0..own.len(), (peer, Tag::Scatter))?);
            round.arriving.push(room);
        }
        for peer in call.group.others() {
            let piece = parts.piece(number, peer);
            if !piece.is_empty() {
                round.messages.push(self.send_part(call, data, piece, (peer, Tag::Scatter))?);
            }
        }
        Ok(Some(round))
    }

    /// Waits for the round and adds up: `total` is this rank's own segment.
    fn add_arriving<E: Element>(
        &self,
        call: &Call,
        total: &mut [E],
        round: Round<E>,
        spare: &mut Vec<Buffer<E>>,
    ) -> Result<(), Trouble> {
        self.exchange(call, round.messages)?;
        let read = |buffer| Buffer::read(buffer, 0..total.len()).ok_or_else(|| call.busy());
        let others = round.arriving.iter().map(read).collect::<Result<Vec<_>, _>>()?;
        // Nothing arrives where this rank's segment is empty.
        add_up(total, call.group.rank.min(others.len()), &others);
        spare.extend(round.arriving);
        Ok(())
    }

    /// Starts to send this rank's segment of the sum to everybody and to receive theirs.
    fn share<E: Element>(
        &self,
        call: &Call,
        data: &mut Buffer<E>,
        (parts, number): (&Parts, usize),
    ) -> Result<Vec<Message>, Trouble> {
        let own = parts.piece(number, call.group.rank);
        let mut messages = Vec::new();
        for peer in call.group.others() {
            let piece = parts.piece(number, peer);
            if !piece.is_empty() {
                messages.push(self.receive_part(call, data, piece, (peer, Tag::Gather))?);
            }
            if !own.is_empty() {
                messages.push(self.send_part(call, data, own.clone(), (peer, Tag::Gather))?);
            }
        }
        Ok(messages)
    }
}

/// A buffer cut into one part per rank, and each part into segments.
pub(super) struct Parts {
    /// Where each part begins, and the end.
    bounds: Vec<usize>,
    /// Elements of a segment.
    segment: usize,
}

impl Parts {
    /// `count` nearly equal parts of `elements` elements.
    fn equal<E>(elements: usize, count: usize) -> Self {
        // Without the product of the two, which may not fit.
        let (each, more) = (elements / count.max(1), elements % count.max(1));
        let bounds = (0..=count).map(|index| index * each + index.min(more)).collect();
        Parts { bounds, segment: (SEGMENT_BYTES / size_of::<E>()).max(1) }
    }

    /// Parts of these lengths.
    pub(super) fn of<E>(lengths: &[usize]) -> Self {
        let mut bounds = vec![0];
        bounds.extend(lengths.iter().scan(0, |end, length| {
            *end += length;
            Some(*end)
        }));
        Parts { bounds, segment: (SEGMENT_BYTES / size_of::<E>()).max(1) }
    }

    /// The part of rank `rank`.
    pub(super) fn whole(&self, rank: usize) -> Range<usize> {
        self.bounds[rank]..self.bounds[rank + 1]
    }

    /// Segment `round` of the part of rank `rank`; empty where the part has fewer.
    fn piece(&self, round: usize, rank: usize) -> Range<usize> {
        let Range { start, end } = self.whole(rank);
        let at = |round: usize| start.saturating_add(round.saturating_mul(self.segment)).min(end);
        at(round)..at(round + 1)
    }

    /// Elements of the longest segment of rank `rank`.
    fn longest(&self, rank: usize) -> usize {
        self.whole(rank).len().min(self.segment)
    }

    /// Segments of the longest part.
    fn rounds(&self) -> usize {
        self.bounds.windows(2).map(|pair| pair[1] - pair[0]).max().unwrap_or(0).div_ceil(self.segment)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn any_parts_are_tiled(lengths in proptest::collection::vec(0..700_000_usize, 1..9)) {
            let parts = Parts::of::<f64>(&lengths);
            let pieces = (0..lengths.len()).flat_map(|rank| (0..parts.rounds()).map(move |round| (round, rank)));
            let next = pieces.map(|(round, rank)| parts.piece(round, rank)).try_fold(0, |next, piece| (piece.start == next).then_some(piece.end));
            prop_assert_eq!(next, Some(lengths.iter().sum()));
        }
    }

    #[test]
    fn segments_tile_the_parts_and_parts_the_buffer() {
        let equal = [(0, 3), (1, 3), (7, 3), (12, 4), (1_000_001, 3)].map(|(length, count)| Parts::equal::<f32>(length, count));
        let given = [&[0, 5, 0][..], &[400_000, 1, 0, 131_072], &[7]].map(Parts::of::<f32>);
        for parts in equal.iter().chain(&given) {
            let count = parts.bounds.len() - 1;
            let mut next = 0;
            for rank in 0..count {
                for round in 0..parts.rounds() {
                    let piece = parts.piece(round, rank);
                    assert!(piece.start == next && piece.len() <= parts.segment);
                    next = piece.end;
                }
                assert_eq!(next, parts.whole(rank).end);
                assert!(parts.piece(parts.rounds(), rank).is_empty());
            }
            assert_eq!(next, parts.bounds[count]);
        }
        let lengths: Vec<_> = (0..4).map(|rank| Parts::equal::<f32>(10, 4).whole(rank).len()).collect();
        assert_eq!(lengths, [3, 3, 2, 2]);
    }
}
