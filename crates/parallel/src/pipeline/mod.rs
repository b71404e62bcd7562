//! Pipeline parallelism: each stage holds some of the layers; micro-batches pass through them, their gradients back.

pub(crate) mod balance;
mod run;
pub(crate) mod schedule;

pub(crate) use run::{Links, Stage};
