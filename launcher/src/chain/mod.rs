//! The chain of a run: its jobs on a cluster, one after the other, and what was recorded of them.

pub(crate) mod container;
pub(crate) mod record;
