//! Messages from one rank to another. The sender never waits: what MPI has not yet handed on lies in the outbox, which is looked
//! after whenever the wire waits or has nothing to do.

use std::{
    collections::VecDeque,
    sync::{Arc, OnceLock},
};

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
    entry::Collective,
    record::{EventId, Record},
};

/// Bytes of one piece of a large message.
const PIECE_BYTES: usize = 4 << 20;

/// Why a message will never be delivered, once that is known: what its sender finds out by waiting for it.
pub(crate) type Fate = Arc<OnceLock<CommError>>;

/// Messages on their way out, oldest first.
#[derive(Default)]
pub(super) struct Outbox(VecDeque<Letter>);

/// One message on its way out: its header and its pieces.
struct Letter {
    collective: Collective,
    event: EventId,
    bytes: usize,
    pieces: Vec<Message>,
    fate: Fate,
}

impl Letter {
    /// Whether it is delivered.
    fn poll(&mut self) -> Result<bool, Failure> {
        for piece in &mut self.pieces {
            piece.poll()?;
        }
        self.pieces.retain(|piece| !piece.is_done());
        Ok(self.pieces.is_empty())
    }
}

impl Outbox {
    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Forgets what is delivered.
    ///
    /// # Errors
    /// The first message that MPI has failed to deliver.
    pub(super) fn sweep(&mut self, record: &Record) -> Result<(), Trouble> {
        let mut first = None;
        self.0.retain_mut(|letter| match letter.poll() {
            Ok(delivered) => {
                if delivered {
                    record.done(letter.event, letter.bytes as u64);
                }
                !delivered
            }
            Err(failure) => {
                record.failed(letter.event);
                let error = letter.fate.get_or_init(|| failure.in_collective(letter.collective.clone())).clone();
                first.get_or_insert(error);
                false
            }
        });
        first.map_or(Ok(()), |error| Err(Trouble::own(error)))
    }

    fn receivers(&self) -> Vec<usize> {
        let mut ranks: Vec<usize> = self.0.iter().flat_map(|letter| &letter.pieces).map(|piece| piece.peer).collect();
        ranks.sort_unstable();
        ranks.dedup();
        ranks
    }
}

impl Wire {
    /// Hands `data` to MPI. What becomes of it after that, `fate` says.
    pub(crate) fn send(&mut self, call: Call, data: Vec<u8>, fate: Fate) -> Result<(), CommError> {
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
            outbox.0.push_back(Letter { collective: call.collective(), event: call.event, bytes, pieces, fate });
            outbox.sweep(&wire.shared.record)?;
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
        let left = self.outbox.borrow().0.len();
        self.wait(call, &mut Delivery { wire: self, left })
    }
}

/// Everything in the outbox, waited for. Whoever waits sweeps.
struct Delivery<'a> {
    wire: &'a Wire,
    /// How many messages were left at the last look.
    left: usize,
}

impl Flights for Delivery<'_> {
    fn poll(&mut self, _: &World) -> Result<Found, Failure> {
        let before = std::mem::replace(&mut self.left, self.wire.outbox.borrow().0.len());
        Ok(match self.left {
            0 => Found::Done,
            left if left < before => Found::Moved,
            _ => Found::Still,
        })
    }

    fn missing(&self) -> Vec<usize> {
        self.wire.outbox.borrow().receivers()
    }
}
