//! A group of one: every collective is done when it is called, through the same trait.

use std::{
    collections::{BTreeMap, VecDeque},
    sync::{Arc, Mutex, PoisonError},
};

use half::bf16;

use crate::{
    CommError, Communicator, DeadPeer, Event, Peer, Pending, Place, Traffic,
    entry::{Ends, Operation},
    job::{Alone, Job, JobHandle},
    membership::Membership,
    record::Asked,
};

/// The group of one rank: of a process by itself, or a group of one within a job.
pub struct Solo {
    job: Arc<dyn Job>,
    membership: Membership,
    /// What it has sent to itself and not yet received.
    letters: Mutex<VecDeque<(&'static str, Vec<u8>)>>,
}

impl Solo {
    /// A process by itself.
    pub fn new() -> Self {
        let membership = Membership::world(0, 1);
        Solo { job: Arc::new(Alone::new()), membership, letters: Mutex::default() }
    }

    /// The group of this rank within `job`; `membership` has one member.
    pub(crate) fn within(job: Arc<dyn Job>, membership: Membership) -> Self {
        Solo { job, membership, letters: Mutex::default() }
    }

    fn note(&self, name: &'static str, operation: Operation, bytes: usize) {
        let (membership, own) = (&self.membership, self.membership.own());
        let (sequence, message) = match operation {
            Operation::Send => (membership.next_sent(0), Some(Ends { from: own, to: own })),
            Operation::Receive => (membership.next_received(0), Some(Ends { from: own, to: own })),
            _ => (membership.next_collective(), None),
        };
        self.job.record().at_once(Asked {
            group: membership.name,
            name,
            operation,
            sequence,
            message,
            bytes: bytes as u64,
            device: false,
        });
    }

    fn done<T>(&self, name: &'static str, operation: Operation, data: Vec<T>) -> Pending<Vec<T>> {
        self.note(name, operation, size_of_val(data.as_slice()));
        Pending::done(name, Ok(data))
    }

    fn own_part<T>(&self, name: &'static str, operation: Operation, data: Vec<T>, lengths: &[usize]) -> Pending<Vec<T>> {
        match self.membership.check_parts(name, data.len(), lengths) {
            Err(error) => Pending::done(name, Err(error)),
            Ok(()) => self.done(name, operation, data),
        }
    }
}

impl Default for Solo {
    fn default() -> Self {
        Solo::new()
    }
}

impl std::fmt::Debug for Solo {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        out.debug_struct("Solo").field("membership", &self.membership).finish_non_exhaustive()
    }
}

impl Communicator for Solo {
    fn rank(&self) -> usize {
        0
    }

    fn size(&self) -> usize {
        1
    }

    fn members(&self) -> &[usize] {
        &self.membership.members
    }

    fn group(&self, name: &'static str, members: &[usize]) -> Result<Arc<dyn Communicator>, CommError> {
        self.job.clone().group(name, members)
    }

    fn all_reduce_f32(&self, name: &'static str, data: Vec<f32>) -> Pending<Vec<f32>> {
        self.done(name, Operation::AllReduceF32, data)
    }

    fn all_reduce_f64(&self, name: &'static str, data: Vec<f64>) -> Pending<Vec<f64>> {
        self.done(name, Operation::AllReduceF64, data)
    }

    fn reduce_scatter_f32(&self, name: &'static str, data: Vec<f32>, lengths: &[usize]) -> Pending<Vec<f32>> {
        self.own_part(name, Operation::ReduceScatterF32, data, lengths)
    }

    fn reduce_scatter_bf16(&self, name: &'static str, data: Vec<bf16>, lengths: &[usize]) -> Pending<Vec<bf16>> {
        self.own_part(name, Operation::ReduceScatterBf16, data, lengths)
    }

    fn all_gather_bytes(&self, name: &'static str, data: Vec<u8>) -> Pending<Vec<Vec<u8>>> {
        self.note(name, Operation::AllGather, data.len());
        Pending::done(name, Ok(vec![data]))
    }

    fn broadcast_bytes(&self, name: &'static str, root: usize, data: Vec<u8>) -> Pending<Vec<u8>> {
        if root != 0 {
            return Pending::done(name, Err(CommError::NoSuchRoot { name: name.to_owned(), root, size: 1 }));
        }
        self.done(name, Operation::Broadcast, data)
    }

    fn barrier(&self, name: &'static str) -> Pending<()> {
        self.note(name, Operation::Barrier, 0);
        Pending::done(name, Ok(()))
    }

    fn send_bytes(&self, name: &'static str, to: usize, data: Vec<u8>) -> Pending<()> {
        if let Err(error) = self.membership.check_rank(name, to) {
            return Pending::done(name, Err(error));
        }
        self.note(name, Operation::Send, data.len());
        self.letters.lock().unwrap_or_else(PoisonError::into_inner).push_back((name, data));
        Pending::done(name, Ok(()))
    }

    fn receive_bytes(&self, name: &'static str, from: usize) -> Pending<Vec<u8>> {
        if let Err(error) = self.membership.check_rank(name, from) {
            return Pending::done(name, Err(error));
        }
        let letter = self.letters.lock().unwrap_or_else(PoisonError::into_inner).pop_front();
        let error = |found: String| Pending::done(name, Err(CommError::NothingSent { name: name.to_owned(), found }));
        match letter {
            None => error("nothing was sent".to_owned()),
            Some((sent, _)) if sent != name => error(format!("`{sent}` was sent")),
            Some((_, data)) => self.done(name, Operation::Receive, data),
        }
    }

    fn traffic(&self) -> BTreeMap<String, Traffic> {
        self.job.record().traffic()
    }

    fn history(&self) -> Vec<Event> {
        self.job.record().history()
    }

    fn place(&self) -> Place {
        self.job.place()
    }

    fn peers(&self) -> Vec<Peer> {
        self.job.peers()
    }

    fn dead_peers(&self) -> Vec<DeadPeer> {
        self.job.dead_peers()
    }

    fn job(&self) -> JobHandle {
        JobHandle(self.job.clone())
    }

    fn abort(&self, code: i32) -> ! {
        self.job.abort(code)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_collective_is_done_at_once_and_counted() {
        let solo = Solo::new();
        let mut sum = solo.all_reduce_f32("sum", vec![1.0, 2.0]);
        assert!(sum.is_done());
        assert_eq!(sum.wait().unwrap(), [1.0, 2.0]);
        assert_eq!(solo.all_reduce_f64("sum64", vec![3.0]).wait().unwrap(), [3.0]);
        assert_eq!(solo.reduce_scatter_f32("part", vec![3.0], &[1]).wait().unwrap(), [3.0]);
        assert_eq!(solo.reduce_scatter_bf16("part16", vec![bf16::ONE], &[1]).wait().unwrap(), [bf16::ONE]);
        assert_eq!(solo.all_gather_bytes("gather", vec![7]).wait().unwrap(), [[7]]);
        assert_eq!(solo.broadcast_bytes("tell", 0, vec![8]).wait().unwrap(), [8]);
        solo.barrier("all here").wait().unwrap();
        assert_eq!(solo.traffic()["sum"], Traffic { calls: 1, bytes: 8, seconds: 0.0, waited: 0.0 });
        assert_eq!((solo.rank(), solo.size(), solo.place().local_size, solo.members()), (0, 1, 1, &[0][..]));
        assert!(solo.dead_peers().is_empty());
        let history = solo.history();
        assert_eq!((history.len(), history[1].name, history[1].sequence, history[1].bytes), (7, "sum64", 1, 8));
        assert!(history.iter().all(|event| event.done.is_some() && !event.failed));
    }

    #[test]
    fn groups_of_one_count_into_the_same_totals() {
        let solo = Solo::new();
        let group = solo.group("dp", &[0]).unwrap();
        group.all_reduce_f32("sum", vec![1.0]).wait().unwrap();
        group.group("tp", &[0]).unwrap().barrier("here").wait().unwrap();
        assert_eq!(solo.traffic().into_keys().collect::<Vec<_>>(), ["dp/sum", "tp/here"]);
        assert!(matches!(solo.group("dp", &[0, 1]), Err(CommError::NoSuchGroup { .. })));
    }

    #[test]
    fn messages_to_itself_arrive_in_order_and_are_never_waited_for() {
        let solo = Solo::new();
        solo.send_bytes("a", 0, vec![1]).wait().unwrap();
        solo.send_bytes("b", 0, vec![2]).wait().unwrap();
        assert_eq!(solo.receive_bytes("a", 0).wait().unwrap(), [1]);
        let error = solo.receive_bytes("c", 0).wait().unwrap_err();
        assert_eq!(error.to_string(), "`c` receives from this rank itself, but `b` was sent");
        let error = solo.receive_bytes("c", 0).wait().unwrap_err();
        assert_eq!(error.to_string(), "`c` receives from this rank itself, but nothing was sent");
    }

    #[test]
    fn ranks_that_are_not_there_and_parts_that_do_not_fit_are_refused() {
        let solo = Solo::new();
        let error = solo.broadcast_bytes("tell", 1, Vec::new()).wait().unwrap_err();
        assert_eq!(error.to_string(), "`tell` broadcasts from rank 1, but the group has 1 ranks");
        let error = solo.send_bytes("tell", 1, Vec::new()).wait().unwrap_err();
        assert_eq!(error.to_string(), "`tell` is a message to or from rank 1, but the group has 1 ranks");
        for lengths in [&[1][..], &[1, 1], &[]] {
            let error = solo.reduce_scatter_f32("sum", vec![0.0; 2], lengths).wait().unwrap_err();
            assert!(matches!(error, CommError::Parts { found: 2, size: 1, .. }), "{error}");
        }
    }
}
