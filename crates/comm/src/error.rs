//! What can go wrong between ranks. Errors travel to the other ranks too, so they are plain data.

use std::fmt;

use serde::{Deserialize, Serialize};

/// The operations that a rank can enter.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Operation {
    /// Sum of `f32` buffers.
    AllReduceF32,
    /// Sum of `f64` buffers.
    AllReduceF64,
    /// Every rank's bytes on every rank.
    AllGather,
    /// One rank's bytes on every rank.
    Broadcast,
    /// Nobody goes on before everybody came.
    Barrier,
    /// The end: the rank dropped its communicator.
    Leave,
}

impl fmt::Display for Operation {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(match self {
            Operation::AllReduceF32 => "all_reduce_f32",
            Operation::AllReduceF64 => "all_reduce_f64",
            Operation::AllGather => "all_gather_bytes",
            Operation::Broadcast => "broadcast_bytes",
            Operation::Barrier => "barrier",
            Operation::Leave => "leave",
        })
    }
}

/// One collective: its name and its number. Every rank counts for itself; number 0 is the meeting at the start.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Collective {
    /// The name that the caller gave.
    pub name: String,
    /// How many collectives this rank had entered before.
    pub sequence: u64,
}

impl fmt::Display for Collective {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "`{}` (collective {})", self.name, self.sequence)
    }
}

/// What one rank entered; two of these that differ make a [`CommError::Mismatch`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Entry {
    /// The rank that entered it.
    pub rank: usize,
    /// What it does.
    pub operation: Operation,
    /// The name and number.
    pub collective: Collective,
    /// Elements in this rank's buffer.
    pub elements: u64,
    /// The rank that broadcasts; 0 for other operations.
    pub root: usize,
}

impl fmt::Display for Entry {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "rank {} entered {} {}", self.rank, self.operation, self.collective)?;
        match self.operation {
            Operation::Broadcast => write!(out, " from rank {}", self.root),
            Operation::Barrier | Operation::Leave => Ok(()),
            _ => write!(out, " with {} elements", self.elements),
        }
    }
}

/// An error between ranks. Once a rank has met one, all its later calls return the same one at once.
#[derive(Debug, Clone, PartialEq, thiserror::Error, Serialize, Deserialize)]
pub enum CommError {
    /// MPI did not start.
    #[error("MPI did not start: {found}")]
    Start {
        /// What was found.
        found: String,
    },
    /// Two ranks entered different collectives where they should have entered the same one.
    #[error("the ranks disagree on what comes next: {first}, but {second}")]
    Mismatch {
        /// What rank 0 entered.
        first: Box<Entry>,
        /// What the other rank entered.
        second: Box<Entry>,
    },
    /// A rank dropped its communicator while another one waited for it.
    #[error("rank {rank} left the group while rank {waiting} was in {collective}")]
    Left {
        /// The rank that left.
        rank: usize,
        /// A rank that waited for it.
        waiting: usize,
        /// What that one waited in.
        collective: Collective,
    },
    /// The process of a rank no longer runs.
    #[error("rank {rank} (process {pid} on {host}) died; noticed in {collective}")]
    RankDied {
        /// The dead rank.
        rank: usize,
        /// Its host.
        host: String,
        /// Its process id there.
        pid: u32,
        /// The collective that waited for it.
        collective: Collective,
    },
    /// Nothing moved for as long as `Options::timeout` allows.
    #[error("no progress in {collective} {seconds:.1} s after entering it, waiting for rank {}", list(.missing))]
    TimedOut {
        /// The collective that did not end.
        collective: Collective,
        /// Seconds since this rank entered it.
        seconds: f64,
        /// The ranks known not to have come, or not to have sent what was expected.
        missing: Vec<usize>,
    },
    /// MPI itself reported an error.
    #[error("{call} failed in {collective}: {message}")]
    Mpi {
        /// The MPI function.
        call: String,
        /// MPI's own text.
        message: String,
        /// The collective in progress.
        collective: Collective,
    },
    /// A message from a rank is not what the protocol says; ranks of different versions would do this.
    #[error("rank {rank} sent {found} in {collective}, expected {expected}")]
    Garbled {
        /// The sender.
        rank: usize,
        /// What came.
        found: String,
        /// What should have come.
        expected: String,
        /// The collective in progress.
        collective: Collective,
    },
    /// A broadcast from a rank that the group does not have.
    #[error("`{name}` broadcasts from rank {root}, but the group has {size} ranks")]
    NoSuchRoot {
        /// The broadcast's name.
        name: String,
        /// The rank asked for.
        root: usize,
        /// The size of the group.
        size: usize,
    },
    /// The thread that makes the MPI calls has ended.
    #[error("the communication thread ended before `{name}` was done")]
    WireEnded {
        /// The collective that was asked for.
        name: String,
    },
}

/// Ranks as people write them: "3", "1, 2, 5", at most sixteen of them.
fn list(ranks: &[usize]) -> String {
    const SHOWN: usize = 16;
    let mut text = ranks.iter().take(SHOWN).map(usize::to_string).collect::<Vec<_>>().join(", ");
    if ranks.len() > SHOWN {
        text.push_str(&format!(" and {} more", ranks.len() - SHOWN));
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mismatch_names_both_sides() {
        let entry = |rank, name: &str| Entry {
            rank,
            operation: Operation::AllReduceF32,
            collective: Collective { name: name.into(), sequence: 7 },
            elements: 3,
            root: 0,
        };
        let text = CommError::Mismatch { first: Box::new(entry(0, "gradients")), second: Box::new(entry(1, "loss")) }.to_string();
        assert_eq!(
            text,
            "the ranks disagree on what comes next: rank 0 entered all_reduce_f32 `gradients` (collective 7) with 3 elements, \
             but rank 1 entered all_reduce_f32 `loss` (collective 7) with 3 elements"
        );
    }

    #[test]
    fn a_long_list_of_ranks_is_cut() {
        assert_eq!(list(&[3]), "3");
        assert_eq!(list(&(0..20).collect::<Vec<_>>()), "0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15 and 4 more");
    }
}
