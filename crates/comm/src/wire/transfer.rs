//! Bytes that are too large to ride on the roll call, gathered or passed on, and what all transfers have in common.
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
    sum::Element,
};

/// Bytes of one message.
pub(super) const SEGMENT_BYTES: usize = 512 * 1024;
/// Messages of a broadcast or gather that may be under way at once.
const WINDOW: usize = 3;

impl Wire {
    /// Every rank's bytes; `lengths` by rank, from the roll call.
    pub(super) fn gather(&self, call: &Call, data: Vec<u8>, lengths: &[usize]) -> Result<Vec<Vec<u8>>, Trouble> {
        let rank = call.group.rank;
        let mut parts: Vec<Vec<u8>> = lengths.iter().map(|&length| Vec::with_capacity(length)).collect();
        let mut rounds = cut(0..lengths.iter().copied().max().unwrap_or(0), SEGMENT_BYTES);
        let mut under_way: VecDeque<(Range<usize>, Exchange<u8>)> = VecDeque::new();
        let piece = |range: &Range<usize>, rank: usize| range.start.min(lengths[rank])..range.end.min(lengths[rank]);
        loop {
            while under_way.len() < WINDOW
                && let Some(range) = rounds.pop_front()
            {
                let own: Arc<[u8]> = Arc::from(&data[piece(&range, rank)]);
                let mut exchange = Exchange { sends: Vec::new(), receives: Vec::new() };
                for peer in call.group.others() {
                    let room = piece(&range, peer).len();
                    if room > 0 {
                        exchange.receives.push(self.receive_on(call, zeros(room), peer, Tag::Gather)?);
                    }
                    if !own.is_empty() {
                        exchange.sends.push(self.send_on(call, own.clone(), peer, Tag::Gather)?);
                    }
                }
                under_way.push_back((range, exchange));
            }
            let Some((range, mut exchange)) = under_way.pop_front() else { break };
            self.wait(call, &mut exchange)?;
            for receive in exchange.receives {
                let peer = call.group.position(receive.peer).unwrap_or_default();
                parts[peer].extend_from_slice(&received(call, receive, piece(&range, peer).len())?.1);
            }
        }
        parts[rank] = data;
        Ok(parts)
    }

    /// The root's bytes, passed from rank to rank, starting at the root: each link carries them once, all links at the same time.
    pub(super) fn pass_on(&self, call: &Call, data: Vec<u8>, length: usize) -> Result<Vec<u8>, Trouble> {
        let (rank, size) = (call.group.rank, call.group.size());
        let place = (rank + size - call.root) % size;
        let (before, after) = ((rank + size - 1) % size, (rank + 1) % size);
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

    /// Sends to member `to` of the call's group.
    pub(super) fn send_on<E: Pod>(&self, call: &Call, data: Arc<[E]>, to: usize, tag: Tag) -> Result<Sending<E>, Trouble> {
        self.world.send(data, call.group.members[to], tag as i32).map_err(|failure| call.failed(failure))
    }

    /// Receives from member `from` of the call's group.
    pub(super) fn receive_on<E: Pod>(&self, call: &Call, room: Box<[E]>, from: usize, tag: Tag) -> Result<Receiving<E>, Trouble> {
        self.world.receive(room, call.group.members[from], tag as i32).map_err(|failure| call.failed(failure))
    }
}

/// One round of a reduction, and its messages.
pub(super) struct Chunk<E> {
    pub(super) round: usize,
    pub(super) exchange: Exchange<E>,
}

/// Buffers to be used again: fresh memory must be faulted in, which costs more than the copy.
pub(super) type Spare<E> = Vec<Box<[E]>>;

pub(super) fn take<E: Element>(spare: &mut Spare<E>, length: usize) -> Box<[E]> {
    match spare.iter().position(|buffer| buffer.len() == length) {
        Some(at) => spare.swap_remove(at),
        None => vec![E::zeroed(); length].into_boxed_slice(),
    }
}

pub(super) fn zeros(length: usize) -> Box<[u8]> {
    vec![0; length].into_boxed_slice()
}

/// The sender (a rank of the job) and the elements of a complete message, which must fill its buffer.
pub(super) fn received<E: Pod>(call: &Call, receive: Receiving<E>, length: usize) -> Result<(usize, Box<[E]>), Trouble> {
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
pub(super) fn cut(range: Range<usize>, most: usize) -> VecDeque<Range<usize>> {
    let most = most.max(1);
    range.clone().step_by(most).map(|start| start..(start + most).min(range.end)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pieces_tile_their_range() {
        assert_eq!(cut(0..7, 3), [0..3, 3..6, 6..7]);
        assert!(cut(0..0, 3).is_empty());
    }
}
