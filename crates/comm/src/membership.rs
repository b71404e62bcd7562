//! A group as a list of ranks of the job, and the numbers that its collectives and messages get.

use std::sync::atomic::{AtomicU64, Ordering};

use crate::{CommError, entry::Fingerprint};

/// The name of the group of all ranks.
pub(crate) const WORLD: &str = "world";

/// Some ranks of the job, as one of them sees them. Inside a group ranks count from 0; `members` says who they are.
#[derive(Debug)]
pub(crate) struct Membership {
    pub(crate) name: &'static str,
    /// Ranks of the job, rising.
    pub(crate) members: Vec<usize>,
    /// This rank in the group.
    pub(crate) rank: usize,
    pub(crate) fingerprint: Fingerprint,
    collectives: AtomicU64,
    /// By rank of the group.
    sent: Vec<AtomicU64>,
    received: Vec<AtomicU64>,
}

impl Membership {
    /// The group `name` of `members` as rank `own` of a job of `size` ranks sees it.
    pub(crate) fn new(name: &'static str, members: &[usize], own: usize, size: usize) -> Result<Self, CommError> {
        let refuse = |found: String| Err(CommError::NoSuchGroup { name: name.to_owned(), members: members.to_vec(), found });
        if members.windows(2).any(|pair| pair[0] >= pair[1]) {
            return refuse("the ranks do not rise".to_owned());
        }
        if members.last().is_some_and(|&last| last >= size) {
            return refuse(format!("the job has {size} ranks"));
        }
        let Ok(rank) = members.binary_search(&own) else {
            return refuse(format!("rank {own} is not among them"));
        };
        Ok(Membership::of(name, members.to_vec(), rank))
    }

    /// The group of all `size` ranks, `own` being this one.
    pub(crate) fn world(own: usize, size: usize) -> Self {
        Membership::of(WORLD, (0..size).collect(), own)
    }

    fn of(name: &'static str, members: Vec<usize>, rank: usize) -> Self {
        let zeros = || members.iter().map(|_| AtomicU64::new(0)).collect();
        let (collectives, sent, received) = (AtomicU64::new(0), zeros(), zeros());
        Membership { name, rank, fingerprint: Fingerprint::of(&members), members, collectives, sent, received }
    }

    pub(crate) fn size(&self) -> usize {
        self.members.len()
    }

    /// This rank in the job.
    pub(crate) fn own(&self) -> usize {
        self.members[self.rank]
    }

    /// The rank in the job of the member that presides over roll calls.
    pub(crate) fn first(&self) -> usize {
        self.members[0]
    }

    /// The ranks of the group but this one, as they count inside the group.
    pub(crate) fn others(&self) -> impl Iterator<Item = usize> + use<> {
        let rank = self.rank;
        (0..self.size()).filter(move |&other| other != rank)
    }

    /// Where rank `world` of the job stands in the group.
    pub(crate) fn position(&self, world: usize) -> Option<usize> {
        self.members.binary_search(&world).ok()
    }

    /// Whether `rank` is one of the group.
    pub(crate) fn check_rank(&self, name: &'static str, rank: usize) -> Result<(), CommError> {
        let size = self.size();
        if rank < size { Ok(()) } else { Err(CommError::NoSuchRank { name: name.to_owned(), rank, size }) }
    }

    /// Whether `lengths` are one part for each rank that make up a buffer of `found` elements.
    pub(crate) fn check_parts(&self, name: &'static str, found: usize, lengths: &[usize]) -> Result<(), CommError> {
        let (parts, size) = (lengths.len(), self.size());
        let expected = lengths.iter().fold(0_usize, |sum, &length| sum.saturating_add(length));
        if parts == size && expected == found {
            return Ok(());
        }
        Err(CommError::Parts { name: name.to_owned(), parts, expected, found, size })
    }

    /// The number of the next collective.
    pub(crate) fn next_collective(&self) -> u64 {
        self.collectives.fetch_add(1, Ordering::Relaxed)
    }

    /// The number of the next message to member `to`.
    pub(crate) fn next_sent(&self, to: usize) -> u64 {
        self.sent[to].fetch_add(1, Ordering::Relaxed)
    }

    /// The number of the next message from member `from`.
    pub(crate) fn next_received(&self, from: usize) -> u64 {
        self.received[from].fetch_add(1, Ordering::Relaxed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_group_counts_its_own_ranks() {
        let group = Membership::new("tp", &[1, 4, 6], 4, 8).unwrap();
        assert_eq!((group.rank, group.size(), group.own(), group.first()), (1, 3, 4, 1));
        assert_eq!((group.position(6), group.position(5)), (Some(2), None));
        assert_eq!(group.others().collect::<Vec<_>>(), [0, 2]);
        assert_eq!((group.next_collective(), group.next_collective(), group.next_sent(2), group.next_received(2)), (0, 1, 0, 0));
    }

    #[test]
    fn groups_that_cannot_be_are_refused_with_the_reason() {
        for (members, reason) in [
            (&[0, 2, 1][..], "the ranks do not rise"),
            (&[1, 1], "the ranks do not rise"),
            (&[1, 4], "the job has 4 ranks"),
            (&[0, 2], "rank 1 is not among them"),
            (&[], "rank 1 is not among them"),
        ] {
            let error = Membership::new("dp", members, 1, 4).unwrap_err().to_string();
            assert!(error.starts_with("no group `dp`") && error.contains(reason), "{error}");
        }
    }
}
