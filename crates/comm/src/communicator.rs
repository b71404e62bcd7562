//! The trait that a trainer talks to, and the handle that a collective returns.

use std::{
    collections::BTreeMap,
    sync::mpsc::{Receiver, TryRecvError},
};

use crate::{CommError, DeadPeer, Peer, Place, Traffic};

/// A group of ranks. All ranks call the same collectives, with the same names, in the same order.
pub trait Communicator: Send + Sync {
    /// This rank, from 0.
    fn rank(&self) -> usize;

    /// How many ranks there are.
    fn size(&self) -> usize;

    /// The element-wise sum over all ranks, in rank order; buffers of equal length on all ranks.
    fn all_reduce_f32(&self, name: &'static str, data: Vec<f32>) -> Pending<Vec<f32>>;

    /// The element-wise sum over all ranks, in rank order; buffers of equal length on all ranks.
    fn all_reduce_f64(&self, name: &'static str, data: Vec<f64>) -> Pending<Vec<f64>>;

    /// Every rank's bytes, by rank; lengths may differ.
    fn all_gather_bytes(&self, name: &'static str, data: Vec<u8>) -> Pending<Vec<Vec<u8>>>;

    /// The bytes of rank `root`; what the other ranks pass is dropped.
    fn broadcast_bytes(&self, name: &'static str, root: usize, data: Vec<u8>) -> Pending<Vec<u8>>;

    /// Done when every rank has entered it.
    fn barrier(&self, name: &'static str) -> Pending<()>;

    /// Calls, bytes and seconds of each collective so far, by name.
    fn traffic(&self) -> BTreeMap<&'static str, Traffic>;

    /// Where this rank stands among the ranks of its host: what threads and devices are chosen by.
    fn place(&self) -> Place;

    /// All ranks, this one included, by rank.
    fn peers(&self) -> Vec<Peer>;

    /// The ranks of this host whose process no longer runs. Cheap, never blocks, and works while a collective is stuck or after an
    /// error; meant for the moment when SIGTERM arrives. A rank that ends itself then looks just as dead as the first victim: look
    /// at once, then wait a third of a second before exiting, so that the others' looks find this rank alive (mpirun sends SIGKILL
    /// one second after SIGTERM).
    fn dead_peers(&self) -> Vec<DeadPeer>;

    /// Ends this process, and the whole job where there is one, with exit code `code`, without waiting for anybody.
    fn abort(&self, code: i32) -> !;
}

/// A collective in progress. It owns the buffer until [`Pending::wait`] hands out the result.
///
/// Handles may be waited for in any order. Dropping one gives up the result, not the collective.
#[must_use = "a collective's result, or its error, is only seen by waiting for it"]
#[derive(Debug)]
pub struct Pending<T> {
    name: &'static str,
    state: State<T>,
}

#[derive(Debug)]
enum State<T> {
    Done(Result<T, CommError>),
    Coming(Receiver<Result<T, CommError>>),
}

impl<T> Pending<T> {
    /// A collective that is done already.
    pub(crate) fn done(name: &'static str, result: Result<T, CommError>) -> Self {
        Pending { name, state: State::Done(result) }
    }

    /// A collective whose result will come through `receiver`.
    pub(crate) fn coming(name: &'static str, receiver: Receiver<Result<T, CommError>>) -> Self {
        Pending { name, state: State::Coming(receiver) }
    }

    /// The name that the collective was called with.
    pub fn name(&self) -> &'static str {
        self.name
    }

    /// Waits for the result.
    ///
    /// # Errors
    /// What ended the collective, or whichever collective failed first.
    pub fn wait(self) -> Result<T, CommError> {
        match self.state {
            State::Done(result) => result,
            State::Coming(receiver) => {
                receiver.recv().unwrap_or_else(|_| Err(CommError::WireEnded { name: self.name.to_owned() }))
            }
        }
    }

    /// Whether [`Pending::wait`] would return at once.
    pub fn is_done(&mut self) -> bool {
        if let State::Coming(receiver) = &self.state {
            match receiver.try_recv() {
                Ok(result) => self.state = State::Done(result),
                Err(TryRecvError::Disconnected) => {
                    self.state = State::Done(Err(CommError::WireEnded { name: self.name.to_owned() }));
                }
                Err(TryRecvError::Empty) => return false,
            }
        }
        true
    }
}
