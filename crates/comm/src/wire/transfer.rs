//! The payloads that are too large to ride on the roll call.
//!
//! Buffers travel in segments. While one segment is under way the one before it is added up or copied, and because a segment is
//! about as large as a core's own cache, copying it into a message of its own costs little; in return a message owns its memory,
//! so that nothing dangles when a rank dies halfway.

use std::{collections::VecDeque, ops::Range, sync::Arc};

use bytemuck::Pod;

use super::{
    Tag, Wire,
    call::{Call, Trouble},
    patience::Exchange,
    raw::{Receiving, Sending},
    sum::{self, Element},
};

/// Bytes of one message.
const SEGMENT_BYTES: usize = 512 * 1024;
/// Messages of a broadcast or gather that may be under way at once.
const WINDOW: usize = 3;

impl Wire {
    /// The sum over all ranks. Rank i collects and adds up part i of each chunk, in rank order, and sends the sum to all others:
    /// each element is computed once, by one rank, in one order.
    pub(super) fn reduce<E: Element>(&self, call: &Call, mut data: Vec<E>) -> Result<Vec<E>, Trouble> {
        let size = self.world.size;
        let mut chunks = cut(0..data.len(), SEGMENT_BYTES / size_of::<E>() * size);
        let (mut scattered, mut gathered): (Option<Chunk<E>>, Option<Chunk<E>>) = (None, None);
        let mut spare = Vec::new();
        loop {
            // Three chunks are under way: one is being scattered while the one before it is summed and the one before that shared.
            let next = chunks.pop_front().map(|range| self.scatter(call, &data, range, &mut spare)).transpose()?;
            let summed = scattered.take().map(|chunk| self.sum_and_share(call, &mut data, chunk, &mut spare)).transpose()?;
            if let Some(chunk) = gathered.take() {
                self.collect(call, &mut data, chunk, &mut spare)?;
            }
            (scattered, gathered) = (next, summed);
            if scattered.is_none() && gathered.is_none() {
                return Ok(data);
            }
        }
    }

    /// Sends part i of the chunk to rank i, and starts to receive this rank's part from everybody.
    fn scatter<E: Element>(
        &self,
        call: &Call,
        data: &[E],
        range: Range<usize>,
        spare: &mut Spare<E>,
    ) -> Result<Chunk<E>, Trouble> {
        let (rank, size) = (self.world.rank, self.world.size);
        let own = part(&range, rank, size);
        let mut exchange = Exchange { sends: Vec::with_capacity(size), receives: Vec::with_capacity(size) };
        for peer in (0..size).filter(|&peer| peer != rank) {
            exchange.receives.push(self.receive_on(call, take(spare, own.len()), peer, Tag::Scatter)?);
        }
        for peer in (0..size).filter(|&peer| peer != rank) {
            exchange.sends.push(self.send_on(call, Arc::from(&data[part(&range, peer, size)]), peer, Tag::Scatter)?);
        }
        Ok(Chunk { range, exchange })
    }

    /// Adds up this rank's part of the chunk and starts to send the sum to everybody and to receive theirs.
    fn sum_and_share<E: Element>(
        &self,
        call: &Call,
        data: &mut [E],
        mut chunk: Chunk<E>,
        spare: &mut Spare<E>,
    ) -> Result<Chunk<E>, Trouble> {
        let (rank, size) = (self.world.rank, self.world.size);
        let own = part(&chunk.range, rank, size);
        self.wait(call, &mut chunk.exchange)?;
        let mut total: Option<Box<[E]>> = None;
        let mut others = chunk.exchange.receives.drain(..);
        for peer in 0..size {
            let given = if peer == rank {
                let mut copy = take(spare, own.len());
                copy.copy_from_slice(&data[own.clone()]);
                Some(copy)
            } else {
                // In rank order, as `scatter` made them.
                others.next().map(|receive| received(call, receive, own.len())).transpose()?.map(|(_, buffer)| buffer)
            };
            let Some(given) = given else { continue };
            match &mut total {
                Some(total) => {
                    sum::add(total, &given);
                    spare.push(given);
                }
                None => total = Some(given),
            }
        }
        drop(others);
        let total = total.unwrap_or_default();
        data[own].copy_from_slice(&total);
        let shared: Arc<[E]> = Arc::from(&total[..]);
        spare.push(total);
        let mut exchange = Exchange { sends: Vec::with_capacity(size), receives: Vec::with_capacity(size) };
        for peer in (0..size).filter(|&peer| peer != rank) {
            let length = part(&chunk.range, peer, size).len();
            exchange.receives.push(self.receive_on(call, take(spare, length), peer, Tag::Gather)?);
            exchange.sends.push(self.send_on(call, shared.clone(), peer, Tag::Gather)?);
        }
        Ok(Chunk { range: chunk.range, exchange })
    }

    /// Writes the sums of the other ranks' parts into `data`.
    fn collect<E: Element>(&self, call: &Call, data: &mut [E], mut chunk: Chunk<E>, spare: &mut Spare<E>) -> Result<(), Trouble> {
        self.wait(call, &mut chunk.exchange)?;
        for receive in chunk.exchange.receives {
            let range = part(&chunk.range, receive.peer, self.world.size);
            let (_, buffer) = received(call, receive, range.len())?;
            data[range].copy_from_slice(&buffer);
            spare.push(buffer);
        }
        Ok(())
    }

    /// Every rank's bytes; `lengths` by rank, from the roll call.
    pub(super) fn gather(&self, call: &Call, data: Vec<u8>, lengths: &[usize]) -> Result<Vec<Vec<u8>>, Trouble> {
        let rank = self.world.rank;
        let mut parts: Vec<Vec<u8>> = lengths.iter().map(|&length| Vec::with_capacity(length)).collect();
        let mut rounds = cut(0..lengths.iter().copied().max().unwrap_or(0), SEGMENT_BYTES);
        let mut under_way: VecDeque<Chunk<u8>> = VecDeque::new();
        let piece = |range: &Range<usize>, rank: usize| range.start.min(lengths[rank])..range.end.min(lengths[rank]);
        loop {
            while under_way.len() < WINDOW
                && let Some(range) = rounds.pop_front()
            {
                let own: Arc<[u8]> = Arc::from(&data[piece(&range, rank)]);
                let mut exchange = Exchange { sends: Vec::new(), receives: Vec::new() };
                for peer in (0..lengths.len()).filter(|&peer| peer != rank) {
                    let room = piece(&range, peer).len();
                    if room > 0 {
                        exchange.receives.push(self.receive_on(call, zeros(room), peer, Tag::Gather)?);
                    }
                    if !own.is_empty() {
                        exchange.sends.push(self.send_on(call, own.clone(), peer, Tag::Gather)?);
                    }
                }
                under_way.push_back(Chunk { range, exchange });
            }
            let Some(mut chunk) = under_way.pop_front() else { break };
            self.wait(call, &mut chunk.exchange)?;
            for receive in chunk.exchange.receives {
                let length = piece(&chunk.range, receive.peer).len();
                let (peer, bytes) = received(call, receive, length)?;
                parts[peer].extend_from_slice(&bytes);
            }
        }
        parts[rank] = data;
        Ok(parts)
    }

    /// The root's bytes, passed from rank to rank, starting at the root: each link carries them once, all links at the same time.
    pub(super) fn pass_on(&self, call: &Call, data: Vec<u8>, length: usize) -> Result<Vec<u8>, Trouble> {
        let (size, place) = (self.world.size, (self.world.rank + self.world.size - call.root) % self.world.size);
        let (before, after) = ((self.world.rank + size - 1) % size, (self.world.rank + 1) % size);
        let is_root = place == 0;
        let mut bytes = if is_root { data } else { Vec::with_capacity(length) };
        let mut pieces = cut(0..length, SEGMENT_BYTES);
        let mut coming: VecDeque<Receiving<u8>> = VecDeque::new();
        let mut leaving: VecDeque<Sending<u8>> = VecDeque::new();
        for piece in cut(0..length, SEGMENT_BYTES) {
            while !is_root
                && coming.len() < WINDOW
                && let Some(piece) = pieces.pop_front()
            {
                coming.push_back(self.receive_on(call, zeros(piece.len()), before, Tag::Pass)?);
            }
            if let Some(receive) = coming.pop_front() {
                let mut exchange = Exchange { sends: Vec::new(), receives: vec![receive] };
                self.wait(call, &mut exchange)?;
                for receive in exchange.receives {
                    bytes.extend_from_slice(&received(call, receive, piece.len())?.1);
                }
            }
            if place + 1 < size {
                leaving.push_back(self.send_on(call, Arc::from(&bytes[piece]), after, Tag::Pass)?);
            }
            if leaving.len() >= WINDOW {
                self.wait(call, &mut Exchange { sends: leaving.drain(..1).collect(), receives: Vec::new() })?;
            }
        }
        self.wait(call, &mut Exchange { sends: leaving.into(), receives: Vec::new() })?;
        Ok(bytes)
    }

    fn send_on<E: Pod>(&self, call: &Call, data: Arc<[E]>, to: usize, tag: Tag) -> Result<Sending<E>, Trouble> {
        self.world.send(data, to, tag as i32).map_err(|failure| call.failed(failure))
    }

    fn receive_on<E: Pod>(&self, call: &Call, room: Box<[E]>, from: usize, tag: Tag) -> Result<Receiving<E>, Trouble> {
        self.world.receive(room, from, tag as i32).map_err(|failure| call.failed(failure))
    }
}

/// A part of the buffer under way, and its messages.
struct Chunk<E> {
    range: Range<usize>,
    exchange: Exchange<E>,
}

/// Buffers to be used again: fresh memory must be faulted in, which costs more than the copy.
type Spare<E> = Vec<Box<[E]>>;

fn take<E: Element>(spare: &mut Spare<E>, length: usize) -> Box<[E]> {
    match spare.iter().position(|buffer| buffer.len() == length) {
        Some(at) => spare.swap_remove(at),
        None => vec![E::zeroed(); length].into_boxed_slice(),
    }
}

fn zeros(length: usize) -> Box<[u8]> {
    vec![0; length].into_boxed_slice()
}

/// The sender and the elements of a complete message, which must fill its buffer.
fn received<E: Pod>(call: &Call, receive: Receiving<E>, length: usize) -> Result<(usize, Box<[E]>), Trouble> {
    let peer = receive.peer;
    let expected = length * size_of::<E>();
    match receive.take() {
        Some((buffer, bytes)) if bytes == expected && buffer.len() == length => Ok((peer, buffer)),
        other => {
            let found = other.map_or(0, |(_, bytes)| bytes);
            Err(Trouble::own(call.garbled(peer, &format!("{found} bytes"), &format!("{expected} bytes"))))
        }
    }
}

/// `range` in pieces of at most `most` elements.
fn cut(range: Range<usize>, most: usize) -> VecDeque<Range<usize>> {
    let most = most.max(1);
    range.clone().step_by(most).map(|start| start..(start + most).min(range.end)).collect()
}

/// Part `index` of `count` nearly equal parts of `range`.
fn part(range: &Range<usize>, index: usize, count: usize) -> Range<usize> {
    let bound = |index: usize| range.start + range.len() * index / count;
    bound(index)..bound(index + 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_tile_their_range() {
        for (length, count) in [(0, 3), (1, 3), (7, 3), (12, 4)] {
            let parts: Vec<_> = (0..count).map(|index| part(&(5..5 + length), index, count)).collect();
            assert_eq!(parts[0].start, 5);
            assert_eq!(parts[count - 1].end, 5 + length);
            assert!(parts.windows(2).all(|pair| pair[0].end == pair[1].start));
        }
    }

    #[test]
    fn pieces_tile_their_range() {
        assert_eq!(cut(0..7, 3), [0..3, 3..6, 6..7]);
        assert!(cut(0..0, 3).is_empty());
    }
}
