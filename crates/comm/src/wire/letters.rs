//! Messages from one rank to another. The sender never waits: what MPI has not yet handed on lies in the outbox, which is looked
//! after whenever the wire waits or has nothing to do.

use std::collections::VecDeque;

use super::{
    Tag, Wire,
    buffer::Buffer,
    call::{Call, Trouble},
    message::{HEADER_MAX, Header, INLINE_MAX},
    patience::{Flights, Found},
    raw::{Failure, Message, World},
    transfer::cut,
};
use crate::{
    CommError,
    record::{EventId, Record},
};

/// Bytes of one piece of a large message.
const PIECE_BYTES: usize = 4 << 20;

/// Messages on their way out, oldest first.
#[derive(Default)]
pub(super) struct Outbox(VecDeque<Letter>);

/// One message on its way out: its header and its pieces.
struct Letter {
    event: EventId,
    bytes: usize,
    pieces: Vec<Message>,
}

impl Outbox {
    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Forgets what is delivered; whether there was any.
    pub(super) fn sweep(&mut self, record: &Record) -> Result<bool, Failure> {
        let before = self.0.len();
        for letter in &mut self.0 {
            for piece in &mut letter.pieces {
                piece.poll()?;
            }
            letter.pieces.retain(|piece| !piece.is_done());
        }
        self.0.retain(|letter| {
            let done = letter.pieces.is_empty();
            if done {
                record.done(letter.event, letter.bytes as u64);
            }
            !done
        });
        Ok(self.0.len() < before)
    }

    fn receivers(&self) -> Vec<usize> {
        let mut ranks: Vec<usize> = self.0.iter().flat_map(|letter| &letter.pieces).map(|piece| piece.peer).collect();
        ranks.sort_unstable();
        ranks.dedup();
        ranks
    }
}

impl Wire {
    /// Hands `data` to MPI.
    pub(crate) fn send(&mut self, call: Call, data: Vec<u8>) -> Result<(), CommError> {
        self.enter(call, |wire, call| {
            let (to, bytes) = (call.root, data.len());
            let (payload, rest) = if bytes <= INLINE_MAX { (Some(data), Vec::new()) } else { (None, data) };
            let header = Buffer::new(Header { entry: call.entry(), payload }.encode());
            let mut pieces = vec![wire.send_part(call, &header, 0..header.len(), (to, Tag::Letter))?];
            let rest = Buffer::new(rest);
            for piece in cut(0..rest.len(), PIECE_BYTES) {
                pieces.push(wire.send_part(call, &rest, piece, (to, Tag::Parcel))?);
            }
            let mut outbox = wire.outbox.borrow_mut();
            outbox.0.push_back(Letter { event: call.event, bytes, pieces });
            outbox.sweep(&wire.shared.record).map_err(|failure| call.failed(failure))?;
            Ok((None, ()))
        })
    }

    /// The next message from the call's root.
    pub(crate) fn receive(&mut self, call: Call) -> Result<Vec<u8>, CommError> {
        self.enter(call, |wire, call| {
            let from = call.group.members[call.root];
            let mut letter = wire.world.expect(HEADER_MAX, from, Tag::Letter).map_err(|failure| call.failed(failure))?;
            wire.wait(call, &mut letter)?;
            wire.shared.record.together(call.event);
            let header = letter.bytes().and_then(|bytes| Header::decode(from, bytes));
            let garbled = || Trouble::own(call.garbled(from, "a message that cannot be read", "a header"));
            let Header { entry, payload } = header.ok_or_else(garbled)?;
            if let Some(error) = call.compare_message(&entry) {
                return Err(Trouble::own(error));
            }
            let data = match payload {
                Some(data) => data,
                None => wire.receive_pieces(call, usize::try_from(entry.elements).unwrap_or(usize::MAX))?,
            };
            Ok((Some(data.len()), data))
        })
    }

    fn receive_pieces(&self, call: &Call, length: usize) -> Result<Vec<u8>, Trouble> {
        let mut data = Buffer::room(length);
        let mut messages = Vec::new();
        for piece in cut(0..length, PIECE_BYTES) {
            messages.push(self.receive_part(call, &mut data, piece, (call.root, Tag::Parcel))?);
        }
        self.exchange(call, messages)?;
        data.into_vec().ok_or_else(|| call.busy())
    }

    /// Waits until everything that was sent is received.
    pub(super) fn deliver(&self, call: &Call) -> Result<(), Trouble> {
        self.wait(call, &mut Delivery(self))
    }
}

/// Everything in the outbox, waited for.
struct Delivery<'a>(&'a Wire);

impl Flights for Delivery<'_> {
    fn poll(&mut self, _: &World) -> Result<Found, Failure> {
        let mut outbox = self.0.outbox.borrow_mut();
        let moved = outbox.sweep(&self.0.shared.record)?;
        Ok(match (outbox.is_empty(), moved) {
            (true, _) => Found::Done,
            (false, true) => Found::Moved,
            (false, false) => Found::Still,
        })
    }

    fn missing(&self) -> Vec<usize> {
        self.0.outbox.borrow().receivers()
    }
}
