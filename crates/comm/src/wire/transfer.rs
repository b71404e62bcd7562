//! Bytes that are too large to ride on the roll call, gathered or passed on, and what all transfers have in common.
//!
//! Buffers travel in segments, straight from the sender's buffer into the receiver's. While one segment is under way the one before it
//! is added up or handed on, and a time-out sees that something moves.

use std::{collections::VecDeque, ops::Range};

use bytemuck::Pod;

use super::{
    Tag, Wire,
    buffer::Buffer,
    call::{Call, Trouble},
    raw::Message,
};

/// Bytes of one message: about as much as a core's own cache holds.
pub(super) const SEGMENT_BYTES: usize = 512 * 1024;
/// Messages of a broadcast or gather that may be under way at once.
const WINDOW: usize = 3;

impl Wire {
    /// Every rank's bytes; `lengths` by rank, from the roll call.
    pub(super) fn gather(&self, call: &Call, data: Vec<u8>, lengths: &[usize]) -> Result<Vec<Vec<u8>>, Trouble> {
        let rank = call.group.rank;
        let room = |(peer, &length): (usize, &usize)| Buffer::room(if peer == rank { 0 } else { length });
        let mut parts: Vec<Buffer<u8>> = lengths.iter().enumerate().map(room).collect();
        parts[rank] = Buffer::new(data);
        let mut rounds = cut(0..lengths.iter().copied().max().unwrap_or(0), SEGMENT_BYTES);
        let mut under_way: VecDeque<Vec<Message>> = VecDeque::new();
        let piece = |range: &Range<usize>, rank: usize| range.start.min(lengths[rank])..range.end.min(lengths[rank]);
        loop {
            while under_way.len() < WINDOW
                && let Some(range) = rounds.pop_front()
            {
                let own = piece(&range, rank);
                let mut messages = Vec::new();
                for peer in call.group.others() {
                    let theirs = piece(&range, peer);
                    if !theirs.is_empty() {
                        messages.push(self.receive_part(call, &mut parts[peer], theirs, (peer, Tag::Gather))?);
                    }
                    if !own.is_empty() {
                        messages.push(self.send_part(call, &parts[rank], own.clone(), (peer, Tag::Gather))?);
                    }
                }
                under_way.push_back(messages);
            }
            let Some(messages) = under_way.pop_front() else { break };
            self.exchange(call, messages)?;
        }
        parts.into_iter().map(|part| part.into_vec().ok_or_else(|| call.busy())).collect()
    }

    /// The root's bytes, passed from rank to rank, starting at the root: each link carries them once, all links at the same time.
    pub(super) fn pass_on(&self, call: &Call, data: Vec<u8>, length: usize) -> Result<Vec<u8>, Trouble> {
        let (rank, size) = (call.group.rank, call.group.size());
        let place = (rank + size - call.root) % size;
        let (before, after) = ((rank + size - 1) % size, (rank + 1) % size);
        let is_root = place == 0;
        let mut bytes = if is_root { Buffer::new(data) } else { Buffer::room(length) };
        let mut pieces = cut(0..length, SEGMENT_BYTES);
        let mut coming: VecDeque<Message> = VecDeque::new();
        let mut leaving: VecDeque<Message> = VecDeque::new();
        for piece in cut(0..length, SEGMENT_BYTES) {
            while !is_root
                && coming.len() < WINDOW
                && let Some(piece) = pieces.pop_front()
            {
                coming.push_back(self.receive_part(call, &mut bytes, piece, (before, Tag::Pass))?);
            }
            if let Some(message) = coming.pop_front() {
                self.exchange(call, vec![message])?;
            }
            if place + 1 < size {
                leaving.push_back(self.send_part(call, &bytes, piece, (after, Tag::Pass))?);
            }
            if leaving.len() >= WINDOW {
                self.exchange(call, leaving.drain(..1).collect())?;
            }
        }
        self.exchange(call, leaving.into())?;
        bytes.into_vec().ok_or_else(|| call.busy())
    }

    /// Starts to send a part of `buffer` to a member of the call's group.
    pub(super) fn send_part<E: Pod>(
        &self,
        call: &Call,
        buffer: &Buffer<E>,
        part: Range<usize>,
        (to, tag): (usize, Tag),
    ) -> Result<Message, Trouble> {
        self.world.send(buffer, part, call.group.members[to], tag).map_err(|failure| call.failed(failure))
    }

    /// Starts to receive a part of `buffer` from a member of the call's group.
    pub(super) fn receive_part<E: Pod>(
        &self,
        call: &Call,
        buffer: &mut Buffer<E>,
        part: Range<usize>,
        (from, tag): (usize, Tag),
    ) -> Result<Message, Trouble> {
        self.world.receive(buffer, part, call.group.members[from], tag).map_err(|failure| call.failed(failure))
    }

    /// Waits for messages; those that arrive must fill their part.
    pub(super) fn exchange(&self, call: &Call, mut messages: Vec<Message>) -> Result<(), Trouble> {
        self.wait(call, &mut messages)?;
        let short = messages.iter().find_map(|message| message.is_short().map(|bytes| (message.peer, bytes)));
        match short {
            None => Ok(()),
            Some((peer, (found, expected))) => {
                Err(Trouble::own(call.garbled(peer, &format!("{found} bytes"), &format!("{expected} bytes"))))
            }
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
