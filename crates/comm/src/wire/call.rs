//! One collective or message as a rank entered it, and the errors that can end it.

use std::{sync::Arc, time::Instant};

use super::{message::same_name, raw::Failure};
use crate::{
    CommError,
    entry::{Collective, Ends, Entry, Fingerprint, Operation},
    membership::{Membership, WORLD},
    record::{Asked, EventId, Record},
};

/// What a caller asks for.
#[derive(Debug, Default)]
pub(crate) struct Request {
    pub(crate) name: &'static str,
    /// Elements of this rank's buffer.
    pub(crate) elements: usize,
    /// Bytes of an element.
    pub(crate) width: usize,
    /// In the group: the rank that broadcasts, or the rank at the other end of a message.
    pub(crate) root: usize,
    /// Elements of each rank's part, where the result is cut in parts.
    pub(crate) lengths: Vec<usize>,
}

/// One collective or message of a group, with its number.
pub(crate) struct Call {
    pub(super) group: Arc<Membership>,
    pub(super) name: &'static str,
    pub(super) operation: Operation,
    pub(super) sequence: u64,
    pub(super) message: Option<Ends>,
    pub(super) elements: u64,
    /// In the group.
    pub(super) root: usize,
    pub(super) lengths: Vec<usize>,
    pub(super) event: EventId,
    /// When the wire came to it.
    pub(super) started: Instant,
}

impl Call {
    /// Takes the group's next number and begins the event.
    pub(crate) fn new(group: &Arc<Membership>, operation: Operation, request: Request, record: &Record) -> Self {
        let Request { name, elements, width, root, lengths } = request;
        let (own, other) = (group.own(), group.members[root]);
        let (sequence, message) = match operation {
            Operation::Send => (group.next_sent(root), Some(Ends { from: own, to: other })),
            Operation::Receive => (group.next_received(root), Some(Ends { from: other, to: own })),
            _ => (group.next_collective(), None),
        };
        let bytes = elements as u64 * width as u64;
        let event = record.submit(Asked { group: group.name, name, operation, sequence, message, bytes, device: false });
        let (group, elements, started) = (group.clone(), elements as u64, Instant::now());
        Call { group, name, operation, sequence, message, elements, root, lengths, event, started }
    }

    /// Its event in the record.
    pub(crate) fn event(&self) -> EventId {
        self.event
    }

    pub(super) fn collective(&self) -> Collective {
        let (name, group) = (self.name.to_owned(), self.group.name.to_owned());
        Collective { name, group, sequence: self.sequence, message: self.message.map(Box::new) }
    }

    /// What this rank entered.
    pub(super) fn entry(&self) -> Entry {
        Entry {
            rank: self.group.own(),
            operation: self.operation,
            collective: self.collective(),
            members: self.group.fingerprint.clone(),
            elements: self.elements,
            parts: if self.lengths.is_empty() { Fingerprint::default() } else { Fingerprint::of(&self.lengths) },
            root: self.group.members[self.root],
        }
    }

    /// Whether another rank's entry fits this one, the presiding rank's.
    pub(super) fn compare(&self, other: &Entry) -> Option<CommError> {
        let own = self.entry();
        let any_length = matches!(self.operation, Operation::AllGather | Operation::Broadcast);
        let same = own.operation == other.operation
            && same_place(&own, other)
            && own.root == other.root
            && own.parts.digest == other.parts.digest
            && (any_length || own.elements == other.elements);
        if same {
            return None;
        }
        Some(match (own.operation, other.operation) {
            (Operation::Leave, _) => self.left(own.rank, other.rank, &other.collective),
            (_, Operation::Leave) => self.left(other.rank, own.rank, &own.collective),
            _ => CommError::Mismatch { first: Box::new(own), second: Box::new(other.clone()) },
        })
    }

    /// Whether what the other end sent is what this one receives.
    pub(super) fn compare_message(&self, sent: &Entry) -> Option<CommError> {
        let own = self.entry();
        let same = sent.operation == Operation::Send && same_place(&own, sent);
        (!same).then(|| CommError::Mismatch { first: Box::new(own), second: Box::new(sent.clone()) })
    }

    fn left(&self, rank: usize, waiting: usize, collective: &Collective) -> CommError {
        CommError::Left { rank, waiting, collective: collective.clone() }
    }

    pub(super) fn failed(&self, failure: Failure) -> Trouble {
        Trouble::own(failure.in_collective(self.collective()))
    }

    /// A part of a buffer is needed that a message still uses.
    pub(super) fn busy(&self) -> Trouble {
        self.failed(Failure { call: "MPI_Test", message: "a part of the buffer is still in use".to_owned() })
    }

    /// `rank` of the job sent something else than the protocol says.
    pub(super) fn garbled(&self, rank: usize, found: &str, expected: &str) -> CommError {
        let (found, expected) = (found.to_owned(), expected.to_owned());
        CommError::Garbled { rank, found, expected, collective: self.collective() }
    }
}

/// What a wire does of its own accord, as errors name it.
pub(super) fn own_business(name: &str) -> Collective {
    Collective { name: name.to_owned(), group: WORLD.to_owned(), sequence: 0, message: None }
}

/// The same name and number in the same group.
fn same_place(one: &Entry, other: &Entry) -> bool {
    one.collective.sequence == other.collective.sequence
        && same_name(&one.collective.name, &other.collective.name)
        && same_name(&one.collective.group, &other.collective.group)
        && one.members.digest == other.members.digest
}

/// An error, and whether the other ranks know of it already.
pub(super) struct Trouble {
    pub(super) error: Box<CommError>,
    pub(super) told: bool,
}

impl Trouble {
    pub(super) fn own(error: CommError) -> Self {
        Trouble { error: Box::new(error), told: false }
    }

    pub(super) fn told(error: CommError) -> Self {
        Trouble { error: Box::new(error), told: true }
    }
}
