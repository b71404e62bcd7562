//! What can go wrong between ranks. Errors travel to the other ranks too, so they are plain data.

use serde::{Deserialize, Serialize};

use crate::{
    entry::{Collective, Entry, list},
    standing::Standing,
};

/// Most ranks that a message names.
const SHOWN: usize = 16;

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
    #[error("the ranks disagree on what comes next: {first}, but {second}{}", members(.first, .second))]
    Mismatch {
        /// What the first rank of the group, or the receiver of a message, entered.
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
    #[error(
        "no progress in {collective} {seconds:.1} s after rank {rank} entered it, waiting for rank {}{}: rank {} {}",
        list(&.missing.ranks, SHOWN),
        on(&.missing.hosts),
        .missing.ranks.first().unwrap_or(.rank),
        .missing.standing
    )]
    TimedOut {
        /// The collective that did not end.
        collective: Collective,
        /// The rank that waits in it: the one that noticed, or one that this one waits for in turn.
        rank: usize,
        /// Seconds since that rank entered it.
        seconds: f64,
        /// Whom it waits for.
        missing: Box<Missing>,
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
    /// NCCL or the CUDA driver reported an error.
    #[error("{call} failed in {collective}: {message}")]
    Nccl {
        /// The function.
        call: String,
        /// The library's own text.
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
    /// A message to or from a rank that the group does not have.
    #[error("`{name}` is a message to or from rank {rank}, but the group has {size} ranks")]
    NoSuchRank {
        /// The message's name.
        name: String,
        /// The rank asked for, in the group.
        rank: usize,
        /// The size of the group.
        size: usize,
    },
    /// A group that cannot be.
    #[error("no group `{name}` of ranks {}: {found}; expected rising ranks of the job, this one among them", list(.members, SHOWN))]
    NoSuchGroup {
        /// The group's name.
        name: String,
        /// The ranks asked for.
        members: Vec<usize>,
        /// What is wrong with them.
        found: String,
    },
    /// Parts of a reduction that do not make up the buffer.
    #[error("`{name}` has {parts} parts of {expected} elements in all, but {found} elements for {size} ranks")]
    Parts {
        /// The collective's name.
        name: String,
        /// How many parts were given; there must be one for each rank.
        parts: usize,
        /// Their sum.
        expected: usize,
        /// Elements in the buffer.
        found: usize,
        /// The size of the group.
        size: usize,
    },
    /// A group of one rank receives a message that it has not sent.
    #[error("`{name}` receives from this rank itself, but {found}")]
    NothingSent {
        /// The message's name.
        name: String,
        /// What was there in its place.
        found: String,
    },
    /// The thread that makes the MPI calls has ended.
    #[error("the communication thread ended before `{name}` was done")]
    WireEnded {
        /// The collective that was asked for.
        name: String,
    },
}

/// The ranks that another one waits for and that do not wait themselves.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Missing {
    /// Those ranks.
    pub ranks: Vec<usize>,
    /// Their hosts, each once; none where the job has only one host, or they are not known yet.
    pub hosts: Vec<String>,
    /// What the first of them does instead.
    pub standing: Standing,
}

/// Where ranks are, if that is a question.
fn on(hosts: &[String]) -> String {
    if hosts.is_empty() { String::new() } else { format!(" on {}", list(hosts, SHOWN)) }
}

/// What to add to a mismatch when the ranks mean different groups.
fn members(first: &Entry, second: &Entry) -> String {
    if first.members == second.members {
        return String::new();
    }
    let group = |entry: &Entry| format!("{} has ranks {} on rank {}", entry.collective.group, entry.members.shown, entry.rank);
    format!(" ({}, and {})", group(first), group(second))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::entry::{Fingerprint, Operation};

    fn entry(rank: usize, name: &str, group: &str) -> Entry {
        Entry {
            rank,
            operation: Operation::AllReduceF32,
            collective: Collective { name: name.into(), group: group.into(), sequence: 7, message: None },
            members: Fingerprint::of(&[0, 1]),
            elements: 3,
            parts: Fingerprint::default(),
            root: 0,
        }
    }

    fn mismatch(first: Entry, second: Entry) -> String {
        CommError::Mismatch { first: Box::new(first), second: Box::new(second) }.to_string()
    }

    #[test]
    fn a_mismatch_of_groups_names_their_members() {
        let (first, mut second) = (entry(0, "gradients", "dp"), entry(1, "gradients", "dp"));
        second.members = Fingerprint::of(&[0, 1, 3]);
        let text = mismatch(first, second);
        assert!(text.ends_with("with 3 elements (dp has ranks 0, 1 on rank 0, and dp has ranks 0, 1, 3 on rank 1)"), "{text}");
    }

    #[test]
    fn a_mismatch_names_both_sides() {
        let text = mismatch(entry(0, "gradients", "world"), entry(1, "loss", "world"));
        assert_eq!(
            text,
            "the ranks disagree on what comes next: rank 0 entered all_reduce_f32 `gradients` (collective 7) with 3 elements, \
             but rank 1 entered all_reduce_f32 `loss` (collective 7) with 3 elements"
        );
    }
}
