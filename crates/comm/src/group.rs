//! The group of all ranks of an MPI job, and groups of some of them.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use half::bf16;

use crate::{
    CommError, Communicator, DeadPeer, Event, Peer, Pending, Place, Traffic,
    entry::Operation,
    job::{Job, JobHandle},
    link::Link,
    membership::Membership,
    wire::{Element, Fate, Request},
};

/// How an MPI job behaves.
#[derive(Debug, Clone, Copy)]
pub struct Options {
    /// How long a collective may stand still before it fails; the start and the end of the job are collectives too. Must be
    /// longer than the longest time that ranks can be apart, say because one of them writes an export alone.
    pub timeout: Duration,
}

impl Default for Options {
    fn default() -> Self {
        Options { timeout: Duration::from_secs(300) }
    }
}

/// The ranks of an MPI job, or some of them. See the crate's documentation for what it promises, and for what dropping the last
/// group of a process does.
pub struct Mpi {
    link: Arc<Link>,
    membership: Arc<Membership>,
}

impl Mpi {
    /// Starts MPI and meets the other ranks. Once per process, on all ranks.
    ///
    /// # Errors
    /// [`CommError::Start`] if MPI cannot be started here; any other if the ranks do not meet.
    pub fn start(options: Options) -> Result<Self, CommError> {
        let link = Arc::new(Link::start(options.timeout)?);
        let membership = link.everybody().clone();
        Ok(Mpi { link, membership })
    }

    /// Some ranks of the job behind `link`.
    pub(crate) fn within(link: Arc<Link>, membership: Membership) -> Self {
        Mpi { link, membership: Arc::new(membership) }
    }

    fn reduce<E: Element>(&self, name: &'static str, operation: Operation, data: Vec<E>) -> Pending<Vec<E>> {
        let request = Request { name, elements: data.len(), width: size_of::<E>(), ..Request::default() };
        self.link.submit(&self.membership, operation, request, move |wire, call| wire.all_reduce(call, data))
    }

    fn reduce_scatter<E: Element>(
        &self,
        name: &'static str,
        operation: Operation,
        data: Vec<E>,
        lengths: &[usize],
    ) -> Pending<Vec<E>> {
        if let Err(error) = self.membership.check_parts(name, data.len(), lengths) {
            return Pending::done(name, Err(error));
        }
        let (elements, width, lengths) = (data.len(), size_of::<E>(), lengths.to_vec());
        let request = Request { name, elements, width, lengths, ..Request::default() };
        self.link.submit(&self.membership, operation, request, move |wire, call| wire.reduce_scatter(call, data))
    }
}

impl Communicator for Mpi {
    fn rank(&self) -> usize {
        self.membership.rank
    }

    fn size(&self) -> usize {
        self.membership.size()
    }

    fn members(&self) -> &[usize] {
        &self.membership.members
    }

    fn group(&self, name: &'static str, members: &[usize]) -> Result<Arc<dyn Communicator>, CommError> {
        self.link.clone().group(name, members)
    }

    fn all_reduce_f32(&self, name: &'static str, data: Vec<f32>) -> Pending<Vec<f32>> {
        self.reduce(name, Operation::AllReduceF32, data)
    }

    fn all_reduce_f64(&self, name: &'static str, data: Vec<f64>) -> Pending<Vec<f64>> {
        self.reduce(name, Operation::AllReduceF64, data)
    }

    fn reduce_scatter_f32(&self, name: &'static str, data: Vec<f32>, lengths: &[usize]) -> Pending<Vec<f32>> {
        self.reduce_scatter(name, Operation::ReduceScatterF32, data, lengths)
    }

    fn reduce_scatter_bf16(&self, name: &'static str, data: Vec<bf16>, lengths: &[usize]) -> Pending<Vec<bf16>> {
        self.reduce_scatter(name, Operation::ReduceScatterBf16, data, lengths)
    }

    fn all_gather_bytes(&self, name: &'static str, data: Vec<u8>) -> Pending<Vec<Vec<u8>>> {
        let request = Request { name, elements: data.len(), width: 1, ..Request::default() };
        self.link.submit(&self.membership, Operation::AllGather, request, move |wire, call| wire.all_gather(call, data))
    }

    fn broadcast_bytes(&self, name: &'static str, root: usize, data: Vec<u8>) -> Pending<Vec<u8>> {
        let size = self.size();
        if root >= size {
            return Pending::done(name, Err(CommError::NoSuchRoot { name: name.to_owned(), root, size }));
        }
        let data = if self.rank() == root { data } else { Vec::new() };
        let request = Request { name, elements: data.len(), width: 1, root, ..Request::default() };
        self.link.submit(&self.membership, Operation::Broadcast, request, move |wire, call| wire.broadcast(call, data))
    }

    fn barrier(&self, name: &'static str) -> Pending<()> {
        let request = Request { name, ..Request::default() };
        self.link.submit(&self.membership, Operation::Barrier, request, |wire, call| wire.barrier(call))
    }

    fn send_bytes(&self, name: &'static str, to: usize, data: Vec<u8>) -> Pending<()> {
        if let Err(error) = self.membership.check_rank(name, to) {
            return Pending::done(name, Err(error));
        }
        let request = Request { name, elements: data.len(), width: 1, root: to, ..Request::default() };
        let fate = Fate::default();
        let for_wire = fate.clone();
        let handed =
            self.link.submit(&self.membership, Operation::Send, request, move |wire, call| wire.send(call, data, for_wire));
        handed.with_fate(fate)
    }

    fn receive_bytes(&self, name: &'static str, from: usize) -> Pending<Vec<u8>> {
        if let Err(error) = self.membership.check_rank(name, from) {
            return Pending::done(name, Err(error));
        }
        let request = Request { name, root: from, ..Request::default() };
        self.link.submit(&self.membership, Operation::Receive, request, |wire, call| wire.receive(call))
    }

    fn traffic(&self) -> BTreeMap<String, Traffic> {
        self.link.record().traffic()
    }

    fn history(&self) -> Vec<Event> {
        self.link.record().history()
    }

    fn place(&self) -> Place {
        self.link.place()
    }

    fn peers(&self) -> Vec<Peer> {
        self.link.peers()
    }

    fn dead_peers(&self) -> Vec<DeadPeer> {
        self.link.dead_peers()
    }

    fn job(&self) -> JobHandle {
        JobHandle(self.link.clone())
    }

    fn abort(&self, code: i32) -> ! {
        self.link.abort(code)
    }
}
