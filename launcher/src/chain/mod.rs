//! The chain of a run: its jobs on a cluster, one after the other. A person submits the first ([`submit`]); each job ([`job`]) tests its nodes,
//! starts the ranks, records how they end ([`record`]) and sees to the next.

pub(crate) mod cancel;
pub(crate) mod container;
mod environment;
pub(crate) mod history;
pub(crate) mod hosts;
pub(crate) mod job;
pub(crate) mod needs;
pub(crate) mod nodes;
pub(crate) mod record;
mod script;
mod slurm;
pub(crate) mod submit;
