//! Sums of buffers that are too large to ride on the roll call: for all ranks, or each rank its part.
//!
//! The buffer is cut into one part per rank, each part into segments. Round by round rank i collects segment k of part i from all
//! others and adds up in rank order: each element is computed once, by one rank, in one order. While one round is under way the one
//! before it is added up and, where all ranks want the sum, the one before that handed round.

use std::{ops::Range, sync::Arc};

use super::{
    Tag, Wire,
    call::{Call, Trouble},
    patience::Exchange,
    sum::Element,
    transfer::{Chunk, SEGMENT_BYTES, Spare, received, take},
};

impl Wire {
    /// The sum over all ranks.
    pub(super) fn sum_for_all<E: Element>(&self, call: &Call, mut data: Vec<E>) -> Result<Vec<E>, Trouble> {
        let parts = Parts::equal::<E>(data.len(), call.group.size());
        let (mut scattered, mut shared): (Option<Chunk<E>>, Option<Chunk<E>>) = (None, None);
        let mut spare = Vec::new();
        for round in 0..parts.rounds() + 2 {
            let next = self.scatter(call, &data, (&parts, round), &mut spare)?;
            let summed = match scattered.take() {
                Some(chunk) => {
                    let own = parts.piece(chunk.round, call.group.rank);
                    let round = chunk.round;
                    let total = self.sum_own(call, &data, (&parts, chunk), &mut spare)?;
                    data[own].copy_from_slice(&total);
                    Some(self.share(call, total, (&parts, round), &mut spare)?)
                }
                None => None,
            };
            if let Some(chunk) = shared.take() {
                self.collect(call, &mut data, (&parts, chunk), &mut spare)?;
            }
            (scattered, shared) = (next, summed);
        }
        Ok(data)
    }

    /// This rank's part of the sum.
    pub(super) fn sum_of_part<E: Element>(&self, call: &Call, data: &[E]) -> Result<Vec<E>, Trouble> {
        let parts = Parts::of::<E>(&call.lengths);
        let mut scattered: Option<Chunk<E>> = None;
        let mut spare = Vec::new();
        let mut own = Vec::with_capacity(parts.whole(call.group.rank).len());
        for round in 0..=parts.rounds() {
            let next = self.scatter(call, data, (&parts, round), &mut spare)?;
            if let Some(chunk) = scattered.take() {
                let total = self.sum_own(call, data, (&parts, chunk), &mut spare)?;
                own.extend_from_slice(&total);
                spare.push(total);
            }
            scattered = next;
        }
        Ok(own)
    }

    /// Sends each rank its segment of the round and starts to receive this rank's from everybody; `None` after the last round.
    fn scatter<E: Element>(
        &self,
        call: &Call,
        data: &[E],
        (parts, round): (&Parts, usize),
        spare: &mut Spare<E>,
    ) -> Result<Option<Chunk<E>>, Trouble> {
        if round >= parts.rounds() {
            return Ok(None);
        }
        let own = parts.piece(round, call.group.rank);
        let mut exchange = Exchange { sends: Vec::new(), receives: Vec::new() };
        for peer in call.group.others().filter(|_| !own.is_empty()) {
            exchange.receives.push(self.receive_on(call, take(spare, own.len()), peer, Tag::Scatter)?);
        }
        for peer in call.group.others() {
            let piece = parts.piece(round, peer);
            if !piece.is_empty() {
                exchange.sends.push(self.send_on(call, Arc::from(&data[piece]), peer, Tag::Scatter)?);
            }
        }
        Ok(Some(Chunk { round, exchange }))
    }

    /// Adds up this rank's segment of the round.
    fn sum_own<E: Element>(
        &self,
        call: &Call,
        data: &[E],
        (parts, mut chunk): (&Parts, Chunk<E>),
        spare: &mut Spare<E>,
    ) -> Result<Box<[E]>, Trouble> {
        self.wait(call, &mut chunk.exchange)?;
        let own = parts.piece(chunk.round, call.group.rank);
        // In rank order, as `scatter` made them.
        let take_in = |receive| received(call, receive, own.len()).map(|(_, buffer)| buffer);
        let others = chunk.exchange.receives.into_iter().map(take_in).collect::<Result<Vec<_>, _>>()?;
        let mut given: Vec<&[E]> = others.iter().map(|buffer| &buffer[..]).collect();
        given.insert(call.group.rank.min(given.len()), &data[own.clone()]);
        let mut total = take(spare, own.len());
        E::add_up(&mut total, &given);
        spare.extend(others);
        Ok(total)
    }

    /// Starts to send this rank's segment of the sum to everybody and to receive theirs.
    fn share<E: Element>(
        &self,
        call: &Call,
        total: Box<[E]>,
        (parts, round): (&Parts, usize),
        spare: &mut Spare<E>,
    ) -> Result<Chunk<E>, Trouble> {
        let shared: Arc<[E]> = Arc::from(&total[..]);
        spare.push(total);
        let mut exchange = Exchange { sends: Vec::new(), receives: Vec::new() };
        for peer in call.group.others() {
            let length = parts.piece(round, peer).len();
            if length > 0 {
                exchange.receives.push(self.receive_on(call, take(spare, length), peer, Tag::Gather)?);
            }
            if !shared.is_empty() {
                exchange.sends.push(self.send_on(call, shared.clone(), peer, Tag::Gather)?);
            }
        }
        Ok(Chunk { round, exchange })
    }

    /// Writes the sums of the other ranks' segments into `data`.
    fn collect<E: Element>(
        &self,
        call: &Call,
        data: &mut [E],
        (parts, mut chunk): (&Parts, Chunk<E>),
        spare: &mut Spare<E>,
    ) -> Result<(), Trouble> {
        self.wait(call, &mut chunk.exchange)?;
        for receive in chunk.exchange.receives {
            let piece = parts.piece(chunk.round, call.group.position(receive.peer).unwrap_or_default());
            let (_, buffer) = received(call, receive, piece.len())?;
            data[piece].copy_from_slice(&buffer);
            spare.push(buffer);
        }
        Ok(())
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

    /// Segments of the longest part.
    fn rounds(&self) -> usize {
        self.bounds.windows(2).map(|pair| pair[1] - pair[0]).max().unwrap_or(0).div_ceil(self.segment)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

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
