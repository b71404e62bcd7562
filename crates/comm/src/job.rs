//! What a communicator knows of the whole job, whichever group it is for.

use std::sync::Arc;

use crate::{
    CommError, Communicator, DeadPeer, Peer, Place, membership::Membership, peers::Identity, record::Record, solo::Solo,
};

/// The job behind every group of a process.
pub(crate) trait Job: Send + Sync {
    fn record(&self) -> &Record;
    fn place(&self) -> Place;
    fn peers(&self) -> Vec<Peer>;
    fn dead_peers(&self) -> Vec<DeadPeer>;
    fn abort(&self, code: i32) -> !;
    /// A group of its ranks.
    fn group(self: Arc<Self>, name: &'static str, members: &[usize]) -> Result<Arc<dyn Communicator>, CommError>;
}

/// A job of one process that nobody started as a job.
pub(crate) struct Alone {
    record: Record,
    identity: Identity,
}

impl Alone {
    pub(crate) fn new() -> Self {
        Alone { record: Record::new(), identity: Identity::own() }
    }
}

impl Job for Alone {
    fn record(&self) -> &Record {
        &self.record
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

    fn group(self: Arc<Self>, name: &'static str, members: &[usize]) -> Result<Arc<dyn Communicator>, CommError> {
        Ok(Arc::new(Solo::within(self, Membership::new(name, members, 0, 1)?)))
    }
}
