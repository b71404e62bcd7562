//! A group of one: every collective is done when it is called, through the same trait.

use std::{collections::BTreeMap, time::Duration};

use crate::{CommError, Communicator, DeadPeer, Peer, Pending, Place, Traffic, peers::Identity, traffic::Meter};

/// The group of one rank.
#[derive(Debug)]
pub struct Solo {
    meter: Meter,
    identity: Identity,
}

impl Solo {
    /// A group of one.
    pub fn new() -> Self {
        Solo { meter: Meter::default(), identity: Identity::own() }
    }

    fn done<T>(&self, name: &'static str, bytes: usize, result: T) -> Pending<T> {
        self.meter.add(name, bytes, Duration::ZERO, Duration::ZERO);
        Pending::done(name, Ok(result))
    }
}

impl Default for Solo {
    fn default() -> Self {
        Solo::new()
    }
}

impl Communicator for Solo {
    fn rank(&self) -> usize {
        0
    }

    fn size(&self) -> usize {
        1
    }

    fn all_reduce_f32(&self, name: &'static str, data: Vec<f32>) -> Pending<Vec<f32>> {
        self.done(name, size_of_val(data.as_slice()), data)
    }

    fn all_reduce_f64(&self, name: &'static str, data: Vec<f64>) -> Pending<Vec<f64>> {
        self.done(name, size_of_val(data.as_slice()), data)
    }

    fn all_gather_bytes(&self, name: &'static str, data: Vec<u8>) -> Pending<Vec<Vec<u8>>> {
        self.done(name, data.len(), vec![data])
    }

    fn broadcast_bytes(&self, name: &'static str, root: usize, data: Vec<u8>) -> Pending<Vec<u8>> {
        if root != 0 {
            return Pending::done(name, Err(CommError::NoSuchRoot { name: name.to_owned(), root, size: 1 }));
        }
        self.done(name, data.len(), data)
    }

    fn barrier(&self, name: &'static str) -> Pending<()> {
        self.done(name, 0, ())
    }

    fn traffic(&self) -> BTreeMap<&'static str, Traffic> {
        self.meter.read()
    }

    fn place(&self) -> Place {
        Place { host: self.identity.host.clone(), local_rank: 0, local_size: 1 }
    }

    fn peers(&self) -> Vec<Peer> {
        vec![Peer { rank: 0, host: self.identity.host.clone(), pid: self.identity.pid }]
    }

    fn dead_peers(&self) -> Vec<DeadPeer> {
        Vec::new()
    }

    fn abort(&self, code: i32) -> ! {
        std::process::exit(code)
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
        assert_eq!(solo.all_gather_bytes("gather", vec![7]).wait().unwrap(), [[7]]);
        assert_eq!(solo.broadcast_bytes("tell", 0, vec![8]).wait().unwrap(), [8]);
        solo.barrier("all here").wait().unwrap();
        assert_eq!(solo.traffic()["sum"], Traffic { calls: 1, bytes: 8, seconds: 0.0, waited: 0.0 });
        assert_eq!((solo.rank(), solo.size(), solo.place().local_size), (0, 1, 1));
        assert!(solo.dead_peers().is_empty());
    }

    #[test]
    fn a_broadcast_from_a_rank_that_is_not_there_is_refused() {
        let error = Solo::new().broadcast_bytes("tell", 1, Vec::new()).wait().unwrap_err();
        assert_eq!(error.to_string(), "`tell` broadcasts from rank 1, but the group has 1 ranks");
    }
}
