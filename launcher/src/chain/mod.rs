//! The chain of a run: its jobs on a cluster, one after the other, and what was recorded of them.

pub(crate) mod hosts;
pub(crate) mod nodes;
pub(crate) mod record;
