//! What a communicator knows of the whole job, whichever group it is for.

use std::{fmt, sync::Arc};

use crate::{
    CommError, Communicator, DeadPeer, Peer, Place, membership::Membership, peers::Identity, record::Record, solo::Solo,
    standing::Wait,
};

/// The job behind a group, for the groups of devices that are made over it; it says nothing to others.
pub struct JobHandle(pub(crate) Arc<dyn Job>);

impl fmt::Debug for JobHandle {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.debug_struct("JobHandle").finish_non_exhaustive()
    }
}

/// The job behind every group of a process.
pub(crate) trait Job: Send + Sync {
    fn record(&self) -> &Record;
    /// The error that ended everything, if one did.
    fn broken(&self) -> Option<CommError>;
    /// `wait`, which is not for the wire but for a device, takes too long: asks who is to blame, tells all ranks of the job and ends what
    /// comes. The error is `otherwise` where all that are waited for do their part. `None` where nobody can be asked.
    fn blame(&self, wait: Wait, otherwise: CommError) -> Option<CommError>;
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

    fn broken(&self) -> Option<CommError> {
        None
    }

    fn blame(&self, _: Wait, _: CommError) -> Option<CommError> {
        None
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
