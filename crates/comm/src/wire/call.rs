//! One collective as a rank entered it, and the errors that can end it.

use std::{
    cell::OnceCell,
    time::{Duration, Instant},
};

use super::{message::cut_name, raw::Failure};
use crate::{Collective, CommError, Entry, Operation};

/// One collective as this rank entered it.
pub(super) struct Call {
    pub(super) name: &'static str,
    pub(super) operation: Operation,
    pub(super) sequence: u64,
    pub(super) elements: u64,
    pub(super) root: usize,
    pub(super) started: Instant,
    /// How long after `started` all ranks were here.
    pub(super) together: OnceCell<Duration>,
}

impl Call {
    pub(super) fn collective(&self) -> Collective {
        Collective { name: self.name.to_owned(), sequence: self.sequence }
    }

    pub(super) fn entry(&self, rank: usize) -> Entry {
        let collective = self.collective();
        Entry { rank, operation: self.operation, collective, elements: self.elements, root: self.root }
    }

    /// Whether another rank's entry fits this one, rank 0's.
    pub(super) fn compare(&self, other: &Entry) -> Option<CommError> {
        let own = self.entry(0);
        let any_length = matches!(self.operation, Operation::AllGather | Operation::Broadcast);
        let same = own.operation == other.operation
            && own.collective.sequence == other.collective.sequence
            && cut_name(&own.collective.name) == cut_name(&other.collective.name)
            && own.root == other.root
            && (any_length || own.elements == other.elements);
        if same {
            return None;
        }
        Some(match (own.operation, other.operation) {
            (Operation::Leave, _) => CommError::Left { rank: 0, waiting: other.rank, collective: other.collective.clone() },
            (_, Operation::Leave) => CommError::Left { rank: other.rank, waiting: 0, collective: own.collective },
            _ => CommError::Mismatch { first: Box::new(own), second: Box::new(other.clone()) },
        })
    }

    pub(super) fn failed(&self, failure: Failure) -> Trouble {
        let Failure { call, message } = failure;
        Trouble::own(CommError::Mpi { call: call.to_owned(), message, collective: self.collective() })
    }

    pub(super) fn garbled(&self, rank: usize, found: &str, expected: &str) -> CommError {
        let (found, expected) = (found.to_owned(), expected.to_owned());
        CommError::Garbled { rank, found, expected, collective: self.collective() }
    }
}

/// An error, and whether the other ranks know of it already.
pub(super) struct Trouble {
    pub(super) error: CommError,
    pub(super) told: bool,
}

impl Trouble {
    pub(super) fn own(error: CommError) -> Self {
        Trouble { error, told: false }
    }

    pub(super) fn told(error: CommError) -> Self {
        Trouble { error, told: true }
    }
}
